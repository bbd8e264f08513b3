"""Fast convolution for NumPy arrays: gather the pixels that each output needs into rows, then one matrix product.

    columns    (pixels of y, kh*kw*C): row (n, i, j) holds the patch of x under the kernel at (i, j)
    conv2d           y = columns(x) @ w                      w as (kh*kw*C, F)
    conv2d_weight    w = columns(x).T @ y
    conv2d_transpose x = fold(y @ w.T)                       fold adds each patch back to where it was gathered

What makes it fast:

    NHWC           a row of the kernel, kw*C numbers, is one contiguous run of x: gathering copies long runs.
    Chunks         the batch is cut so that a chunk's columns stay in the cache; they are made anew when needed again.
    Threads        chunks run on all cores, each with a single-threaded BLAS.
    Thinner side   kh*kw copies are made of x or of y, whichever has fewer channels. With stride 1, copies of y do as
                   well: the adjoint is a convolution with the kernel turned by half a turn and its channels swapped.
    Winograd       a kernel of 3 x 3 with stride 1 on many channels takes fewer multiplications: winograd.py.
    Phases         the gradient by x of a 5 x 5 kernel with stride 2 is that of a 3 x 3 one, for four pictures of half the size.
    Fused          bias and leaky ReLU are applied to a chunk while it is in the cache.
"""
import math

import numpy

from nn.kernels import parallel, plain, products, winograd

CHUNK_BYTES = 1 << 22  # columns of this size stay near a core, and are worth a call
PRODUCT = 1 << 22  # multiplications from which a product is worth cutting up
BLOCK = 1 << 16  # numbers of an optimizer's vectors that are worked on at a time
WINOGRAD_CHANNELS, WINOGRAD_TILES = 32, 128  # of x and of y, and in a batch: where that way begins to pay
PHASE_PIXELS = 8  # of y, for each channel of x: where phases begin to pay
forced_chunks = None  # the number of chunks, where a caller of use_kernels gave one


def conv2d(x, w, b, stride, padding, slope):
    """As plain.conv2d."""
    n, h, wd, c = x.shape
    kh, kw, _, f = w.shape
    oh, ow = ((length + 2 * p - k) // s + 1 for length, p, k, s in zip((h, wd), padding, w.shape, stride))
    y = numpy.empty((n, oh, ow, f), x.dtype)
    fewer, thin, taken = _way(w.shape, stride, y.shape)
    matrix = _filters(w) if fewer else w.transpose(0, 1, 3, 2).reshape(-1, c) if thin else w.reshape(-1, f)

    def work(part):
        pictures, rows = part
        out = y[pictures, rows]
        if fewer:
            seen, ((above, _), left) = _rows_under(x[pictures], rows, kh, 1, padding)
            winograd.outputs(winograd.tiles(seen, (above, left), out.shape[1:3]), matrix, out)
        elif thin:
            _by_planes(x[pictures], matrix, (kh, kw), padding, out)
        else:
            seen, margin = _rows_under(x[pictures], rows, kh, stride[0], padding)
            seen = columns(seen, (kh, kw), stride, margin, (rows.stop - rows.start, ow))
            products.tall(seen, matrix, out.reshape(-1, f))
        if b is not None:
            out += b
        if slope is not None:
            _leaky_relu(out, slope)

    nearness = 3 if thin else 1  # planes are walked through for each tap: they should stay nearest to the core
    parallel.run(work, _bands(n, oh, oh * ow * taken * nearness * y.itemsize, matrix.nbytes, whole=thin))
    return y


def conv2d_transpose(y, w, b, stride, padding, size):
    """As plain.conv2d_transpose."""
    n, oh, ow, f = y.shape
    kh, kw, c, _ = w.shape
    if stride == (1, 1) and f <= 4 * c and all(k > p for k, p in zip((kh, kw), padding)):
        return conv2d(y, w[::-1, ::-1].transpose(0, 1, 3, 2), b, stride, (kh - 1 - padding[0], kw - 1 - padding[1]), None)
    if _pays_in_phases(w.shape, stride, padding, size, y.shape):
        x = pixel_shuffle(conv2d_transpose(y, _phase_filter(w), None, (1, 1), (1, 1), (oh, ow)), 2)
        return x if b is None else x + b
    x = numpy.empty((n, *size, c), y.dtype)
    matrix = w.reshape(-1, f).T

    def work(part):
        patches = y[part].reshape(-1, f) @ matrix  # (n*OH*OW, kh*kw*C)
        _fold(patches.reshape(-1, oh, ow, kh, kw, c), stride, padding, x[part])
        if b is not None:
            x[part] += b

    parallel.run(work, _chunks(n, oh * ow * kh * kw * c * y.itemsize, w.nbytes))
    return x


def _pays_in_phases(weight_shape, stride, padding, size, y_shape):
    """Whether the adjoint of a 5 x 5 convolution with stride 2 is faster as that of a 3 x 3 one without: on large maps."""
    kh, kw, c, _ = weight_shape
    n, oh, ow, _ = y_shape
    fits = ((kh, kw), stride, padding, tuple(size)) == ((5, 5), (2, 2), (2, 2), (2 * oh, 2 * ow))
    return fits and n * oh * ow >= PHASE_PIXELS * c and _has_fewer_products((3, 3, 4 * c, weight_shape[3]), (1, 1), y_shape)


def _phase_filter(w):
    """w (5, 5, C, F), for x with stride 2, as (3, 3, 4*C, F) for the four phases of x side by side: its even and its odd rows and
    columns, each of half the size. Of the 36 taps, 11 are zero."""
    c, f = w.shape[2:]
    even = numpy.zeros((6, 6, c, f), w.dtype)
    even[:5, :5] = w
    return even.reshape(3, 2, 3, 2, c, f).transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, 4 * c, f)


def conv2d_weight(x, y, stride, padding, size):
    """As plain.conv2d_weight."""
    n, h, wd, c = x.shape
    _, oh, ow, f = y.shape
    kh, kw = size
    fewer, thin, taken = _way((kh, kw, c, f), stride, y.shape)

    def work(part):
        if fewer:
            return products.across(winograd.tiles(x[part], padding, (oh, ow)), winograd.shares(y[part]))
        if thin:  # patches of y around each pixel of x, the taps in reverse order
            margin = kh - 1 - padding[0], kw - 1 - padding[1]
            return products.across(x[part].reshape(-1, c), columns(y[part], size, (1, 1), margin, (h, wd)))
        return products.across(columns(x[part], size, stride, padding, (oh, ow)), y[part].reshape(-1, f))

    parts = parallel.run(work, _chunks(n, oh * ow * taken * x.itemsize, (16 if fewer else kh * kw) * c * f * x.itemsize))
    total = _total(parts)
    if fewer:
        return winograd.taps(total)
    if thin:
        return numpy.ascontiguousarray(total.reshape(c, kh, kw, f)[:, ::-1, ::-1].transpose(1, 2, 0, 3))
    return total.reshape(kh, kw, c, f)


def _filters(w):
    """winograd.filters(w), on all threads."""
    c, f = w.shape[2:]
    matrix = numpy.empty((16, c * f), w.dtype)

    def work(part):
        winograd.filters(w[:, :, part], matrix[:, part.start * f:part.stop * f])

    parallel.run(work, _chunks(c, w[:, :, :1].nbytes, 0))
    return matrix.reshape(16, c, f)


def _total(parts):
    """The sum of arrays, in the first of them; always in this order, so that its bits do not depend on which thread was first."""
    for part in parts[1:]:
        parts[0] += part
    return parts[0]


def _way(weight_shape, stride, y_shape):
    """Which way a convolution is worked out: (whether Winograd's, whether by copies of the thinner y, numbers that are gathered
    for each pixel of y)."""
    kh, kw, c, f = weight_shape
    if _has_fewer_products(weight_shape, stride, y_shape):
        return True, False, 4 * (c + f)
    thin = stride == (1, 1) and 4 * f <= c and kh * kw > 1
    return False, thin, kh * kw * (f if thin else c)


def _has_fewer_products(weight_shape, stride, y_shape):
    """Whether Winograd's way is open, and the faster one: it is not where many filters meet few tiles, or where channels are so
    few that the additions weigh more than the products."""
    kh, kw, c, f = weight_shape
    n, oh, ow, _ = y_shape
    tiles = n * -(-oh // 2) * -(-ow // 2)
    return (kh, kw) == (3, 3) and stride == (1, 1) and min(c, f) >= WINOGRAD_CHANNELS and tiles >= max(WINOGRAD_TILES, c // 4)


def columns(x, kernel_size, stride, padding, size):
    """The patches of x (n, H, W, C) under the kernel at each of size = (OH, OW) places, as rows (n*OH*OW, kh*kw*C)."""
    n, h, w, c = x.shape
    (kh, kw), (sh, sw), (oh, ow) = kernel_size, stride, size
    x = _pad(x, padding)
    sn, srow, spixel, _ = x.strides  # of an axis of length 1 the stride may be anything: one channel's is not used
    patches = numpy.lib.stride_tricks.as_strided(  # (n, OH, OW, kh, kw*C): a kernel row is one run of memory
        x, (n, oh, ow, kh, kw * c), (sn, sh * srow, sw * spixel, srow, x.itemsize), writeable=False)
    return patches.reshape(n * oh * ow, kh * kw * c)


def _rows_under(x, rows, kh, stride, padding):
    """What a band of y's rows is computed from: those rows of x (n, H, W, C), and the zeros around them."""
    top, bottom = rows.start * stride - padding[0], (rows.stop - 1) * stride + kh - padding[0]
    first, last = (min(max(edge, 0), x.shape[1]) for edge in (top, bottom))
    above = min(max(-top, 0), bottom - top)
    return x[:, first:last], ((above, bottom - top - above - (last - first)), padding[1])


def _pad(x, padding):
    """x with zeros around it, contiguous; negative padding cuts away instead. padding: (vertical, horizontal), the vertical
    one also (above, below)."""
    vertical, pw = padding
    above, below = vertical if isinstance(vertical, tuple) else (vertical, vertical)
    n, h, w, c = x.shape
    if min(above, below, pw) < 0:
        x = x[:, max(-above, 0):h - max(-below, 0), max(-pw, 0):w - max(-pw, 0)]
        above, below, pw = max(above, 0), max(below, 0), max(pw, 0)
        n, h, w, c = x.shape
    if above == below == pw == 0:
        return numpy.ascontiguousarray(x)
    padded = numpy.zeros((n, h + above + below, w + 2 * pw, c), x.dtype)
    padded[:, above:above + h, pw:pw + w] = x
    return padded


def _overlap(tap, padding, stride, length, places):
    """For one tap along one axis: the range of places i whose pixel i*stride + tap - padding lies in [0, length)."""
    first = max(0, -(-(padding - tap) // stride))
    last = min(places, (length - 1 + padding - tap) // stride + 1)
    return first, max(first, last)


def _fold(patches, stride, padding, x):
    """x (n, H, W, C) = sum of the patches (n, OH, OW, kh, kw, C), each added where the kernel had gathered it."""
    _, oh, ow, kh, kw, _ = patches.shape
    x[...] = 0
    for p in range(kh):
        top, bottom = _overlap(p, padding[0], stride[0], x.shape[1], oh)
        row = top * stride[0] + p - padding[0]
        for q in range(kw):
            left, right = _overlap(q, padding[1], stride[1], x.shape[2], ow)
            column = left * stride[1] + q - padding[1]
            if bottom > top and right > left:
                x[:, row:row + (bottom - top - 1) * stride[0] + 1:stride[0],
                  column:column + (right - left - 1) * stride[1] + 1:stride[1]] += patches[:, top:bottom, left:right, p, q]


def _by_planes(x, matrix, kernel_size, padding, y):
    """Fill y (n, OH, OW, F), F small, from x by matrix (kh*kw*F, C): one plane for each tap and channel, and their sum, each shifted
    by its tap. With the zeros around x in them, planes are shifted as a whole: by one run of memory."""
    (kh, kw), (n, oh, ow, f) = kernel_size, y.shape
    x = _pad(x, padding)
    _, h, w, c = x.shape
    planes = numpy.empty((len(matrix), n * h * w), x.dtype)
    products.wide(matrix, numpy.ascontiguousarray(x.reshape(-1, c).T), planes)
    planes = planes.reshape(kh * kw, f, -1)
    total = planes[0]  # the first tap is not shifted
    for tap in range(1, kh * kw):
        shift = tap // kw * w + tap % kw
        total[:, :n * h * w - shift] += planes[tap, :, shift:]
    y[...] = total.reshape(f, n, h, w)[:, :, :oh, :ow].transpose(1, 2, 3, 0)


def _leaky_relu(y, slope):
    """In place; max(y, slope*y) is leaky ReLU for slopes up to 1 (and 0 * y would make NaN of infinity)."""
    if slope <= 1:
        numpy.maximum(y, slope * y if slope else 0, out=y)
    else:
        y[y < 0] *= slope


def matmul(x, w):
    """As plain.matmul; a large product of two matrices is cut into as many parts as there are threads."""
    threads = parallel.thread_count()
    if x.ndim != 2 or w.ndim != 2 or x.shape[0] * x.shape[1] * w.shape[1] < PRODUCT or x.dtype != w.dtype:
        return x @ w
    y = numpy.empty((x.shape[0], w.shape[1]), x.dtype)
    axis = int(y.shape[1] > y.shape[0])  # the longer side of y is cut
    edges = [y.shape[axis] * k // threads for k in range(threads + 1)]

    def work(part):
        if axis:
            numpy.matmul(x, w[:, part], out=y[:, part])
        else:
            numpy.matmul(x[part], w, out=y[part])

    parallel.run(work, [slice(a, b) for a, b in zip(edges, edges[1:]) if b > a])
    return y


def sum_rows(x):
    """As plain.sum_rows; NumPy adds short rows one by one, a BLAS does not."""
    if x.dtype not in (numpy.float32, numpy.float64):
        return plain.sum_rows(x)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    ones = numpy.ones(len(rows), x.dtype)
    parts = _cut(len(rows), parallel.thread_count() if rows.size > BLOCK else 1)
    return _total(parallel.run(lambda part: ones[part] @ rows[part], parts))


def separable(x, rows, columns):
    """As plain.separable."""
    n, h, w, c = x.shape
    oh, ow = len(rows), len(columns)
    y = numpy.empty((n, oh, ow, c), x.dtype)
    blocks = numpy.kron(columns.T, numpy.eye(c, dtype=x.dtype))

    def work(part):
        numpy.matmul((rows @ x[part].reshape(-1, h, w * c)).reshape(-1, w * c), blocks, out=y[part].reshape(-1, ow * c))

    parallel.run(work, _chunks(n, oh * w * c * x.itemsize, blocks.nbytes))
    return y


def pixel_shuffle(x, factor):
    """As plain.pixel_shuffle."""
    n, h, w, c = x.shape
    y = numpy.empty((n, h * factor, w * factor, c // factor ** 2), x.dtype)
    run = c // factor  # numbers that stay side by side: a row of a block

    def work(part):
        y[part].reshape(-1, h, factor, w, run)[...] = x[part].reshape(-1, h, w, factor, run).swapaxes(2, 3)

    parallel.run(work, _chunks(n, 2 * y[:1].nbytes, 0))
    return y


def pixel_unshuffle(y, factor):
    """As plain.pixel_unshuffle."""
    n, h, w, c = y.shape
    h, w, run = h // factor, w // factor, c * factor
    x = numpy.empty((n, h, w, factor * run), y.dtype)

    def work(part):
        x[part].reshape(-1, h, w, factor, run)[...] = y[part].reshape(-1, h, factor, w, run).swapaxes(2, 3)

    parallel.run(work, _chunks(n, 2 * x[:1].nbytes, 0))
    return x


def leaky_relu_backward(gy, y, slope):
    """As plain.leaky_relu_backward; arithmetic on the sign, since a choice for each element would be guessed by the
    processor, and wrongly half of the time."""
    gx = numpy.empty(gy.shape, gy.dtype)
    slope = gy.dtype.type(slope)

    def work(part):
        out = gx[part]
        numpy.multiply(y[part] > 0, 1 - slope, out=out)
        out += slope
        out *= gy[part]

    parallel.run(work, _chunks(len(gy), 3 * gy[:1].nbytes, 0))
    return gx


def _chunks(count, bytes_each, weight_bytes):
    """Slices of a batch of `count` pictures whose columns take bytes_each: small enough for the cache, at least one a
    thread. A large weight is read once a chunk, so then chunks are few."""
    return _cut(count, min(_chunk_number(count, bytes_each, weight_bytes), count))


def _bands(count, rows, bytes_each, weight_bytes, whole):
    """As _chunks, pairs (pictures, rows of each): where there are fewer pictures than chunks, pictures are cut into bands of
    rows, unless they must stay whole. So a single large picture is worked on by all threads, in the cache."""
    number = _chunk_number(count, bytes_each, weight_bytes)
    bands = 1 if whole or not count else min(-(-number // count), rows)
    return [(pictures, band) for pictures in _cut(count, min(number, count)) for band in _cut(rows, bands)]


def _chunk_number(count, bytes_each, weight_bytes):
    if forced_chunks:
        return forced_chunks
    threads = parallel.thread_count()
    budget = max(CHUNK_BYTES, weight_bytes)
    number = max(threads, -(-count * bytes_each // budget))
    return -(-number // threads) * threads  # equal work for all threads


def _cut(length, number):
    """`number` slices of nearly equal length; one empty slice of nothing."""
    edges = [length * k // number for k in range(number + 1)] if number else [0]
    return [slice(a, b) for a, b in zip(edges, edges[1:])] or [slice(0, 0)]


def _blocks(*vectors):
    """Slices of equally long flat vectors."""
    return [slice(start, start + BLOCK) for start in range(0, vectors[0].size, BLOCK)]


def _by_blocks(work, *arrays):
    """work(block of each array) for all blocks; arrays that are not contiguous are worked on whole."""
    if not all(a.flags.c_contiguous for a in arrays):
        return work(*arrays)
    flat = [a.reshape(-1) for a in arrays]
    blocks = _blocks(*flat)
    threads = parallel.thread_count() if len(blocks) > 1 else 1
    parallel.run(lambda k: [work(*(a[block] for a in flat)) for block in blocks[k::threads]], range(threads))


def adam(p, g, m, v, rate, beta1, beta2, eps):
    """As plain.adam."""
    def work(p, g, m, v):
        scratch = g - m
        scratch *= 1 - beta1
        m += scratch
        numpy.multiply(g, g, out=scratch)
        scratch -= v
        scratch *= 1 - beta2
        v += scratch
        numpy.sqrt(v, out=scratch)
        scratch += eps
        numpy.divide(m, scratch, out=scratch)
        scratch *= rate
        p -= scratch

    _by_blocks(work, p, g, m, v)


def move_towards(average, p, share):
    """As plain.move_towards."""
    def work(average, p):
        scratch = p - average
        scratch *= share
        average += scratch

    _by_blocks(work, average, p)
