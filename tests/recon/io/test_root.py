"""ROOT files of events: what is written comes back, and what is wrong is named."""

import contextlib
import itertools
import tracemalloc
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.errors import ConfigError, DataError
from recon.io.root import count_events, read_events, read_metadata, write_events
from recon.io.root_file import created
from recon.io.root_layout import HIT_PARTICLE, HITS, PARTICLES, TRUTH, columns_of
from recon.io.root_table import new_table
from recon.types import NOISE

from .conftest import assert_same_event, make_event

LAYOUTS = ("ttree", "rntuple")
layouts = pytest.mark.parametrize("layout", LAYOUTS)
SIZES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=4)


def without_truth(event):
    return event._replace(particles=None, truth=None, particle_id=np.zeros(0, np.uint64))


# ---------------------------------------------------------------- what is written comes back


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, seed=st.integers(0, 2**31), layout=st.sampled_from(LAYOUTS), truth=st.booleans())
def test_round_trip(sizes, seed, layout, truth, detector, tmp_path):
    events = [
        make_event(detector, seed + number, n_hits=n_hits, n_particles=n_particles, number=number)
        for number, (n_hits, n_particles) in enumerate(sizes)
    ]
    events = events if truth else [without_truth(event) for event in events]
    path = tmp_path / "events.root"
    assert write_events(path, iter(events), layout=layout, metadata={}) == len(events)
    back = list(read_events(path))
    assert len(back) == count_events(path) == len(events)
    for given_event, read_event in zip(events, back, strict=True):
        assert_same_event(given_event, read_event)


@layouts
def test_particles_without_crossings(layout, event, tmp_path):
    event = event._replace(truth=None)
    write_events(tmp_path / "a.root", [event], layout=layout, metadata={})
    assert_same_event(event, next(read_events(tmp_path / "a.root")))


@layouts
def test_identifiers_keep_all_64_bits(layout, event, tmp_path):
    ids = np.arange(len(event.hit_id), dtype=np.uint64) + np.uint64(2**64 - len(event.hit_id))
    write_events(tmp_path / "a.root", [event._replace(hit_id=ids)], layout=layout, metadata={})
    (back,) = read_events(tmp_path / "a.root")
    np.testing.assert_array_equal(back.hit_id, ids)
    assert back.hits.layer.dtype == back.particles.hit_particle.dtype == np.int32


@layouts
def test_entry_range(layout, detector, tmp_path):
    """Ranges across several groups of events; 300 events are more than one group."""
    path = tmp_path / "many.root"
    write_events(
        path, (make_event(detector, s, n_hits=3, number=s) for s in range(300)), layout=layout, metadata={}
    )
    assert count_events(path) == 300
    for start, stop, expected in (
        (250, 260, range(250, 260)),
        (None, 2, range(2)),
        (298, 900, range(298, 300)),
    ):
        assert [e.number for e in read_events(path, entry_start=start, entry_stop=stop)] == list(expected)
    assert list(read_events(path, entry_start=5, entry_stop=5)) == []
    assert_same_event(
        next(read_events(path, entry_start=270)), make_event(detector, 270, n_hits=3, number=270)
    )


@layouts
def test_metadata(layout, event, detector, tmp_path):
    metadata = {"seeds": [1, 2**63], "config": {"pileup": 40.5, "name": "µ±"}, "none": None}
    write_events(tmp_path / "a.root", [event], layout=layout, metadata=metadata, detector=detector)
    back = read_metadata(tmp_path / "a.root")
    own = back.pop("recon")
    assert back == metadata
    assert (own["schema"], own["schema_version"]) == ("recon.events", 1)
    assert own["n_layers"] == 48
    assert own["n_modules"] == len(detector.layer)
    assert own["units"]["length"] == "mm"


def test_plain_uproot_sees_the_documented_branches(event, detector, tmp_path):
    """Other programs read the file without this package."""
    write_events(tmp_path / "a.root", [event], metadata={}, detector=detector)
    with uproot.open(tmp_path / "a.root") as file:
        tree = file["events"]
        assert {*HITS, *PARTICLES, *TRUTH, *HIT_PARTICLE, "n_hits", "n_particles"} <= set(tree.keys())
        assert tree["n_hits"].array().tolist() == [len(event.hit_id)]
        geometry = tree["hit_geometry_id"].array()[0]
    np.testing.assert_array_equal(geometry, detector.geometry_id[event.hits.module])


def test_unknown_sensor_has_geometry_id_zero(event, detector, tmp_path):
    module = event.hits.module.copy()
    module[2] = NOISE
    event = event._replace(hits=event.hits._replace(module=module))
    write_events(tmp_path / "a.root", [event], metadata={}, detector=detector)
    with uproot.open(tmp_path / "a.root") as file:
        assert file["events"]["hit_geometry_id"].array()[0, 2] == 0
    assert_same_event(event, next(read_events(tmp_path / "a.root")))


def test_reading_is_lazy_in_memory(detector, tmp_path):
    """Reading twelve events of 25,000 hits must not take much more than reading a group of four."""
    large = make_event(detector, n_hits=25_000, n_particles=500)
    write_events(tmp_path / "a.root", itertools.repeat(large, 12), metadata={})
    peaks = []
    for stop in (4, 12):
        tracemalloc.start()
        n_hits = sum(len(event.hit_id) for event in read_events(tmp_path / "a.root", entry_stop=stop))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert n_hits == stop * 25_000
    assert peaks[1] < 2 * peaks[0]


# ---------------------------------------------------------------- whole or absent


@layouts
def test_a_failure_leaves_the_old_file(layout, event, tmp_path):
    path = tmp_path / "a.root"
    write_events(path, [event], layout=layout, metadata={})

    def breaks_down():
        yield event
        raise RuntimeError("the generator broke down")

    with pytest.raises(RuntimeError, match="broke down"):
        write_events(path, breaks_down(), layout=layout, metadata={})
    assert_same_event(event, next(read_events(path)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.root"]


@layouts
def test_the_name_never_holds_half_a_file(layout, detector, tmp_path):
    """Whenever a kill comes: until all events are written no file has the name, nor any that ends in .root."""
    path = tmp_path / "a.root"
    seen = []

    def events():
        for number in range(520):  # two full groups are on disk before the last event is asked for
            seen.append([entry.name for entry in tmp_path.glob("*.root")])
            yield make_event(detector, n_hits=2, n_particles=1, number=number)

    write_events(path, events(), layout=layout, metadata={})
    assert seen == [[]] * 520
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.root"]
    assert count_events(path) == 520


# ---------------------------------------------------------------- files that are not ours or not whole


@layouts
def test_every_truncation_is_noticed(layout, event, tmp_path):
    whole = tmp_path / "whole.root"
    write_events(whole, [event] * 3, layout=layout, metadata={})
    content = whole.read_bytes()
    cut = tmp_path / "cut.root"
    for length in (0, 3, 19, 100, 1000, len(content) // 2, len(content) - 1):
        cut.write_bytes(content[:length])
        for read in (count_events, read_metadata, lambda path: list(read_events(path))):
            with pytest.raises(DataError, match=r"cut\.root: (truncated|not a ROOT file)"):
                read(cut)


@layouts
def test_damaged_bytes_never_crash(layout, event, tmp_path):
    """Overwritten bytes either leave what is read untouched or end in a `DataError` naming the file."""
    path = tmp_path / "damaged.root"
    write_events(path, [event] * 4, layout=layout, metadata={})
    content = path.read_bytes()
    refused = 0
    for start in np.linspace(64, len(content) - 64, 16).astype(int):
        path.write_bytes(content[:start] + bytes(64) + content[start + 64 :])
        with contextlib.suppress(DataError):
            list(read_events(path))
            continue
        refused += 1
    assert refused > 0


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"absent\.root: no such file"):
        list(read_events(tmp_path / "absent.root"))


def test_not_a_root_file(tmp_path):
    path = tmp_path / "notes.root"
    path.write_text("hit_id,x,y,z\n1,2,3,4\n" * 10)
    with pytest.raises(DataError, match=r"notes\.root: not a ROOT file"):
        count_events(path)


def test_foreign_file_lists_what_it_holds(tmp_path):
    path = tmp_path / "foreign.root"
    with uproot.recreate(path) as file:
        file.mktree("Delphes", {"x": "float32"})
    with pytest.raises(
        DataError, match=r"expected a TTree or RNTuple called 'events', found Delphes \(TTree\)"
    ):
        count_events(path)
    with pytest.raises(DataError, match="no object 'metadata'"):
        read_metadata(path)


def test_newer_schema(event, tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("events", columns_for(event))
        file["metadata"] = '{"recon": {"schema": "recon.events", "schema_version": 9}}'
    with pytest.raises(DataError, match=r"holds schema recon\.events version 9; .* up to version 1"):
        next(read_events(tmp_path / "a.root"))


# ---------------------------------------------------------------- columns written by somebody else


def columns_for(event):
    """What `write_events` would put into the entries, as plain arrays to spoil."""
    counts = {"event_number": np.array([event.number]), "n_hits": np.array([len(event.hit_id)], np.int32)}
    return {**counts, **{name: ak.Array([values]) for name, values in columns_of(event, None).items()}}


def write_columns(path: Path, columns):
    with uproot.recreate(path) as file:
        file.mkrntuple("events", columns)


def put(columns, name, row, value):
    values = np.asarray(columns[name][0]).copy()
    values[row] = value
    columns[name] = ak.Array([values])


def drop(columns, name):
    del columns[name]


def shorten(columns, name):
    columns[name] = columns[name][:, :-1]


def replace(columns, name, values):
    columns[name] = values


SPOILED = {
    "hit_x missing": (
        lambda c: drop(c, "hit_x"),
        r"lacks the branches \['hit_x'\]; expected .*found",
    ),
    "half a truth": (lambda c: drop(c, "particle_pz"), r"lacks the branches \['particle_pz'\]"),
    "no event number": (lambda c: drop(c, "event_number"), r"lacks the branches \['event_number'\]"),
    "short column": (
        lambda c: shorten(c, "hit_y"),
        r"event 3 \(entry 0\): hit_id has 40 values, .*hit_y.*39",
    ),
    "short particles": (lambda c: shorten(c, "particle_pdg"), r"event 3 .*particle_pdg"),
    "NaN": (lambda c: put(c, "hit_z", 7, np.nan), r"event 3 \(entry 0\): hit x y z .*nan.* at hit row 7"),
    "infinite": (lambda c: put(c, "hit_x", 0, np.inf), "inf.* at hit row 0"),
    "negative variance": (lambda c: put(c, "hit_var_v", 5, -1), "variance .* hit row 5.*not be negative"),
    "layer": (lambda c: put(c, "hit_layer", 4, -1), "hit_layer is -1 at hit row 4; allowed are 0 to"),
    "owner": (lambda c: put(c, "hit_particle", 9, 6), r"hit_particle is 6 at hit row 9; .* 0 to 5"),
    "strings": (lambda c: replace(c, "hit_x", ak.Array([["a"] * 40])), "branch hit_x: expected a list"),
    "flat": (lambda c: replace(c, "hit_x", np.zeros(1)), "branch hit_x: expected a list of float32"),
    "fractions": (
        lambda c: replace(c, "hit_layer", c["hit_layer"] * 0.5),
        "hit_layer: expected a list",
    ),
    "too wide": (lambda c: replace(c, "hit_layer", c["hit_layer"] + 2**40), "branch hit_layer: expected"),
    "negative id": (lambda c: replace(c, "hit_id", ak.Array([np.arange(-1, 39)])), "branch hit_id: expected"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED)
def test_spoiled_columns_are_named(spoil, message, event, tmp_path):
    columns = columns_for(event)
    spoil(columns)
    write_columns(tmp_path / "spoiled.root", columns)
    with pytest.raises(DataError, match=rf"spoiled\.root.*{message}"):
        list(read_events(tmp_path / "spoiled.root"))


def test_duplicate_hit_id_names_both_rows(event, tmp_path):
    columns = columns_for(event)
    put(columns, "hit_id", 12, event.hit_id[30])
    write_columns(tmp_path / "a.root", columns)
    with pytest.raises(DataError, match=rf"hit_id {event.hit_id[30]} occurs at hit rows 12, 30"):
        next(read_events(tmp_path / "a.root"))


def test_wider_numbers_are_converted(event, tmp_path):
    """Another program's doubles and 64-bit integers are fine where the numbers fit."""
    columns = columns_for(event)
    columns["hit_x"] = ak.values_astype(columns["hit_x"], np.float64)
    columns["hit_layer"] = ak.values_astype(columns["hit_layer"], np.int64)
    write_columns(tmp_path / "a.root", columns)
    assert_same_event(event, next(read_events(tmp_path / "a.root")))


def test_layer_beyond_the_detector(event, detector, tmp_path):
    layer = event.hits.layer.copy()
    layer[3] = 48
    event = event._replace(hits=event.hits._replace(layer=layer))
    write_events(tmp_path / "a.root", [event], metadata={})
    with pytest.raises(DataError, match="hit_layer is 48 at hit row 3; allowed are 0 to 47"):
        next(read_events(tmp_path / "a.root", detector=detector))


# ---------------------------------------------------------------- events that must not be written


@layouts
def test_events_must_agree_about_truth(layout, event, tmp_path):
    with pytest.raises(DataError, match=r"a\.root, event 9: .*particle_id.*same truth or none"):
        write_events(
            tmp_path / "a.root", [event, without_truth(event)._replace(number=9)], layout=layout, metadata={}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e._replace(number=-1), "number must not be negative"),
        (lambda e: e._replace(hits=e.hits._replace(features=e.hits.features[:, :2])), "2 hit features"),
        (lambda e: e._replace(hits=e.hits._replace(valid=np.zeros(40, bool))), "unpadded"),
        (lambda e: e._replace(hit_id=e.hit_id[:5]), "hit_id has 5"),
    ],
)
def test_refused_events(change, message, event, tmp_path):
    with pytest.raises(DataError, match=message):
        write_events(tmp_path / "a.root", [change(event)], metadata={})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": {"recon": 1}}, "entry 'recon'"),
        ({"metadata": {"seed": {1, 2}}}, "must be JSON"),
        ({"metadata": {"value": float("nan")}}, "must be JSON"),
    ],
)
def test_refused_options(options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        write_events(tmp_path / "a.root", [], **options)
    assert list(tmp_path.iterdir()) == []


def test_unknown_layout(tmp_path):
    with (
        created(tmp_path / "a.root") as file,
        pytest.raises(ConfigError, match="layout is 'parquet'; allowed are 'ttree' and 'rntuple'"),
    ):
        new_table(file, "parquet", "events", {}, {})


def test_missing_folder(event, tmp_path):
    with pytest.raises(ConfigError, match=r"the folder .*nowhere does not exist"):
        write_events(tmp_path / "nowhere" / "a.root", [event], metadata={})
