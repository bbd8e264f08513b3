"""Exercises of lesson 3: convolution by one matrix product, its two adjoints, pixel shuffle.

Images x are (N, H, W, C), weights w (k, k, C, F), outputs y (N, H-k+1, W-k+1, F): stride 1, no
padding. Check with  python -m pytest docs/lessons/exercises -k 03
"""


def im2col(x, k):
    """Return the windows of x as rows: (N * (H-k+1) * (W-k+1), k * k * C).

    A row lists its window by p, then q, then channel.

    Hint 1: np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2)) has all windows.
    Hint 2: its shape is (N, H-k+1, W-k+1, C, k, k). The channel has to come last.
    Hint 3: transpose(0, 1, 2, 4, 5, 3), then reshape.
    """
    raise NotImplementedError


def conv2d(x, w):
    """Return the convolution y of x and w by a single matrix product.

    Hint 1: use your im2col, and reshape w to (k * k * C, F).
    Hint 2: reshape the product to (N, H-k+1, W-k+1, F).
    """
    raise NotImplementedError


def weight_gradient(x, gy, k):
    """Return the gradient of w, (k, k, C, F), from the gradient gy of y.

    Hint 1: y is columns @ w. What is the gradient of w in a matrix product?
    Hint 2: columns.T @ gy, with gy as a matrix of F columns.
    """
    raise NotImplementedError


def conv_transpose2d(gy, w):
    """Return the gradient of x, (N, H, W, C), from the gradient gy of y.

    Hint 1: each gy[n, i, j] was made from the window at i, j. Give it back there, times w.
    Hint 2: loop over p and q, and add gy @ w[p, q].T to the image, shifted by p and q.
    Hint 3: x[:, p:p + OH, q:q + OW] += gy @ w[p, q].T, where gy is (N, OH, OW, F).
    """
    raise NotImplementedError


def pixel_shuffle(x, factor):
    """Rearrange channels into pixels: (N, H, W, f*f*C) -> (N, f*H, f*W, C).

    Channel (i*f + j)*C + c becomes row i, column j of the pixel's block.

    Hint 1: reshape the last axis to (f, f, C).
    Hint 2: now order the axes as N, H, f, W, f, C.
    Hint 3: and reshape.
    """
    raise NotImplementedError
