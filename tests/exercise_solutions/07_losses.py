"""Solutions of the exercises of lesson 7."""
import nn
import nn.functional as F


def minimax(real, fake):
    return F.mean(F.softplus(-real)) + F.mean(F.softplus(fake)), -F.mean(F.softplus(fake))


def non_saturating(real, fake):
    return F.mean(F.softplus(-real)) + F.mean(F.softplus(fake)), F.mean(F.softplus(-fake))


def least_squares(real, fake):
    return F.mean((real - 1) ** 2) / 2 + F.mean(fake ** 2) / 2, F.mean((fake - 1) ** 2) / 2


def hinge(real, fake):
    return F.mean(F.relu(1 - real)) + F.mean(F.relu(1 + fake)), -F.mean(fake)


def wasserstein(real, fake):
    return F.mean(fake) - F.mean(real), -F.mean(fake)


def squared_norms(critic, points):
    points = nn.Tensor(points, requires_grad=True)
    (gradient,) = nn.grad(F.sum(critic(points)), [points], create_graph=True)
    return F.sum(gradient ** 2, 1)


def gradient_penalty(critic, points):
    return F.mean((F.sqrt(squared_norms(critic, points)) - 1) ** 2)
