from __future__ import annotations

import numpy as np
import pytest

from recon.errors import DataError
from recon.io.jet_columns import jet_columns
from recon.io.jets import write_jets
from recon.tagging.features import fit_inputs, make_jets
from recon.tagging.inputs import DEEPAK8_CANDIDATES
from recon.tagging.labels import LABELS
from recon.tagging.samples import (
    file_labels,
    first_rows,
    fitted_inputs,
    joined,
    read_sample,
    select,
    single_precision,
)
from tests.recon.tagging.small_files import as_jetclass, separable_table
from tests.recon.tagging.small_jets import make_table


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jets")
    paths = folder / "a.parquet", folder / "b.root"
    for seed, path in enumerate(paths):
        write_jets(path, [separable_table(30 + 10 * seed, seed)])
    return paths


@pytest.fixture(scope="module")
def inputs(files):
    return fitted_inputs(files, 12, 3)


def test_files_of_both_formats_follow_one_another(files, inputs):
    seen = []
    sample, lost = read_sample(files, inputs, LABELS, lambda *told: seen.append(told))
    assert len(sample.pt) == lost.jets == 70
    assert seen == [("a.parquet", 30, 30), ("b.root", 40, 40)]
    table = separable_table(40, 1)
    assert np.allclose(sample.pt[30:], np.asarray(table["jet_pt"]))
    assert np.allclose(sample.mass[30:], np.asarray(table["jet_sdmass"]))
    assert np.array_equal(sample.jets.label[30:], np.asarray(table["jet_label"]))
    assert lost.candidates_dropped > 0


def test_features_are_those_of_make_jets_in_half_precision(files, inputs):
    sample = read_sample(files[:1], inputs, LABELS)[0]
    made = make_jets(jet_columns(separable_table(30, 0)), inputs)[0]
    assert sample.jets.candidates.dtype == np.float16
    back = single_precision(sample.jets)
    assert back.candidates.dtype == back.vertices.dtype == np.float32
    assert np.allclose(back.candidates, made.candidates, atol=4e-3)
    assert np.array_equal(back.candidate_valid, made.candidate_valid)


def test_what_the_files_cannot_give_is_no_input(files, inputs):
    names = inputs.candidates.columns
    assert set(names) < set(DEEPAK8_CANDIDATES)
    assert "pfcand_dptdpt" not in names
    assert "pfcand_pt_log" in names
    sample, lost = read_sample(files, inputs, LABELS)
    assert lost.missing == ()
    valid = single_precision(sample.jets).candidates[sample.jets.candidate_valid]
    place = names.index("pfcand_pt_log")
    # The softest are left out, which the median of the sample does not know.
    assert abs(np.median(valid[:, place])) < 0.3
    assert (inputs.n_candidates, inputs.n_vertices) == (12, 3)


def test_the_standardisation_is_that_of_all_files_together(files, inputs):
    whole = joined([jet_columns(separable_table(30, 0)), jet_columns(separable_table(40, 1))])
    expected = fit_inputs(whole, inputs.candidates.columns, inputs.vertices.columns)
    assert inputs.candidates == expected.candidates
    assert inputs.vertices == expected.vertices


def test_other_classes_are_marked(files, inputs):
    sample = read_sample(files, inputs, ("Tbqq", "Hbb"))[0]
    assert set(np.unique(sample.jets.label)) == {-1, 0}


def test_labels_of_jetclass_are_understood():
    labels, rows = file_labels(jet_columns(as_jetclass(separable_table(20, 3))), "here")
    plain = np.asarray(separable_table(20, 3)["jet_label"])
    assert labels[0] == "QCD"
    assert np.array_equal(rows == labels.index("Tbqq"), plain == LABELS.index("Tbqq"))


def test_jets_without_labels_are_refused(tmp_path, inputs):
    table = make_table(5)
    columns = jet_columns(table[[name for name in table.fields if name != "jet_label"]])
    with pytest.raises(DataError, match=r"here: .* nothing says what the jets are"):
        file_labels(columns, "here")
    bare = separable_table(5, 0)
    path = tmp_path / "no_pt.parquet"
    write_jets(path, [bare[[name for name in bare.fields if name != "jet_pt"]]])
    with pytest.raises(DataError, match="no branch 'jet_pt'"):
        read_sample([path], inputs, LABELS)


def test_first_rows_and_joined_are_each_others_inverse():
    whole = jet_columns(make_table(9, 2))
    head, rest = first_rows(whole, 4), jet_columns(make_table(9, 2)[4:])
    again = joined([head, rest])
    for kind in ("jets", "candidates", "vertices"):
        for name, values in getattr(whole, kind).items():
            assert np.array_equal(getattr(again, kind)[name], values), name
    assert np.array_equal(again.candidate_count, whole.candidate_count)
    assert np.array_equal(again.vertex_count, whole.vertex_count)


def test_a_selection_keeps_rows_together(files, inputs):
    sample = read_sample(files, inputs, LABELS)[0]
    some = select(sample, np.array([5, 2]))
    assert np.array_equal(some.pt, sample.pt[[5, 2]])
    assert np.array_equal(some.jets.candidates, sample.jets.candidates[[5, 2]])


def test_jets_with_two_labels_and_files_with_some_are_refused(tmp_path, inputs):
    table = as_jetclass(separable_table(6, 0))
    table["label_Hbb"] = np.arange(6) == 4
    path = tmp_path / "twice.parquet"
    write_jets(path, [table])
    with pytest.raises(DataError, match=r"twice\.parquet: jet 4 has two labels"):
        read_sample([path], inputs, LABELS)
    columns = jet_columns(table[[name for name in table.fields if name != "label_Tbl"]])
    with pytest.raises(DataError, match="no column 'jet_label', nor label_Tbl: nothing says"):
        file_labels(columns, "here")
