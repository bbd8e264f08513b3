"""Convolution: its definition, a matrix product, the fast kernel; its derivatives; a new layer.

Each output pixel is the sum of the input pixels around it, each times a weight: a loop over seven
indices. Fast implementations do the same multiplications in an order that suits the machine. The
sum is linear in the image and linear in the weights, so its derivatives are sums of the same kind:
the three ops of nn/functional/conv.py.
"""
import lesson  # first: it puts the project on the path

import itertools
import time

import matplotlib.cbook
import numpy as np
from PIL import Image

import drawings
import looks
import nn
import nn.functional as F

CLASSES = 4  # directions of stripes
KERNELS = {  # rows of weights, for a gray photo
    "blur": np.full((5, 5), 1 / 25), "vertical edges": np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "horizontal edges": np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
    "sharpen": np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])}


# %% One operation in three ways


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


# %% A layer of your own
class Maxout(nn.Function):
    """y[..., k] = max(x[..., 2k], x[..., 2k + 1]) (Goodfellow 2013), solves the exercise."""

    def forward(self, x):
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        y = self.best(pairs)
        largest = (pairs == y[..., None]).astype(x.dtype)
        largest /= largest.sum(axis=-1, keepdims=True)  # where both are equal, each gets half of the gradient
        self.share = largest.reshape(x.shape)  # a constant in backward
        return y

    def best(self, pairs):
        return pairs.max(axis=-1)

    def backward(self, gy):
        twice = F.concatenate([gy.reshape(*gy.shape, 1)] * 2, axis=-1)  # (..., K, 2); arrays and Tensors
        return twice.reshape(self.share.shape) * self.share


class Minout(Maxout):
    """y[..., k] = min(x[..., 2k], x[..., 2k + 1])"""

    def best(self, pairs):
        return pairs.min(axis=-1)


class WrongMaxout(Maxout):
    """Maxout whose backward forgets which of the two channels was larger."""

    def backward(self, gy):
        return F.concatenate([gy.reshape(*gy.shape, 1)] * 2, axis=-1).reshape(self.share.shape)


def stripes(count, rng):
    """Return noisy images of stripes (count, 16, 16, 1) and their directions (count,), integers."""
    label = rng.integers(CLASSES, size=count)
    angle, shift = np.pi * label / CLASSES, rng.uniform(0, 2 * np.pi, count)
    row, column = np.mgrid[:16, :16]
    wave = np.cos(np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column + shift[:, None, None])
    return (wave + rng.normal(0, 1.0, wave.shape))[..., None].astype(np.float32), label


def train(activation, channels, steps, kernel_size=5):
    """Train a classifier of stripes; return (its accuracy on new images, its filters).

    activation: follows the convolution, which has `channels` output channels
    """
    nn.manual_seed(0)
    rng = np.random.default_rng(0)
    convolution = nn.Conv2d(1, channels, kernel_size, padding=kernel_size // 2)
    network = nn.Sequential(convolution, activation, nn.AvgPool2d(16), nn.Flatten(), nn.Linear(8, CLASSES))
    optimizer = nn.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        x, label = stripes(32, rng)
        optimizer.zero_grad()
        F.cross_entropy(network(x), label).backward()
        optimizer.step()
    x, label = stripes(1000, rng)
    return float((network(x).numpy().argmax(1) == label).mean()), convolution.weight.numpy()[:, :, 0].transpose(2, 0, 1)


# %% The experiment
def photograph():
    """Return a gray photograph that comes with matplotlib, (H, W) float32, 0..1."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("L").resize((256, 300)), np.float32)[30:230] / 255


def filtered(photo, kernel):
    """Convolve a photo (H, W) with a kernel (k, k)."""
    return F.conv2d(photo[None, :, :, None], kernel[:, :, None, None].astype(np.float32))[0, :, :, 0]


def big_arrays(batch, side=36):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((batch, side, side, 32), (5, 5, 32, 64))]


def cost_of(function, x, w):
    """Return the time per multiplication of function(x, w) in ns, the shortest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        y = function(x, w)
        times.append(time.perf_counter() - start)
    return 1e9 * min(times) / (y.size * w[..., 0].size)


def experiment(fast=False):
    """Return filtered photos, the time per multiplication of each implementation, their largest
    difference, the three adjoint sums, and the accuracy with and without Maxout."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((1, 12, 12, 4), (5, 5, 4, 8)))
    big_x, big_w = big_arrays(4 if fast else 16)
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
    trained, photo = train(Maxout.apply, 16, steps), photograph()
    return {"photo": photo, "filtered": {name: filtered(photo, kernel) for name, kernel in KERNELS.items()},
            "cost": cost, "error": max(errors.values()), "sums": {name: float(value) for name, value in sums.items()},
            "transpose": float(np.abs(image_gradient.numpy() - F.conv_transpose2d(y, w)).max()), "checked": checked,
            "accuracy": {"maxout": trained[0], "none": train(lambda x: x, 8, steps)[0]}, "filters": trained[1],
            "stripes": stripes(64, np.random.default_rng(3))}


def images(found):
    """Show the photo times each kernel, and the learned filters; draw a U-Net."""
    photo = looks.figure(8, 3.3)
    panels = photo.subplots(2, 5, height_ratios=(1, 2.4))
    for (above, below), (name, result) in zip(panels.T, [("the photo", found["photo"]), *found["filtered"].items()]):
        above.axis("off")
        if name in KERNELS:
            kernel = KERNELS[name]
            above.imshow(kernel, cmap="gray", vmin=-1.2 * abs(kernel).max(), vmax=1.2 * abs(kernel).max())
            if kernel.min() == kernel.max():
                above.text(2, 2, "all 1/25", ha="center", va="center", fontsize=7, color="black")
            else:
                for i, j in np.ndindex(kernel.shape):
                    above.text(j, i, f"{kernel[i, j]:g}", ha="center", va="center", fontsize=7,
                               color="white" if kernel[i, j] < 0 else "black")
        edges = "edges" in name
        below.imshow(result, cmap="gray", vmin=-1.5 if edges else 0, vmax=1.5 if edges else 1)
        below.set_title(name)
        below.axis("off")
    learned = looks.figure(8, 2.3)
    panels = learned.subplots(2, 8)
    x, label = found["stripes"]
    for k, axes in enumerate(panels[0]):
        axes.imshow(x[label == k // 2][k % 2, :, :, 0], cmap="gray")
    for axes, kernel in zip(panels[1], found["filters"]):
        axes.imshow(kernel, cmap="gray", vmin=-abs(kernel).max(), vmax=abs(kernel).max())
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])
    panels[0, 0].set_ylabel("stripes")
    panels[1, 0].set_ylabel("8 of the\n16 filters")
    return {"photo": photo, "filters": learned, "u_net": drawings.u_net()}


def claim(found):
    cost, correct = found["cost"], found["accuracy"]
    sums = ", ".join(f"{name} = {value:.3f}" for name, value in found["sums"].items())
    shown = ", ".join(f"{name} {value:,.0f}" if value > 100 else f"{name} {value:.2g}" for name, value in cost.items())
    return (f"Nanoseconds per multiplication: {shown}. The first needs "
            f"{cost['definition, in Python'] / cost['fast kernel']:,.0f} times as much as the last; they differ by "
            f"{found['error']:.1e} at most.\n"
            f"One sum, three ways: {sums}.\n"
            f"Maxout passes the gradient check and classifies {correct['maxout']:.0%} of the stripes correctly; "
            f"without it the network classifies {correct['none']:.0%}.")


# %% What would happen if ...
def if_min(fast=False):
    """... you took the minimum of the two channels instead of the maximum?"""
    found = {name: train(layer.apply, 16, 60 if fast else 300)[0] for name, layer in
             (("maximum", Maxout), ("minimum", Minout))}
    return found | {"answer": f"Accuracy with the maximum {found['maximum']:.0%}, with the minimum "
                              f"{found['minimum']:.0%}. min(a, b) = -max(-a, -b), and weights can change their signs."}


def if_forgot(fast=False):
    """... backward forgot which of the two channels was larger?"""
    x = np.random.default_rng(0).standard_normal((1, 2, 4))
    try:
        message = f"passed: {nn.gradcheck(WrongMaxout.apply, [x])}"
    except AssertionError as error:
        message = str(error)
    return {"message": message, "answer": f"The check names the input and the index. {message}"}


def if_ties(fast=False):
    """... both channels were equal?"""
    x = nn.Tensor(np.ones((1, 2)), requires_grad=True)
    own = nn.grad(Maxout.apply(x), [x], np.ones((1, 1)))[0].numpy().ravel()
    a, b = nn.Tensor(np.ones(1), True), nn.Tensor(np.ones(1), True)
    library = np.array([each.item() for each in nn.grad(F.maximum(a, b), [a, b], np.ones(1))])
    return {"own": own, "library": library, "answer": (
        f"Maxout gives the two channels {own[0]:g} and {own[1]:g} of the gradient, F.maximum {library[0]:g} and "
        f"{library[1]:g}. Any division whose sum is 1 would do; only counting both in full would be wrong.")}


def if_one_pixel(fast=False):
    """... the kernel were 1 x 1?"""
    correct = train(Maxout.apply, 16, 60 if fast else 300, kernel_size=1)[0]
    return {"accuracy": correct, "answer": (
        f"Accuracy {correct:.0%}; guessing gives {1 / CLASSES:.0%}. A single pixel has no direction.")}


def if_larger(fast=False):
    """... the image were twice as large?"""
    sides = (20, 36) if fast else (36, 68)
    costs = [cost_of(F.conv2d, *big_arrays(2, side)) for side in sides]
    return {"costs": costs, "answer": (
        f"{costs[0]:.3f} ns per multiplication at {sides[0]} pixels, {costs[1]:.3f} ns at {sides[1]}: the price stays "
        f"about the same, their number grows {((sides[1] - 4) / (sides[0] - 4)) ** 2:.0f}-fold.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
