"""From a file of jets to scores: readers, losses that are counted, the order of candidates, tables that are broken."""

from __future__ import annotations

from dataclasses import replace

import awkward as ak
import numpy as np
import pytest

from recon.errors import DataError
from recon.io.jet_columns import jet_columns, with_columns
from recon.io.jets import write_jets
from recon.tagging import LABELS, tag_jets
from recon.tagging.features import InputReport, make_jets, missing_columns
from recon.tagging.pipeline import (
    ESSENTIAL,
    merge_reports,
    open_jets,
    read_tables,
    tag_tables,
    tag_tables_remotely,
)
from recon.tagging.remote import pack_jets, unpack_scores
from tests.recon.tagging.conftest import N_CANDIDATES, N_VERTICES
from tests.recon.tagging.small_jets import make_table

pytestmark = pytest.mark.usefixtures("quick_programs")


def changed(table, **columns):
    """A table with some columns exchanged."""
    return ak.Array({name: columns.get(name, table[name]) for name in table.fields})


def without(table, *names):
    return ak.Array({name: table[name] for name in table.fields if name not in names})


@pytest.mark.parametrize("kind", ["deepak8", "particlenet"])
def test_scores_are_those_of_the_network(taggers, kind):
    table, tagger = make_table(7, seed=1), taggers[kind]
    tagged = tag_jets(table, tagger)
    made, report = make_jets(jet_columns(table), tagger.inputs)
    np.testing.assert_array_equal(tagged.scores, tagger.scorer(made))
    assert tagged.scores.shape == (7, len(LABELS))
    np.testing.assert_allclose(tagged.scores.sum(1), 1, rtol=1e-5)
    assert np.ptp(tagged.scores, axis=0).max() > 0.01
    assert tagged.report == report
    np.testing.assert_array_equal(tag_jets(tagged.columns, tagger).scores, tagged.scores)


@pytest.mark.parametrize("kind", ["deepak8", "particlenet"])
def test_order_of_candidates_and_vertices_in_the_file_changes_nothing(taggers, kind):
    table = make_table(6, seed=2, candidates=(3, 9), vertices=(1, 3))
    rng = np.random.default_rng(0)
    shuffled = {}
    for prefix, counter in (("part_", "part_px"), ("sv_", "sv_px")):
        order = ak.argsort(ak.unflatten(rng.random(ak.count(table[counter])), ak.num(table[counter])))
        shuffled |= {name: table[name][order] for name in table.fields if name.startswith(prefix)}
    found = tag_jets(changed(table, **shuffled), taggers[kind]).scores
    np.testing.assert_allclose(found, tag_jets(table, taggers[kind]).scores, atol=1e-6)


def test_equal_momenta_beyond_the_documented_sort(taggers):
    """The order of candidates of one momentum is nobody's: a network for clouds does not see it, a convolution does."""
    table = make_table(4, seed=3, candidates=(5, 5), vertices=(0, 0))
    # One momentum for all candidates of a jet, in different directions.
    pt = 20.0
    phi = np.arctan2(table["part_py"], table["part_px"])
    same = changed(
        table,
        part_px=ak.values_astype(pt * np.cos(phi), "float32"),
        part_py=ak.values_astype(pt * np.sin(phi), "float32"),
    )
    back = {name: same[name][:, ::-1] for name in same.fields if name.startswith("part_")}
    unordered = [tag_jets(one, taggers["particlenet"]).scores for one in (same, changed(same, **back))]
    np.testing.assert_allclose(unordered[0], unordered[1], atol=1e-6)
    ordered = [tag_jets(one, taggers["deepak8"]).scores for one in (same, changed(same, **back))]
    assert np.abs(ordered[0] - ordered[1]).max() > 1e-4


def test_jets_of_every_kind_that_can_be_empty(taggers):
    tables = {
        "no candidates": make_table(3, candidates=(0, 0), vertices=(1, 2)),
        "no vertices": make_table(3, candidates=(2, 5), vertices=(0, 0)),
        "neither": make_table(3, candidates=(0, 0), vertices=(0, 0)),
        "no jets": make_table(0),
    }
    empty = {"no candidates": 3, "no vertices": 1, "neither": 3, "no jets": 0}
    for name, table in tables.items():
        tagged = tag_jets(table, taggers["deepak8"])
        assert tagged.scores.shape == (len(table), 17), name
        assert np.isfinite(tagged.scores).all(), name
        assert tagged.report.empty == empty[name], name


def test_what_does_not_fit_is_the_softest_and_is_counted(taggers):
    table = make_table(5, seed=4, candidates=(12, 14), vertices=(5, 6))
    tagged = tag_jets(table, taggers["deepak8"])
    counts = ak.to_numpy(ak.num(table["part_px"]))
    assert tagged.report.candidates == counts.sum()
    assert tagged.report.candidates_dropped == np.maximum(counts - N_CANDIDATES, 0).sum() > 0
    assert tagged.report.jets_over_capacity == (counts > N_CANDIDATES).sum() == 4
    vertices = ak.to_numpy(ak.num(table["sv_px"]))
    assert tagged.report.vertices_dropped == np.maximum(vertices - N_VERTICES, 0).sum() > 0
    hardest = {name: table[name][:, :N_CANDIDATES] for name in table.fields if name.startswith("part_")}
    cut = tag_jets(changed(table, **hardest), taggers["deepak8"])
    np.testing.assert_array_equal(cut.scores, tagged.scores)
    assert cut.report.candidates_dropped == 0


def test_vertices_that_nobody_reads_are_not_lost(taggers):
    inputs = replace(taggers["deepak8"].inputs, vertices=None)
    made, report = make_jets(jet_columns(make_table(4, vertices=(9, 9))), inputs)
    assert report.vertices_dropped == 0
    assert not made.vertex_valid.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_numbers_are_replaced_and_counted(taggers, bad):
    table = make_table(4, seed=5, candidates=(3, 6))
    values = ak.where(ak.local_index(table["part_d0val"]) == 0, np.float32(bad), table["part_d0val"])
    charged = ak.where(ak.local_index(table["part_d0err"]) == 0, np.float32(0.05), table["part_d0err"])
    broken = changed(table, part_d0val=values, part_d0err=charged)
    tagged = tag_jets(broken, taggers["deepak8"])
    assert np.isfinite(tagged.scores).all()
    assert tagged.report.replaced > 0
    assert tag_jets(table, taggers["deepak8"]).report.replaced == 0


def test_branches_that_are_missing_are_named(taggers):
    table = without(make_table(4, seed=6, candidates=(2, 5)), "part_d0err", "sv_mass")
    tagged = tag_jets(table, taggers["deepak8"])
    lacking = missing_columns(tagged.columns, taggers["deepak8"].inputs)
    assert set(lacking) == set(tagged.report.missing)
    assert lacking["pfcand_dxysig"] == "part_d0err"
    assert lacking["sv_mass"] == "sv_mass"
    assert np.isfinite(tagged.scores).all()


@pytest.mark.parametrize("layout", ["root", "parquet"])
def test_essential_branches_are_needed(tmp_path, layout):
    table = make_table(4, seed=7)
    renamed = ak.Array({{"part_px": "part_PX"}.get(name, name): table[name] for name in table.fields})
    path = tmp_path / f"jets.{layout}"
    write_jets(path, [renamed])
    with pytest.raises(DataError, match=rf"jets.{layout}: there is no branch 'part_px' \(near: 'part_PX'"):
        next(read_tables(open_jets(path)))
    assert set(ESSENTIAL) <= set(table.fields)


@pytest.mark.parametrize("layout", ["root", "parquet"])
def test_truncated_files(tmp_path, layout):
    path = tmp_path / f"jets.{layout}"
    write_jets(path, [make_table(40, seed=8)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        open_jets(path)


def test_tables_of_a_file(tmp_path, taggers):
    table = make_table(9, seed=9)
    write_jets(tmp_path / "jets.root", [table])
    file = open_jets(tmp_path / "jets.root")
    assert (file.nano, file.entries) == (False, 9)
    ((read, tagged),) = tag_tables(read_tables(file, entries=5), taggers["deepak8"])
    assert len(read) == 5
    np.testing.assert_array_equal(tagged.scores, tag_jets(table[:5], taggers["deepak8"]).scores)


def test_reports_add_up():
    one = InputReport(2, 1, 30, 4, 1, 2, 5, ("a",))
    other = InputReport(3, 0, 40, 1, 1, 0, 1, ("b", "a"))
    assert merge_reports([one, other]) == (5, 1, 70, 5, 2, 2, 6, ("a", "b"))
    assert merge_reports([one]) == one
    with pytest.raises(DataError, match="no jets to report on"):
        merge_reports([])


class Here:
    """An engine in this process: answers as the scorer does, and keeps what it was asked."""

    def __init__(self, tagger):
        self.tagger, self.asked = tagger, []

    def acquire(self, inputs):
        self.asked.append({name: array.shape for name, array in inputs.items()})
        return inputs

    def produce(self, inputs):
        # Zeros are what padding looks like to DeepAK8.
        made, _ = make_jets(jet_columns(make_table(len(inputs["candidates"]))), self.tagger.inputs)
        whole = made._replace(
            candidates=inputs["candidates"],
            vertices=inputs["vertices"],
            candidate_valid=np.ones(inputs["candidates"].shape[:2], bool),
            vertex_valid=np.ones(inputs["vertices"].shape[:2], bool),
        )
        return {"scores": self.tagger.scorer(whole)}

    def close(self):
        pass


def test_batches_of_an_engine_come_back_in_order(taggers):
    tagger, table = taggers["deepak8"], make_table(11, seed=10)
    engine = Here(tagger)
    found = list(tag_tables_remotely([table[:7], table[7:]], tagger, engine, streams=2, batch=3))
    assert [len(part) for part, _ in found] == [3, 3, 1, 3, 1]
    scores = np.concatenate([tagged.scores for _, tagged in found])
    np.testing.assert_allclose(scores, tag_jets(table, tagger).scores, atol=1e-6)
    joined = ak.concatenate([part for part, _ in found])
    assert ak.array_equal(joined["part_px"], table["part_px"])
    assert sorted(shapes["candidates"][0] for shapes in engine.asked) == [1, 1, 3, 3, 3]


def test_inputs_of_an_engine(taggers):
    for kind, names in {
        "deepak8": {"candidates", "vertices"},
        "particlenet": {"candidates", "candidate_valid"},
    }.items():
        made, _ = make_jets(jet_columns(make_table(3, seed=11)), taggers[kind].inputs)
        assert set(pack_jets(made, taggers[kind])) == names
    bad = made._replace(candidates=np.where(made.candidate_valid[..., None], np.nan, made.candidates))
    with pytest.raises(DataError, match=r"jet 1, candidate 0, column 0 is nan"):
        pack_jets(bad, taggers["deepak8"])
    with pytest.raises(DataError, match=r"has shape \(2, 17\); \(3, 17\) is needed"):
        unpack_scores(made, {"scores": np.zeros((2, 17), np.float32)}, LABELS)


def test_columns_that_are_added():
    table = make_table(3, seed=12)
    scores = np.arange(3, dtype=np.float32)
    wider = with_columns(table, {"mine_Tbqq": scores})
    assert wider.fields == [*table.fields, "mine_Tbqq"]
    np.testing.assert_array_equal(wider["mine_Tbqq"], scores)
    with pytest.raises(DataError, match="have a column 'jet_pt' already"):
        with_columns(table, {"jet_pt": scores})
    with pytest.raises(DataError, match="'x' has 2 values for 3 jets"):
        with_columns(table, {"x": scores[:2]})
