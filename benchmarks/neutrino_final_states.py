"""How well could neutrino events be classified by what leaves the nucleus? A limit for every network on images.

python benchmarks/neutrino_final_states.py TRAIN.root TEST.root --seeds 1 3

The particles are not in the files. Every event has random numbers of its own (`recon.sim.neutrino_random`), so its
reaction can be made again by the seed of its file, and is recognised by its vertex. A network for sets (Zaheer et al.,
arXiv:1703.06114) then learns the classes from kinds and momenta of the particles, in three forms: all of them exactly;
without neutrons, with errors of a detector; the same with electrons and photons, and slow muons and pions, alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from recon.io.pixel_maps import join_events
from recon.io.root_pixel_maps import read_neutrino_events
from recon.sim.compiled import compiled
from recon.sim.neutrino import _LEPTON, CLASSES
from recon.sim.neutrino_detector import ELECTRON, MASSES, MUON, NEUTRON, PHOTON, PI_MINUS, PI_PLUS
from recon.sim.neutrino_interactions import BEAM_SLOPE, Neutrinos, neutrino_event, neutrinos
from recon.sim.neutrino_random import seed_stream
from recon.sim.neutrino_stack import Stack, new_stack
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.neutrino_performance import COSMIC, TAU, Judged, beam_accuracy
from recon.train.classification import LabelledBatch, classification_loss, evaluated, predict
from recon.train.optim import OptimConfig
from recon.train.state import create_state, make_train_step

FORMS = ("all", "seen", "alike")
PARTICLES, FOUND = 16, 24
"""Of the highest energy that the network sees; that are kept of every event."""
SLOW = 0.35
"""GeV, below which muons and pions look alike."""


class FinalStates(NamedTuple):
    """Particles of events: class, energy of the neutrino (GeV), kinds (-1 for none), px, py, pz, kinetic energy."""

    label: np.ndarray
    energy: np.ndarray
    kind: np.ndarray
    momentum: np.ndarray


@compiled
def make_again(
    stack: Stack,
    tables: Neutrinos,
    masses: np.ndarray,
    seed: int,
    label: int,
    vertex: np.ndarray,
    kind: np.ndarray,
    momentum: np.ndarray,
) -> None:
    """Make the reactions of one class until all vertices are found; fills kinds and momenta."""
    found, number, truth = 0, 0, np.zeros(12)
    while found < len(vertex):
        seed_stream(stack.random, seed, label, number)
        number += 1
        stack.size[0] = 0
        if not neutrino_event(stack, tables, truth):
            continue
        if abs(truth[4] - vertex[found, 0]) > 0.01 or abs(truth[5] - vertex[found, 1]) > 0.01:
            continue
        for i in range(min(stack.size[0], kind.shape[1])):
            kinetic, mass = stack.ray[i, 6], masses[stack.kind[i]]
            kind[found, i] = stack.kind[i]
            for axis in range(3):
                momentum[found, i, axis] = np.sqrt(kinetic * (kinetic + 2 * mass)) * stack.ray[i, 3 + axis]
            momentum[found, i, 3] = kinetic
        found += 1


def final_states(path: Path, seed: int, most: int) -> FinalStates:
    """The particles of the neutrino events of a file, those of the highest energy first."""
    events = join_events(read_neutrino_events(path, entry_stop=most))
    kind = np.full((len(events.label), FOUND), -1)
    momentum = np.zeros((*kind.shape, 4))
    for label, name in enumerate(CLASSES):
        rows = np.flatnonzero(events.label == label)
        if label != COSMIC:
            own = kind[rows], momentum[rows]
            vertex = events.truth.vertex[rows].astype(np.float64)
            make_again(new_stack(), neutrinos(_LEPTON[name]), np.array(MASSES), seed, label, vertex, *own)
            kind[rows], momentum[rows] = own
    order = np.argsort(-momentum[..., 3], axis=1)[:, :PARTICLES]
    kind, momentum = np.take_along_axis(kind, order, 1), np.take_along_axis(momentum, order[..., None], 1)
    chosen = events.label != COSMIC
    return FinalStates(*(x[chosen] for x in (events.label, events.truth.energy, kind, momentum)))


def particles(states: FinalStates, form: str, rng: np.random.Generator) -> np.ndarray:
    """Inputs of the network, turned about the beam by chance; the last one is 0 where no particle is."""
    kind, kinetic, valid = states.kind, states.momentum[..., 3], states.kind >= 0
    p = states.momentum[..., :3]
    if form != "all":
        valid = valid & (kind != NEUTRON) & (kinetic > 0.03)
        kind = np.where(kind == PI_MINUS, PI_PLUS, kind)
        # Relative errors of the energy, and directions to 20 or 40 mrad.
        error = np.select([(kind == ELECTRON) | (kind == PHOTON), kind == MUON], [0.08, 0.04], 0.2)
        angle = np.where((kind == ELECTRON) | (kind == MUON), 0.02, 0.04)
        size = np.linalg.norm(p, axis=-1, keepdims=True)
        p = p + size * angle[..., None] * rng.standard_normal(p.shape)
        factor = np.exp(error * rng.standard_normal(kind.shape))
        p, kinetic = p * factor[..., None], kinetic * factor
    if form == "alike":
        kind = np.where(kind == ELECTRON, PHOTON, kind)
        kind = np.where((kind == MUON) & (kinetic < SLOW), PI_PLUS, kind)
    x, y, z = np.moveaxis(p, -1, 0)
    along, up = np.cos(BEAM_SLOPE), np.sin(BEAM_SLOPE)
    y, z = along * y - up * z, up * y + along * z
    turn = 2 * np.pi * rng.random((len(kind), 1))
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    size = np.sqrt(x**2 + y**2 + z**2) + 1e-9
    columns = [np.log1p(20 * kinetic) / 3, x / size, y / size, z / size, x, y, z / 5, np.hypot(x, y)]
    known = np.eye(len(MASSES))[np.maximum(kind, 0)]
    rows = np.concatenate([np.stack(columns, -1), known, np.ones((*kind.shape, 1))], -1)
    return np.where(valid[..., None], rows, 0).astype(np.float32)


class SetNetwork(nnx.Module):
    """Every particle beside the sum of all, then sums and maxima over the particles."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(2 * inputs, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)
        self.third = nnx.Linear(2 * width + inputs, width, rngs=rngs)
        self.last = nnx.Linear(width, COSMIC, rngs=rngs)

    def __call__(self, rows: jax.Array) -> jax.Array:
        """Logits of events from rows of particles."""
        total = rows.sum(1, keepdims=True)
        each = jnp.concatenate([rows, jnp.broadcast_to(total / 3, rows.shape)], -1)
        each = jax.nn.relu(self.second(jax.nn.relu(self.first(each)))) * rows[..., -1:]
        met = jnp.concatenate([each.sum(1) / 4, each.max(1), total[:, 0]], -1)
        logits: jax.Array = self.last(jax.nn.relu(self.third(met)))
        return logits


def trained(states: FinalStates, form: str, updates: int, batch: int = 256) -> Any:
    """A network for one form, in evaluation mode."""
    rng = np.random.default_rng(0)
    sample = particles(FinalStates(*(x[:1] for x in states)), form, rng)
    network = SetNetwork(sample.shape[-1], 128, rngs=nnx.Rngs(0))
    optim = OptimConfig(learning_rate=2e-3, total_steps=updates, weight_decay=1e-3)
    state, step = create_state(network, optim, seed=0), make_train_step(classification_loss, optim)
    for _ in range(updates):
        rows = rng.integers(0, len(states.label), batch)
        chosen = FinalStates(*(x[rows] for x in states))
        state, _ = step(state, LabelledBatch(particles(chosen, form, rng), chosen.label, np.ones(batch)))
    return evaluated(state)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs=2)
    parser.add_argument("--seeds", type=int, nargs=2, required=True, help="of the files")
    parser.add_argument("--events", type=int, default=250_000, help="most of a file")
    parser.add_argument("--updates", type=int, default=4000)
    given = parser.parse_args()
    train, test = (
        final_states(path, seed, given.events) for path, seed in zip(given.files, given.seeds, strict=True)
    )
    for form in FORMS:
        network = trained(train, form, given.updates)
        logits = predict(network, particles(test, form, np.random.default_rng(1)))
        shares = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
        scores = np.concatenate([shares, np.zeros((len(shares), 1), np.float32)], 1)
        judged = Judged(test.label, scores, test.energy)
        right = judged.likeliest == test.label
        each = ", ".join(f"{NEUTRINO_LABELS[k]} {right[test.label == k].mean():.3f}" for k in range(COSMIC))
        beam = beam_accuracy(judged)
        print(f"{form}: {right.mean():.4f} of {len(right):,} neutrinos ({each});", end=" ")
        print(
            f"without {NEUTRINO_LABELS[TAU]}, of the beam's energies: {beam.passed / beam.total:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
