"""How a batch is cut into parts: so small that what is made of each stays in the cache, and as many as keep all threads at work."""
import numpy

from nn.kernels.cpu import parallel

CHUNK_BYTES = 1 << 22  # columns of this size stay near a core, and are worth a call
BLOCK = 1 << 16  # numbers of a flat array that are worked on at a time
SUMMED_ALONE = 1 << 19  # bytes of an array up to which a sum is not worth cutting up
forced_chunks = None  # the number of chunks, where a caller of use_kernels gave one


def chunks(count, bytes_each, weight_bytes=0):
    """Slices of a batch of `count` pictures of which bytes_each are made: small enough for the cache, at least one a thread.
    A large weight is read once a chunk, so then chunks are few."""
    return cut(count, min(_number(count, bytes_each, weight_bytes), count))


def bands(count, rows, bytes_each, weight_bytes):
    """As chunks, pairs (pictures, rows of each): where there are fewer pictures than chunks, pictures are cut into bands of
    rows. So a single large picture is worked on by all threads, in the cache."""
    number = _number(count, bytes_each, weight_bytes)
    bands = min(-(-number // count), rows) if count else 1
    return [(pictures, band) for pictures in cut(count, min(number, count)) for band in cut(rows, bands)]


def rows_under(x, rows, kh, stride, padding):
    """What a band of y's rows is computed from: those rows of x (n, H, W, C), and the zeros around them."""
    top, bottom = rows.start * stride - padding[0], (rows.stop - 1) * stride + kh - padding[0]
    first, last = (min(max(edge, 0), x.shape[1]) for edge in (top, bottom))
    above = min(max(-top, 0), bottom - top)
    return x[:, first:last], ((above, bottom - top - above - (last - first)), padding[1])


def _number(count, bytes_each, weight_bytes):
    if forced_chunks:
        return forced_chunks
    threads = parallel.thread_count()
    budget = max(CHUNK_BYTES, weight_bytes)
    number = max(threads, -(-count * bytes_each // budget))
    return -(-number // threads) * threads  # equal work for all threads


def one_a_thread(count):
    """Slices of so many things, one for each thread."""
    return cut(count, min(count, parallel.thread_count()))


def cut(length, number):
    """`number` slices of nearly equal length; one empty slice of nothing."""
    edges = [length * k // number for k in range(number + 1)] if number else [0]
    return [slice(a, b) for a, b in zip(edges, edges[1:])] or [slice(0, 0)]


def view(x, shape, strides):
    """A contiguous array's memory as an array of another shape, whose elements may lie in one another (strides in bytes). As
    numpy.lib.stride_tricks.as_strided, in an eighth of the time; and it does not reach beyond x."""
    return numpy.ndarray(shape, x.dtype, x, 0, strides)


def total(arrays):
    """The sum of arrays of one shape, in the first of them; always in this order, so that its bits do not depend on which thread
    was first."""
    flat = [array.reshape(-1) for array in arrays]

    def work(part):
        for other in flat[1:]:
            flat[0][part] += other[part]

    if len(arrays) > 1:
        parallel.run(work, cut(flat[0].size, parallel.thread_count() if flat[0].nbytes > SUMMED_ALONE else 1))
    return arrays[0]
