"""ROOT files of showers: what goes in comes out, and rows that do not exist stay out."""

from __future__ import annotations

import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.errors import ConfigError, DataError
from recon.io.root import read_metadata
from recon.io.root_showers import StoredShowers, read_showers, write_showers
from recon.types import NOISE, Clusters, Tracksters

LAYOUTS = ("ttree", "rntuple")
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def rows(rng, n, end):
    """Rows of something with `end` entries; none where there is nothing."""
    return rng.integers(NOISE, end, n).astype(np.int32)


def make_showers(seed, n_hits=9, n_clusters=5, n_tracksters=3, number=0, layered=True):
    rng = np.random.default_rng(seed)

    def real(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def seeds(n, end):
        return rng.integers(0, max(end, 1), n).astype(np.int32)

    members = n_clusters if layered else n_hits
    clusters = Clusters(
        rows(rng, n_hits, n_clusters), real(n_clusters, 3), real(n_clusters), seeds(n_clusters, 9),
        seeds(n_clusters, 47), seeds(n_clusters, n_hits), np.ones(n_clusters, bool),
    )  # fmt: skip
    hit_trackster = rows(rng, n_hits, n_tracksters)
    tracksters = Tracksters(
        rows(rng, members, n_tracksters) if layered else hit_trackster, 1 + real(n_tracksters, 3) ** 2,
        real(n_tracksters, 3, 3), real(n_tracksters, 3), real(n_tracksters), real(n_tracksters),
        seeds(n_tracksters, 9), seeds(n_tracksters, members), np.ones(n_tracksters, bool),
    )  # fmt: skip
    return StoredShowers(number, hit_trackster, tracksters, clusters if layered else None)


def assert_same(one, other):
    assert one.number == other.number
    np.testing.assert_array_equal(one.hit_trackster, other.hit_trackster)
    assert (one.clusters is None) == (other.clusters is None)
    for ours, theirs in ((one.tracksters, other.tracksters), (one.clusters or (), other.clusters or ())):
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 6), st.integers(0, 4)), max_size=4),
    seed=st.integers(0, 2**31),
    layered=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
def test_round_trip(sizes, seed, layered, layout, tmp_path):
    events = [
        make_showers(seed + number, *size, number=number, layered=layered)
        for number, size in enumerate(sizes)
    ]
    path = tmp_path / "showers.root"
    written = write_showers(path, events, layout=layout, metadata={"algorithm": "clue3d"})
    assert written == sum(size[2] for size in sizes)
    assert read_metadata(path)["algorithm"] == "clue3d"
    found = list(read_showers(path))
    assert len(found) == len(events)
    for one, other in zip(events, found, strict=True):
        assert_same(one, other)
    assert [event.number for event in read_showers(path, entry_start=1, entry_stop=2)] == list(
        range(1, min(2, len(events)))
    )


@layouts
def test_an_event_without_hits(layout, tmp_path):
    empty = make_showers(0, 0, 0, 0)
    write_showers(tmp_path / "s.root", [empty], layout=layout)
    assert_same(next(read_showers(tmp_path / "s.root")), empty)


def test_columns_for_other_programs(tmp_path):
    event = make_showers(3)
    write_showers(tmp_path / "s.root", [event])
    with uproot.open(tmp_path / "s.root") as file:
        entry = file["showers"].arrays()[0]
    x, y, z = event.tracksters.position.T.astype(float)
    np.testing.assert_allclose(entry["trackster_eta"], np.arcsinh(z / np.hypot(x, y)), rtol=1e-5)
    np.testing.assert_allclose(entry["trackster_phi"], np.arctan2(y, x), rtol=1e-5)
    np.testing.assert_array_equal(entry["trackster_axis1_z"], event.tracksters.axes[:, 1, 2])
    np.testing.assert_array_equal(entry["cluster_trackster"], event.tracksters.member_trackster)
    assert entry["n_hits"] == 9


def changed(event, part, name, row, value):
    holder = getattr(event, part) if part else event
    column = getattr(holder, name).copy()
    column[row] = value
    new = holder._replace(**{name: column})
    return event._replace(**{part: new}) if part else new


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("", "hit_trackster", 3, "hit_trackster is 3 at row 1; allowed are -1 to 2"),
        ("", "hit_trackster", -2, "hit_trackster is -2 at row 1"),
        ("clusters", "member_cluster", 5, "hit_cluster is 5 at row 1; allowed are -1 to 4"),
        ("tracksters", "member_trackster", 7, "cluster_trackster is 7 at row 1"),
        ("clusters", "seed", 9, "cluster_seed is 9 at row 1; allowed are 0 to 8"),
        ("tracksters", "seed", -1, "trackster_seed is -1 at row 1; allowed are 0 to 4"),
        ("tracksters", "valid", False, "files hold no padding"),
    ],
)
def test_rows_that_do_not_exist_are_named(part, name, value, message, tmp_path):
    with pytest.raises(DataError, match=message):
        write_showers(tmp_path / "s.root", [changed(make_showers(1), part, name, 1, value)])
    assert list(tmp_path.iterdir()) == []


def test_layer_clusters_in_some_events_only(tmp_path):
    with pytest.raises(DataError, match="event 1: has no layer clusters, other than those before"):
        write_showers(tmp_path / "s.root", [make_showers(1), make_showers(2, number=1, layered=False)])
    with pytest.raises(DataError, match="event 1: has layer clusters"):
        write_showers(tmp_path / "s.root", [make_showers(1, layered=False), make_showers(2, number=1)])


def test_what_cannot_be_written_or_read(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        write_showers(tmp_path / "no" / "s.root", [])
    with pytest.raises(DataError, match="no such file"):
        next(read_showers(tmp_path / "s.root"))
    path = tmp_path / "s.root"
    write_showers(path, [make_showers(1)])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated"):
        next(read_showers(path))


def test_a_file_of_something_else(tmp_path):
    path = tmp_path / "s.root"
    with uproot.recreate(path) as file:
        file.mktree("showers", {"hit_trackster": "int32"})
    with pytest.raises(DataError, match="lacks the branches"):
        next(read_showers(path))
