from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from recon.errors import ConfigError, ReconError
from recon.io.weights import flatten_state
from recon.train.checkpoint import Checkpointer, read_config
from recon.train.log import read_metrics
from recon.train.loop import LoopConfig, fit


def loop(directory, **options):
    settings = {
        "total_steps": 24,
        "eval_every": 8,
        "checkpoint_every": 10,
        "log_every": 4,
        "best_metric": "mse",
    }
    return LoopConfig(directory=directory, best_mode="min", **{**settings, **options})


def run(problem, config, batches=None, **options):
    settings = {"evaluate": problem.evaluate, "run_config": {"seed": 1}, **options}
    return fit(problem.state(), problem.step_fn, batches or problem.batch, config, **settings)


def files(directory):
    return {
        name: (directory / name).read_bytes() for name in ("metrics.csv", "evaluation.csv", "config.json")
    }


def assert_bitwise(left, right):
    left, right = flatten_state(left), flatten_state(right)
    assert left.keys() == right.keys()
    assert [name for name in left if left[name].tobytes() != right[name].tobytes()] == []


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, problem):
    directory = tmp_path_factory.mktemp("uninterrupted")
    return run(problem, loop(directory)), directory


def test_fit_learns_in_one_trace_and_keeps_the_books(uninterrupted, problem):
    state, directory = uninterrupted
    assert int(state.step) == 24
    metrics, scores = read_metrics(directory / "metrics.csv"), read_metrics(directory / "evaluation.csv")
    assert metrics["step"] == list(range(1, 25))
    assert metrics.keys() == {"step", "loss", "grad_norm", "mse"}
    assert np.mean(metrics["mse"][-5:]) < 0.5 * np.mean(metrics["mse"][:5])
    assert scores["step"] == [8, 16, 24]
    assert read_config(directory) == {"seed": 1}
    with Checkpointer(directory, best_metric="mse", best_mode="min", read_only=True) as reader:
        restored = reader.restore(problem.state())
        assert reader.steps[-3:] == [16, 20, 24]
        assert reader.best_step == scores["step"][int(np.argmin(scores["mse"]))]
    assert_bitwise(restored.state, state)
    assert restored.position == {"next_batch": 24}
    assert [row["step"] for row in restored.history] == [8, 16, 24]


def test_fit_equals_the_bare_steps(uninterrupted, problem):
    assert_bitwise(uninterrupted[0], problem.train(24))


def test_a_finished_run_stays_finished(uninterrupted, problem):
    state, directory = uninterrupted
    before = files(directory)
    assert_bitwise(run(problem, loop(directory)), state)
    assert files(directory) == before


def test_a_time_budget_changes_nothing_but_the_number_of_parts(tmp_path, uninterrupted, problem):
    expected, directory = uninterrupted
    first = run(problem, loop(tmp_path, max_seconds=1e-9))
    assert int(first.step) == 1
    second = run(problem, loop(tmp_path, max_seconds=1e-9))
    assert int(second.step) == 2
    final = run(problem, loop(tmp_path, max_seconds=1e9))
    assert_bitwise(final, expected)
    assert files(tmp_path) == files(directory)


def test_an_exception_between_checkpoints_costs_only_repeated_steps(tmp_path, uninterrupted, problem):
    expected, directory = uninterrupted

    def breaks(step):
        if step == 13:
            raise OSError("disk gone")
        return problem.batch(step)

    with pytest.raises(OSError, match="disk gone"):
        run(problem, loop(tmp_path), batches=breaks)
    seen = []

    def recorded(step):
        seen.append(step)
        return problem.batch(step)

    assert_bitwise(run(problem, loop(tmp_path), batches=recorded), expected)
    assert seen == list(range(10, 24))
    assert files(tmp_path) == files(directory)


@pytest.mark.parametrize("prefetch", [1, 50])
def test_batches_made_ahead_are_the_same_batches(tmp_path, uninterrupted, problem, prefetch):
    expected, directory = uninterrupted
    threads = set()

    def recorded(step):
        threads.add(threading.get_ident())
        time.sleep(0.001 * (step % 3))
        return problem.batch(step)

    state = run(problem, loop(tmp_path, prefetch=prefetch), batches=recorded)
    assert_bitwise(state, expected)
    assert files(tmp_path) == files(directory)
    assert threading.get_ident() not in threads
    assert len(threads) <= prefetch


def test_an_error_in_a_thread_surfaces_at_its_step(tmp_path, problem):
    def breaks(step):
        if step == 3:
            raise ValueError("bad file")
        return problem.batch(step)

    with pytest.raises(ValueError, match="bad file"):
        run(problem, loop(tmp_path, prefetch=2, log_every=1), batches=breaks)
    assert read_metrics(tmp_path / "metrics.csv")["step"] == [1, 2, 3]


def test_loss_that_is_not_finite_names_step_and_batch(tmp_path, problem):
    def poisoned(step):
        batch = problem.batch(step)
        return batch._replace(x=np.full_like(batch.x, np.nan)) if step == 6 else batch

    with pytest.raises(ReconError, match=r"loss is nan at step 7, event 106; it must be finite"):
        run(
            problem,
            loop(tmp_path, checkpoint_every=4),
            batches=poisoned,
            batch_name=lambda step: f"event {100 + step}",
        )
    assert np.isnan(read_metrics(tmp_path / "metrics.csv")["loss"][6])
    with Checkpointer(tmp_path, read_only=True) as reader:
        assert reader.steps == [4]
    # With the batch mended the run goes on from there.
    assert int(run(problem, loop(tmp_path)).step) == 24
    assert np.isfinite(read_metrics(tmp_path / "metrics.csv")["loss"]).all()


def test_callbacks_get_the_newest_metrics(tmp_path, problem):
    calls = []

    def callback(step, state, metrics):
        calls.append((step, int(state.step), metrics["loss"]))

    run(problem, loop(tmp_path, total_steps=10), callbacks=[callback])
    assert [step for step, _, _ in calls] == [4, 8, 10]
    losses = read_metrics(tmp_path / "metrics.csv")["loss"]
    assert all(step == state_step and loss == losses[step - 1] for step, state_step, loss in calls)


def test_other_settings_are_refused(tmp_path, problem):
    run(problem, loop(tmp_path, total_steps=2))
    with pytest.raises(ConfigError, match="seed: stored 1, given 2"):
        run(problem, loop(tmp_path), run_config={"seed": 2})


def test_evaluation_at_the_end_only(tmp_path, problem):
    run(problem, loop(tmp_path, total_steps=6, eval_every=0))
    assert read_metrics(tmp_path / "evaluation.csv")["step"] == [6]


def test_progress_is_shown(tmp_path, problem, capsys):
    run(problem, loop(tmp_path, total_steps=4, progress=True))
    assert "4/4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("total_steps", 0),
        ("eval_every", -1),
        ("checkpoint_every", 0),
        ("log_every", 0),
        ("keep", 0),
        ("prefetch", -1),
    ],
)
def test_bad_setting_is_refused_by_name(tmp_path, setting, value):
    with pytest.raises(ConfigError, match=rf"LoopConfig\.{setting} is {value}"):
        LoopConfig(**{"total_steps": 5, "directory": tmp_path, setting: value})


@pytest.mark.parametrize(
    ("values", "mode", "patience", "stops"),
    [
        ([], "max", 1, False),
        ([0.5], "max", 1, False),
        ([0.5, 0.4], "max", 1, True),
        ([0.5, 0.4], "max", 2, False),
        ([0.5, 0.5, 0.5], "max", 2, True),
        ([0.5, 0.4, 0.3], "min", 1, False),
        ([0.3, 0.4, 0.35], "min", 2, True),
        ([0.3, float("nan"), 0.2], "min", 1, False),
        ([0.3, 0.4, 0.5], "min", 0, False),
    ],
)
def test_patience_counts_evaluations_since_the_best(tmp_path, values, mode, patience, stops):
    config = LoopConfig(
        total_steps=9, directory=tmp_path, best_metric="score", best_mode=mode, patience=patience
    )
    assert config.stops([{"step": n, "score": value} for n, value in enumerate(values)]) is stops


def test_patience_needs_to_know_what_is_better(tmp_path):
    with pytest.raises(ConfigError, match="patience needs a best_metric"):
        LoopConfig(total_steps=9, directory=tmp_path, patience=1)


def test_a_run_without_patience_stops_and_stays_stopped(tmp_path, problem):
    worse = iter(range(100))
    settings = {"evaluate": lambda state: {"mse": float(next(worse))}, "run_config": {}}
    config = loop(tmp_path, patience=1)
    state = fit(problem.state(), problem.step_fn, problem.batch, config, **settings)
    assert int(state.step) == 16
    again = fit(problem.state(), problem.step_fn, problem.batch, config, **settings)
    assert_bitwise(again, state)
    assert next(worse) == 2
