"""Gradients: the graph of a small expression, the gradient at each node, and how to check it.

What does backward() do? It walks the graph from the output to the inputs and multiplies derivatives
(the chain rule). How can you be sure that the result is correct? Move an input by a small eps to
either side and see how the output changes (central differences). How small should eps be? The
curves in the image answer that.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
import nn.functional as F
from gan.monitor import chart
from nn.tensor import Function, topological_order

STEPS = np.logspace(-12, 0, 97)  # eps, from far too small to far too large
ADVISED = 1e-4  # eps in the UFLDL tutorial


def expression(x, w, b):
    """Compute y = tanh(x*w + b) * x; return all intermediate results as {name: Tensor}."""
    product = x * w
    total = product + b
    activated = F.tanh(total)
    return {"x": x, "w": w, "b": b, "x w": product, "x w + b": total, "tanh": activated, "y": activated * x}


class WrongSwish(nn.Function):
    """y = x * sigmoid(x), with a wrong derivative: a term of the product rule is missing."""

    def forward(self, x):
        self.save_for_backward(x)
        return x * F.sigmoid(x)

    def backward(self, gy):
        (x,) = self.saved
        return gy * F.sigmoid(x)


def difference(function, x, eps, dtype, central=True):
    """Approximate the derivative of function at x by a finite difference, computed in dtype."""
    x, eps = dtype(x), dtype(eps)
    if central:
        return float((function(x + eps) - function(x - eps)) / (2 * eps))
    return float((function(x + eps) - function(x)) / eps)


def digits(got, expected):
    """Return the number of correct decimal digits."""
    return float(-np.log10(max(abs(got - expected) / abs(expected), 1e-16)))


def experiment(fast=False):
    """Return the graph, the correct digits of differences, and gradcheck's error message."""
    nodes = expression(*(nn.Tensor(np.float64(v), requires_grad=True) for v in (0.8, -0.5, 0.9)))
    gradients = nn.grad(nodes["y"], list(nodes.values())[:-1], retain_graph=True)
    values = {name: (tensor.item(), gradient.item()) for (name, tensor), gradient in zip(nodes.items(), gradients)}
    values["y"] = nodes["y"].item(), 1.0

    def y_of(x):
        w, b = x.dtype.type(-0.5), x.dtype.type(0.9)
        return F.tanh(x * w + b) * x

    dy_dx, steps = values["x"][1], STEPS[::8 if fast else 1]
    curves = {name: [digits(difference(y_of, 0.8, eps, dtype, central), dy_dx) for eps in steps]
              for name, dtype, central in (("float64, central", np.float64, True),
                                           ("float64, one-sided", np.float64, False),
                                           ("float32, central", np.float32, True))}
    try:
        error_message = str(nn.gradcheck(WrongSwish.apply, [np.array([0.3, 1.2])]))
    except AssertionError as error:
        error_message = str(error)
    at_advised = {name: digits(difference(y_of, 0.8, ADVISED, dtype, central), dy_dx)
                  for name, dtype, central in (("float64", np.float64, True), ("float32", np.float32, True),
                                               ("one-sided", np.float64, False))}
    return {"values": values, "edges": edges_of(nodes), "digits": curves, "steps": steps, "at_advised": at_advised,
            "error_message": error_message}


def edges_of(nodes):
    """Return the graph's edges [(from, to)] by name, from the Functions that backward() walks."""
    names = {tensor.creator or tensor: name for name, tensor in nodes.items()}
    return [(names[edge], names[function]) for function in topological_order(nodes["y"].creator)
            for edge in function.edges if isinstance(edge, (Function, nn.Tensor))]


def image(found):
    """Plot the graph (top) and the digits (bottom)."""
    drawing = chart.figure(9, 7.5)
    above, below = drawing.subplots(2, height_ratios=(1, 1.3))
    position = {"x": (0, 1), "w": (0, 0), "b": (1, -0.6), "x w": (1, 0.3), "x w + b": (2, 0), "tanh": (3, 0),
                "y": (4, 0.6)}
    boxes = {}
    for name, (value, gradient) in found["values"].items():
        style = {"boxstyle": "round,pad=0.4", "facecolor": "#e9f1fa" if name in "xwb" else "#fdf1dc",
                 "edgecolor": chart.GRAY}
        text = above.text(*position[name], f"{name}\n{value:.4f}\ndy/d = {gradient:.4f}", ha="center", va="center",
                          bbox=style)
        boxes[name] = text.get_bbox_patch()
    for source, target in found["edges"]:
        above.annotate("", position[target], position[source], arrowprops={
            "arrowstyle": "-|>", "color": chart.GRAY, "patchA": boxes[source], "patchB": boxes[target],
            "shrinkA": 0, "shrinkB": 0})
    above.set(xlim=(-0.6, 4.6), ylim=(-1.15, 1.5),
              title="forward along the arrows: values; backward against them: gradients")
    above.axis("off")
    for (name, correct), color in zip(found["digits"].items(), (chart.BLUE, chart.GREEN, chart.ORANGE)):
        below.plot(found["steps"], correct, color=color, label=name)
    below.axvline(ADVISED, color=chart.GRAY, linestyle="--", linewidth=1, label=f"eps = {ADVISED:g}")
    below.set(xscale="log", xlabel="eps", ylabel="correct digits of dy/dx", ylim=(0, None),
              title="left: rounding error dominates; right: the curvature of y dominates")
    below.grid(alpha=0.3)
    below.legend(frameon=False)
    return chart.pixels(drawing)


def claim(found):
    at = found["at_advised"]
    return (f"With eps = {ADVISED:g}, central differences confirm {at['float64']:.1f} digits of the gradient "
            f"in float64, {at['float32']:.1f} in float32; one-sided ones {at['one-sided']:.1f}.\n"
            f"The wrong derivative is rejected: {found['error_message']}")


if __name__ == "__main__":
    lesson.run(globals())
