"""Convolution: the definition, the same as one matrix product, and the fast kernel; its three derivatives; a layer of one's own.

Every output pixel is the sum of the input pixels around it, each times a weight: a loop over seven indices. All the rest is
about doing those same multiplications in an order that suits the machine. And since the sum is linear in the picture and
linear in the weights, its derivatives are sums of the same kind: the three ops of nn/functional/conv.py.
"""
import lesson  # first: it puts the project on the path

import itertools
import time

import numpy as np

import nn
import nn.functional as F
from gan.monitor import chart

CLASSES = 4  # directions of stripes


def by_definition(x, w):
    """x (N, H, W, C), w (kh, kw, C, K) -> y (N, OH, OW, K), number by number."""
    n, h, wide, c = x.shape
    kh, kw, _, k = w.shape
    y = np.zeros((n, h - kh + 1, wide - kw + 1, k), x.dtype)
    for b, i, j, f in np.ndindex(y.shape):
        for p, q, channel in itertools.product(range(kh), range(kw), range(c)):
            y[b, i, j, f] += x[b, i + p, j + q, channel] * w[p, q, channel, f]
    return y


def by_columns(x, w):
    """The same as one matrix product (im2col): each output pixel's surroundings become a row."""
    kh, kw, c, k = w.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))  # (N, OH, OW, C, kh, kw), no copy yet
    rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * c)           # here: each pixel is copied kh * kw times
    return (rows @ w.reshape(-1, k)).reshape(*windows.shape[:3], k)


class Maxout(nn.Function):
    """y[..., k] = the larger of x[..., 2k] and x[..., 2k + 1] (Goodfellow 2013): half the channels. The worked exercise."""

    def forward(self, x):
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        y = pairs.max(axis=-1)
        self.largest = (pairs == y[..., None]).reshape(x.shape).astype(x.dtype)  # constant in backward: an attribute
        return y

    def backward(self, gy):
        twice = F.concatenate([gy.reshape(*gy.shape, 1)] * 2, axis=-1)  # (..., K, 2), for arrays and Tensors alike
        return twice.reshape(self.largest.shape) * self.largest


def stripes(count, rng):
    """Noisy pictures of stripes in one of CLASSES directions: (count, 16, 16, 1), (count,)."""
    label = rng.integers(CLASSES, size=count)
    angle, shift = np.pi * label / CLASSES, rng.uniform(0, 2 * np.pi, count)
    row, column = np.mgrid[:16, :16]
    wave = np.cos(np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column + shift[:, None, None])
    return (wave + rng.normal(0, 1.0, wave.shape))[..., None].astype(np.float32), label


def trained(bend, channels, steps):
    """Share of new stripes told rightly by a network with `bend` after its convolution, which has so many channels."""
    nn.manual_seed(0)
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Conv2d(1, channels, 5, padding=2), bend, nn.AvgPool2d(16), nn.Flatten(), nn.Linear(8, CLASSES))
    optimizer = nn.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        x, label = stripes(32, rng)
        optimizer.zero_grad()
        F.cross_entropy(network(x), label).backward()
        optimizer.step()
    x, label = stripes(1000, rng)
    return float((network(x).numpy().argmax(1) == label).mean())


def cost_of(function, x, w):
    """Nanoseconds for each multiplication of function(x, w), in the shortest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        y = function(x, w)
        times.append(time.perf_counter() - start)
    return 1e9 * min(times) / (y.size * w[..., 0].size)


def experiment(fast=False):
    """Nanoseconds for each multiplication, how far the ways differ, the three adjoint sums, and the trained Maxout."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 12, 12, 4), (5, 5, 4, 8)))
    big_x, big_w = (rng.standard_normal(shape).astype(np.float32) for shape in ((4 if fast else 16, 36, 36, 32), (5, 5, 32, 64)))
    right = by_definition(x, w)
    cost = {"definition, in Python": cost_of(by_definition, x, w)}
    far = {"columns": np.abs(by_columns(x, w) - right).max()}
    cost["columns (im2col)"] = cost_of(by_columns, big_x, big_w)
    for kernels in ("plain", "fast"):
        with nn.use_kernels(kernels):
            far[kernels] = np.abs(F.conv2d(x, w) - right).max()
            cost[f"{kernels} kernel"] = cost_of(F.conv2d, big_x, big_w)
    y = rng.standard_normal(right.shape).astype(np.float32)
    picture_gradient, weight_gradient = nn.grad(F.conv2d(a := nn.Tensor(x, True), b := nn.Tensor(w, True)), [a, b], y)
    sums = {"<conv(x, w), y>": (right * y).sum(), "<x, conv_transpose(y, w)>": (x * F.conv_transpose2d(y, w)).sum(),
            "<w, weight gradient(x, y)>": (w * weight_gradient.numpy()).sum()}
    checked = nn.gradcheck(Maxout.apply, [rng.standard_normal((2, 3, 4))], order=2)
    steps = 60 if fast else 300
    return {"cost": cost, "far": max(far.values()), "sums": {name: float(value) for name, value in sums.items()},
            "transpose": float(np.abs(picture_gradient.numpy() - F.conv_transpose2d(y, w)).max()), "checked": checked,
            "right": {"maxout": trained(Maxout.apply, 16, steps), "none": trained(lambda x: x, 8, steps)}}


def picture(found):
    """The cost of one multiplication, each way."""
    drawing = chart.figure(9, 3.2)
    axes = drawing.subplots()
    bars = axes.barh(list(found["cost"]), list(found["cost"].values()), color=[chart.GREY, chart.ORANGE, chart.GREEN, chart.BLUE])
    axes.bar_label(bars, [f"{value:,.0f} ns" if value > 100 else f"{value:.2g} ns" for value in found["cost"].values()], padding=4)
    axes.set(xscale="log", xlabel="nanoseconds for each multiplication and addition", title="one convolution, four ways")
    axes.invert_yaxis()
    axes.margins(x=0.2)
    return chart.pixels(drawing)


def claim(found):
    cost, right = found["cost"], found["right"]
    sums = ", ".join(f"{name} = {value:.3f}" for name, value in found["sums"].items())
    return (f"The fast kernel needs {cost['fast kernel']:.3f} ns for each multiplication, the definition in Python "
            f"{cost['definition, in Python'] / cost['fast kernel']:,.0f} times as much; they differ by {found['far']:.1e} at most.\n"
            f"One sum, three ways: {sums}.\n"
            f"Maxout passes the gradient check and tells {right['maxout']:.0%} of the stripes rightly; without it the "
            f"network tells {right['none']:.0%}.")


if __name__ == "__main__":
    lesson.run(globals())
