"""Solutions of the exercises of lesson 10."""
import numpy as np

import nn.functional as F


def paired_change(before, after):
    change = np.subtract(after, before)
    return change.mean(), change.std(ddof=1) / len(change) ** 0.5


def psnr(image, truth, mask):
    return -10 * np.log10((mask * (image - truth) ** 2).sum() / (3 * mask.sum()))


def lstm_cell(x, h, c, w, u, b):
    z, k = x @ w + h @ u + b, c.shape[1]
    i, f, g, o = (z[:, n * k:(n + 1) * k] for n in range(4))
    after = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
    return F.sigmoid(o) * F.tanh(after), after
