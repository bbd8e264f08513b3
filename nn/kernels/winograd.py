"""Convolution with fewer multiplications: Winograd's minimal filtering, F(2x2, 3x3) of Lavin & Gray 2016 (arXiv:1509.09308).

Two neighbouring outputs of a filter with three taps need four products, not six:

    y0 = x0 g0 + x1 g1 + x2 g2 = m0 + m1 + m2      m0 = (x0 - x2) g0                      m3 = (x1 - x3) g2
    y1 = x1 g0 + x2 g1 + x3 g2 = m1 - m2 - m3      m1 = (x1 + x2) (g0 + g1 + g2) / 2      m2 = (x2 - x1) (g0 - g1 + g2) / 2

Along both axes that is 16 products for 2 x 2 outputs, not 36. Each is summed over the channels before the way from m to y: so
these are 16 matrix products, and all else is additions.

    y = outputs(tiles(x) @ filters(w))            convolution with stride 1
    w = taps(tiles(x).T @ shares(y))              its weight gradient: shares is the adjoint of outputs, taps that of filters
"""
import numpy

_FILTERS = numpy.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # from g to the second factors of m


def tiles(x, margin, size):
    """x (n, H, W, C), cut into the overlapping 4 x 4 pixels under each 2 x 2 outputs, as the first factors of the products:
    (16, tiles, C). margin: zeros above and to the left of x. size: (OH, OW)."""
    n, h, w, c = x.shape
    rows, columns = (-(-length // 2) for length in size)
    padded = numpy.zeros((n, 2 * rows + 2, 2 * columns + 2, c), x.dtype)
    inside = padded[:, margin[0]:margin[0] + h, margin[1]:margin[1] + w]
    inside[...] = x[:, :inside.shape[1], :inside.shape[2]]
    half = numpy.empty((4, n, rows, 2 * columns + 2, c), x.dtype)
    _first_factors([padded[:, k:k + 2 * rows:2] for k in range(4)], half)
    m = numpy.empty((4, 4, n, rows, columns, c), x.dtype)
    _first_factors([half[:, :, :, k:k + 2 * columns:2] for k in range(4)], m.swapaxes(0, 1))
    return m.reshape(16, n * rows * columns, c)


def _first_factors(x, m):
    numpy.subtract(x[0], x[2], out=m[0])
    numpy.add(x[1], x[2], out=m[1])
    numpy.subtract(x[2], x[1], out=m[2])
    numpy.subtract(x[1], x[3], out=m[3])


def filters(w):
    """w (3, 3, C, F) as the second factors of the products: (16, C, F)."""
    return _along_both_axes(_FILTERS, w)


def taps(products, c, f):
    """The adjoint of filters: (16, C, F) -> w (3, 3, C, F)."""
    return _along_both_axes(_FILTERS.T, products.reshape(4, 4, c, f)).reshape(3, 3, c, f)


def outputs(products, y):
    """Fill y (n, OH, OW, F) from the products (16, tiles, F)."""
    n, h, w, f = y.shape
    m = products.reshape(4, 4, n, -(-h // 2), -(-w // 2), f)
    half = numpy.empty((2, *m.shape[1:]), m.dtype)
    _sums(m, half)
    for k in range(2):
        lines = y[:, k::2]
        _sums(half[k, :, :, :lines.shape[1]], (lines[:, :, 0::2], lines[:, :, 1::2]))


def _sums(m, y):
    """y0 and y1 from m0 to m3, along the first axis of m. An odd number of outputs has no last y1."""
    for out, (first, second, third), sign in zip(y, ((0, 1, 2), (1, 2, 3)), (numpy.add, numpy.subtract)):
        count = out.shape[-2]
        sign(m[first][..., :count, :], m[second][..., :count, :], out=out)
        sign(out, m[third][..., :count, :], out=out)


def shares(y):
    """The adjoint of outputs: y (n, OH, OW, F) -> (16, tiles, F)."""
    n, h, w, f = y.shape
    if h % 2 or w % 2:
        y = numpy.pad(y, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    rows, columns = y.shape[1] // 2, y.shape[2] // 2
    half = numpy.empty((4, n, rows, 2 * columns, f), y.dtype)
    _parts(y[:, 0::2], y[:, 1::2], half)
    m = numpy.empty((4, 4, n, rows, columns, f), y.dtype)
    _parts(half[:, :, :, 0::2], half[:, :, :, 1::2], m.swapaxes(0, 1))
    return m.reshape(16, n * rows * columns, f)


def _parts(y0, y1, m):
    m[0] = y0
    numpy.add(y0, y1, out=m[1])
    numpy.subtract(y0, y1, out=m[2])
    numpy.negative(y1, out=m[3])


def _along_both_axes(matrix, w):
    """matrix @ w @ matrix.T in the first two axes of w (K, K, ...), which become one."""
    matrix = matrix.astype(w.dtype)
    half = (matrix @ w.reshape(w.shape[0], -1)).reshape(len(matrix), w.shape[1], -1)
    return (matrix @ half).reshape(len(matrix) ** 2, *w.shape[2:])
