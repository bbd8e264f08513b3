"""Broadcasting, undone in one place.

NumPy stretches a small array to the shape of a large one: a bias is added to every row. So one
number is used many times, and its gradients add up: the gradient is summed back to the small
shape. The engine does that for all operations, since it knows each source's shape.
"""
import numpy as np


class Tensor:
    def __init__(self, data, sources=()):
        self.data, self.sources = np.asarray(data, float), sources
        self.grad = np.zeros(self.shape)

    shape = property(lambda self: self.data.shape)

    def __add__(self, other):
        return Tensor(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Tensor(self.data * other.data, [(self, other.data), (other, self.data)])

    def sum(self):
        return Tensor(self.data.sum(), [(self, np.ones(self.shape))])

    def backward(self):
        self.grad = np.ones(self.shape)
        for tensor in reversed(in_order(self)):
            for source, derivative in tensor.sources:
                source.grad = source.grad + sum_to(tensor.grad * derivative, source.shape)


def sum_to(x, shape):
    """Sum x over the axes along which an array of that shape was broadcast."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    return x.sum(axis=tuple(i for i, n in enumerate(shape) if n != x.shape[i]), keepdims=True)


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
            stack.extend((source, False) for source, _ in tensor.sources)
    return order


def tanh(x):
    y = np.tanh(x.data)
    return Tensor(y, [(x, 1 - y * y)])


def main():
    x, b = Tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), Tensor([10.0, 20.0])
    ((x + b) * b).sum().backward()
    print("dy/db", b.grad)


if __name__ == "__main__":
    main()
