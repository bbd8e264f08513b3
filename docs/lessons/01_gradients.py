"""A number that knows its gradient: a small expression, its graph with the gradient at every place, and how to check one.

Three questions. What does backward() do? It walks the graph from the end and multiplies slopes (the chain rule). How can anyone
be sure that it is right? By moving an input a little to either side and looking at what the result does: central differences.
And how little is a little? That is what the curves are for.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
import nn.functional as F
from gan.monitor import chart
from nn.tensor import Function, topological_order

STEPS = np.logspace(-12, 0, 97)  # eps, from far too small to far too large
ADVISED = 1e-4  # the UFLDL tutorial's


def expression(x, w, b):
    """y = tanh(x*w + b) * x, with everything on the way: {name: Tensor}."""
    product = x * w
    total = product + b
    bent = F.tanh(total)
    return {"x": x, "w": w, "b": b, "x w": product, "x w + b": total, "tanh": bent, "y": bent * x}


class Careless(nn.Function):
    """y = x * sigmoid(x), with a derivative by someone in a hurry: the product rule has a second term."""

    def forward(self, x):
        self.keep(x)
        return x * F.sigmoid(x)

    def backward(self, gy):
        (x,) = self.kept
        return gy * F.sigmoid(x)


def difference(function, x, eps, dtype, central=True):
    """The slope of function at x by differences, computed in dtype."""
    x, eps = dtype(x), dtype(eps)
    if central:
        return float((function(x + eps) - function(x - eps)) / (2 * eps))
    return float((function(x + eps) - function(x)) / eps)


def digits(got, expected):
    """How many decimal digits of it are right."""
    return float(-np.log10(max(abs(got - expected) / abs(expected), 1e-16)))


def experiment(fast=False):
    """The graph's values and gradients, the right digits of differences by eps, and what gradcheck says of Careless."""
    places = expression(*(nn.Tensor(np.float64(v), requires_grad=True) for v in (0.8, -0.5, 0.9)))
    gradients = nn.grad(places["y"], list(places.values())[:-1], retain_graph=True)
    values = {name: (tensor.item(), gradient.item()) for (name, tensor), gradient in zip(places.items(), gradients)}
    values["y"] = places["y"].item(), 1.0

    def y_of(x):
        w, b = x.dtype.type(-0.5), x.dtype.type(0.9)
        return F.tanh(x * w + b) * x

    slope = values["x"][1]
    right = {name: [digits(difference(y_of, 0.8, eps, dtype, central), slope) for eps in STEPS[::8 if fast else 1]]
             for name, dtype, central in (("float64, both sides", np.float64, True),
                                          ("float64, one side", np.float64, False), ("float32, both sides", np.float32, True))}
    try:
        complaint = str(nn.gradcheck(Careless.apply, [np.array([0.3, 1.2])]))
    except AssertionError as error:
        complaint = str(error)
    at = {name: digits(difference(y_of, 0.8, ADVISED, dtype, central), slope)
          for name, dtype, central in (("float64", np.float64, True), ("float32", np.float32, True),
                                       ("one side", np.float64, False))}
    return {"values": values, "edges": edges_of(places), "right": right, "steps": STEPS[::8 if fast else 1], "at": at,
            "complaint": complaint}


def edges_of(places):
    """The graph's arrows [(from, to)] by name, read off the Functions that backward() walks."""
    names = {tensor.creator or tensor: name for name, tensor in places.items()}
    return [(names[edge], names[function]) for function in topological_order(places["y"].creator)
            for edge in function.edges if isinstance(edge, (Function, nn.Tensor))]


def picture(found):
    """Above the graph, below the digits."""
    drawing = chart.figure(9, 7.5)
    above, below = drawing.subplots(2, height_ratios=(1, 1.3))
    where = {"x": (0, 1), "w": (0, 0), "b": (1, -0.6), "x w": (1, 0.3), "x w + b": (2, 0), "tanh": (3, 0), "y": (4, 0.6)}
    boxes = {}
    for name, (value, gradient) in found["values"].items():
        look = {"boxstyle": "round,pad=0.4", "facecolor": "#e9f1fa" if name in "xwb" else "#fdf1dc", "edgecolor": chart.GREY}
        text = above.text(*where[name], f"{name}\n{value:.4f}\ndy/d = {gradient:.4f}", ha="center", va="center", bbox=look)
        boxes[name] = text.get_bbox_patch()
    for source, target in found["edges"]:
        above.annotate("", where[target], where[source], arrowprops={
            "arrowstyle": "-|>", "color": chart.GREY, "patchA": boxes[source], "patchB": boxes[target], "shrinkA": 0, "shrinkB": 0})
    above.set(xlim=(-0.6, 4.6), ylim=(-1.15, 1.5), title="forward along the arrows: values; backward against them: gradients")
    above.axis("off")
    for (name, right), colour in zip(found["right"].items(), (chart.BLUE, chart.GREEN, chart.ORANGE)):
        below.plot(found["steps"], right, color=colour, label=name)
    below.axvline(ADVISED, color=chart.GREY, linestyle="--", linewidth=1, label=f"eps = {ADVISED:g}")
    below.set(xscale="log", xlabel="eps", ylabel="right digits of dy/dx", ylim=(0, None),
              title="left: rounding eats the difference; right: the curve is no longer a line")
    below.grid(alpha=0.3)
    below.legend(frameon=False)
    return chart.pixels(drawing)


def claim(found):
    at = found["at"]
    return (f"With eps = {ADVISED:g}, central differences confirm {at['float64']:.1f} digits of the gradient in float64, "
            f"{at['float32']:.1f} in float32; one-sided ones {at['one side']:.1f}.\n"
            f"The careless derivative is caught: {found['complaint']}")


if __name__ == "__main__":
    lesson.run(globals())
