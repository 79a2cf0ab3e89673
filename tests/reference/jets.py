"""Slow twins of what is done with jets: one candidate, one jet at a time, in float64 and from the definitions."""

from __future__ import annotations

import math

import numpy as np


def turn(angle):
    """An angle between -pi and pi."""
    return math.atan2(math.sin(angle), math.cos(angle))


def rapidity(p):
    return 0.5 * math.log((p[3] + p[2]) / (p[3] - p[2]))


def distance(a, b):
    """Of two four-momenta in rapidity and azimuth."""
    return math.hypot(rapidity(a) - rapidity(b), turn(math.atan2(a[1], a[0]) - math.atan2(b[1], b[0])))


def closest_pair(momenta, measure):
    pairs = [(measure(momenta[i], momenta[j]), i, j) for i in range(len(momenta)) for j in range(i)]
    return min(pairs)


def soft_drop(constituents, z_cut, beta, radius):
    """Cluster with Cambridge/Aachen, keep the tree, walk down its harder branch. Returns the two prongs."""
    nodes = [(np.asarray(p, float), None) for p in constituents]
    while len(nodes) > 1:
        _, i, j = closest_pair([node[0] for node in nodes], distance)
        joined = (nodes[i][0] + nodes[j][0], (nodes[i], nodes[j]))
        nodes = [node for k, node in enumerate(nodes) if k not in (i, j)] + [joined]
    node = nodes[0]
    while node[1] is not None:
        hard, soft = sorted(node[1], key=lambda child: -math.hypot(*child[0][:2]))
        pt = [math.hypot(*child[0][:2]) for child in (hard, soft)]
        if pt[1] / sum(pt) > z_cut * (distance(hard[0], soft[0]) / radius) ** beta:
            return hard[0], soft[0]
        node = hard
    return node[0], np.zeros(4)


def anti_kt(momenta, radius, pt_min):
    """Jets as sets of rows, the hardest first."""
    jets, nodes = [], [(np.asarray(p, float), frozenset([row])) for row, p in enumerate(momenta)]

    def weight(p):
        return (p[0] ** 2 + p[1] ** 2) ** -1.0

    while nodes:
        beam = min((weight(node[0]), k) for k, node in enumerate(nodes))
        if len(nodes) > 1:
            pair = closest_pair(
                [node[0] for node in nodes],
                lambda a, b: min(weight(a), weight(b)) * (distance(a, b) / radius) ** 2,
            )
            if pair[0] < beam[0]:
                _, i, j = pair
                joined = (nodes[i][0] + nodes[j][0], nodes[i][1] | nodes[j][1])
                nodes = [node for k, node in enumerate(nodes) if k not in (i, j)] + [joined]
                continue
        jets.append(nodes.pop(beam[1]))
    kept = [jet for jet in jets if math.hypot(*jet[0][:2]) > pt_min]
    return [rows for _, rows in sorted(kept, key=lambda jet: -math.hypot(*jet[0][:2]))]


def candidate_features(part, jet, vertices):
    """DeepAK8's features of one candidate from the values of its columns, vectors and all; CMS's units and signs."""
    pt = math.hypot(part["px"], part["py"])
    eta, phi = jet["jet_eta"] + part["deta"], jet["jet_phi"] + part["dphi"]
    out = {
        "pt_log": math.log(pt),
        "ptrel_log": math.log(pt / jet["jet_pt"]),
        "erel_log": math.log(part["energy"] / jet["jet_energy"]),
        "phirel": part["dphi"],
        "etarel": part["deta"] if jet["jet_eta"] > 0 else -part["deta"],
        "deltaR": math.hypot(part["deta"], part["dphi"]),
        "abseta": abs(eta),
        "puppiw": part["puppi_weight"],
        "charge": part["charge"],
        "isMu": part["isMuon"],
        "isEl": part["isElectron"],
        "isChargedHad": part["isChargedHadron"],
        "isGamma": part["isPhoton"],
        "isNeutralHad": part["isNeutralHadron"],
        "hcalFrac": part["isNeutralHadron"],
    }
    away = [math.hypot(part["deta"] - v["deta"], turn(part["dphi"] - v["dphi"])) for v in vertices]
    out["drminsv"] = min(away) if away else -1.0
    for k in (1, 2):
        there = jet[f"subjet{k}_pt"] > 0
        gap = math.hypot(eta - jet[f"subjet{k}_eta"], turn(phi - jet[f"subjet{k}_phi"]))
        out[f"drsubjet{k}"] = gap if there else -1.0
    return out | _track_features(part, jet, pt, eta, phi)


def _track_features(part, jet, pt, eta, phi):
    names = ("dz", "dzsig", "dxy", "dxysig", "dxydxy", "dzdz", "btagEtaRel", "btagPtRatio", "btagPParRatio")
    names += tuple(f"btag{name}" for name in ("Sip2dVal", "Sip2dSig", "Sip3dVal", "Sip3dSig", "JetDistVal"))
    if part["d0err"] <= 0:
        return dict.fromkeys(names, 0.0)
    d0, dz, d0_error, dz_error = (part[name] / 10 for name in ("d0val", "dzval", "d0err", "dzerr"))
    flight = np.array([math.cos(phi), math.sin(phi), math.sinh(eta)]) / math.cosh(eta)
    axis = np.array([math.cos(jet["jet_phi"]), math.sin(jet["jet_phi"]), math.sinh(jet["jet_eta"])])
    axis /= math.cosh(jet["jet_eta"])
    point = np.array([d0 * math.sin(phi), -d0 * math.cos(phi), dz])
    nearest = point - (point @ flight) * flight
    size = np.linalg.norm(nearest)
    # By differences: how the distance in space changes with the two impact parameters.
    sine2 = 1 / math.cosh(eta) ** 2
    error = math.hypot(d0 / size * d0_error, dz * sine2 / size * dz_error)
    momentum = pt * math.cosh(eta) * flight
    energy = math.sqrt(momentum @ momentum + 0.13957**2)
    normal = np.cross(flight, axis)
    in_plane = np.sign(point[:2] @ axis[:2])
    return {
        "dz": dz,
        "dzsig": dz / dz_error,
        "dxy": -d0,
        "dxysig": -d0 / d0_error,
        "dxydxy": d0_error**2,
        "dzdz": dz_error**2,
        "btagEtaRel": 0.5 * math.log((energy + momentum @ axis) / (energy - momentum @ axis)),
        "btagPtRatio": np.linalg.norm(normal),
        "btagPParRatio": flight @ axis,
        "btagSip2dVal": abs(d0) * in_plane,
        "btagSip2dSig": abs(d0) * in_plane / d0_error,
        "btagSip3dVal": size * np.sign(nearest @ axis),
        "btagSip3dSig": size * np.sign(nearest @ axis) / error,
        "btagJetDistVal": -abs(point @ normal) / np.linalg.norm(normal),
    }


def vertex_features(vertex, jet):
    """DeepAK8's features of one vertex."""
    pt = math.hypot(vertex["px"], vertex["py"])
    return {
        "pt_log": math.log(pt),
        "ptrel_log": math.log(pt / jet["jet_pt"]),
        "erel_log": math.log(vertex["energy"] / jet["jet_energy"]),
        "phirel": vertex["dphi"],
        "etarel": vertex["deta"] if jet["jet_eta"] > 0 else -vertex["deta"],
        "deltaR": math.hypot(vertex["deta"], vertex["dphi"]),
        "abseta": abs(jet["jet_eta"] + vertex["deta"]),
        "mass": vertex["mass"],
        "ntracks": vertex["ntracks"],
        "normchi2": vertex["normchi2"],
        "dxy": vertex["dxy"] / 10,
        "dxysig": vertex["dxy"] / vertex["dxyerr"],
        "d3d": vertex["d3d"] / 10,
        "d3dsig": vertex["d3d"] / vertex["d3derr"],
        "costhetasvpv": vertex["costhetasvpv"],
    }


def label_of_jet(collisions, event, axis, process, labels, radius=0.8):
    """Class of a jet by walking through the record of its event; -1 for none. Not for QCD."""
    pdg, first, last = collisions.pdg, collisions.daughter1, collisions.daughter2

    def end(row):
        while pdg[first[row]] == pdg[row]:
            row = first[row]
        return row

    def inside(row):
        eta, phi = (
            [math.asinh(p[2] / math.hypot(p[0], p[1])), math.atan2(p[1], p[0])]
            for p in (collisions.momentum[row], axis)
        )
        return math.hypot(eta[0] - phi[0], turn(eta[1] - phi[1])) < radius

    best, label = 0, -1
    for row in range(collisions.offsets[event], collisions.offsets[event + 1]):
        if first[row] < 0 or pdg[first[row]] == pdg[row]:
            continue
        kind = abs(pdg[row])
        if process == "top" and kind == 6:
            w, b = sorted((first[row], last[row]), key=lambda d: -abs(pdg[d]))
            w = end(w)
            with_b, quarks = inside(b), [q for q in (first[w], last[w]) if inside(q)]
            charm = any(abs(pdg[q]) == 4 for q in quarks)
            name = {(1, 2): "Tbcq" if charm else "Tbqq", (1, 1): "Tbc" if charm else "Tbq"}.get(
                (int(with_b), len(quarks))
            )
            if not with_b and len(quarks) == 2:
                name = "Wcq" if charm else "Wqq"
            found = int(with_b) + len(quarks)
        elif process != "top" and kind in (23, 24, 25):
            flavours = sorted(abs(pdg[q]) for q in (first[row], last[row]))
            names = {24: "Wcq" if 4 in flavours else "Wqq", 25: "Hbb" if 5 in flavours else "Hcc"}
            names[23] = "Zbb" if 5 in flavours else "Zcc" if 4 in flavours else "Zqq"
            both = inside(first[row]) and inside(last[row])
            name, found = (names[kind], 2) if both else (None, 0)
        else:
            continue
        if name is not None and found > best:
            best, label = found, labels.index(name)
    return label
