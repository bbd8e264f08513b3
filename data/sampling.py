"""Reading many small square pictures at once, each at positions of its own: what every batch of faces is made by.

Legend: N pictures, P their side, n of them asked for. Positions are pixels, centres at integers.
"""
import numpy as np


def read_bilinear(canvases, indices, x, y):
    """Bilinear values of pictures at any positions.

    canvases: (N, P, P, 4) uint8. indices: (n,) which of them. x, y: (n, ...) float32, pixels; beyond the border its pixels are
    repeated. Returns (n, ..., 4) float32 0..1.
    """
    side = canvases.shape[1]
    x, y = np.clip(x, 0, side - 1.001), np.clip(y, 0, side - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    # The four channels of a pixel as 16-bit lanes of one 64-bit word: one multiplication weighs all four. The weights are whole
    # numbers that sum to 256 and values are at most 255, so no lane runs over into the next.
    words = canvases[indices].astype(np.uint16).view(np.uint64).ravel()
    first = (np.arange(len(indices), dtype=np.int32) * (side * side)).reshape(-1, *[1] * (x.ndim - 1))
    corner = top * np.int32(side) + left + first
    x, y = (x - left) * np.float32(16), (y - top) * np.float32(16)  # 16 * 16 = 256
    right = (x * np.float32(16) + np.float32(0.5)).astype(np.int32)  # weight of the two on the right
    below = (y * np.float32(16) + np.float32(0.5)).astype(np.int32)  # weight of the two below
    # Each is rounded by itself: without the maximum, one in 1,300 positions would leave a weight of -1 for the first pixel.
    both = np.maximum((x * y + np.float32(0.5)).astype(np.int32), right + below - np.int32(256))
    total = words[corner] * (np.int32(256) + both - right - below).astype(np.uint64)
    total += words[corner + np.int32(1)] * (right - both).astype(np.uint64)
    total += words[corner + np.int32(side)] * (below - both).astype(np.uint64)
    total += words[corner + np.int32(side + 1)] * both.astype(np.uint64)
    return total.view(np.uint16).reshape(*x.shape, 4) * np.float32(1 / (256 * 255))
