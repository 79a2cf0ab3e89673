"""Slow NumPy twin of the network for images that are almost empty: whole images, cell by cell, tap by tap."""

from __future__ import annotations

import numpy as np

from tests.reference.tagging import dense, norm, relu


def occupied(patches):
    return (patches > 0).any(-1)


def convolve(matrix, image, mask):
    """3 x 3 by its definition, from occupied cells to occupied cells."""
    kernel = np.asarray(matrix.kernel[...], np.float64).reshape(3, 3, image.shape[-1], -1)
    result = np.zeros((*image.shape[:2], kernel.shape[-1]))
    for row, column in zip(*np.nonzero(mask), strict=True):
        total = np.asarray(matrix.bias[...], np.float64)
        for down in range(3):
            for right in range(3):
                r, c = row + down - 1, column + right - 1
                if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c]:
                    total = total + image[r, c] @ kernel[down, right]
        result[row, column] = total
    return result


def merge(matrix, image, mask):
    """Four cells to one, empty ones as zeros."""
    h, w, c = image.shape
    rows, columns = (h + 1) // 2, (w + 1) // 2
    padded = np.zeros((2 * rows, 2 * columns, c))
    padded[:h, :w] = np.where(mask[..., None], image, 0)
    above = np.zeros((2 * rows, 2 * columns), bool)
    above[:h, :w] = mask
    coarse = above.reshape(rows, 2, columns, 2).any((1, 3))
    four = padded.reshape(rows, 2, columns, 2, c).transpose(0, 2, 1, 3, 4).reshape(rows, columns, 4 * c)
    return np.where(coarse[..., None], dense(matrix, four), 0), coarse


def features(featurizer, image):
    """Features of one event, in evaluation mode."""
    config = featurizer.config
    p, views, masks = config.patch, [], []
    for view in range(config.views):
        pixels = np.asarray(image[..., view], np.float64)
        h, w = pixels.shape[0] // p, pixels.shape[1] // p
        patches = pixels.reshape(h, p, w, p).transpose(0, 2, 1, 3).reshape(h, w, p * p)
        mask = occupied(patches)
        where = np.stack(np.meshgrid(np.arange(h) / h - 0.5, np.arange(w) / w - 0.5, indexing="ij"), -1)
        cells = np.concatenate([np.log1p(config.gain * patches) / 3, patches > 0, where], -1)
        if config.stem:
            cells = relu(dense(featurizer.pixels, cells))
        cells = np.where(mask[..., None], dense(featurizer.stem, cells), 0)
        for scale, blocks in enumerate(featurizer.scales):
            for block in blocks:
                inner = cells
                for activation, convolution in zip(block.activations, block.convolutions, strict=True):
                    inner = convolve(convolution.matrix, relu(norm(activation.norm, inner)), mask)
                cells = cells + inner
            cells = np.where(mask[..., None], relu(norm(featurizer.activations[scale].norm, cells)), 0)
            if scale + 1 < len(featurizer.scales):
                cells, mask = merge(featurizer.merges[scale], cells, mask)
        views.append(cells)
        masks.append(mask)
    total = np.log1p(config.gain * image.sum((0, 1))) / 8
    count = np.log1p((image > 0).sum((0, 1))) / 5
    met = (
        meet(featurizer.meeting, np.stack(views), np.stack(masks))
        if config.attention
        else fuse(featurizer, views)
    )
    return np.concatenate([met, total, count])


def fuse(featurizer, views):
    """Views as channels of one image; means and maxima of it."""
    mixed = relu(dense(featurizer.mixing, np.concatenate(views, -1)))
    full = np.ones(mixed.shape[:2], bool)

    class Last:
        kernel = np.asarray(featurizer.last.kernel[...], np.float64)
        bias = np.asarray(featurizer.last.bias[...], np.float64)

    mixed = mixed + relu(convolve(Last, mixed, full))
    return np.concatenate([mixed.mean((0, 1)), mixed.max((0, 1))])


def standardised(layer, rows):
    """Layer normalisation by its definition."""
    spread = np.sqrt(rows.var(-1, keepdims=True) + 1e-6)
    return (rows - rows.mean(-1, keepdims=True)) / spread * np.asarray(
        layer.scale[...], np.float64
    ) + np.asarray(layer.bias[...], np.float64)


def attend(block, cells):
    """Every cell looks at every cell, one pair and one head at a time."""
    asked = dense(block.queries, standardised(block.norms[0], cells))
    c = cells.shape[1]
    size = c // block.heads
    answers = np.zeros_like(cells)
    for head in range(block.heads):
        query, key, value = (
            asked[:, part * c + head * size : part * c + (head + 1) * size] for part in range(3)
        )
        for row in range(len(cells)):
            weight = np.exp([query[row] @ other / np.sqrt(size) for other in key])
            answers[row, head * size : (head + 1) * size] = weight @ value / weight.sum()
    cells = cells + dense(block.answer, answers)
    return cells + dense(block.narrowing, relu(dense(block.widening, standardised(block.norms[1], cells))))


def meet(meeting, cells, masks):
    """The occupied cells of all views as one list, through the blocks of attention; their mean and maximum."""
    if not masks.any():
        return np.zeros(2 * cells.shape[-1])
    rows = cells[masks] + np.asarray(meeting.places[...], np.float64)[np.flatnonzero(masks)]
    for block in meeting.blocks:
        rows = attend(block, rows)
    rows = standardised(meeting.norm, rows)
    return np.concatenate([rows.mean(0), rows.max(0)])
