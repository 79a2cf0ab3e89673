"""Every command on a tiny file, in this process; and what the user reads when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import recon
from recon import commands
from recon.cli import COMMANDS, USER_ERROR
from recon.io.root import read_events, read_tracks, write_events
from recon.io.trackml import read_event, write_event
from recon.tracking import load_detector, load_model
from recon.tracking.shipped import save_tracking_model
from tests.command_line import error_of, run

pytestmark = pytest.mark.usefixtures("quick_programs")

SMALL = ["--pileup", "0", "--minbias-pool", "1", "--pt-min", "0.7", "--eta-max", "0.6"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Tests must not depend on the user's cache of collisions, nor leave anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def hits(directory):
    """A file of two simulated events."""
    pytest.importorskip("acts")
    pytest.importorskip("pythia8mc")
    path, summary = directory / "new folder" / "hits.root", directory / "simulate.json"
    assert (
        run(
            "simulate", "tracking", "-o", path, "--events", 2, "--first-event", 5, "--workers", 1, *SMALL,
            "--json", summary,
        )
        == 0
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def model(directory):
    """Directory of the shipped model with a quick fit: fewer linearisations compile faster."""
    shipped = load_model()
    fit = replace(shipped.config.fit, iterations=1, max_step=1e6)
    cleaning = replace(shipped.config.cleaning, rounds=0, chi2_per_dof=1e6)
    changed = replace(shipped, config=replace(shipped.config, fit=fit, cleaning=cleaning))
    save_tracking_model(directory / "model", changed)
    return directory / "model"


def test_simulate(hits, directory):
    events = list(read_events(hits))
    assert [event.number for event in events] == [5, 6]
    summary = json.loads((directory / "simulate.json").read_text())
    assert summary["events"] == 2
    assert summary["hits"] == sum(len(event.hits.layer) for event in events)
    assert summary["noise_hits"] == sum(int((event.particles.hit_particle < 0).sum()) for event in events)
    assert summary["simulation"]["pt_min"] == 0.7
    assert summary["output"] == str(hits)


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_simulate_csv(hits, tmp_path, ending):
    path = tmp_path / "csv" / f"event.{ending}"
    words = ["simulate", "tracking", "-o", path, "--events", 1, "--first-event", 5, "--workers", 1]
    assert run(*words, *SMALL) == 0
    kinds = ("features", "hits", "particles", "truth")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        f"event000000005-{kind}.{ending}" for kind in kinds
    ]
    event = read_event(path.parent / f"event000000005-hits.{ending}", load_detector())
    np.testing.assert_array_equal(event.hit_id, next(read_events(hits)).hit_id)


def test_reconstruct(hits, model, directory, capsys):
    output, summary = directory / "found" / "tracks.root", directory / "reconstruct.json"
    assert run("reconstruct", "tracking", hits, "-o", output, "--model", model, "--json", summary) == 0
    tree = json.loads(summary.read_text())
    assert tree["events"] == 2
    assert all(count > 0 for count in tree["tracks"])
    stored = list(read_tracks(output))
    assert [len(event.chi2) for event in stored] == tree["tracks"]
    assert (
        f"{sum(tree['tracks'])} tracks in 2 events of {hits} written to {output}" in capsys.readouterr().out
    )


def test_reconstruct_to_a_submission_has_all_events(hits, model, directory):
    # Identifiers past 2^32 must come out as they went in.
    events = [event._replace(hit_id=event.hit_id + np.uint64(2**40)) for event in read_events(hits)]
    write_events(directory / "far.root", events)
    output = directory / "submission.csv"
    assert run("reconstruct", "tracking", directory / "far.root", "-o", output, "--model", model) == 0
    table = np.loadtxt(output, delimiter=",", skiprows=1, dtype=np.int64)
    assert output.read_text().startswith("event_id,hit_id,track_id\n")
    for event in events:
        rows = table[table[:, 0] == event.number]
        assert sorted(rows[:, 1].tolist()) == sorted(event.hit_id.tolist())
        assert rows[:, 2].max() > 0


def test_reconstruct_trackml_csv(hits, model, directory):
    event = next(read_events(hits))
    folder = directory / "trackml"
    folder.mkdir()
    write_event(folder / "event000000005", event, load_detector(), compress=False)
    output = directory / "from_csv.root"
    words = ["reconstruct", "tracking", folder / "event000000005-hits.csv", "-o", output, "--model", model]
    assert run(*words) == 0
    assert count_tracks(output) > 0


def count_tracks(path):
    return sum(len(event.chi2) for event in read_tracks(path))


def test_reconstruct_a_file_without_events(model, directory):
    write_events(directory / "empty.root", [])
    output = directory / "no_tracks.root"
    assert run("reconstruct", "tracking", directory / "empty.root", "-o", output, "--model", model) == 0
    assert list(read_tracks(output)) == []


def test_evaluate(hits, model, directory, capsys):
    output, summary = directory / "report", directory / "evaluate.json"
    words = ["evaluate", "tracking", hits, "-o", output, "--model", model, "--eta-max", "0.6"]
    assert run(*words, "--json", summary) == 0
    tree = json.loads(summary.read_text())
    assert tree["selection"]["eta_max"] == 0.6
    (finder,) = tree["finders"]
    assert finder["name"] == "graph network"
    assert finder["counts"]["events"] == 2
    assert finder["cpu_seconds_total"] > 0
    printed = capsys.readouterr().out
    assert "graph network" in printed
    assert str(output) in printed
    assert any(output.glob("*.md"))
    assert len(list(output.glob("*.png"))) >= 3


def test_evaluate_beside_acts(hits, model, directory):
    summary = directory / "acts.json"
    words = ["evaluate", "tracking", hits, "-o", directory / "acts", "--model", model, "--eta-max", "0.6"]
    words += ["--events", "1", "--peer", "acts", "--working-points", "default", "--json", summary]
    assert run(*words) == 0
    finders = json.loads(summary.read_text())["finders"]
    assert [finder["name"] for finder in finders] == ["graph network", "ACTS CKF default"]
    assert finders[0]["counts"]["events"] == finders[1]["counts"]["events"] == 1
    assert finders[0]["counts"]["targets"] == finders[1]["counts"]["targets"] > 0


def test_display(hits, model, directory):
    output = directory / "pictures" / "event"
    assert run("display", "tracking", hits, "-o", output, "--model", model, "--entry", 0) == 0
    png, html = (output.with_name(f"event.{ending}") for ending in ("png", "html"))
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<html" in html.read_text()[:2000].lower()


def test_train(hits, directory, capsys):
    output, summary = directory / "run", directory / "train.json"
    words = ["train", "tracking", "--train", hits, "--output", output, "--steps", 3, "--warmup-steps", 1]
    words += ["--hidden", 4, "--layers", 1, "--no-progress", "--json", summary]
    assert run(*words) == 0
    assert (output / "loss.png").read_bytes().startswith(b"\x89PNG")
    tree = json.loads(summary.read_text())
    assert tree["config"]["network"]["hidden"] == 4
    assert load_model(tree["model"]).card == tree["card"]
    assert "| steps | 3 |" in capsys.readouterr().out


def test_a_log_has_a_line_of_progress_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(commands, "SECONDS_BETWEEN_LINES", 0.0)
    with commands.progress_bars() as report:
        report("events", 3, 7)
    assert capsys.readouterr().out == "events: 3 of 7\n"


@pytest.mark.slow
def test_bench(model, directory, capsys):
    summary, output = directory / "bench.json", directory / "bench"
    words = ["bench", "tracking", "--pileup", 0, 1, "--events", 1, "--scan-at", 1, "--model", model]
    words += ["--windows", 0.8, "--edge-scores", 0.5, "--peer-scan", "tuned", "-o", output]
    assert run(*words, "--json", summary) == 0
    rows = json.loads(summary.read_text())["rows"]
    everywhere = {("graph network", "as shipped"), ("ACTS CKF", "default")}
    scan = {("graph network", "windows x 0.8"), ("graph network", "edge score 0.5"), ("ACTS CKF", "tuned")}
    for pileup, settings in ((0, everywhere), (1, everywhere | scan)):
        assert {(row["finder"], row["setting"]) for row in rows if row["pileup"] == pileup} == settings
    assert all(row["cpu"] > 0 and row["efficiency"] > 0.5 for row in rows)
    table = (output / "table.md").read_text()
    # Lines of progress may stand between them.
    assert set(table.splitlines()) <= set(capsys.readouterr().out.splitlines())
    assert len(table.splitlines()) == 2 + len(rows)
    assert (output / "cost.png").is_file()
    assert (output / "working_points.png").is_file()


@pytest.mark.slow
def test_demo(directory):
    output = directory / "demo"
    assert (
        run("demo", "tracking", "-o", output, "--events", 1, "--pileup", 0, "--json", output / "d.json") == 0
    )
    assert count_tracks(output / "tracks.root") > 0
    assert len(json.loads((output / "d.json").read_text())["finders"]) == 3
    assert (output / "event.png").is_file()


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == recon.__version__


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["simulate", "--help"]])
def test_usage_lists_the_commands(words, capsys):
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert all(f"{verb:<12}{task}" in printed.out for verb, task in COMMANDS)
    assert printed.err == ""


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*command, "--help")
    assert stop.value.code == 0
    assert f"recon {' '.join(command)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["simulate"], ["simulate", "rain"], ["fly", "tracking"], ["--fast", "tracking"]]
)
def test_unknown_command(words, capsys):
    assert repr(" ".join(words)) in error_of(capsys, *words)


def test_unknown_option(capsys):
    with pytest.raises(SystemExit) as stop:
        run("display", "tracking", "hits.root", "--colour", "red")
    assert stop.value.code == USER_ERROR
    assert "--colour" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["evaluate", "tracking"], ["display", "tracking"], ["reconstruct", "tracking", "-o", "t.root"]],
)
@pytest.mark.parametrize("name", ["absent.root", "absent-hits.csv"])
def test_missing_file(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # A long path must not be broken into lines.
    path = tmp_path / ("x" * 100) / name
    assert str(path) in error_of(capsys, *command[:2], path, *command[2:])
    assert not (tmp_path / "t.root").exists()


@pytest.mark.parametrize("name", ["foreign.root", "foreign-hits.csv"])
def test_foreign_file(name, tmp_path, capsys):
    path = tmp_path / name
    path.write_text("what is this?\n")
    assert str(path) in error_of(capsys, "reconstruct", "tracking", path, "-o", tmp_path / "tracks.root")
    assert not (tmp_path / "tracks.root").exists()


def test_folder_in_place_of_a_file(tmp_path, capsys):
    assert str(tmp_path) in error_of(capsys, "evaluate", "tracking", tmp_path)


def test_truncated_file(hits, tmp_path, capsys):
    path = tmp_path / "half.root"
    path.write_bytes(hits.read_bytes()[: hits.stat().st_size // 2])
    assert str(path) in error_of(capsys, "reconstruct", "tracking", path, "-o", tmp_path / "tracks.root")
    assert list(tmp_path.iterdir()) == [path]


def test_hit_that_is_not_finite_is_named(hits, model, tmp_path, capsys):
    path = tmp_path / "hits.csv"
    event = next(read_events(hits))
    write_event(tmp_path / "event000000005", event, load_detector(), compress=False)
    hits_file = tmp_path / "event000000005-hits.csv"
    lines = hits_file.read_text().splitlines()
    lines[7] = ",".join(["nan" if index == 1 else word for index, word in enumerate(lines[7].split(","))])
    hits_file.write_text("\n".join(lines) + "\n")
    message = error_of(capsys, "reconstruct", "tracking", hits_file, "-o", path, "--model", model)
    assert str(hits_file) in message
    assert "nan" in message


def test_unknown_model(hits, tmp_path, capsys):
    words = ["reconstruct", "tracking", hits, "-o", tmp_path / "tracks.root", "--model", "best"]
    message = error_of(capsys, *words)
    assert "'best'" in message
    assert "generic-1gev" in message


@pytest.mark.parametrize("entry", [2, -1])
def test_entry_that_is_not_in_the_file(hits, entry, capsys):
    assert f"no entry {entry}; it has 2" in error_of(capsys, "display", "tracking", hits, "--entry", entry)


def test_evaluation_without_events(directory, tmp_path, capsys):
    write_events(tmp_path / "empty.root", [])
    assert "no events" in error_of(capsys, "evaluate", "tracking", tmp_path / "empty.root")


def test_evaluation_without_truth(hits, model, tmp_path, capsys):
    event = next(read_events(hits))
    write_events(tmp_path / "data.root", [event._replace(particles=None, truth=None)])
    words = ["evaluate", "tracking", tmp_path / "data.root", "--model", model, "-o", tmp_path / "report"]
    assert "truth" in error_of(capsys, *words)


def test_forbidden_setting(tmp_path, capsys):
    message = error_of(capsys, "simulate", "tracking", "-o", tmp_path / "hits.root", "--noise-fraction", -1)
    assert "noise_fraction" in message
    assert not (tmp_path / "hits.root").exists()


def test_module_is_the_command():
    finished = subprocess.run(
        [sys.executable, "-m", "recon", "fly", "away"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == USER_ERROR
    assert finished.stderr.strip() == "error: there is no command 'fly away'"
    assert "simulate" in finished.stdout
