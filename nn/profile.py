"""Where the time goes: what each layer costs, forward and backward.

    with nn.profile() as found:
        loss = F.mse_loss(network(x), y)
        loss.backward()
    print("\\n".join(found.table()))

An op belongs to the layer whose Parameter it uses (their names are paths: "encoder.convs.0.weight" is of the layer
"encoder.convs.0"); one that uses none stands under its own name. What an op's backward() computes by other ops is its own time.
"""
import contextlib
import time
from dataclasses import dataclass

from nn import tensor


@dataclass
class Cost:
    """What a layer cost: calls of its ops; seconds forward and backward; multiplications (each with its addition), of
    convolutions and matrix products alone."""

    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0
    forward_multiplications: int = 0
    backward_multiplications: int = 0


class Profile:
    """{layer: Cost} in `costs`, in the order in which they were first met."""

    def __init__(self):
        self.costs = {}
        self._depth = 0

    def forward(self, function, inputs, compute):
        """compute(), timed as the forward pass of a Function on these inputs."""
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
        """compute(), timed as the backward pass of a Function."""
        before = time.perf_counter()
        with self._outermost() as counts:
            gradients = compute()
        if counts and hasattr(function, "layer"):  # else its forward pass was before the profile
            cost = self.costs[function.layer]
            cost.backward += time.perf_counter() - before
            cost.backward_multiplications += function.multiplications * sum(map(bool, function.needs[:2]))
        return gradients

    @contextlib.contextmanager
    def _outermost(self):
        """Yields whether this op is not part of another's."""
        self._depth += 1
        try:
            yield self._depth == 1
        finally:
            self._depth -= 1

    def seconds(self):
        """The sum over all layers."""
        return sum(cost.forward + cost.backward for cost in self.costs.values())

    def dearest(self):
        """[(layer, Cost)], those first that took the longest."""
        return sorted(self.costs.items(), key=lambda item: -(item[1].forward + item[1].backward))

    def table(self, times=1):
        """Lines of text: the dearest layers first, with their share of the time and, for convolutions and matrix products,
        billions of floating-point operations a second (a multiplication and an addition are two). times: how often the same
        was done; calls and milliseconds are of one."""
        whole, width = self.seconds() or 1.0, max([5, *map(len, self.costs)])
        lines = [f"{'layer':{width}}  calls   forward ms  GFLOP/s   backward ms  GFLOP/s   share"]
        for name, cost in self.dearest():
            lines.append(f"{name:{width}}{cost.calls // times:>7}" + "".join(
                f"{1000 * seconds / times:>13.2f}{_rate(multiplications, seconds):>9}"
                for seconds, multiplications in ((cost.forward, cost.forward_multiplications),
                                                 (cost.backward, cost.backward_multiplications)))
                + f"{(cost.forward + cost.backward) / whole:>8.1%}")
        return lines


@contextlib.contextmanager
def profile():
    """Context manager: yields a Profile of all ops within it, of this thread. RuntimeError within another one."""
    found = Profile()
    with tensor.observed(found):
        yield found


def _layer(function, inputs):
    for value in inputs:
        name = getattr(value, "name", None)
        if isinstance(value, tensor.Parameter) and name:
            return name.rpartition(".")[0] or name
    return type(function).__name__


def _multiplications(function, inputs, output):
    """Of a forward pass. Each of the convolution's three ops meets every weight at every place of the smaller picture."""
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
