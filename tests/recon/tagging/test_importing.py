"""Weights of others: parity with onnxruntime and PyTorch on random and on real jets, and what is refused."""

import json
import pickle
import warnings
import zipfile

import numpy as np
import pytest
from flax import nnx

from recon.errors import ConfigError, DataError
from recon.io.foreign_weights import Filler
from recon.io.weights_pt import read_state_dict
from recon.tagging.importing import load_pretrained
from recon.tagging.pfn import PFN, PFNConfig
from recon.tagging.scoring import Scorer
from recon.types import Jets
from tests.recon.tagging.conftest import on_device
from tests.recon.tagging.test_networks import program

TOLERANCE = 1e-5


def jets_of(candidates, counts, vertices=None, vertex_counts=None):
    """Standardised features with zeros in the padding, as CMS's preprocessing leaves them."""
    n = len(candidates)
    valid = np.arange(candidates.shape[1]) < np.asarray(counts)[:, None]
    vertices = np.zeros((n, 1, 1), np.float32) if vertices is None else vertices
    vertex_valid = (
        np.arange(vertices.shape[1])
        < np.asarray([0] * n if vertex_counts is None else vertex_counts)[:, None]
    )
    return Jets(
        np.where(valid[..., None], candidates, 0).astype(np.float32),
        valid,
        np.where(vertex_valid[..., None], vertices, 0).astype(np.float32),
        vertex_valid,
        np.zeros(n, np.int32),
    )


def random_deepak8_jets(features, n=24):
    """Noise a tenth as wide as real features.

    Features that are as wide as real ones but know nothing of each other drive the nominal network to logits near
    1000, where float32 ends before the tolerance: onnxruntime is then 5e-5 off the exact result.
    """
    rng = np.random.default_rng(0)
    counts, vertex_counts = rng.integers(10, 101, n), rng.integers(0, 8, n)
    counts[0], vertex_counts[0] = 0, 0
    vertices = 0.1 * rng.normal(size=(n, 7, 15))
    return jets_of(0.1 * rng.normal(size=(n, 100, features)), counts, vertices, vertex_counts)


def session(path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def channels_first(array):
    return np.ascontiguousarray(array.swapaxes(1, 2))


@pytest.mark.parametrize(
    ("file", "kind", "features"),
    [
        ("deepak8_v02_full.onnx", "deepak8", 42),
        ("deepak8_v02_full.onnx", "deepak8", None),
        ("deepak8_md_v02.onnx", "deepak8-md", 36),
    ],
)
def test_deepak8_against_onnxruntime(reference_file, file, kind, features):
    path = reference_file(f"jets/{file}")
    peer, network = session(path), load_pretrained(path, kind)
    jets = random_deepak8_jets(features) if features else real_deepak8_jets(reference_file)
    inputs = {
        "pfcand": channels_first(jets.candidates)[..., None],
        "sv": channels_first(jets.vertices)[..., None],
    }
    (wanted,) = peer.run(None, inputs)
    assert wanted.std(0).max() > 0.01
    logits = np.asarray(program(network)(on_device(jets)), np.float64)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), wanted, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(Scorer(network)(jets), wanted, rtol=0, atol=TOLERANCE)


def test_deepdoubleb_against_onnxruntime(reference_file):
    path = reference_file("jets/deepdoubleb_v01.onnx")
    peer, network = session(path), load_pretrained(path, "deepdoubleb")
    rng = np.random.default_rng(0)
    jets = jets_of(
        rng.normal(size=(8, 60, 8)), rng.integers(0, 61, 8), rng.normal(size=(8, 5, 2)), rng.integers(0, 6, 8)
    )
    of_jet = rng.normal(size=(8, 27)).astype(np.float32)
    (wanted,) = peer.run(
        None, {"input_1": of_jet[:, None], "input_2": jets.candidates, "input_3": jets.vertices}
    )
    logits = np.asarray(program(network)(on_device(jets), of_jet), np.float64)
    odds = np.exp(logits)
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), wanted, rtol=0, atol=TOLERANCE)


def real_columns(reference_file):
    """Kinematics of the candidates of CMS's simulated jets: for every jet columns by DeepAK8's names, sorted by pT."""
    uproot = pytest.importorskip("uproot")
    with uproot.open(reference_file("jets/pfnano.root")) as file:
        names = [f"{kind}_{name}" for kind in ("FatJet", "PFCands") for name in ("pt", "eta", "phi", "mass")]
        names += ["PFCands_charge", "FatJetPFCands_jetIdx", "FatJetPFCands_pFCandsIdx"]
        events = file["Events"].arrays(names, library="np")
    jets = []
    for event in range(len(events[names[0]])):
        get = {name: np.asarray(events[name][event], np.float64) for name in names}
        for jet in range(len(get["FatJet_pt"])):
            index = get["FatJetPFCands_pFCandsIdx"][get["FatJetPFCands_jetIdx"] == jet].astype(int)
            index = index[np.argsort(-get["PFCands_pt"][index])]
            pt, eta, phi, mass, charge = (get[name][index] for name in names[4:9])
            of_jet = [float(get[name][jet]) for name in names[:4]]
            energy, jet_energy = (
                np.hypot(pt * np.cosh(eta), mass),
                np.hypot(of_jet[0] * np.cosh(of_jet[1]), of_jet[3]),
            )
            d_eta, d_phi = (
                (eta - of_jet[1]) * np.sign(of_jet[1]),
                (phi - of_jet[2] + np.pi) % (2 * np.pi) - np.pi,
            )
            jets.append({
                "pt_log": np.log(pt), "e_log": np.log(energy), "ptrel_log": np.log(pt / of_jet[0]),
                "erel_log": np.log(energy / jet_energy), "deltaR": np.hypot(d_eta, d_phi), "etarel": d_eta,
                "phirel": d_phi, "abseta": np.abs(eta), "charge": charge,
            })  # fmt: skip
    return jets


def stacked(rows, capacity):
    """Padded arrays of jets, each a list of columns."""
    tables = [np.stack(columns, 1)[:capacity] for columns in rows]
    padded = [np.pad(table, ((0, capacity - len(table)), (0, 0))) for table in tables]
    return np.stack(padded), [len(table) for table in tables]


def real_clouds(reference_file):
    """Real jets for ParticleNet, scaled as on JetClass."""
    names = ("pt_log", "e_log", "ptrel_log", "erel_log", "deltaR", "etarel", "phirel")
    scaling = ((1.7, 0.7), (2.0, 0.7), (-4.7, 0.7), (-4.7, 0.7), (0.2, 4.0), (0.0, 1.0), (0.0, 1.0))
    rows = [
        [(jet[name] - shift) * scale for name, (shift, scale) in zip(names, scaling, strict=True)]
        for jet in real_columns(reference_file)
    ]
    return jets_of(*stacked(rows, 128))


def real_deepak8_jets(reference_file):
    """Real jets for the nominal DeepAK8, scaled by CMS's table; what the file does not say is at its median."""
    table = json.loads(reference_file("jets/deepak8_v02_preprocess.json").read_text())["pfcand"]
    rows = []
    for jet in real_columns(reference_file):
        columns = []
        for name in table["var_names"]:
            info = table["var_infos"][name]
            values = jet.get(name.removeprefix("pfcand_"), np.full(len(jet["charge"]), info["median"]))
            columns.append(np.clip((values - info["median"]) * info["norm_factor"], -5, 5))
        rows.append(columns)
    candidates, counts = stacked(rows, 100)
    return jets_of(candidates, counts, np.zeros((len(counts), 7, 15)))


def random_clouds(features):
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(12, 128, features))
    candidates[..., -2:] *= 0.3
    return jets_of(candidates, rng.integers(20, 129, 12))


def weaver_module():
    pytest.importorskip("torch", reason="torch is not installed")
    return pytest.importorskip("weaver.nn.model.ParticleNet", reason="weaver-core is not installed")


@pytest.mark.parametrize(("kind", "real"), [("kin", False), ("kin", True), ("full", False)])
def test_particle_net_against_weaver(reference_file, kind, real):
    path = reference_file(f"jets/ParticleNet_{kind}.pt")
    theirs, torch = weaver_module(), pytest.importorskip("torch")
    network = load_pretrained(path, "particlenet")
    config = network.config
    peer = theirs.ParticleNet(
        input_dims=config.features, num_classes=10, conv_params=[(k, outputs) for k, outputs in config.blocks],
        fc_params=[(256, 0.1)], use_fusion=False, for_inference=True,
    )  # fmt: skip
    peer.load_state_dict(
        {
            name.removeprefix("mod."): torch.from_numpy(np.array(array))
            for name, array in read_state_dict(path).items()
        }
    )
    peer.eval()
    jets = real_clouds(reference_file) if real else random_clouds(config.features)
    inputs = (jets.candidates[..., -2:], jets.candidates, jets.candidate_valid[..., None])
    with torch.no_grad():
        wanted = peer(*(torch.from_numpy(channels_first(array)) for array in inputs)).numpy()
    np.testing.assert_allclose(Scorer(network)(jets), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["kin", "full"])
def test_state_dictionaries_without_torch(reference_file, kind):
    path = reference_file(f"jets/ParticleNet_{kind}.pt")
    arrays = read_state_dict(path)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    wanted = torch.load(path, map_location="cpu", weights_only=True)
    assert arrays.keys() == wanted.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, wanted[name].numpy(), err_msg=name)


def test_particle_net_from_the_file_of_jetclass(reference_file):
    """Without any peer: the shape follows from the file, and the scores of real jets are probabilities."""
    network = load_pretrained(reference_file("jets/ParticleNet_kin.pt"), "particlenet")
    assert network.config.features == 7
    assert network.config.coordinates == (5, 6)
    assert network.config.blocks[2] == (16, (256, 256, 256))
    jets = real_clouds(reference_file)
    scores = Scorer(network)(jets)
    assert scores.shape == (24, 10)
    # Jets of QCD at a TeV: that is what the network, trained elsewhere, says of most.
    assert (scores.argmax(1) == 0).mean() > 0.5


@pytest.mark.parametrize("vertices", [False, True])
def test_particle_net_from_onnx(tmp_path, vertices):
    theirs, torch = weaver_module(), pytest.importorskip("torch")
    pytest.importorskip("onnx", reason="onnx is not installed")
    torch.manual_seed(0)
    settings = {
        "num_classes": 3,
        "conv_params": [(4, (16, 16)), (4, (24,))],
        "fc_params": [(16, 0.1)],
        "for_inference": True,
    }
    shapes = [("pf_points", 2, 20), ("pf_features", 7, 20), ("pf_mask", 1, 20)]
    if vertices:
        peer = theirs.ParticleNetTagger(7, 4, **settings)
        shapes += [("sv_points", 2, 5), ("sv_features", 4, 5), ("sv_mask", 1, 5)]
    else:
        peer = theirs.ParticleNet(input_dims=7, use_fusion=False, **settings)
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    peer.eval()
    rng = np.random.default_rng(0)
    counts = rng.integers(8, 21, 6), rng.integers(1, 6, 6)
    inputs = {}
    for name, channels, length in shapes:
        valid = (np.arange(length) < counts[name.startswith("sv")][:, None])[:, None]
        mask = valid.astype(np.float32) if vertices else valid
        inputs[name] = (
            mask
            if name.endswith("mask")
            else (rng.normal(size=(6, channels, length)) * valid).astype(np.float32)
        )
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    if vertices:
        # The tagger multiplies by the masks and inverts them, which its own code does with booleans only.
        tensors = {
            name: (tensor.bool() if name.endswith("mask") else tensor) for name, tensor in tensors.items()
        }
    with torch.no_grad():
        wanted = peer(*tensors.values()).numpy()
    path = tmp_path / "particle_net.onnx"
    with warnings.catch_warnings():
        # The exporter that CMS used is the old one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            peer, tuple(tensors.values()), path, input_names=list(tensors), opset_version=13, dynamo=False
        )
    network = load_pretrained(path, "particlenet")
    assert network.config.blocks == ((4, (16, 16)), (4, (24,)))
    assert network.config.fusion == vertices
    columns = [np.concatenate([inputs["pf_features"], inputs["pf_points"]], 1).swapaxes(1, 2)]
    if vertices:
        columns.append(np.concatenate([inputs["sv_features"], inputs["sv_points"]], 1).swapaxes(1, 2))
        found = Scorer(network)(jets_of(columns[0], counts[0], columns[1], counts[1]))
    else:
        network = load_pretrained(path, "particlenet", coordinates=(7, 8))
        found = Scorer(network)(jets_of(columns[0], counts[0]))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


def test_particle_transformer_against_weaver(tmp_path):
    weaver_module()
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("weaver.nn.model.ParticleTransformer")
    torch.manual_seed(0)
    peer = theirs.ParticleTransformer(
        input_dim=5, num_classes=3, pair_input_dim=4, use_pre_activation_pair=False, embed_dims=[16, 8],
        pair_embed_dims=[8], num_heads=2, num_layers=2, num_cls_layers=1, fc_params=[], trim=False,
    )  # fmt: skip
    for name, parameter in peer.named_parameters():
        if name.endswith(("c_attn", "w_resid")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    peer.eval()
    torch.save(peer.state_dict(), tmp_path / "part.pt")
    network = load_pretrained(tmp_path / "part.pt", "particletransformer")
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(4, 11, 9)).astype(np.float32)
    columns[..., 8] = np.linalg.norm(columns[..., 5:8], axis=-1) + 0.2
    jets = jets_of(columns, [11, 7, 3, 1])
    inputs = (jets.candidates[..., :5], jets.candidates[..., 5:], jets.candidate_valid[..., None])
    features, vectors, mask = (torch.from_numpy(channels_first(array)) for array in inputs)
    with torch.no_grad():
        wanted = peer(features, v=vectors, mask=mask).numpy()
    np.testing.assert_allclose(program(network)(on_device(jets)), wanted, rtol=1e-3, atol=1e-4)


def write_pt(path, state, extra=()):
    """A file like PyTorch's, of one array of floats at most."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(state))
        for name, content in extra:
            archive.writestr(f"archive/{name}", content)


class Harmful:
    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize(
    ("state", "extra", "message"),
    [
        (Harmful(), (), "builtins.print is no part of a state dictionary"),
        ({"epoch": 3}, (), "save module.state_dict"),
        ([1, 2], (), "save module.state_dict"),
        ({}, [("byteorder", b"big")], "byte order"),
        ({}, [("sub/data.pkl", b"")], "2 entries data.pkl"),
    ],
)
def test_files_that_are_no_state_dictionary(tmp_path, capsys, state, extra, message):
    write_pt(tmp_path / "file.pt", state, extra)
    with pytest.raises(DataError, match=message):
        read_state_dict(tmp_path / "file.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [None, b"", b"no archive"])
def test_damaged_files_are_named(tmp_path, content):
    for name, kind in (("file.pt", "particlenet"), ("file.onnx", "deepak8")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        if name.endswith("onnx"):
            pytest.importorskip("onnx", reason="onnx is not installed")
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            load_pretrained(tmp_path / name, kind)


def test_truncated_reference_file(reference_file, tmp_path):
    content = reference_file("jets/ParticleNet_kin.pt").read_bytes()
    (tmp_path / "file.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        read_state_dict(tmp_path / "file.pt")


def test_wrong_network_for_a_file(reference_file):
    pytest.importorskip("onnx", reason="onnx is not installed")
    with pytest.raises(DataError, match="no node 'db_input_batchnorm'"):
        load_pretrained(reference_file("jets/deepak8_v02_full.onnx"), "deepdoubleb")
    with pytest.raises(DataError, match="a ParticleNet convolves single particles"):
        load_pretrained(reference_file("jets/deepak8_v02_full.onnx"), "particlenet")
    with pytest.raises(DataError, match="has no array"):
        load_pretrained(reference_file("jets/ParticleNet_kin.pt"), "particletransformer")


def test_onnx_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'recon-hep\[onnx\]'"):
        load_pretrained(tmp_path / "file.onnx", "deepak8")


def test_arrays_without_a_place_are_named(tmp_path):
    def filler():
        return Filler(
            PFN(PFNConfig(features=2, classes=2, particle=(3,), jet=(3,)), rngs=nnx.Rngs(0)),
            tmp_path / "file",
        )

    with pytest.raises(DataError, match=r"'w' has shape \(2, 4\), but 'particle/0/kernel' needs \(2, 3\)"):
        filler().put("particle/0/kernel", np.zeros((2, 4)), "w")
    with pytest.raises(DataError, match="'w' has no place: 'particle/7/kernel'"):
        filler().put("particle/7/kernel", np.zeros((2, 3)), "w")
    with pytest.raises(DataError, match="not finite"):
        filler().put("particle/0/kernel", np.full((2, 3), np.nan), "w")
    half = filler()
    half.put("particle/0/kernel", np.zeros((2, 3)), "w")
    with pytest.raises(DataError, match="or taken"):
        half.put("particle/0/kernel", np.zeros((2, 3)), "again")
    with pytest.raises(DataError, match="lacks 5 of 6 arrays, first that for 'jet/0/bias'"):
        half.finish()
