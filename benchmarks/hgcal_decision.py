"""What the hybrid clustering decides from the probabilities of its network: its loss, and several decisions compared.

    python benchmarks/hgcal_decision.py valid200.root --model hybrid-timing

The network is run once an endcap; every pair of member share and least probability (`HybridConfig`) then makes showers
of its own, judged as in `hgcal_physics.py`. Ask it with events that neither trained nor test the network.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from hgcal_physics import Column, judge, line

from recon.hgcal_clustering.condensation import label_graph
from recon.hgcal_clustering.config import HgcalConfig
from recon.hgcal_clustering.hybrid import HybridConfig, ask, showers_of
from recon.hgcal_clustering.model import CondensationNetwork
from recon.hgcal_clustering.pipeline import endcaps, join_rows, load_cells, showers_from_clusters
from recon.hgcal_clustering.shipped import load_model, load_network
from recon.hgcal_clustering.shower_graph import ShowerGraph, shower_graph
from recon.hgcal_clustering.training_data import TrainingEvent, prepare
from recon.io.root_rechits import read_rechits
from recon.types import DensityClusters

COLUMNS = [
    "member share",
    "least probability",
    "efficiency",
    "efficiency (CMS)",
    "purity (median)",
    "purity (mean)",
]


class Answered(NamedTuple):
    """One endcap of an event and what the network says of it.

    Attributes:
        row: of its layer clusters in the event.
        graph: of the endcap, not padded.
        probability: of every slot of a layer cluster, the last column that of pile-up.
        loss: cross entropy with the true shares, the mean over the energy; none of an endcap without anything.
    """

    row: np.ndarray
    graph: ShowerGraph
    probability: np.ndarray
    loss: float | None


def main(
    files: tyro.conf.Positional[tuple[Path, ...]],
    model: str = "hybrid-timing",
    member_share: tuple[float, ...] = (0.75, 0.8, 0.85, 0.9),
    least_probability: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3),
) -> None:
    """Compare decisions.

    Args:
        files: of `recon simulate hgcal`.
        model: shipped model with a network, or the directory of one of yours.
        member_share: to be tried.
        least_probability: to be tried with each.
    """
    chain = load_model(model).config
    decisions = [
        replace(chain.hybrid, member_share=share, least_probability=least)
        for share, least in itertools.product(member_share, least_probability)
    ]
    columns, losses = [Column() for _ in decisions], []
    cells, network = load_cells(chain), load_network(chain.hybrid.weights, chain.hybrid.network)
    for event in itertools.chain.from_iterable(map(read_rechits, files)):
        known = prepare(event, chain, cells)
        answers = list(answered(known, network, chain))
        losses += [answer.loss for answer in answers if answer.loss is not None]
        for decision, column in zip(decisions, columns, strict=True):
            density = decide(answers, decision, len(known.clusters.valid))
            judge(event, showers_from_clusters(known.clusters, density, chain), column)
    print(f"cross entropy of {len(losses)} endcaps: {np.mean(losses):.4f}\n")
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n")
    for decision, column in zip(decisions, columns, strict=True):
        print(row(decision, column))


def answered(event: TrainingEvent, network: CondensationNetwork, chain: HgcalConfig) -> Iterator[Answered]:
    """The network's probabilities in both endcaps."""
    for clusters, rows in endcaps(event.clusters):
        times = None if event.times is None else event.times.at(rows)
        graph, density = shower_graph(clusters, chain.hybrid.graph, times)
        found = ask(network, graph)
        # The shares know layer clusters by their rows in the event.
        labelled = label_graph(graph._replace(row=rows[graph.row]), density, event.shares, event.energy)
        each = -(np.log(np.maximum(found, 1e-7)) * labelled.target).sum(1)
        loss = float(each @ labelled.weight / labelled.weight.sum()) if len(each) else None
        yield Answered(rows, graph, found, loss)


def decide(answers: list[Answered], decision: HybridConfig, n_clusters: int) -> DensityClusters:
    """Showers of an event."""
    parts = [
        (showers_of(answer.graph, answer.probability, decision, len(answer.row)), answer.row)
        for answer in answers
    ]
    return join_rows(parts, n_clusters)


def row(decision: HybridConfig, column: Column) -> str:
    """One line of the table."""
    shared, purity = np.array(column.shared), np.array(column.purity)
    found = int(column.found.sum())
    cells = [f"{decision.member_share}", f"{decision.least_probability}"]
    cells.append(f"{found / len(shared):.4f} ({found} of {len(shared)})")
    cells += [f"{(shared >= 0.5).mean():.4f}", f"{np.median(purity):.3f}", f"{purity.mean():.3f}"]
    return line(cells)


if __name__ == "__main__":
    tyro.cli(main)
