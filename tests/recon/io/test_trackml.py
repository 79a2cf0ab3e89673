"""The CSV format of the TrackML challenge: a real event, round trips, and every fault named."""

import gzip
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.errors import DataError
from recon.io.csv_table import read_table
from recon.io.trackml import (
    read_event,
    read_weights,
    trackml_weights,
    write_event,
    write_submission,
    write_submissions,
)
from recon.types import NOISE

from .conftest import make_event, make_tracks

SAMPLE = "event000000001-hits.csv.gz"


# ---------------------------------------------------------------- a real event


@pytest.fixture(scope="module")
def sample(trackml_sample, detector):
    return read_event(trackml_sample(SAMPLE), detector)


def test_sample_counts(sample):
    assert sample.number == 1
    assert len(sample.hit_id) == 5527
    assert len(sample.particle_id) == 548
    assert sample.particle_id.max() > 2**32
    assert (sample.particles.hit_particle == NOISE).sum() == 829
    assert np.isnan(sample.truth.position[sample.particles.hit_particle == NOISE]).all()


def test_sample_sensors_are_those_of_the_challenge(sample, trackml_sample, detector):
    """Our sensor of every hit has the place and the axes of the challenge's own module."""
    names = ("cx", "cy", "cz", "rot_xu", "rot_yu", "rot_zu", "rot_xw", "rot_yw", "rot_zw")
    keys = dict.fromkeys(("volume_id", "layer_id", "module_id"), "i8")
    challenge = read_table(trackml_sample("detectors.csv.gz"), {**keys, **dict.fromkeys(names, "f8")})
    hits = read_table(trackml_sample(SAMPLE), keys)
    row_of = {key: row for row, key in enumerate(zip(*(challenge[name] for name in keys), strict=True))}
    rows = [row_of[key] for key in zip(*(hits[name] for name in keys), strict=True)]
    place, u_axis, normal = np.stack([challenge[name][rows] for name in names]).reshape(3, 3, -1)
    module = sample.hits.module
    np.testing.assert_allclose(place.T, detector.center[module], atol=0.005)
    np.testing.assert_allclose(u_axis.T, detector.rotation[module, 0], atol=1e-5)
    np.testing.assert_allclose(normal.T, detector.rotation[module, 2], atol=1e-5)
    np.testing.assert_array_equal(hits["volume_id"], detector.volume_id[module])


def test_sample_local_position_leads_back_to_the_global_one(sample, detector):
    module = sample.hits.module
    axes = detector.rotation[module, :2].astype(np.float64)
    back = detector.center[module] + np.einsum("nk,nkx->nx", sample.hits.local, axes)
    np.testing.assert_allclose(back, sample.hits.position, atol=0.006)


def test_sample_weights(sample, trackml_sample):
    """Every weight of the challenge up to the normalisation: the sample is a part of its event."""
    published = read_weights(trackml_sample(SAMPLE), sample.hit_id)
    ours = trackml_weights(sample)
    np.testing.assert_array_equal(published > 0, ours > 0)
    ratio = ours[ours > 0] / published[ours > 0]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=2e-5)
    assert (ours > 0).sum() == 4300
    assert ours.sum() == pytest.approx(1)


def test_sample_clusters(sample, trackml_sample):
    """Sizes and charge of a few clusters by hand from the cells file."""
    cells = read_table(
        trackml_sample("event000000001-cells.csv.gz"), {"hit_id": "u8", "ch0": "i8", "value": "f8"}
    )
    assert (sample.hits.features[:, :2] >= 1).all()
    for row in range(0, len(sample.hit_id), 500):
        own = cells["hit_id"] == sample.hit_id[row]
        assert sample.hits.features[row, 0] == np.ptp(cells["ch0"][own]) + 1
        assert sample.hits.features[row, 2] == pytest.approx(cells["value"][own].sum(), rel=1e-6)


def test_sample_variance_is_that_of_the_cell_size(sample, trackml_sample, detector):
    names = ("volume_id", "pitch_u", "pitch_v")
    challenge = read_table(trackml_sample("detectors.csv.gz"), dict.fromkeys(names, "f8"))
    pitch = {v: (a, b) for v, a, b in zip(*(challenge[name] for name in names), strict=True)}
    volumes = detector.volume_id[sample.hits.module]
    expected = np.array([pitch[volume] for volume in volumes]) ** 2 / 12
    np.testing.assert_allclose(sample.hits.variance, expected, rtol=1e-6)


def test_sample_survives_our_writer(sample, detector, tmp_path):
    write_event(tmp_path / "event000000001", sample, detector)
    assert_equivalent(sample, read_event(tmp_path / "event000000001", detector), tolerance=0)


# ---------------------------------------------------------------- round trips


def assert_equivalent(left, right, tolerance):
    """Equal but for the variance, which the format does not hold; the local position comes from geometry."""
    assert left.number == right.number
    np.testing.assert_array_equal(left.hit_id, right.hit_id)
    np.testing.assert_array_equal(left.particle_id, right.particle_id)
    np.testing.assert_allclose(left.hits.local, right.hits.local, atol=tolerance)
    for name in ("position", "layer", "module", "features"):
        np.testing.assert_array_equal(getattr(left.hits, name), getattr(right.hits, name), err_msg=name)
    for name in left.particles._fields if left.particles is not None else ():
        np.testing.assert_array_equal(
            getattr(left.particles, name), getattr(right.particles, name), err_msg=name
        )
    assert (left.particles is None) == (right.particles is None)
    assert (left.truth is None) == (right.truth is None)
    if left.truth is not None:
        np.testing.assert_array_equal(left.truth.position, right.truth.position)
        np.testing.assert_array_equal(left.truth.momentum, right.truth.momentum)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_hits=st.integers(0, 40),
    n_particles=st.integers(0, 5),
    seed=st.integers(0, 2**31),
    compress=st.booleans(),
    truth=st.booleans(),
)
def test_round_trip(n_hits, n_particles, seed, compress, truth, detector, tmp_path_factory):
    event = make_event(detector, seed, n_hits=n_hits, n_particles=n_particles, number=42)
    if not truth:
        event = event._replace(particles=None, truth=None, particle_id=np.zeros(0, np.uint64))
    prefix = tmp_path_factory.mktemp("trackml") / "event000000042"
    write_event(prefix, event, detector, compress=compress)
    assert_equivalent(event, read_event(prefix, detector), tolerance=5e-4)


def test_written_weights_are_read_back(event, detector, tmp_path):
    write_event(tmp_path / "event000000003", event, detector)
    np.testing.assert_array_equal(
        read_weights(tmp_path / "event000000003", event.hit_id), trackml_weights(event)
    )


def test_order_of_lines_in_the_truth_does_not_matter(event, detector, tmp_path):
    prefix = tmp_path / "event000000003"
    write_event(prefix, event, detector, compress=False)
    truth = tmp_path / "event000000003-truth.csv"
    header, *lines = truth.read_text().splitlines()
    truth.write_text("\n".join([header, *lines[::-1]]) + "\n")
    assert_equivalent(event, read_event(prefix, detector), tolerance=5e-4)


def test_no_cells_no_features(event, detector, tmp_path):
    write_event(tmp_path / "event000000003", event, detector, compress=False)
    (tmp_path / "event000000003-features.csv").unlink()
    assert (read_event(tmp_path / "event000000003", detector).hits.features == 0).all()


def test_cells_by_hand(detector, tmp_path):
    event = make_event(detector, n_hits=3)
    write_event(tmp_path / "event000000003", event, detector, compress=False)
    first, second, _ = event.hit_id
    lines = [f"{first},10,7,0.25", f"{second},3,3,0.5", f"{first},12,7,0.5", f"{first},11,6,0.125"]
    (tmp_path / "event000000003-cells.csv").write_text("\n".join(["hit_id,ch0,ch1,value", *lines]))
    features = read_event(tmp_path / "event000000003", detector).hits.features
    np.testing.assert_array_equal(features, [[3, 2, 0.875], [1, 1, 0.5], [0, 0, 0]])


def test_older_particle_files(event, detector, tmp_path):
    """Without `primary` the identifier tells: its lowest 24 bits are 0 for what the generator made."""
    ids = np.array([1 << 24, (1 << 24) + 1, (1 << 24) + (1 << 16), 5 << 40, 6 << 40, 7 << 52], np.uint64)
    event = event._replace(particle_id=ids)
    prefix = tmp_path / "event000000003"
    write_event(prefix, event, detector, compress=False)
    particles = tmp_path / "event000000003-particles.csv"
    names = particles.read_text().splitlines()[0].split(",")
    keep = [place for place, name in enumerate(names) if name not in {"primary", "particle_type"}]
    cut = [[line.split(",")[place] for place in keep] for line in particles.read_text().splitlines()]
    particles.write_text("\n".join(",".join(row) for row in cut) + "\n")
    back = read_event(prefix, detector)
    assert back.particles.primary.tolist() == [True, False, False, True, True, True]
    assert (back.particles.pdg == 0).all()


def test_order_counts_from_the_vertex(event, detector, tmp_path):
    write_event(tmp_path / "event000000003", event, detector)
    back = read_event(tmp_path / "event000000003", detector)
    owner = back.particles.hit_particle
    for particle in range(len(back.particle_id)):
        rows = np.flatnonzero(owner == particle)
        distance = np.linalg.norm(back.truth.position[rows] - back.particles.vertex[particle], axis=1)
        assert sorted(back.truth.order[rows].tolist()) == list(range(len(rows)))
        assert (np.diff(distance[np.argsort(back.truth.order[rows])]) >= 0).all()
    assert (back.truth.order[owner == NOISE] == NOISE).all()


# ---------------------------------------------------------------- submissions


def test_submission(event, tmp_path):
    tracks = make_tracks(event, 3)
    write_submission(tmp_path / "submission.csv", event, tracks)
    table = read_table(
        tmp_path / "submission.csv", dict.fromkeys(("event_id", "track_id"), "i8") | {"hit_id": "u8"}
    )
    np.testing.assert_array_equal(table["hit_id"], event.hit_id)
    assert set(table["event_id"].tolist()) == {3}
    number_of = dict(zip(np.flatnonzero(tracks.valid).tolist(), range(1, 99), strict=False)) | {NOISE: 0}
    assert table["track_id"].tolist() == [
        number_of[t] for t in tracks.hit_track[: len(event.hit_id)].tolist()
    ]


def test_submission_of_several_events(detector, tmp_path):
    events = [make_event(detector, number, number=number, n_hits=5 * number) for number in (2, 3)]
    items = [(event, make_tracks(event, 1)) for event in events]
    assert write_submissions(tmp_path / "all.csv.gz", iter(items)) == 2
    table = read_table(tmp_path / "all.csv.gz", {"event_id": "i8", "hit_id": "u8", "track_id": "i8"})
    assert table["event_id"].tolist() == [2] * 10 + [3] * 15
    np.testing.assert_array_equal(table["hit_id"], np.concatenate([event.hit_id for event in events]))
    for event, tracks in items:
        write_submission(tmp_path / "one.csv", event, tracks)
        one = read_table(tmp_path / "one.csv", {"track_id": "i8"})
        np.testing.assert_array_equal(one["track_id"], table["track_id"][table["event_id"] == event.number])


def test_submission_of_no_event(tmp_path):
    assert write_submissions(tmp_path / "none.csv", []) == 0
    assert (tmp_path / "none.csv").read_text() == "event_id,hit_id,track_id\n"


# ---------------------------------------------------------------- faults


def set_cell(path, line, column, value):
    lines = path.read_text().splitlines()
    cells = lines[line - 1].split(",")
    cells[lines[0].split(",").index(column)] = value
    lines[line - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def rename_column(path, column):
    path.write_text(path.read_text().replace(column, "renamed", 1))


def drop_line(path, line):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[: line - 1] + lines[line:]) + "\n")


FAULTS = {
    "no x": ("hits", lambda p: rename_column(p, "x"), r"line 1: columns \['x'\] are missing"),
    "no weight-bearing id": ("truth", lambda p: rename_column(p, "particle_id"), r"line 1: .*particle_id"),
    "text": ("hits", lambda p: set_cell(p, 4, "y", "1,5"), "line 4: 8 cells where the header has 7"),
    "not a number": (
        "hits",
        lambda p: set_cell(p, 4, "y", "??"),
        r"line 4, column y: '\?\?' is not a number",
    ),
    "NaN": ("hits", lambda p: set_cell(p, 9, "z", "nan"), "line 9, column z: nan; it must be finite"),
    "no such volume": (
        "hits",
        lambda p: set_cell(p, 3, "volume_id", "10"),
        "line 3, column volume_id: 10; .*7, 8",
    ),
    "no such layer": (
        "hits",
        lambda p: set_cell(p, 3, "layer_id", "3"),
        "line 3, column layer_id: 3; .*no such layer",
    ),
    "off the sensor": (
        "hits",
        lambda p: set_cell(p, 5, "x", "4.0"),
        "line 5, column x: 4.0; .*away from every sensor",
    ),
    "particle lost": (
        "particles",
        lambda p: drop_line(p, 2),
        r"truth\.csv, line .*particle_id.*particles file",
    ),
    "hit without truth": (
        "truth",
        lambda p: drop_line(p, 6),
        r"hits\.csv, line 6, column hit_id: .*truth\.csv",
    ),
    "truth without hit": ("hits", lambda p: drop_line(p, 6), r"(features|truth)\.csv, line 6, column hit_id"),
    "charge": (
        "particles",
        lambda p: set_cell(p, 2, "q", "0.5"),
        "line 2, column q: '0.5' is not an integer",
    ),
    "NaN momentum": ("particles", lambda p: set_cell(p, 3, "px", "nan"), "line 3, column px: nan"),
    "particle 0": (
        "particles",
        lambda p: set_cell(p, 3, "particle_id", "0"),
        "line 3, column particle_id: 0; 0 stands",
    ),
    "particles gone": ("particles", lambda p: p.unlink(), r"particles\.csv: no such file, but its companion"),
    "hits gone": ("hits", lambda p: p.unlink(), r"hits\.csv: no such file"),
}


@pytest.mark.parametrize(("part", "spoil", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_are_named(part, spoil, message, detector, tmp_path):
    event = make_event(detector, 8)
    write_event(tmp_path / "event000000003", event, detector, compress=False)
    spoil(tmp_path / f"event000000003-{part}.csv")
    with pytest.raises(DataError, match=rf"event000000003.*{message}"):
        read_event(tmp_path / "event000000003", detector)


@pytest.mark.parametrize("part", ["hits", "truth", "particles", "features"])
def test_duplicated_identifiers_name_both_lines(part, event, detector, tmp_path):
    write_event(tmp_path / "event000000003", event, detector, compress=False)
    path = tmp_path / f"event000000003-{part}.csv"
    value = path.read_text().splitlines()[6].split(",")[0]
    set_cell(path, 3, "particle_id" if part == "particles" else "hit_id", value)
    with pytest.raises(DataError, match=rf"{part}\.csv, lines 3 and 7, column .*: {value} occurs twice"):
        read_event(tmp_path / "event000000003", detector)


def test_cells_of_an_unknown_hit(event, detector, tmp_path):
    write_event(tmp_path / "event000000003", event, detector, compress=False)
    (tmp_path / "event000000003-cells.csv").write_text("hit_id,ch0,ch1,value\n12345,1,1,0.5\n")
    with pytest.raises(
        DataError, match=r"cells\.csv, line 2, column hit_id: 12345; no such identifier in .*hits"
    ):
        read_event(tmp_path / "event000000003", detector)


def test_truncated_real_file(trackml_sample, detector, tmp_path):
    content = trackml_sample(SAMPLE).read_bytes()
    (tmp_path / SAMPLE).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"hits\.csv\.gz: cannot be read, truncated or damaged"):
        read_event(tmp_path / SAMPLE, detector)


def test_real_hits_without_the_rest(trackml_sample, detector, tmp_path):
    """The challenge's test events have hits and cells only."""
    shutil.copy(trackml_sample(SAMPLE), tmp_path / SAMPLE)
    event = read_event(tmp_path / SAMPLE, detector)
    assert event.particles is None
    assert event.truth is None
    assert len(event.particle_id) == 0


def test_hit_on_the_wrong_layer_of_the_real_event(trackml_sample, detector, tmp_path):
    lines = gzip.decompress(trackml_sample(SAMPLE).read_bytes()).decode().splitlines()
    lines[1] = lines[1].replace(",7,2,", ",7,4,")
    path = tmp_path / "event000000001-hits.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"line 2, column x: .*mm away from every sensor of its layer"):
        read_event(path, detector)


def test_name_without_a_number(event, detector, tmp_path):
    write_event(tmp_path / "mine", event, detector)
    with pytest.raises(DataError, match="must end with the event number"):
        read_event(tmp_path / "mine", detector)


def test_events_that_the_format_cannot_hold(event, detector, tmp_path):
    module = event.hits.module.copy()
    module[4] = NOISE
    with pytest.raises(DataError, match="hit row 4 lies on no known sensor"):
        write_event(tmp_path / "e1", event._replace(hits=event.hits._replace(module=module)), detector)
    ids = event.particle_id.copy()
    ids[2] = 0
    with pytest.raises(DataError, match="particle_id 0 means noise"):
        write_event(tmp_path / "e1", event._replace(particle_id=ids), detector)
