"""Resampling on the CPU: weighted sums of pixels, pixel shuffle, bilinear sampling of warped faces."""
import numpy

from nn.kernels import plain
from nn.kernels.cpu import parallel, tiling

BAND_ROWS = 32  # rows of a matrix that are one product
FEW_CHANNELS = 3  # channels up to which one large product is faster than one for each row of pixels


def separable(x, rows, columns):
    """As plain.separable, by small matrix products.

    A block of output rows depends on a band of input rows only. So each product has that band of
    the matrix, however large the image is.
    """
    n, _, w, c = x.shape
    y, bands = numpy.empty((n, len(rows), len(columns), c), x.dtype), _bands(columns)
    if c <= FEW_CHANNELS:  # one product with blocks columns[j, w] * identity(C) instead of one for each row
        blocks = [numpy.kron(columns[out, inner].T, numpy.eye(c, dtype=x.dtype)) for out, inner in bands]

    def work(part):
        images, (out_rows, in_rows) = part
        below, out, matrix = x[images, in_rows], y[images, out_rows], rows[out_rows, in_rows]
        with numpy.errstate(invalid="ignore", over="ignore"):
            lower = matrix @ below.reshape(*below.shape[:2], w * c)  # (n, rows, W*C)
            finite = numpy.isfinite(lower.sum())
        if not finite:  # 0 * NaN is NaN: leave out the pixels of weight 0
            out[...] = plain.separable(below, matrix, columns)
            return
        for k, (out_columns, in_columns) in enumerate(bands):
            if c <= FEW_CHANNELS:
                product = lower[:, :, c * in_columns.start:c * in_columns.stop] @ blocks[k]
                out[:, :, out_columns] = product.reshape(out[:, :, out_columns].shape)
            else:
                numpy.matmul(columns[out_columns, in_columns], lower.reshape(*out.shape[:2], w, c)[:, :, in_columns],
                             out=out[:, :, out_columns])

    images = tiling.chunks(n, 2 * y[:1].nbytes)
    parallel.run(work, [(chunk, band) for chunk in images for band in _bands(rows)])
    return y


def _bands(matrix):
    """Return pairs (slice of rows, slice of the columns from the first to the last weight in them)."""
    pairs = []
    for start in range(0, len(matrix), BAND_ROWS):
        used = matrix[start:start + BAND_ROWS].any(axis=0).nonzero()[0]
        inner = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
        pairs.append((slice(start, min(start + BAND_ROWS, len(matrix))), inner))
    return pairs


def pixel_shuffle(x, factor):
    """As plain.pixel_shuffle."""
    n, h, w, c = x.shape
    y = numpy.empty((n, h * factor, w * factor, c // factor ** 2), x.dtype)
    run = c // factor  # numbers that stay adjacent: a row of a block

    def work(chunk):
        count = chunk.stop - chunk.start
        y[chunk].reshape(count, h, factor, w, run)[...] = x[chunk].reshape(count, h, w, factor, run).swapaxes(2, 3)

    parallel.run(work, tiling.chunks(n, 2 * y[:1].nbytes))
    return y


def pixel_unshuffle(y, factor):
    """As plain.pixel_unshuffle."""
    n, h, w, c = y.shape
    h, w, run = h // factor, w // factor, c * factor
    x = numpy.empty((n, h, w, factor * run), y.dtype)

    def work(chunk):
        count = chunk.stop - chunk.start
        x[chunk].reshape(count, h, w, factor, run)[...] = y[chunk].reshape(count, h, factor, w, run).swapaxes(2, 3)

    parallel.run(work, tiling.chunks(n, 2 * x[:1].nbytes))
    return x


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
