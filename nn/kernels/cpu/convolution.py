"""Fast convolution for NumPy arrays: im2col, then one matrix product.

im2col gathers the pixels that each output needs into a row; col2im is its adjoint.

    im2col(x)        (pixels of y, kh*kw*C): row (n, i, j) holds the patch of x under the kernel
                     at (i, j)
    conv2d           y = im2col(x) @ w              w as (kh*kw*C, F)
    conv2d_weight    w = im2col(x).T @ y
    conv2d_transpose x = col2im(y @ w.T)            col2im adds each patch where im2col gathered it

What makes it fast (routes.py says which shape takes which way):

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

from nn.kernels.cpu import blocked_matmul, parallel, pixel_packing, routes, tiling, winograd
from nn.kernels.cpu.routes import Shape
from nn.kernels.cpu.resample import pixel_shuffle


def conv2d(x, w, b, stride, padding, negative_slope):
    """As plain.conv2d."""
    size = tuple((length + 2 * p - k) // s + 1 for length, p, k, s in zip(x.shape[1:3], padding, w.shape, stride))
    shape = Shape.of(x.shape, w.shape, (len(x), *size), stride, padding)
    epilogue = functools.partial(_epilogue, bias=_tile_bias(b, size[1]), negative_slope=negative_slope)
    route = routes.choose("conv2d", shape)
    if route.way in (routes.PRODUCTS, routes.IMAGES):
        return winograd.conv2d(x, w, shape, epilogue, route.way == routes.PRODUCTS)
    if route.way == "adjoint":
        return _conv_by_scatter(x, _flipped(w), shape.flipped(), route.pixels(shape), epilogue)
    return _conv_by_gather(x, w, shape, route.pixels(shape), epilogue, route.way == "strips")


def conv2d_transpose(y, w, b, stride, padding, size):
    """As plain.conv2d_transpose."""
    shape = Shape.of((len(y), *size), w.shape, y.shape, stride, padding)
    route = routes.choose("conv2d_transpose", shape)
    if route.way == "flipped":
        return conv2d(y, _flipped(w), b, stride, shape.flipped().padding, None)
    epilogue = functools.partial(_epilogue, bias=_tile_bias(b, size[1]), negative_slope=None)
    if route.way == "polyphase":
        x = pixel_shuffle(conv2d_transpose(y, _polyphase_filter(w), None, (1, 1), (1, 1), y.shape[1:3]), 2)
        epilogue(x)
        return x
    return _conv_by_scatter(y, w, shape, route.pixels(shape), epilogue)


def conv2d_weight(x, y, stride, padding, size):
    """As plain.conv2d_weight."""
    shape = Shape.of(x.shape, (*size, x.shape[3], y.shape[3]), y.shape, stride, padding)
    route = routes.choose("conv2d_weight", shape)
    if route.way in (routes.PRODUCTS, routes.IMAGES):
        return winograd.conv2d_weight(x, y, shape, route.way == routes.PRODUCTS)
    if route.way == "exchanged":
        return numpy.ascontiguousarray(_flipped(conv2d_weight(y, x, stride, shape.flipped().padding, size)))
    pack = route.pixels(shape)
    packed, (kw, stride) = shape.packed(pack), (size[1], stride[1])
    (n, _, c, (kh, width), f, out, _, _) = packed
    y = y.reshape(n, *out, f)

    def work(chunk):
        columns = im2col(x[chunk], packed.kernel, packed.stride, padding, out)
        return blocked_matmul.matmul_tn(columns, y[chunk].reshape(-1, f))

    patch = kh * width * c * x.itemsize
    sums = parallel.run(work, tiling.chunks(n, out[0] * out[1] * patch, patch * f))
    total = tiling.sum_in_order(sums).reshape(kh, width, c, f)
    return pixel_packing.widen_kernel_adjoint(total, kw, pack, stride)


def _flipped(w):
    """Return the kernel of the adjoint for stride 1: both axes flipped, channels swapped."""
    return w[::-1, ::-1].transpose(0, 1, 3, 2)


def _conv_by_gather(x, w, shape, pack, epilogue, by_strips):
    """Convolve by im2col. epilogue(chunk of y) is called while that chunk is in the cache.

    pack: neighboring pixels of y that are computed as one
    """
    w = pixel_packing.widen_kernel(w, pack, shape.stride[1])
    n, _, c, (kh, kw), f, (oh, ow), stride, padding = shape.packed(pack)
    y, matrix = numpy.empty((n, oh, ow, f), x.dtype), w.reshape(-1, f)

    def work(band):
        images, rows = band
        source, margin = tiling.input_rows(x[images], rows, kh, stride[0], padding)
        out, size = y[images, rows], (rows.stop - rows.start, ow)
        if by_strips:
            numpy.matmul(im2col_strips(source, (kh, kw), stride, margin, size), matrix, out=out)
        else:
            columns = im2col(source, (kh, kw), stride, margin, size)
            blocked_matmul.matmul_tall(columns, matrix, out.reshape(-1, f))
        epilogue(out.reshape(*out.shape[:2], ow * pack, shape.f))

    copies = stride[0] if by_strips else kh  # copies of each row of x
    parallel.run(work, tiling.bands(n, oh, oh * ow * kw * c * copies * y.itemsize, matrix.nbytes))
    return y.reshape(n, *shape.out, shape.f)


def _conv_by_scatter(y, w, shape, pack, epilogue):
    """Compute the adjoint of a convolution: a patch of x from each pixel of y, summed by col2im."""
    w = pixel_packing.widen_kernel(w, pack, shape.stride[1])
    n, size, c, (kh, kw), f, (oh, ow), stride, padding = shape.packed(pack)
    x, matrix = numpy.empty((n, *size, c), y.dtype), w.reshape(-1, f).T

    def work(chunk):
        patches = y[chunk].reshape(-1, f) @ matrix  # (pixels of y, kh*kw*C)
        col2im(patches.reshape(-1, oh, ow, kh, kw, c), stride, padding, x[chunk])
        epilogue(x[chunk])

    parallel.run(work, tiling.chunks(n, oh * ow * kh * kw * c * y.itemsize, w.nbytes))
    return x


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
    x[...] = padded.reshape(n, h, padded.shape[2] * sw, c)[:, :, pw:pw + w]


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
        numpy.maximum(y, negative_slope * y if negative_slope else numpy.zeros_like(y), out=y)
    else:
        y[y < 0] *= negative_slope
