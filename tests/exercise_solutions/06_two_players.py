"""Solutions of the exercises of lesson 6."""
import numpy as np

import nn.functional as F


def discriminator_loss(real, fake):
    return np.logaddexp(0, -real).mean() + np.logaddexp(0, fake).mean()


def discriminator_gradient(real, fake):
    return (F.sigmoid(real) - 1) / real.size, F.sigmoid(fake) / fake.size


def accuracy(real, fake):
    return ((real > 0).sum() + (fake < 0).sum()) / (real.size + fake.size)


def earth_movers_distance(a, b):
    return np.abs(np.sort(a) - np.sort(b)).mean()
