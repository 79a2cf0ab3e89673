"""Every rule about calorimeter events, broken once."""

from __future__ import annotations

import numpy as np
import pytest

from recon.errors import DataError
from recon.io.rechit_checks import check_calorimeter_event
from recon.types import CalorimeterEvent, HitTimes, RecHits, ShowerTruth


@pytest.fixture
def event():
    hits = RecHits(
        position=np.arange(9, dtype=np.float32).reshape(3, 3),
        energy=np.ones(3, np.float32),
        layer=np.array([0, 1, 2], np.int32),
        cell=np.array([5, -1, 7], np.int32),
        sigma_noise=np.zeros(3, np.float32),
        valid=np.ones(3, bool),
    )
    truth = ShowerTruth(
        momentum=np.ones((2, 3), np.float32),
        vertex=np.zeros((2, 3), np.float32),
        charge=np.zeros(2, np.int32),
        pdg=np.full(2, 22, np.int32),
        hard_scatter=np.ones(2, bool),
        hit=np.array([0, 0, 2], np.int32),
        particle=np.array([0, 1, 1], np.int32),
        fraction=np.array([0.5, 0.5, 1.0], np.float32),
    )
    return CalorimeterEvent(4, hits, truth)


def changed(values, row, value):
    copy = values.copy()
    copy[row] = value
    return copy


def test_a_good_event_passes(event):
    check_calorimeter_event(event, "here")
    check_calorimeter_event(event, "here", n_layers=3, n_cells=8)
    check_calorimeter_event(event._replace(truth=None), "here")


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("position", 1, np.nan, "here: hit x y z is .* at hit row 1; it must be finite"),
        ("energy", 2, np.inf, "here: hit_energy is inf at hit row 2; it must be finite"),
        ("energy", 0, -1.0, "hit_energy is -1.0 at hit row 0; it must not be negative"),
        ("sigma_noise", 0, np.nan, "hit_sigma_noise is nan"),
        ("sigma_noise", 0, -0.1, "hit_sigma_noise is -0.1"),
        ("layer", 1, -1, "hit_layer is -1 at hit row 1; allowed are 0 to 2"),
        ("layer", 1, 3, "hit_layer is 3"),
        ("cell", 2, 8, "hit_cell is 8 at hit row 2; allowed are -1 to 7"),
        ("cell", 2, -2, "hit_cell is -2"),
        ("valid", 0, False, "files hold unpadded events"),
    ],
)
def test_bad_hits(event, column, row, value, message):
    hits = event.hits._replace(**{column: changed(getattr(event.hits, column), row, value)})
    with pytest.raises(DataError, match=message):
        check_calorimeter_event(event._replace(hits=hits), "here", n_layers=3, n_cells=8)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("momentum", 1, np.nan, "particle px py pz is .* at particle row 1"),
        ("vertex", 0, np.inf, "particle vx vy vz"),
        ("hit", 2, 3, "share_hit is 3 at share 2; the event has 3, counted from 0"),
        ("hit", 0, 1, "share_hit is 0 at share 1; shares are sorted by hit"),
        ("particle", 0, 2, "share_particle is 2 at share 0; the event has 2"),
        ("particle", 0, -1, "share_particle is -1"),
        ("fraction", 1, 1.5, "share_fraction is 1.5 at share 1; allowed are 0 to 1"),
        ("fraction", 1, np.nan, "share_fraction is nan"),
    ],
)
def test_bad_truth(event, column, row, value, message):
    truth = event.truth._replace(**{column: changed(getattr(event.truth, column), row, value)})
    with pytest.raises(DataError, match=message):
        check_calorimeter_event(event._replace(truth=truth), "here")


def test_lengths_and_number(event):
    check_calorimeter_event(event._replace(number=0), "here")
    with pytest.raises(DataError, match="the event number is -1"):
        check_calorimeter_event(event._replace(number=-1), "here")
    hits = event.hits._replace(cell=event.hits.cell[:2])
    with pytest.raises(DataError, match=r"columns of the hits have different lengths: .*'cell': 2"):
        check_calorimeter_event(event._replace(hits=hits), "here")
    truth = event.truth._replace(fraction=event.truth.fraction[:1])
    with pytest.raises(DataError, match=r"columns of the truth have different lengths: .*'fraction': 1"):
        check_calorimeter_event(event._replace(truth=truth), "here")


def timed(event, time=0.1, error=0.06, rows=3):
    times = HitTimes(np.full(rows, time, np.float32), np.full(rows, error, np.float32))
    return event._replace(times=times)


def test_times_or_none_of_them(event):
    check_calorimeter_event(timed(event), "here")
    check_calorimeter_event(timed(event, time=np.nan, error=np.nan), "here")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": np.inf}, "here: hit_time is inf at hit row 0 .*; it must be finite, or NaN for none"),
        (
            {"error": 0.0},
            "here: hit_time_error is 0.0 at hit row 0 .*; with a time it must be above 0 and finite",
        ),
        ({"error": np.nan}, "hit_time_error is nan"),
        ({"error": np.inf}, "hit_time_error is inf"),
        ({"rows": 2}, "here: times have lengths .*'time': 2.*; the event has 3 hits"),
    ],
)
def test_bad_times(event, changes, message):
    with pytest.raises(DataError, match=message):
        check_calorimeter_event(timed(event, **changes), "here")
