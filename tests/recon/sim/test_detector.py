"""The sensor table as read from ACTS, and the optional extra."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from recon.errors import ConfigError
from recon.sim import import_extra
from recon.sim.detector import (
    build_generic_detector,
    build_passive_material,
    generic_tracking_geometry,
    write_generic_detector,
)
from recon.sim.mixing import GeneratedParticles
from recon.tracking.detector import DETECTORS, load_detector, load_passive_material, to_global
from recon.tracking.supports import layer_supports


@pytest.fixture(scope="module")
def geometry():
    pytest.importorskip("acts")
    return generic_tracking_geometry()


def test_shipped_table_is_what_acts_gives(geometry):
    built, shipped = build_generic_detector(geometry), load_detector("generic")
    for name, column in built._asdict().items():
        np.testing.assert_array_equal(column, getattr(shipped, name), err_msg=name)


def test_shipped_passive_material_is_what_acts_gives(geometry):
    built, shipped = build_passive_material(geometry), load_passive_material("generic")
    for name, column in built._asdict().items():
        np.testing.assert_array_equal(column, getattr(shipped, name), err_msg=name)


def test_supports_are_where_acts_has_them(geometry):
    """Level and bounds of the supports, which we find around the sensors, are those of the material of ACTS."""
    detector = load_detector("generic")
    supports = layer_supports(detector)
    context = import_extra("acts").GeometryContext.dangerouslyDefaultConstruct()
    place = {
        (detector.volume_id[i], detector.layer_id[i]): detector.layer[i] for i in range(len(detector.layer))
    }
    found = []
    for identifier, surface in geometry.tracking_geometry.geoIdSurfaceMap().items():
        layer = place.get((identifier.volume, identifier.layer))
        if identifier.sensitive or surface.surfaceMaterial is None or layer is None:
            continue
        first, second = list(surface.bounds.values())[:2]
        expected = (surface.center(context)[2], first, second)
        if type(surface.bounds).__name__ == "CylinderBounds":
            expected = (first, -second, second)
        row = np.searchsorted(supports.layer, layer)
        ours = supports.level[row], supports.low[row], supports.high[row]
        np.testing.assert_allclose(ours, expected, atol=0.05)
        found.append(layer)
    assert sorted(found) == supports.layer.tolist()


def test_written_file_is_the_shipped_file(tmp_path, geometry):
    write_generic_detector(tmp_path / "generic.npz", geometry)
    assert (tmp_path / "generic.npz").read_bytes() == (DETECTORS / "generic.npz").read_bytes()


def test_our_positions_are_those_of_acts(geometry):
    acts = import_extra("acts")
    detector = load_detector("generic")
    surfaces = {g.value: s for g, s in geometry.tracking_geometry.geoIdSurfaceMap().items() if g.sensitive}
    context = acts.GeometryContext.dangerouslyDefaultConstruct()
    local = np.array([[3.0, -7.0]], np.float32)
    for row in range(0, len(detector.layer), 1500):
        surface = surfaces[int(detector.geometry_id[row])]
        theirs = surface.localToGlobal(context, acts.Vector2(3.0, -7.0), acts.Vector3(0.0, 0.0, 1.0))
        ours = to_global(detector, np.array([row], np.int32), local)[0]
        np.testing.assert_allclose(ours, [theirs[i] for i in range(3)], atol=1e-3)


def test_geometry_is_built_in_silence(capfd):
    pytest.importorskip("acts")
    generic_tracking_geometry()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_missing_package_says_how_to_install_it():
    with pytest.raises(ConfigError, match=r"package no_such_generator.*pip install 'recon-hep\[sim\]'"):
        import_extra("no_such_generator.part")


def test_missing_acts_is_named_as_on_the_package_index(monkeypatch):
    monkeypatch.setitem(sys.modules, "acts.no_such_part", None)
    with pytest.raises(ConfigError, match="package pyacts"):
        import_extra("acts.no_such_part")


def muons(eta, n=30):
    """Muons of 20 GeV transverse momentum from the origin, evenly in phi."""
    phi = np.linspace(0.0, 2 * np.pi, n, endpoint=False)
    momentum = 20.0 * np.stack([np.cos(phi), np.sin(phi), np.full(n, np.sinh(eta))], axis=1)
    ones = np.ones(n, np.int64)
    return GeneratedParticles(
        collision=ones,
        secondary_vertex=0 * ones,
        particle=np.arange(n) + 1,
        pdg=np.full(n, 13, np.int32),
        charge=np.full(n, -1, np.int32),
        mass=np.full(n, 0.10566),
        momentum=momentum,
        vertex=np.zeros((n, 3)),
        time=np.zeros(n),
    )


def material_met(geometry, eta):
    """Geometry identifiers of the surfaces with material that the muons cross, as Fatras reports them."""
    acts, examples = import_extra("acts"), import_extra("acts.examples")
    fatras = import_extra("recon.sim.fatras")
    met = []

    class Collect(examples.IAlgorithm):
        def __init__(self):
            examples.IAlgorithm.__init__(self, "Collect", acts.logging.FATAL)
            self.hits = examples.ReadDataHandle(self, examples.SimHitContainer, "simhits")
            self.hits.initialize("simhits")

        def execute(self, context):
            met.extend(hit.geometryId.value for hit in self.hits(context.eventStore))
            return examples.ProcessCode.SUCCESS

    algorithm = fatras._fatras(geometry, examples.RandomNumbers(seed=1), generateHitsOnMaterial=True)
    source, collect = fatras._ParticleSource(lambda _: muons(eta), 0, 1), Collect()
    sequencer = examples.Sequencer(events=1, numThreads=1, logLevel=acts.logging.FATAL, trackFpes=False)
    sequencer.addReader(source)
    sequencer.addAlgorithm(algorithm)
    sequencer.addAlgorithm(collect)
    sequencer.run()
    return np.array(met, np.uint64)


@pytest.mark.parametrize("eta", [0.3, 1.9, 2.8])
def test_simulated_particles_meet_the_tabulated_material_and_no_other(geometry, eta):
    detector, n = load_detector("generic"), 30
    surfaces = {g.value: s for g, s in geometry.tracking_geometry.geoIdSurfaceMap().items()}
    layers = {(int(v), int(la)) for v, la in zip(detector.volume_id, detector.layer_id, strict=True)}
    sensors = set(detector.geometry_id.tolist())
    supports, cylinders = {}, {}
    for value in material_met(geometry, eta).tolist():
        surface = surfaces[value]
        if value in sensors or surface.surfaceMaterial is None:
            continue
        place = (value >> 56, (value >> 36) & 0xFFF)
        group = supports if place in layers else cylinders
        key = place if place in layers else round(surface.bounds.values()[0])
        group[key] = group.get(key, 0) + 1
    assert set(cylinders) == {19, 200}
    assert set(cylinders.values()) == {n}
    # Every muon crosses the support of a layer once, or passes beside the layer.
    assert len(supports) >= 6
    assert max(supports.values()) == n
