"""Fast convolution for NumPy arrays: im2col, then one matrix product.

im2col gathers the pixels that each output needs into a row; col2im is its adjoint.

    im2col(x)        (pixels of y, kh*kw*C): row (n, i, j) holds the patch of x under the kernel
                     at (i, j)
    conv2d           y = im2col(x) @ w              w as (kh*kw*C, F)
    conv2d_weight    w = im2col(x).T @ y
    conv2d_transpose x = col2im(y @ w.T)            col2im adds each patch where im2col gathered it

What makes it fast:

    NHWC            A row of the kernel, kw*C numbers, is one contiguous run of x: gathering copies
                    long runs.
    Chunks          The batch is split so that the im2col matrix of a chunk stays in the cache. It
                    is computed again when it is needed again.
    Threads         Chunks run on all cores, each with a single-threaded BLAS. NumPy calls of
                    different threads wait for each other as they start: few large calls are
                    better than many small ones.
    Thinner side    kh*kw copies are made of x or of y, whichever has fewer channels. Copies of y
                    suffice with stride 1: there a convolution is also the adjoint of one whose
                    kernel is flipped on both axes and has its channels swapped.
    Strips          A short row of outputs is one small product, whose patches share the memory
                    where they overlap.
    Pixel packing   If the thinner side still has few channels, several neighboring pixels are
                    computed as one: pixel_packing.py.
    Winograd        A 3 x 3 kernel with stride 1 on many channels takes fewer multiplications:
                    winograd.py.
    Polyphase       The input gradient of a 5 x 5 kernel with stride 2 is that of a 3 x 3 one, for
                    four images of half the size.
    Epilogue        Bias and leaky ReLU are applied to a chunk while it is in the cache.
"""
import functools

import numpy

from nn.kernels.cpu import blocked_matmul, parallel, pixel_packing, tiling, winograd
from nn.kernels.cpu.shuffle import pixel_shuffle

STRIP_CHANNELS = 32  # channels of the thinner side up to which strips for short rows are faster than Winograd
POLYPHASE_PIXELS = 16  # pixels of y for each channel of x from which polyphase is faster


def conv2d(x, w, b, stride, padding, negative_slope):
    """As plain.conv2d."""
    size = tuple((length + 2 * p - k) // s + 1 for length, p, k, s in zip(x.shape[1:3], padding, w.shape, stride))
    epilogue = functools.partial(_epilogue, bias=_tile_bias(b, size[1]), negative_slope=negative_slope)
    if (winograd.is_faster(w.shape, stride, (len(x), *size))
            and not (min(w.shape[2:]) <= STRIP_CHANNELS and _is_short_row(w, size[1]))):
        return winograd.conv2d(x, w, padding, epilogue)
    if _is_scatter_faster(w.shape, stride, padding):
        return _conv_by_scatter(x, _flipped(w), stride, _flipped_padding(w.shape, padding), size, epilogue)
    return _conv_by_gather(x, w, stride, padding, size, epilogue)


def conv2d_transpose(y, w, b, stride, padding, size):
    """As plain.conv2d_transpose."""
    if stride == (1, 1) and w.shape[3] < 4 * w.shape[2] and _always_overlaps(w.shape, padding):
        return conv2d(y, _flipped(w), b, stride, _flipped_padding(w.shape, padding), None)
    epilogue = functools.partial(_epilogue, bias=_tile_bias(b, size[1]), negative_slope=None)
    if _is_polyphase_faster(w.shape, stride, padding, size, y.shape):
        x = pixel_shuffle(conv2d_transpose(y, _polyphase_filter(w), None, (1, 1), (1, 1), y.shape[1:3]), 2)
        epilogue(x)
        return x
    return _conv_by_scatter(y, w, stride, padding, size, epilogue)


def conv2d_weight(x, y, stride, padding, size):
    """As plain.conv2d_weight."""
    shape = *size, x.shape[3], y.shape[3]
    if winograd.is_faster(shape, stride, y.shape[:3]):
        return winograd.conv2d_weight(x, y, padding)
    if _is_scatter_faster(shape, stride, padding):
        return numpy.ascontiguousarray(_flipped(conv2d_weight(y, x, stride, _flipped_padding(shape, padding), size)))
    (n, oh, ow, f), (kh, kw, c, _) = y.shape, shape
    pack = pixel_packing.pixels_per_block(c, f, kw, ow)
    y = y.reshape(n, oh, ow // pack, pack * f)
    kernel_size = kh, pixel_packing.widened_width(kw, pack, stride[1])

    def work(chunk):
        columns = im2col(x[chunk], kernel_size, (stride[0], pack * stride[1]), padding, y.shape[1:3])
        return blocked_matmul.matmul_tn(columns, y[chunk].reshape(-1, pack * f))

    patch = kh * kernel_size[1] * c * x.itemsize
    sums = parallel.run(work, tiling.chunks(n, oh * y.shape[2] * patch, patch * pack * f))
    total = tiling.sum_in_order(sums).reshape(*kernel_size, c, pack * f)
    return pixel_packing.widen_kernel_adjoint(total, kw, pack, stride[1])


def _always_overlaps(weight_shape, padding):
    """Return whether the kernel overlaps the image at every position."""
    return all(k > p for k, p in zip(weight_shape, padding))


def _is_scatter_faster(weight_shape, stride, padding):
    """Return whether a convolution is faster as the adjoint of a convolution of y."""
    kh, kw, c, f = weight_shape
    return stride == (1, 1) and 4 * f <= c and kh * kw > 1 and _always_overlaps(weight_shape, padding)


def _flipped(w):
    """Return the kernel of the adjoint for stride 1: both axes flipped, channels swapped."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


def _flipped_padding(weight_shape, padding):
    return weight_shape[0] - 1 - padding[0], weight_shape[1] - 1 - padding[1]


def _conv_by_gather(x, w, stride, padding, size, epilogue):
    """Convolve by im2col. epilogue(chunk of y) is called while that chunk is in the cache."""
    (n, _, _, c), (oh, ow), f = x.shape, size, w.shape[3]
    pack = pixel_packing.pixels_per_block(c, f, w.shape[1], ow)
    w = pixel_packing.widen_kernel(w, pack, stride[1])
    (kh, kw), stride, ow = w.shape[:2], (stride[0], pack * stride[1]), ow // pack
    y, matrix = numpy.empty((n, oh, ow, pack * f), x.dtype), w.reshape(-1, pack * f)
    by_strips = kh > 1 and _is_short_row(w, ow)

    def work(band):
        images, rows = band
        source, margin = tiling.input_rows(x[images], rows, kh, stride[0], padding)
        out, size = y[images, rows], (rows.stop - rows.start, ow)
        if by_strips:
            numpy.matmul(im2col_strips(source, (kh, kw), stride, margin, size), matrix, out=out)
        else:
            columns = im2col(source, (kh, kw), stride, margin, size)
            blocked_matmul.matmul_tall(columns, matrix, out.reshape(-1, pack * f))
        epilogue(out.reshape(*out.shape[:2], ow * pack, f))

    copies = stride[0] if by_strips else kh  # copies of each row of x
    parallel.run(work, tiling.bands(n, oh, oh * ow * kw * c * copies * y.itemsize, matrix.nbytes))
    return y.reshape(n, oh, ow * pack, f)


def _conv_by_scatter(y, w, stride, padding, size, epilogue):
    """Compute the adjoint of a convolution: a patch of x from each pixel of y, summed by col2im."""
    (n, oh, ow, f), c = y.shape, w.shape[2]
    pack = pixel_packing.pixels_per_scattered_block(c, f, w.shape[1], ow)
    w = pixel_packing.widen_kernel(w, pack, stride[1])
    (kh, kw), stride, ow = w.shape[:2], (stride[0], pack * stride[1]), ow // pack
    x = numpy.empty((n, *size, c), y.dtype)
    matrix = w.reshape(-1, pack * f).T

    def work(chunk):
        patches = y[chunk].reshape(-1, pack * f) @ matrix  # (pixels of y, kh*kw*C)
        col2im(patches.reshape(-1, oh, ow, kh, kw, c), stride, padding, x[chunk])
        epilogue(x[chunk])

    parallel.run(work, tiling.chunks(n, oh * ow * kh * kw * c * y.itemsize, w.nbytes))
    return x


def _is_short_row(w, width):
    """Return whether a row of `width` outputs is a small product, for which strips are faster."""
    return width * w.size <= blocked_matmul.SMALL_PRODUCT


def im2col(x, kernel_size, stride, padding, size):
    """Return the patches of x (n, H, W, C) under the kernel as rows (n*OH*OW, kh*kw*C).

    size: (OH, OW), the number of kernel positions
    """
    n, _, _, c = x.shape
    (kh, kw), (sh, sw), (oh, ow) = kernel_size, stride, size
    x = _pad(x, padding)
    sn, srow, spixel, _ = x.strides  # an axis of length 1 may have any stride: the channel stride is not used
    # (n, OH, OW, kh, kw*C): a kernel row is one run of memory
    patches = tiling.strided_view(x, (n, oh, ow, kh, kw * c), (sn, sh * srow, sw * spixel, srow, x.itemsize))
    return patches.reshape(n * oh * ow, kh * kw * c)


def im2col_strips(x, kernel_size, stride, padding, size):
    """As im2col, but one matrix for each row of outputs: (n, OH, OW, kh*kw*C).

    x is copied in vertical strips as wide as the kernel. Patches of one strip share the rows of x
    in which they overlap, so kh times less is copied (Cho & Brand 2017, arXiv:1706.06873).
    """
    n, _, _, c = x.shape
    (kh, kw), (sh, sw), (oh, ow) = kernel_size, stride, size
    x = _pad(x, padding)
    sn, srow, spixel, _ = x.strides  # in bytes
    h, run = x.shape[1], kw * c
    strips = tiling.strided_view(x, (n, ow, h, run), (sn, sw * spixel, srow, x.itemsize)).copy()
    sn, sstrip, srow, _ = strips.strides
    return tiling.strided_view(strips, (n, oh, ow, kh * run), (sn, sh * srow, sstrip, x.itemsize))


def _pad(x, padding):
    """Return x, contiguous, with zeros around it; negative padding crops instead.

    padding: (vertical, horizontal); vertical may be a pair (above, below)
    """
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


def col2im(patches, stride, padding, x):
    """Set x (n, H, W, C) to the sum of patches (n, OH, OW, kh, kw, C) where im2col gathers them.

    Rows of the kernel are added first, then its columns. The columns are added in groups of
    `stride` taps: within a group, no two patches meet the same pixel, so a group is added as one
    run.
    """
    n, oh, ow, kh, kw, c = patches.shape
    (sh, sw), (ph, pw), (_, h, w, _) = stride, padding, x.shape
    patches = patches.reshape(n, oh, ow, kh, kw * c)
    rows = numpy.zeros((n, max((oh - 1) * sh + kh, ph + h), ow, kw * c), x.dtype)
    for p in range(kh):
        rows[:, p:p + (oh - 1) * sh + 1:sh] += patches[:, :, :, p]
    groups, run = -(-kw // sw), sw * c
    padded = numpy.zeros((n, h, max(ow - 1 + groups, -(-(pw + w) // sw)), run), x.dtype)  # with horizontal padding
    for k in range(groups):
        taps = rows[:, ph:ph + h, :, k * run:(k + 1) * run]
        padded[:, :, k:k + ow, :taps.shape[-1]] += taps
    x[...] = padded.reshape(n, h, -1, c)[:, :, pw:pw + w]


def _is_polyphase_faster(weight_shape, stride, padding, size, y_shape):
    """Return whether polyphase is faster for the adjoint of a convolution.

    It computes the adjoint of a 5 x 5 convolution with stride 2 as that of a 3 x 3 one with stride
    1, which is faster on large feature maps.
    """
    kh, kw, c, f = weight_shape
    n, oh, ow, _ = y_shape
    fits = ((kh, kw), stride, padding, tuple(size)) == ((5, 5), (2, 2), (2, 2), (2 * oh, 2 * ow))
    return fits and n * oh * ow >= POLYPHASE_PIXELS * c and winograd.is_faster((3, 3, 4 * c, f), (1, 1), y_shape[:3])


def _polyphase_filter(w):
    """Return w (5, 5, C, F), for x with stride 2, as (3, 3, 4*C, F) for the four phases of x.

    The phases are the even and odd rows and columns of x, each of half the size, stacked as
    channels. Of the 36 taps, 11 are zero.
    """
    c, f = w.shape[2:]
    even = numpy.zeros((6, 6, c, f), w.dtype)
    even[:5, :5] = w
    return even.reshape(3, 2, 3, 2, c, f).transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, 4 * c, f)


def _tile_bias(b, width):
    """Return the bias (F,) repeated for a row, (width*F,), or None: NumPy adds long runs faster."""
    return None if b is None else numpy.tile(b, width)


def _epilogue(y, bias, negative_slope):
    """Add the bias of a row to y (n, H, W, F), then apply leaky ReLU, in place; or skip if None."""
    if bias is not None:
        n, h, w, f = y.shape
        rows = y.reshape(n, h, w * f)
        rows += bias
    if negative_slope is None:
        return
    if negative_slope <= 1:  # leaky ReLU is max(y, slope * y); for slope 0 it is max(y, 0), as 0 * infinity is NaN
        numpy.maximum(y, negative_slope * y if negative_slope else 0, out=y)
    else:
        y[y < 0] *= negative_slope
