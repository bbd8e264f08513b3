"""Fast kernels for CuPy arrays: CUDA C in the folder cuda/, compiled when first needed, behind the interface of plain.py.

    cuda/columns.cu       convolution in float32: gather the pixels under the kernel into rows, then one product of cuBLAS
    cuda/convolution.cu   convolution on tensor cores, where `use_precision` asks for that: no columns in memory
    cuda/activation.cu    bias and leaky ReLU in one pass
    cuda/separable.cu     weighted sums along rows and columns
    cuda/shuffle.cu       channels into pixels and back
    cuda/sampling.cu         pictures read between their pixels
    cuda/optimizer.cu     Adam and the moving average, one launch for all parameters
    cuda/squares.cu       the sum of all squares in many arrays

What is not float32, or is empty, is left to plain.py. No kernel adds to a number that another thread may add to: sums have one
order, so the same arrays give the same bits. Dense layers stay in cuBLAS: with few rows they wait for their weights, in any
precision.
"""
import functools
import pathlib

import numpy

from nn import backend
from nn.kernels import plain

precision = "float32"  # of convolutions; nn.kernels.use_precision sets it
FOLDER = pathlib.Path(__file__).parent
COLUMN_BYTES = 1 << 28  # columns of a part of a batch
TILE, DEPTH, THREADS = 64, 32, 128  # of cuda/tensor_core.cuh: a block's threads make TILE x TILE sums, DEPTH products at a time
BLOCKS = 512  # that keep a large card at work; not asked of the card, so that it does not change the order of a sum
WARPS = 8  # of a block whose warps take a row each
BESIDE = {"convolution": ("tensor_core.cuh",), "optimizer": ("table.cuh",), "squares": ("table.cuh",)}  # what a file builds on
MOST, SHARE = 64, 8192  # of cuda/table.cuh: arrays of a table, and numbers of a block
TABLE = numpy.dtype([("of", "u8", (4, MOST)), ("count", "i8", MOST), ("first", "i4", MOST + 1)], align=True)
RATES = numpy.dtype([("rate", "f4", MOST), ("eps", "f4", MOST)])
_NONE = numpy.uint64(0)  # the pointer to nothing
_long = numpy.int64  # for what a kernel takes as a long long: ints are passed as int


def conv2d(x, w, b, stride, padding, slope):
    """As plain.conv2d."""
    if not _usual(x, w, b):
        return plain.conv2d(x, w, b, stride, padding, slope)
    stride, padding = _ints(stride), _ints(padding)
    (n, h, wd, _), (kh, kw, _, f) = x.shape, w.shape
    size = tuple((length + 2 * p - k) // s + 1 for length, p, k, s in zip((h, wd), padding, (kh, kw), stride))
    y = _empty(x, (n, *size, f))
    if precision != "float32":
        _convolve(x, w.transpose(3, 0, 1, 2), b, slope, y, stride, tuple(-p for p in padding))
        return y
    xp, matrix = backend.array_module(x), w.reshape(-1, f)
    for part, columns in _columns(x, (kh, kw), stride, padding, size):
        xp.dot(columns, matrix, out=y[part].reshape(-1, f))
    if b is not None or slope is not None:
        _launch_rows("activation", "bias_leaky_relu", y.size // f, y, _or_none(b), _long(y.size // f), f, _slope(slope))
    return y


def conv2d_transpose(y, w, b, stride, padding, size):
    """As plain.conv2d_transpose."""
    if not _usual(y, w, b):
        return plain.conv2d_transpose(y, w, b, stride, padding, size)
    stride, padding, size = _ints(stride), _ints(padding), _ints(size)
    n, oh, ow, f = y.shape
    kh, kw, c, _ = w.shape
    x = _empty(y, (n, *size, c))
    if not x.size:
        return x
    if precision != "float32":
        _convolve_back(y, w, b, x, stride, padding)
        return x
    y, matrix = _contiguous(y), w.reshape(-1, f).T
    for part in _parts(n, oh * ow * kh * kw * c):
        columns = y[part].reshape(-1, f) @ matrix  # (pictures*OH*OW, kh*kw*C)
        pixels = x[part].size // c
        _launch_rows("columns", "fold_columns", pixels, columns, _or_none(b), x[part], _long(pixels), *size, c, oh, ow, kh,
                     kw, *stride, *padding)
    return x


def conv2d_weight(x, y, stride, padding, size):
    """As plain.conv2d_weight."""
    if not _usual(x, y):
        return plain.conv2d_weight(x, y, stride, padding, size)
    stride, padding, size = _ints(stride), _ints(padding), _ints(size)
    c, f = x.shape[3], y.shape[3]
    if precision != "float32":
        return _convolve_weight(x, y, stride, padding, size)
    w, y = None, _contiguous(y)
    for part, columns in _columns(x, size, stride, padding, y.shape[1:3]):
        product = columns.T @ y[part].reshape(-1, f)
        w = product if w is None else w + product
    return w.reshape(*size, c, f)


def matmul(x, w):
    """As plain.matmul."""
    return x @ w


def sum_rows(x):
    """As plain.sum_rows."""
    return plain.sum_rows(x)


def separable(x, rows, columns):
    """As plain.separable."""
    if not _usual(x, rows, columns):
        return plain.separable(x, rows, columns)
    n, h, w, c = x.shape
    oh, ow = rows.shape[0], columns.shape[0]
    lower = _empty(x, (n, oh, w, c))
    _launch_each("separable", "along_axis", lower.size, _contiguous(x), _contiguous(rows), lower, _long(lower.size), h, oh, w * c)
    y = _empty(x, (n, oh, ow, c))
    _launch_each("separable", "along_axis", y.size, lower, _contiguous(columns), y, _long(y.size), w, ow, c)
    return y


def pixel_shuffle(x, factor):
    """As plain.pixel_shuffle."""
    if not _usual(x):
        return plain.pixel_shuffle(x, factor)
    n, h, w, c = x.shape
    y = _empty(x, (n, h * factor, w * factor, c // factor ** 2))
    _launch_shuffle("pixel_shuffle", x, y, x.shape, factor)
    return y


def pixel_unshuffle(y, factor):
    """As plain.pixel_unshuffle."""
    if not _usual(y):
        return plain.pixel_unshuffle(y, factor)
    n, h, w, c = y.shape
    x = _empty(y, (n, h // factor, w // factor, c * factor ** 2))
    _launch_shuffle("pixel_unshuffle", y, x, x.shape, factor)
    return x


def sample_bilinear(pictures, indices, x, y):
    """As plain.sample_bilinear, to the last bit."""
    xp = backend.array_module(pictures)
    values = xp.empty((*x.shape, 4), numpy.float32)
    _launch_each("sampling", "sample_bilinear", x.size, _contiguous(pictures), xp.asarray(indices, dtype=numpy.int32), _contiguous(x), _contiguous(y),
                 values, _long(x.size), _long(x.size // max(1, x.shape[0])), pictures.shape[1], pictures.shape[1] - 1.001)
    return values


def leaky_relu_backward(gy, y, slope):
    """As plain.leaky_relu_backward."""
    if not _usual(gy, y) or gy.shape != y.shape:
        return plain.leaky_relu_backward(gy, y, slope)
    gx = _empty(gy, gy.shape)
    _launch_each("activation", "leaky_relu_backward", gx.size, _contiguous(gy), _contiguous(y), gx, _long(gx.size), float(slope))
    return gx


def sigmoid(x):
    """As plain.sigmoid."""
    return plain.sigmoid(x)


def adam(ps, gs, ms, vs, rates, beta1, beta2, unless=None):
    """As plain.adam; one launch for up to MOST parameters."""
    if not _usual(*ps, *gs, *ms, *vs, unless) or not _all_contiguous(*ps, *ms, *vs):
        return plain.adam(ps, gs, ms, vs, rates, beta1, beta2, unless)
    gs = [_contiguous(g) for g in gs]
    for part, table in _tables(ps, gs, ms, vs):
        steps = numpy.zeros(1, RATES)
        steps["rate"][0, :len(ps[part])], steps["eps"][0, :len(ps[part])] = numpy.array(rates[part]).T
        _launch_table("optimizer", "adam", table, ps[0], steps, float(1 - beta1), float(1 - beta2), _or_none(unless))


def move_towards(averages, ps, share, unless=None):
    """As plain.move_towards; one launch for up to MOST parameters."""
    if not _usual(*averages, *ps, unless) or not _all_contiguous(*averages):
        return plain.move_towards(averages, ps, share, unless)
    ps = [_contiguous(p) for p in ps]
    for _, table in _tables(averages, ps):
        _launch_table("optimizer", "move_towards", table, ps[0], float(share), _or_none(unless))


def sum_squares(arrays):
    """As plain.sum_squares; in two launches for up to MOST arrays: a sum for each block, and the sum of those in their order."""
    if not _usual(*arrays):
        return plain.sum_squares(arrays)
    arrays = [_contiguous(a) for a in arrays]
    tables = list(_tables(arrays))
    parts = _empty(arrays[0], (sum(_blocks(table) for _, table in tables),))
    done = 0
    for _, table in tables:
        _launch_table("squares", "square_parts", table, parts, parts[done:])
        done += _blocks(table)
    total = _empty(parts, ())
    _launch("squares", "sum_up", (1,), (THREADS,), parts, total, _long(done))
    return total


def _tables(*lists):
    """What tells a kernel of cuda/table.cuh about lists of contiguous arrays, the k-th of each of one size: pairs (slice of the
    lists, table), for up to MOST arrays of each."""
    for start in range(0, len(lists[0]), MOST):
        part = slice(start, start + MOST)
        sizes = [a.size for a in lists[0][part]]
        edges = numpy.cumsum([0] + [-(-size // SHARE) for size in sizes])
        table = numpy.zeros(1, TABLE)
        for row, arrays in zip(table["of"][0], lists):
            row[:len(sizes)] = [a.data.ptr for a in arrays[part]]
        table["count"][0, :len(sizes)] = sizes
        table["first"][0] = edges[-1]
        table["first"][0, :len(edges)] = edges
        yield part, table


def _blocks(table):
    return int(table["first"][0, MOST])


def _launch_table(file, name, table, like, *arguments):
    """Run a kernel with a block for each SHARE numbers of the arrays in a table, on the device of the array `like`."""
    _launch(file, name, (_blocks(table),), (256,), table, *arguments, xp=backend.array_module(like))


def _launch_shuffle(name, source, target, shape, factor):
    """Run a kernel of cuda/shuffle.cu; shape: (N, H, W, f*f*C), of the smaller picture."""
    _, _, w, c = shape
    _launch_each("shuffle", name, target.size, _contiguous(source), target, _long(target.size), w, int(factor), c // int(factor))


def _columns(x, kernel_size, stride, padding, size):
    """Parts of the batch x (n, H, W, C) as pairs (slice of pictures, their columns (pictures*OH*OW, kh*kw*C))."""
    x, (n, h, w, c), length = _contiguous(x), x.shape, kernel_size[0] * kernel_size[1] * x.shape[3]
    if kernel_size == stride == (1, 1) and padding == (0, 0):
        yield slice(0, n), x.reshape(-1, c)
        return
    for part in _parts(n, size[0] * size[1] * length):
        pictures = x[part]
        rows = len(pictures) * size[0] * size[1]
        columns = _empty(x, (rows, length))
        _launch_rows("columns", "gather_columns", rows, pictures, columns, _long(rows), h, w, c, *size, *kernel_size,
                     *stride, *padding)
        yield part, columns


def _parts(count, numbers):
    """Slices of a batch of `count` pictures that make so many numbers of columns each."""
    step = max(1, COLUMN_BYTES // (4 * max(1, numbers)))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _convolve(x, w, b, slope, y, steps, corner, turn=1, first=(0, 0), apart=(1, 1)):
    """Run `convolve` of cuda/convolution.cu: w is (F, kh, kw, C), corner the pixel under place (0, 0)'s tap (0, 0)."""
    f, kh, kw, _ = w.shape
    n, h, wd, c = x.shape
    size = [-(-(length - start) // gap) for length, start, gap in zip(y.shape[1:3], first, apart)]
    places = n * size[0] * size[1]
    grid = -(-places // TILE), -(-f // TILE)
    _launch("convolution", "convolve", grid, (THREADS,), _contiguous(x), _contiguous(w), _or_none(b), y, _long(places), h, wd, c,
            f, kh, kw, turn, *size, *steps, *corner, *y.shape[1:3], *first, *apart, _slope(slope))


def _convolve_back(y, w, b, x, stride, padding):
    """x = the adjoint of a convolution, itself convolutions: the pixels of x that lie `stride` apart meet every stride-th tap
    of the kernel, and no others. So each such set of pixels is convolved with those taps alone, which run backwards."""
    for row in range(min(stride[0], x.shape[1])):
        for column in range(min(stride[1], x.shape[2])):
            place = row + padding[0], column + padding[1]
            taps = w[place[0] % stride[0]::stride[0], place[1] % stride[1]::stride[1]]
            corner = tuple(p // s for p, s in zip(place, stride))
            _convolve(y, taps.transpose(2, 0, 1, 3), b, None, x, (1, 1), corner, -1, (row, column), stride)


def _convolve_weight(x, y, stride, padding, size):
    """The weight gradient on tensor cores. The places are shared out to several blocks, for few sums of many products would
    leave a card idle; then the parts are added in their order."""
    n, h, wd, c = x.shape
    _, oh, ow, f = y.shape
    places, length = n * oh * ow, size[0] * size[1] * c
    tiles = -(-length // TILE), -(-f // TILE)
    parts = min(max(1, BLOCKS // (tiles[0] * tiles[1])), -(-places // (4 * DEPTH)))
    share = -(-places // (parts * DEPTH)) * DEPTH
    parts = -(-places // share)
    sums = _empty(x, (parts, *size, c, f))
    _launch("convolution", "convolve_weight", (*tiles, parts), (THREADS,), _contiguous(x), _contiguous(y), sums, _long(places),
            _long(share), h, wd, c, f, *size, oh, ow, *stride, *padding)
    if parts == 1:
        return sums[0]
    w = _empty(x, (*size, c, f))
    _launch_each("convolution", "sum_parts", w.size, sums, w, _long(w.size), parts)
    return w


def _usual(*arrays):
    """Whether the kernels take these arrays: float32, and at least one number in each. None stands for no array."""
    return all(a is None or a.dtype == numpy.float32 and a.size > 0 for a in arrays)


def _all_contiguous(*arrays):
    return all(a.flags.c_contiguous for a in arrays)


def _ints(pair):
    """A pair as Python's numbers: NumPy's would be passed to a kernel in a width of their own."""
    return int(pair[0]), int(pair[1])


def _contiguous(array):
    return backend.array_module(array).ascontiguousarray(array)


def _empty(like, shape):
    return backend.array_module(like).empty(shape, numpy.float32)


def _or_none(array):
    return _NONE if array is None else _contiguous(array)


def _slope(slope):
    return 1.0 if slope is None else float(slope)


def _launch_each(file, name, count, *arguments):
    """Run a kernel with a thread for each of `count` elements, or for several of them."""
    _launch(file, name, (min(-(-count // 256), 1 << 16),), (256,), *arguments)


def _launch_rows(file, name, rows, *arguments):
    """Run a kernel with a warp for each of `rows` rows."""
    _launch(file, name, (-(-rows // WARPS),), (32, WARPS), *arguments)


def _launch(file, name, grid, block, *arguments, xp=None):
    """Run a kernel. Arrays must be contiguous; ints are passed as int, floats as float, NumPy's scalars as they are, and NumPy's
    arrays of one structure by value. xp: CuPy, where no argument tells."""
    if 0 in grid:
        return
    arguments = tuple(numpy.int32(a) if type(a) is int else numpy.float32(a) if type(a) is float else a for a in arguments)
    _kernel(xp or backend.array_module(*arguments), file, name, precision == "bf16" and file == "convolution")(grid, block, arguments)


@functools.cache
def _kernel(xp, file, name, bfloat16):
    return _module(xp, file, bfloat16).get_function(name)


@functools.cache
def _module(xp, file, bfloat16):
    return xp.RawModule(code=source(file), options=("-std=c++17", "-DBFLOAT16")[:1 + bfloat16])


def source(file):
    """The CUDA C of a file in cuda/, with what it builds on before it."""
    parts = ("common.cuh", *BESIDE.get(file, ()), f"{file}.cu")
    return "\n".join((FOLDER / part).read_text(encoding="utf-8") for part in parts)
