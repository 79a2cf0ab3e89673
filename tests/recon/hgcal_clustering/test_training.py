"""`recon train hgcal`: parameters by gradient and the network, a few updates each on tiny events; models."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from recon.cli import USER_ERROR, main
from recon.errors import ConfigError, DataError
from recon.hgcal_clustering import HgcalConfig, find_showers, training
from recon.hgcal_clustering.clue3d import Clue3dConfig
from recon.hgcal_clustering.clue_clusters import ClusterClueConfig
from recon.hgcal_clustering.hybrid import probabilities
from recon.hgcal_clustering.layer_clusters import LayerClusterConfig
from recon.hgcal_clustering.model import CondensationConfig, CondensationNetwork
from recon.hgcal_clustering.pipeline import associate_clusters, find_tracksters
from recon.hgcal_clustering.shipped import HgcalModel, load_model, load_network, model_names, save_model
from recon.hgcal_clustering.starting import begin_with
from recon.hgcal_clustering.training import TrainingConfig, labelled_graphs, run_settings
from recon.hgcal_clustering.training_data import (
    calibrate,
    matched_showers,
    prepare,
    read_training_events,
    sides,
)
from recon.hgcal_clustering.tuning import TunedClue, TunedClue3d, ends_at, tuning_loss
from recon.hgcal_clustering.tuning_windows import TuningWindow, tuning_windows
from recon.io.root_rechits import write_rechits
from recon.io.weights import model_arrays
from recon.train.log import read_metrics
from tests.recon.hgcal_clustering.condensing import two_showers
from tests.reference.toy_showers import toy_event, with_times

pytestmark = pytest.mark.usefixtures("quick_programs")


# Far from what is good, so that every parameter matters.
FAR = HgcalConfig(
    clusters=ClusterClueConfig(d_c=8.0, rho_c=3.0, outlier_delta_factor=1.3, layer_step=6.0),
    clue3d=Clue3dConfig(
        critical_density=1.0,
        critical_self_density=0.6,
        density_radius=15.0,
        critical_distance=10.0,
        sibling_layers=2,
        critical_layers=1,
        outlier_multiplier=1.5,
    ),
)


def windows_for(start, event):
    return tuning_windows(
        event, start.choose, layer_step=start.layer_step, energy_min=15.0, size=128, slots=48
    )


@pytest.fixture(scope="module")
def windows():
    return windows_for(TunedClue(HgcalConfig()), two_showers(seed=2, energies=(1.0, 2.0)))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "toy.root"
    events = [toy_event(seed=seed, showers=8, n_layers=20) for seed in range(4)]
    write_rechits(path, [event._replace(number=i) for i, event in enumerate(events)])
    return path


def test_windows(windows):
    assert len(windows) == 2
    for window in windows:
        n = int((window.energy > 0).sum())
        assert n >= 40
        assert (np.diff(window.energy[:n]) <= 0).all()
        assert (window.neighbours[n:] == -1).all()
        assert window.own.sum() == pytest.approx(float(window.total), rel=1e-5)
        assert not window.own[n:].any()


@pytest.mark.parametrize(("kind", "method"), [(TunedClue, "clusters"), (TunedClue3d, "clue3d")])
def test_start_is_the_settings(kind, method):
    assert kind(FAR).tuned(FAR) == replace(FAR, method=method)


def test_clue3d_looks_at_large_layer_clusters_in_the_layers_beside():
    event = two_showers(seed=2, energies=(1.0, 2.0))
    n = len(event.clusters.valid)
    event = event._replace(clusters=event.clusters._replace(size=(1 + np.arange(n) % 2).astype(np.int32)))
    for least, part in ((1, 1.0), (2, 0.5)):
        config = HgcalConfig(layer_clusters=LayerClusterConfig(min_size=least))
        start = TunedClue3d(config)
        assert len(start.choose(event.clusters)) == round(part * n)
        (window, _) = windows_for(start, event)
        there = window.neighbours >= 0
        layers = np.abs(window.layer[:, None] - window.layer[window.neighbours])[there]
        assert layers.max() * start.layer_step <= 70


@pytest.mark.parametrize(("kind", "least"), [(TunedClue, 6e-3), (TunedClue3d, 3e-4)])
def test_gradient_against_finite_differences(kind, least, windows):
    window = jax.tree.map(jnp.asarray, windows[0])

    @jax.jit
    def value(logarithm):
        module = kind(FAR)
        module.logarithm[...] = logarithm
        return tuning_loss(module, window, jax.random.key(0), 0.15)[0]

    start = kind(FAR).logarithm[...]
    slope = jax.jit(jax.grad(value))(start)
    assert np.isfinite(slope).all()
    assert (np.abs(slope) > least).all()
    for index in range(len(start)):
        step = jnp.zeros(len(start)).at[index].set(5e-3)
        measured = (value(start + step) - value(start - step)) / 1e-2
        assert float(slope[index]) == pytest.approx(float(measured), rel=0.05, abs=least / 3)


def test_ways_by_hand():
    # 2 follows 1 for sure, 1 follows 0 in one of two cases; 0 is the end in four of five.
    neighbours = np.array([[-1], [0], [1]], np.int32)
    follow = np.array([[0.0], [0.5], [1.0]])
    found = ends_at(jnp.array([0.8, 0.0, 0.0]), jnp.asarray(follow), jnp.asarray(neighbours))
    np.testing.assert_allclose(found, [0.8, 0.4, 0.4], rtol=1e-6)


@pytest.mark.parametrize("kind", [TunedClue, TunedClue3d])
def test_padding_does_not_count(kind, windows):
    def padded(column, fill):
        return np.concatenate([column, np.full((64, *column.shape[1:]), fill, column.dtype)])

    position, *columns, total, neighbours = windows[0]
    longer = TuningWindow(
        padded(position, 1), *(padded(c, 0) for c in columns), total, padded(neighbours, -1)
    )
    module = kind(FAR)
    one, two = (
        float(tuning_loss(module, jax.tree.map(jnp.asarray, w), jax.random.key(0))[0])
        for w in (windows[0], longer)
    )
    assert one == pytest.approx(two, rel=1e-5)


def test_every_epoch_sees_everything():
    seen = [training.item_of_step("abcde", 3, step) for step in range(10)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list("abcde")


def test_prepared_events(file):
    event = toy_event(seed=1, showers=5, n_layers=20)
    made = prepare(event, HgcalConfig(), None)
    assert made.shares.energy.sum() <= event.hits.energy.sum() * (1 + 1e-5)
    key = made.shares.cluster * len(made.energy) + made.shares.particle
    assert (np.diff(key) > 0).all()
    with pytest.raises(DataError, match="has no truth to learn from"):
        prepare(event._replace(truth=None), HgcalConfig(), None)


def test_sides():
    event = two_showers()
    turned = event.clusters.position.copy()
    turned[:10, 2] *= -1
    parts = list(sides(event.clusters._replace(position=turned)))
    assert [int(part.valid.sum()) for part in parts] == [10, 270]


def test_calibration_puts_the_response_right():
    events = [two_showers(seed=seed, energies=(1.0 + seed / 4, 2.0)) for seed in range(6)]
    doubled = [event._replace(energy=2 * event.energy) for event in events]
    config = HgcalConfig(method="clusters")
    raw = matched_showers(doubled[0], config, 15.0)
    np.testing.assert_allclose(raw.energy / raw.true_energy, 0.5, atol=0.06)
    fitted = replace(config, calibration=calibrate(doubled, config))
    showers = find_tracksters(doubled[0].clusters, associate_clusters(doubled[0].clusters, config), fitted)
    np.testing.assert_allclose(
        np.sort(showers.regressed_energy)[-2:], np.sort(doubled[0].energy)[-2:], rtol=0.05
    )


def test_calibration_on_files_of_its_own(file, tmp_path):
    """Other events change the calibration and nothing else; it is what the chain gives on just these."""
    other = tmp_path / "other.root"
    write_rechits(
        other, [toy_event(seed=seed, showers=8, n_layers=20)._replace(number=seed) for seed in range(4, 8)]
    )
    room = {"train": (file,), "steps": 3, "energy_min": 1.0, "window": 256, "slots": 32, "progress": False}
    own = training.train(TrainingConfig(output=tmp_path / "own", **room))
    said = []
    model = training.train(TrainingConfig(output=tmp_path / "run", calibrate=(other,), **room), said.append)
    assert said[-1] == "calibration on 4 events"
    assert model.config != own.config
    assert replace(model.config, calibration=own.config.calibration) == own.config
    events = list(read_training_events([other], HgcalConfig(), None))
    assert model.config.calibration == calibrate(events, own.config, energy_min=1.0)
    assert load_model(tmp_path / "run" / "model").config == model.config
    assert "| calibrate | ['other.root'] |" in model.card


@pytest.mark.parametrize("kind", ["tuned", "clue3d", "hybrid"])
def test_train_and_use(kind, file, tmp_path):
    config = TrainingConfig(
        train=(file,),
        output=tmp_path / "run",
        model=kind,
        steps=6,
        checkpoint_every=3,
        energy_min=1.0,
        window=256,
        slots=32,
        hidden=8,
        progress=False,
    )
    said = []
    model = training.train(config, said.append)
    assert "4 events" in said[1]
    assert model.card.startswith(f"# Showers in a high-granularity calorimeter: {kind}")
    again = load_model(tmp_path / "run" / "model")
    assert again.config == model.config
    assert sorted(again.weights) == sorted(model.weights)
    showers = find_showers(toy_event(seed=9, showers=5, n_layers=20), again.config)
    assert len(showers.tracksters.energy) >= 2
    # The same command once more has nothing left to do and gives the same.
    resumed = training.train(config)
    assert resumed.config == model.config
    for name, array in model.weights.items():
        np.testing.assert_array_equal(array, resumed.weights[name])


@pytest.fixture(scope="module")
def timed_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "timed.root"
    events = [with_times(toy_event(seed=seed, showers=8, n_layers=20)) for seed in range(3)]
    write_rechits(path, [event._replace(number=i) for i, event in enumerate(events)])
    return path


@pytest.fixture
def untimed(file, tmp_path):
    """A network without times, trained for a moment."""
    config = TrainingConfig(
        train=(file,),
        output=tmp_path / "untimed",
        model="hybrid",
        steps=3,
        hidden=8,
        rounds=2,
        progress=False,
    )
    training.train(config)
    return tmp_path / "untimed" / "model"


def test_train_with_times_and_use(timed_file, untimed, tmp_path):
    """A run that begins with a network without times; what it makes wants times, and uses them."""
    config = TrainingConfig(
        train=(timed_file,),
        output=tmp_path / "run",
        model="hybrid",
        timing=True,
        initial=str(untimed),
        steps=5,
        hidden=8,
        rounds=2,
        energy_min=1.0,
        progress=False,
    )
    model = training.train(config)
    assert model.config.hybrid.network.timing
    assert "| timing | True |" in model.card
    event = with_times(toy_event(seed=9, showers=5, n_layers=20))
    assert len(find_showers(event, model.config).tracksters.energy) >= 2
    with pytest.raises(DataError, match=r"no times \(branches hit_time, hit_time_error\)"):
        find_showers(event._replace(times=None), model.config)
    with pytest.raises(DataError, match="no times"):
        find_showers(event.hits, model.config)
    # The weights of the times were 0 and are not any more.
    before, after = load_model(untimed).weights, model.weights
    grown = [name for name in after if after[name].shape != before[name].shape]
    assert len(grown) == 4
    first = next(name for name in grown if after[name].ndim == 2)
    assert np.abs(after[first][-4:]).max() > 0


def test_a_network_that_learns_to_see_times_begins_as_it_was(timed_file, untimed):
    event = with_times(toy_event(seed=3, showers=6, n_layers=20))
    config = load_model(untimed).config
    old = load_network(str(untimed), config.hybrid.network)
    shape = replace(config.hybrid.network, timing=True)
    new = begin_with(CondensationNetwork(shape, rngs=nnx.Rngs(5)), str(untimed))
    timed = replace(config, hybrid=replace(config.hybrid, network=shape))
    (graph, *_) = labelled_graphs(prepare(event, timed, None), timed.hybrid)
    (bare, *_) = labelled_graphs(prepare(event, config, None), config.hybrid)
    assert graph.graph.nodes.shape[1] > bare.graph.nodes.shape[1]
    one, other = (np.asarray(probabilities(net, g.graph)) for net, g in ((old, bare), (new, graph)))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_what_a_run_cannot_begin_with(file, untimed, tmp_path):
    own = CondensationNetwork(CondensationConfig(hidden=9, rounds=2), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"has 8 hidden features and 2 rounds; .* are 9 and 2"):
        begin_with(own, str(untimed))
    with pytest.raises(ConfigError, match="--initial tuned has settings only"):
        begin_with(own, "tuned")
    shape = CondensationConfig(hidden=8, rounds=2, timing=True)
    timed = HgcalModel(
        replace(HgcalConfig(), hybrid=replace(HgcalConfig().hybrid, network=shape)),
        "a card",
        model_arrays(CondensationNetwork(shape, rngs=nnx.Rngs(0))),
    )
    save_model(tmp_path / "timed", timed)
    plain = CondensationNetwork(CondensationConfig(hidden=8, rounds=2), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"timed sees times: train with --timing"):
        begin_with(plain, str(tmp_path / "timed"))
    config = TrainingConfig(
        train=(file,), output=tmp_path / "run", model="hybrid", timing=True, progress=False
    )
    with pytest.raises(DataError, match="no times"):
        training.train(config)


@pytest.fixture(autouse=True)
def _without_cells(monkeypatch):
    monkeypatch.setattr(training, "load_cells", lambda *_: None)


def test_command(file, tmp_path, capsys):
    words = ["train", "hgcal", "--train", file, "--output", tmp_path / "run", "--steps", 3, "--energy-min", 1]
    words += ["--window", 256, "--slots", 32, "--no-progress", "--json", tmp_path / "summary.json"]
    assert main([str(word) for word in words]) == 0
    assert "settings in" in capsys.readouterr().out
    assert (tmp_path / "run" / "loss.png").stat().st_size > 1000
    settings = HgcalConfig.from_json(json.loads((tmp_path / "run" / "settings.json").read_text()))
    assert settings == load_model(tmp_path / "run" / "model").config
    assert json.loads((tmp_path / "summary.json").read_text())["config"] == settings.to_json()
    # Another seed is another run.
    assert main([str(word) for word in [*words, "--seed", 5]]) == USER_ERROR
    assert "belongs to a run with other settings: seed: stored 0, given 5" in capsys.readouterr().err


def test_settings_of_a_run(file, tmp_path):
    config = TrainingConfig(train=(file,), output=tmp_path)
    tree = json.loads(json.dumps(run_settings(config)))
    assert tree["train"] == ["toy.root"]
    assert "output" not in tree
    with pytest.raises(ConfigError, match="no file to train on"):
        TrainingConfig(train=(), output=tmp_path)
    with pytest.raises(ConfigError, match="steps = 0"):
        replace(config, steps=0)
    with pytest.raises(ConfigError, match="schedule = 599; allowed is steps = 600 or more"):
        replace(config, schedule=599)
    for model in ("tuned", "clue3d"):
        for more in ({"initial": "hybrid"}, {"timing": True}):
            with pytest.raises(ConfigError, match=rf"model = '{model}' has no network .* are for 'hybrid'"):
                replace(config, model=model, **more)


def test_run_with_a_longer_schedule_is_the_beginning_of_a_longer_run(file, tmp_path):
    """Its learning rate falls as that of the long run, so that both have the same losses."""
    room = {"train": (file,), "energy_min": 1.0, "window": 256, "slots": 32, "progress": False}
    losses = []
    for name, steps, schedule in (("long", 40, None), ("begin", 30, 40), ("short", 30, None)):
        training.train(TrainingConfig(output=tmp_path / name, steps=steps, schedule=schedule, **room))
        losses.append(read_metrics(tmp_path / name / "metrics.csv")["loss"][:30])
    np.testing.assert_array_equal(losses[0], losses[1])
    assert not np.array_equal(losses[0], losses[2])


def test_without_particles_of_account(file, tmp_path):
    config = TrainingConfig(train=(file,), output=tmp_path, energy_min=1e6, progress=False)
    with pytest.raises(DataError, match=r"no particle of 1000000.0 GeV"):
        training.train(config)


def test_models(tmp_path):
    with pytest.raises(ConfigError, match="there is no model 'nosuch'"):
        load_model("nosuch")
    save_model(tmp_path / "settings", HgcalModel(HgcalConfig(), "a card"))
    assert load_model(tmp_path / "settings").config == HgcalConfig()
    with pytest.raises(DataError, match="has settings only"):
        load_network(str(tmp_path / "settings"), HgcalConfig().hybrid.network)


@pytest.mark.parametrize("name", model_names())
def test_shipped(name):
    model = load_model(name)
    assert model.card.startswith("# ")
    assert sum(array.nbytes for array in model.weights.values()) < 5e6
    if model.weights:
        network = load_network(name, model.config.hybrid.network)
        assert isinstance(network, nnx.Module)
