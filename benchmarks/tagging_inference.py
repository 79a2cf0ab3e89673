"""Taggers on one core: recon beside onnxruntime, same weights, same jets, same scores.

    python benchmarks/tagging_inference.py --onnxruntime FOLDER --deepak8 resnet.onnx --particlenet ParticleNet.onnx

FOLDER is where onnxruntime and onnx lie (pip install --no-deps --target FOLDER onnxruntime onnx); they are not
needed elsewhere. The files are CMS's DeepAK8 and an export of weaver's ParticleNet; the peer runs them as they are
("published"), and as `recon export tagging --format onnx` writes them ("ours in ONNX": folded, first layer split).
Every measurement is a process of its own, pinned to one core with one thread; the programs take turns, the least CPU
time of all repeats counts. Numbers of candidates are those of real jets, 20 to all.
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

FORMS = ("recon", "published", "ours in ONNX")
BATCHES = {"deepak8": (1, 16, 256), "particlenet": (1, 16, 64)}
TOLERANCE = 1e-4
"""Noise gives DeepAK8 logits of several hundred, whose rounding this is; on real jets the forms agree to 1e-6."""


def make_jets(network: Any, batch: int, capacities: tuple[int, int]) -> Any:
    """Random jets with as many candidates as real ones have."""
    from recon.tagging.deepak8 import DeepAK8
    from recon.types import Jets

    rng = np.random.default_rng(batch)
    config = network.config
    sizes = (config.candidates, config.vertices) if isinstance(network, DeepAK8) else (config.features, 0)
    valid = [
        np.arange(n) < rng.integers(least, n + 1, batch)[:, None]
        for n, least in zip(capacities, (20, 0), strict=True)
    ]
    # Noise as wide as real features would drive the logits to 1000, where float32 ends.
    arrays = [
        (0.1 * rng.normal(size=(*mask.shape, size)) * mask[..., None]).astype(np.float32)
        for mask, size in zip(valid, sizes, strict=True)
    ]
    return Jets(arrays[0], valid[0], arrays[1], valid[1], np.zeros(batch, np.int32))


def recon_program(kind: str, file: Path, jets: Any) -> Callable[[], np.ndarray]:
    """Scores by recon: what a `Scorer` runs, without its checks."""
    import jax

    from recon.tagging.folded import fold
    from recon.tagging.importing import load_pretrained

    folded = fold(load_pretrained(file, kind))
    program = jax.jit(lambda weights, jets: jax.nn.softmax(folded.logits(weights, jets)))
    weights = jax.device_put(folded.weights)
    return lambda: np.asarray(program(weights, jets))


def peer_program(form: str, kind: str, file: Path, jets: Any) -> Callable[[], np.ndarray]:
    """Scores by onnxruntime, one thread, all optimisations of graphs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    if form == FORMS[2]:
        names = {item.name for item in session.get_inputs()}
        inputs = {
            name: array
            for name, array in zip(
                ("candidates", "candidate_valid", "vertices", "vertex_valid"), jets[:4], strict=True
            )
            if name in names
        }
    elif kind == "deepak8":
        inputs = {
            "pfcand": _channels_first(jets.candidates)[..., None],
            "sv": _channels_first(jets.vertices)[..., None],
        }
    else:
        inputs = {
            "pf_points": _channels_first(jets.candidates[..., -2:]),
            "pf_features": _channels_first(jets.candidates),
            "pf_mask": jets.candidate_valid[:, None],
        }
    return lambda: session.run(None, inputs)[0]


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.swapaxes(1, 2))


def measure(options: argparse.Namespace) -> None:
    """Run one form in this process and print its cost; the child of `main`."""
    from recon.tagging.importing import load_pretrained
    from recon.tagging.models import KINDS

    kind, batch = options.kind, options.batch
    jets = make_jets(load_pretrained(options.file, kind), batch, (KINDS[kind].candidates, 7))
    if options.form == FORMS[0]:
        program = recon_program(kind, options.file, jets)
    else:
        program = peer_program(options.form, kind, options.peer_file, jets)
    np.save(options.output, program())
    inner = max(1, 64 // batch)
    costs = []
    for _ in range(options.repeats):
        before = time.process_time()
        for _ in range(inner):
            program()
        costs.append((time.process_time() - before) / inner)
    print(json.dumps({"milliseconds": 1e3 * min(costs)}))


def child(options: argparse.Namespace, form: str, kind: str, batch: int, folder: Path) -> float:
    """Least CPU time of one process, ms."""
    file = getattr(options, kind)
    words = ["--form", form, "--kind", kind, "--batch", str(batch), "--file", str(file)]
    peer = folder / f"{kind}.onnx" if form == FORMS[2] else file
    words += [
        "--peer-file",
        str(peer),
        "--output",
        str(folder / f"{form}.npy"),
        "--repeats",
        str(options.repeats),
    ]
    core = max(os.sched_getaffinity(0))
    paths = [
        str(Path(__file__).resolve().parents[1]),
        str(options.onnxruntime),
        os.environ.get("PYTHONPATH", ""),
    ]
    variables = {"PYTHONPATH": os.pathsep.join(paths), "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    variables |= {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    command = ["taskset", "-c", str(core), sys.executable, __file__, *words]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{form} {kind} {batch} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["milliseconds"])


def compare(options: argparse.Namespace, kind: str, batch: int, folder: Path) -> dict[str, float]:
    """Least CPU time of every form; stops where scores differ."""
    best = dict.fromkeys(FORMS, np.inf)
    for _ in range(options.rounds):
        for form in FORMS:
            best[form] = min(best[form], child(options, form, kind, batch, folder))
    scores = {form: np.load(folder / f"{form}.npy") for form in FORMS}
    for form in FORMS[1:]:
        if (difference := np.abs(scores[form] - scores[FORMS[0]]).max()) > TOLERANCE:
            raise SystemExit(f"{kind}, batch {batch}: scores of {form} differ by {difference:.1e}")
    return best


def write_files(options: argparse.Namespace, folder: Path) -> None:
    """The networks as this project writes them."""
    from recon.tagging.export_onnx import write_onnx
    from recon.tagging.importing import load_pretrained
    from recon.tagging.models import KINDS, TaggingModel

    sys.path.insert(0, str(options.onnxruntime))
    for kind in BATCHES:
        network, known = load_pretrained(getattr(options, kind), kind), KINDS[kind]
        model = TaggingModel(kind, network, known.labels, (known.candidates, known.vertices))
        write_onnx(folder / f"{kind}.onnx", model)


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnxruntime", type=Path, default=Path(), help="folder with onnxruntime and onnx")
    parser.add_argument("--deepak8", type=Path, help="CMS's resnet.onnx")
    parser.add_argument("--particlenet", type=Path, help="weaver's ParticleNet as ONNX")
    parser.add_argument("--rounds", type=int, default=2, help="processes a program; they take turns")
    parser.add_argument("--repeats", type=int, default=8, help="measurements a process")
    parser.add_argument("--json", type=Path)
    for name in ("form", "kind"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    for name in ("file", "peer-file", "output"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.form:
        measure(options)
        return
    rows = []
    print("| network | jets | " + " | ".join(f"{form}, CPU ms" for form in FORMS) + " | published / recon |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_files(options, Path(folder))
        for kind, batches in BATCHES.items():
            for batch in batches:
                best = compare(options, kind, batch, Path(folder))
                ratio = best[FORMS[1]] / best[FORMS[0]]
                rows.append({"network": kind, "jets": batch, **best, "ratio": ratio})
                costs = " | ".join(f"{best[form]:.3g}" for form in FORMS)
                print(f"| {kind} | {batch} | {costs} | {ratio:.2f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
