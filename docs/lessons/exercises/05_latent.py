"""Exercises of lesson 5: what happens to a face before and after the network.

Check with  python -m pytest docs/lessons/exercises -k 05
"""


def umeyama(source, target):
    """Return the similarity transform (2, 3) that maps source points best onto target points.

    source, target: (n, 2). The transform is rotation, one scale, translation; never a reflection.

    Hint 1: subtract the mean of each set first. The translation follows at the end.
    Hint 2: a rotation with scale is [[a, -b], [b, a]], so only a and b are unknown.
    Hint 3: least squares gives a = sum(x*u + y*v) / s and b = sum(x*v - y*u) / s, for source (x, y),
        target (u, v) and s = sum(x*x + y*y).
    """
    raise NotImplementedError


def reinhard(source, target, mask):
    """Give the pixels of `source` the mean and standard deviation of `target` within the mask.

    source, target: (H, W, 3); mask: (H, W) of bool. Each channel by itself (Reinhard 2001).

    Hint 1: source[mask] is (n, 3); take mean and std along axis 0.
    Hint 2: subtract the mean, multiply by the ratio of the standard deviations, add the other mean.
    """
    raise NotImplementedError


def warp(image, rows, columns):
    """Return the image (H, W) sampled at fractional places, bilinearly.

    rows, columns: (h, w), within 0..H-1 and 0..W-1

    Hint 1: the place lies between four pixels: floor(row), floor(row) + 1, and so for columns.
    Hint 2: each pixel's weight is the area opposite to it: (1 - dr) * (1 - dc) for the upper left.
    Hint 3: at the last row floor(row) + 1 is outside: clip it to H - 1; its weight is 0 there.
    """
    raise NotImplementedError


def poisson(image, generated, mask, steps):
    """Paste `generated` into `image` within the mask, keeping its gradients (Perez 2003).

    image, generated: (H, W); mask: (H, W) of bool, False along the border
    Find values f that equal the image outside of the mask, and whose Laplacian within it is that of
    `generated`. Take `steps` steps of Jacobi's method, starting from the image.

    Hint 1: the Laplacian of g is the sum of its four neighbors minus 4 * g.
    Hint 2: solved for the pixel itself: f = (sum of the four neighbors of f - Laplacian of g) / 4.
    Hint 3: compute that everywhere (np.roll gives neighbors), and use it within the mask only.
    """
    raise NotImplementedError
