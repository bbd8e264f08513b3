"""Solutions of the exercises of lesson 2."""
import math

import numpy as np


def momentum_step(w, g, m, lr, momentum):
    m *= momentum
    m += g
    w -= lr * m


def adam_step(w, g, m, v, t, lr, beta1, beta2, eps):
    m += (1 - beta1) * (g - m)
    v += (1 - beta2) * (g * g - v)
    w -= lr * m / (1 - beta1 ** t) / (np.sqrt(v / (1 - beta2 ** t)) + eps)


def moving_average(values, decay):
    average, found = 0.0, []
    for t, value in enumerate(values, 1):
        average = decay * average + (1 - decay) * value
        found.append(average / (1 - decay ** t))
    return np.array(found)


def cosine_schedule(lr, step, steps, warmup):
    if step < warmup:
        return lr * step / warmup
    return lr * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
