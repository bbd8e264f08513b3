"""Profiling: the time of each layer, forward and backward.

    with nn.profile() as result:
        loss = F.mse_loss(network(x), y)
        loss.backward()
    print("\\n".join(result.table()))

An op belongs to the layer whose Parameter it uses: "encoder.convs.0.weight" belongs to the layer
"encoder.convs.0". An op without a Parameter is listed under its own name. Ops that are called
within an op's backward() count as part of that backward().

`result.routes()` lists every call of a convolution kernel on the CPU: its shape, the way it takes
(nn/kernels/cpu/routes.py), why, and its time.
"""
import contextlib
import time
from dataclasses import dataclass

from nn.function import observed
from nn.kernels.cpu import routes
from nn.tensor import Parameter

# Class of an op: (name of its kernel, positions of x, w and y among its two inputs and its output).
CONVOLUTIONS = {"Conv2d": ("conv2d", (0, 1, 2)), "ConvTranspose2d": ("conv2d_transpose", (2, 1, 0)),
                "Conv2dWeight": ("conv2d_weight", (0, 2, 1))}


@dataclass
class Cost:
    """The cost of a layer. Only convolutions and matrix products count multiplications."""

    calls: int = 0  # number of op calls
    forward: float = 0.0  # seconds
    backward: float = 0.0  # seconds
    forward_multiplications: int = 0  # each with its addition
    backward_multiplications: int = 0


class Profile:
    """The recorded costs, in the order of first use.

    costs: {layer: Cost}
    convolutions: {(kernel, routes.Shape): [seconds of each call]}, those within backward() too
    """

    def __init__(self):
        self.costs, self.convolutions = {}, {}
        self._depth = 0

    def forward(self, function, inputs, compute):
        """Return compute(), timed as the forward pass of a Function on these inputs."""
        function.layer = _layer(function, inputs)
        before = time.perf_counter()
        with self._outermost() as counts:
            output = compute()
        seconds, convolution = time.perf_counter() - before, _convolution(function, inputs, output)
        if convolution:
            self.convolutions.setdefault(convolution, []).append(seconds)
        if counts:
            cost = self.costs.setdefault(function.layer, Cost())
            cost.calls += 1
            cost.forward += seconds
            function.multiplications = _multiplications(function, inputs, output, convolution)
            cost.forward_multiplications += function.multiplications
        return output

    def backward(self, function, compute):
        """Return compute(), timed as the backward pass of a Function."""
        before = time.perf_counter()
        with self._outermost() as counts:
            gradients = compute()
        if counts and hasattr(function, "layer"):  # without it, the forward pass was not profiled
            cost = self.costs[function.layer]
            cost.backward += time.perf_counter() - before
            cost.backward_multiplications += function.multiplications * sum(map(bool, function.needs_input_grad[:2]))
        return gradients

    @contextlib.contextmanager
    def _outermost(self):
        """Yield whether this op is outermost, i.e. not called by another op."""
        self._depth += 1
        try:
            yield self._depth == 1
        finally:
            self._depth -= 1

    def total_seconds(self):
        """Return the time of all layers, forward and backward."""
        return sum(cost.forward + cost.backward for cost in self.costs.values())

    def most_expensive(self):
        """Return [(layer, Cost)], sorted by time, longest first."""
        return sorted(self.costs.items(), key=lambda item: -(item[1].forward + item[1].backward))

    def table(self, times=1):
        """Return a table as lines of text, most expensive layers first.

        GFLOP/s counts a multiplication and an addition as two operations.

        times: number of identical steps in the profile; calls and milliseconds are given per step
        """
        total, width = self.total_seconds() or 1.0, max([5, *map(len, self.costs)])
        lines = [f"{'layer':{width}}  calls   forward ms  GFLOP/s   backward ms  GFLOP/s   share"]
        for name, cost in self.most_expensive():
            lines.append(f"{name:{width}}{cost.calls // times:>7}" + "".join(
                f"{1000 * seconds / times:>13.2f}{_rate(multiplications, seconds):>9}"
                for seconds, multiplications in ((cost.forward, cost.forward_multiplications),
                                                 (cost.backward, cost.backward_multiplications)))
                + f"{(cost.forward + cost.backward) / total:>8.1%}")
        return lines

    def routes(self, times=1):
        """Return a table as lines of text: the shape, the way and the time of each convolution kernel.

        The reasons for the ways stand below.

        times: number of identical steps in the profile; calls are given per step, ms per call
        """
        lines = ["kernel               x (N, H, W, C)   w (kh, kw, C, F)  stride  calls      ms  GFLOP/s  way"]
        reasons = {}
        for (kernel, shape), seconds in self.convolutions.items():
            mean, found = sum(seconds) / len(seconds), routes.follow(kernel, shape)
            reasons |= {route.way: route.reason for route, _ in found}
            ways = " -> ".join(route.way for route, _ in found)
            pixels = max(route.pixels(each) for route, each in found)
            ways += f" ({pixels} pixels as one)" if pixels > 1 else ""
            x, w, stride = ((",".join(map(str, numbers)) for numbers in (
                (shape.n, *shape.size, shape.c), (*shape.kernel, shape.c, shape.f), shape.stride)))
            lines.append(f"{kernel:17}{x:>18}{w:>19}{stride:>8}{len(seconds) // times:>7}{1e3 * mean:>8.2f}"
                         f"{_rate(shape.multiplications(), mean):>9}  {ways}")
        return [*lines, "", *(f"{way}: {reason}" for way, reason in reasons.items())]


@contextlib.contextmanager
def profile():
    """Yield a Profile of all ops of this thread in the `with` block; profiles cannot be nested."""
    result = Profile()
    with observed(result):
        yield result


def _layer(function, inputs):
    for value in inputs:
        name = getattr(value, "name", None)
        if isinstance(value, Parameter) and name:
            return name.rpartition(".")[0] or name
    return type(function).__name__


def _convolution(function, inputs, output):
    """Return (kernel, Shape) if the op is a convolution, else None."""
    kernel, positions = CONVOLUTIONS.get(type(function).__name__, (None, ()))
    shapes = [(*inputs[:2], output)[k].shape for k in positions]
    return kernel and (kernel, routes.Shape.of(*shapes, **function.geometry))


def _multiplications(function, inputs, output, convolution):
    """Return the number of multiplications of a forward pass."""
    if convolution:
        return convolution[1].multiplications()
    return output.size * inputs[0].shape[-1] if type(function).__name__ == "MatMul" else 0


def _rate(multiplications, seconds):
    return f"{2e-9 * multiplications / seconds:.1f}" if multiplications and seconds else ""
