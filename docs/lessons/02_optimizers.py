"""Optimizers: five of them on the same function, and a network trained in twenty lines.

A gradient gives the direction of descent, but not the length of the step. In a valley that is steep
across and nearly level along, no single step size suits both directions: a small one is slow along
the valley, a large one overshoots from side to side. Momentum and a step size for each weight are
two remedies. Adam combines them.
"""
import lesson  # first: it puts the project on the path

import math

import numpy as np

import looks
import nn
import nn.functional as F

START, MINIMUM = np.array([-1.5, 1.2]), np.array([1.0, 0.0])
STEEP = 100.0  # curvature across the valley relative to that along it
STEPS = 400  # for each optimizer
NEAR = 0.05  # distance from the minimum at which an optimizer has converged
QUICK = 100  # steps: fewer are a good result
LEARNING_RATES = np.geomspace(1e-3, 3, 22)
# The learning rates of the picture of the paths; experiment() compares many.
OPTIMIZERS = {"SGD": lambda p, lr=0.018: nn.optim.SGD(p, lr=lr),
              "momentum": lambda p, lr=0.018: nn.optim.SGD(p, lr=lr, momentum=0.8),
              "RMSprop": lambda p, lr=0.03: nn.optim.RMSprop(p, lr=lr),
              "Adam": lambda p, lr=0.15: nn.optim.Adam(p, lr=lr, betas=(0.9, 0.99)),
              "AdaBelief": lambda p, lr=0.15: nn.optim.AdaBelief(p, lr=lr, betas=(0.9, 0.99))}
FORMULAS = {"SGD": "w ← w - lr g", "momentum": "m ← µ m + g\nw ← w - lr m",
            "RMSprop": "v ← average of g²\nw ← w - lr g / √v",
            "Adam": "m ← average of g\nv ← average of g²\nw ← w - lr m / √v",
            "AdaBelief": "m ← average of g\ns ← average of (g - m)²\nw ← w - lr m / √s"}


# %% The valley, and a walk down to its minimum
def valley(along, across, steep=STEEP):
    """Return a quadratic that is 0 at MINIMUM and grows `steep` times as fast across as along."""
    return ((along - MINIMUM[0]) ** 2 + steep * (across - MINIMUM[1]) ** 2) / 2


def rotated(first, second):
    """Return the same valley, rotated by 45 degrees about MINIMUM."""
    x, y = first - MINIMUM[0], second - MINIMUM[1]
    return valley(MINIMUM[0] + (x + y) / 2 ** 0.5, MINIMUM[1] + (y - x) / 2 ** 0.5)


def walk(make, steps=STEPS, function=valley, start=START):
    """Return the path (steps + 1, 2) of an optimizer, make(parameters), down the valley."""
    point = [nn.Parameter(np.array(v)) for v in start]
    optimizer, path = make(point), [start]
    for _ in range(steps):
        optimizer.zero_grad()
        function(*point).backward()
        optimizer.step()
        path.append(np.array([p.item() for p in point]))
        if not np.abs(path[-1]).max() < 1e6:
            break  # it diverges
    return np.array(path)


def arrival(path):
    """Return the step after which a path stays NEAR the minimum, or None."""
    far = np.flatnonzero(~(np.hypot(*(path - MINIMUM).T) <= NEAR))[-1]
    return None if far == len(path) - 1 else int(far + 1)


# %% A network that fits a curve
def fit(make, steps, activation=nn.Tanh, schedule=lambda progress: 1.0):
    """Train a network to fit a curve, in a loop of four lines; return losses, (x, y, output).

    schedule: factor of the learning rate for progress 0..1
    """
    nn.manual_seed(0)
    x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    y = np.sin(4 * x) * np.exp(-x)
    network = nn.Sequential(nn.Linear(1, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 1))
    optimizer, losses = make(network.parameters()), []
    lr = optimizer.lr
    for step in range(steps):
        loss = F.mse_loss(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = lr * schedule(step / steps)
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses), (x, y, network(x).numpy())


def adam(parameters):
    return nn.optim.Adam(parameters, lr=0.01)


# %% The experiment
def experiment(fast=False):
    """Return each optimizer's path, its arrivals by learning rate, and two networks' losses."""
    paths = {name: walk(make) for name, make in OPTIMIZERS.items()}
    lrs = LEARNING_RATES[::5] if fast else LEARNING_RATES
    by_lr = {name: [arrival(walk(lambda p, lr=lr: make(p, lr))) for lr in lrs] for name, make in OPTIMIZERS.items()}
    steps = 300 if fast else 2000
    fits = {"SGD": fit(lambda p: nn.optim.SGD(p, lr=0.1), steps), "Adam": fit(adam, steps)}
    return {"paths": paths, "arrivals": {name: arrival(path) for name, path in paths.items()}, "fits": fits,
            "lrs": lrs, "by_lr": by_lr}


def images(found):
    """Plot each path with its formula, the arrivals by learning rate, and the fits."""
    walks = looks.figure(8, 3.3)
    along, across = np.meshgrid(np.linspace(-1.9, 1.9, 120), np.linspace(-1.6, 1.6, 100))
    for axes, (name, path) in zip(walks.subplots(1, 5, sharey=True), found["paths"].items()):
        axes.contour(along, across, valley(along, across), np.geomspace(0.02, 150, 12), colors=looks.NEUTRAL,
                     linewidths=0.4)
        axes.plot(*path.T, ".-", color=looks.DISCRIMINATOR, markersize=3, linewidth=0.8)
        axes.plot(*MINIMUM, "*", color=looks.GENERATED, markersize=11)
        axes.set_title(f"{name}: {found['arrivals'][name]} steps\n\n{FORMULAS[name]}", fontsize=7.5, loc="left")
        axes.set_xlabel("along the valley")
    walks.axes[0].set_ylabel("across")
    race = looks.figure(8, 2.6)
    axes = race.subplots()
    for (name, steps), style in zip(found["by_lr"].items(), ("o-", "s-", "^-", "D-", "v-")):
        axes.plot(found["lrs"], [np.nan if step is None else step for step in steps], style, markersize=4, label=name)
    axes.set(xscale="log", xlabel="learning rate", ylabel=f"steps to within {NEAR}", yscale="log",
             title="each optimizer at each learning rate; no mark: it does not get there in 400 steps")
    axes.grid(alpha=0.3)
    axes.legend()
    network = looks.figure(8, 2.6)
    left, right = network.subplots(1, 2)
    x, y, _ = found["fits"]["SGD"][1]
    left.plot(x, y, color=looks.NEUTRAL, linewidth=4, alpha=0.4, label="to be learned")
    for (name, (losses, (_, _, output))), color in zip(found["fits"].items(), (looks.GENERATED, looks.DISCRIMINATOR)):
        left.plot(x, output, color=color, label=name)
        right.plot(losses, color=color, linewidth=0.8, label=name)
    left.set(xlabel="x", ylabel="output", title="a network of three layers fits a curve")
    right.set(yscale="log", xlabel="step", ylabel="loss", title="its loss in training")
    left.legend()
    right.legend()
    return {"paths": walks, "learning_rates": race, "network": network}


def claim(found):
    arrivals = ", ".join(f"{name} {when}" for name, when in found["arrivals"].items())
    race = []
    for name, steps in found["by_lr"].items():
        arrived = {step: lr for step, lr in zip(steps, found["lrs"]) if step is not None}
        best = f"{min(arrived)} at {arrived[min(arrived)]:.2g} " if arrived else ""
        quick = sum(step is not None and step < QUICK for step in steps)
        race.append(f"{name} {best}({sum(step is not None for step in steps)}, {quick})")
    last = ", ".join(f"{name} {losses[-1]:.1g} (least {losses.min():.1g})"
                     for name, (losses, _) in found["fits"].items())
    return (f"Steps to the bottom of a valley {STEEP:g} times as steep across as along: {arrivals}.\n"
            f"At the best learning rate of each (in brackets: at how many of {len(found['lrs'])} it gets there, and at "
            f"how many in fewer than {QUICK} steps): {', '.join(race)}.\n"
            f"The network's final loss: {last}.")


# %% What would happen if ...
def if_diverge(fast=False):
    """... SGD's learning rate were 0.021, just above 2 / 100?"""
    across = np.abs(walk(lambda p: nn.optim.SGD(p, lr=0.021), 100)[:, 1])
    return {"growth": across[-1] / across[-2], "answer": (
        f"It diverges: each swing across the valley is {across[-1] / across[-2]:.2f} times as large as the one "
        "before, which is |1 - 0.021 * 100|.")}


def if_round(fast=False):
    """... the curvature were the same in both directions, and SGD's learning rate 1?"""
    path = walk(lambda p: nn.optim.SGD(p, lr=1.0), 3, lambda along, across: valley(along, across, steep=1.0))
    return {"arrival": arrival(path), "answer": f"SGD arrives after {arrival(path)} step: no other can be better."}


def if_angle(fast=False):
    """... the valley were rotated by 45 degrees?"""
    x, y = START - MINIMUM
    start = MINIMUM + np.array([x - y, x + y]) / 2 ** 0.5  # the same place in the valley
    before = {name: arrival(walk(make)) for name, make in OPTIMIZERS.items()}
    after = {name: arrival(walk(make, 4 * STEPS, rotated, start)) for name, make in OPTIMIZERS.items()}
    shown = ", ".join(f"{name} {before[name]} -> {after[name] or f'more than {4 * STEPS}'}" for name in before)
    return {"before": before, "after": after, "answer": (
        f"Steps before and after: {shown}. SGD and momentum do not notice. The others scale coordinates, and no "
        "coordinate lies along the valley any more.")}


def if_no_tanh(fast=False):
    """... the network had no Tanh?"""
    losses, (x, y, output) = fit(adam, 300 if fast else 2000, activation=lambda: lambda value: value)
    slope, offset = np.polyfit(x[:, 0], y[:, 0], 1)
    straight = float(((slope * x + offset - y) ** 2).mean())
    return {"loss": float(losses[-1]), "straight": straight, "answer": (
        f"Three linear layers are one linear layer. The loss stays at {losses[-1]:.3f}; the best straight line has "
        f"{straight:.3f}.")}


def if_schedule(fast=False):
    """... Adam's learning rate decreased to zero along a half cosine?"""
    steps = 300 if fast else 2000
    plain = fit(adam, steps)[0]
    cosine = fit(adam, steps, schedule=lambda progress: (1 + math.cos(math.pi * progress)) / 2)[0]
    spikes = [int((np.diff(np.log(losses[-steps // 4:])) > 0.1).sum()) for losses in (plain, cosine)]
    return {"plain": plain[-1], "cosine": cosine[-1], "spikes": spikes, "answer": (
        f"The loss ends at {cosine[-1]:.1g} instead of {plain[-1]:.1g}. In the last quarter it jumps up by a tenth "
        f"{spikes[1]} times instead of {spikes[0]}.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
