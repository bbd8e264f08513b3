"""Convolution with fewer multiplications: Winograd's minimal filtering, F(2x2, 3x3) of Lavin & Gray 2016 (arXiv:1509.09308).

Two neighbouring outputs of a filter with three taps need four products, not six:

    y0 = x0 g0 + x1 g1 + x2 g2 = m0 + m1 + m2      m0 = (x0 - x2) g0                      m3 = (x1 - x3) g2
    y1 = x1 g0 + x2 g1 + x3 g2 = m1 - m2 - m3      m1 = (x1 + x2) (g0 + g1 + g2) / 2      m2 = (x2 - x1) (g0 - g1 + g2) / 2

Along both axes that is 16 products for 2 x 2 outputs, not 36. Each is summed over the channels before the way from m to y: so
these are 16 matrix products. The ways from x and g to the factors and from m to y are products with small constant matrices.

    y = pixels(tiles(x) @ filters(w))             convolution with stride 1
    w = taps(tiles(x).T @ shares(y))              its weight gradient: shares is the adjoint of pixels, taps that of filters

Threads share the pictures, so that what is made of some stays in the cache; or, where the filters are large beside the pictures,
the 16 products: then no filter is read, nor any sum of the weight gradient made, by more than one.
"""
import functools

import numpy

from nn.kernels.cpu import blocked_matmul, parallel, tiling

PRODUCTS = 1 << 21  # multiplications in each of the 16 products, beyond which this way pays,
SIDE = 1 << 14  # and tiles times channels of the thinner side, from which,
UNLIKE = 16  # where one side has at most so many times the other's channels (all three measured)
HEAVY = 16  # numbers made of the pictures, for each of the kernel's channels: up to so many, threads share the products

_X = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # from x to the first factors of m
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # from g to the second factors of m
_Y = ((1, 1, 1, 0), (0, 1, -1, -1))  # from m to y


def pays(weight_shape, stride, y_shape):
    """Whether this way is open for y (n, OH, OW), and the faster one: it is not where few tiles meet many filters, or where
    channels are so few that the additions weigh more than the products."""
    kh, kw, c, f = weight_shape
    if (kh, kw) != (3, 3) or stride != (1, 1) or max(c, f) > UNLIKE * min(c, f):
        return False
    tiles = _count_tiles(*y_shape)
    return tiles * min(c, f) >= SIDE and tiles * c * f > PRODUCTS


def conv2d(x, w, padding, finish):
    """As plain.conv2d with stride 1; finish(part of y) is called while that is in the cache."""
    n, h, wd, c = x.shape
    f = w.shape[3]
    y = numpy.empty((n, h + 2 * padding[0] - 2, wd + 2 * padding[1] - 2, f), x.dtype)
    second = numpy.empty((16, c, f), x.dtype)
    parallel.run(lambda part: filters(w[:, :, part], second[:, part]), tiling.one_a_thread(c))
    way = _by_products if _is_heavy(c, f, y.shape) else _by_pictures
    way(x, second, padding, finish, y)
    return y


def _is_heavy(c, f, y_shape):
    """Whether the filters are large beside what is made of the pictures."""
    return _count_tiles(*y_shape[:3]) * (c + f) <= HEAVY * c * f


def _by_pictures(x, second, padding, finish, y):
    """Threads share the pictures."""
    (n, oh, ow, f), c = y.shape, x.shape[3]

    def work(part):
        pictures, rows = part
        out = y[pictures, rows]
        seen, ((above, _), left) = tiling.rows_under(x[pictures], rows, 3, 1, padding)
        count = _count_tiles(*out.shape[:3])
        first, m = numpy.empty((16, count, c), x.dtype), numpy.empty((16, count, f), x.dtype)
        tiles(seen, (above, left), out.shape[1:3], first)
        blocked_matmul.tall(first, second, m)
        pixels(m, out)
        finish(out)

    parallel.run(work, tiling.bands(n, oh, oh * ow * 4 * (c + f) * y.itemsize, second.nbytes))


def _by_products(x, second, padding, finish, y):
    """Threads share the 16 products; what leads to them and from them is made of pictures."""
    n, oh, ow, f = y.shape
    count = _count_tiles(1, oh, ow)
    first, m = numpy.empty((16, n * count, x.shape[3]), x.dtype), numpy.empty((16, n * count, f), x.dtype)
    pictures = tiling.one_a_thread(n)
    parallel.run(lambda part: tiles(x[part], padding, (oh, ow), _tiles_of(first, part, count)), pictures)
    parallel.run(lambda each: numpy.matmul(first[each], second[each], out=m[each]), range(16))

    def work(part):
        pixels(_tiles_of(m, part, count), y[part])
        finish(y[part])

    parallel.run(work, pictures)


def conv2d_weight(x, y, padding):
    """As plain.conv2d_weight with a kernel of 3 x 3 and stride 1."""
    c, f = x.shape[3], y.shape[3]
    heavy = _is_heavy(c, f, y.shape)
    total = (_weight_by_products if heavy else _weight_by_pictures)(x, y, padding)
    w = numpy.empty((9, c, f), y.dtype)
    parallel.run(lambda part: taps(total[:, part], w[:, part]), tiling.one_a_thread(c) if heavy else [slice(c)])
    return w.reshape(3, 3, c, f)


def _weight_by_pictures(x, y, padding):
    (n, oh, ow, f), c = y.shape, x.shape[3]

    def work(part):
        pictures = y[part]
        count = _count_tiles(*pictures.shape[:3])
        first, second = numpy.empty((16, count, c), x.dtype), numpy.empty((16, count, f), x.dtype)
        tiles(x[part], padding, (oh, ow), first)
        shares(pictures, second)
        return blocked_matmul.across(first, second)

    found = parallel.run(work, tiling.chunks(n, oh * ow * 4 * (c + f) * y.itemsize, 16 * c * f * y.itemsize))
    return tiling.total(found)


def _weight_by_products(x, y, padding):
    (n, oh, ow, f), c = y.shape, x.shape[3]
    count = _count_tiles(1, oh, ow)
    first, second = numpy.empty((16, n * count, c), x.dtype), numpy.empty((16, n * count, f), x.dtype)
    total = numpy.empty((16, c, f), x.dtype)

    def prepare(part):
        tiles(x[part], padding, (oh, ow), _tiles_of(first, part, count))
        shares(y[part], _tiles_of(second, part, count))

    def work(each):
        total[each] = blocked_matmul.across(first[each], second[each])

    parallel.run(prepare, tiling.one_a_thread(n))
    parallel.run(work, range(16))
    return total


def _count_tiles(n, oh, ow):
    return n * -(-oh // 2) * -(-ow // 2)


def _tiles_of(factors, pictures, count):
    """Those of a slice of pictures, of which each has so many."""
    return factors[:, pictures.start * count:pictures.stop * count]


@functools.cache
def _along_both_axes(matrix, dtype):
    return numpy.kron(matrix, matrix).astype(dtype)


def _ahead(matrix, x, y):
    """Fill y (M*M, ...) from x (K*K, ...) by a matrix (M, K) along both axes. The ellipses must be runs of memory in y."""
    blocked_matmul.wide(_along_both_axes(matrix, x.dtype), x.reshape(len(x), -1), y.reshape(len(y), -1))


def _back(matrix, x, y):
    """The adjoint of _ahead: fill y (K*K, ...) from x (M*M, ...)."""
    blocked_matmul.wide(_along_both_axes(matrix, x.dtype).T, x.reshape(len(x), -1), y.reshape(len(y), -1))


def tiles(x, margin, size, factors):
    """Fill the first factors of the products (16, tiles, C) from x (n, H, W, C), cut into the overlapping 4 x 4 pixels under each
    2 x 2 outputs. margin: zeros above and to the left of x. size: (OH, OW)."""
    n, h, w, c = x.shape
    rows, columns = (-(-length // 2) for length in size)
    padded = numpy.zeros((n, 2 * rows + 2, 2 * columns + 2, c), x.dtype)
    inside = padded[:, margin[0]:margin[0] + h, margin[1]:margin[1] + w]
    inside[...] = x[:, :inside.shape[1], :inside.shape[2]]
    picture, row, pixel, number = padded.strides
    seen = tiling.view(padded, (4, 4, n, rows, columns, c), (row, pixel, picture, 2 * row, 2 * pixel, number))
    _ahead(_X, seen.reshape(16, -1), factors)


def filters(w, factors):
    """Fill the second factors of the products (16, C, F) from w (3, 3, C, F)."""
    _ahead(_G, w.reshape(9, -1), factors)


def taps(factors, w):
    """The adjoint of filters: fill w (9, C, F) from (16, C, F)."""
    _back(_G, factors, w)


def pixels(m, y):
    """Fill y (n, OH, OW, F) from the products (16, tiles, F)."""
    n, h, w, f = y.shape
    found = numpy.empty((2, 2, n, -(-h // 2), -(-w // 2), f), y.dtype)
    _ahead(_Y, m, found.reshape(4, -1))
    found = found.transpose(2, 3, 0, 4, 1, 5)  # (n, rows, 2, columns, 2, F)
    if h % 2 or w % 2:
        y[...] = found.reshape(n, 2 * found.shape[1], 2 * found.shape[3], f)[:, :h, :w]
    else:
        y.reshape(found.shape)[...] = found


def shares(y, factors):
    """The adjoint of pixels: fill (16, tiles, F) from y (n, OH, OW, F)."""
    n, h, w, f = y.shape
    if h % 2 or w % 2:
        y = numpy.pad(y, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    found = y.reshape(n, y.shape[1] // 2, 2, y.shape[2] // 2, 2, f).transpose(2, 4, 0, 1, 3, 5)
    _back(_Y, found.reshape(4, -1), factors)
