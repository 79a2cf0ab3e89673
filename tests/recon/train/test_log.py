from __future__ import annotations

import sys

import pytest

from recon.errors import ConfigError, DataError
from recon.train.log import CsvLog, ProgressBar, RunLog, read_metrics


def write_rows(path, steps, **options):
    log = CsvLog(path, **options)
    for step in steps:
        log.write(step, {"loss": 1 / step, "mse": 0.5})
    log.close()


def test_rows_and_digits(tmp_path):
    path = tmp_path / "run" / "metrics.csv"
    write_rows(path, [1, 3])
    assert path.read_text() == "step,loss,mse\n1,1.0,0.5\n3,0.3333333333333333,0.5\n"
    assert read_metrics(path) == {"step": [1, 3], "loss": [1.0, 1 / 3], "mse": [0.5, 0.5]}


@pytest.mark.parametrize("torn", ["", "6,0.1", "6,0.16666,0", "6", "\n"[:0]])
def test_resumed_file_equals_the_uninterrupted_one(tmp_path, torn):
    write_rows(tmp_path / "whole.csv", range(1, 9))
    killed = tmp_path / "killed.csv"
    write_rows(killed, range(1, 6))
    with killed.open("a") as file:
        file.write(torn)
    write_rows(killed, range(4, 9), resume_step=3)
    assert killed.read_text() == (tmp_path / "whole.csv").read_text()


def test_start_over_drops_an_older_run(tmp_path):
    path = tmp_path / "metrics.csv"
    write_rows(path, [1, 2])
    log = CsvLog(path)
    log.write(1, {"other": 2.0})
    log.close()
    assert path.read_text() == "step,other\n1,2.0\n"


def test_rows_are_on_disk_after_a_flush(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    log.write(1, {"loss": 1.0})
    log.flush()
    assert read_metrics(path)["step"] == [1]
    log.close()


def test_order_of_the_metrics_does_not_matter_their_names_do(tmp_path):
    log = CsvLog(tmp_path / "metrics.csv")
    log.write(1, {"loss": 1.0, "mse": 2.0})
    log.write(2, {"mse": 4.0, "loss": 3.0})
    with pytest.raises(ConfigError, match=r"columns \['loss', 'mse'\], step 3 brings \['loss'\]"):
        log.write(3, {"loss": 1.0})
    log.close()
    assert read_metrics(tmp_path / "metrics.csv")["mse"] == [2.0, 4.0]


def test_foreign_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("a,b\nx,y\n")
    with pytest.raises(DataError, match=r"metrics\.csv is no metrics file.*'x,y'"):
        CsvLog(path)
    assert path.read_text() == "a,b\nx,y\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("", "is empty"), ("step,loss\n1,2\n2\n", "row 3: 1 values for 2 columns")],
)
def test_unreadable_metrics(tmp_path, content, message):
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_metrics(path)


def test_progress_bar_shows_loss_and_rate_or_nothing(capsys):
    with ProgressBar(10, done=2) as bar:
        bar.update(5, 0.25, 3.5)
    shown = capsys.readouterr().out
    assert "5/10" in shown
    assert "loss 0.25" in shown
    with ProgressBar(10, enabled=False) as bar:
        bar.update(5, 0.25, 3.5)
    assert capsys.readouterr().out.strip() == ""


def test_run_log_writes_both_tables(tmp_path):
    log = RunLog(tmp_path)
    log.training([(1, {"loss": 1.0}), (2, {"loss": 0.5})])
    log.evaluation(2, {"auc": 0.9})
    log.close()
    assert read_metrics(tmp_path / "metrics.csv")["loss"] == [1.0, 0.5]
    assert read_metrics(tmp_path / "evaluation.csv") == {"step": [2.0], "auc": [0.9]}
    assert not (tmp_path / "tensorboard").exists()


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboardX")
    log = RunLog(tmp_path, tensorboard=True)
    log.training([(1, {"loss": 1.0})])
    log.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/loss" in events.read_bytes()


def test_tensorboard_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ConfigError, match="pip install tensorboardX"):
        RunLog(tmp_path, tensorboard=True)
