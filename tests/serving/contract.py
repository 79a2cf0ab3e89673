"""What every exported model must do: extend by calling `check_artifact` from the exporter's own test."""

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
