"""Exercises of lesson 10: is it a result? And a layer that the library does not have.

Check with  python -m pytest docs/lessons/exercises -k 10
"""


def paired_change(before, after):
    """Return (mean change, its standard error) of results of the same seeds under two settings.

    Hint 1: take the differences first: what a seed does to both settings cancels.
    Hint 2: the standard error is the standard deviation (with n - 1) divided by sqrt(n).
    """
    raise NotImplementedError


def psnr(image, truth, mask):
    """Return the peak signal-to-noise ratio in dB of pixels weighted by a mask.

    image, truth: (H, W, 3), 0..1; mask: (H, W, 1), 0..1

    Hint 1: the mean squared error, weighted by the mask, over all three channels.
    Hint 2: -10 * log10 of it.
    """
    raise NotImplementedError


def lstm_cell(x, h, c, w, u, b):
    """Return the next (h, c) of an LSTM cell (Hochreiter and Schmidhuber 1997; Gers 2000).

    x: (N, D); h, c: (N, K); w: (D, 4K); u: (K, 4K); b: (4K,). The four gates are, in this order:
    input, forget, cell, output. All may be nn.Tensors: use nn.functional and slices.

    Hint 1: x @ w + h @ u + b is (N, 4K). Slice it along the last axis.
    Hint 2: sigmoid for input, forget and output; tanh for cell.
    Hint 3: c' = forget * c + input * cell, h' = output * tanh(c').
    """
    raise NotImplementedError
