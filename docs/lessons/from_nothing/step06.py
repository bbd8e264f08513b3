"""Arrays.

Put an array where the number was. Elementwise operations stay as they are, for NumPy's operators
mean the same. A sum over all elements gives one number to start from: its derivative by each
element is 1. One array operation now does the work of a million small ones.
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
                source.grad = source.grad + tensor.grad * derivative


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
    x, w = Tensor([1.0, 2.0, 3.0]), Tensor([0.1, 0.2, 0.3])
    tanh(x * w).sum().backward()
    print("dy/dw", w.grad.round(4))


if __name__ == "__main__":
    main()
