"""A number in a box.

Wrap a number in a class, so that later there is a place for its derivative. The derivative of
x squared at 3 is 6: a tiny change of x shows it.
"""


class Tensor:
    def __init__(self, data):
        self.data = data


def square(x):
    return Tensor(x.data ** 2)


def main():
    eps = 1e-6
    above, below = square(Tensor(3 + eps)), square(Tensor(3 - eps))
    print(f"d(x * x)/dx at 3: {(above.data - below.data) / (2 * eps):.6f}")


if __name__ == "__main__":
    main()
