"""Tracks in the columns of the CsvTrackWriter of ACTS."""

import csv

import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.io.acts_csv import COLUMNS
from recon.io.checks import compact_tracks
from recon.io.trackml import read_tracks_acts_csv, write_tracks_acts_csv
from recon.types import NOISE, Tracks

from .conftest import make_event, make_tracks


def read_rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("seed", range(4))
def test_round_trip(seed, detector, tmp_path):
    event = make_event(detector, seed)
    tracks = make_tracks(event, seed)
    write_tracks_acts_csv(tmp_path / "t.csv", event, tracks)
    back = read_tracks_acts_csv(tmp_path / "t.csv", event)
    expected = compact_tracks(event, tracks, "")
    for name in ("hit_track", "parameters", "chi2", "n_hits", "valid"):
        np.testing.assert_array_equal(getattr(back, name), getattr(expected, name), err_msg=name)
    assert np.isnan(back.covariance).all()


@pytest.fixture
def four_tracks(detector):
    """Track 0: three of particle 1 and one of 2; 1: two of particle 1; 2: noise; 3: one of each of three."""
    event = make_event(detector, n_hits=12, n_particles=3)
    owner = np.array([1, 1, 1, 2, 1, 1, NOISE, NOISE, NOISE, 0, 1, 2], np.int32)
    hit_track = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3], np.int32)
    tracks = make_tracks(event, 0, capacity=4)._replace(
        hit_track=hit_track, n_hits=np.array([4, 2, 3, 3], np.int32), valid=np.ones(4, bool)
    )
    return event._replace(particles=event.particles._replace(hit_particle=owner)), tracks


def test_columns_by_hand(four_tracks, tmp_path):
    event, tracks = four_tracks
    write_tracks_acts_csv(tmp_path / "t.csv", event, tracks)
    rows = read_rows(tmp_path / "t.csv")
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    assert [row["track_id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["good/duplicate/fake"] for row in rows] == ["good", "duplicate", "fake", "fake"]
    assert [int(row["nMajorityHits"]) for row in rows] == [3, 2, 0, 1]
    assert [int(row["nMeasurements"]) for row in rows] == [4, 2, 3, 3]
    assert [float(row["truthMatchProbability"]) for row in rows] == pytest.approx([0.75, 1, 0, 1 / 3])
    assert [int(row["particleId"]) for row in rows[:3]] == [event.particle_id[1], event.particle_id[1], 0]
    assert [int(row["ndf"]) for row in rows] == [3, -1, 1, 1]
    theta, q_over_p = tracks.parameters[:, 3:].T.astype(float)
    np.testing.assert_allclose(
        [float(row["pT"]) for row in rows], np.sin(theta) / np.abs(q_over_p), rtol=1e-6
    )
    np.testing.assert_allclose([float(row["eta"]) for row in rows], np.arctanh(np.cos(theta)), rtol=1e-5)
    hits = [int(text) for text in rows[0]["Hits_ID"].strip("[]").split(",") if text]
    assert sorted(hits) == sorted(event.hit_id[:4].tolist())


def test_stricter_matching(four_tracks, tmp_path):
    event, tracks = four_tracks
    write_tracks_acts_csv(tmp_path / "t.csv", event, tracks, truth_match_probability=0.8)
    kinds = [row["good/duplicate/fake"] for row in read_rows(tmp_path / "t.csv")]
    assert kinds == ["fake", "good", "fake", "fake"]


def test_the_lower_chi2_wins_among_equals(four_tracks, tmp_path):
    event, tracks = four_tracks
    owner = np.array([1, 1, NOISE, NOISE, 1, 1, *[NOISE] * 6], np.int32)
    event = event._replace(particles=event.particles._replace(hit_particle=owner))
    for chi2, expected in (([1, 9, 0, 0], ["good", "duplicate"]), ([9, 1, 0, 0], ["duplicate", "good"])):
        write_tracks_acts_csv(tmp_path / "t.csv", event, tracks._replace(chi2=np.array(chi2, np.float32)))
        assert [row["good/duplicate/fake"] for row in read_rows(tmp_path / "t.csv")[:2]] == expected


def test_data_have_only_fakes(event, tmp_path):
    event = event._replace(particles=None, truth=None)
    write_tracks_acts_csv(tmp_path / "t.csv", event, make_tracks(event, 3))
    rows = read_rows(tmp_path / "t.csv")
    assert {row["good/duplicate/fake"] for row in rows} == {"fake"}
    assert {row["particleId"] for row in rows} == {"0"}


ACTS_LINES = [
    ",".join(COLUMNS),
    '0,4,4503599644147712,5,5,5,0,0,0,7.5,5,1.5,2.5,1,0.75,1,good,"[1,4,7,]"',
    '1,2,4503599644147713,3,2,3,0,0,0,1.5,1,1.5,0.5,-1,-2,0.6,duplicate,"[9,2,]"',
]


@pytest.fixture
def small_event(detector):
    event = make_event(detector, n_hits=10)
    return event._replace(hit_id=np.arange(10, dtype=np.uint64))


def test_a_file_of_acts(small_event, tmp_path):
    """No d0, z0 and charge in it: NaN; theta follows from eta."""
    (tmp_path / "t.csv").write_text("\n".join(ACTS_LINES) + "\n")
    tracks = read_tracks_acts_csv(tmp_path / "t.csv", small_event)
    assert tracks.hit_track.tolist() == [-1, 0, 1, -1, 0, -1, -1, 0, -1, 1]
    assert tracks.n_hits.tolist() == [3, 2]
    np.testing.assert_allclose(tracks.chi2, [7.5, 1.5])
    np.testing.assert_allclose(tracks.parameters[:, 2], [0.75, -2])
    np.testing.assert_allclose(np.cos(tracks.parameters[:, 3]), np.tanh([1, -1]), rtol=1e-6)
    assert np.isnan(tracks.parameters[:, [0, 1, 4]]).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Hits_ID", "hits", r"line 1: columns \['Hits_ID'\] are missing"),
        ("[9,2,]", "[9,3x,]", "line 3, column Hits_ID: '.9,3x,.' is no list"),
        ("[9,2,]", "[9,-3,]", "line 3, column Hits_ID: '.9,-3,.' is no list"),
        ("[9,2,]", "[9,11,]", "line 3, column Hits_ID: event 3 has no hit 11"),
        ("[9,2,]", "[9,4,]", "line 3, column Hits_ID: a hit lies on two tracks"),
        ("[9,2,]", "[9,9,]", "line 3, column Hits_ID: a hit lies on two tracks or twice"),
        (",7.5,", ",7.5.1,", "line 2, column chi2: '7.5.1' is not a number"),
        (",-2,", ",,", "line 3, column phi: '' is not a number"),
        (",duplicate,", ",", "line 3: 17 cells where the header has 18 columns"),
    ],
)
def test_faults_are_named(old, new, message, small_event, tmp_path):
    (tmp_path / "t.csv").write_text("\n".join(ACTS_LINES).replace(old, new) + "\n")
    with pytest.raises(DataError, match=rf"t\.csv, {message}"):
        read_tracks_acts_csv(tmp_path / "t.csv", small_event)


def test_no_file_no_folder(event, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_tracks_acts_csv(tmp_path / "t.csv", event)
    with pytest.raises(ConfigError, match="the folder"):
        write_tracks_acts_csv(tmp_path / "nowhere" / "t.csv", event, make_tracks(event))


def test_no_tracks(event, tmp_path):
    write_tracks_acts_csv(tmp_path / "t.csv", event, make_tracks(event, capacity=0))
    back = read_tracks_acts_csv(tmp_path / "t.csv", event)
    assert isinstance(back, Tracks)
    assert (back.hit_track == NOISE).all()
    assert back.parameters.shape == (0, 5)
