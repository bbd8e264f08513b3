"""Gradients of gradients.

A gradient penalty needs the derivative of a gradient. Let backward compute with Tensors instead of
arrays: then the walk back records a graph of its own, and that graph can be walked back again. So
every backward is written with operations that have a backward themselves. Two more of them, sum_to
and broadcast_to, are each other's derivatives.
"""
import numpy as np


class Tensor:
    def __init__(self, data, creator=None):
        self.data, self.creator, self.grad = np.asarray(data, float), creator, None

    shape = property(lambda self: self.data.shape)
    T = property(lambda self: Transpose.apply(self))

    def __add__(self, other):
        return Add.apply(self, other)

    def __mul__(self, other):
        return Multiply.apply(self, other)

    def __sub__(self, other):
        return self + other * -1.0

    def __matmul__(self, other):
        return MatMul.apply(self, other)

    def sum(self):
        return sum_to(self, ())

    def backward(self):
        leaves = [tensor for tensor in in_order(self) if tensor.creator is None]
        for leaf, gradient in zip(leaves, grad(self, leaves)):
            leaf.grad = gradient.data


def grad(output, inputs):
    """Return the gradients of output, a sum over its elements, by the inputs: Tensors."""
    gradients = {output: Tensor(np.ones(output.shape))}
    for tensor in reversed(in_order(output)):
        if function := tensor.creator:
            for source, gradient in zip(function.inputs, function.backward(gradients[tensor], *function.inputs)):
                gradient = sum_to(gradient, source.shape)
                gradients[source] = gradients[source] + gradient if source in gradients else gradient
    return [gradients[tensor] for tensor in inputs]


class Function:
    @classmethod
    def apply(cls, *inputs, **options):
        function = cls()
        if not any(isinstance(x, Tensor) for x in inputs):
            return function.forward(*inputs, **options)
        function.inputs = [x if isinstance(x, Tensor) else Tensor(x) for x in inputs]
        return Tensor(function.forward(*(x.data for x in function.inputs), **options), function)


class Add(Function):
    def forward(self, a, b):
        return a + b

    def backward(self, gy, a, b):
        return gy, gy


class Multiply(Function):
    def forward(self, a, b):
        return a * b

    def backward(self, gy, a, b):
        return gy * b, gy * a


class Transpose(Function):
    def forward(self, x):
        return x.T

    def backward(self, gy, x):
        return (gy.T,)


class MatMul(Function):
    def forward(self, a, b):
        return a @ b

    def backward(self, gy, a, b):
        return gy @ b.T, a.T @ gy


class SumTo(Function):
    """Sum x over the axes along which an array of that shape was broadcast."""

    def forward(self, x, shape):
        x = x.sum(axis=tuple(range(x.ndim - len(shape))))
        return x.sum(axis=tuple(i for i, n in enumerate(shape) if n != x.shape[i]), keepdims=True)

    def backward(self, gy, x):
        return (BroadcastTo.apply(gy, shape=x.shape),)


class BroadcastTo(Function):
    def forward(self, x, shape):
        return np.broadcast_to(x, shape)

    def backward(self, gy, x):
        return (gy,)  # grad() sums it back, as for every broadcast


class Tanh(Function):
    def forward(self, x):
        return np.tanh(x)

    def backward(self, gy, x):
        y = Tanh.apply(x)
        return (gy * (y * y * -1.0 + 1.0),)


def windows(x, k):
    """Return all k x k windows of x (N, H, W, C): (N, H-k+1, W-k+1, C, k, k)."""
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))


class Conv2d(Function):
    """x (N, H, W, C), w (k, k, C, F) -> y (N, H-k+1, W-k+1, F)"""

    def forward(self, x, w):
        return np.einsum("nijcpq,pqcf->nijf", windows(x, len(w)), w)

    def backward(self, gy, x, w):
        return ConvTranspose2d.apply(gy, w), ConvWeight.apply(x, gy)


class ConvTranspose2d(Function):
    """y, w -> x: each y spreads over a window."""

    def forward(self, y, w):
        k = len(w)
        padded = np.pad(y, ((0, 0), (k - 1, k - 1), (k - 1, k - 1), (0, 0)))
        return np.einsum("nijfpq,pqcf->nijc", windows(padded, k), w[::-1, ::-1])

    def backward(self, gx, y, w):
        return Conv2d.apply(gx, w), ConvWeight.apply(gx, y)


class ConvWeight(Function):
    """x, y -> w"""

    def forward(self, x, y):
        return np.einsum("nijcpq,nijf->pqcf", windows(x, x.shape[1] - y.shape[1] + 1), y)

    def backward(self, gw, x, y):
        return ConvTranspose2d.apply(y, gw), Conv2d.apply(x, gw)


def sum_to(x, shape):
    return x if x.shape == shape else SumTo.apply(x, shape=shape)


def in_order(output):
    """Return all Tensors that output depends on, each after its sources, output last."""
    order, seen, stack = [], set(), [(output, False)]
    while stack:
        tensor, sources_done = stack.pop()
        if sources_done:
            order.append(tensor)
        elif tensor not in seen:
            seen.add(tensor)
            stack.append((tensor, True))
            stack.extend((source, False) for source in (tensor.creator.inputs if tensor.creator else ()))
    return order


def gradcheck(function, *inputs, eps=1e-6):
    """Compare the gradients of a function of Tensors with central differences."""
    weights = np.random.default_rng(0).standard_normal(function(*inputs).shape)
    (function(*inputs) * weights).sum().backward()
    for number, x in enumerate(inputs):
        for index in np.ndindex(x.shape):
            middle, values = x.data[index], []
            for sign in (1, -1):
                x.data[index] = middle + sign * eps
                values.append((function(*inputs).data * weights).sum())
            x.data[index] = middle
            got, expected = x.grad[index], (values[0] - values[1]) / (2 * eps)
            if abs(got - expected) > 1e-5 * (1 + abs(expected)):
                raise AssertionError(f"input {number} at {index}: got {got:.6g}, expected {expected:.6g}")


class Module:
    def parameters(self):
        """Return all Tensors among the attributes, those of inner Modules too."""
        found = []
        for value in vars(self).values():
            found += value.parameters() if isinstance(value, Module) else [value] if isinstance(value, Tensor) else []
        return found


class Linear(Module):
    def __init__(self, i, o, random):
        self.weight, self.bias = Tensor(random.uniform(-1, 1, (i, o)) / i ** 0.5), Tensor(np.zeros(o))

    def __call__(self, x):
        return x @ self.weight + self.bias


def main():
    random = np.random.default_rng(0)
    x, w = (Tensor(random.standard_normal(shape)) for shape in ((2, 5, 6, 3), (3, 3, 3, 4)))

    def penalty(x, w):
        """Return the squared norm of the gradient of sum(tanh(conv(x, w))) by x."""
        (gx,) = grad(Tanh.apply(Conv2d.apply(x, w)).sum(), [x])
        return (gx * gx).sum()

    gradcheck(penalty, x, w)
    print("the gradient of a gradient penalty: checked")


if __name__ == "__main__":
    main()
