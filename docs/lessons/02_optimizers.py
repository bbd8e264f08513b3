"""Optimizers: five of them on the same function, and a network trained in twenty lines.

A gradient gives the direction of descent, but not the length of the step. In a valley that is steep
across and nearly level along, no single step size suits both directions: a small one is slow along
the valley, a large one overshoots from side to side. Momentum and a step size for each weight are
two remedies. Adam combines them.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
import nn.functional as F
from gan.monitor import chart

START, MINIMUM = (-1.5, 1.2), (1.0, 0.0)
STEEP = 100.0  # curvature across the valley relative to that along it
STEPS = 400  # for each optimizer
NEAR = 0.05  # distance from the minimum at which an optimizer has converged
OPTIMIZERS = {"SGD": lambda p: nn.optim.SGD(p, lr=0.018),
              "with momentum": lambda p: nn.optim.SGD(p, lr=0.018, momentum=0.8),
              "RMSprop": lambda p: nn.optim.RMSprop(p, lr=0.03),
              "Adam": lambda p: nn.optim.Adam(p, lr=0.15, betas=(0.9, 0.99)),
              "AdaBelief": lambda p: nn.optim.AdaBelief(p, lr=0.15, betas=(0.9, 0.99))}


def valley(along, across):
    """Return a quadratic that is 0 at MINIMUM and grows STEEP times as fast across as along."""
    return ((along - MINIMUM[0]) ** 2 + STEEP * (across - MINIMUM[1]) ** 2) / 2


def walk(make, steps):
    """Return the path (steps + 1, 2) of an optimizer, make(parameters), down the valley."""
    point = [nn.Parameter(np.array(v)) for v in START]
    optimizer, path = make(point), [START]
    for _ in range(steps):
        optimizer.zero_grad()
        valley(*point).backward()
        optimizer.step()
        path.append(tuple(p.item() for p in point))
    return np.array(path)


def arrival(path):
    """Return the step after which a path stays NEAR the minimum, or None."""
    far = np.flatnonzero(np.hypot(*(path - MINIMUM).T) > NEAR)[-1]
    return None if far == len(path) - 1 else int(far + 1)


def fit(make, steps):
    """Train a network to fit a curve, in a loop of four lines; return losses, (x, y, output)."""
    nn.manual_seed(0)
    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    y = np.sin(4 * x) * np.exp(-x)
    network = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer, losses = make(network.parameters()), []
    for _ in range(steps):
        loss = F.mse_loss(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, (x, y, network(x).numpy())


def experiment(fast=False):
    """Return each optimizer's path and arrival, and the losses of a network by SGD and Adam."""
    paths = {name: walk(make, STEPS) for name, make in OPTIMIZERS.items()}
    steps = 300 if fast else 2000
    fits = {"SGD": fit(lambda p: nn.optim.SGD(p, lr=0.1), steps),
            "Adam": fit(lambda p: nn.optim.Adam(p, lr=0.01), steps)}
    return {"paths": paths, "arrivals": {name: arrival(path) for name, path in paths.items()}, "fits": fits}


def image(found):
    """Plot each path, and the network's outputs and losses."""
    drawing = chart.figure(12, 6)
    above, below = drawing.subfigures(2)
    panels, (curves, losses) = above.subplots(1, 5, sharey=True), below.subplots(1, 2)
    along, across = np.meshgrid(np.linspace(-1.9, 1.9, 120), np.linspace(-1.6, 1.6, 100))
    for axes, (name, path) in zip(panels, found["paths"].items()):
        axes.contour(along, across, valley(along, across), np.geomspace(0.02, 150, 12), colors=chart.GRAY,
                     linewidths=0.5)
        axes.plot(*path.T, ".-", color=chart.BLUE, markersize=3, linewidth=0.8)
        axes.plot(*MINIMUM, "*", color=chart.ORANGE, markersize=12)
        when = found["arrivals"][name]
        axes.set_title(f"{name}: " + (f"{when} steps" if when else f"more than {STEPS} steps"), fontsize=9)
        axes.set(xlim=(-1.9, 1.9), ylim=(-1.6, 1.6))
    x, y, _ = found["fits"]["SGD"][1]
    curves.plot(x, y, color=chart.GRAY, linewidth=4, alpha=0.4, label="target")
    for name, color in (("SGD", chart.ORANGE), ("Adam", chart.BLUE)):
        history, (x, _, generated) = found["fits"][name]
        curves.plot(x, generated, color=color, label=name)
        losses.plot(history, color=color, label=name)
    losses.set(yscale="log", xlabel="step")
    losses.set_title("training loss", fontsize=9)
    curves.set_title("a network of three layers fits a curve", fontsize=9)
    curves.legend(frameon=False, fontsize=8)
    losses.legend(frameon=False, fontsize=8)
    return chart.pixels(drawing)


def claim(found):
    arrivals = ", ".join(f"{name} {when or f'more than {STEPS}'}" for name, when in found["arrivals"].items())
    last = {name: history[-1] for name, (history, _) in found["fits"].items()}
    return (f"Steps to the bottom of a valley {STEEP:g} times as steep across as along: {arrivals}.\n"
            f"The network's final loss: SGD {last['SGD']:.2g}, Adam {last['Adam']:.2g}.")


if __name__ == "__main__":
    lesson.run(globals())
