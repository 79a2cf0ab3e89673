"""Weaver's state dictionaries without weaver: our own networks under its names, and files that lack or add arrays."""

from __future__ import annotations

import re

import numpy as np
import pytest
from flax import nnx

from recon.errors import DataError
from recon.io.weights import model_arrays
from recon.tagging.import_weaver import load_particle_net, load_particle_transformer
from recon.tagging.particle_net import ParticleNet, ParticleNetConfig
from recon.tagging.particle_transformer import ParticleTransformer, ParticleTransformerConfig
from tests.recon.io.state_dictionaries import write_state_dict
from tests.recon.nn.test_edgeconv import shaken

NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def theirs(network, names, window=()):
    """Arrays of a network by weaver's names; matrices of the modules in `window` are convolutions there."""
    found = {}
    for place, array in model_arrays(network).items():
        module, _, part = place.rpartition("/")
        if place in names:
            found[f"mod.{names[place]}"] = array
        elif part == "kernel":
            shape = (1,) * window[module] if module in window else ()
            found[f"mod.{names[module]}.weight"] = array.T.reshape(*array.T.shape, *shape)
        else:
            is_dense = f"{module}/kernel" in model_arrays(network)
            found[f"mod.{names[module]}.{part if is_dense else NORM[part]}"] = array
    return found | {"mod.bn_fts.num_batches_tracked": np.asarray(3)}


@pytest.fixture(scope="module")
def cloud():
    config = ParticleNetConfig(
        features=5, coordinates=(3, 4), classes=3, blocks=((2, (4, 6)), (2, (6,))), dense=(7,)
    )
    network = shaken(ParticleNet(config, rngs=nnx.Rngs(0)))
    names = {"norm": "bn_fts", "dense/0": "fc.0.0", "output": "fc.1"}
    window = {}
    for block, layers in ((0, 2), (1, 1)):
        for layer in range(layers):
            names[f"blocks/{block}/layers/{layer}"] = f"edge_convs.{block}.convs.{layer}"
            names[f"blocks/{block}/norms/{layer}"] = f"edge_convs.{block}.bns.{layer}"
            window[f"blocks/{block}/layers/{layer}"] = 2
    names |= {"blocks/0/shortcut": "edge_convs.0.sc", "blocks/0/shortcut_norm": "edge_convs.0.sc_bn"}
    return network, theirs(network, names, window | {"blocks/0/shortcut": 1})


@pytest.fixture(scope="module")
def transformer():
    config = ParticleTransformerConfig(
        features=3,
        vectors=(3, 4, 5, 6),
        classes=2,
        embedding=(6, 4),
        pairs=(5,),
        heads=2,
        layers=2,
        class_layers=1,
    )
    network = shaken(ParticleTransformer(config, rngs=nnx.Rngs(0)))
    names = {
        "norm": "embed.input_bn",
        "pair_norm": "pair_embed.embed.0",
        "last_norm": "norm",
        "output": "fc.0",
    }
    names["class_token"] = "cls_token"
    window = {}
    for layer in range(2):
        names[f"embedding_norms/{layer}"] = f"embed.embed.{3 * layer}"
        names[f"embedding/{layer}"] = f"embed.embed.{3 * layer + 1}"
        names[f"pairs/{layer}"] = f"pair_embed.embed.{3 * layer + 1}"
        names[f"pair_norms/{layer}"] = f"pair_embed.embed.{3 * layer + 2}"
        window[f"pairs/{layer}"] = 1
    for ours, weaver in (
        ("blocks/0", "blocks.0"),
        ("blocks/1", "blocks.1"),
        ("class_blocks/0", "cls_blocks.0"),
    ):
        names |= {
            f"{ours}/attention_norm": f"{weaver}.pre_attn_norm", f"{ours}/attended_norm": f"{weaver}.post_attn_norm",
            f"{ours}/dense_norm": f"{weaver}.pre_fc_norm", f"{ours}/hidden_norm": f"{weaver}.post_fc_norm",
            f"{ours}/project": f"{weaver}.attn.in_proj", f"{ours}/merge": f"{weaver}.attn.out_proj",
            f"{ours}/dense/0": f"{weaver}.fc1", f"{ours}/dense/1": f"{weaver}.fc2",
            f"{ours}/head_scale": f"{weaver}.c_attn", f"{ours}/residual_scale": f"{weaver}.w_resid",
        }  # fmt: skip
    return network, theirs(network, names, window)


def test_particle_net_comes_back(tmp_path, cloud):
    network, arrays = cloud
    found = load_particle_net(write_state_dict(tmp_path / "a.pt", arrays), k=2)
    assert found.config == network.config
    for name, array in model_arrays(network).items():
        np.testing.assert_array_equal(model_arrays(found)[name], array, err_msg=name)


@pytest.mark.parametrize("old", [False, True])
def test_particle_transformer_comes_back(tmp_path, transformer, old):
    network, arrays = transformer
    if old:  # PyTorch before 2.0
        arrays = {name.replace("in_proj.", "in_proj_"): array for name, array in arrays.items()}
    found = load_particle_transformer(write_state_dict(tmp_path / "a.pt", arrays))
    # A file does not say how many of its outputs are dropped in training.
    assert found.config == network.config
    for name, array in model_arrays(network).items():
        np.testing.assert_array_equal(model_arrays(found)[name], array, err_msg=name)


CASES = {"cloud": load_particle_net, "transformer": load_particle_transformer}


@pytest.mark.parametrize("kind", CASES)
def test_arrays_without_a_place_are_named(tmp_path, request, kind):
    arrays = request.getfixturevalue(kind)[1]
    path = write_state_dict(tmp_path / "more.pt", arrays | {"mod.sv_conv.weight": np.ones(3, np.float32)})
    with pytest.raises(
        DataError, match=r"more\.pt: 1 arrays have no place in the network, first 'sv_conv\.weight'"
    ):
        CASES[kind](path)


@pytest.mark.parametrize(
    ("kind", "name", "named"),
    [
        # Statistics and shifts are named by their place with us, a layer that is gone by what no longer fits.
        ("cloud", "bn_fts.running_var", "'norm/var'"),
        ("cloud", "edge_convs.0.convs.1.weight", "'edge_convs.0.sc.weight' has shape"),
        ("cloud", "edge_convs.0.sc_bn.bias", "'edge_convs.0.sc_bn.bias'"),
        ("cloud", "fc.0.0.bias", "'dense/0/bias'"),
        ("transformer", "embed.embed.1.weight", "'embed.embed.1.weight'"),
        ("transformer", "embed.embed.4.weight", "'embed.embed.4.weight'"),
        ("transformer", "pair_embed.embed.1.weight", "'pair_embed.embed.1.weight'"),
        ("transformer", "pair_embed.embed.4.weight", "'pair_embed.embed.4.weight'"),
        ("transformer", "blocks.1.c_attn", "'blocks.1.c_attn'"),
        ("transformer", "cls_token", "'cls_token'"),
    ],
)
def test_missing_arrays_are_refused(tmp_path, request, kind, name, named):
    arrays = dict(request.getfixturevalue(kind)[1])
    del arrays[f"mod.{name}"]
    with pytest.raises(DataError, match=rf"less\.pt.*{re.escape(named)}"):
        CASES[kind](write_state_dict(tmp_path / "less.pt", arrays))
