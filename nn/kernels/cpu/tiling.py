"""Split a batch into chunks that fit the cache and keep every thread busy."""
import numpy

from nn.kernels.cpu import parallel

CHUNK_BYTES = 1 << 22  # size of a chunk's im2col matrix: fits the cache of a core, and is worth a call
# Elements of a flat array that are processed at a time. In smaller blocks, threads wait for one
# another at Python's lock, which each short NumPy call takes.
BLOCK = 1 << 16
SINGLE_THREAD_SUM = 1 << 19  # bytes of an array up to which splitting a sum over threads does not pay
forced_chunks = None  # number of chunks given to use_kernels, or None


def chunks(count, bytes_each, weight_bytes=0):
    """Return slices of a batch: chunks small enough for the cache, at least one for each thread.

    count: images in the batch
    bytes_each: size of the temporary arrays computed from each image
    weight_bytes: size of the weight; each chunk reads it once, so a large one means few chunks
    """
    return split(count, min(_chunk_count(count, bytes_each, weight_bytes), count))


def bands(count, rows, bytes_each, weight_bytes):
    """Return pairs (slice of images, slice of rows). Arguments as for chunks; rows: of each image.

    If there are fewer images than chunks, images are split into bands of rows: all threads work on
    a single large image, in the cache.
    """
    number = _chunk_count(count, bytes_each, weight_bytes)
    bands = min(-(-number // count), rows) if count else 1
    return [(images, band) for images in split(count, min(number, count)) for band in split(rows, bands)]


def input_rows(x, rows, kh, stride, padding):
    """Return the rows of x (n, H, W, C) that a band of y's rows depends on, and their padding."""
    top, bottom = rows.start * stride - padding[0], (rows.stop - 1) * stride + kh - padding[0]
    first, last = (min(max(edge, 0), x.shape[1]) for edge in (top, bottom))
    above = min(max(-top, 0), bottom - top)
    return x[:, first:last], ((above, bottom - top - above - (last - first)), padding[1])


def _chunk_count(count, bytes_each, weight_bytes):
    if forced_chunks:
        return forced_chunks
    threads = parallel.thread_count()
    budget = max(CHUNK_BYTES, weight_bytes)
    number = max(threads, -(-count * bytes_each // budget))
    return -(-number // threads) * threads  # equal work for all threads


def split_for_threads(count):
    """Return slices of `count` items, one for each thread."""
    return split(count, min(count, parallel.thread_count()))


def split(length, number):
    """Return `number` slices of nearly equal length; for number 0, one empty slice."""
    edges = [length * k // number for k in range(number + 1)] if number else [0]
    return [slice(a, b) for a, b in zip(edges, edges[1:])] or [slice(0, 0)]


def strided_view(x, shape, strides):
    """Return a view of a contiguous array with another shape and strides in bytes; its elements may
    overlap.

    As numpy.lib.stride_tricks.as_strided, in an eighth of the time, and it cannot reach beyond x.
    """
    return numpy.ndarray(shape, x.dtype, x, 0, strides)


def sum_in_order(arrays):
    """Sum arrays of one shape into the first, and return it.

    The order is fixed, so the bits do not depend on which thread was first.
    """
    flat = [array.reshape(-1) for array in arrays]

    def work(chunk):
        for other in flat[1:]:
            flat[0][chunk] += other[chunk]

    if len(arrays) > 1:
        parallel.run(work, split(flat[0].size, parallel.thread_count() if flat[0].nbytes > SINGLE_THREAD_SUM else 1))
    return arrays[0]
