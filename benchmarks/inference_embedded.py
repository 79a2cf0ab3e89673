"""A model in the caller's own process: what a call costs beside the bare jitted one, and what loading it costs.

Calls: the perceptron through `InferenceSession("local:...")` and through `jax.jit`, in turns. Loads: every load has a
process of its own, in which another model has been served, as in a running server; first with an empty cache of
executables, then with a warm one. See README.md here for the commands.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from inference_models import WIDTH, weights, write_artefacts

Row = dict[str, Any]

PAUSE_NS = 16_000
"""About what a caller does between two calls."""


def microseconds(call: Callable[[], object], count: int) -> tuple[float, float]:
    """Wall and CPU time of one call, mean of many."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    return 1e6 * (time.perf_counter() - wall) / count, 1e6 * (time.process_time() - cpu) / count


def pause() -> None:
    """Work of somebody else."""
    until = time.perf_counter_ns() + PAUSE_NS
    while time.perf_counter_ns() < until:
        pass


def calls(models: Path, rounds: int, count: int, seed: int) -> list[Row]:
    """The embedded call and forms of the bare one, each also with a pause before it that its time leaves out."""
    import jax
    import jax.numpy as jnp

    from serving.client import InferenceSession

    w = {name: jnp.asarray(array) for name, array in weights().items()}
    x = np.random.default_rng(seed).normal(size=(1, WIDTH)).astype(np.float32)
    on_device = jnp.asarray(x)
    program = jax.jit(lambda w, x: jnp.maximum(jnp.maximum(x @ w["0"], 0) @ w["1"], 0) @ w["2"])
    with InferenceSession(f"local:{models}", model="mlp") as session:
        inputs = {"INPUT0": x}
        if not np.allclose(session.infer(inputs)["OUTPUT0"], program(w, x), atol=1e-5):
            raise RuntimeError("the embedded call and the bare one differ")
        forms: dict[str, Callable[[], object]] = {
            "jitted, NumPy in and out": lambda: np.asarray(program(w, x)),
            "jitted, NumPy in": lambda: program(w, x).block_until_ready(),
            "jitted, nothing copied": lambda: program(w, on_device).block_until_ready(),
            "embedded": lambda: session.infer(inputs),
        }
        for name, call in list(forms.items()):
            microseconds(call, count)
            forms[f"{name}, paused"] = lambda call=call: (pause(), call())
        found = {name: np.array([(0.0, 0.0)] * rounds) for name in forms}
        for n in range(rounds):
            for name, call in forms.items():
                found[name][n] = microseconds(call, count)
                found[name][n] -= PAUSE_NS / 1000 if name.endswith("paused") else 0
    bare = found["jitted, NumPy in and out"]
    return [
        {
            "call": name,
            **dict(zip(("wall_us", "cpu_us"), np.median(times, axis=0).tolist(), strict=True)),
            # Neighbours slow the machine down for a while: the calls of one round had the same ones.
            # The closest to a machine of one's own: neighbours make the bare call slower more than the rest.
            "least_us": float(times[:, 0].min()),
            "least_ratio": float(times[:, 0].min() / bare[:, 0].min()),
            **dict(zip(("wall_ratio", "cpu_ratio"), np.median(times / bare, axis=0).tolist(), strict=True)),
        }
        for name, times in found.items()
    ]


def load_once(small: Path, models: Path, name: str) -> Row:
    """In a process of its own: CPU seconds of loading a model and of the steps of that."""
    from serving.artifact import Artifact
    from serving.repository import Repository
    from serving.runner import Runner

    first = Repository(small, control="explicit")
    first.load("identity")
    first.get("identity").scheduler.infer({"INPUT0": np.zeros((1, WIDTH), np.float32)})
    repository = Repository(models, control="explicit")
    wall, started = time.perf_counter(), time.process_time()
    repository.load(name)
    row: Row = {"cpu_s": time.process_time() - started, "wall_s": time.perf_counter() - wall}
    marks = [time.process_time()]
    artifact = Artifact(repository.get(name).artifact.path)
    marks.append(time.process_time())
    runner = Runner(artifact)
    marks.append(time.process_time())
    runner.warm()
    marks.append(time.process_time())
    row["buckets"] = len(artifact.manifest.buckets)
    row["bytes"] = sum(entry.bytes for entry in artifact.manifest.files.values())
    return row | dict(zip(("files_s", "weights_s", "programs_s"), np.diff(marks).tolist(), strict=True))


def loads(small: Path, places: list[Path], rounds: int) -> list[Row]:
    """Every model with an empty cache, then as often as asked with a warm one."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "RECON_EXECUTABLES": cache}
        for place in places:
            found = []
            for _ in range(rounds + 1):
                command = [sys.executable, __file__, "--load-once", str(small), str(place.parent), place.name]
                answer = subprocess.run(
                    command, env=environment, check=True, stdout=subprocess.PIPE, text=True
                )
                found.append(json.loads(answer.stdout.splitlines()[-1]))
            warm = {key: float(np.median([row[key] for row in found[1:]])) for key in found[0]}
            most = max(row["cpu_s"] for row in found[1:])
            rows.append({"model": place.name, **warm, "most_cpu_s": most, "cold_cpu_s": found[0]["cpu_s"]})
    return rows


def print_calls(rows: list[Row]) -> None:
    """As Markdown."""
    print("| call | wall [us] | CPU [us] | wall / bare | CPU / bare | fastest round [us] | / bare |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row['call']} | {row['wall_us']:.1f} | {row['cpu_us']:.1f} | "
            f"{row['wall_ratio']:.2f} | {row['cpu_ratio']:.2f} | {row['least_us']:.1f} | {row['least_ratio']:.2f} |"
        )


def print_loads(rows: list[Row]) -> None:
    """As Markdown."""
    print(
        "| model | MB | buckets | empty cache [CPU s] | warm [CPU s] | most | again: files | weights | programs |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row['model']} | {row['bytes'] / 1e6:.1f} | {row['buckets']:.0f} | {row['cold_cpu_s']:.2f} | "
            f"{row['cpu_s']:.3f} | {row['most_cpu_s']:.3f} | {row['files_s']:.3f} | {row['weights_s']:.3f} | "
            f"{row['programs_s']:.3f} |"
        )


def main() -> None:
    """Calls, then loads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[], help="artefacts to load, REPOSITORY/NAME"
    )
    parser.add_argument("--rounds", type=int, default=400, help="of calls")
    parser.add_argument("--calls", type=int, default=50, help="of a round")
    parser.add_argument("--loads", type=int, default=5, help="of a model, with a warm cache")
    parser.add_argument("--seed", type=int, default=0, help="of the input")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--load-once", nargs=3, metavar=("SMALL", "MODELS", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load_once:
        small, models, name = options.load_once
        print(json.dumps(load_once(Path(small), Path(models), name)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        small = Path(temporary)
        write_artefacts(small)
        found = {"calls": calls(small, options.rounds, options.calls, options.seed)}
        print_calls(found["calls"])
        found["loads"] = loads(small, [small / "mlp", *options.models], options.loads)
        print_loads(found["loads"])
    if options.json:
        options.json.write_text(json.dumps({**found, "options": vars(options)}, indent=2, default=str))


if __name__ == "__main__":
    main()
