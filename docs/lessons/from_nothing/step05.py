"""Each number once: a topological order.

List each number after all of its sources. Walk the list from its end: when a number's turn comes,
everything that used it has already passed its gradient on. Each is visited once. The list is made
with a stack of its own, because Python's recursion ends at a depth of 1,000.
"""
import math


class Tensor:
    def __init__(self, data, sources=()):
        self.data, self.sources, self.grad = data, sources, 0.0

    def __add__(self, other):
        return Tensor(self.data + other.data, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Tensor(self.data * other.data, [(self, other.data), (other, self.data)])

    def backward(self):
        self.grad = 1.0
        for tensor in reversed(in_order(self)):
            for source, derivative in tensor.sources:
                source.grad += tensor.grad * derivative


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
    y = math.tanh(x.data)
    return Tensor(y, [(x, 1 - y * y)])


def main():
    x, w, b = Tensor(0.8), Tensor(-0.5), Tensor(0.9)
    (tanh(x * w + b) * x).backward()
    print(f"dy/dx {x.grad:.4f}, dy/dw {w.grad:.4f}, dy/db {b.grad:.4f}")
    x = y = Tensor(1.0)
    for _ in range(10_000):
        y = y + x
    print(f"10,000 sums: {len(in_order(y))} visits")


if __name__ == "__main__":
    main()
