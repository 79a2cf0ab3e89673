"""Taggers of jet images as featurizer and classifier: together they answer as the network here."""

from __future__ import annotations

import numpy as np
import pytest

from recon.cli import main
from recon.engines import connect
from recon.errors import ConfigError, EngineError
from recon.io.jet_columns import jet_columns
from recon.tagging.features import make_jets
from recon.tagging.image_export import export_jet_images
from recon.tagging.jet_image_network import JetImageNetworkConfig
from recon.tagging.jet_images import ABSOLUTE_INPUTS
from recon.tagging.labels import LABELS
from recon.tagging.models import TaggingModel, make_network, save_tagging_model
from recon.tagging.pipeline import tag_jets
from recon.tagging.remote import pack_jets
from recon.tagging.shipped import described, load_model
from recon.tagging.two_part_engine import connect_parts
from tests.recon.tagging.small_jets import make_table
from tests.serving.contract import check_artifact

pytestmark = pytest.mark.usefixtures("quick_programs")

SHAPE = JetImageNetworkConfig(
    pixels=16, channels=(4, 5), blocks=(1, 0), fused=6, hidden=8, cells=(8, 4), dropout=0.0
)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    network = make_network("jet-image", SHAPE)
    network.eval()
    model = TaggingModel("jet-image", network, LABELS, (128, 0), described(ABSOLUTE_INPUTS), "For tests.")
    directory = tmp_path_factory.mktemp("model") / "small"
    save_tagging_model(directory, model)
    return load_model(directory)


@pytest.fixture(scope="module")
def repository(tagger, tmp_path_factory, quick_programs):
    root = tmp_path_factory.mktemp("repository")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_EXECUTABLES", str(tmp_path_factory.mktemp("executables")))
        export_jet_images(root, tagger.model, batches=(1, 4))
        yield root


def packed(tagger, n):
    return pack_jets(make_jets(jet_columns(make_table(n, seed=n)), tagger.inputs)[0], tagger)


def test_both_parts_together(tagger, repository):
    engine = connect_parts(f"local:{repository}", model="jet-image")
    for n in (1, 3):
        found = engine.produce(engine.acquire(packed(tagger, n)))["scores"]
        wanted = tag_jets(make_table(n, seed=n), tagger).scores
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    engine.close()


def test_contract_of_the_featurizer(tagger, repository):
    requests = [packed(tagger, n) for n in (1, 3)]
    featurizer = connect(f"local:{repository}", model="jet-image_featurizer")

    def local(request):
        return featurizer.produce(featurizer.acquire(request))

    check_artifact(repository / "jet-image_featurizer" / "1", requests, local, rtol=1e-4, atol=1e-5)
    featurizer.close()


def test_a_part_that_is_missing(repository):
    with pytest.raises(EngineError, match="another_featurizer"):
        connect_parts(f"local:{repository}", model="another")


def test_other_networks_are_refused(tagger, tmp_path):
    network = make_network("pfn")
    model = TaggingModel("pfn", network, (), (128, 0), {}, "For tests.")
    with pytest.raises(ConfigError, match="PFN"):
        export_jet_images(tmp_path, model)


def test_command(tagger, tmp_path, capsys):
    save_tagging_model(tmp_path / "mine", tagger.model)
    words = [
        "export",
        "tagging",
        "--model",
        str(tmp_path / "mine"),
        "-o",
        str(tmp_path / "out"),
        "--batches",
        "2",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for part in ("featurizer", "classifier"):
        assert (tmp_path / "out" / f"jet-image_{part}" / "1" / "manifest.json").is_file()
        assert f"jet-image_{part}" in printed
