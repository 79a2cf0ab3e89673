"""Slow twins of what networks for images do, pixel by pixel in double precision."""

import numpy as np


def convolve(images, kernel, stride, padding):
    """Sum over the window of every output; padding is ((top, bottom), (left, right)), channels may be on their own."""
    batch, height, width, channels = images.shape
    size, _, inputs, outputs = kernel.shape
    (top, bottom), (left, right) = padding
    padded = np.zeros((batch, top + height + bottom, left + width + right, channels))
    padded[:, top : top + height, left : left + width] = images
    rows, columns = (padded.shape[1] - size) // stride + 1, (padded.shape[2] - size) // stride + 1
    result = np.zeros((batch, rows, columns, outputs))
    for row, column in np.ndindex(rows, columns):
        window = padded[:, row * stride : row * stride + size, column * stride : column * stride + size]
        for output in range(outputs):
            seen = window if inputs == channels else window[..., output : output + 1]
            result[:, row, column, output] = (seen * kernel[..., output]).sum((1, 2, 3))
    return result


def largest(images, size, padding):
    """Largest value of windows two pixels apart."""
    batch, height, width, channels = images.shape
    padded = np.full((batch, height + 2 * padding, width + 2 * padding, channels), -np.inf)
    padded[:, padding : padding + height, padding : padding + width] = images
    rows, columns = (padded.shape[1] - size) // 2 + 1, (padded.shape[2] - size) // 2 + 1
    result = np.zeros((batch, rows, columns, channels))
    for row, column in np.ndindex(rows, columns):
        result[:, row, column] = padded[:, 2 * row : 2 * row + size, 2 * column : 2 * column + size].max(
            (1, 2)
        )
    return result


def adaptive_mean(images, size):
    """Means of windows that cover the image."""
    batch, height, width, channels = images.shape
    result = np.zeros((batch, size, size, channels))
    for row, column in np.ndindex(size, size):
        rows = slice(int(np.floor(row * height / size)), int(np.ceil((row + 1) * height / size)))
        columns = slice(int(np.floor(column * width / size)), int(np.ceil((column + 1) * width / size)))
        result[:, row, column] = images[:, rows, columns].mean((1, 2))
    return result
