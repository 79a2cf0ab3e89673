"""ROOT files of tracks: valid tracks come back, padding does not, hits are found again by identifier."""

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.errors import DataError
from recon.io.checks import compact_tracks
from recon.io.root import read_metadata, read_tracks, tracks_of_event, write_events, write_tracks
from recon.types import NOISE, Tracks

from .conftest import make_event, make_tracks

LAYOUTS = ("ttree", "rntuple")
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def assert_same_tracks(left: Tracks, right: Tracks) -> None:
    for name in Tracks._fields:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=4),
    seed=st.integers(0, 2**31),
    layout=st.sampled_from(LAYOUTS),
)
def test_round_trip(sizes, seed, layout, detector, tmp_path):
    events = [make_event(detector, seed + i, n_hits=n, number=i) for i, (n, _) in enumerate(sizes)]
    tracks = [make_tracks(e, seed, capacity=t) for e, (_, t) in zip(events, sizes, strict=True)]
    path = tmp_path / "tracks.root"
    written = write_tracks(path, zip(events, tracks, strict=True), layout=layout, metadata={"model": "a"})
    assert written == sum(int(t.valid.sum()) for t in tracks)
    assert read_metadata(path)["model"] == "a"
    stored = list(read_tracks(path))
    assert [s.number for s in stored] == [e.number for e in events]
    for event, given_tracks, read in zip(events, tracks, stored, strict=True):
        assert_same_tracks(compact_tracks(event, given_tracks, ""), tracks_of_event(read, event))


@layouts
def test_columns_for_other_programs(layout, event, tmp_path):
    tracks = make_tracks(event, 3)
    write_tracks(tmp_path / "t.root", [(event, tracks)], layout=layout, metadata={})
    with uproot.open(tmp_path / "t.root") as file:
        entry = file["tracks"].arrays()[0]
    d0, z0, phi, theta, q_over_p = tracks.parameters[tracks.valid].astype(np.float64).T
    np.testing.assert_allclose(entry["track_pt"], np.abs(1 / q_over_p) * np.sin(theta), rtol=1e-5)
    np.testing.assert_allclose(entry["track_eta"], np.arctanh(np.cos(theta)), rtol=1e-4, atol=1e-5)
    for name, values in (("d0", d0), ("z0", z0), ("phi", phi), ("theta", theta), ("qoverp", q_over_p)):
        np.testing.assert_allclose(entry[f"track_{name}"], values, rtol=1e-6)
    covariance = tracks.covariance[tracks.valid]
    np.testing.assert_array_equal(entry["track_cov_z0_theta"], covariance[:, 1, 3])
    np.testing.assert_array_equal(entry["track_var_qoverp"], covariance[:, 4, 4])
    np.testing.assert_array_equal(entry["track_ndof"], 2 * tracks.n_hits[tracks.valid] - 5)


def test_hits_are_listed_from_the_inside_out(event, tmp_path):
    write_tracks(tmp_path / "t.root", [(event, make_tracks(event, 3))], metadata={})
    (stored,) = read_tracks(tmp_path / "t.root")
    radius = dict(zip(event.hit_id.tolist(), np.linalg.norm(event.hits.position, axis=1), strict=True))
    for first, count in zip(stored.first_hit, stored.n_hits, strict=True):
        along = [radius[hit] for hit in stored.hit_id[first : first + count].tolist()]
        assert along == sorted(along)


def test_permuting_hits_permutes_hit_track(event, tmp_path):
    """The hits of a track are found by identifier, so another order of hits in the event is no matter."""
    tracks = make_tracks(event, 5)
    write_tracks(tmp_path / "t.root", [(event, tracks)], metadata={})
    (stored,) = read_tracks(tmp_path / "t.root")
    order = np.random.default_rng(0).permutation(len(event.hit_id))
    shuffled = event._replace(hit_id=event.hit_id[order])
    expected = tracks_of_event(stored, event).hit_track[order]
    np.testing.assert_array_equal(tracks_of_event(stored, shuffled).hit_track, expected)


def test_jax_arrays_and_failed_fits(event, tmp_path):
    """What comes out of a compiled program is written as it is; NaN marks a fit that failed."""
    tracks = make_tracks(event, 3)
    parameters = tracks.parameters.copy()
    failed = np.flatnonzero(tracks.valid)[0]
    parameters[failed] = np.nan
    on_device = Tracks(*(jnp.asarray(values) for values in tracks._replace(parameters=parameters)))
    write_tracks(tmp_path / "t.root", [(event, on_device)], metadata={})
    (stored,) = read_tracks(tmp_path / "t.root")
    np.testing.assert_array_equal(stored.parameters, parameters[tracks.valid])


def change(tracks, name, row, value):
    values = getattr(tracks, name).copy()
    values[row] = value
    return tracks._replace(**{name: values})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: change(t, "hit_track", 4, 7), "hit_track is 7 at hit row 4"),
        (lambda t: change(t, "hit_track", 4, -2), "hit_track is -2 at hit row 4"),
        (lambda t: change(t, "hit_track", 4, np.flatnonzero(~t.valid)[0]), r"hit row 4.*valid tracks"),
        (lambda t: change(t, "hit_track", -1, np.flatnonzero(t.valid)[0]), "hit_track of padding"),
        (lambda t: change(t, "n_hits", np.flatnonzero(t.valid)[0], 99), "n_hits is 99 at track row"),
        (lambda t: change(t, "parameters", np.flatnonzero(t.valid)[0], np.inf), "finite or NaN"),
        (lambda t: t._replace(hit_track=t.hit_track[:10]), "hit_track has 10 rows for 40 hits of event 3"),
    ],
)
def test_tracks_of_another_event_are_refused(spoil, message, event, tmp_path):
    tracks = make_tracks(event, 3)
    assert (~tracks.valid).any()
    with pytest.raises(DataError, match=message):
        write_tracks(tmp_path / "t.root", [(event, spoil(tracks))], metadata={})
    assert list(tmp_path.iterdir()) == []


def test_finding_hits_in_the_wrong_event(event, detector, tmp_path):
    write_tracks(tmp_path / "t.root", [(event, make_tracks(event, 3))], metadata={})
    (stored,) = read_tracks(tmp_path / "t.root")
    with pytest.raises(DataError, match="tracks of event 3 cannot belong to event 8"):
        tracks_of_event(stored, make_event(detector, number=8))
    with pytest.raises(DataError, match="the event has no hit"):
        tracks_of_event(stored, make_event(detector, 77, number=3))
    doubled = stored._replace(hit_id=np.full_like(stored.hit_id, stored.hit_id[0]))
    with pytest.raises(DataError, match="a hit lies on two tracks"):
        tracks_of_event(doubled, event)


def test_events_are_no_tracks(event, tmp_path):
    write_events(tmp_path / "e.root", [event], metadata={})
    with pytest.raises(DataError, match=r"called 'tracks', found .*events"):
        next(read_tracks(tmp_path / "e.root"))


def test_offsets_that_do_not_cover_the_hits(event, tmp_path):
    write_tracks(tmp_path / "t.root", [(event, make_tracks(event, 3))], layout="rntuple", metadata={})
    with uproot.open(tmp_path / "t.root") as file:
        arrays = file["tracks"].arrays()
    columns = {name: arrays[name] for name in arrays.fields}
    columns["track_first_hit"] = ak.values_astype(columns["track_first_hit"] + 1, np.int32)
    with uproot.recreate(tmp_path / "spoiled.root") as file:
        file.mkrntuple("tracks", columns)
    with pytest.raises(DataError, match=r"event 3 \(entry 0\): track_first_hit and track_n_hits do not"):
        next(read_tracks(tmp_path / "spoiled.root"))


def test_no_tracks_at_all(event, tmp_path):
    nothing = make_tracks(event, 0, capacity=0)
    assert (nothing.hit_track == NOISE).all()
    assert write_tracks(tmp_path / "t.root", [(event, nothing)], metadata={}) == 0
    (stored,) = read_tracks(tmp_path / "t.root")
    assert stored.parameters.shape == (0, 5)
