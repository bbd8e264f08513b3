"""Bilinear sampling of many small square images on the CPU, as for every batch of warped faces."""
import numpy


def sample_bilinear(images, indices, x, y):
    """As plain.sample_bilinear."""
    side = images.shape[1]
    x, y = numpy.clip(x, 0, side - 1.001), numpy.clip(y, 0, side - 1.001)
    left, top = x.astype(numpy.int32), y.astype(numpy.int32)
    # The four channels of a pixel are 16-bit lanes of one 64-bit word: one multiplication weights
    # all four. The weights are integers that sum to 256 and values are at most 255, so no lane
    # overflows into the next.
    words = images[indices].astype(numpy.uint16).view(numpy.uint64).ravel()
    first = (numpy.arange(len(indices), dtype=numpy.int32) * (side * side)).reshape(-1, *[1] * (x.ndim - 1))
    corner = top * numpy.int32(side) + left + first
    x, y = (x - left) * numpy.float32(16), (y - top) * numpy.float32(16)  # 16 * 16 = 256
    right = (x * numpy.float32(16) + numpy.float32(0.5)).astype(numpy.int32)  # weight of the two right pixels
    below = (y * numpy.float32(16) + numpy.float32(0.5)).astype(numpy.int32)  # weight of the two lower pixels
    # Each weight is rounded separately: without the maximum, the first pixel would get weight -1 at
    # one position in 1,300.
    both = numpy.maximum((x * y + numpy.float32(0.5)).astype(numpy.int32), right + below - numpy.int32(256))
    total = words[corner] * (numpy.int32(256) + both - right - below).astype(numpy.uint64)
    total += words[corner + numpy.int32(1)] * (right - both).astype(numpy.uint64)
    total += words[corner + numpy.int32(side)] * (below - both).astype(numpy.uint64)
    total += words[corner + numpy.int32(side + 1)] * both.astype(numpy.uint64)
    return total.view(numpy.uint16).reshape(*x.shape, 4) * numpy.float32(1 / (256 * 255))
