"""Exercises of lesson 8: two remedies, and a fair count of modes.

Check with  python -m pytest docs/lessons/exercises -k 08
"""


def r1_penalty(discriminator, real):
    """Return E |gradient of the discriminator at a real point|**2, with a graph to the weights.

    discriminator: function from Tensor (N, D) to scores (N, 1); real: array (N, D)

    Hint 1: as the gradient penalty of lesson 7, without root and target.
    Hint 2: sum over the coordinates, mean over the points.
    """
    raise NotImplementedError


def unrolled_gradient(t, s, lr):
    """Return the derivative by t of the generator's loss after one unrolled discriminator step.

    One number each, Wasserstein: the discriminator minimizes L(s, t) = s * t + s**4 / 4 in s, the
    generator minimizes -s' * t with s' = s - lr * dL/ds. t, s, lr: numbers.

    Hint 1: s' depends on t too. That is the point of unrolling.
    Hint 2: with nn: make t and s Tensors (np.float64), take nn.grad(L, [s], create_graph=True), build
        s' from it, and then nn.grad of the generator's loss by t.
    Hint 3: by hand: dL/ds = t + s**3, so -s' * t = -(s - lr * (t + s**3)) * t.
    """
    raise NotImplementedError


def count_modes(points, centers, radius, share):
    """Return (how many centers have at least `share` of all points within `radius`, the share of
    points that are within `radius` of any center).

    points: (n, 2); centers: (k, 2)

    Hint 1: points[:, None] - centers is (n, k, 2).
    Hint 2: the norm along the last axis, and a comparison, give an array (n, k) of bool.
    Hint 3: mean along axis 0 for the first, any along axis 1 for the second.
    """
    raise NotImplementedError
