"""A file in the form of CMS's ParticleNet V01, which is not among the reference data: from ONNX to branches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import uproot

from recon.cli import main
from recon.tagging.labels import PARTICLE_NET_LABELS
from recon.tagging.shipped import load_model

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

CANDIDATES = (
    *("pt_log_nopuppi", "e_log_nopuppi", "etarel", "phirel", "abseta", "charge", "isEl", "isMu", "isGamma"),
    *(
        "isChargedHad",
        "isNeutralHad",
        "VTX_ass",
        "lostInnerHits",
        "normchi2",
        "quality",
        "dz",
        "dzsig",
        "dxy",
    ),
    *(
        "dxysig",
        "btagEtaRel",
        "btagPtRatio",
        "btagPParRatio",
        "btagSip3dVal",
        "btagSip3dSig",
        "btagJetDistVal",
    ),
)
VERTICES = (
    *("pt_log", "mass", "phirel", "etarel", "abseta", "ntracks", "normchi2", "dxy", "dxysig", "d3d"),
    "costhetasvpv",
)
WIDTH, NEIGHBORS = 32, 5


class Weaver:
    """Puts together what weaver's exporter writes: layers in order, with random weights."""

    def __init__(self):
        self.rng, self.nodes, self.arrays = np.random.default_rng(0), [], []

    def array(self, values):
        name = f"w{len(self.arrays)}"
        self.arrays.append(onnx.numpy_helper.from_array(values, name))
        return name

    def random(self, *shape):
        return self.array(self.rng.normal(0, 0.3, shape).astype(np.float32))

    def add(self, operator, *inputs, **attributes):
        name = f"x{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def norm(self, x, size):
        ones = np.ones(size, np.float32)
        return self.add("BatchNormalization", x, *(self.array(a) for a in (ones, 0 * ones, 0 * ones, ones)))

    def dense(self, x, inputs, outputs):
        return self.add("Gemm", x, self.random(outputs, inputs), self.random(outputs), transB=1)

    def save(self, path):
        graph = onnx.helper.make_graph(self.nodes, "v01", [], [], self.arrays)
        onnx.save(onnx.helper.make_model(graph), path)


def write_network(path):
    net = Weaver()
    for name, size in (("pf_features", len(CANDIDATES)), ("sv_features", len(VERTICES))):
        net.add("Conv", net.norm(name, size), net.random(WIDTH, size, 1), net.random(WIDTH))
    x = net.norm("points", WIDTH)
    net.add("TopK", x, net.array(np.array([NEIGHBORS + 1])))
    x = net.add("Conv", x, net.random(WIDTH, 2 * WIDTH, 1, 1), net.random(WIDTH))
    net.dense(net.dense(x, WIDTH, 16), 16, len(PARTICLE_NET_LABELS))
    net.save(path)


def write_inputs(path):
    free = {"median": 0.0, "norm_factor": 1.0, "lower_bound": -1e32, "upper_bound": 1e32}
    scaled = {"median": 0.1, "norm_factor": 0.5}

    def block(kind, names, values, length):
        columns = [f"{kind}_{name}" for name in names]
        return {"var_names": columns, "var_infos": dict.fromkeys(columns, values), "var_length": length}

    tree = {}
    for prefix, kind, names, length in (("pf", "pfcand", CANDIDATES, 100), ("sv", "sv", VERTICES, 10)):
        tree[f"{prefix}_points"] = block(kind, ("etarel", "phirel"), free, length)
        tree[f"{prefix}_features"] = block(kind, names, scaled, length)
        tree[f"{prefix}_mask"] = block(kind, ("mask",), free, length)
    path.write_text(json.dumps({"input_names": list(tree), **tree}))


@pytest.fixture
def weights(tmp_path):
    write_network(tmp_path / "model.onnx")
    write_inputs(tmp_path / "preprocess.json")
    return tmp_path / "model.onnx"


def test_network_and_inputs_find_each_other(weights):
    tagger = load_model(weights)
    assert (tagger.model.kind, tagger.labels) == ("particlenet", PARTICLE_NET_LABELS)
    config = tagger.model.network.config
    assert (config.features, config.vertex_features) == (25, 11)
    assert (config.coordinates, config.vertex_coordinates) == ((25, 26), (11, 12))
    assert config.blocks == ((NEIGHBORS, (WIDTH,)),)
    assert len(tagger.inputs.candidates) == 27
    assert tagger.inputs.candidates.columns[25:] == ("pfcand_etarel", "pfcand_phirel")
    assert (tagger.inputs.n_candidates, tagger.inputs.n_vertices) == (100, 10)


def test_on_the_file_of_cms(weights, reference_file, tmp_path, capsys):
    output = tmp_path / "nano.root"
    words = [
        "reconstruct",
        "jets",
        str(reference_file("jets/pfnano.root")),
        "--keep",
        "jets",
        "-o",
        str(output),
    ]
    assert main([*words, "--model", f"v01={weights}"]) == 0
    # All of its features are in PFNano.
    assert "inputs are not in the file" not in capsys.readouterr().out
    with uproot.open(output) as file:
        events = file["Events"].arrays([f"FatJet_v01_{label}" for label in PARTICLE_NET_LABELS], library="np")
    scores = np.stack([np.concatenate(list(column)) for column in events.values()], axis=1)
    assert scores.shape == (24, 20)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    assert np.ptp(scores, axis=0).max() > 0.01
