"""Calorimeter events in ROOT files: what is written is read, and bad files are named."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.errors import ConfigError, DataError
from recon.io.root import read_metadata, write_events
from recon.io.root_rechits import HITS, columns_of, count_rechit_events, read_rechits, write_rechits
from recon.types import CalorimeterEvent, HitTimes, RecHits, ShowerTruth

LAYOUTS = ("ttree", "rntuple")


def make_event(number=7, n_hits=50, n_particles=4, truth=True, seed=0, times=False):
    """An event of random hits, of which two in three are shared between two particles."""
    rng = np.random.default_rng([seed, number])
    hits = RecHits(
        position=rng.normal(0.0, 1000.0, (n_hits, 3)).astype(np.float32),
        energy=rng.exponential(1.0, n_hits).astype(np.float32),
        layer=rng.integers(0, 47, n_hits).astype(np.int32),
        cell=rng.integers(-1, 1000, n_hits).astype(np.int32),
        sigma_noise=np.full(n_hits, 0.01, np.float32),
        valid=np.ones(n_hits, bool),
    )
    measured = times_of(n_hits, np.random.default_rng([seed, number, 1])) if times else None
    if not truth:
        return CalorimeterEvent(number, hits, None, measured)
    hit = np.repeat(np.arange(n_hits) if n_particles else np.zeros(0, int), 2)
    hit = hit[hit % 3 > 0].astype(np.int32)
    shower_truth = ShowerTruth(
        momentum=rng.normal(0.0, 10.0, (n_particles, 3)).astype(np.float32),
        vertex=rng.normal(0.0, 50.0, (n_particles, 3)).astype(np.float32),
        charge=rng.integers(-1, 2, n_particles).astype(np.int32),
        pdg=rng.choice([22, 211, -211, 130], n_particles).astype(np.int32),
        hard_scatter=rng.random(n_particles) < 0.5,
        hit=hit,
        particle=(np.arange(len(hit)) % max(n_particles, 1)).astype(np.int32),
        fraction=rng.uniform(0.0, 0.5, len(hit)).astype(np.float32),
    )
    return CalorimeterEvent(number, hits, shower_truth, measured)


def times_of(n_hits, rng):
    """Times of about half of the hits."""
    there = rng.random(n_hits) < 0.5
    time = np.where(there, rng.normal(0.0, 0.2, n_hits), np.nan)
    return HitTimes(time.astype(np.float32), np.where(there, 0.06, np.nan).astype(np.float32))


def assert_same_event(one, other):
    """Equal to the bit, types included."""
    assert one.number == other.number
    for part in ("hits", "truth", "times"):
        assert (getattr(one, part) is None) == (getattr(other, part) is None), part
        if getattr(one, part) is None:
            continue
        for name, values in getattr(one, part)._asdict().items():
            theirs = getattr(getattr(other, part), name)
            assert values.dtype == theirs.dtype, name
            np.testing.assert_array_equal(values, theirs, err_msg=name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("times", [True, False])
def test_events_survive_the_file(tmp_path, layout, truth, times):
    events = [make_event(number, n_hits=30 * number, truth=truth, times=times) for number in (3, 1, 9)]
    path = tmp_path / "hits.root"
    assert write_rechits(path, events, layout=layout, metadata={"seed": 5}, n_layers=47, n_cells=1000) == 3
    read = list(read_rechits(path))
    assert len(read) == 3
    for one, other in zip(events, read, strict=True):
        assert_same_event(one, other)
    assert count_rechit_events(path) == 3
    metadata = read_metadata(path)
    assert metadata["seed"] == 5
    assert metadata["recon"]["schema"] == "recon.rechits"
    assert metadata["recon"]["n_cells"] == 1000


@pytest.mark.parametrize("layout", LAYOUTS)
def test_empty_events_and_empty_files(tmp_path, layout):
    path = tmp_path / "hits.root"
    events = [make_event(0, n_hits=0), make_event(1, n_hits=4, n_particles=0), make_event(2)]
    write_rechits(path, events, layout=layout)
    for one, other in zip(events, read_rechits(path), strict=True):
        assert_same_event(one, other)
    assert write_rechits(path, [], layout=layout) == 0
    assert list(read_rechits(path)) == []


def test_a_part_of_a_file(tmp_path):
    path = tmp_path / "hits.root"
    write_rechits(path, (make_event(number) for number in range(6)))
    assert [event.number for event in read_rechits(path, entry_start=2, entry_stop=4)] == [2, 3]
    assert [event.number for event in read_rechits(path, entry_start=5, entry_stop=99)] == [5]


def test_files_open_anywhere(tmp_path):
    """Jagged branches with their counters, for programs that know nothing of this package."""
    path = tmp_path / "hits.root"
    event = make_event()
    write_rechits(path, [event])
    with uproot.open(path) as file:
        arrays = file["rechits"].arrays(library="np")
    assert arrays["n_hits"][0] == len(event.hits.energy)
    np.testing.assert_array_equal(arrays["hit_energy"][0], event.hits.energy)
    np.testing.assert_array_equal(arrays["share_fraction"][0], event.truth.fraction)
    assert arrays["n_particles"][0] == len(event.truth.pdg)


def test_truth_in_all_events_or_in_none(tmp_path):
    path = tmp_path / "hits.root"
    with pytest.raises(DataError, match=r"hits.root, event 2: has no truth, other than those before"):
        write_rechits(path, [make_event(1), make_event(2, truth=False)])
    with pytest.raises(DataError, match=r"event 2: has truth"):
        write_rechits(path, [make_event(1, truth=False), make_event(2)])
    assert not path.exists()


def test_times_in_all_events_or_in_none(tmp_path):
    path = tmp_path / "hits.root"
    with pytest.raises(DataError, match=r"hits.root, event 2: has no times, other than those before"):
        write_rechits(path, [make_event(1, times=True), make_event(2)])
    with pytest.raises(DataError, match=r"event 2: has times"):
        write_rechits(path, [make_event(1), make_event(2, times=True)])
    assert not path.exists()


def test_half_of_the_times(tmp_path):
    path = tmp_path / "hits.root"
    columns = columns_of(make_event(times=True))
    del columns["hit_time_error"]
    with uproot.recreate(path) as file:
        counters = {"n_hits": len(columns["hit_x"]), "n_particles": 4, "n_shares": len(columns["share_hit"])}
        jagged = {name: ak.Array([column]) for name, column in columns.items()}
        file["rechits"] = {"event_number": np.array([7], np.uint64), **jagged} | {
            name: np.array([count], np.int32) for name, count in counters.items()
        }
    with pytest.raises(DataError, match=r"hit_time_error"):
        list(read_rechits(path))


def test_bad_events_are_not_written(tmp_path):
    path = tmp_path / "hits.root"
    event = make_event()
    bad = event._replace(hits=event.hits._replace(energy=-event.hits.energy))
    with pytest.raises(DataError, match=r"hits.root, event 7: hit_energy is -.* at hit row 0"):
        write_rechits(path, [bad])
    with pytest.raises(DataError, match=r"hit_layer is .*; allowed are 0 to 19"):
        write_rechits(path, [event], n_layers=20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_truncated_files(tmp_path, layout, share):
    path = tmp_path / "hits.root"
    write_rechits(path, [make_event(number) for number in range(20)], layout=layout)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"hits.root: (not a ROOT file|truncated)"):
        list(read_rechits(path))


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"none.root: no such file"):
        count_rechit_events(tmp_path / "none.root")
    with pytest.raises(ConfigError, match="does not exist"):
        write_rechits(tmp_path / "folder" / "hits.root", [make_event()])


def test_files_of_someone_else(tmp_path):
    path = tmp_path / "other.root"
    with uproot.recreate(path) as file:
        file["tree"] = {"x": np.arange(3.0)}
    with pytest.raises(
        DataError, match=r"other.root: expected a TTree or RNTuple called 'rechits', found tree"
    ):
        list(read_rechits(path))
    write_events(path, [])
    with pytest.raises(DataError, match=r"called 'rechits', found .*events"):
        count_rechit_events(path)


def write_tree(path, **columns):
    with uproot.recreate(path) as file:
        file.mktree("rechits", {name: values.dtype for name, values in columns.items()})
        file["rechits"].extend(columns)


def test_missing_and_mistyped_columns_are_named(tmp_path):
    path = tmp_path / "hits.root"
    write_tree(path, event_number=np.arange(2), n_hits=np.ones(2, np.int32), hit_x=np.ones(2))
    with pytest.raises(
        DataError, match=r"hits.root: 'rechits' lacks the branches \['hit_y', 'hit_z', 'hit_energy'"
    ):
        list(read_rechits(path))
    scalars = {name: np.ones(2) for name in HITS}
    write_tree(path, event_number=np.arange(2), n_hits=np.ones(2, np.int32), **scalars)
    with pytest.raises(DataError, match=r"branch hit_x: expected a list of float32 an entry"):
        list(read_rechits(path))


def test_half_of_the_truth_is_none(tmp_path):
    path = tmp_path / "hits.root"
    columns = {name: np.ones(1) for name in (*HITS, "share_hit")}
    write_tree(path, event_number=np.arange(1), n_hits=np.ones(1, np.int32), **columns)
    with pytest.raises(DataError, match=r"lacks the branches \['particle_px'"):
        list(read_rechits(path))
