"""Gradients: the graph of a small expression, the gradient at each node, and how to check it.

What does backward() do? It walks the graph from the output to the inputs and multiplies derivatives
(the chain rule). How can you be sure that the result is correct? Move an input by a small eps to
either side and see how the output changes (central differences). How small should eps be? The
curves in the image answer that.
"""
import lesson  # first: it puts the project on the path

import math
import time

import numpy as np

import looks
import nn
import nn.functional as F

STEPS = np.logspace(-12, 0, 97)  # eps, from far too small to far too large
ADVISED = 1e-4  # eps in the UFLDL tutorial
POINT = {"x": 0.8, "w": -0.5, "b": 0.9}
UNIT = {"float64": 2.0 ** -53, "float32": 2.0 ** -24}  # relative rounding error


# %% A number that remembers where it came from: automatic differentiation in twenty lines
class Number:
    """A number with a gradient. sources: pairs (Number it depends on, derivative)."""

    def __init__(self, value, sources=(), name=""):
        self.value, self.sources, self.name, self.gradient = value, sources, name, 0.0

    def __add__(self, other):
        return Number(self.value + other.value, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Number(self.value * other.value, [(self, other.value), (other, self.value)])

    def tanh(self):
        value = math.tanh(self.value)
        return Number(value, [(self, 1 - value ** 2)])

    def backward(self):
        """Add d(self)/d(n) to n.gradient of every Number n that self depends on."""
        order = in_order(self, [])
        self.gradient = 1.0
        for number in reversed(order):  # a Number comes after all that depend on it
            for source, derivative in number.sources:
                source.gradient += number.gradient * derivative


def in_order(number, order):
    """Append to `order` all Numbers that `number` depends on, sources first; return it."""
    if number not in order:
        for source, _ in number.sources:
            in_order(source, order)
        order.append(number)
    return order


def expression(x, w, b):
    """Compute y = tanh(x*w + b) * x; return all intermediate results as {name: Number}."""
    product = x * w
    total = product + b
    activated = total.tanh()
    nodes = {"x": x, "w": w, "b": b, "x w": product, "x w + b": total, "tanh": activated, "y": activated * x}
    for name, number in nodes.items():
        number.name = name
    return nodes


# %% The check: central differences
def y_of(x):
    """Compute the same expression as a function of x, in x's dtype."""
    w, b = x.dtype.type(POINT["w"]), x.dtype.type(POINT["b"])
    return F.tanh(x * w + b) * x


def difference(function, x, eps, dtype=np.float64, central=True):
    """Approximate the derivative of function at x by a finite difference, computed in dtype."""
    x, eps = dtype(x), dtype(eps)
    if central:
        return float((function(x + eps) - function(x - eps)) / (2 * eps))
    return float((function(x + eps) - function(x)) / eps)


def gradient(function, x):
    """Return the derivative of function at x, by nn."""
    x = nn.Tensor(np.float64(x), requires_grad=True)
    return nn.grad(function(x), [x])[0].item()


def digits(got, expected):
    """Return the number of correct decimal digits."""
    return float(-np.log10(max(abs(got - expected) / abs(expected), 1e-16)))


class WrongSwish(nn.Function):
    """y = x * sigmoid(x), with a wrong derivative: a term of the product rule is missing."""

    def forward(self, x):
        self.save_for_backward(x)
        return x * F.sigmoid(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * F.sigmoid(x)


# %% The experiment
def experiment(fast=False):
    """Return the graph, the correct digits of differences, and gradcheck's error message."""
    nodes = expression(*(Number(value) for value in POINT.values()))
    nodes["y"].backward()
    dy_dx, steps = gradient(y_of, POINT["x"]), STEPS[::8 if fast else 1]
    kinds = {"float64, central": (np.float64, True), "float64, one-sided": (np.float64, False),
             "float32, central": (np.float32, True)}
    curves = {name: [digits(difference(y_of, POINT["x"], eps, *kind), dy_dx) for eps in steps]
              for name, kind in kinds.items()}
    try:
        error_message = str(nn.gradcheck(WrongSwish.apply, [np.array([0.3, 1.2])]))
    except AssertionError as error:
        error_message = str(error)
    return {"nodes": nodes, "dy_dx": dy_dx, "digits": curves, "steps": steps, "error_message": error_message,
            "at_advised": {name: digits(difference(y_of, POINT["x"], ADVISED, *kind), dy_dx)
                           for name, kind in kinds.items()}}


def best_eps(kind):
    """Return eps at which the errors by rounding, u / eps, and by the curve's bend are equal."""
    u = UNIT[kind.split(",")[0]]
    return (3 * u) ** (1 / 3) if "central" in kind else u ** (1 / 2)


def images(found):
    """Draw the graph, and plot the digits."""
    graph = looks.figure(8, 3.4)
    axes = graph.subplots()
    position = {"x": (0, 1), "w": (0, -0.1), "b": (1.05, -0.75), "x w": (1.05, 0.3), "x w + b": (2.1, 0),
                "tanh": (3.1, 0), "y": (4.1, 0.7)}
    for name, number in found["nodes"].items():
        x, y = position[name]
        axes.text(x, y - 0.06, f"{name}\n{number.value:.4f}", ha="center", va="bottom", zorder=3)
        axes.text(x, y - 0.06, f"{number.gradient:.4f}", ha="center", va="top", zorder=3, color=looks.DISCRIMINATOR,
                  fontweight="bold")
        axes.plot(*position[name], "s", markersize=44, color=looks.fill(), markeredgecolor=looks.NEUTRAL, zorder=2)
        for source, derivative in number.sources:
            start, end = np.array(position[source.name]), np.array(position[name])
            inwards = 0.26 * (end - start) / np.linalg.norm(end - start)
            axes.annotate("", start + inwards, end - inwards, arrowprops={
                "arrowstyle": "-|>", "color": looks.DISCRIMINATOR, "linestyle": "--"})
            axes.text(*(start + end) / 2 + np.array([0, 0.07]), f"× {derivative:.3g}", ha="center", fontsize=8,
                      color=looks.DISCRIMINATOR)
    axes.set(xlim=(-0.4, 4.5), ylim=(-1.2, 1.5))
    axes.set_title("black: values, computed forward; blue: dy/d(node), computed backward along the arrows")
    axes.axis("off")
    curves = looks.figure(8, 3.2)
    axes = curves.subplots()
    for (name, correct), color in zip(found["digits"].items(), (looks.DISCRIMINATOR, looks.REAL, looks.GENERATED)):
        axes.plot(found["steps"], correct, color=color, label=name)
        axes.axvline(best_eps(name), color=color, linestyle=":", linewidth=1)
    axes.axvline(ADVISED, color=looks.NEUTRAL, linestyle="--", linewidth=1, label=f"eps = {ADVISED:g}")
    axes.set(xscale="log", xlabel="eps", ylabel="correct digits of dy/dx", ylim=(0, None))
    axes.set_title("left of the dotted lines rounding dominates, right of them the bend of the curve")
    axes.grid(alpha=0.3)
    axes.legend()
    return {"graph": graph, "digits": curves}


def claim(found):
    at, x = found["at_advised"], found["nodes"]["x"]
    best = ", ".join(f"{name} {eps:.0e}" for name, eps in zip(found["digits"], map(best_eps, found["digits"])))
    return (f"dy/dx = {x.gradient:.4f} by twenty lines, {found['dy_dx']:.4f} by nn.\n"
            f"With eps = {ADVISED:g}, central differences confirm {at['float64, central']:.1f} digits of it in "
            f"float64, {at['float32, central']:.1f} in float32; one-sided ones {at['float64, one-sided']:.1f}.\n"
            f"Predicted best eps: {best}.\n"
            f"The wrong derivative is rejected: {found['error_message']}")


# %% What would happen if ...
def if_tiny_eps(fast=False):
    """... eps were 1e-20?"""
    value = difference(y_of, POINT["x"], 1e-20)
    return {"value": value, "answer": f"The difference is {value}: x + eps and x - eps are the same float64 number."}


def if_line(fast=False):
    """... the expression were linear in x, x * w + b?"""
    errors = {eps: abs(difference(lambda x: x * POINT["w"] + POINT["b"], POINT["x"], eps) - POINT["w"])
              for eps in (1.0, 1e-4, 1e-8)}
    shown = ", ".join(f"{error:.0e} at eps = {eps:g}" for eps, error in errors.items())
    return {"errors": errors, "answer": f"A line has no bend, so the largest eps is the best. Errors: {shown}."}


def if_kink(fast=False):
    """... the point were at a kink, like that of F.relu at 0?"""
    slopes = {"to the left": difference(F.relu, 0, -1e-6, central=False),
              "to the right": difference(F.relu, 0, 1e-6, central=False), "central": difference(F.relu, 0, 1e-6)}
    shown = ", ".join(f"{name} {value + 0:.3g}" for name, value in slopes.items())
    return slopes | {"nn": gradient(F.relu, 0), "answer": (
        f"There is no derivative. Differences: {shown}, the mean of both. nn returns {gradient(F.relu, 0):g}, one of "
        "the two. So keep the inputs of a gradient check away from kinks.")}


def if_third(fast=False):
    """... x were used a third time, tanh(x*w + b) * x * x?"""
    nodes = expression(*(Number(value) for value in POINT.values()))
    y = nodes["y"] * nodes["x"]
    y.backward()
    slope = 1 - nodes["tanh"].value ** 2
    x, w, tanh = nodes["x"].value, nodes["w"].value, nodes["tanh"].value
    paths = [x * x * slope * w, x * tanh, x * tanh]
    checked = difference(lambda x: y_of(x) * x, POINT["x"], 1e-5)
    return {"gradient": nodes["x"].gradient, "paths": paths, "checked": checked, "answer": (
        "Three paths lead from y to x, and their products add up: "
        f"{' + '.join(f'{path:.4f}' for path in paths)} = {nodes['x'].gradient:.4f}; a difference gives "
        f"{checked:.4f}.")}


def if_many(fast=False):
    """... there were a thousand inputs instead of three?"""
    n = 100 if fast else 1000
    w = nn.Tensor(np.random.default_rng(0).standard_normal(n), requires_grad=True)

    def loss(w):
        return F.sum(F.tanh(w) * w)

    start = time.perf_counter()
    (backward,) = nn.grad(loss(w), [w])
    middle, eps = time.perf_counter(), 1e-6
    central = np.array([(loss(w.data + eps * unit) - loss(w.data - eps * unit)) / (2 * eps) for unit in np.eye(n)])
    times = middle - start, time.perf_counter() - middle
    error = float(np.abs(central.ravel() - backward.numpy()).max())
    return {"evaluations": 2 * n, "error": error, "times": times, "answer": (
        f"Differences need {2 * n} forward passes, backward() one walk for all {n} gradients: "
        f"{1000 * times[1]:.0f} ms against {1000 * times[0]:.1f} ms here. They differ by {error:.0e} at most.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
