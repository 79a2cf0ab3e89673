"""CPU time of the network for images that are almost empty: on the patches that hold anything, and on all of them.

python benchmarks/sparse_images.py EVENTS.root [--batch 128] [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from recon.io.root_pixel_maps import read_neutrino_events
from recon.nn.patch_network import PatchNetwork, PatchNetworkConfig, with_measured_cells
from recon.tagging.cvn import TWO_VIEWS
from recon.tagging.pixel_maps import images_of
from recon.train.classification import LabelledBatch, classification_loss
from recon.train.optim import OptimConfig
from recon.train.state import create_state, make_train_step


def forms(images: np.ndarray) -> dict[str, PatchNetworkConfig]:
    """The same network with room for what such images hold, and with room for every cell."""
    h, w = (side // TWO_VIEWS.patch for side in TWO_VIEWS.image)
    every = []
    for _ in TWO_VIEWS.channels:
        every.append(TWO_VIEWS.views * h * w)
        h, w = (h + 1) // 2, (w + 1) // 2
    return {
        "patches that hold anything": with_measured_cells(TWO_VIEWS, images),
        "all patches": replace(TWO_VIEWS, cells=tuple(every), spread=0.0),
    }


def training(config: PatchNetworkConfig, images: np.ndarray, label: np.ndarray) -> Callable[[], None]:
    """One update, waited for."""
    optim = OptimConfig()
    network = PatchNetwork(config, rngs=nnx.Rngs(0))
    network.train()
    box = [create_state(network, optim, seed=0)]
    step = make_train_step(classification_loss, optim)
    batch = LabelledBatch(jnp.asarray(images), jnp.asarray(label), jnp.ones(len(label)))

    def once() -> None:
        box[0], metrics = step(box[0], batch)
        assert np.isfinite(float(metrics["loss"]))

    return once


def inference(config: PatchNetworkConfig, images: np.ndarray) -> Callable[[], None]:
    """The probabilities of a batch, waited for."""
    network = PatchNetwork(config, rngs=nnx.Rngs(0))
    network.eval()
    definition, state = nnx.split(network)
    program: Any = jax.jit(lambda state, given: nnx.merge(definition, state, copy=True)(given))
    given = jnp.asarray(images)
    return lambda: jax.block_until_ready(program(state, given))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=Path)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    events = next(read_neutrino_events(given.events, entry_stop=2000))
    sample = images_of(events, np.arange(len(events.label)))
    images, label = sample[: given.batch], events.label[: given.batch]
    calls = {}
    for name, config in forms(sample).items():
        calls["training", name] = training(config, images, label)
        calls["inference", name] = inference(config, images)
    for call in calls.values():
        call()
    # One after the other in every round: what else the machine does meets all of them.
    seconds: dict[Any, list[float]] = {key: [] for key in calls}
    for _ in range(given.rounds):
        for key, call in calls.items():
            begin = time.process_time()
            call()
            seconds[key].append(time.process_time() - begin)
    for (what, name), times in seconds.items():
        print(f"{what}, {name}: {given.batch / np.median(times):.0f} events a CPU second")
    for what in ("training", "inference"):
        ratio = np.array(seconds[what, "all patches"]) / np.array(seconds[what, "patches that hold anything"])
        spread = f"of {given.rounds} rounds {ratio.min():.1f} to {ratio.max():.1f}"
        print(f"{what}: {np.median(ratio):.1f} times as fast ({spread})")


if __name__ == "__main__":
    main()
