from __future__ import annotations

import json
import math

import numpy as np
import pytest
from flax import nnx

from recon.metrics import auc
from recon.tagging.labels import JETCLASS_LABELS, LABELS
from recon.tagging.training_report import (
    card_text,
    data_text,
    is_background,
    quality,
    quality_json,
    table_rows,
)
from tests.recon.tagging.small_files import write_separable


@pytest.fixture(scope="module")
def jets():
    """Logits that know the class a little."""
    rng = np.random.default_rng(0)
    label = rng.choice([LABELS.index(name) for name in ("Tbcq", "Tbqq", "Hbb", "QCDb", "QCDothers")], 2000)
    logits = rng.normal(size=(2000, len(LABELS)))
    logits[np.arange(2000), label] += 2
    return logits.astype(np.float32), label, rng.uniform(30, 250, 2000).astype(np.float32)


def test_a_group_is_the_sum_of_its_classes(jets):
    logits, label, mass = jets
    found = quality(logits, label, mass, LABELS)
    p = np.exp(logits.astype(float))
    top, qcd = p[:, :2].sum(1), p[:, 12:].sum(1)
    used = np.isin(label, [0, 1, 14, 16])
    assert found.signals["top"].auc == pytest.approx(
        auc(label[used] < 2, (top / (top + qcd))[used]), abs=1e-12
    )
    assert found.signals["top"].signal == (label < 2).sum()
    assert found.signals["top"].background == np.isin(label, [14, 16]).sum()
    assert found.accuracy.value == pytest.approx((logits.argmax(1) == label).mean())


def test_signals_without_jets_are_left_out(jets):
    assert set(quality(*jets, LABELS).signals) == {"top", "H(bb)"}


def test_jets_without_a_class_do_not_count(jets):
    logits, label, mass = jets
    more = np.append(label, [-1, -1])
    padded = quality(
        np.concatenate([logits, np.full((2, len(LABELS)), 50.0, np.float32)]),
        more,
        np.append(mass, [50, 60]),
        LABELS,
    )
    assert quality_json(padded) == quality_json(quality(logits, label, mass, LABELS))


def test_the_classes_of_jetclass_are_understood():
    rng = np.random.default_rng(1)
    label = rng.choice([JETCLASS_LABELS.index("QCD"), JETCLASS_LABELS.index("Tbqq")], 300)
    logits = rng.normal(size=(300, 10)).astype(np.float32)
    logits[np.arange(300), label] += 9
    assert quality(logits, label, np.full(300, np.nan), JETCLASS_LABELS).signals["top"].auc > 0.999


def test_a_b_tagger_holds_b_against_the_rest():
    flavours = ("b", "bb", "c", "cc", "udsg")
    label = np.array([0, 1, 2, 4, 4])
    logits = np.full((5, 5), -3.0, np.float32)
    logits[np.arange(5), label] = 3
    found = quality(logits, label, np.full(5, np.nan), flavours)
    assert found.signals["b"].auc == 1.0
    assert (found.signals["b"].signal, found.signals["b"].background) == (2, 3)
    assert math.isnan(found.signals["b"].sculpting)
    assert is_background(label, flavours).tolist() == [False, False, False, True, True]


def test_quarks_and_gluons_are_the_background():
    label = np.array([LABELS.index("QCDcc"), LABELS.index("Zbb"), -1])
    assert is_background(label, LABELS).tolist() == [True, False, False]
    assert is_background(np.array([0, 1]), JETCLASS_LABELS).tolist() == [True, False]


def test_a_score_that_follows_the_mass_sculpts_it(jets):
    logits, label, mass = jets
    follows = logits.copy()
    follows[:, :2] += 0.1 * mass[:, None]
    plain, sculpted = (
        quality(array, label, mass, LABELS).signals["top"].sculpting for array in (logits, follows)
    )
    assert sculpted > 0.3 > plain


def test_json_has_no_nan(jets):
    logits, label, _ = jets
    text = json.dumps(quality_json(quality(logits, label, np.full(2000, np.nan), LABELS)), allow_nan=False)
    top = json.loads(text)["signals"]["top"]
    assert top["sculpting"] is None
    assert set(top["rejections"]) == {"0.3", "0.5"}


def test_the_table_has_a_column_a_tagger(jets):
    found = quality(*jets, LABELS)
    bare = found._replace(signals={})
    rows = dict(table_rows([found, bare]))
    assert rows["top against QCD: AUC"] == [
        f"{found.signals['top'].auc:.4f} ± {found.signals['top'].auc_error:.4f}",
        "-",
    ]
    assert len(rows["temperature"]) == 2


def test_the_card_says_how_the_jets_were_made(tmp_path, jets):
    path = write_separable(tmp_path / "sample.parquet", 10, seed=5)
    assert data_text([path]) == "- `sample.parquet`: seed 5"
    network = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    found = quality(*jets, LABELS)
    text = card_text("Title", network, ("ten jets", [found], ["it"]), [path], "Long.", {"b": 1, "a": None})
    assert text.startswith("# Title\n\n16 trained parameters. Long.\n")
    assert text.index("| a | None |") < text.index("| b | 1 |")
    assert "On ten jets." in text
