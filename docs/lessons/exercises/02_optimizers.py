"""Exercises of lesson 2: two optimizers, an average without bias, a schedule.

Arrays are changed in place, as nn/optim.py does: `w -= ...` and `m *= ...`, not `w = ...`.
Check with  python -m pytest docs/lessons/exercises -k 02
"""


def momentum_step(w, g, m, lr, momentum):
    """Take a step of SGD with momentum: change m and w in place, return nothing.

    Hint 1: m is momentum * m + g.
    Hint 2: m *= momentum changes the array itself; m = m * momentum makes a new one.
    Hint 3: then w -= lr * m.
    """
    raise NotImplementedError


def adam_step(w, g, m, v, t, lr, beta1, beta2, eps):
    """Take step t (1, 2, ...) of Adam: change m, v and w in place, return nothing.

    Hint 1: m and v are moving averages of g and g**2: m = beta1 * m + (1 - beta1) * g.
    Hint 2: they start at 0, so divide m by 1 - beta1**t and v by 1 - beta2**t; keep m and v
        themselves undivided.
    Hint 3: w -= lr * mean / (sqrt(square) + eps), with the divided ones.
    """
    raise NotImplementedError


def moving_average(values, decay):
    """Return the bias-corrected exponential moving average after each of `values`, an array.

    Hint 1: average = decay * average + (1 - decay) * value, starting from 0.
    Hint 2: the weights of the values that are in it sum to 1 - decay**t. Divide by that.
    Hint 3: so the average of equal values is that value, from the first on.
    """
    raise NotImplementedError


def cosine_schedule(lr, step, steps, warmup):
    """Return the learning rate at `step` (0 to steps): linear up to lr at step `warmup`, then half
    a cosine down to 0 at step `steps`.

    Hint 1: for step < warmup it is lr * step / warmup.
    Hint 2: after that let p go from 0 to 1; cos(pi * p) goes from 1 to -1.
    """
    raise NotImplementedError
