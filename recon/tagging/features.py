"""From raw jets to `Jets`: the features of a network, standardised, sorted and padded.

On the host everything runs on flat columns and is laid out at the end (`make_jets`), which is what training and
reconstruction use; `padded_jets` computes the same from padded columns and can be compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int64, Shaped

from recon.errors import DataError
from recon.features import ABSURD, Feature, FeatureTable, apply_features
from recon.io.jet_columns import JetColumns
from recon.tagging.inputs import DEEPAK8_CANDIDATES, DEEPAK8_VERTICES, JetInputs, deepak8_features
from recon.tagging.quantities import CANDIDATE_FORMULAS, VERTEX_FORMULAS, Quantities, nearest_vertex
from recon.types import NOISE, Array, Jets

_CANDIDATE_PLACE, _VERTEX_PLACE = {"part_deta", "part_dphi"}, {"sv_deta", "sv_dphi"}
"""Columns without which nobody knows how far a candidate is from a vertex."""


class InputReport(NamedTuple):
    """What did not come through as it was.

    Attributes:
        jets: number of jets.
        empty: jets without any candidate.
        candidates: number of candidates in the file.
        candidates_dropped: beyond the capacity.
        jets_over_capacity: jets with more candidates than the capacity.
        vertices_dropped: beyond the capacity.
        replaced: values that were NaN or infinite, of all features but the distance of the nearest vertex, which is
            infinite in jets without any.
        missing: features that the file cannot give: they are 0, which is the median after standardisation.
    """

    jets: int
    empty: int
    candidates: int
    candidates_dropped: int
    jets_over_capacity: int
    vertices_dropped: int
    replaced: int
    missing: tuple[str, ...]


def fit_inputs(
    columns: JetColumns,
    candidates: Sequence[str] = DEEPAK8_CANDIDATES,
    vertices: Sequence[str] = DEEPAK8_VERTICES,
    *,
    n_candidates: int = 100,
    n_vertices: int = 7,
) -> JetInputs:
    """Standardise features on a sample as CMS and weaver do: the median, and the wider of the two 34 % quantiles.

    Args:
        columns: the sample.
        candidates: names of features.
        vertices: names of features; empty for none.
        n_candidates: capacity.
        n_vertices: capacity.

    Returns:
        The inputs, to be used on all further data. A feature that the sample cannot give keeps mean 0 and scale 1.
    """
    views = _flat_views(columns)
    tables = [
        tuple(_fitted(feature, view) for feature in deepak8_features(names))
        for view, names in zip(views, (candidates, vertices), strict=True)
    ]
    return JetInputs(
        candidates=FeatureTable(features=tables[0]),
        vertices=FeatureTable(features=tables[1]) if vertices else None,
        n_candidates=n_candidates,
        n_vertices=n_vertices,
    )


def _fitted(feature: Feature, view: Quantities) -> Feature:
    if not view.has(feature.column):
        return feature
    values = np.asarray(view[feature.column])
    values = values[np.abs(values) <= ABSURD]
    if not len(values):
        return feature
    low, median, high = np.percentile(values, [16, 50, 84])
    spread = max(high - median, median - low)
    return replace(feature, mean=float(median), scale=float(spread) if spread > 0 else 1.0)


def make_jets(columns: JetColumns, inputs: JetInputs) -> tuple[Jets, InputReport]:
    """Compute, sort and pad the features of jets, on the host.

    Args:
        columns: raw jets; a column `jet_label` gives the labels.
        inputs: of the network.

    Returns:
        The jets (NumPy), and what was left out or replaced.

    Raises:
        DataError: none of the features of a kind can be computed; names a missing column.
    """
    views = _flat_views(columns)
    counts = (columns.candidate_count, columns.vertex_count)
    keys = (_sort_key(views[0], "pt"), _sort_key(views[1], "sv_dxysig"))
    tables = (inputs.candidates, inputs.vertices)
    sizes = (inputs.n_candidates, inputs.n_vertices)
    parts = [
        _laid_out(view, table, key, count, size)
        for view, table, key, count, size in zip(views, tables, keys, counts, sizes, strict=True)
    ]
    n_jets = len(columns.candidate_count)
    jets = Jets(
        parts[0].values, parts[0].valid, parts[1].values, parts[1].valid, _labels(columns.jets, n_jets)
    )
    report = InputReport(
        jets=n_jets,
        empty=int((columns.candidate_count == 0).sum()),
        candidates=int(columns.candidate_count.sum()),
        candidates_dropped=parts[0].dropped,
        jets_over_capacity=int((columns.candidate_count > inputs.n_candidates).sum()),
        vertices_dropped=parts[1].dropped,
        replaced=parts[0].replaced + parts[1].replaced,
        missing=(*parts[0].missing, *parts[1].missing),
    )
    return jets, report


def missing_columns(columns: JetColumns, inputs: JetInputs) -> dict[str, str]:
    """Features that a file cannot give, and for each the first column that it lacks.

    Args:
        columns: some jets of the file.
        inputs: of the network.
    """
    found: dict[str, str] = {}
    for view, table in zip(_flat_views(columns), (inputs.candidates, inputs.vertices), strict=True):
        lacking = {name: view.lacks(name) for name in (table.columns if table is not None else ())}
        found |= {name: column for name, column in lacking.items() if column is not None}
    return found


def _labels(jets: Mapping[str, np.ndarray], n_jets: int) -> np.ndarray:
    return np.asarray(jets.get("jet_label", np.full(n_jets, NOISE)), np.int32)


def _flat_views(columns: JetColumns) -> tuple[Quantities, Quantities]:
    """Quantities of all candidates and of all vertices, one jet after the other."""
    with np.errstate(all="ignore"):
        own = dict(columns.candidates)
        placed = not columns.vertex_count.any() or set(columns.vertices) >= _VERTEX_PLACE
        if placed and set(own) >= _CANDIDATE_PLACE:
            own["nearest_vertex"] = _flat_nearest_vertex(columns)
    return (
        _FlatQuantities(own, columns.jets, columns.candidate_count, CANDIDATE_FORMULAS),
        _FlatQuantities(columns.vertices, columns.jets, columns.vertex_count, VERTEX_FORMULAS),
    )


class _FlatQuantities(Quantities):
    """Quantities of flat columns: a jet's value is repeated for everything in it."""

    def __init__(self, own: Mapping[str, Any], jets: Mapping[str, Any], counts: Any, formulas: Any) -> None:
        super().__init__(
            own, jets, lambda column: np.repeat(np.asarray(column, np.float32), counts), formulas, np
        )

    def __getitem__(self, name: str) -> Array:
        # Logarithms of nothing and the like are what `Feature.replace` is for.
        with np.errstate(all="ignore"):
            return super().__getitem__(name)


def _flat_nearest_vertex(columns: JetColumns) -> Float32[np.ndarray, " c"]:
    """Distance of every candidate from the nearest vertex of its jet; infinite where it has none."""
    nearest = np.full(int(columns.candidate_count.sum()), np.inf, np.float32)
    if not columns.vertex_count.any():
        return nearest
    rank = _ranks(columns.vertex_count)
    owner = np.repeat(np.arange(len(columns.vertex_count)), columns.vertex_count)
    jet = np.repeat(np.arange(len(columns.candidate_count)), columns.candidate_count)
    # One vertex of every jet at a time: most jets have one or two.
    for place in range(int(columns.vertex_count.max())):
        rows = np.flatnonzero(rank == place)
        there = np.full(len(columns.vertex_count), -1)
        there[owner[rows]] = rows
        picked = np.flatnonzero(there[jet] >= 0)
        vertex = there[jet[picked]]
        distance = nearest_vertex(
            columns.candidates["part_deta"][picked],
            columns.candidates["part_dphi"][picked],
            columns.vertices["sv_deta"][vertex][:, None],
            columns.vertices["sv_dphi"][vertex][:, None],
            np.ones((len(vertex), 1), bool),
            np,
        )
        nearest[picked] = np.minimum(nearest[picked], distance)
    return nearest


def _ranks(counts: Int64[np.ndarray, " j"]) -> Int64[np.ndarray, " n"]:
    """0, 1, 2, ... within every jet."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def _sort_key(view: Quantities, name: str) -> np.ndarray | None:
    """What to sort by, falling; `None` where the file does not say and its order is kept."""
    if not view.has(name):
        return None
    key = np.asarray(view[name])
    return np.where(np.isnan(key), -np.inf, key)


class _Padded(NamedTuple):
    values: np.ndarray
    valid: np.ndarray
    dropped: int
    replaced: int
    missing: tuple[str, ...]


def _laid_out(
    view: Quantities,
    table: FeatureTable | None,
    key: Shaped[np.ndarray, " n"] | None,
    counts: Int64[np.ndarray, " j"],
    size: int,
) -> _Padded:
    n_features = len(table) if table is not None else 0
    values = np.zeros((len(counts), size, n_features), np.float32)
    valid = np.arange(size) < counts[:, None]
    total = int(counts.sum())
    dropped = total - int(valid.sum())
    if table is None:
        # Nothing is lost that nobody reads.
        return _Padded(values, valid & False, 0, 0, ())
    if not total:
        return _Padded(values, valid, dropped, 0, ())
    given = [index for index, name in enumerate(table.columns) if view.has(name)]
    missing = tuple(name for name in table.columns if not view.has(name))
    if not given:
        view[table.columns[0]]  # raises, naming the column
    order = _order(key, counts)
    rank = _ranks(counts)
    fits = rank < size
    selected = FeatureTable(features=tuple(table.features[index] for index in given))
    # Sorting and dropping first: what does not fit need not be computed. Whole columns where nothing changes.
    pick = None if order is None and not dropped else (np.arange(total) if order is None else order)[fits]
    columns = {
        name: np.asarray(view[name]) if pick is None else np.asarray(view[name])[pick]
        for name in selected.columns
    }
    # Without any vertex the nearest one is infinitely far: that is no bad number.
    told = (column for name, column in columns.items() if name != "pfcand_drminsv")
    replaced = sum(int((~(np.abs(column) <= ABSURD)).sum()) for column in told)
    standard = apply_features(selected, columns)
    slots = np.repeat(np.arange(len(counts)) * size, counts)[fits] + rank[fits]
    flat = values.reshape(-1, n_features)
    if len(given) == n_features:
        flat[slots] = standard
    else:
        flat[slots[:, None], np.array(given)] = standard
    return _Padded(values, valid, dropped, replaced, missing)


def _order(key: np.ndarray | None, counts: Int64[np.ndarray, " j"]) -> np.ndarray | None:
    """Rows in falling order of the key within every jet; `None` where they are so already."""
    if key is None or len(key) < 2:
        return None
    jet = np.repeat(np.arange(len(counts)), counts)
    if ((key[1:] <= key[:-1]) | (jet[1:] != jet[:-1])).all():
        return None
    return np.lexsort((-key, jet))


class PaddedColumns(NamedTuple):
    """Raw jets in padded arrays, for `padded_jets`.

    Attributes:
        jets: [j] by name.
        candidates: [j, c] by name.
        candidate_valid: [j, c].
        vertices: [j, v] by name.
        vertex_valid: [j, v].
    """

    jets: Mapping[str, Array]
    candidates: Mapping[str, Array]
    candidate_valid: Array
    vertices: Mapping[str, Array]
    vertex_valid: Array


def padded_jets(columns: PaddedColumns, inputs: JetInputs) -> Jets:
    """Compute the features of padded jets; can be compiled.

    Args:
        columns: sorted as `JetInputs` says, no longer than its capacities.
        inputs: of the network.

    Returns:
        Jets of the shapes given.

    Raises:
        DataError: more candidates or vertices than the capacity, or no feature that can be computed.
    """
    for kind, valid, size in (
        ("candidates", columns.candidate_valid, inputs.n_candidates),
        ("vertices", columns.vertex_valid, inputs.n_vertices),
    ):
        if valid.shape[1] > size:
            raise DataError(f"padded jets hold {valid.shape[1]} {kind}; the capacity of the inputs is {size}")
    numpy = np if isinstance(columns.candidate_valid, np.ndarray) else jnp
    own = dict(columns.candidates)
    if set(columns.vertices) >= _VERTEX_PLACE and set(own) >= _CANDIDATE_PLACE:
        own["nearest_vertex"] = nearest_vertex(
            own["part_deta"],
            own["part_dphi"],
            columns.vertices["sv_deta"][:, None],
            columns.vertices["sv_dphi"][:, None],
            columns.vertex_valid[:, None],
            numpy,
        )
    views = [
        Quantities(kind, columns.jets, lambda column: column[:, None], formulas, numpy)
        for kind, formulas in ((own, CANDIDATE_FORMULAS), (columns.vertices, VERTEX_FORMULAS))
    ]
    candidates = _padded_features(views[0], inputs.candidates, columns.candidate_valid, numpy)
    vertices = _padded_features(views[1], inputs.vertices, columns.vertex_valid, numpy)
    label = columns.jets.get("jet_label", numpy.full(columns.candidate_valid.shape[0], NOISE))
    return Jets(
        candidates,
        columns.candidate_valid,
        vertices,
        columns.vertex_valid,
        numpy.asarray(label, dtype=numpy.int32),
    )


def _padded_features(view: Quantities, table: FeatureTable | None, valid: Array, numpy: Any) -> Array:
    if table is None:
        return numpy.zeros((*valid.shape, 0), numpy.float32)
    if valid.shape[1] and not any(view.has(name) for name in table.columns):
        view[table.columns[0]]  # raises, naming the column
    zeros = numpy.zeros(valid.shape, numpy.float32)
    columns = []
    for feature in table.features:
        if not view.has(feature.column):
            columns.append(zeros)
            continue
        shaped = numpy.broadcast_to(view[feature.column], valid.shape)
        only = FeatureTable(features=(feature,))
        columns.append(apply_features(only, {feature.column: shaped}, valid)[..., 0])
    return numpy.stack(columns, axis=-1)
