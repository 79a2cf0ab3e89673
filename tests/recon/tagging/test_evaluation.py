"""Taggers side by side: truth, samples, stored scores; every number of a report on jets by hand; the report itself."""

from __future__ import annotations

import json
from dataclasses import replace

import awkward as ak
import numpy as np
import pytest

from recon.errors import ConfigError, DataError
from recon.io.jet_columns import jet_columns, with_columns
from recon.metrics import Ratio
from recon.tagging.evaluation import (
    Question,
    Sample,
    TaggerResult,
    evaluate_taggers,
    stored_scores,
    take_sample,
    true_classes,
)
from recon.tagging.labels import JETCLASS_LABELS, LABELS, discriminant
from recon.tagging.metrics import mass_sculpting
from recon.tagging.performance import (
    Rejection,
    accuracy,
    affordable_points,
    balanced,
    calibration,
    confusion,
    edges_of,
    in_bins,
    measure,
    sculpting_by_chance,
)
from recon.tagging.pipeline import tag_jets
from recon.tagging.report import summary_rows, summary_table, to_json, to_markdown, write_report
from recon.types import NOISE
from tests.recon.tagging.small_jets import make_table

pytestmark = pytest.mark.usefixtures("quick_programs")

TOP = Question(("T",), ("QCD",))


def labelled(table, names):
    label = np.array([LABELS.index(name) for name in names], np.int32)
    fields = {name: table[name] for name in table.fields if name != "jet_label"}
    return ak.Array(fields | {"jet_label": label})


def jetclass(table, names):
    """The same jets with the flags of JetClass in the place of our labels."""
    flags = {f"label_{name}": np.array([given == name for given in names]) for name in JETCLASS_LABELS}
    return with_columns(ak.Array({name: table[name] for name in table.fields if name != "jet_label"}), flags)


def result(signal, score, *, pt=None, mass=None, pileup=None, probabilities=None, labels=(), truth=None):
    n = len(signal)
    label = np.where(signal, LABELS.index("Tbqq"), LABELS.index("QCDb")).astype(np.int32)

    def column(values, default):
        return np.asarray(np.full(n, default) if values is None else values, np.float32)

    sample = Sample(
        np.asarray(signal, bool), label, LABELS, column(pt, 600), column(mass, np.nan), column(pileup, np.nan)
    )
    stacked = np.asarray(score, np.float32)[:, None] if probabilities is None else probabilities
    rows = np.full(n, NOISE, np.int32) if truth is None else np.asarray(truth, np.int32)
    return TaggerResult(
        "mine", sample, np.asarray(score, np.float64), labels, stacked.astype(np.float32), rows
    )


def two_classes(n, seed=0, sharpness=1.0):
    """A calibrated network of two classes, whose logits are multiplied by a sharpness."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2, n)
    signal = rng.random(n) < 1 / (1 + np.exp(-odds))
    p = 1 / (1 + np.exp(-sharpness * odds))
    probabilities = np.stack([1 - p, p], axis=1)
    return result(signal, p, probabilities=probabilities, labels=("QCD", "T"), truth=signal.astype(int))


def test_true_classes():
    table = labelled(make_table(3, seed=1), ["Tbqq", "QCDb", "Hbb"])
    labels, label = true_classes(jet_columns(table), "here")
    assert [labels[row] for row in label] == ["Tbqq", "QCDb", "Hbb"]
    flags = jetclass(make_table(3, seed=1), ["Tbqq", "QCD", None])
    labels, label = true_classes(jet_columns(flags), "here")
    assert labels == JETCLASS_LABELS
    assert [labels[row] if row >= 0 else None for row in label] == ["Tbqq", "QCD", None]


def test_files_without_truth():
    table = make_table(3, seed=1)
    bare = ak.Array({name: table[name] for name in table.fields if name != "jet_label"})
    with pytest.raises(DataError, match="here: no truth to compare with: neither jet_label nor label_QCD"):
        true_classes(jet_columns(bare), "here")
    twice = with_columns(bare, {f"label_{name}": np.ones(3, bool) for name in ("QCD", "Tbqq")})
    with pytest.raises(DataError, match="here: jet 0 has two labels"):
        true_classes(jet_columns(twice), "here")


def test_sample_of_a_question():
    table = labelled(make_table(4, seed=2), ["Tbqq", "QCDb", "Hbb", "Tbcq"])
    sample, used = take_sample(jet_columns(table), TOP, "here")
    assert used.tolist() == [True, True, False, True]
    assert sample.signal.tolist() == [True, False, True]
    np.testing.assert_array_equal(sample.pt, np.asarray(table["jet_pt"])[used])
    # The table does not say how much pile-up there was.
    assert np.isnan(sample.pileup).all()
    one = Question(("Tbcq",), ("QCD",))
    assert take_sample(jet_columns(table), one, "here")[1].tolist() == [False, True, False, True]


def test_stored_scores():
    table = make_table(3, seed=3)
    columns = jet_columns(
        with_columns(
            table,
            {
                name: np.full(3, value, np.float32)
                for name, value in (("x_QCD", 0.2), ("x_Tbqq", 0.8), ("y", 3.0))
            },
        )
    )
    labels, scores = stored_scores(columns, "x", "here")
    assert labels == ("Tbqq", "QCD")
    np.testing.assert_allclose(scores, [[0.8, 0.2]] * 3)
    assert stored_scores(columns, "y", "here")[0] == ()
    with pytest.raises(DataError, match="here: there are no scores 'z', nor branches z_CLASS; it has jet_pt"):
        stored_scores(columns, "z", "here")
    broken = jet_columns(with_columns(table, {"y": np.array([1, np.nan, 2], np.float32)}))
    with pytest.raises(DataError, match="stored score y of jet 1 is not finite"):
        stored_scores(broken, "y", "here")


def test_taggers_and_stored_scores_side_by_side(taggers):
    names = ["Tbqq", "QCDb", "Tbcq", "QCDothers", "Hbb", "QCDc"]
    table = labelled(make_table(6, seed=4), names)
    tagger = replace(taggers["deepak8"], name="network")
    wanted = tag_jets(table, tagger).scores
    table = with_columns(
        table, {f"kept_{name}": np.ascontiguousarray(wanted[:, row]) for row, name in enumerate(LABELS)}
    )
    done = []
    parts = [("one", table[:4]), ("two", table[4:])]
    one, other = evaluate_taggers(parts, [tagger, "kept"], TOP, done.append)
    used = np.array([0, 1, 2, 3, 5])
    np.testing.assert_allclose(one.score, discriminant(wanted.astype(np.float64), "T")[used], rtol=1e-4)
    np.testing.assert_allclose(other.score, one.score, rtol=1e-4)
    assert one.sample is other.sample
    assert [LABELS[row] for row in one.truth] == [names[row] for row in used]
    assert (one.report.jets, other.report) == (6, None)
    assert np.isfinite(one.cpu_seconds)
    assert np.isnan(other.cpu_seconds)
    assert done == [4, 6]


def test_networks_of_jetclass_on_our_labels():
    table = labelled(make_table(3, seed=5), ["Tbqq", "QCDb", "Tbcq"])
    scores = {f"x_{name}": np.full(3, 0.1, np.float32) for name in JETCLASS_LABELS}
    scores["x_Tbqq"] = np.array([0.9, 0.1, 0.9], np.float32)
    (found,) = evaluate_taggers([("here", with_columns(table, scores))], ["x"], TOP)
    np.testing.assert_allclose(found.score, [0.9, 0.5, 0.9], rtol=1e-6)
    assert [found.labels[row] for row in found.truth] == ["Tbqq", "QCD", "Tbqq"]


def test_what_cannot_be_compared(taggers):
    table = labelled(make_table(3, seed=6), ["Tbqq", "QCDb", "Tbcq"])
    network = taggers["deepak8"]
    with pytest.raises(ConfigError, match="are called deepak8, deepak8; each needs a name of its own"):
        evaluate_taggers([("here", table)], [network, network], TOP)
    with pytest.raises(ConfigError, match="are called nothing"):
        evaluate_taggers([("here", table)], [], TOP)
    with pytest.raises(DataError, match="0 jets of the signal and 1 of the background"):
        evaluate_taggers([("here", table[1:2])], [network], TOP)
    flags = jetclass(make_table(2, seed=6), ["QCD", "Tbqq"])
    with pytest.raises(DataError, match="the files have different classes"):
        evaluate_taggers([("one", table), ("two", flags)], [network], TOP)


def test_numbers_by_hand():
    """Five of each: the second of the background lies above three of the signal."""
    signal = np.repeat([True, False], 5)
    score = np.array([0.95, 0.9, 0.6, 0.5, 0.4, 0.99, 0.3, 0.2, 0.1, 0.0])
    found = measure(result(signal, score), TOP)
    # One background jet beats all of the signal, the others none: 4 of 5 pairs are right.
    assert found.auc == pytest.approx(0.8)
    assert found.rejections[0.5].value == pytest.approx(5)
    assert isinstance(found.rejections[0.3], Rejection)
    # Not one jet of five may pass a mistag rate of 10 %.
    assert found.working_points == []
    assert found.by_bin == {"pt": {}, "pileup": {}}
    assert found.sculpting is None
    assert found.confusion.shape == (0, 0)
    assert found.unknown == 0
    np.testing.assert_allclose(found.curve.mistag, 0.2)
    np.testing.assert_allclose(found.curve.efficiency, [0.2, 0.4, 0.6, 0.8, 1.0])


def test_working_points_that_the_background_can_pay_for():
    rng = np.random.default_rng(0)
    signal = np.arange(400) % 2 == 0
    points = affordable_points(signal, rng.random(400))
    assert [point.name for point in points] == ["loose", "medium"]
    assert [int(point.mistag.passed) for point in points] == [20, 2]


def test_bins_add_up():
    rng = np.random.default_rng(1)
    signal = np.arange(1000) % 2 == 0
    score = np.clip(signal + rng.normal(0, 0.7, 1000), 0, 1)
    mine = result(signal, score, pt=rng.uniform(512, 987, 1000), pileup=rng.integers(20, 61, 1000))
    points = affordable_points(signal, mine.score)
    np.testing.assert_allclose(edges_of(mine, "pt")[[0, -1]], [500, 1000])
    for variable in ("pt", "pileup"):
        bins = in_bins(mine, points, variable)
        for point in points:
            efficiency, mistag = bins[point.name]
            assert efficiency.outside == mistag.outside == 0
            for binned, whole in ((efficiency, point.efficiency), (mistag, point.mistag)):
                assert np.sum(binned.ratio.passed) == whole.passed
                assert np.sum(binned.ratio.total) == whole.total
    # Without pile-up in the file, or with one number for all, there is nothing to draw.
    assert in_bins(result(signal, score), points, "pileup") == {}
    assert in_bins(result(signal, score, pileup=np.zeros(1000)), points, "pileup") == {}


def test_sculpting_that_chance_alone_makes():
    """A cut that knows nothing of the mass: the mean over samples is what is expected of one."""
    rng = np.random.default_rng(4)
    signal, found = np.zeros(4000, bool), []
    for _ in range(60):
        mass = 30 + 220 * rng.random(4000)
        found.append(mass_sculpting(mass, rng.random(4000), ~signal, 0.05))
    mean = np.mean([one.divergence for one in found])
    assert np.mean([sculpting_by_chance(one) for one in found]) == pytest.approx(mean, rel=0.15)
    # 22 bins, 200 jets against 3,800.
    assert sculpting_by_chance(found[0]) == pytest.approx(
        21 * (1 / 200 + 1 / 3800) / (8 * np.log(2)), rel=0.02
    )
    assert np.isnan(sculpting_by_chance(None))
    assert np.isnan(sculpting_by_chance(found[0]._replace(passed=0 * found[0].passed)))


def test_balanced_samples():
    signal = np.array([True] * 3 + [False] * 7)
    rows = balanced(signal)
    assert rows.tolist() == [0, 1, 2, 3, 5, 7]
    assert balanced(np.zeros(4, bool)).tolist() == []


def test_temperature_brings_probabilities_back():
    honest, sharp = (calibration(two_classes(20_000, sharpness=factor), TOP) for factor in (1.0, 3.0))
    assert honest.temperature == pytest.approx(1, abs=0.08)
    assert sharp.temperature == pytest.approx(3, abs=0.25)
    assert honest.before.error < 0.02
    assert sharp.before.error > 0.08
    assert sharp.after.error < 0.025
    # The half that the temperature was not fitted on.
    assert np.sum(sharp.after.observed.total) == pytest.approx(10_000, abs=400)


def test_calibration_without_classes():
    signal = np.arange(20) % 2 == 0
    stored = calibration(result(signal, np.where(signal, 0.9, 0.1)), TOP)
    assert stored.after is None
    assert np.isnan(stored.temperature)
    assert stored.before.error == pytest.approx(0.1)
    # What lies outside [0, 1] is no probability.
    assert calibration(result(signal, np.where(signal, 3.0, -1.0)), TOP) is None


def test_confusion_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    mine = result(
        [True, True, False, False], probabilities[:, 1], probabilities=probabilities, labels=("QCD", "T"),
        truth=[1, 1, 0, NOISE],
    )  # fmt: skip
    assert confusion(mine).tolist() == [[1, 0], [1, 1]]
    found = measure(mine, TOP)
    assert accuracy(found) == Ratio(2, 3)
    assert found.unknown == 1


@pytest.fixture(scope="module")
def pair():
    """Results of two networks and of a stored score on one sample with everything in it."""
    rng = np.random.default_rng(3)
    base = two_classes(3000, seed=2)
    sample = base.sample._replace(
        pt=rng.uniform(500, 1000, 3000).astype(np.float32),
        mass=rng.uniform(20, 260, 3000).astype(np.float32),
        pileup=rng.integers(0, 40, 3000).astype(np.float32),
    )
    first = replace(base, name="first", sample=sample, missing={"pfcand_dz": "part_dzval"}, cpu_seconds=2e-3)
    stored = TaggerResult("stored", sample, first.score * 2 - 1, (), first.probabilities[:, 1:], first.truth)
    return [first, stored]


def test_report(pair, tmp_path):
    found, written = write_report(tmp_path / "new", pair, question=TOP, title="A title")
    pictures = {"roc", "mass_sculpting", "reliability", "confusion_1"}
    pictures |= {f"{name}_vs_{axis}" for name in ("efficiency", "mistag_rate") for axis in ("pt", "pileup")}
    assert set(written) == {"report", "json", *pictures}
    for path in written.values():
        assert path.stat().st_size > 500
    text = written["report"].read_text()
    assert text.startswith("# A title\n\n|  | first | stored |")
    assert (
        "first: inputs that are not in the files, at their median: pfcand_dz (no branch part_dzval)." in text
    )
    assert "![roc](roc.png)" in text
    tree = json.loads(written["json"].read_text())
    assert tree == json.loads(json.dumps(to_json(pair, found, question=TOP, title="A title")))
    assert [one["name"] for one in tree["taggers"]] == ["first", "stored"]
    first, stored = tree["taggers"]
    assert first["auc"] == pytest.approx(stored["auc"])
    assert [point["name"] for point in first["working_points"]] == ["loose", "medium", "tight"]
    assert first["working_points"][0]["mistag"]["passed"] == int(0.1 * tree["jets"]["background"])
    assert sum(map(sum, first["confusion"]["counts"])) == 3000
    assert first["calibration"]["error_after"] < 0.04
    assert stored["calibration"] is None
    assert stored["confusion"]["counts"] == []
    assert first["missing"] == {"pfcand_dz": "part_dzval"}
    assert first["cpu_seconds"] == 2e-3
    assert stored["cpu_seconds"] is None
    assert len(first["roc"]["efficiency"]) > 100


def test_rows_of_the_summary(pair):
    found = [measure(one, TOP) for one in pair]
    rows = dict(summary_rows(pair, found))
    signal = int(pair[0].sample.signal.sum())
    assert rows["signal / background"] == [f"{signal:,} / {3000 - signal:,}"] * 2
    assert rows["temperature"][1] == "-"
    assert rows["CPU time per jet [ms]"] == ["2", "-"]
    assert rows["inputs missing"] == ["1", "-"]
    # Nobody measured what was left out, so nothing is said of it.
    assert "candidates left out" not in rows
    assert rows["AUC"][0] == rows["AUC"][1]
    assert summary_table(pair, found, "title").row_count == len(rows)
    assert "candidates left out" not in to_markdown(pair, found, title="title")


def test_rejection_that_no_background_limits():
    signal = np.arange(200) % 2 == 0
    found = [measure(result(signal, np.where(signal, 0.9, 0.1)), TOP)]
    rows = dict(summary_rows([result(signal, np.where(signal, 0.9, 0.1))], found))
    # 68.3 % limit of nothing among a hundred.
    assert rows["rejection at 50 %"] == ["> 55"]
