"""Loading, reloading and refusing artefacts; the executable cache; the runner's padding."""

import hashlib
import json
import shutil
import threading

import numpy as np
import pytest

from serving import executables as cache
from serving.artifact import Artifact
from serving.dataplane import Dataplane
from serving.errors import ArtifactError, InputTooLarge, InvalidInput, ModelNotFound, ModelNotReady
from serving.manifest import from_json, to_json
from serving.repository import Limits, Repository
from serving.runner import Runner
from serving.types import InferRequest
from tests.serving import artifacts

pytestmark = pytest.mark.usefixtures("executables")


def test_a_manifest_is_read_as_it_is_written(models):
    text = (models / "graph" / "1" / "manifest.json").read_text()
    manifest = from_json(text, "here")
    assert from_json(to_json(manifest), "there") == manifest
    assert manifest.axes == ("n", "e")
    assert manifest.max_batch_size == 0
    assert from_json((models / "mlp" / "1" / "manifest.json").read_text(), "x").max_batch_size == 16


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c.update(format="other"), "format 'other'"),
        (lambda c: c.pop("inputs"), "inputs"),
        (lambda c: c["inputs"][0].update(datatype="FP9"), "datatype 'FP9'"),
        (lambda c: c.update(buckets=[]), "no buckets"),
        (lambda c: c["buckets"][0].update(sizes={"z": 1}), "sizes the axes ['z']"),
        *(
            (
                lambda c, size=size: c["buckets"][0].update(sizes={"batch": size}),
                f"the sizes {{'batch': {size!r}}}",
            )
            for size in (0, -4, "4", 1.5, True)
        ),
        (lambda c: c["buckets"][0].update(programs={"cpu": "none.bin"}), "not among the files"),
        (lambda c: c.update(surprise=1), "surprise"),
    ],
)
def test_damaged_manifests_say_what_is_wrong(models, change, text):
    content = json.loads((models / "mlp" / "1" / "manifest.json").read_text())
    change(content)
    with pytest.raises(ArtifactError) as caught:
        from_json(json.dumps(content), "manifest.json")
    assert text in str(caught.value)


def test_files_are_checked(tmp_path):
    folder = artifacts.mlp(tmp_path)
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match="sha256 differs"):
        Artifact(folder)
    weights.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="bytes, its manifest says"):
        Artifact(folder)
    weights.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        Artifact(folder)
    with pytest.raises(ArtifactError, match="no artefact"):
        Artifact(tmp_path)


def test_files_of_other_folders_are_not_read(tmp_path):
    folder = artifacts.identity(tmp_path)
    content = json.loads((folder / "manifest.json").read_text())
    content["files"]["../secret"] = {"sha256": "0", "bytes": 3}
    (folder / "manifest.json").write_text(json.dumps(content))
    (folder.parent / "secret").write_text("abc")
    with pytest.raises(ArtifactError, match=r"names '\.\./secret'; a plain file name is allowed"):
        Artifact(folder)


def test_a_program_that_is_none_is_named(tmp_path):
    folder = artifacts.identity(tmp_path)
    data = b"no program"
    (folder / "program.bin").write_bytes(data)
    content = json.loads((folder / "manifest.json").read_text())
    content["files"]["program.bin"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"program\.bin cannot be read"):
        Artifact(folder).program("program.bin")


def test_hot_reload_under_load_drops_nothing(tmp_path):
    artifacts.mlp(tmp_path, seed=0)
    repository = Repository(tmp_path, control="explicit")
    repository.start()
    repository.load("mlp")
    plane = Dataplane(repository)
    x = np.ones((1, 8), np.float32)
    old, new = (np.tanh(x @ w["first"]) @ w["second"] for w in map(artifacts.mlp_weights, (0, 1)))
    stop, wrong, versions = threading.Event(), [], set()

    def call():
        while not stop.is_set():
            try:
                answer = plane.infer(InferRequest(model="mlp", inputs={"x": x}))
            except Exception as error:
                wrong.append(error)
                return
            versions.add(answer.version)
            wanted = {"1": old, "2": new}[answer.version]
            if not np.allclose(answer.arrays()["logits"], wanted, rtol=1e-4, atol=1e-4):
                wrong.append(answer)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    artifacts.mlp(tmp_path, version="2", seed=1)
    repository.load("mlp")
    assert repository.versions("mlp") == ("1", "2")
    shutil.rmtree(tmp_path / "mlp" / "1")
    repository.load("mlp")
    assert repository.versions("mlp") == ("2",)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert wrong == []
    assert versions == {"1", "2"}
    assert plane.drain(5)
    assert not plane.ready()
    with pytest.raises(ModelNotReady, match="shutting down"):
        plane.infer(InferRequest(model="mlp", inputs={"x": x}))


def test_a_broken_version_leaves_the_old_one(tmp_path):
    folder = artifacts.mlp(tmp_path)
    repository = Repository(tmp_path)
    repository.start()
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError):
        repository.load("mlp")
    assert repository.get("mlp").scheduler.infer({"x": np.zeros((1, 8), np.float32)})
    assert [entry.state for entry in repository.index()] == ["READY"]
    repository.close(5)


def test_unknown_models_and_parameters(tmp_path):
    artifacts.mlp(tmp_path)
    repository = Repository(tmp_path, control="explicit")
    repository.start()
    with pytest.raises(ModelNotReady, match="not loaded"):
        repository.get("mlp")
    with pytest.raises(ModelNotFound, match="known are: mlp"):
        repository.load("other")
    with pytest.raises(InvalidInput, match="'speed'"):
        repository.load("mlp", {"speed": 1})
    with pytest.raises(InvalidInput, match="not the JSON"):
        repository.load("mlp", {"config": "{"})
    repository.load("mlp", {"config": '{"instance_group": [{"count": 2}]}'})
    assert repository.get("mlp").scheduler.instances == 2
    with pytest.raises(InvalidInput, match="at least 1"):
        Limits(queue=0)
    repository.close(5)


def test_graphs_of_strangers_are_joined(dataplane):
    """Each gets the answer that it gets alone, whatever runs beside it."""
    runner = dataplane.repository.get("graph").scheduler.runner
    graphs = [artifacts.random_graph(seed, 3 + seed, 2 * seed + 1) for seed in range(4)]
    sizes = [runner.check(graph) for graph in graphs]
    together = runner.run(graphs, sizes).outputs
    weights = {"kernel": np.random.default_rng(5).normal(size=(3, 2)).astype(np.float32)}
    for graph, size, found in zip(graphs, sizes, together, strict=True):
        alone = runner.run([graph], [size]).outputs[0]
        valid = np.ones(len(graph["senders"]), bool)
        slow = artifacts.graph_of(weights, {**graph, "edge_valid": valid})
        for name in ("scores", "state"):
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(found[name], slow[name], rtol=1e-5, atol=1e-5)


def test_an_index_beyond_its_graph_is_refused(dataplane):
    graph = artifacts.random_graph(0)
    graph["senders"][2] = 5
    with pytest.raises(InvalidInput, match="0 to 4 are allowed"):
        dataplane.infer(InferRequest(model="graph", inputs=graph))


def test_inner_overflow_takes_the_next_bucket_and_then_says_so(dataplane):
    def kept(count):
        return dataplane.infer(
            InferRequest(model="positive", inputs={"x": np.arange(1, count + 1, dtype=np.float32)})
        )

    for count in (0, 3, 4, 5, 8):
        assert kept(count).arrays()["kept"].tolist() == list(range(1, count + 1))
    with pytest.raises(InputTooLarge, match="larger inner arrays"):
        kept(9)
    with pytest.raises(InputTooLarge, match="largest bucket holds"):
        kept(33)


def test_executables_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "cache"))
    artifact = Artifact(artifacts.mlp(tmp_path / "models"))
    Runner(artifact).warm()
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 3
    compiled = []
    monkeypatch.setattr(cache, "_compile", lambda *a: compiled.append(a))
    runner = Runner(artifact)
    runner.warm()
    assert compiled == []
    given = {"x": np.ones((2, 8), np.float32)}
    assert runner.run([given], [runner.check(given)]).outputs[0]["logits"].shape == (2, 3)
    monkeypatch.undo()
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "cache"))
    for file in files:
        file.write_bytes(b"nonsense")
    Runner(artifact).warm()
    assert all(file.stat().st_size > 100 for file in files)


def test_a_cache_that_others_can_write_to_is_not_read(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RECON_EXECUTABLES", str(tmp_path / "cache"))
    artifact = Artifact(artifacts.identity(tmp_path / "models"))
    Runner(artifact).warm()
    (tmp_path / "cache").chmod(0o777)
    Runner(artifact).warm()
    assert "not this user's alone" in caplog.text


def test_a_platform_without_a_program_is_named(tmp_path):
    folder = artifacts.mlp(tmp_path)
    content = json.loads((folder / "manifest.json").read_text())
    for bucket in content["buckets"]:
        bucket["programs"] = {"tpu": bucket["programs"]["tpu"]}
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"no program for cpu.*there are tpu"):
        Runner(Artifact(folder)).warm()
