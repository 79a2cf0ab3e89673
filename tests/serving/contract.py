"""What every exported model must do: extend by calling `check_artifact` from the exporter's own test."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from serving.artifact import Artifact
from serving.runner import Runner

TOLERANCE = 1e-6


def check_artifact(folder, requests, local, *, rtol=TOLERANCE, atol=TOLERANCE):
    """Load an artefact without the model's source and compare its answers with the local call.

    Args:
        folder: `<name>/<version>`.
        requests: dicts of input arrays, of different sizes; together they fit into a bucket if the model is batched.
        local: the model as a function from such a dict to a dict of outputs.
        rtol: relative tolerance.
        atol: absolute tolerance.
    """
    artifact = Artifact(folder)
    assert artifact.manifest.versions["jax"]
    runner = Runner(artifact)
    sizes = [runner.check(request) for request in requests]
    alone = [runner.run([request], [size]).outputs[0] for request, size in zip(requests, sizes, strict=True)]
    for request, found in zip(requests, alone, strict=True):
        wanted = local(request)
        assert set(found) == set(wanted) == {spec.name for spec in artifact.manifest.outputs}
        for spec in artifact.manifest.outputs:
            assert found[spec.name].dtype == spec.dtype
            np.testing.assert_allclose(
                found[spec.name], wanted[spec.name], rtol=rtol, atol=atol, err_msg=spec.name
            )
    if artifact.manifest.batched:
        together = runner.run(requests, sizes).outputs
        for found, wanted in zip(together, alone, strict=True):
            for name, array in wanted.items():
                np.testing.assert_allclose(found[name], array, rtol=rtol, atol=atol, err_msg=name)


WITHOUT_SOURCE = """
import sys
import numpy as np
from pathlib import Path
from serving.artifact import Artifact
from serving.runner import Runner
runner = Runner(Artifact(Path(sys.argv[1])))
given = np.load(sys.argv[2])
request = {name: given[name] for name in given.files}
np.savez(sys.argv[3], **runner.run([request], [runner.check(request)]).outputs[0])
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"recon", "flax", "optax", "jraph"}))
"""


def check_without_source(folder, requests):
    """Another process, which holds no module of the model's source, gives the same answers.

    Args:
        folder: `<name>/<version>`.
        requests: dicts of input arrays; the first is used.
    """
    runner = Runner(Artifact(folder))
    wanted = runner.run(requests[:1], [runner.check(requests[0])]).outputs[0]
    given, answer = folder.parent / "given.npz", folder.parent / "answer.npz"
    np.savez(given, **requests[0])
    words = [sys.executable, "-c", WITHOUT_SOURCE, folder, given, answer]
    finished = subprocess.run(
        words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == []
    with np.load(answer) as found:
        assert set(found.files) == set(wanted)
        for name in found.files:
            np.testing.assert_allclose(
                found[name], wanted[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name
            )
