"""Solutions of the exercises of lesson 4."""
import numpy as np


def kl_divergence(rho, activity):
    return (rho * np.log(rho / activity) + (1 - rho) * np.log((1 - rho) / (1 - activity))).sum()


def kl_gradient(rho, activity):
    return -rho / activity + (1 - rho) / (1 - activity)


def sparse_delta(gradient, hidden, rho, beta):
    penalty = beta * kl_gradient(rho, hidden.mean(axis=0)) / len(hidden)
    return (gradient + penalty) * hidden * (1 - hidden)


def principal_component(x, steps):
    x = x - x.mean(axis=0)
    v = np.ones(x.shape[1])
    for _ in range(steps):
        v = x.T @ (x @ v)
        v /= np.linalg.norm(v)
    return v


def best_input(weights, unit):
    return weights[:, unit] / np.linalg.norm(weights[:, unit])
