"""A network in twenty lines, and what each optimizer does on one and the same valley.

A gradient says which way is downhill here, and nothing of how far. In a valley that is steep across and nearly level along,
one step size cannot suit both: what suits the slopes creeps along the floor, what suits the floor is thrown from slope to slope.
Momentum, and a step size for each weight, are two answers; Adam is both.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
import nn.functional as F
from gan.monitor import chart

START, MINIMUM = (-1.5, 1.2), (1.0, 0.0)
STEEP = 100.0  # times as steep across the valley as along it
STEPS = 400  # down the valley
NEAR = 0.05  # of the minimum: it has arrived
OPTIMIZERS = {"SGD": lambda p: nn.optim.SGD(p, lr=0.018), "with momentum": lambda p: nn.optim.SGD(p, lr=0.018, momentum=0.8),
              "RMSprop": lambda p: nn.optim.RMSprop(p, lr=0.03), "Adam": lambda p: nn.optim.Adam(p, lr=0.15, betas=(0.9, 0.99)),
              "AdaBelief": lambda p: nn.optim.AdaBelief(p, lr=0.15, betas=(0.9, 0.99))}


def valley(along, across):
    """Zero at MINIMUM; the floor bends upwards slowly along the valley and STEEP times as fast across it."""
    return ((along - MINIMUM[0]) ** 2 + STEEP * (across - MINIMUM[1]) ** 2) / 2


def walk(make, steps):
    """The path (steps + 1, 2) of an optimizer down the valley."""
    point = [nn.Parameter(np.array(v)) for v in START]
    optimizer, path = make(point), [START]
    for _ in range(steps):
        optimizer.zero_grad()
        valley(*point).backward()
        optimizer.step()
        path.append(tuple(p.item() for p in point))
    return np.array(path)


def arrival(path):
    """The step from which on a path stays NEAR the minimum, or None."""
    far = np.flatnonzero(np.hypot(*(path - MINIMUM).T) > NEAR)[-1]
    return None if far == len(path) - 1 else int(far + 1)


def fit(make, steps):
    """The loss at each step of a network that learns a curve: everything that training is, in a loop of four lines."""
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
    """Each optimizer's path down the valley and its arrival; the losses of a network learned with plain SGD and with Adam."""
    paths = {name: walk(make, STEPS) for name, make in OPTIMIZERS.items()}
    steps = 300 if fast else 2000
    fits = {"SGD": fit(lambda p: nn.optim.SGD(p, lr=0.1), steps), "Adam": fit(lambda p: nn.optim.Adam(p, lr=0.01), steps)}
    return {"paths": paths, "arrivals": {name: arrival(path) for name, path in paths.items()}, "fits": fits}


def picture(found):
    """A panel for each path, and the network's curves and losses."""
    drawing = chart.figure(12, 6)
    above, below = drawing.subfigures(2)
    panels, (curves, losses) = above.subplots(1, 5, sharey=True), below.subplots(1, 2)
    along, across = np.meshgrid(np.linspace(-1.9, 1.9, 120), np.linspace(-1.6, 1.6, 100))
    for axes, (name, path) in zip(panels, found["paths"].items()):
        axes.contour(along, across, valley(along, across), np.geomspace(0.02, 150, 12), colors=chart.GREY, linewidths=0.5)
        axes.plot(*path.T, ".-", color=chart.BLUE, markersize=3, linewidth=0.8)
        axes.plot(*MINIMUM, "*", color=chart.ORANGE, markersize=12)
        when = found["arrivals"][name]
        axes.set_title(f"{name}: " + (f"there after {when} steps" if when else f"not there after {STEPS}"), fontsize=9)
        axes.set(xlim=(-1.9, 1.9), ylim=(-1.6, 1.6))
    x, y, _ = found["fits"]["SGD"][1]
    curves.plot(x, y, color=chart.GREY, linewidth=4, alpha=0.4, label="to be learned")
    for name, colour in (("SGD", chart.ORANGE), ("Adam", chart.BLUE)):
        history, (x, _, drawn) = found["fits"][name]
        curves.plot(x, drawn, color=colour, label=name)
        losses.plot(history, color=colour, label=name)
    losses.set(yscale="log", xlabel="step")
    losses.set_title("its loss", fontsize=9)
    curves.set_title("a network of three layers", fontsize=9)
    curves.legend(frameon=False, fontsize=8)
    losses.legend(frameon=False, fontsize=8)
    return chart.pixels(drawing)


def claim(found):
    arrivals = ", ".join(f"{name} {when or f'more than {STEPS}'}" for name, when in found["arrivals"].items())
    last = {name: history[-1] for name, (history, _) in found["fits"].items()}
    return (f"Steps to the bottom of a valley {STEEP:g} times as steep across as along: {arrivals}.\n"
            f"The network's loss in the end: SGD {last['SGD']:.2g}, Adam {last['Adam']:.2g}.")


if __name__ == "__main__":
    lesson.run(globals())
