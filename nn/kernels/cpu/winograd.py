"""Winograd convolution: 3 x 3 kernels with fewer multiplications.

F(2x2, 3x3) of Lavin & Gray 2016 (arXiv:1509.09308). Two neighboring outputs of a filter with three
taps need four products, not six:

    y0 = x0 g0 + x1 g1 + x2 g2 = m0 + m1 + m2
    y1 = x1 g0 + x2 g1 + x3 g2 = m1 - m2 - m3

    m0 = (x0 - x2) g0        m1 = (x1 + x2) (g0 + g1 + g2) / 2
    m3 = (x1 - x3) g2        m2 = (x2 - x1) (g0 - g1 + g2) / 2

Along both axes these are 16 products for 2 x 2 outputs, not 36. Each product is summed over the
channels before m is transformed to y: so they are 16 matrix products. The transforms of x, of g and
of m are products with small constant matrices.

    y = transform_output(transform_input(x) @ transform_filter(w))    convolution with stride 1
    w = transform_filter_adjoint(transform_input(x).T @ transform_output_adjoint(y))
                                                                      its weight gradient

Names as in the paper: v is the transformed input, u the transformed filter, m their product.

Threads split the images, so that each chunk stays in the cache. If the filters are large compared
with the images, threads split the 16 products instead: then each filter is read, and each sum of
the weight gradient computed, by one thread only.
"""
import functools

import numpy

from nn.kernels.cpu import blocked_matmul, parallel, tiling
from nn.kernels.cpu.routes import count_tiles

_BT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # input transform: from x to v
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # filter transform: from g to u
_AT = ((1, 1, 1, 0), (0, 1, -1, -1))  # output transform: from m to y


def conv2d(x, w, shape, epilogue, by_products):
    """As plain.conv2d with stride 1; epilogue(chunk of y) runs while that chunk is in the cache.

    by_products: whether threads split the 16 products, not the images
    """
    y, u = numpy.empty((len(x), *shape.out, shape.f), x.dtype), numpy.empty((16, shape.c, shape.f), x.dtype)
    parallel.run(lambda chunk: transform_filter(w[:, :, chunk], u[:, chunk]), tiling.split_for_threads(shape.c))
    (_conv_by_products if by_products else _conv_by_images)(x, u, shape.padding, epilogue, y)
    return y


def _conv_by_images(x, u, padding, epilogue, y):
    """Convolve with the images split over the threads."""
    (n, oh, ow, f), c = y.shape, x.shape[3]

    def work(band):
        images, rows = band
        out = y[images, rows]
        source, ((above, _), left) = tiling.input_rows(x[images], rows, 3, 1, padding)
        count = count_tiles(*out.shape[:3])
        v, m = numpy.empty((16, count, c), x.dtype), numpy.empty((16, count, f), x.dtype)
        transform_input(source, (above, left), out.shape[1:3], v)
        blocked_matmul.matmul_tall(v, u, m)
        transform_output(m, out)
        epilogue(out)

    parallel.run(work, tiling.bands(n, oh, oh * ow * 4 * (c + f) * y.itemsize, u.nbytes))


def _conv_by_products(x, u, padding, epilogue, y):
    """Convolve with the 16 products split over the threads; the transforms are split by images."""
    n, oh, ow, f = y.shape
    count = count_tiles(1, oh, ow)
    v, m = numpy.empty((16, n * count, x.shape[3]), x.dtype), numpy.empty((16, n * count, f), x.dtype)
    images = tiling.split_for_threads(n)
    parallel.run(lambda chunk: transform_input(x[chunk], padding, (oh, ow), _tiles_of(v, chunk, count)), images)
    parallel.run(lambda k: numpy.matmul(v[k], u[k], out=m[k]), range(16))

    def work(chunk):
        transform_output(_tiles_of(m, chunk, count), y[chunk])
        epilogue(y[chunk])

    parallel.run(work, images)


def conv2d_weight(x, y, shape, by_products):
    """As plain.conv2d_weight with a 3 x 3 kernel and stride 1; by_products as for conv2d."""
    c, f = shape.c, shape.f
    total = (_weight_by_products if by_products else _weight_by_images)(x, y, shape.padding)
    w = numpy.empty((9, c, f), y.dtype)
    parallel.run(lambda chunk: transform_filter_adjoint(total[:, chunk], w[:, chunk]),
                 tiling.split_for_threads(c) if by_products else [slice(c)])
    return w.reshape(3, 3, c, f)


def _weight_by_images(x, y, padding):
    """Return the gradient of u, with the images split over the threads."""
    (n, oh, ow, f), c = y.shape, x.shape[3]

    def work(chunk):
        images = y[chunk]
        count = count_tiles(*images.shape[:3])
        v, m = numpy.empty((16, count, c), x.dtype), numpy.empty((16, count, f), x.dtype)
        transform_input(x[chunk], padding, (oh, ow), v)
        transform_output_adjoint(images, m)
        return blocked_matmul.matmul_tn(v, m)

    sums = parallel.run(work, tiling.chunks(n, oh * ow * 4 * (c + f) * y.itemsize, 16 * c * f * y.itemsize))
    return tiling.sum_in_order(sums)


def _weight_by_products(x, y, padding):
    """Return the gradient of u, with the 16 products split over the threads."""
    (n, oh, ow, f), c = y.shape, x.shape[3]
    count = count_tiles(1, oh, ow)
    v, m = numpy.empty((16, n * count, c), x.dtype), numpy.empty((16, n * count, f), x.dtype)
    total = numpy.empty((16, c, f), x.dtype)

    def transform(chunk):
        transform_input(x[chunk], padding, (oh, ow), _tiles_of(v, chunk, count))
        transform_output_adjoint(y[chunk], _tiles_of(m, chunk, count))

    def work(k):
        total[k] = blocked_matmul.matmul_tn(v[k], m[k])

    parallel.run(transform, tiling.split_for_threads(n))
    parallel.run(work, range(16))
    return total


def _tiles_of(transformed, images, count):
    """Return the tiles of a slice of images, with `count` tiles for each image."""
    return transformed[:, images.start * count:images.stop * count]


@functools.cache
def _along_both_axes(matrix, dtype):
    """Return the matrix (M*M, K*K) that applies a matrix (M, K) along both axes."""
    return numpy.kron(matrix, matrix).astype(dtype)


def _transform(matrix, x, y):
    """Fill y (M*M, ...) from x (K*K, ...) by a matrix (M, K) along both axes.

    The ellipses must be runs of memory in y.
    """
    blocked_matmul.matmul_wide(_along_both_axes(matrix, x.dtype), x.reshape(len(x), -1), y.reshape(len(y), -1))


def _transform_adjoint(matrix, x, y):
    """Apply the adjoint of _transform: fill y (K*K, ...) from x (M*M, ...)."""
    blocked_matmul.matmul_wide(_along_both_axes(matrix, x.dtype).T, x.reshape(len(x), -1), y.reshape(len(y), -1))


def transform_input(x, margin, size, v):
    """Fill v (16, tiles, C) from the tiles of x (n, H, W, C): the 4 x 4 pixels under 2 x 2 outputs.

    margin: rows and columns of zeros above and to the left of x
    size: (OH, OW)
    """
    n, h, w, c = x.shape
    rows, columns = (-(-length // 2) for length in size)
    padded = numpy.zeros((n, 2 * rows + 2, 2 * columns + 2, c), x.dtype)
    inside = padded[:, margin[0]:margin[0] + h, margin[1]:margin[1] + w]
    inside[...] = x[:, :inside.shape[1], :inside.shape[2]]
    image, row, pixel, channel = padded.strides
    tiles = tiling.strided_view(padded, (4, 4, n, rows, columns, c), (row, pixel, image, 2 * row, 2 * pixel, channel))
    _transform(_BT, tiles.reshape(16, -1), v)


def transform_filter(w, u):
    """Fill u (16, C, F) from w (3, 3, C, F)."""
    _transform(_G, w.reshape(9, -1), u)


def transform_filter_adjoint(u, w):
    """Apply the adjoint of transform_filter: fill w (9, C, F) from u (16, C, F)."""
    _transform_adjoint(_G, u, w)


def transform_output(m, y):
    """Fill y (n, OH, OW, F) from the products m (16, tiles, F)."""
    n, h, w, f = y.shape
    tiles = numpy.empty((2, 2, n, -(-h // 2), -(-w // 2), f), y.dtype)
    _transform(_AT, m, tiles.reshape(4, -1))
    tiles = tiles.transpose(2, 3, 0, 4, 1, 5)  # (n, rows, 2, columns, 2, F)
    if h % 2 or w % 2:
        y[...] = tiles.reshape(n, 2 * tiles.shape[1], 2 * tiles.shape[3], f)[:, :h, :w]
    else:
        y.reshape(tiles.shape)[...] = tiles


def transform_output_adjoint(y, m):
    """Apply the adjoint of transform_output: fill m (16, tiles, F) from y (n, OH, OW, F)."""
    n, h, w, f = y.shape
    if h % 2 or w % 2:
        y = numpy.pad(y, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    tiles = y.reshape(n, y.shape[1] // 2, 2, y.shape[2] // 2, 2, f).transpose(2, 4, 0, 1, 3, 5)
    _transform_adjoint(_AT, tiles.reshape(4, -1), m)
