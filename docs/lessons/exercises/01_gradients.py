"""Exercises of lesson 1: three derivatives, and the check.

gy is the gradient of the output y; return the gradients of the inputs. All are NumPy arrays of one
shape. Check with  python -m pytest docs/lessons/exercises -k 01
"""


def multiply_backward(gy, a, b):
    """Return (ga, gb) for y = a * b.

    Hint 1: by how much does y change if a grows by 1 and b stays?
    Hint 2: the chain rule multiplies that by gy.
    Hint 3: ga = gy * b.
    """
    raise NotImplementedError


def tanh_backward(gy, y):
    """Return gx for y = tanh(x), from y alone.

    Hint 1: the derivative of tanh(x) is 1 - tanh(x)**2.
    Hint 2: so x is not needed.
    """
    raise NotImplementedError


def maximum_backward(gy, a, b):
    """Return (ga, gb) for y = max(a, b), elementwise. Where a == b, each gets half of gy.

    Hint 1: a larger a changes y only where a > b.
    Hint 2: (a > b) is an array of True and False, which multiply like 1 and 0.
    Hint 3: the share of a is ((a > b) + (a >= b)) / 2.
    """
    raise NotImplementedError


def numeric_gradient(function, x, eps):
    """Return the gradient of function(x), one number, by central differences: the shape of x.

    x: array of float64; it must be unchanged at the end

    Hint 1: move one element by eps up and down, and divide the difference by 2 eps.
    Hint 2: np.ndindex(x.shape) yields all indices.
    Hint 3: work on a copy of x, and put each element back.
    """
    raise NotImplementedError
