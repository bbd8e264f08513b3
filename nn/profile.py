"""Profiling: the time of each layer, forward and backward.

    with nn.profile() as result:
        loss = F.mse_loss(network(x), y)
        loss.backward()
    print("\\n".join(result.table()))

An op belongs to the layer whose Parameter it uses: "encoder.convs.0.weight" belongs to the layer
"encoder.convs.0". An op without a Parameter is listed under its own name. Ops that are called
within an op's backward() count as part of that backward().
"""
import contextlib
import time
from dataclasses import dataclass

from nn import tensor


@dataclass
class Cost:
    """The cost of a layer. Only convolutions and matrix products count multiplications."""

    calls: int = 0  # number of op calls
    forward: float = 0.0  # seconds
    backward: float = 0.0  # seconds
    forward_multiplications: int = 0  # each with its addition
    backward_multiplications: int = 0


class Profile:
    """The recorded costs: `costs` is {layer: Cost}, in the order of first use."""

    def __init__(self):
        self.costs = {}
        self._depth = 0

    def forward(self, function, inputs, compute):
        """Return compute(), timed as the forward pass of a Function on these inputs."""
        function.layer = _layer(function, inputs)
        before = time.perf_counter()
        with self._outermost() as counts:
            output = compute()
        if counts:
            cost = self.costs.setdefault(function.layer, Cost())
            cost.calls += 1
            cost.forward += time.perf_counter() - before
            function.multiplications = _multiplications(function, inputs, output)
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


@contextlib.contextmanager
def profile():
    """Yield a Profile of all ops of this thread in the `with` block; profiles cannot be nested."""
    result = Profile()
    with tensor.observed(result):
        yield result


def _layer(function, inputs):
    for value in inputs:
        name = getattr(value, "name", None)
        if isinstance(value, tensor.Parameter) and name:
            return name.rpartition(".")[0] or name
    return type(function).__name__


def _multiplications(function, inputs, output):
    """Return the number of multiplications of a forward pass.

    The three convolution ops multiply every weight with every pixel of the smaller image.
    """
    kind, shapes = type(function).__name__, [getattr(value, "shape", ()) for value in inputs]
    if kind == "Conv2d":
        return output.size // output.shape[3] * _product(shapes[1])
    if kind == "ConvTranspose2d":
        return _product(shapes[0][:3]) * _product(shapes[1])
    if kind == "Conv2dWeight":
        return _product(shapes[1][:3]) * output.size
    if kind == "MatMul":
        return output.size * shapes[0][-1]
    return 0


def _product(shape):
    product = 1
    for length in shape:
        product *= length
    return product


def _rate(multiplications, seconds):
    return f"{2e-9 * multiplications / seconds:.1f}" if multiplications and seconds else ""
