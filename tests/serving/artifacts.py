"""Small models as artefacts, written without `recon`: what the server must be able to take from anybody."""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from safetensors.numpy import save_file

PLATFORMS = ("cpu", "cuda", "tpu")


def spec(name, shape, datatype="FP32", **extra):
    return {"name": name, "datatype": datatype, "shape": list(shape), **extra}


def write(root, name, function, weights, inputs, outputs, *, sizes, version="1", symbolic=True, **manifest):
    """An artefact `root/name/version` of `function(weights, inputs) -> outputs`."""
    folder = Path(root) / name / version
    folder.mkdir(parents=True)
    masks = manifest.get("masks", {})
    dtypes = {"FP32": jnp.float32, "INT32": jnp.int32, "BOOL": jnp.bool_}

    def export_for(lengths):
        shape = lambda names: tuple(lengths[n] if isinstance(n, str) else n for n in names)  # noqa: E731
        arguments = {
            s["name"]: jax.ShapeDtypeStruct(shape(s["shape"]), dtypes[s["datatype"]]) for s in inputs
        }
        arguments |= {mask: jax.ShapeDtypeStruct((lengths[axis],), jnp.bool_) for axis, mask in masks.items()}
        shapes = {key: jax.ShapeDtypeStruct(array.shape, array.dtype) for key, array in weights.items()}
        return export.export(jax.jit(function), platforms=PLATFORMS)(shapes, arguments).serialize()

    axes = list(sizes[0])
    if symbolic:
        symbols = export.symbolic_shape(",".join(axes)) if axes else ()
        (folder / "program.bin").write_bytes(export_for(dict(zip(axes, symbols, strict=True))))
        buckets = [{"sizes": size, "programs": dict.fromkeys(PLATFORMS, "program.bin")} for size in sizes]
    else:
        buckets = []
        for number, size in enumerate(sizes):
            (folder / f"program{number}.bin").write_bytes(export_for(size))
            buckets.append({"sizes": size, "programs": dict.fromkeys(PLATFORMS, f"program{number}.bin")})
    if weights:
        save_file(weights, folder / "weights.safetensors")
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
    }
    content = {
        "format": "recon-artifact-2",
        "name": name,
        "version": version,
        "inputs": inputs,
        "outputs": outputs,
        "batched": True,
        "buckets": buckets,
        "files": files,
        **manifest,
    }
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


LADDER = [{"batch": 1}, {"batch": 4}, {"batch": 16}]


def identity(root, version="1", width=4):
    return write(
        root, "identity", lambda weights, x: {"OUTPUT0": x["INPUT0"]}, {},
        [spec("INPUT0", ["batch", width])], [spec("OUTPUT0", ["batch", width])], sizes=LADDER, version=version,
    )  # fmt: skip


def mlp_weights(seed=0, shape=(8, 16, 3)):
    rng = np.random.default_rng(seed)
    return {
        "first": rng.normal(size=shape[:2]).astype(np.float32),
        "second": rng.normal(size=shape[1:]).astype(np.float32),
    }


def mlp_of(weights, inputs):
    return {"logits": jnp.tanh(inputs["x"] @ weights["first"]) @ weights["second"]}


def mlp(root, version="1", seed=0, **manifest):
    return write(
        root, "mlp", mlp_of, mlp_weights(seed), [spec("x", ["batch", 8], finite=True)],
        [spec("logits", ["batch", 3])], sizes=LADDER, version=version, **manifest,
    )  # fmt: skip


def graph_of(weights, inputs):
    """One step of message passing; padding may point anywhere, the mask keeps it out."""
    message = inputs["nodes"][inputs["senders"]] * inputs["edge_valid"][:, None]
    total = jax.ops.segment_sum(message, inputs["receivers"], inputs["nodes"].shape[0])
    nodes = (inputs["nodes"] + total) @ weights["kernel"]
    return {"scores": (nodes[inputs["senders"]] * nodes[inputs["receivers"]]).sum(1), "state": nodes}


def graph(root):
    weights = {"kernel": np.random.default_rng(5).normal(size=(3, 2)).astype(np.float32)}
    sizes = [{"n": 8, "e": 16}, {"n": 32, "e": 64}]
    return write(
        root, "graph", graph_of, weights,
        [spec("nodes", ["n", 3]), spec("senders", ["e"], "INT32", index_of="n"),
         spec("receivers", ["e"], "INT32", index_of="n")],
        [spec("scores", ["e"]), spec("state", ["n", 2])], sizes=sizes, masks={"e": "edge_valid"},
    )  # fmt: skip


def positive_of(capacity):
    """The positive rows first, how many they are, and whether they fitted."""

    def program(weights, inputs):
        wanted = (inputs["x"] > 0) & inputs["valid"]
        place = jnp.where(wanted, jnp.cumsum(wanted) - 1, capacity)
        kept = jnp.zeros(capacity, jnp.float32).at[place].set(inputs["x"], mode="drop")
        return {"kept": kept, "count": wanted.sum(dtype=jnp.int32), "overflow": wanted.sum() > capacity}

    return program


def positive(root):
    """A model that takes one event, with an inner capacity of 4, then of 8."""
    folder = Path(root)
    programs = {}
    for capacity, length in ((4, 16), (8, 32)):
        programs[length] = write(
            folder / f"part{length}", "positive", positive_of(capacity), {}, [spec("x", ["n"])],
            [spec("kept", ["k"])], sizes=[{"n": length}], symbolic=False, batched=False,
            masks={"n": "valid"}, counts={"k": "count"}, overflow="overflow",
        )  # fmt: skip
    merged = folder / "positive" / "1"
    merged.mkdir(parents=True)
    content = json.loads((programs[16] / "manifest.json").read_text())
    content["buckets"], content["files"] = [], {}
    for length, part in programs.items():
        data = (part / "program0.bin").read_bytes()
        (merged / f"n{length}.bin").write_bytes(data)
        content["buckets"].append(
            {"sizes": {"n": length}, "programs": dict.fromkeys(PLATFORMS, f"n{length}.bin")}
        )
        content["files"][f"n{length}.bin"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (merged / "manifest.json").write_text(json.dumps(content))
    for part in (folder / "part16", folder / "part32"):
        for path in sorted(part.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        part.rmdir()
    return merged


def random_graph(seed, n=5, e=9):
    rng = np.random.default_rng(seed)
    return {
        "nodes": rng.normal(size=(n, 3)).astype(np.float32),
        "senders": rng.integers(0, n, e).astype(np.int32),
        "receivers": rng.integers(0, n, e).astype(np.int32),
    }
