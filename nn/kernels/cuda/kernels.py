"""Fast kernels for CuPy arrays: CUDA C in this folder, with the interface of plain.py.

    columns.cu        convolution in float32: im2col, then one matrix product by cuBLAS
    convolution.cu    convolution on tensor cores, if `use_precision` asks for it; without an im2col
                      matrix in memory
    activation.cu     bias and leaky ReLU in one pass
    separable.cu      weighted sums along rows and columns
    shuffle.cu        pixel shuffle: channels to pixels and back
    sampling.cu       bilinear sampling of images
    optimizer.cu      Adam and the moving average, one launch for all parameters
    squares.cu        the sum of all squares in many arrays

Arrays that are not float32, or are empty, are passed on to plain.py. No kernel uses atomic
additions: every sum has a fixed order, so the same arrays give the same bits. Dense layers use
cuBLAS in float32: with few rows, reading their weights takes most of the time in any precision.
"""
import functools
import pathlib

import numpy

from nn import backend
from nn.kernels import plain
from nn.kernels.plain import (blockwise, leaky_relu, matmul, normal_cdf, normalize, normalize_backward,  # noqa: F401
                              scale, scale_backward, sum_groups, sum_rows)

precision = "float32"  # convolutions' precision; set by nn.kernels.use_precision
FOLDER = pathlib.Path(__file__).parent
COLUMN_BYTES = 1 << 28  # size of the im2col matrix of a chunk of a batch
# As in tensor_core.cuh: a block's threads compute TILE x TILE sums, DEPTH products at a time.
TILE, DEPTH, THREADS = 64, 32, 128
WEIGHT_BLOCKS = 512  # enough to occupy a large GPU; constant, so that the order of a sum does not depend on the GPU
WARPS_PER_BLOCK = 8  # in kernels where each warp processes a row
# The files that a .cu file needs before it, besides common.cuh.
INCLUDES = {"convolution": ("tensor_core.cuh",), "optimizer": ("table.cuh",), "squares": ("table.cuh",)}
MAX_ARRAYS, BLOCK_ELEMENTS = 64, 8192  # as in table.cuh: arrays of a table, and elements of a block
TABLE = numpy.dtype([("arrays", "u8", (4, MAX_ARRAYS)), ("count", "i8", MAX_ARRAYS), ("first", "i4", MAX_ARRAYS + 1)],
                    align=True)
LEARNING_RATES = numpy.dtype([("lr", "f4", MAX_ARRAYS), ("eps", "f4", MAX_ARRAYS)])
_NULL = numpy.uint64(0)  # the null pointer
_long = numpy.int64  # for parameters of type long long: Python ints are passed as int


def conv2d(x, w, b, stride, padding, negative_slope):
    """As plain.conv2d."""
    if not _is_supported(x, w, b):
        return plain.conv2d(x, w, b, stride, padding, negative_slope)
    stride, padding = _ints(stride), _ints(padding)
    (n, h, wd, _), (kh, kw, _, f) = x.shape, w.shape
    size = tuple((length + 2 * p - k) // s + 1 for length, p, k, s in zip((h, wd), padding, (kh, kw), stride))
    y = _empty(x, (n, *size, f))
    if precision != "float32":
        _convolve(x, w.transpose(3, 0, 1, 2), b, negative_slope, y, stride, tuple(-p for p in padding))
        return y
    xp, matrix = backend.array_module(x), w.reshape(-1, f)
    for chunk, columns in _columns(x, (kh, kw), stride, padding, size):
        xp.dot(columns, matrix, out=y[chunk].reshape(-1, f))
    if b is not None or negative_slope is not None:
        _launch_rows("activation", "bias_leaky_relu", y.size // f, y, _or_null(b), _long(y.size // f), f,
                     _slope_or_one(negative_slope))
    return y


def conv2d_transpose(y, w, b, stride, padding, size):
    """As plain.conv2d_transpose."""
    if not _is_supported(y, w, b):
        return plain.conv2d_transpose(y, w, b, stride, padding, size)
    stride, padding, size = _ints(stride), _ints(padding), _ints(size)
    n, oh, ow, f = y.shape
    kh, kw, c, _ = w.shape
    x = _empty(y, (n, *size, c))
    if not x.size:
        return x
    if precision != "float32":
        _convolve_transpose(y, w, b, x, stride, padding)
        return x
    y, matrix = _contiguous(y), w.reshape(-1, f).T
    for chunk in _chunks(n, oh * ow * kh * kw * c):
        columns = y[chunk].reshape(-1, f) @ matrix  # (images*OH*OW, kh*kw*C)
        pixels = x[chunk].size // c
        _launch_rows("columns", "fold_columns", pixels, columns, _or_null(b), x[chunk], _long(pixels), *size, c, oh, ow,
                     kh, kw, *stride, *padding)
    return x


def conv2d_weight(x, y, stride, padding, size):
    """As plain.conv2d_weight."""
    if not _is_supported(x, y):
        return plain.conv2d_weight(x, y, stride, padding, size)
    stride, padding, size = _ints(stride), _ints(padding), _ints(size)
    c, f = x.shape[3], y.shape[3]
    if precision != "float32":
        return _convolve_weight(x, y, stride, padding, size)
    w, y = None, _contiguous(y)
    for chunk, columns in _columns(x, size, stride, padding, y.shape[1:3]):
        product = columns.T @ y[chunk].reshape(-1, f)
        w = product if w is None else w + product
    return w.reshape(*size, c, f)


def separable(x, rows, columns):
    """As plain.separable."""
    if not _is_supported(x, rows, columns):
        return plain.separable(x, rows, columns)
    n, h, w, c = x.shape
    oh, ow = rows.shape[0], columns.shape[0]
    lower = _empty(x, (n, oh, w, c))
    _launch_each("separable", "along_axis", lower.size, _contiguous(x), _contiguous(rows), lower, _long(lower.size), h,
                 oh, w * c)
    y = _empty(x, (n, oh, ow, c))
    _launch_each("separable", "along_axis", y.size, lower, _contiguous(columns), y, _long(y.size), w, ow, c)
    return y


def pixel_shuffle(x, factor):
    """As plain.pixel_shuffle."""
    if not _is_supported(x):
        return plain.pixel_shuffle(x, factor)
    n, h, w, c = x.shape
    y = _empty(x, (n, h * factor, w * factor, c // factor ** 2))
    _launch_shuffle("pixel_shuffle", x, y, x.shape, factor)
    return y


def pixel_unshuffle(y, factor):
    """As plain.pixel_unshuffle."""
    if not _is_supported(y):
        return plain.pixel_unshuffle(y, factor)
    n, h, w, c = y.shape
    x = _empty(y, (n, h // factor, w // factor, c * factor ** 2))
    _launch_shuffle("pixel_unshuffle", y, x, x.shape, factor)
    return x


def sample_bilinear(images, indices, x, y):
    """As plain.sample_bilinear, to the last bit."""
    xp = backend.array_module(images)
    values = xp.empty((*x.shape, 4), numpy.float32)
    _launch_each("sampling", "sample_bilinear", x.size, _contiguous(images), xp.asarray(indices, dtype=numpy.int32),
                 _contiguous(x), _contiguous(y), values, _long(x.size), _long(x.size // max(1, x.shape[0])),
                 images.shape[1], images.shape[1] - 1.001)
    return values


def leaky_relu_backward(gy, y, negative_slope):
    """As plain.leaky_relu_backward."""
    if not _is_supported(gy, y) or gy.shape != y.shape:
        return plain.leaky_relu_backward(gy, y, negative_slope)
    gx = _empty(gy, gy.shape)
    _launch_each("activation", "leaky_relu_backward", gx.size, _contiguous(gy), _contiguous(y), gx, _long(gx.size),
                 float(negative_slope))
    return gx


def adam(ps, gs, ms, vs, lrs, beta1, beta2):
    """As plain.adam, in one launch for up to MAX_ARRAYS parameters."""
    if not _is_supported(*ps, *gs, *ms, *vs) or not _all_contiguous(*ps, *ms, *vs):
        return plain.adam(ps, gs, ms, vs, lrs, beta1, beta2)
    gs = [_contiguous(g) for g in gs]
    for chunk, table in _tables(ps, gs, ms, vs):
        rates, count = numpy.zeros(1, LEARNING_RATES), len(ps[chunk])
        rates["lr"][0, :count], rates["eps"][0, :count] = numpy.array(lrs[chunk]).T
        _launch_table("optimizer", "adam", table, ps[0], rates, float(1 - beta1), float(1 - beta2))


def ema_update(averages, ps, alpha):
    """As plain.ema_update, in one launch for up to MAX_ARRAYS parameters."""
    if not _is_supported(*averages, *ps) or not _all_contiguous(*averages):
        return plain.ema_update(averages, ps, alpha)
    ps = [_contiguous(p) for p in ps]
    for _, table in _tables(averages, ps):
        _launch_table("optimizer", "ema_update", table, ps[0], float(alpha))


def sum_squares(arrays):
    """As plain.sum_squares: a sum for each block, then the sum of these in order."""
    if not _is_supported(*arrays):
        return plain.sum_squares(arrays)
    arrays = [_contiguous(a) for a in arrays]
    tables = list(_tables(arrays))
    partial = _empty(arrays[0], (sum(_block_count(table) for _, table in tables),))
    done = 0
    for _, table in tables:
        _launch_table("squares", "square_block_sums", table, partial, partial[done:])
        done += _block_count(table)
    total = _empty(partial, ())
    _launch("squares", "sum_blocks", (1,), (THREADS,), partial, total, _long(done))
    return total


def _tables(*lists):
    """Yield tables of arrays for kernels that use table.cuh: pairs (slice of the lists, table).

    lists: up to four lists of contiguous arrays; the k-th arrays of all lists have one size
    Each table holds up to MAX_ARRAYS arrays of each list.
    """
    for start in range(0, len(lists[0]), MAX_ARRAYS):
        chunk = slice(start, start + MAX_ARRAYS)
        sizes = [a.size for a in lists[0][chunk]]
        edges = numpy.cumsum([0] + [-(-size // BLOCK_ELEMENTS) for size in sizes])
        table = numpy.zeros(1, TABLE)
        for row, arrays in zip(table["arrays"][0], lists):
            row[:len(sizes)] = [a.data.ptr for a in arrays[chunk]]
        table["count"][0, :len(sizes)] = sizes
        table["first"][0] = edges[-1]
        table["first"][0, :len(edges)] = edges
        yield chunk, table


def _block_count(table):
    return int(table["first"][0, MAX_ARRAYS])


def _launch_table(file, name, table, like, *arguments):
    """Run a kernel with a block for each BLOCK_ELEMENTS of a table, on the device of `like`."""
    _launch(file, name, (_block_count(table),), (256,), table, *arguments, xp=backend.array_module(like))


def _launch_shuffle(name, source, target, shape, factor):
    """Run a kernel of shuffle.cu; shape: (N, H, W, f*f*C), of the smaller image."""
    _, _, w, c = shape
    _launch_each("shuffle", name, target.size, _contiguous(source), target, _long(target.size), w, int(factor),
                 c // int(factor))


def _columns(x, kernel_size, stride, padding, size):
    """Yield the chunks of the batch x (n, H, W, C).

    Each is a pair (slice of images, their im2col matrix (images*OH*OW, kh*kw*C)).
    """
    x, (n, h, w, c), length = _contiguous(x), x.shape, kernel_size[0] * kernel_size[1] * x.shape[3]
    if kernel_size == stride == (1, 1) and padding == (0, 0):
        yield slice(0, n), x.reshape(-1, c)
        return
    for chunk in _chunks(n, size[0] * size[1] * length):
        images = x[chunk]
        rows = len(images) * size[0] * size[1]
        columns = _empty(x, (rows, length))
        _launch_rows("columns", "gather_columns", rows, images, columns, _long(rows), h, w, c, *size, *kernel_size,
                     *stride, *padding)
        yield chunk, columns


def _chunks(count, elements):
    """Return slices of a batch of `count` images; elements: of the im2col matrix of one image."""
    step = max(1, COLUMN_BYTES // (4 * max(1, elements)))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _convolve(x, w, b, negative_slope, y, stride, corner, direction=1, offset=(0, 0), spacing=(1, 1)):
    """Run `convolve` of convolution.cu.

    w: (F, kh, kw, C)
    corner: the pixel of x under tap (0, 0) at position (0, 0)
    direction: 1, or -1 for taps that run backwards
    offset, spacing: of the pixels of y that are computed
    """
    f, kh, kw, _ = w.shape
    n, h, wd, c = x.shape
    size = [-(-(length - start) // step) for length, start, step in zip(y.shape[1:3], offset, spacing)]
    positions = n * size[0] * size[1]
    grid = -(-positions // TILE), -(-f // TILE)
    _launch("convolution", "convolve", grid, (THREADS,), _contiguous(x), _contiguous(w), _or_null(b), y,
            _long(positions), h, wd, c, f, kh, kw, direction, *size, *stride, *corner, *y.shape[1:3], *offset, *spacing,
            _slope_or_one(negative_slope))


def _convolve_transpose(y, w, b, x, stride, padding):
    """Compute x, the adjoint of a convolution, by polyphase decomposition.

    The pixels of x that are `stride` apart depend on every stride-th tap of the kernel only. So
    each such phase of x is a convolution with those taps alone, which run backwards.
    """
    for row in range(min(stride[0], x.shape[1])):
        for column in range(min(stride[1], x.shape[2])):
            first = row + padding[0], column + padding[1]
            taps = w[first[0] % stride[0]::stride[0], first[1] % stride[1]::stride[1]]
            corner = tuple(p // s for p, s in zip(first, stride))
            _convolve(y, taps.transpose(2, 0, 1, 3), b, None, x, (1, 1), corner, -1, (row, column), stride)


def _convolve_weight(x, y, stride, padding, size):
    """Return the weight gradient, computed on tensor cores.

    It has few outputs, each a sum of many products. So the positions are split over several blocks
    that keep the GPU busy; then the partial sums are added in order.
    """
    n, h, wd, c = x.shape
    _, oh, ow, f = y.shape
    positions, length = n * oh * ow, size[0] * size[1] * c
    tiles = -(-length // TILE), -(-f // TILE)
    number = min(max(1, WEIGHT_BLOCKS // (tiles[0] * tiles[1])), -(-positions // (4 * DEPTH)))
    chunk = -(-positions // (number * DEPTH)) * DEPTH
    number = -(-positions // chunk)
    partial = _empty(x, (number, *size, c, f))
    _launch("convolution", "convolve_weight", (*tiles, number), (THREADS,), _contiguous(x), _contiguous(y), partial,
            _long(positions), _long(chunk), h, wd, c, f, *size, oh, ow, *stride, *padding)
    if number == 1:
        return partial[0]
    w = _empty(x, (*size, c, f))
    _launch_each("convolution", "sum_partial", w.size, partial, w, _long(w.size), number)
    return w


def _is_supported(*arrays):
    """Return whether the kernels take these arrays (or None): all float32 and not empty."""
    return all(a is None or a.dtype == numpy.float32 and a.size > 0 for a in arrays)


def _all_contiguous(*arrays):
    return all(a.flags.c_contiguous for a in arrays)


def _ints(pair):
    """Return a pair as Python ints: a NumPy scalar would be passed to a kernel in its own width."""
    return int(pair[0]), int(pair[1])


def _contiguous(array):
    return backend.array_module(array).ascontiguousarray(array)


def _empty(like, shape):
    return backend.array_module(like).empty(shape, numpy.float32)


def _or_null(array):
    return _NULL if array is None else _contiguous(array)


def _slope_or_one(negative_slope):
    return 1.0 if negative_slope is None else float(negative_slope)


def _launch_each(file, name, count, *arguments):
    """Run a kernel with a thread for each of `count` elements, or for several of them."""
    _launch(file, name, (min(-(-count // 256), 1 << 16),), (256,), *arguments)


def _launch_rows(file, name, rows, *arguments):
    """Run a kernel with a warp for each of `rows` rows."""
    _launch(file, name, (-(-rows // WARPS_PER_BLOCK),), (32, WARPS_PER_BLOCK), *arguments)


def _launch(file, name, grid, block, *arguments, xp=None):
    """Run a kernel.

    arguments: contiguous CuPy arrays; ints, passed as int; floats, passed as float; NumPy scalars,
    passed as they are; NumPy
        arrays of one structure, passed by value
    xp: CuPy, if no argument is a CuPy array
    """
    if 0 in grid:
        return
    scalars = {int: numpy.int32, float: numpy.float32}
    arguments = tuple(scalars[type(a)](a) if type(a) in scalars else a for a in arguments)
    kernel = _kernel(xp or backend.array_module(*arguments), file, name, precision == "bf16" and file == "convolution")
    kernel(grid, block, arguments)


@functools.cache
def _kernel(xp, file, name, bfloat16):
    return _module(xp, file, bfloat16).get_function(name)


@functools.cache
def _module(xp, file, bfloat16):
    return xp.RawModule(code=source(file), options=("-std=c++17", "-DBFLOAT16")[:1 + bfloat16])


def source(file):
    """Return the CUDA C of a .cu file, preceded by the files that it needs."""
    names = ("common.cuh", *INCLUDES.get(file, ()), f"{file}.cu")
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
