"""Slow NumPy twins of the networks: one jet, one particle, one neighbour at a time, formulas as published."""

from __future__ import annotations

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def norm(module, x):
    """Batch normalisation with the running statistics."""
    gain, bias, mean, var = (
        np.asarray(p[...], np.float64) for p in (module.scale, module.bias, module.mean, module.var)
    )
    return (x - mean) / np.sqrt(var + module.epsilon) * gain + bias


def dense(module, x):
    result = x @ np.asarray(module.kernel[...], np.float64)
    return result if module.bias is None else result + np.asarray(module.bias[...], np.float64)


def convolve(module, x, stride=1):
    """Convolution over the length by its definition; zeros beyond the ends."""
    kernel = np.asarray(module.kernel[...], np.float64)
    half = len(kernel) // 2
    rows = []
    for centre in range(0, len(x), stride):
        total = 0
        for tap in range(len(kernel)):
            place = centre + tap - half
            if 0 <= place < len(x):
                total = total + x[place] @ kernel[tap]
        rows.append(total if module.bias is None else total + np.asarray(module.bias[...], np.float64))
    return np.array(rows)


def tower(module, x, preactivation):
    """One of DeepAK8's residual networks for one jet."""
    x = convolve(module.stem, norm(module.norm, x))
    for number, unit in enumerate(module.units):
        stride = 2 if number and unit.shortcut is not None else 1
        if preactivation:
            active = relu(norm(unit.norms[0], x))
            inner = convolve(
                unit.convolutions[1],
                relu(norm(unit.norms[1], convolve(unit.convolutions[0], active, stride))),
            )
            x = inner + (x if unit.shortcut is None else convolve(unit.shortcut, active, stride))
        else:
            inner = relu(norm(unit.norms[0], convolve(unit.convolutions[0], x, stride)))
            inner = norm(unit.norms[1], convolve(unit.convolutions[1], inner))
            around = (
                x if unit.shortcut is None else norm(unit.shortcut_norm, convolve(unit.shortcut, x, stride))
            )
            x = relu(inner + around)
    if preactivation:
        x = relu(norm(module.last_norm, x))
    return x.mean(0)


def deepak8(network, jets):
    """Logits of DeepAK8."""
    rows = []
    for jet in range(len(jets.label)):
        parts = []
        for module, features, valid in (
            (network.candidates, jets.candidates[jet], jets.candidate_valid[jet]),
            (network.vertices, jets.vertices[jet], jets.vertex_valid[jet]),
        ):
            x = np.where(np.asarray(valid)[:, None], np.asarray(features, np.float64), 0)
            parts.append(tower(module, x, network.config.preactivation))
        hidden = np.concatenate(parts)
        for layer in network.dense:
            hidden = dense(layer, hidden)
            hidden = np.where(hidden > 0, hidden, network.config.slope * hidden)
        rows.append(dense(network.output, hidden))
    return np.array(rows)


def pcnn(network, jets):
    """Logits of P-CNN."""
    rows = []
    for jet in range(len(jets.label)):
        valid = np.asarray(jets.candidate_valid[jet])
        x = np.where(valid[:, None], np.asarray(jets.candidates[jet], np.float64), 0)
        x = relu(norm(network.stem_norm, convolve(network.stem, norm(network.norm, x))))
        units = iter(network.units)
        for stage, (_, count) in enumerate(network.config.stages):
            for number in range(count):
                unit, stride = next(units), 2 if stage > 0 and number == 0 else 1
                inner = relu(norm(unit.norms[0], convolve(unit.convolutions[0], x, stride)))
                inner = relu(norm(unit.norms[1], convolve(unit.convolutions[1], inner)))
                x = inner + (x if unit.shortcut is None else convolve(unit.shortcut, x, stride))
        rows.append(dense(network.output, relu(dense(network.dense, x.mean(0)))))
    return np.array(rows)


def nearest(points, valid, k):
    """Rows of the k nearest valid points, then of padding, by sorting."""
    rows = []
    for i in range(len(points)):
        distance = ((points - points[i]) ** 2).sum(1)
        order = sorted((j for j in range(len(points)) if j != i), key=lambda j: (not valid[j], distance[j]))
        rows.append(order[:k])
    return np.array(rows)


def edge_conv(module, points, features, valid):
    """One edge convolution of one jet: dense layers on [x_i, x_j - x_i]."""
    neighbors = nearest(points, valid, module.k)
    rows = []
    for i in range(len(points)):
        edges = []
        for j in neighbors[i]:
            edge = np.concatenate([features[i], features[j] - features[i]])
            for layer, layer_norm in zip(module.layers, module.norms, strict=True):
                edge = relu(norm(layer_norm, dense(layer, edge)))
            edges.append(edge)
        around = features[i]
        if module.shortcut is not None:
            around = norm(module.shortcut_norm, dense(module.shortcut, around))
        rows.append(relu(around + np.mean(edges, 0)) if valid[i] else np.zeros(edges[0].shape))
    return np.array(rows)


def particle_net(network, jets):
    """Logits of ParticleNet without vertices."""
    config = network.config
    rows = []
    for jet in range(len(jets.label)):
        valid = np.asarray(jets.candidate_valid[jet])
        x = np.where(valid[:, None], np.asarray(jets.candidates[jet], np.float64), 0)
        points = x[:, list(config.coordinates)]
        x = np.where(valid[:, None], norm(network.norm, x[:, : config.features]), 0)
        for block in network.blocks:
            x = edge_conv(block, points, x, valid)
            points = x
        hidden = x.sum(0) / max(valid.sum(), 1)
        for layer in network.dense:
            hidden = relu(dense(layer, hidden))
        rows.append(dense(network.output, hidden))
    return np.array(rows)


def gated_unit(module, x):
    """State of the recurrent unit after the rows of one jet, read from the last to the first."""
    kernel, recurrent = (np.asarray(p[...], np.float64) for p in (module.kernel, module.recurrent))
    bias = np.asarray(module.bias[...], np.float64) + np.asarray(module.recurrent_bias[...], np.float64)
    units = module.units
    state = np.zeros(units)
    for row in x[::-1]:
        given = row @ kernel + bias
        update, reset = (
            np.clip(0.2 * (given[part] + state @ recurrent[:, part]) + 0.5, 0, 1)
            for part in (slice(units), slice(units, 2 * units))
        )
        new = np.tanh(given[2 * units :] + (reset * state) @ recurrent[:, 2 * units :])
        state = update * state + (1 - update) * new
    return state


def deepdoubleb(network, jets, jet_features):
    """Logits of DeepDoubleB."""
    rows = []
    for jet in range(len(jets.label)):
        parts = [norm(network.norm, np.asarray(jet_features[jet], np.float64))]
        for module, features, valid in (
            (network.candidates, jets.candidates[jet], jets.candidate_valid[jet]),
            (network.vertices, jets.vertices[jet], jets.vertex_valid[jet]),
        ):
            x = norm(module.norm, np.where(np.asarray(valid)[:, None], np.asarray(features, np.float64), 0))
            for layer in module.layers:
                x = relu(dense(layer, x))
            parts.append(gated_unit(module.recurrent, x))
        rows.append(dense(network.output, relu(dense(network.dense, np.concatenate(parts)))))
    return np.array(rows)


def pair_features(one, other, least=1e-8):
    """ln kT, ln z, ln of the angle, ln m^2 of one pair of four-vectors (px, py, pz, E)."""
    (pt, y, phi), (other_pt, other_y, other_phi) = (
        (np.hypot(p[0], p[1]), np.arctanh(p[2] / p[3]), np.arctan2(p[1], p[0])) for p in (one, other)
    )
    turn = abs(phi - other_phi)
    angle = np.hypot(y - other_y, min(turn, 2 * np.pi - turn))
    total = one + other
    mass2 = total[3] ** 2 - (total[:3] ** 2).sum()
    low = min(pt, other_pt)
    return np.log(np.maximum([low * angle, low / (pt + other_pt), angle, mass2], least))
