from __future__ import annotations

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.io.weights import flatten_state
from recon.train.checkpoint import Checkpointer, read_config, record_config


def at_step(state, step):
    return dataclasses.replace(state, step=jnp.asarray(step, jnp.int32))


def assert_bitwise(left, right):
    left, right = flatten_state(left), flatten_state(right)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        assert left[name].tobytes() == right[name].tobytes(), name


def test_round_trip_is_bitwise_and_leaves_nothing_out(tmp_path, problem, trained):
    history = [{"step": 2, "auc": 0.5}, {"step": 4, "auc": 0.75}]
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore(problem.state()) is None
        assert checkpointer.save(trained, position={"next_batch": 4, "file": "a.root"}, history=history)
    with Checkpointer(tmp_path) as checkpointer:
        restored = checkpointer.restore(problem.state())
    assert_bitwise(restored.state, trained)
    assert jax.tree.structure(restored.state) == jax.tree.structure(trained)
    assert restored.position == {"next_batch": 4, "file": "a.root"}
    assert restored.history == history
    # The dropout's random stream is part of it, and it moved.
    assert int(restored.state.model_state["dropout"]["rngs"]["count"]) > 0


def test_going_on_from_a_checkpoint_equals_going_on(tmp_path, problem):
    step_fn = problem.step_fn
    state = problem.state()
    for step in range(6):
        if step == 3:
            with Checkpointer(tmp_path) as checkpointer:
                checkpointer.save(state)
        state, _ = step_fn(state, problem.batch(step))
    with Checkpointer(tmp_path) as checkpointer:
        other = checkpointer.restore(problem.state()).state
    for step in range(3, 6):
        other, _ = step_fn(other, problem.batch(step))
    assert_bitwise(other, state)


def test_writing_in_the_background_sees_no_later_update(tmp_path, problem):
    """The next updates reuse the donated buffers while the checkpoint is still being written."""
    state, step_fn = problem.state(), problem.step_fn
    with Checkpointer(tmp_path) as checkpointer:
        expected = flatten_state(state.params)
        checkpointer.save(state)
        for step in range(5):
            state, _ = step_fn(state, problem.batch(step))
    with Checkpointer(tmp_path) as checkpointer:
        assert_bitwise(checkpointer.restore(problem.state()).state.params, expected)


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 0)])
def test_the_newest_and_the_best_stay(tmp_path, trained, mode, best):
    metrics = [{"auc": 0.1}, {"auc": 0.9}, {"auc": float("nan")}, None, {"auc": 0.5}, None]
    with Checkpointer(tmp_path, keep=2, best_metric="auc", best_mode=mode) as checkpointer:
        for step, values in enumerate(metrics):
            checkpointer.save(at_step(trained, step), metrics=values)
        checkpointer.wait()
        assert checkpointer.steps == [best, 4, 5]
        assert checkpointer.best_step == best
        assert int(checkpointer.restore(trained, "best").state.step) == best
        assert int(checkpointer.restore(trained).state.step) == 5
        assert int(checkpointer.restore(trained, 4).state.step) == 4
        with pytest.raises(DataError, match=rf"no checkpoint 3; complete are \[{best}, 4, 5\]"):
            checkpointer.restore(trained, 3)


def test_without_evaluations_there_is_no_best(tmp_path, trained):
    with Checkpointer(tmp_path, best_metric="auc") as checkpointer:
        checkpointer.save(trained)
        assert checkpointer.best_step is None
        with pytest.raises(DataError, match="no checkpoint 'best'"):
            checkpointer.restore(trained, "best")
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.best_step is None


def test_a_step_is_saved_once(tmp_path, trained):
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.save(trained, position={"next_batch": 1})
        assert not checkpointer.save(trained, position={"next_batch": 2})
        assert checkpointer.restore(trained).position == {"next_batch": 1}


def test_half_written_checkpoint_is_no_checkpoint(tmp_path, trained):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(at_step(trained, 3))
    folder = tmp_path / "checkpoints"
    half = folder / "9.orbax-checkpoint-tmp"
    shutil.copytree(folder / "3", half)
    shutil.rmtree(half / "record")
    with Checkpointer(tmp_path, read_only=True) as reader:
        assert reader.steps == [3]
    assert half.exists(), "a reader must leave alone what another process may be writing"
    with Checkpointer(tmp_path) as checkpointer:
        assert int(checkpointer.restore(trained).state.step) == 3
        checkpointer.save(at_step(trained, 9))
        checkpointer.wait()
        assert checkpointer.steps == [3, 9]
    assert not half.exists()


@pytest.mark.parametrize("damage", ["state/_METADATA", "record/metadata", "state"])
def test_damaged_checkpoint_is_named(tmp_path, trained, damage):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(trained)
    path = tmp_path / "checkpoints" / "4" / damage
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_bytes(path.read_bytes()[:-20])
    with (
        Checkpointer(tmp_path) as checkpointer,
        pytest.raises(DataError, match=r"checkpoints/4 cannot be read"),
    ):
        checkpointer.restore(trained)


def test_checkpoint_of_another_model_is_refused_by_array(tmp_path, problem, trained):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(trained)
        with pytest.raises(ConfigError, match=r"another model.*'ema_params/layers/0/bias'.*\[8\].*\[5\]"):
            checkpointer.restore(problem.state(hidden=5))
        with pytest.raises(
            ConfigError, match=r"'ema_params/layers/0/bias': given float32\[8\], needed nothing"
        ):
            checkpointer.restore(dataclasses.replace(problem.state(), ema_params=None))


def test_reading_makes_and_writes_nothing(tmp_path, trained):
    with pytest.raises(DataError, match="is no training run"):
        Checkpointer(tmp_path / "absent", read_only=True)
    assert not (tmp_path / "absent").exists()
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(trained)
    with Checkpointer(tmp_path, read_only=True) as reader, pytest.raises(ConfigError, match="read_only=True"):
        reader.save(at_step(trained, 9))


def test_keep_must_leave_one(tmp_path):
    with pytest.raises(ConfigError, match="keep is 0"):
        Checkpointer(tmp_path, keep=0)


def test_config_is_recorded_once_and_checked_after(tmp_path):
    config = {"model": {"hidden": 8, "sizes": (1, 2)}, "seed": 3}
    record_config(tmp_path / "run", config)
    assert read_config(tmp_path / "run") == {"model": {"hidden": 8, "sizes": [1, 2]}, "seed": 3}
    record_config(tmp_path / "run", config)
    with pytest.raises(
        ConfigError, match=r"config\.json .*extra: stored None, given 1; seed: stored 3, given 4"
    ):
        record_config(tmp_path / "run", {**config, "seed": 4, "extra": 1})
    assert read_config(tmp_path / "run")["seed"] == 3


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_unreadable_config(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(DataError, match=r"config\.json"):
        read_config(tmp_path)


def test_quiet(tmp_path, trained, capfd, caplog):
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(trained)
    with Checkpointer(tmp_path, read_only=True) as checkpointer:
        checkpointer.restore(trained)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [record for record in caplog.records if record.levelname not in {"INFO", "DEBUG"}] == []
    assert json.loads((tmp_path / "checkpoints" / "4" / "record" / "metadata").read_text())["history"] == []
    assert np.isfinite(flatten_state(trained.params)["norm/scale"]).all()
