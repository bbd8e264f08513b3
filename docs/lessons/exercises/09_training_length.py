"""Exercises of lesson 9: when to stop, what to keep, how to compare images.

Check with  python -m pytest docs/lessons/exercises -k 09
"""


def early_stopping(losses, patience):
    """Return (the index at which to stop, the index of the weights to keep).

    losses: held-out losses, one for each validation. Stop as soon as `patience` validations in a row
    are not below the least loss so far; without that, at the last.

    Hint 1: remember the best index. Walk along the losses.
    Hint 2: stop where index - best == patience.
    """
    raise NotImplementedError


def ema_update(average, weights, decay, updates):
    """Change `average` in place to its next value, with a warm-up; return nothing.

    The decay is min(decay, (1 + updates) / (10 + updates)); updates: number of this one, 1, 2, ...

    Hint 1: average = decay * average + (1 - decay) * weights.
    Hint 2: in place: average += (1 - decay) * (weights - average).
    """
    raise NotImplementedError


def dssim(x, y, window):
    """Return the structural dissimilarity (1 - SSIM) / 2 of two images (H, W), 0..1.

    SSIM is the mean over all square windows (uniform weights, population variance) of
    (2 mx my + c1) (2 cov + c2) / ((mx**2 + my**2 + c1) (vx + vy + c2)), c1 = 0.01**2, c2 = 0.03**2.

    Hint 1: np.lib.stride_tricks.sliding_window_view(x, (window, window)) has all windows.
    Hint 2: means and variances along the last two axes; cov = mean of x*y minus mx * my.
    """
    raise NotImplementedError
