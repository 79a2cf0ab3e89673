"""Every network: published sizes, slow twins, padding, order, both modes of normalisation, gradients, compilations."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.nn.counts import count_multiply_adds, count_parameters
from recon.tagging import deepak8, particle_net, pfn
from recon.tagging.deepak8 import DeepAK8, DeepAK8Config
from recon.tagging.deepcsv import DeepCSV, DeepCSVConfig
from recon.tagging.deepdoubleb import DeepDoubleB, DeepDoubleBConfig
from recon.tagging.models import KINDS, make_network
from recon.tagging.particle_net import ParticleNet, ParticleNetConfig
from recon.tagging.particle_transformer import (
    ParticleTransformer,
    ParticleTransformerConfig,
    pair_features,
)
from recon.tagging.pcnn import PCNN, PCNNConfig
from recon.tagging.pfn import PFN, PFNConfig
from recon.types import Jets
from tests.recon.nn.test_edgeconv import shaken
from tests.recon.tagging.conftest import on_device, random_jets
from tests.reference import tagging as twin

pytestmark = pytest.mark.usefixtures("quick_programs")

BLOCKS = ((3, (8, 8)), (3, (12,)))
CLOUD = {"features": 7, "coordinates": (5, 6), "classes": 3}
CONFIGS = {
    "deepak8": DeepAK8Config(candidates=7, vertices=4, classes=5, candidate_stem=8, vertex_stem=6,
                             candidate_stages=((8, 2), (12, 1)), vertex_stages=((6, 1),), dense=(16,)),
    "deepak8-md": DeepAK8Config(candidates=7, vertices=4, classes=5, candidate_stem=6, vertex_stem=6,
                                candidate_stages=((8, 2), (12, 1)), vertex_stages=((6, 1),), dense=(16, 8),
                                slope=0.2, preactivation=False),
    "deepcsv": DeepCSVConfig(candidates=7, vertices=4, hidden=(16, 16)),
    "particlenet": ParticleNetConfig(**CLOUD, blocks=BLOCKS, dense=(16,)),
    "particlenet, vertices": ParticleNetConfig(**CLOUD, blocks=BLOCKS, dense=(16,), fusion=True, vertex_features=4,
                                               vertex_coordinates=(2, 3)),
    "particletransformer": ParticleTransformerConfig(features=3, vectors=(3, 4, 5, 6), classes=3, embedding=(16, 8),
                                                     pairs=(8,), heads=2, layers=1, class_layers=1),
    "pcnn": PCNNConfig(features=7, classes=3, stem=6, stages=((8, 2), (8, 1), (12, 1)), dense=16),
    "pfn": PFNConfig(features=7, classes=3, particle=(16, 8), jet=(16,), dropout=0.1),
}  # fmt: skip
CLASSES = {
    "deepak8": DeepAK8,
    "deepak8-md": DeepAK8,
    "deepcsv": DeepCSV,
    "particletransformer": ParticleTransformer,
    "pcnn": PCNN,
    "pfn": PFN,
}
UNORDERED = ("particlenet", "particlenet, vertices", "particletransformer", "pfn")


def make(name):
    """A network in evaluation mode, a fresh copy of one that is made once."""
    definition, state = made(name)
    return nnx.merge(definition, state, copy=True)


@cache
def made(name):
    kind = CLASSES.get(name, ParticleNet)
    network = shaken(kind(CONFIGS[name], rngs=nnx.Rngs(0)))
    network.eval()
    return nnx.split(network)


def program(network):
    definition, state = nnx.split(network)

    def run(jets, *others):
        return nnx.merge(definition, state, copy=True)(jets, *others)

    return jax.jit(run)


@cache
def evaluate(name):
    """The compiled network of a name: most tests call it with jets of one shape."""
    return program(make(name))


def abstract(name):
    """A network without numbers, which costs nothing to make, and its call as a function of its state."""
    network = nnx.eval_shape(lambda: make_network(name))
    network.eval()
    definition, state = nnx.split(network)
    return network, lambda state, *inputs: nnx.merge(definition, state)(*inputs), state


def jets_for(name, **options):
    jets = random_jets(**options)
    if name == "particletransformer":
        # Energy above the momentum: a massive particle.
        energy = np.linalg.norm(jets.candidates[..., 3:6], axis=-1) + 0.14
        jets.candidates[..., 6] = energy
    return jets


def empty_jets(kind, columns, vertex_columns):
    shapes = (kind.candidates, columns), (max(kind.vertices, 1), vertex_columns)
    arrays = [jnp.zeros((1, *shape)) for shape in shapes]
    valid = [jnp.ones((1, shape[0]), bool) for shape in shapes]
    return Jets(arrays[0], valid[0], arrays[1], valid[1], jnp.zeros(1, jnp.int32))


@pytest.mark.parametrize(
    ("name", "columns", "statistics", "parameters", "multiply_adds"),
    [
        # CMS's files hold the statistics too; the talks quote "500 k parameters, 15 M operations" and "40 k, 700 k".
        ("deepak8", (42, 15), True, 468_373, 13.69e6),
        ("deepak8-md", (36, 15), True, 534_397, 12.49e6),
        ("deepdoubleb", (8, 2), True, 40_718, 0.8946e6),
        ("particlenet", (17, 1), False, 370_156, None),
        ("particlenet-lite", (7, 1), False, 26_416, None),
        # Qu, Li and Qian, table 1: 2.14 M parameters, 340 M multiply-adds.
        ("particletransformer", (21, 1), False, 2_143_486, 340e6),
        # The same table: 354 k, 15.5 M.
        ("pcnn", (17, 1), False, 354_540, 15.5e6),
        ("deepcsv", (8, 8), False, 36_821, 0.0363e6),
    ],
)
def test_published_sizes(name, columns, statistics, parameters, multiply_adds):
    network, call, state = abstract(name)
    assert count_parameters(network, statistics=statistics) == parameters
    extra = (jnp.zeros((1, 27)),) if name == "deepdoubleb" else ()
    if multiply_adds:
        counted = count_multiply_adds(call, state, empty_jets(KINDS[name], *columns), *extra)
        assert counted == pytest.approx(multiply_adds, rel=0.02)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (particle_net.JETCLASS_KIN, 368_216),
        (particle_net.JETCLASS_KINPID, 369_380),
        (replace(particle_net.JETCLASS_KIN, classes=2), 366_160),
    ],
)
def test_sizes_of_particle_net(config, parameters):
    """The last one is the 366 k of arXiv:1902.08570."""
    network = nnx.eval_shape(lambda: ParticleNet(config, rngs=nnx.Rngs(0)))
    assert count_parameters(network) == parameters


def test_multiply_adds_of_particle_net_as_published_and_as_they_are():
    config = particle_net.JETCLASS_FULL
    n, features, published, saved = 128, config.features, 0, 0
    for k, outputs in config.blocks:
        sizes = (2 * features, *outputs)
        published += n * n * (2 if features == config.features else features)
        published += (
            sum(n * k * i * o for i, o in zip(sizes, outputs, strict=False)) + n * features * outputs[-1]
        )
        saved += n * k * 2 * features * outputs[0] - 2 * n * features * outputs[0]
        features = outputs[-1]
    published += features * config.dense[0] + config.dense[0] * config.classes
    # Qu, Li and Qian, table 1: 540 M.
    assert published == pytest.approx(540e6, rel=0.015)
    _, call, state = abstract("particlenet")
    assert count_multiply_adds(call, state, empty_jets(KINDS["particlenet"], 17, 1)) == published - saved


def test_size_of_pfn():
    """Komiske et al. have 82 k parameters (arXiv:1902.08570, table 3)."""
    network = nnx.eval_shape(lambda: PFN(pfn.TOP_TAGGING, rngs=nnx.Rngs(0)))
    assert count_parameters(network) == 82_458


@pytest.mark.parametrize("name", ["deepak8", "deepak8-md"])
def test_deepak8_against_the_twin(name):
    network, jets = make(name), random_jets()
    np.testing.assert_allclose(
        program(network)(on_device(jets)), twin.deepak8(network, jets), rtol=1e-3, atol=1e-4
    )


def test_particle_net_against_the_twin():
    jets = random_jets()
    wanted = twin.particle_net(make("particlenet"), jets)
    np.testing.assert_allclose(evaluate("particlenet")(on_device(jets)), wanted, rtol=1e-3, atol=1e-4)


def test_pcnn_against_the_twin():
    jets = random_jets()
    wanted = twin.pcnn(make("pcnn"), jets)
    np.testing.assert_allclose(evaluate("pcnn")(on_device(jets)), wanted, rtol=1e-3, atol=1e-4)


def test_pcnn_without_weights_adds_up_candidates():
    """Every convolution is 0 but the middle of the stem and of the ways around: the mean of the candidates is left."""
    config = PCNNConfig(features=1, classes=1, stem=1, stages=((2, 1),), dense=1, dropout=0.0)
    network = PCNN(config, rngs=nnx.Rngs(0))
    for unit in network.units:
        for layer in unit.convolutions:
            layer.kernel[...] = jnp.zeros_like(layer.kernel[...])
    network.stem.kernel[...] = jnp.asarray([0.0, 1, 0]).reshape(3, 1, 1)
    network.units[0].shortcut.kernel[...] = jnp.asarray([2.0, 0]).reshape(1, 1, 2)
    network.dense.kernel[...] = jnp.ones((2, 1))
    network.output.kernel[...] = jnp.ones((1, 1))
    network.eval()
    jets = random_jets(n=1, features=1)._replace(candidate_valid=np.arange(12)[None] < 3)
    jets.candidates[0, :3, 0] = 1, 2, 6
    # Twice the sum of nine over the twelve places, of which the padding is nine.
    np.testing.assert_allclose(network(on_device(jets)), [[18 / 12]], rtol=1e-4)


def test_deepdoubleb_against_the_twin():
    config = DeepDoubleBConfig(jet=5, candidates=7, vertices=4, hidden=6, units=4, dense=8)
    network = shaken(DeepDoubleB(config, rngs=nnx.Rngs(0)))
    network.candidates.recurrent.bias[...] = 0.3 * jnp.arange(12)
    network.eval()
    jets, of_jet = random_jets(candidates=6), np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    found = program(network)(on_device(jets), jnp.asarray(of_jet))
    np.testing.assert_allclose(found, twin.deepdoubleb(network, jets, of_jet), rtol=1e-4, atol=1e-5)


def test_pair_features_against_the_twin():
    rng = np.random.default_rng(0)
    momenta = rng.normal(size=(2, 10, 3)) * 10
    vectors = np.concatenate([momenta, np.linalg.norm(momenta, axis=-1, keepdims=True) + 0.5], -1)
    found = pair_features(*jnp.asarray(vectors, jnp.float32))
    wanted = [twin.pair_features(*pair) for pair in vectors.swapaxes(0, 1)]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        pair_features(*jnp.asarray(vectors[::-1], jnp.float32)), found, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_what_padding_holds_changes_nothing(name):
    network, jets = evaluate(name), jets_for(name)
    dirty = jets._replace(
        candidates=np.where(jets.candidate_valid[..., None], jets.candidates, 1e6).astype(np.float32),
        vertices=np.where(jets.vertex_valid[..., None], jets.vertices, np.nan).astype(np.float32),
    )
    found = network(on_device(jets))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(network(on_device(dirty)), found)


@pytest.mark.parametrize("name", UNORDERED)
def test_order_and_length_change_nothing(name):
    network, jets = evaluate(name), jets_for(name)
    order, more = np.random.default_rng(0).permutation(12), ((0, 0), (0, 4))
    moved = jets._replace(
        candidates=np.pad(jets.candidates[:, order], (*more, (0, 0))),
        candidate_valid=np.pad(jets.candidate_valid[:, order], more),
        vertices=jets.vertices[:, ::-1].copy(),
        vertex_valid=jets.vertex_valid[:, ::-1].copy(),
    )
    found = np.asarray(network(on_device(jets)))
    # Jets with fewer candidates than neighbours also count padding, of which there is no other kind.
    np.testing.assert_allclose(network(on_device(moved)), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_evaluation_is_deterministic_and_of_each_jet_alone(name):
    run, jets, others = evaluate(name), on_device(jets_for(name)), on_device(jets_for(name, seed=5))
    before = np.asarray(run(jets))
    np.testing.assert_array_equal(run(jets), before)
    mixed = jax.tree.map(lambda array, other: other.at[2].set(array[2]), jets, others)
    after = np.asarray(run(mixed))
    np.testing.assert_allclose(after[2], before[2], rtol=1e-4, atol=1e-5)
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_training_moves_every_statistic_and_reaches_every_parameter(name):
    network, jets = make(name), on_device(jets_for(name))
    before = np.asarray(evaluate(name)(jets))
    network.train()
    definition, parameters, statistics, rest = nnx.split(network, nnx.Param, nnx.BatchStat, ...)

    def loss(parameters):
        model = nnx.merge(definition, parameters, statistics, rest, copy=True)
        logits = model(jets)
        return jnp.square(logits - 1).mean(), (logits, nnx.as_pure(nnx.state(model, nnx.BatchStat)))

    slope, (trained, updated) = jax.jit(jax.grad(loss, has_aux=True))(parameters)
    assert np.abs(np.asarray(trained) - before).max() > 1e-3
    pairs = list(zip(jax.tree.leaves(nnx.as_pure(statistics)), jax.tree.leaves(updated), strict=True))
    assert all(np.abs(np.asarray(old) - np.asarray(new)).max() > 0 for old, new in pairs)
    assert bool(pairs) == (name != "pfn")
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.as_pure(slope)):
        assert np.isfinite(leaf).all(), path
        # P-CNN's convolutions have numbers of their own, which the normalisation behind them takes away again.
        taken_away = (
            name == "pcnn" and "bias" in str(path) and ("convolutions" in str(path) or "stem'" in str(path))
        )
        assert taken_away or np.abs(leaf).max() > 0, path


@pytest.mark.parametrize("name", ["particlenet", "deepak8"])
def test_programs_are_compiled_once_a_shape(name):
    run = evaluate(name)
    run(on_device(random_jets()))
    before = run._cache_size()
    for seed in range(3):
        run(on_device(random_jets(seed=seed)))
    assert run._cache_size() == before


@pytest.mark.parametrize(
    ("make_config", "message"),
    [
        (lambda: DeepAK8Config(candidates=0), "positive"),
        (lambda: DeepAK8Config(dense=()), "must not be empty"),
        (lambda: DeepAK8Config(dropout=1.0), "less than 1"),
        (lambda: DeepDoubleBConfig(units=0), "positive"),
        (lambda: DeepCSVConfig(hidden=()), "must not be empty"),
        (lambda: ParticleNetConfig(blocks=()), "must not be empty"),
        (lambda: ParticleNetConfig(coordinates=(-2, -1)), "not negative"),
        (lambda: ParticleTransformerConfig(heads=7), "multiple of heads"),
        (lambda: PCNNConfig(stages=()), "must not be empty"),
        (lambda: PCNNConfig(stages=((0, 2),)), "positive"),
        (lambda: PCNNConfig(dropout=1.0), "less than 1"),
        (lambda: PFNConfig(jet=()), "must not be empty"),
        (lambda: PFNConfig(dropout=-0.1), "0 or more"),
    ],
)
def test_configurations_refuse(make_config, message):
    with pytest.raises(ConfigError, match=message):
        make_config()


@pytest.mark.parametrize("name", ["particlenet", "particletransformer"])
def test_too_few_columns_are_refused(name):
    with pytest.raises(ConfigError, match="reads 7 columns; given are 6"):
        jax.eval_shape(program(make(name)), on_device(random_jets(features=6)))


def test_published_shapes_are_the_defaults():
    assert deepak8.NOMINAL.features == deepak8.DECORRELATED.features == 192
    assert particle_net.JETCLASS_FULL.fused == 384
    assert particle_net.LITE.fused == 128
