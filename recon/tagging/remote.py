"""Tagging by an engine that serves an artefact of `recon.tagging.export`."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from recon.engines import Engine, Inputs, Outputs, check_shapes
from recon.errors import ConfigError
from recon.pipeline import EngineModule
from recon.tagging.deepak8 import DeepAK8
from recon.tagging.jet_image_network import JetImageNetwork
from recon.tagging.jet_images import draw_jets
from recon.tagging.particle_net import ParticleNet
from recon.tagging.scoring import check_finite
from recon.tagging.shipped import Tagger
from recon.types import Jets


def pack_jets(jets: Jets, tagger: Tagger) -> Inputs:
    """Jets as the inputs of the artefact of a tagger.

    Raises:
        ConfigError: its network has no artefact.
        DataError: a feature is not finite; jet and column are named.
    """
    if not isinstance(tagger.model.network, DeepAK8 | ParticleNet | JetImageNetwork):
        raise ConfigError(
            f"{tagger.name} is a {tagger.model.kind}, which no server has; DeepAK8, ParticleNet and networks for "
            "images are served"
        )
    check_finite(jets)
    if isinstance(tagger.model.network, JetImageNetwork):
        config = tagger.model.network.config.image
        drawn = draw_jets(jnp.asarray(jets.candidates), jnp.asarray(jets.candidate_valid), config)
        return {"image": np.asarray(drawn)}
    inputs = {"candidates": jets.candidates}
    if isinstance(tagger.model.network, DeepAK8):
        return inputs | {"vertices": jets.vertices}
    inputs |= {"candidate_valid": jets.candidate_valid}
    if tagger.model.network.config.vertex_features:
        inputs |= {"vertices": jets.vertices, "vertex_valid": jets.vertex_valid}
    return inputs


def unpack_scores(jets: Jets, outputs: Outputs, labels: tuple[str, ...]) -> Float32[np.ndarray, "j k"]:
    """The probabilities of the classes.

    Raises:
        DataError: the engine answered for other jets or other classes.
    """
    check_shapes(outputs, {"scores": (len(jets.label), len(labels))})
    return outputs["scores"]


class JetTagger(EngineModule[Any]):
    """A module of `recon.pipeline.Job`: batches of jets to scores, as `tag_jets` gives them.

    Args:
        engine: that serves the artefact.
        tagger: the same network here, whose labels and capacities count.
    """

    def __init__(self, engine: Engine, tagger: Tagger) -> None:
        super().__init__(
            engine,
            lambda batch: pack_jets(batch.jets, tagger),
            lambda batch, outputs: unpack_scores(batch.jets, outputs, tagger.labels),
        )
