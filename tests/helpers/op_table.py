"""The table of ops: the inputs, options and reference definition of each public function of
nn.functional.

Inputs are away from kinks, where a finite difference is not the gradient; kinks have their own
tests.
"""
import dataclasses
import math
from collections.abc import Callable

import numpy as np

import nn
from nn import functional as F
from tests.helpers import definitions as D
from tests.helpers.definitions import each


@dataclasses.dataclass
class Op:
    name: str  # in nn.functional
    label: str  # variant
    inputs: tuple  # arrays; float64 ones are differentiated, integers and booleans are not
    definition: Callable  # reference, called with the inputs
    function: Callable  # called with the inputs
    order: int = 2  # order up to which derivatives are checked
    lists: bool = True  # whether nested lists are accepted in place of arrays


TABLE = []
_random = np.random.default_rng(0)


def normal(*shape):
    return _random.standard_normal(shape)


def positive(*shape):
    return _random.uniform(0.5, 2, shape)


def unit(*shape):
    return _random.uniform(0, 1, shape)


def distinct(*shape):
    """Return distinct numbers from -2 to 2, none at zero, with gaps far wider than a difference
    step."""
    count = math.prod(shape)
    return (_random.permutation(count).reshape(shape) - count / 2 + 0.3) * (4 / count)


def row(name, inputs, definition, label="", function=None, order=2, lists=True, **settings):
    function = function or getattr(F, name)
    TABLE.append(Op(name, label, inputs, definition, lambda *xs: function(*xs, **settings), order, lists))


def binary(name, make, formula):
    op, both = getattr(F, name), make(2, 2, 3)
    row(name, (both[0], both[1]), each(formula))
    row(name, (make(2, 1, 3), make(4, 1) + 0.01), each(formula), "broadcast")
    row(name, (make(2, 3), make()), each(formula), "no_axes")
    row(name, (make(2, 3),), each(lambda a: formula(a, 1.7)), "number_right", lambda x: op(x, 1.7))
    row(name, (make(2, 3),), each(lambda a: formula(1.7, a)), "number_left", lambda x: op(1.7, x))


def extremum(name, choose):
    row(name, (distinct(2, 3),), lambda x: choose(x.reshape(-1).tolist()))
    row(name, (distinct(2, 3, 2),), lambda x: np.array([choose(z.reshape(-1).tolist()) for z in x]),
        "axes", axis=(1, 2))
    row(name, (distinct(2, 3),), lambda x: np.array([[choose(z)] for z in x.tolist()]),
        "keepdims", axis=-1, keepdims=True)


def arithmetic():
    binary("add", normal, lambda a, b: a + b)
    binary("subtract", normal, lambda a, b: a - b)
    binary("multiply", normal, lambda a, b: a * b)
    binary("divide", positive, lambda a, b: a / b)
    binary("power", positive, math.pow)
    binary("maximum", distinct, max)
    binary("minimum", distinct, min)
    for exponent in (0, 1, 2, 3, 7, -2, 0.5):
        row("power", (positive(2, 3),), each(lambda a, p=exponent: a ** p), f"exponent_{exponent}", p=exponent)
    row("power", (-positive(2, 3),), each(lambda a: a ** 3), "negative_base", lambda x: F.power(x, 3))
    row("negative", (normal(2, 3),), each(lambda a: -a))
    row("exp", (normal(2, 3),), each(math.exp))
    row("log", (positive(2, 3),), each(math.log))
    row("sqrt", (positive(2, 3),), each(math.sqrt))
    row("abs", (distinct(2, 3),), each(abs))
    row("clip", (distinct(3, 4),), each(lambda a: min(max(a, -0.7), 0.9)), low=-0.7, high=0.9)
    row("clip", (distinct(3, 4),), each(lambda a: max(a, -0.7)), "low_only", low=-0.7)
    row("clip", (distinct(3, 4),), each(lambda a: min(a, 0.9)), "high_only", high=0.9)
    chosen = np.array([[True, False, True], [False, False, True]])
    row("where", (normal(2, 3), normal(2, 3)), lambda x, y: np.array(
        [[x[0, 0], y[0, 1], x[0, 2]], [y[1, 0], y[1, 1], x[1, 2]]]), function=lambda x, y: F.where(chosen, x, y))
    row("where", (normal(3), normal(2, 1)), lambda x, y: np.array(
        [[x[0], y[0, 0], x[2]], [y[1, 0], y[1, 0], x[2]]]), "broadcast", lambda x, y: F.where(chosen, x, y))
    row("matmul", (normal(2, 3), normal(3, 4)), D.matmul)
    row("matmul", (normal(3), normal(3, 4)), lambda x, w: D.matmul(x[None], w)[0], "row")
    row("matmul", (normal(2, 3), normal(3)), lambda x, w: D.matmul(x, w[:, None])[:, 0], "column")
    row("matmul", (normal(3), normal(3)), lambda x, w: sum(a * b for a, b in zip(x, w)), "vectors")
    row("matmul", (normal(2, 2, 3), normal(2, 3, 2)), lambda x, w: np.array([D.matmul(*z) for z in zip(x, w)]), "batch")
    row("matmul", (normal(2, 2, 3), normal(3, 2)), lambda x, w: np.array([D.matmul(z, w) for z in x]), "broadcast")
    row("linear", (normal(2, 3), normal(3, 4), normal(4)), lambda x, w, b: D.matmul(x, w) + b)
    row("linear", (normal(2, 3), normal(3, 4)), D.matmul, "no_bias")
    row("linear", (normal(3), normal(3, 4), normal(4)), lambda x, w, b: D.matmul(x[None], w)[0] + b, "vector")
    row("linear", (normal(2, 2, 3), normal(3, 4), normal(4)),
        lambda x, w, b: np.array([D.matmul(z, w) + b for z in x]), "batch")
    row("cast", (normal(2, 3),), lambda x: x, function=lambda x: F.cast(x, x.dtype), lists=False)


def reductions():
    def total(x):
        return sum(x.reshape(-1).tolist())
    row("sum", (normal(2, 3),), total)
    row("sum", (normal(2, 3, 2),), lambda x: x[:, 0] + x[:, 1] + x[:, 2], "axis", axis=1)
    row("sum", (normal(2, 3, 2),), lambda x: np.array([[[total(z)]] for z in x]), "axes", axis=(1, -1), keepdims=True)
    row("sum", (normal(),), total, "no_axes")
    row("mean", (normal(2, 3),), lambda x: total(x) / 6)
    row("mean", (normal(2, 3, 2),), lambda x: np.array([total(z) / 6 for z in x]), "axes", axis=(-2, 2))
    row("mean", (normal(2, 3),), lambda x: (x[:1] + x[1:]) / 2, "keepdims", axis=0, keepdims=True)
    extremum("max", max)
    extremum("min", min)
    row("broadcast_to", (normal(2, 1),), lambda x: np.array([[[x[i, 0]] * 3 for i in range(2)]] * 2), shape=(2, 2, 3))
    row("broadcast_to", (normal(2, 3),), lambda x: x, "same", shape=(2, 3))
    row("sum_to", (normal(2, 2, 3),), lambda x: np.array([[total(x[:, i])] for i in range(2)]), shape=(2, 1))
    row("sum_to", (normal(2, 3),), total, "no_axes", shape=())


def shapes():
    row("reshape", (normal(2, 3),), lambda x: np.array([[x[0, 0], x[0, 1]], [x[0, 2], x[1, 0]], [x[1, 1], x[1, 2]]]),
        function=lambda x: F.reshape(x, (3, 2)))
    row("reshape", (normal(2, 3),), lambda x: np.array([*x[0], *x[1]]), "inferred", lambda x: F.reshape(x, -1))
    row("transpose", (normal(2, 3),), lambda x: np.array([[x[i, j] for i in range(2)] for j in range(3)]))
    row("transpose", (normal(2, 3, 4),), lambda x: np.einsum("abc->cab", x),
        "order", lambda x: F.transpose(x, 2, 0, -2))
    row("getitem", (normal(3, 4),), lambda x: np.array([[z[1], z[3]] for z in x[1:]]),
        key=(slice(1, 3), slice(1, None, 2)))
    row("getitem", (normal(3, 4),), lambda x: np.array([z[::-1] for z in x]),
        "backwards", key=(..., slice(None, None, -1)))
    row("getitem", (normal(3, 4),), lambda x: x[-1].tolist()[2], "number", key=(-1, 2))
    row("getitem", (normal(3, 4),), lambda x: x.reshape(3, 1, 4), "new_axis", key=(slice(None), None))
    row("getitem", (normal(3, 2), np.array([2, 0, 2, 2])), lambda x, k: np.stack([x[2], x[0], x[2], x[2]]),
        "repeated_index", lists=False)
    row("getitem", (normal(3, 2), np.array([True, False, True])), lambda x, k: np.stack([x[0], x[2]]),
        "mask", lists=False)
    row("put_item", (normal(2, 2),), lambda x: np.array([[0, 0, 0], [x[0, 0], 0, x[0, 1]], [x[1, 0], 0, x[1, 1]]]),
        key=(slice(1, 3), slice(None, None, 2)), shape=(3, 3))
    row("put_item", (normal(3, 2), np.array([1, 3, 1])), lambda x, k: np.stack([0 * x[0], x[0] + x[2], 0 * x[0], x[1]]),
        "repeated_index", lambda x, k: F.put_item(x, k, (4, 2)), lists=False)
    row("concatenate", (normal(2, 3), normal(1, 3)), lambda a, b: np.array([*a, *b]),
        function=lambda *xs: F.concatenate(xs))
    row("concatenate", (normal(2, 1, 2), normal(2, 2, 2), normal(2, 1, 2)),
        lambda *xs: np.array([[*a, *b, *c] for a, b, c in zip(*xs)]), "axis", lambda *xs: F.concatenate(xs, axis=-2))
    row("stack", (normal(2, 3), normal(2, 3)), lambda a, b: np.array([a, b]), function=lambda *xs: F.stack(xs))
    row("stack", (normal(2, 3), normal(2, 3)), lambda a, b: np.array([[[*p] for p in zip(*z)] for z in zip(a, b)]),
        "axis", lambda *xs: F.stack(xs, axis=-1))
    row("split", (normal(5, 2),), lambda x: np.array([x[0] * x[2] + x[4], x[1] * x[3]]),
        function=lambda x: (lambda a, b, c, *_: F.concatenate([a[:1] * b[:1] + c, a[1:] * b[1:]]))(*F.split(x, 2)))
    row("split", (normal(2, 4),), lambda x: x[:, 1:2] * x[:, 2:],
        "sizes", lambda x: F.split(x, [1, 0, 1, 2], axis=-1)[2] * F.split(x, [2, 2], axis=1)[1])
    row("embedding", (normal(4, 3), np.array([[2, 0, 2], [1, 2, 2]])),
        lambda w, i: np.array([[w[k] for k in z] for z in i]), function=lambda w, i: F.embedding(i, w), lists=False)
    row("embedding", (normal(4, 3), np.array([3, 0, 1])), lambda w, i: np.array([w[3], w[0], w[1]]),
        "distinct", lambda w, i: F.embedding(i, w), lists=False)

    def padded(x):
        y = np.full((1, 5, 6, 2), 0.5)
        y[:, 1:3, 3:5] = x
        return y
    row("pad", (normal(1, 2, 2, 2),), padded, border=(1, 2, 3, 1), value=0.5)
    row("pad", (normal(2, 3, 4, 2),), lambda x: D.reflect_pad(x, (2, 1, 0, 3)),
        "reflect", border=(2, 1, 0, 3), mode="reflect")


def activations():
    row("relu", (distinct(3, 4),), each(lambda a: a if a > 0 else 0))
    row("leaky_relu", (distinct(3, 4),), each(lambda a: a if a > 0 else 0.01 * a))
    row("leaky_relu", (distinct(3, 4),), each(lambda a: a if a > 0 else 0.2 * a), "negative_slope", negative_slope=0.2)
    row("elu", (distinct(3, 4),), each(lambda a: a if a > 0 else math.exp(a) - 1))
    row("elu", (distinct(3, 4),), each(lambda a: a if a > 0 else 0.7 * (math.exp(a) - 1)), "alpha", alpha=0.7)
    row("gelu", (2 * normal(3, 4),), each(lambda a: a * math.erfc(-a / math.sqrt(2)) / 2))
    row("sigmoid", (normal(3, 4),), each(D.sigmoid))
    row("tanh", (normal(3, 4),), each(math.tanh))
    row("softplus", (normal(3, 4),), each(lambda a: math.log(1 + math.exp(a))))
    row("softplus", (normal(3, 4),), each(lambda a: math.log(1 + math.exp(3 * a)) / 3), "beta", beta=3.0)
    row("softmax", (normal(3, 4),), D.softmax)
    row("softmax", (normal(2, 3, 2),), lambda x: D.softmax(x, 1), "axis", axis=1)
    row("log_softmax", (normal(3, 4),), lambda x: np.log(D.softmax(x)))
    row("log_softmax", (normal(2, 3, 2),), lambda x: np.log(D.softmax(x, 0)), "axis", axis=0)


def convolutions():
    x, w, b = normal(2, 4, 5, 2), normal(3, 2, 2, 3), normal(3)
    row("conv2d", (x, w, b), D.conv2d)
    row("conv2d", (x, w), D.conv2d, "no_bias")
    row("conv2d", (x, w, b), lambda x, w, b: D.conv2d(x, w, b, (2, 1), (1, 2)),
        "stride_padding", stride=(2, 1), padding=(1, 2))
    row("conv2d", (x, w, b), lambda x, w, b: each(lambda a: a if a > 0 else 0.1 * a)(D.conv2d(x, w, b)),
        "negative_slope", negative_slope=0.1)
    row("conv2d", (normal(1, 3, 3, 8), normal(2, 2, 8, 1)), D.conv2d, "thin")
    y, b = normal(2, 3, 2, 3), normal(2)
    row("conv_transpose2d", (y, w, b), D.conv_transpose2d)
    row("conv_transpose2d", (y, w), D.conv_transpose2d, "no_bias")
    row("conv_transpose2d", (y, w, b), lambda y, w, b: D.conv_transpose2d(y, w, b, (2, 3), (1, 0), (1, 2)),
        "stride_padding", stride=(2, 3), padding=(1, 0), output_padding=(1, 2))


def resampling():
    row("avg_pool2d", (normal(2, 4, 4, 2),), lambda x: D.pool(x, np.mean, (2, 2), (2, 2)), kernel_size=2)
    row("avg_pool2d", (normal(1, 5, 6, 2),), lambda x: D.pool(x, np.mean, (2, 3), (1, 2)),
        "stride", kernel_size=(2, 3), stride=(1, 2))
    row("max_pool2d", (distinct(2, 4, 5, 2),), lambda x: D.pool(x, np.max, (2, 2), (2, 2)), kernel_size=2)
    row("max_pool2d", (distinct(1, 5, 6, 2),), lambda x: D.pool(x, np.max, (3, 2), (1, 2)),
        "overlap", kernel_size=(3, 2), stride=(1, 2))
    row("avg_pool2d", (normal(2, 4, 5, 2),), lambda x: D.pool(np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))), np.mean,
                                                              (3, 2), (2, 1)),
        "padding", kernel_size=(3, 2), stride=(2, 1), padding=(1, 0))
    row("max_pool2d", (distinct(2, 4, 5, 2) - 3,), lambda x: D.pool(
        np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-9), np.max, (3, 3), (2, 2)),
        "padding", kernel_size=3, stride=2, padding=1)
    row("pixel_shuffle", (normal(1, 2, 3, 8),), lambda x: D.pixel_shuffle(x, 2), factor=2)
    row("pixel_shuffle", (normal(2, 1, 2, 9),), lambda x: D.pixel_shuffle(x, 3), "factor_3", factor=3)
    row("upsample", (normal(2, 2, 3, 2),), lambda x: D.upsample_nearest(x, 2), factor=2)
    row("upsample", (normal(1, 2, 3, 2),), lambda x: D.upsample_bilinear(x, 2), "bilinear", factor=2, mode="bilinear")
    row("upsample", (normal(1, 3, 1, 1),), lambda x: D.upsample_bilinear(x, 3), "bilinear_3", factor=3, mode="bilinear")
    row("gaussian_blur", (normal(1, 4, 5, 2),), lambda x: D.gaussian_blur(x, 3, 0.8), size=3, sigma=0.8)
    rows, columns = normal(2, 4), normal(5, 3)
    row("separable", (normal(2, 4, 3, 2),), lambda x: D.separable(x, rows, columns), rows=rows, columns=columns)


def normalizations():
    weight, bias = positive(3), normal(3)
    row("batch_norm", (normal(3, 2, 2, 3), weight, bias), lambda x, w, b: D.normalize(x, (0, 1, 2), w, b),
        function=lambda x, w, b: F.batch_norm(x, weight=w, bias=b, training=True))
    row("batch_norm", (normal(5, 3),), lambda x: D.normalize(x, 0, 1, 0, 0.01), "vectors", training=True, eps=0.01)
    row("batch_norm", (normal(2, 2, 1, 3), normal(3), positive(3), weight, bias),
        lambda x, m, v, w, b: (x - m) / np.sqrt(v + 1e-5) * w + b, "running", lists=False)
    row("instance_norm", (normal(2, 2, 3, 2),), lambda x: D.normalize(x, (1, 2), 1, 0))
    row("instance_norm", (normal(2, 3, 2, 3), weight, bias), lambda x, w, b: D.normalize(x, (1, 2), w, b, 0.1),
        "affine", eps=0.1)
    row("layer_norm", (normal(4, 3),), lambda x: D.normalize(x, 1, 1, 0), shape=3)
    row("layer_norm", (normal(2, 3, 2, 2), positive(2, 2), normal(2, 2)),
        lambda x, w, b: D.normalize(x, (2, 3), w, b, 0.1), "affine", lambda x, w, b: F.layer_norm(x, (2, 2), w, b, 0.1))

    row("layer_norm", (normal(2, 3, 4), positive(4), normal(4)), lambda x, w, b: D.normalize(x, -1, w, b),
        function=lambda x, w, b: F.layer_norm(x, 4, w, b))
    row("layer_norm", (normal(2, 3, 4),), lambda x: D.normalize(x, (1, 2), 1, 0, 0.1), "axes", shape=(3, 4), eps=0.1)

    def dropped(x):
        return x * (np.random.default_rng(5).random(x.shape) >= 0.3) / 0.7

    def drop(x):
        nn.manual_seed(5)
        return F.dropout(x, 0.3)
    row("dropout", (normal(4, 5),), dropped, function=drop)
    row("dropout", (normal(4, 5),), lambda x: x, "evaluation", p=0.3, training=False)


def losses():
    row("l1_loss", (distinct(2, 3), 3 + distinct(2, 3)), lambda x, t: sum(abs(x - t).reshape(-1).tolist()) / 6)
    row("mse_loss", (normal(2, 3), normal(2, 3)), lambda x, t: sum(((x - t) ** 2).reshape(-1).tolist()) / 6)
    row("binary_cross_entropy_with_logits", (normal(2, 3), unit(2, 3)), lambda x, t: np.mean(each(
        lambda a, c: -c * math.log(D.sigmoid(a)) - (1 - c) * math.log(1 - D.sigmoid(a)))(x, t)))
    row("l1_loss", (distinct(2, 3), 3 + distinct(2, 3)), lambda x, t: abs(x - t), "none", reduction="none")
    row("mse_loss", (normal(2, 3), normal(2, 3)), lambda x, t: sum(((x - t) ** 2).reshape(-1).tolist()), "sum",
        reduction="sum")
    row("binary_cross_entropy_with_logits", (normal(2, 3), unit(2, 3)), each(
        lambda a, c: -c * math.log(D.sigmoid(a)) - (1 - c) * math.log(1 - D.sigmoid(a))), "none", reduction="none")
    row("cross_entropy", (normal(2, 2, 3), np.array([[0, 2], [1, 1]])), lambda x, k: np.array(
        [[D.cross_entropy(x[i, j], k[i, j]) for j in range(2)] for i in range(2)]), "none", reduction="none")
    row("cross_entropy", (normal(3, 4), np.array([1, 3, 1])), lambda x, k: 3 * D.cross_entropy(x, k), "sum",
        reduction="sum")
    row("cross_entropy", (normal(3, 4), np.array([1, 3, 1])), D.cross_entropy)
    row("cross_entropy", (normal(2, 2, 3), np.array([[0, 2], [1, 1]])), D.cross_entropy, "pixels")
    row("ssim", (unit(1, 5, 6, 2), unit(1, 5, 6, 2)), lambda x, y: D.ssim(x, y, 3, 0.9),
        "small_window", window=3, sigma=0.9)
    row("ssim", (unit(1, 11, 12, 1), unit(1, 11, 12, 1)), D.ssim)


for _family in (arithmetic, reductions, shapes, activations, convolutions, resampling, normalizations, losses):
    _family()
