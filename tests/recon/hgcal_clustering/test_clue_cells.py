"""Clustering on the cells of a calorimeter against a hand case, the slow twin and its symmetries."""

import jax
import numpy as np
import pytest
from scipy.spatial import cKDTree

from recon.errors import ConfigError, DataError
from recon.hgcal_clustering import clue_cells as module
from recon.hgcal_clustering.cell_graph import CellGraph, build_cell_graph
from recon.hgcal_clustering.cell_program import CellCapacity, clue_cells_padded, cluster_cells
from recon.hgcal_clustering.clue_cells import clue_cells
from recon.hgcal_clustering.geometry import EndcapGeometry, build_calorimeter, load_calorimeter
from recon.hgcal_clustering.sensors import COARSE, SCINTILLATOR
from recon.padding import bucket_size
from recon.sim.calorimeter import CalorimeterSimulation, simulate_event
from recon.types import Calorimeter
from tests.reference import clue as twin

pytestmark = pytest.mark.usefixtures("quick_programs")

PITCH = 12.0


def calorimeter_of(position, layer, sensor):
    n = len(position)
    one, layers = np.ones(n, np.float32), np.unique(layer).astype(np.float32)
    return Calorimeter(
        position=np.asarray(position, np.float32),
        layer=np.asarray(layer, np.int32),
        sensor=np.asarray(sensor, np.int32),
        area=one,
        gev_per_mip=one,
        sigma_noise=one,
        layer_z=layers,
        layer_x0=layers,
        layer_lambda=layers,
        layer_radius=np.stack([layers, layers], 1),
    )


def hexagons(rows, columns, n_layers=1):
    """A lattice of hexagons, row by row; every other row is shifted."""
    i, j = np.mgrid[:rows, :columns].reshape(2, -1)
    flat = np.stack([500 + (j + 0.5 * (i % 2)) * PITCH, i * PITCH * np.sqrt(3) / 2, 0 * i + 3000], 1)
    position = np.concatenate([flat + [0, 0, 10 * k] for k in range(n_layers)])
    layer = np.repeat(np.arange(n_layers), rows * columns)
    return calorimeter_of(position, layer, np.full(len(layer), COARSE))


@pytest.fixture(scope="module")
def wedge():
    """All 47 layers of a narrow wedge, and its graph."""
    calorimeter = build_calorimeter(EndcapGeometry(phi_min=0.3, phi_max=0.36))
    return calorimeter, CellGraph.from_calorimeter(calorimeter, cache=False)


def random_event(calorimeter, n, seed=0, ties=True):
    """Clumps of hits and noise: (cell, energy, rho_c). With ties energies are integers, their sums exact."""
    rng = np.random.default_rng(seed)
    n_cells = len(calorimeter.layer)
    near = [rng.integers(0, n_cells, n // 5)]
    for centre in rng.integers(0, n_cells, n // 12 + 1):
        mates = np.flatnonzero(calorimeter.layer == calorimeter.layer[centre])
        apart = np.hypot(*(calorimeter.position[mates, :2] - calorimeter.position[centre, :2]).T)
        near.append(rng.choice(mates[np.argsort(apart)[:30]], 12, replace=False))
    cell = rng.permutation(np.unique(np.concatenate(near))).astype(np.int32)
    energy = rng.integers(3, 9, len(cell)) if ties else 3 + rng.exponential(3, len(cell))
    return cell, energy.astype(np.float32), rng.integers(7, 11, len(cell)).astype(np.float32)


def ordered_event(calorimeter, n, seed):
    """The same in the order of the cells, as the function for programs wants it."""
    event = random_event(calorimeter, n, seed)
    return tuple(column[np.argsort(event[0])] for column in event)


def twin_pairs(calorimeter, cell, reach=2.0):
    """(i, j, distance in units of the radius) of all pairs of hits, by the definition of the table."""
    position = calorimeter.position[cell].astype(float)
    tile = calorimeter.sensor[cell] == SCINTILLATOR
    layer = calorimeter.layer[cell]
    eta = np.arcsinh(position[:, 2] / np.hypot(position[:, 0], position[:, 1]))
    phi = np.arctan2(position[:, 1], position[:, 0])
    found = []
    for i in range(len(cell)):
        in_xy = np.hypot(*(position[:, :2] - position[i, :2]).T) / 13.0
        turn = np.abs(np.angle(np.exp(1j * (phi - phi[i]))))
        apart = np.where(tile[i], np.hypot(eta - eta[i], turn) / 0.0315, in_xy)
        steps = np.rint(apart * 1000)
        near = np.flatnonzero((steps <= reach * 1000) & (layer == layer[i]) & (tile == tile[i]))
        near = near[near != i]
        found.append((np.full(len(near), i), near, steps[near] / 1000))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def fast_twin_pairs(calorimeter, cell, reach=2.0):
    """The same for many hits, found with a k-d tree in every layer."""
    position = calorimeter.position[cell].astype(float)
    tile = calorimeter.sensor[cell] == SCINTILLATOR
    phi = np.arctan2(position[:, 1], position[:, 0])
    eta = np.arcsinh(position[:, 2] / np.hypot(position[:, 0], position[:, 1]))
    place = np.where(tile[:, None], np.stack([eta, phi], 1) / 0.0315, position[:, :2] / 13.0)
    # Layers, kinds and, for tiles, the copy one turn further lie far apart along a third axis.
    group = (2 * calorimeter.layer[cell] + tile) * 1e4
    row = np.r_[np.arange(len(cell)), np.flatnonzero(tile)]
    place = np.r_[place, place[tile] + [0, 2 * np.pi / 0.0315]]
    pairs = cKDTree(np.c_[place, group[row]]).query_pairs(reach + 1e-3, output_type="ndarray")
    i, j = np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]]
    steps = np.rint(np.hypot(*(place[i] - place[j]).T) * 1000).astype(int)
    table = np.unique(np.stack([row[i], row[j], steps])[:, steps <= reach * 1000], axis=1)
    return table[0], table[1], table[2] / 1000


def twin_clusters(calorimeter, cell, energy, rho_c, reach=2.0):
    pairs = (
        twin_pairs(calorimeter, cell, reach)
        if len(cell) < 3000
        else fast_twin_pairs(calorimeter, cell, reach)
    )
    return twin.clue(
        np.zeros((len(cell), 1)),
        energy,
        d_c=1.0,
        rho_c=rho_c,
        outlier_delta_factor=reach,
        rank=cell,
        pairs=pairs,
    )


def assert_same(found, expected):
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.nearest_higher, expected.nearest_higher)
    np.testing.assert_array_equal(found.is_seed, expected.is_seed)
    np.testing.assert_allclose(found.rho, expected.rho, rtol=1e-5)
    assert int(found.n_clusters) == expected.n_clusters
    assert not found.overflow


def test_graph_by_hand():
    graph = CellGraph.from_calorimeter(hexagons(5, 5), cache=False)
    # Cell 12 is in the middle: two neighbours in its own row, two in each of the rows beside it.
    assert sorted(np.asarray(graph.near[12]).tolist()) == [6, 7, 11, 13, 16, 17]
    # Six at equal distance: in the order of their numbers.
    assert np.asarray(graph.near[12]).tolist() == [6, 7, 11, 13, 16, 17]
    assert np.asarray(graph.near[0]).tolist() == [1, 5, 25, 25, 25, 25]
    assert np.asarray(graph.more).tolist() == [[25]]
    # Up to 26 mm: at sqrt(3) and at twice the pitch.
    far = np.asarray(graph.far[graph.far_start[12] : graph.far_start[13]]).tolist()
    assert far == [2, 5, 8, 15, 18, 22, 1, 3, 10, 14, 21, 23]
    assert graph.n_cells == 25
    assert graph.n_bytes > 25 * 6 * 4


def test_by_hand():
    graph = CellGraph.from_calorimeter(hexagons(3, 9), cache=False)
    # A pair at 9, 10 and a lone hit at 12: two pitches from cell 10.
    cell, energy = np.array([10, 12, 9], np.int32), np.array([5, 1, 3], np.float32)
    found = clue_cells(graph, cell, energy, np.full(3, 4, np.float32))
    assert found.rho.tolist() == [6.5, 1, 5.5]
    assert found.nearest_higher.tolist() == [-1, 0, 0]
    np.testing.assert_allclose(found.delta, [np.inf, 2 * PITCH, PITCH], rtol=1e-5)
    assert found.ids.tolist() == [0, 0, 0]
    near = CellGraph.from_calorimeter(hexagons(3, 9), outlier_delta_factor=1.0, cache=False)
    assert clue_cells(near, cell, energy, np.full(3, 4, np.float32)).ids.tolist() == [0, -1, 0]


@pytest.mark.parametrize(("seed", "ties"), [(0, True), (1, True), (2, False), (3, False)])
def test_twin(wedge, seed, ties):
    calorimeter, graph = wedge
    cell, energy, rho_c = random_event(calorimeter, 700, seed, ties)
    assert len(set(calorimeter.sensor[cell])) == 4
    expected = twin_clusters(calorimeter, cell, energy, rho_c)
    assert 50 < expected.n_clusters < 0.7 * len(cell)
    found = clue_cells(graph, cell, energy, rho_c)
    assert_same(found, expected)
    followed = found.nearest_higher >= 0
    radius = np.where(calorimeter.sensor[cell] == SCINTILLATOR, 0.0315, 13.0)
    np.testing.assert_allclose((found.delta / radius)[followed], expected.delta[followed], atol=2e-3)


def test_twin_on_dense_layers_with_borders(wedge):
    # Every second cell of a stretch of the first layer and of one with tiles has a hit, borders of sensors included.
    calorimeter, graph = wedge
    rng = np.random.default_rng(5)
    cell = np.concatenate(
        [
            rng.choice(np.flatnonzero(calorimeter.layer == 0)[:600], 300, replace=False),
            rng.choice(np.flatnonzero(calorimeter.layer == 45), 200, replace=False),
        ]
    ).astype(np.int32)
    assert (np.asarray(graph.near[cell, -1]) < 0).sum() > 20
    energy = rng.integers(1, 4, len(cell)).astype(np.float32)
    rho_c = np.full(len(cell), 5, np.float32)
    assert_same(clue_cells(graph, cell, energy, rho_c), twin_clusters(calorimeter, cell, energy, rho_c))


def test_pairs_of_the_twin(wedge):
    calorimeter, _ = wedge
    cell = random_event(calorimeter, 700, 6)[0]
    i, j, apart = twin_pairs(calorimeter, cell)
    order = np.lexsort((j, i))
    for one, other in zip((i, j, apart), fast_twin_pairs(calorimeter, cell), strict=True):
        np.testing.assert_array_equal(one[order], other)


@pytest.mark.slow
@pytest.mark.parametrize("pileup", [5, 50, 140, 200])
def test_twin_on_simulated_events(pileup):
    simulation = CalorimeterSimulation(pileup=pileup, pileup_source="hagedorn", events=1)
    hits = simulate_event(simulation, 0).hits
    calorimeter = load_calorimeter(EndcapGeometry())
    rho_c = (9 * hits.sigma_noise).astype(np.float32)
    found = clue_cells(CellGraph.from_calorimeter(calorimeter), hits.cell, hits.energy, rho_c)
    expected = twin_clusters(calorimeter, hits.cell, hits.energy, rho_c)
    assert len(hits.cell) > 5000
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.nearest_higher, expected.nearest_higher)


def test_tiles_meet_at_the_back():
    # A ring of tiles: the first and the last are neighbours across phi = pi.
    phi = (np.arange(288) + 0.5) * 2 * np.pi / 288 - np.pi
    position = np.stack([1500 * np.cos(phi), 1500 * np.sin(phi), np.full(288, 4500)], 1)
    calorimeter = calorimeter_of(position, np.zeros(288), np.full(288, SCINTILLATOR))
    graph = CellGraph.from_calorimeter(calorimeter, cache=False)
    assert np.asarray(graph.near[0])[:3].tolist() == [1, 287, 288]
    cell, energy = np.array([0, 287, 285], np.int32), np.array([2, 1, 1], np.float32)
    found = clue_cells(graph, cell, energy, np.full(3, 2, np.float32))
    assert found.ids.tolist() == [0, 0, 0]
    step = 2 * np.pi / 288
    np.testing.assert_allclose(found.delta, [np.inf, step, 2 * step], rtol=1e-4)


def test_order_of_the_hits_does_not_matter(wedge):
    calorimeter, graph = wedge
    cell, energy, rho_c = random_event(calorimeter, 700, 7)
    found = clue_cells(graph, cell, energy, rho_c)
    order = np.random.default_rng(1).permutation(len(cell))
    other = clue_cells(graph, cell[order], energy[order], rho_c[order])
    np.testing.assert_array_equal(other.rho, found.rho[order])
    np.testing.assert_array_equal(other.is_seed, found.is_seed[order])
    seed_of = np.r_[np.flatnonzero(found.is_seed), -1][found.ids]
    np.testing.assert_array_equal(np.r_[order[np.flatnonzero(other.is_seed)], -1][other.ids], seed_of[order])
    # Clusters are numbered in the order of their seeds' rows.
    np.testing.assert_array_equal(found.ids[found.is_seed], np.arange(int(found.n_clusters)))


def test_endcaps_and_padding(wedge):
    calorimeter, graph = wedge
    cell, energy, rho_c = random_event(calorimeter, 700, 8)
    other, energy_there, rho_there = random_event(calorimeter, 700, 9)
    columns = [np.r_[a, b] for a, b in ((cell, other), (energy, energy_there), (rho_c, rho_there))]
    n = len(cell)
    backward = np.arange(len(columns[0])) >= n
    both = clue_cells(graph, *columns, backward=backward)
    one = clue_cells(graph, cell, energy, rho_c)
    two = clue_cells(graph, other, energy_there, rho_there, backward=np.ones(len(other), bool))
    np.testing.assert_array_equal(both.ids[:n], one.ids)
    there = np.where(two.ids < 0, -1, two.ids + one.n_clusters)
    np.testing.assert_array_equal(both.ids[n:], there)
    # Padding in between, with anything in it.
    padded = [
        np.insert(column, [3, 100], value) for column, value in zip(columns, (-7, np.nan, -1), strict=True)
    ]
    valid = np.insert(np.ones(len(backward), bool), [3, 100], False)
    found = clue_cells(graph, *padded, backward=np.insert(backward, [3, 100], False), valid=valid)
    np.testing.assert_array_equal(found.ids[valid], both.ids)
    assert found.ids[~valid].tolist() == [-1, -1]
    assert found.rho[~valid].tolist() == [0, 0]


def test_inside_a_program(wedge):
    calorimeter, graph = wedge
    events = [ordered_event(calorimeter, 700, seed) for seed in (1, 2)]
    size, capacity = 1024, CellCapacity(200, 900)

    def padded(column):
        return np.pad(column, (0, size - len(column)))

    batch = [np.stack([padded(column) for column in columns]) for columns in zip(*events, strict=True)]
    valid = np.stack([np.arange(size) < len(event[0]) for event in events])

    def one(*event):
        return clue_cells_padded(graph, *event, capacity=capacity)

    found = jax.jit(jax.vmap(one))(*batch, np.zeros_like(valid), valid)
    assert not found.overflow.any()
    for row, event in enumerate(events):
        n = len(event[0])
        expected = clue_cells(graph, *event)
        assert int(found.n_clusters[row]) == int(expected.n_clusters)
        # Numbered by row on both sides; ties follow the cells in both.
        np.testing.assert_array_equal(found.ids[row, :n], expected.ids)
        np.testing.assert_array_equal(found.nearest_higher[row, :n], expected.nearest_higher)
        assert (found.ids[row, n:] == -1).all()


def test_export(wedge):
    calorimeter, graph = wedge
    columns = ordered_event(calorimeter, 700, 3)
    n, capacity = len(columns[0]), CellCapacity(200, 300)

    def program(tables, hits):
        ones = np.ones(n, bool)
        found = clue_cells_padded(CellGraph(**tables), *hits, ~ones, ones, capacity=capacity, both=False)
        return found._asdict()

    exported = jax.export.export(jax.jit(program), platforms=["cpu", "cuda"])(graph._asdict(), columns)
    again = jax.export.deserialize(exported.serialize())
    found = again.call(graph._asdict(), columns)
    np.testing.assert_array_equal(found["ids"], clue_cells(graph, *columns).ids)


def test_capacities(wedge):
    calorimeter, graph = wedge
    columns = ordered_event(calorimeter, 700, 4)
    n = len(columns[0])
    expected = clue_cells(graph, *columns)
    ones = np.ones(n, bool)
    lengths = jax.jit(cluster_cells, static_argnames=("capacity", "both"))
    _, needed = lengths(graph, *columns, ~ones, ones, capacity=CellCapacity(n, n), both=False)
    more, far = (int(count) for count in needed)
    assert more > 1
    assert far > 1
    program = jax.jit(clue_cells_padded, static_argnames=("capacity", "both"))
    enough = program(graph, *columns, ~ones, ones, capacity=CellCapacity(more, far), both=False)
    assert not enough.overflow
    np.testing.assert_array_equal(enough.ids, expected.ids)
    for short in (CellCapacity(more - 1, far), CellCapacity(more, far - 1)):
        assert program(graph, *columns, ~ones, ones, capacity=short, both=False).overflow
    # On the host the event is repeated, and the next one has room at once.
    known = {bucket_size(n, 256, 2): CellCapacity(1, 1)}
    np.testing.assert_array_equal(clue_cells(graph, *columns, known=known).ids, expected.ids)
    assert all(capacity.more >= more and capacity.far >= far for capacity in known.values())


def test_small_events(wedge):
    calorimeter, graph = wedge
    none = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.float32)
    empty = clue_cells(graph, *none)
    assert empty.ids.shape == (0,)
    assert int(empty.n_clusters) == 0
    one = np.array([5], np.int32), np.array([3], np.float32)
    assert clue_cells(graph, *one, np.array([2], np.float32)).ids.tolist() == [0]
    assert clue_cells(graph, *one, np.array([4], np.float32)).ids.tolist() == [-1]
    all_padding = clue_cells(graph, *one, np.array([4], np.float32), valid=np.zeros(1, bool))
    assert all_padding.ids.tolist() == [-1]
    # All energies equal on a full layer: still one answer, that of the twin.
    cell = np.flatnonzero(calorimeter.layer == 46)[:150].astype(np.int32)
    equal = np.ones(len(cell), np.float32)
    assert_same(clue_cells(graph, cell, equal, 2 * equal), twin_clusters(calorimeter, cell, equal, 2 * equal))
    zero = clue_cells(graph, cell, 0 * equal, equal)
    assert (zero.ids == -1).all()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"energy": [1, np.nan, 1]}, "energy are not finite .* in row 1"),
        ({"energy": [1, 1, -2]}, "energy is -2.0 in row 2"),
        ({"rho_c": [-1, 1, 1]}, "rho_c is -1.0 in row 0"),
        ({"cell": [0, -1, 3]}, "cell is -1 in row 1: allowed are 0 to 24"),
        ({"cell": [0, 1, 25]}, "cell is 25 in row 2"),
        ({"cell": [4, 1, 4]}, "rows 0 and 2 are two hits in cell 4"),
    ],
)
def test_bad_hits(changes, match):
    graph = CellGraph.from_calorimeter(hexagons(5, 5), cache=False)
    columns = {"cell": [0, 1, 2], "energy": [1, 1, 1], "rho_c": [1, 1, 1]} | changes
    kinds = {"cell": np.int32, "energy": np.float32, "rho_c": np.float32}
    with pytest.raises(DataError, match=match):
        clue_cells(graph, *(np.asarray(column, kinds[name]) for name, column in columns.items()))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"d_c": 0.0}, "d_c = 0.0"),
        ({"tile_d_c": np.nan}, "tile_d_c = nan"),
        ({"outlier_delta_factor": 0.5}, "outlier_delta_factor = 0.5: allowed are values from 1 to 8"),
    ],
)
def test_bad_radii(settings, match):
    with pytest.raises(ConfigError, match=match):
        CellGraph.from_calorimeter(hexagons(2, 2), cache=False, **settings)


def test_graph_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    calorimeter = hexagons(4, 4, n_layers=2)
    first = CellGraph.from_calorimeter(calorimeter)
    (path,) = tmp_path.rglob("*.npz")
    monkeypatch.setattr("recon.hgcal_clustering.cell_graph.build_cell_graph", None)
    for one, other in zip(first, CellGraph.from_calorimeter(calorimeter), strict=True):
        np.testing.assert_array_equal(one, other)
    # Other radii or another calorimeter are another file, and a file that was cut short is made again.
    with pytest.raises(TypeError):
        CellGraph.from_calorimeter(calorimeter, 14.0)
    with pytest.raises(TypeError):
        CellGraph.from_calorimeter(hexagons(4, 5))
    path.write_bytes(path.read_bytes()[:-50])
    monkeypatch.undo()
    monkeypatch.setenv("RECON_CACHE", str(tmp_path))
    for one, other in zip(first, CellGraph.from_calorimeter(calorimeter), strict=True):
        np.testing.assert_array_equal(one, other)


def test_graph_is_the_definition(wedge):
    calorimeter, _ = wedge
    graph = build_cell_graph(calorimeter, 13.0, 0.0315, 2.0)
    rng = np.random.default_rng(0)
    for layer in (0, 20, 40, 46):
        cells = np.flatnonzero(calorimeter.layer == layer)
        cells = cells[rng.integers(0, max(len(cells) - 150, 1)) :][:150].astype(np.int32)
        i, j, apart = twin_pairs(calorimeter, cells)
        order = np.lexsort((cells[j], apart, i))
        wanted = np.array([cells[i], cells[j], np.rint(apart * 1000)]).T[order]
        inside = set(cells.tolist())
        for cell in cells:
            expected = wanted[wanted[:, 0] == cell]
            near = graph.near[cell]
            listed = near[near >= 0].tolist() if near[-1] >= 0 else [*near[:-1], *graph.more[-1 - near[-1]]]
            close = [k for k in listed if k in inside]
            assert close == expected[expected[:, 2] <= 1000, 1].tolist()
            far = [k for k in graph.far[graph.far_start[cell] : graph.far_start[cell + 1]] if k in inside]
            assert far == expected[expected[:, 2] > 1000, 1].tolist()


def test_no_new_program_for_an_event_of_about_the_same_size(wedge):
    calorimeter, graph = wedge
    known = {}
    columns = random_event(calorimeter, 700, 4)
    clue_cells(graph, *columns, known=known)
    before = module._cluster._cache_size()
    clue_cells(graph, *(column[:-20] for column in columns), known=known)
    assert module._cluster._cache_size() == before
