"""Random jets, and the reference data where it is."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recon.io.jet_columns import jet_columns
from recon.tagging.deepak8 import DeepAK8Config
from recon.tagging.features import fit_inputs
from recon.tagging.inputs import DEEPAK8_CANDIDATES, NOT_SIMULATED
from recon.tagging.labels import LABELS
from recon.tagging.models import TaggingModel, make_network, save_tagging_model
from recon.tagging.particle_net import ParticleNetConfig
from recon.tagging.shipped import described, load_model
from recon.types import Jets
from tests.recon.nn.test_edgeconv import shaken
from tests.recon.tagging.small_jets import make_table

SHARED = Path(__file__).parents[4] / "shared" / "data"


def random_jets(n=6, candidates=12, features=7, vertices=3, vertex_features=4, seed=0, fullest=None):
    """Jets of every size, the first one empty; what lies in the padding is large and must not matter."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, candidates + 1, n)
    counts[0] = 0
    vertex_counts = rng.integers(0, vertices + 1, n)
    if fullest is not None:
        counts[1:] = fullest
    return Jets(
        candidates=(rng.normal(size=(n, candidates, features))).astype(np.float32),
        candidate_valid=np.arange(candidates) < counts[:, None],
        vertices=rng.normal(size=(n, vertices, vertex_features)).astype(np.float32),
        vertex_valid=np.arange(vertices) < vertex_counts[:, None],
        label=rng.integers(0, 5, n).astype(np.int32),
    )


def on_device(jets):
    return jax.tree.map(jnp.asarray, jets)


@pytest.fixture(scope="session")
def reference_file() -> Callable[[str], Path]:
    """Path of a file of reference data; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"the reference file {path} is not on this machine")
        return path

    return find


SIMULATED = tuple(name for name in DEEPAK8_CANDIDATES if name not in NOT_SIMULATED)
N_CANDIDATES, N_VERTICES = 10, 3
"""Fewer than the largest jets of `make_table` have."""

SMALL = {
    "deepak8": DeepAK8Config(
        candidates=len(SIMULATED),
        candidate_stem=8,
        vertex_stem=8,
        candidate_stages=((8, 1),),
        vertex_stages=((8, 1),),
        dense=(16,),
    ),
    "particlenet": ParticleNetConfig(
        features=len(SIMULATED),
        coordinates=(SIMULATED.index("pfcand_etarel"), SIMULATED.index("pfcand_phirel")),
        classes=len(LABELS),
        blocks=((3, (8,)),),
        dense=(8,),
    ),
}


def save_small_model(directory, kind="deepak8", seed=0):
    """A model with random weights, whose scores differ from jet to jet, and the inputs that simulated jets have."""
    inputs = fit_inputs(
        jet_columns(make_table(200, seed=99)), SIMULATED, n_candidates=N_CANDIDATES, n_vertices=N_VERTICES
    )
    network = shaken(make_network(kind, SMALL[kind], seed=seed))
    network.eval()
    capacities = (N_CANDIDATES, N_VERTICES)
    save_tagging_model(
        directory, TaggingModel(kind, network, LABELS, capacities, described(inputs), "# A card\n")
    )
    return directory


@pytest.fixture(scope="session")
def small_models(tmp_path_factory):
    """Directories of small models by kind."""
    root = tmp_path_factory.mktemp("models")
    return {kind: save_small_model(root / kind, kind) for kind in SMALL}


@pytest.fixture(scope="session")
def taggers(small_models):
    """The small models, loaded."""
    return {kind: load_model(directory) for kind, directory in small_models.items()}
