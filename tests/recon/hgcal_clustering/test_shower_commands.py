"""Every command of the task on a wedge of the detector; and what the user reads when something is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import awkward as ak
import numpy as np
import pytest
import uproot

from recon.cli import USER_ERROR
from recon.hgcal_clustering import HgcalConfig, find_showers
from recon.hgcal_clustering.cell_graph import CellGraph
from recon.hgcal_clustering.clue import clue
from recon.hgcal_clustering.commands.options import AlgorithmName, Source, open_source, settings_of
from recon.hgcal_clustering.config import METHODS
from recon.hgcal_clustering.geometry import EndcapGeometry
from recon.io.point_clouds import PointCloud, read_point_cloud, write_point_cloud
from recon.io.root import read_metadata
from recon.io.root_rechits import columns_of, read_rechits, write_rechits
from recon.io.root_showers import read_showers
from recon.types import NOISE, CalorimeterEvent
from tests.command_line import error_of, run
from tests.recon.hgcal_clustering.wedge_events import wedge_event, write_wedge
from tests.reference.toy_showers import take_hits

pytestmark = pytest.mark.usefixtures("quick_programs")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Tests must not depend on the user's cache of detectors, nor leave anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def events(wedge, calorimeter, lookup):
    return [wedge_event(wedge, calorimeter, lookup, number) for number in range(2)]


@pytest.fixture(scope="module")
def cells(calorimeter):
    return CellGraph.from_calorimeter(calorimeter, cache=False)


@pytest.fixture(scope="module")
def hits(events, wedge, calorimeter, tmp_path_factory):
    return write_wedge(tmp_path_factory.mktemp("hits") / "hits.root", wedge, calorimeter, events, pileup=7)


def test_algorithms_are_those_of_the_configuration():
    assert AlgorithmName.__args__ == (*METHODS, "hybrid-timing", "tuned")
    assert settings_of("tuned", None, None).method == "clusters"
    for name in ("hybrid", "hybrid-timing"):
        assert settings_of(name, None, None).hybrid.weights == name
        assert settings_of(name, None, None).hybrid.network.timing == (name == "hybrid-timing")


@pytest.mark.parametrize("algorithm", METHODS)
@pytest.mark.parametrize("layout", ["ttree", "rntuple"])
def test_reconstruct(hits, events, cells, algorithm, layout, tmp_path, capsys):
    output, summary = tmp_path / "new folder" / "showers.root", tmp_path / "summary.json"
    words = ["reconstruct", "hgcal", hits, "-o", output, "--algorithm", algorithm, "--layout", layout]
    assert run(*words, "--json", summary) == 0
    stored, tree = list(read_showers(output)), json.loads(summary.read_text())
    assert [event.number for event in stored] == [0, 1]
    settings = HgcalConfig.from_json(read_metadata(output)["settings"])
    assert settings.method == algorithm
    assert settings.calibration.front_layers == 26
    for event, found, counts in zip(events, stored, tree["events"], strict=True):
        wanted = find_showers(event, settings, cells=cells)
        np.testing.assert_array_equal(found.hit_trackster, wanted.hit_trackster)
        np.testing.assert_array_equal(found.tracksters.energy, wanted.tracksters.energy)
        assert (found.clusters is None) == (algorithm == "hits")
        assert counts["tracksters"] == len(wanted.tracksters.valid) > 0
        assert counts["hits"] == len(event.hits.energy)
        assert counts["hits_in_tracksters"] == (wanted.hit_trackster >= 0).sum()
    printed = capsys.readouterr().out
    assert f"{sum(event['tracksters'] for event in tree['events'])} tracksters" in printed
    assert f"2 events of {hits} written to {output}" in printed


def test_times_that_a_file_does_not_have(hits, tmp_path, capsys):
    words = ["reconstruct", "hgcal", hits, "-o", tmp_path / "showers.root", "--algorithm", "hybrid-timing"]
    assert run(*words) == USER_ERROR
    printed = " ".join(capsys.readouterr().err.split())
    assert "event 0: the hits of the event have no times (branches hit_time, hit_time_error)" in printed
    assert "take --algorithm hybrid" in printed
    assert not (tmp_path / "showers.root").exists()


def test_one_endcap_leaves_the_other_alone(hits, events, tmp_path):
    both, sides = tmp_path / "both.root", {}
    assert run("reconstruct", "hgcal", hits, "-o", both) == 0
    for endcap in ("positive", "negative"):
        path = tmp_path / f"{endcap}.root"
        assert run("reconstruct", "hgcal", hits, "-o", path, "--endcap", endcap) == 0
        sides[endcap] = next(read_showers(path))
        ahead = events[0].hits.position[:, 2] > 0
        other = ~ahead if endcap == "positive" else ahead
        assert (sides[endcap].hit_trackster[other] == NOISE).all()
    whole = next(read_showers(both))
    assert len(whole.tracksters.valid) == sum(len(side.tracksters.valid) for side in sides.values())


def test_settings_from_the_metadata_of_an_output(hits, tmp_path):
    settings = tmp_path / "mine.json"
    config = HgcalConfig(calibration=replace(HgcalConfig().calibration, scale=0.5))
    settings.write_text(json.dumps(config.to_json()))
    output = tmp_path / "showers.root"
    assert run("reconstruct", "hgcal", hits, "-o", output, "--settings", settings) == 0
    tracksters = next(read_showers(output)).tracksters
    np.testing.assert_allclose(tracksters.regressed_energy, 2 * tracksters.energy, rtol=1e-6)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(settings.read_text())
    assert settings_of("hits", folder, None) == config


def test_without_geometry_hits_are_searched_by_position(hits, events, tmp_path):
    output = tmp_path / "showers.root"
    assert run("reconstruct", "hgcal", hits, "-o", output, "--geometry", "none") == 0
    wanted = find_showers(events[0])
    np.testing.assert_array_equal(next(read_showers(output)).hit_trackster, wanted.hit_trackster)


def test_geometry_of_a_file(hits, wedge, events, tmp_path):
    assert open_source(hits).geometry == wedge
    assert open_source(hits, "v10").geometry == EndcapGeometry(name="v10")
    assert open_source(hits, "none").geometry is None
    assert open_source(hits).pileup == 7.0
    write_rechits(tmp_path / "sim.root", events, metadata={"simulation": {"geometry": "v10"}})
    assert open_source(tmp_path / "sim.root").geometry == EndcapGeometry(name="v10")
    write_rechits(tmp_path / "bare.root", events)
    assert open_source(tmp_path / "bare.root") == Source(open_source(tmp_path / "bare.root").file, None)
    assert settings_of("clue3d", None, EndcapGeometry(name="v10")).calibration.front_layers == 28


def nano(path, events):
    """Hits as CMS writes them: cm, no cells."""
    columns = {"event": np.array([event.number for event in events], np.uint64)}
    with uproot.recreate(path) as file:
        for axis, name in enumerate("xyz"):
            columns[f"RecHitHGC_{name}"] = ak.Array([event.hits.position[:, axis] / 10 for event in events])
        columns["RecHitHGC_energy"] = ak.Array([event.hits.energy for event in events])
        file["Events"] = columns
    return path


def test_hits_of_cms(events, tmp_path, capsys):
    path, output = nano(tmp_path / "nano.root", events), tmp_path / "showers.root"
    assert "say --geometry v16 or v10" in error_of(capsys, "reconstruct", "hgcal", path, "-o", output)
    source = Source(open_source(path, "v16").file, None)
    assert source.file.nano
    assert source.file.n_events == 2


def cloud(path, seed=0, n=60):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 100, (4, 3))
    points = (centre[:, None] + rng.normal(0, 1.0, (4, n // 4, 3))).reshape(-1, 3)
    write_point_cloud(path, PointCloud(points, rng.uniform(0.5, 1.5, len(points))))
    return path


def test_points_of_a_csv_file(tmp_path, capsys):
    path, output, summary = cloud(tmp_path / "in.csv"), tmp_path / "out.csv", tmp_path / "s.json"
    words = ["reconstruct", "hgcal", path, "-o", output, "--d-c", 3, "--rho-c", 4, "--json", summary]
    assert run(*words) == 0
    table = np.loadtxt(output, delimiter=",", skiprows=1)
    assert output.read_text().startswith("x0,x1,x2,weight,cluster_ids,is_seed\n")
    given = read_point_cloud(path)
    wanted = clue(given.points, given.weight, d_c=3.0, rho_c=4.0)
    np.testing.assert_array_equal(table[:, 4], wanted.ids)
    np.testing.assert_array_equal(table[:, 5], wanted.is_seed)
    tree = json.loads(summary.read_text())
    assert (tree["points"], tree["clusters"]) == (60, 4)
    assert f"4 clusters and {tree['outliers']} outliers of 60 points" in capsys.readouterr().out


def test_points_need_their_scales(hits, tmp_path, capsys):
    path, output = cloud(tmp_path / "in.csv"), tmp_path / "out.csv"
    assert "--d-c and --rho-c" in error_of(capsys, "reconstruct", "hgcal", path, "-o", output, "--d-c", 3)
    words = ["--d-c", 3, "--rho-c", 1]
    assert "as CSV" in error_of(capsys, "reconstruct", "hgcal", path, "-o", tmp_path / "s.root", *words)
    assert "go with points" in error_of(
        capsys, "reconstruct", "hgcal", hits, "-o", tmp_path / "s.root", *words
    )
    assert "d_c = -1" in error_of(
        capsys, "reconstruct", "hgcal", path, "-o", output, "--d-c", -1, "--rho-c", 1
    )
    assert not output.exists()


def test_evaluate(hits, tmp_path, capsys):
    output, summary, settings = tmp_path / "report", tmp_path / "evaluate.json", tmp_path / "wide.json"
    wide = HgcalConfig(method="hits", hits=replace(HgcalConfig().hits, d_c=40.0))
    settings.write_text(json.dumps(wide.to_json()))
    words = ["evaluate", "hgcal", hits, hits, "-o", output, "--algorithms", "clue3d", "imaging"]
    words += ["--settings", settings, "--events", 1, "--energy-min", 5, "--json", summary]
    assert run(*words) == 0
    tree = json.loads(summary.read_text())
    assert [finder["name"] for finder in tree["finders"]] == ["clue3d", "imaging", "wide"]
    assert tree["selection"]["energy_min"] == 5
    assert tree["finders"][2]["settings"] == json.loads(settings.read_text())
    for finder in tree["finders"]:
        assert finder["events"] == 2
        assert finder["rates"]["efficiency_simple"]["total"] == 6
        assert finder["cpu_seconds_total"] > 0
        curve = finder["curves"]["efficiency_vs_pileup"]
        assert curve["edges"] == [6.5, 7.5]
    printed = capsys.readouterr().out
    assert "Showers in 2 events of hits.root, hits.root" in printed
    assert all(word in printed for word in ("efficiency", "wide", str(output / "report.md")))
    assert len(list(output.glob("*.png"))) >= 6


def test_display(hits, tmp_path, capsys):
    output = tmp_path / "pictures" / "event"
    assert run("display", "hgcal", hits, "-o", output, "--entry", 1) == 0
    assert output.with_name("event.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in output.with_name("event.html").read_text()[:2000].lower()
    assert str(output.with_name("event.html")) in capsys.readouterr().out


@pytest.mark.parametrize("entry", [2, -1])
def test_entry_that_is_not_in_the_file(hits, entry, capsys):
    assert f"no entry {entry}; it has 2" in error_of(capsys, "display", "hgcal", hits, "--entry", entry)


def write(path, wedge, calorimeter, hits, truth=None):
    """A file of one event."""
    return write_wedge(path, wedge, calorimeter, [CalorimeterEvent(3, hits, truth)])


@pytest.mark.parametrize("algorithm", METHODS)
@pytest.mark.parametrize("rows", [[], [0], [5, 5]], ids=["empty", "one", "equal"])
def test_events_of_few_hits(events, wedge, calorimeter, rows, algorithm, tmp_path, capsys):
    hits = take_hits(events[0].hits, np.array(rows, int))
    path, output = write(tmp_path / "few.root", wedge, calorimeter, hits), tmp_path / "showers.root"
    words = ["reconstruct", "hgcal", path, "-o", output, "--algorithm", algorithm]
    if len(rows) > 1 and algorithm in ("clue3d", "clusters", "hybrid"):
        assert "event 3: rows 0 and 1 are two hits in cell" in error_of(capsys, *words)
        words += ["--geometry", "none"]
    assert run(*words) == 0
    (found,) = read_showers(output)
    assert len(found.hit_trackster) == len(rows)
    assert len(found.tracksters.valid) <= 1


def test_a_file_without_events(wedge, calorimeter, tmp_path, capsys):
    path = write_wedge(tmp_path / "none.root", wedge, calorimeter, [])
    assert run("reconstruct", "hgcal", path, "-o", tmp_path / "showers.root") == 0
    assert list(read_showers(tmp_path / "showers.root")) == []
    assert "no events" in error_of(capsys, "evaluate", "hgcal", path)


def edited(path, events, name, value):
    """A file whose third hit has a value that our writer would refuse."""
    columns = columns_of(events[0]._replace(truth=None))
    columns[name] = columns[name].copy()
    columns[name][3] = value
    with uproot.recreate(path) as file:
        counts = {
            "event_number": np.array([4], np.uint64),
            "n_hits": np.array([len(columns[name])], np.int32),
        }
        file["rechits"] = counts | {key: column[None] for key, column in columns.items()}
    return path


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hit_energy", np.nan, "event 4 (entry 0): hit_energy is nan at hit row 3"),
        ("hit_energy", -0.25, "event 4 (entry 0): hit_energy is -0.25 at hit row 3"),
        ("hit_x", np.inf, "event 4 (entry 0): hit x y z is"),
        ("hit_layer", -2, "hit_layer is -2 at hit row 3"),
        ("hit_cell", -2, "hit_cell is -2 at hit row 3"),
        ("hit_z", 0.0, "event 4: hits: z is 0.0 in row 3"),
    ],
)
def test_hits_that_cannot_be_used_are_named(events, name, value, message, tmp_path, capsys):
    path = edited(tmp_path / "bad.root", events, name, value)
    said = error_of(capsys, "reconstruct", "hgcal", path, "-o", tmp_path / "showers.root")
    assert str(path) in said
    assert message in said
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cell", [-1, 10**6])
def test_cells_that_are_not_known_are_named(events, wedge, calorimeter, cell, tmp_path, capsys):
    hits = events[0].hits._replace(cell=events[0].hits.cell.copy())
    hits.cell[3] = cell
    path = tmp_path / "unknown.root"
    write_rechits(path, [events[0]._replace(hits=hits)], metadata={"calorimeter": asdict(wedge)})
    said = error_of(capsys, "reconstruct", "hgcal", path, "-o", tmp_path / "showers.root")
    n = len(calorimeter.layer)
    assert (
        f"{path}, event 0: hits.cell is {cell} in row 3; the calorimeter has the cells 0 to {n - 1}" in said
    )
    assert run("reconstruct", "hgcal", path, "-o", tmp_path / "showers.root", "--geometry", "none") == 0


@pytest.mark.parametrize("what", ["layer_clusters", "tracksters"])
def test_a_limit_one_too_small(hits, what, tmp_path, capsys):
    output, summary = tmp_path / "showers.root", tmp_path / "summary.json"
    assert run("reconstruct", "hgcal", hits, "-o", output, "--json", summary) == 0
    most = max(event[what] for event in json.loads(summary.read_text())["events"])
    option = f"--max-{what.replace('_', '-')}"
    assert run("reconstruct", "hgcal", hits, "-o", output, option, most) == 0
    output.unlink()
    said = error_of(capsys, "reconstruct", "hgcal", hits, "-o", output, option, most - 1)
    assert f"{most} {what.replace('_', ' ')} do not fit into a capacity of {most - 1}" in said
    assert not output.exists()


@pytest.mark.parametrize(
    "command", [["evaluate"], ["display"], ["reconstruct", "-o", "showers.root"]], ids=lambda words: words[0]
)
def test_files_that_cannot_be_read(hits, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    half, foreign, absent = (tmp_path / name for name in ("half.root", "foreign.root", "absent.root"))
    half.write_bytes(hits.read_bytes()[: hits.stat().st_size // 2])
    foreign.write_text("what is this?\n")
    for path, problem in ((half, "truncated"), (foreign, "not a ROOT file"), (absent, "no such file")):
        said = error_of(capsys, command[0], "hgcal", path, *command[1:])
        assert str(path) in said
        assert problem in said
    assert not (tmp_path / "showers.root").exists()


def test_evaluation_without_truth(events, wedge, calorimeter, tmp_path, capsys):
    path = write_wedge(tmp_path / "data.root", wedge, calorimeter, [events[0]._replace(truth=None)])
    said = error_of(capsys, "evaluate", "hgcal", path, "-o", tmp_path / "report")
    assert f"{path}, event 0: no truth to compare with" in said


def test_settings_that_do_not_exist(hits, tmp_path, capsys):
    settings = tmp_path / "mine.json"
    words = ["reconstruct", "hgcal", hits, "-o", tmp_path / "s.root", "--settings", settings]
    assert str(settings) in error_of(capsys, *words)
    settings.write_text('{"colour": "red"}')
    assert "no setting colour" in error_of(capsys, *words)


def test_two_working_points_of_one_name(hits, tmp_path, capsys):
    words = ["evaluate", "hgcal", hits, "-o", tmp_path, "--algorithms", "clue3d", "clue3d"]
    assert "different names" in error_of(capsys, *words)


def test_settings_of_a_server_go_with_a_server(hits, tmp_path, capsys):
    words = ["reconstruct", "hgcal", hits, "-o", tmp_path / "s.root"]
    assert "go with --server" in error_of(capsys, *words, "--fallback", "local:models")
    assert "no engine 'pigeon'" in error_of(capsys, *words, "--server", "pigeon://host")
    assert "go without --server" in error_of(
        capsys, *words, "--server", "local:models", "--max-tracksters", 3
    )


@pytest.mark.slow
def test_demo(tmp_path):
    words = ["demo", "hgcal", "-o", tmp_path / "demo", "--pileup", 0, "--json", tmp_path / "demo.json"]
    assert run(*words) == 0
    assert [finder["name"] for finder in json.loads((tmp_path / "demo.json").read_text())["finders"]] == list(
        METHODS
    )
    (event,) = read_rechits(tmp_path / "demo" / "hits.root")
    (showers,) = read_showers(tmp_path / "demo" / "showers.root")
    assert len(showers.hit_trackster) == len(event.hits.energy)
    assert (tmp_path / "demo" / "event.png").is_file()
    assert (tmp_path / "demo" / "event.html").is_file()
