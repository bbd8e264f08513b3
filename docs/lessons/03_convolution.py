"""Convolution: its definition, a matrix product, the fast kernel; its derivatives; a new layer.

Each output pixel is the sum of the input pixels around it, each times a weight: a loop over seven
indices. Fast implementations do the same multiplications in an order that suits the machine. The
sum is linear in the image and linear in the weights, so its derivatives are sums of the same kind:
the three ops of nn/functional/conv.py.
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
    """Convolve x (N, H, W, C) with w (kh, kw, C, K) by seven loops: y (N, OH, OW, K)."""
    n, height, width, c = x.shape
    kh, kw, _, k = w.shape
    y = np.zeros((n, height - kh + 1, width - kw + 1, k), x.dtype)
    for b, i, j, f in np.ndindex(y.shape):
        for p, q, channel in itertools.product(range(kh), range(kw), range(c)):
            y[b, i, j, f] += x[b, i + p, j + q, channel] * w[p, q, channel, f]
    return y


def by_columns(x, w):
    """Convolve by one matrix product (im2col): the window of each output pixel becomes a row."""
    kh, kw, c, k = w.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))  # (N, OH, OW, C, kh, kw), a view
    rows = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * c)           # copies each pixel kh * kw times
    return (rows @ w.reshape(-1, k)).reshape(*windows.shape[:3], k)


class Maxout(nn.Function):
    """y[..., k] = max(x[..., 2k], x[..., 2k + 1]) (Goodfellow 2013), solves the exercise."""

    def forward(self, x):
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        y = pairs.max(axis=-1)
        self.largest = (pairs == y[..., None]).reshape(x.shape).astype(x.dtype)  # a constant in backward
        return y

    def backward(self, gy):
        twice = F.concatenate([gy.reshape(*gy.shape, 1)] * 2, axis=-1)  # (..., K, 2); arrays and Tensors
        return twice.reshape(self.largest.shape) * self.largest


def stripes(count, rng):
    """Return noisy images of stripes (count, 16, 16, 1) and their directions (count,), integers."""
    label = rng.integers(CLASSES, size=count)
    angle, shift = np.pi * label / CLASSES, rng.uniform(0, 2 * np.pi, count)
    row, column = np.mgrid[:16, :16]
    wave = np.cos(np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column + shift[:, None, None])
    return (wave + rng.normal(0, 1.0, wave.shape))[..., None].astype(np.float32), label


def accuracy(activation, channels, steps):
    """Train a classifier of stripes and return its accuracy on new images.

    activation: follows the convolution, which has `channels` output channels
    """
    nn.manual_seed(0)
    rng = np.random.default_rng(0)
    network = nn.Sequential(nn.Conv2d(1, channels, 5, padding=2), activation, nn.AvgPool2d(16), nn.Flatten(),
                            nn.Linear(8, CLASSES))
    optimizer = nn.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        x, label = stripes(32, rng)
        optimizer.zero_grad()
        F.cross_entropy(network(x), label).backward()
        optimizer.step()
    x, label = stripes(1000, rng)
    return float((network(x).numpy().argmax(1) == label).mean())


def cost_of(function, x, w):
    """Return the time per multiplication of function(x, w) in ns, the shortest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        y = function(x, w)
        times.append(time.perf_counter() - start)
    return 1e9 * min(times) / (y.size * w[..., 0].size)


def experiment(fast=False):
    """Return the time per multiplication of each implementation, their largest difference, the
    three adjoint sums, and the accuracy with and without Maxout."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 12, 12, 4), (5, 5, 4, 8)))
    big_x, big_w = (rng.standard_normal(shape).astype(np.float32)
                    for shape in ((4 if fast else 16, 36, 36, 32), (5, 5, 32, 64)))
    expected = by_definition(x, w)
    cost = {"definition, in Python": cost_of(by_definition, x, w)}
    errors = {"columns": np.abs(by_columns(x, w) - expected).max()}
    cost["columns (im2col)"] = cost_of(by_columns, big_x, big_w)
    for kernels in ("plain", "fast"):
        with nn.use_kernels(kernels):
            errors[kernels] = np.abs(F.conv2d(x, w) - expected).max()
            cost[f"{kernels} kernel"] = cost_of(F.conv2d, big_x, big_w)
    y = rng.standard_normal(expected.shape).astype(np.float32)
    image_gradient, weight_gradient = nn.grad(F.conv2d(a := nn.Tensor(x, True), b := nn.Tensor(w, True)), [a, b], y)
    sums = {"<conv(x, w), y>": (expected * y).sum(), "<x, conv_transpose(y, w)>": (x * F.conv_transpose2d(y, w)).sum(),
            "<w, weight gradient(x, y)>": (w * weight_gradient.numpy()).sum()}
    checked = nn.gradcheck(Maxout.apply, [rng.standard_normal((2, 3, 4))], order=2)
    steps = 60 if fast else 300
    return {"cost": cost, "error": max(errors.values()), "sums": {name: float(value) for name, value in sums.items()},
            "transpose": float(np.abs(image_gradient.numpy() - F.conv_transpose2d(y, w)).max()), "checked": checked,
            "accuracy": {"maxout": accuracy(Maxout.apply, 16, steps), "none": accuracy(lambda x: x, 8, steps)}}


def image(found):
    """Plot the time per multiplication of each implementation."""
    drawing = chart.figure(9, 3.2)
    axes = drawing.subplots()
    names, values = list(found["cost"]), list(found["cost"].values())
    bars = axes.barh(names, values, color=[chart.GRAY, chart.ORANGE, chart.GREEN, chart.BLUE])
    axes.bar_label(bars, [f"{value:,.0f} ns" if value > 100 else f"{value:.2g} ns" for value in values], padding=4)
    axes.set(xscale="log", xlabel="nanoseconds per multiplication and addition", title="one convolution, four ways")
    axes.invert_yaxis()
    axes.margins(x=0.2)
    return chart.pixels(drawing)


def claim(found):
    cost, correct = found["cost"], found["accuracy"]
    sums = ", ".join(f"{name} = {value:.3f}" for name, value in found["sums"].items())
    return (f"The fast kernel needs {cost['fast kernel']:.3f} ns per multiplication, the definition in Python "
            f"{cost['definition, in Python'] / cost['fast kernel']:,.0f} times as much; they differ by "
            f"{found['error']:.1e} at most.\n"
            f"One sum, three ways: {sums}.\n"
            f"Maxout passes the gradient check and classifies {correct['maxout']:.0%} of the stripes correctly; "
            f"without it the network classifies {correct['none']:.0%}.")


if __name__ == "__main__":
    lesson.run(globals())
