"""Fast convolution for NumPy arrays: gather the pixels that each output needs into rows, then one matrix product.

    columns    (pixels of y, kh*kw*C): row (n, i, j) holds the patch of x under the kernel at (i, j)
    conv2d           y = columns(x) @ w                      w as (kh*kw*C, F)
    conv2d_weight    w = columns(x).T @ y
    conv2d_transpose x = fold(y @ w.T)                       fold adds each patch back to where it was gathered

What makes it fast:

    NHWC           a row of the kernel, kw*C numbers, is one contiguous run of x: gathering copies long runs.
    Chunks         the batch is cut so that a chunk's columns stay in the cache; they are made anew when needed again.
    Threads        chunks run on all cores, each with a single-threaded BLAS. NumPy's calls wait for each other's start: few
                   large ones are better than many small ones.
    Thinner side   kh*kw copies are made of x or of y, whichever has fewer channels. With stride 1, copies of y do as
                   well: the adjoint is a convolution with the kernel turned by half a turn and its channels swapped.
    Strips         a short row of places is one small product, whose patches share what they have in common.
    Neighbours     where that side has few channels still, several pixels beside one another are worked out as one: beside.py.
    Winograd       a kernel of 3 x 3 with stride 1 on many channels takes fewer multiplications: winograd.py.
    Phases         the gradient by x of a 5 x 5 kernel with stride 2 is that of a 3 x 3 one, for four pictures of half the size.
    Fused          bias and leaky ReLU are applied to a chunk while it is in the cache.
"""
import functools

import numpy

from nn.kernels.cpu import blocked_matmul, parallel, pixel_packing, tiling, winograd
from nn.kernels.cpu.shuffle import pixel_shuffle

NARROW = 32  # channels of the thinner side, up to which short rows are faster than Winograd's way
PHASE_PIXELS = 16  # of y, for each channel of x: where phases begin to pay


def conv2d(x, w, b, stride, padding, slope):
    """As plain.conv2d."""
    size = tuple((length + 2 * p - k) // s + 1 for length, p, k, s in zip(x.shape[1:3], padding, w.shape, stride))
    finish = functools.partial(_finish, bias=_in_a_row(b, size[1]), slope=slope)
    if winograd.pays(w.shape, stride, (len(x), *size)) and not (min(w.shape[2:]) <= NARROW and _is_short(w, size[1])):
        return winograd.conv2d(x, w, padding, finish)
    if _is_thin(w.shape, stride, padding):
        return _by_patches(x, _turned(w), stride, _turned_padding(w.shape, padding), size, finish)
    return _by_columns(x, w, stride, padding, size, finish)


def conv2d_transpose(y, w, b, stride, padding, size):
    """As plain.conv2d_transpose."""
    if stride == (1, 1) and w.shape[3] < 4 * w.shape[2] and _is_inside(w.shape, padding):
        return conv2d(y, _turned(w), b, stride, _turned_padding(w.shape, padding), None)
    finish = functools.partial(_finish, bias=_in_a_row(b, size[1]), slope=None)
    if _pays_in_phases(w.shape, stride, padding, size, y.shape):
        x = pixel_shuffle(conv2d_transpose(y, _phase_filter(w), None, (1, 1), (1, 1), y.shape[1:3]), 2)
        finish(x)
        return x
    return _by_patches(y, w, stride, padding, size, finish)


def conv2d_weight(x, y, stride, padding, size):
    """As plain.conv2d_weight."""
    shape = *size, x.shape[3], y.shape[3]
    if winograd.pays(shape, stride, y.shape[:3]):
        return winograd.conv2d_weight(x, y, padding)
    if _is_thin(shape, stride, padding):
        return numpy.ascontiguousarray(_turned(conv2d_weight(y, x, stride, _turned_padding(shape, padding), size)))
    (n, oh, ow, f), (kh, kw, c, _) = y.shape, shape
    count = pixel_packing.count(c, f, kw, ow)
    y = y.reshape(n, oh, ow // count, count * f)
    wide = kh, pixel_packing.reach(kw, count, stride[1])

    def work(part):
        gathered = columns(x[part], wide, (stride[0], count * stride[1]), padding, y.shape[1:3])
        return blocked_matmul.across(gathered, y[part].reshape(-1, count * f))

    patch = kh * wide[1] * c * x.itemsize
    found = parallel.run(work, tiling.chunks(n, oh * y.shape[2] * patch, patch * count * f))
    return pixel_packing.apart(tiling.total(found).reshape(*wide, c, count * f), kw, count, stride[1])


def _is_inside(weight_shape, padding):
    """Whether the kernel never lies on zeros alone."""
    return all(k > p for k, p in zip(weight_shape, padding))


def _is_thin(weight_shape, stride, padding):
    """Whether a convolution is worked out by copies of y, as the adjoint of one that has y for its input."""
    kh, kw, c, f = weight_shape
    return stride == (1, 1) and 4 * f <= c and kh * kw > 1 and _is_inside(weight_shape, padding)


def _turned(w):
    """The kernel of the adjoint of a convolution with stride 1: turned by half a turn, its channels swapped."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


def _turned_padding(weight_shape, padding):
    return weight_shape[0] - 1 - padding[0], weight_shape[1] - 1 - padding[1]


def _by_columns(x, w, stride, padding, size, finish):
    """A convolution by the patches of x. finish(part of y) is called while that is in the cache."""
    (n, _, _, c), (oh, ow), f = x.shape, size, w.shape[3]
    count = pixel_packing.count(c, f, w.shape[1], ow)
    w = pixel_packing.join(w, count, stride[1])
    (kh, kw), stride, ow = w.shape[:2], (stride[0], count * stride[1]), ow // count
    y, matrix = numpy.empty((n, oh, ow, count * f), x.dtype), w.reshape(-1, count * f)
    by_rows = kh > 1 and _is_short(w, ow)

    def work(part):
        pictures, rows = part
        seen, margin = tiling.rows_under(x[pictures], rows, kh, stride[0], padding)
        out, size = y[pictures, rows], (rows.stop - rows.start, ow)
        if by_rows:
            numpy.matmul(rows_of_patches(seen, (kh, kw), stride, margin, size), matrix, out=out)
        else:
            blocked_matmul.tall(columns(seen, (kh, kw), stride, margin, size), matrix, out.reshape(-1, count * f))
        finish(out.reshape(*out.shape[:2], ow * count, f))

    parallel.run(work, tiling.bands(n, oh, oh * ow * kw * c * (stride[0] if by_rows else kh) * y.itemsize, matrix.nbytes))
    return y.reshape(n, oh, ow * count, f)


def _by_patches(y, w, stride, padding, size, finish):
    """The adjoint of a convolution: a patch of x from each pixel of y, and the sum of the patches."""
    (n, oh, ow, f), c = y.shape, w.shape[2]
    count = pixel_packing.count_thin(c, f, w.shape[1], ow)
    w = pixel_packing.join(w, count, stride[1])
    (kh, kw), stride, ow = w.shape[:2], (stride[0], count * stride[1]), ow // count
    x = numpy.empty((n, *size, c), y.dtype)
    matrix = w.reshape(-1, count * f).T

    def work(part):
        patches = y[part].reshape(-1, count * f) @ matrix  # (pixels of y, kh*kw*C)
        fold(patches.reshape(-1, oh, ow, kh, kw, c), stride, padding, x[part])
        finish(x[part])

    parallel.run(work, tiling.chunks(n, oh * ow * kh * kw * c * y.itemsize, w.nbytes))
    return x


def _is_short(w, places):
    """Whether a row of so many places is a small product with w, for which rows_of_patches is the faster way."""
    return places * w.size <= blocked_matmul.FEW


def columns(x, kernel_size, stride, padding, size):
    """The patches of x (n, H, W, C) under the kernel at each of size = (OH, OW) places, as rows (n*OH*OW, kh*kw*C)."""
    n, _, _, c = x.shape
    (kh, kw), (sh, sw), (oh, ow) = kernel_size, stride, size
    x = _pad(x, padding)
    sn, srow, spixel, _ = x.strides  # of an axis of length 1 the stride may be anything: one channel's is not used
    # (n, OH, OW, kh, kw*C): a kernel row is one run of memory
    patches = tiling.view(x, (n, oh, ow, kh, kw * c), (sn, sh * srow, sw * spixel, srow, x.itemsize))
    return patches.reshape(n * oh * ow, kh * kw * c)


def rows_of_patches(x, kernel_size, stride, padding, size):
    """As columns, one matrix for each row of places (n, OH, OW, kh*kw*C). Patches below one another share the rows of x that they
    have in common, in strips of the kernel's width; so kh times less is copied (Cho & Brand 2017, arXiv:1706.06873)."""
    n, _, _, c = x.shape
    (kh, kw), (sh, sw), (oh, ow) = kernel_size, stride, size
    x = _pad(x, padding)
    sn, srow, spixel, _ = x.strides
    h, run = x.shape[1], kw * c
    strips = tiling.view(x, (n, ow, h, run), (sn, sw * spixel, srow, x.itemsize)).copy()
    sn, sstrip, srow, _ = strips.strides
    return tiling.view(strips, (n, oh, ow, kh * run), (sn, sh * srow, sstrip, x.itemsize))


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


def fold(patches, stride, padding, x):
    """x (n, H, W, C) = the sum of the patches (n, OH, OW, kh, kw, C), each added where the kernel had gathered it: first the rows
    of the kernel, then its columns. There, the first `stride` taps of a row meet other pixels than at any other place: so they are
    added as one run, and the next."""
    n, oh, ow, kh, kw, c = patches.shape
    (sh, sw), (ph, pw), (_, h, w, _) = stride, padding, x.shape
    patches = patches.reshape(n, oh, ow, kh, kw * c)
    rows = numpy.zeros((n, max((oh - 1) * sh + kh, ph + h), ow, kw * c), x.dtype)
    for p in range(kh):
        rows[:, p:p + (oh - 1) * sh + 1:sh] += patches[:, :, :, p]
    runs, run = -(-kw // sw), sw * c
    whole = numpy.zeros((n, h, max(ow - 1 + runs, -(-(pw + w) // sw)), run), x.dtype)  # with the zeros beside x
    for k in range(runs):
        taps = rows[:, ph:ph + h, :, k * run:(k + 1) * run]
        whole[:, :, k:k + ow, :taps.shape[-1]] += taps
    x[...] = whole.reshape(n, h, -1, c)[:, :, pw:pw + w]


def _pays_in_phases(weight_shape, stride, padding, size, y_shape):
    """Whether the adjoint of a 5 x 5 convolution with stride 2 is faster as that of a 3 x 3 one without: on large maps."""
    kh, kw, c, f = weight_shape
    n, oh, ow, _ = y_shape
    fits = ((kh, kw), stride, padding, tuple(size)) == ((5, 5), (2, 2), (2, 2), (2 * oh, 2 * ow))
    return fits and n * oh * ow >= PHASE_PIXELS * c and winograd.pays((3, 3, 4 * c, f), (1, 1), y_shape[:3])


def _phase_filter(w):
    """w (5, 5, C, F), for x with stride 2, as (3, 3, 4*C, F) for the four phases of x side by side: its even and its odd rows and
    columns, each of half the size. Of the 36 taps, 11 are zero."""
    c, f = w.shape[2:]
    even = numpy.zeros((6, 6, c, f), w.dtype)
    even[:5, :5] = w
    return even.reshape(3, 2, 3, 2, c, f).transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, 4 * c, f)


def _in_a_row(b, width):
    """The bias (F,) of all pixels in a row (width*F,): NumPy adds long runs faster. Or None."""
    return None if b is None else numpy.tile(b, width)


def _finish(y, bias, slope):
    """Add the bias of a row to y (n, H, W, F), and apply leaky ReLU, in place, where they are not None."""
    if bias is not None:
        n, h, w, f = y.shape
        rows = y.reshape(n, h, w * f)
        rows += bias
    if slope is None:
        return
    if slope <= 1:  # then leaky ReLU is max(y, slope * y); and 0 * y would make NaN of infinity
        numpy.maximum(y, slope * y if slope else 0, out=y)
    else:
        y[y < 0] *= slope
