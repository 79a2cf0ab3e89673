"""What is demanded of events, rule by rule."""

import numpy as np
import pytest

from recon.errors import DataError
from recon.io.checks import check_event, track_hits
from recon.types import NOISE, Tracks

from .conftest import make_event


def spoiled(event, part, name, row, value):
    record = getattr(event, part)
    values = getattr(record, name).copy()
    values[row] = value
    return event._replace(**{part: record._replace(**{name: values})})


RULES = [
    ("hits", "position", np.nan, r"hit x y z is \[nan nan nan\] at hit row 5; it must be finite"),
    ("hits", "local", np.inf, "hit local is .* at hit row 5"),
    ("hits", "variance", np.nan, "hit variance is .* at hit row 5"),
    ("hits", "variance", -1e-9, "hit variance is .*must not be negative"),
    ("hits", "features", np.nan, "hit features is .* at hit row 5"),
    ("hits", "layer", 48, "hit_layer is 48 at hit row 5; allowed are 0 to 47"),
    ("hits", "layer", -1, "hit_layer is -1 at hit row 5"),
    ("hits", "module", 18728, r"hit_module is 18728 at hit row 5; allowed are -1 \(unknown\) to 18727"),
    ("hits", "module", -2, "hit_module is -2"),
    ("hits", "valid", False, "hits.valid is False at hit row 5; files hold unpadded events"),
    ("particles", "momentum", np.nan, "particle px py pz is .* at particle row 5"),
    ("particles", "vertex", np.inf, "particle vx vy vz is .* at particle row 5"),
    ("particles", "valid", False, "particles.valid is False at particle row 5"),
    ("particles", "hit_particle", 6, r"hit_particle is 6 at hit row 5; allowed are -1 \(noise\) .* 0 to 5"),
    ("particles", "hit_particle", -2, "hit_particle is -2 at hit row 5"),
]


@pytest.mark.parametrize(("part", "name", "value", "message"), RULES, ids=[f"{r[1]} {r[2]}" for r in RULES])
def test_rules(part, name, value, message, event):
    check_event(event, "here", n_layers=48, n_modules=18728)
    with pytest.raises(DataError, match=f"^here: {message}"):
        check_event(spoiled(event, part, name, 5, value), "here", n_layers=48, n_modules=18728)


def test_unknown_sensors_are_allowed(event):
    check_event(spoiled(event, "hits", "module", 5, NOISE), "here")


def test_truth_may_be_missing_for_noise_only(event):
    owned = np.flatnonzero(event.particles.hit_particle != NOISE)[0]
    with pytest.raises(DataError, match=f"hit tx ty tz is .* at hit row {owned}; only noise"):
        check_event(spoiled(event, "truth", "position", owned, np.nan), "here")


def test_several_bad_rows_are_counted(event):
    with pytest.raises(DataError, match=r"hit row 2 \(and 3 more\)"):
        check_event(spoiled(event, "hits", "position", slice(2, 6), np.nan), "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e._replace(hit_id=e.hit_id[:-1]), "40 hits by their position, but hit_id has 39"),
        (lambda e: e._replace(particle_id=e.particle_id[:-1]), "5 values of particle_id for 6 particles"),
        (lambda e: e._replace(hits=e.hits._replace(layer=e.hits.layer[:3])), r"hits\.layer has 3"),
        (lambda e: e._replace(truth=e.truth._replace(order=e.truth.order[:3])), r"truth\.order has 3"),
    ],
)
def test_lengths(change, message, event):
    with pytest.raises(DataError, match=message):
        check_event(change(event), "here")


def test_identifiers_are_unique(event):
    ids = event.particle_id.copy()
    ids[4] = ids[1]
    with pytest.raises(DataError, match=f"particle_id {ids[1]} occurs at particle rows 1, 4"):
        check_event(event._replace(particle_id=ids), "here")


def test_empty_event(detector):
    check_event(make_event(detector, n_hits=0, n_particles=0), "here")


def test_hits_of_tracks_against_a_loop(detector):
    event = make_event(detector, 3, n_hits=60)
    rng = np.random.default_rng(0)
    hit_track = rng.integers(-1, 4, 60).astype(np.int32)
    n_hits = np.bincount(hit_track[hit_track >= 0], minlength=5).astype(np.int32)
    tracks = Tracks(
        hit_track,
        np.zeros((5, 5), np.float32),
        np.zeros((5, 5, 5), np.float32),
        np.zeros(5, np.float32),
        n_hits,
        np.ones(5, bool),
    )
    members = track_hits(event, tracks)
    radius = np.linalg.norm(event.hits.position.astype(float), axis=1)
    assert len(members) == 5
    for track, rows in enumerate(members):
        assert rows.tolist() == sorted(np.flatnonzero(hit_track == track), key=lambda row: radius[row])
