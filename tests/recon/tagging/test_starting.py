from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError
from recon.io.jets import write_jets
from recon.io.weights import model_arrays
from recon.tagging.inputs import JETCLASS_INPUTS
from recon.tagging.labels import JETCLASS_LABELS, LABELS
from recon.tagging.models import TaggingModel, save_tagging_model
from recon.tagging.particle_net import ParticleNet, ParticleNetConfig
from recon.tagging.shipped import described
from recon.tagging.starting import FLAVOUR_LABELS, start
from tests.recon.tagging.small_files import as_jetclass, separable_table, write_separable


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return [write_separable(tmp_path_factory.mktemp("files") / "a.parquet", 40)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small ParticleNet with the classes of JetClass."""
    directory = tmp_path_factory.mktemp("model")
    network = ParticleNet(ParticleNetConfig(blocks=((3, (8,)),), dense=(6,)), rngs=nnx.Rngs(1))
    save_tagging_model(
        directory,
        TaggingModel(
            "particlenet", network, JETCLASS_LABELS, (128, 0), described(JETCLASS_INPUTS), "A test."
        ),
    )
    return directory


def test_deepak8_has_the_features_of_the_files_and_the_published_shape(files):
    begin = start(files)
    config = begin.network.config
    assert begin.kind == "deepak8"
    assert begin.labels == begin.classes == LABELS
    assert config.candidates == len(begin.inputs.candidates)
    assert config.vertices == len(begin.inputs.vertices)
    assert (begin.inputs.n_candidates, begin.inputs.n_vertices) == (100, 7)
    assert [stage for stage, _ in config.candidate_stages] == [64, 64, 128]
    assert begin.before is None


@pytest.mark.parametrize(
    ("kind", "features"),
    [("particlenet", 17), ("particlenet-lite", 7), ("pfn", 17), ("particletransformer", 21)],
)
def test_clouds_keep_the_inputs_of_jetclass(files, kind, features):
    begin = start(files, kind)
    assert len(begin.inputs.candidates) == features
    assert begin.inputs.vertices is None
    assert begin.network.config.classes == len(LABELS)


def test_a_b_tagger_learns_flavours(files):
    begin = start(files, "deepcsv")
    assert begin.labels == ("b", "bb", "c", "cc", "udsg")
    assert begin.classes == FLAVOUR_LABELS


def test_files_of_jetclass_have_its_classes(tmp_path):
    path = tmp_path / "jetclass.parquet"
    write_jets(path, [as_jetclass(separable_table(30, 0))])
    assert start([path], "pfn").labels == JETCLASS_LABELS


def test_outputs_of_the_same_class_are_kept_and_others_are_new(files, trained):
    begin = start(files, initial=trained)
    assert begin.kind == "particlenet"
    assert begin.labels == LABELS
    old, new = (model_arrays(network) for network in (begin.before.model.network, begin.network))
    for label in ("Hbb", "Zqq", "Tbqq"):
        column = new["output/kernel"][:, LABELS.index(label)]
        assert np.array_equal(column, old["output/kernel"][:, JETCLASS_LABELS.index(label)])
    assert np.abs(new["output/kernel"][:, LABELS.index("QCDb")]).max() > 0
    for name in old:
        if not name.startswith("output/"):
            assert np.array_equal(new[name], old[name]), name


def test_the_same_classes_leave_the_network_as_it_is(tmp_path, trained):
    path = tmp_path / "jetclass.parquet"
    write_jets(path, [as_jetclass(separable_table(30, 0))])
    begin = start([path], initial=trained)
    assert begin.network is begin.before.model.network


def test_the_weights_of_jetclass_can_be_the_start(files, reference_file):
    begin = start(files, initial=reference_file("jets/ParticleNet_full.pt"))
    assert begin.network.config.classes == len(LABELS)
    assert begin.inputs.candidates == JETCLASS_INPUTS.candidates


def test_seeds_give_other_weights(files):
    one, same, other = (model_arrays(start(files, "pfn", seed=seed).network) for seed in (0, 0, 1))
    assert np.array_equal(one["output/kernel"], same["output/kernel"])
    assert not np.array_equal(one["output/kernel"], other["output/kernel"])


def test_what_cannot_be_trained_is_refused(files, trained):
    with pytest.raises(ConfigError, match="a deepdoubleb does not read"):
        start(files, "deepdoubleb")
    with pytest.raises(ConfigError, match="there is no network 'resnet'"):
        start(files, "resnet")
    with pytest.raises(ConfigError, match="--model pfn cannot begin from it"):
        start(files, "pfn", trained)


def test_a_b_tagger_goes_on_with_its_flavours(tmp_path, files):
    begin = start(files, "deepcsv")
    model = TaggingModel("deepcsv", begin.network, begin.labels, (100, 7), described(begin.inputs), "A test.")
    save_tagging_model(tmp_path / "b", model)
    again = start(files, initial=tmp_path / "b")
    assert again.labels == begin.labels
    assert again.classes == FLAVOUR_LABELS
    assert again.inputs == begin.inputs
    old, new = model_arrays(begin.network), model_arrays(again.network)
    for name in old:
        assert np.array_equal(new[name], old[name]), name
