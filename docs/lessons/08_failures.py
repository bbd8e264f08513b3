"""Failures of GANs: vanishing gradients, mode collapse, non-convergence; and the known remedies.

The simplest game that fails has one parameter on each side (Mescheder 2018): the real point is 0,
the fake point is t, the discriminator's score of x is s * x. The equilibrium is t = s = 0, but with
alternating steps both oscillate around it. Noise on the inputs and a penalty on the discriminator's
gradient make them converge; clipped weights do not. The same remedies are tried against mode
collapse on the ring of eight. Unrolled steps, in which the generator takes the discriminator's next
steps into account, need the derivative of those steps, which is a second derivative.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
from gan.monitor import chart
from gan.training import losses
from ring import MODES, Game, draw_points, modes_found, ring

WITHIN = 0.6  # distance of points that count for a mode; wide, since precision does not matter here
COLLAPSING = {"lrs": (2e-3, 2e-4)}  # the generator learns too fast for its discriminator
REMEDIES = {"none": {}, "noise": {"noise": 0.3}, "R1": {"r1": 0.3}, "unrolled, 3 steps": {"unrolled": 3},
            "Wasserstein, penalty": {"objective": "wasserstein-gp", "discriminator_steps": 3, "penalty": 1.0,
                                     "lrs": (2e-3, 2e-3)}}
ONE_NUMBER = {"non-saturating": {}, "noise": {"noise": 0.7}, "R1": {"r1": 0.6}, "unrolled": {"unrolled": 1},
              "Wasserstein, clip": {"objective": "wasserstein-clip", "clip": 1.0}}


def one_number_each(steps, objective="non-saturating", noise=0.0, r1=0.0, unrolled=0, clip=None, lr=0.1):
    """Return the path (steps + 1, 2) of (t, s) from (1, 1), by alternating gradient steps."""
    game, random = losses.OBJECTIVES[objective], np.random.default_rng(0)
    t, s = nn.Tensor(np.array([1.0]), requires_grad=True), nn.Tensor(np.array([1.0]), requires_grad=True)
    path = [(1.0, 1.0)]

    def noise_sample():
        return noise * random.standard_normal(64)

    def discriminator_loss(s, t):
        return game.discriminator([s * noise_sample()], [s * (t + noise_sample())]) + r1 / 2 * (s * s).sum()

    for _ in range(steps):
        (gs,) = nn.grad(discriminator_loss(s, t.detach()), [s])
        s = nn.Tensor(s.data - lr * gs.data, requires_grad=True)
        if clip is not None:
            losses.clip_weights([s], clip)
        ahead = s
        for _ in range(unrolled):
            (gs,) = nn.grad(discriminator_loss(ahead, t), [ahead], create_graph=True)
            ahead = ahead - 5 * lr * gs
        (gt,) = nn.grad(game.generator([ahead * (t + noise_sample())]), [t])
        t = nn.Tensor(t.data - lr * gt.data, requires_grad=True)
        path.append((t.item(), s.item()))
    return np.array(path)


def movement(objective, steps):
    """Return how far fake points move in steps // 2 steps against a nearly perfect
    discriminator."""
    game = Game(ring, objective, lrs=(0, 1e-2))
    for _ in range(steps):
        game.discriminator_step()
    game.optimizers[0] = nn.optim.SGD(game.generator.parameters(), lr=0.05)  # Adam would normalize small gradients
    points = []
    for moving in (0, steps // 2):
        for _ in range(moving):
            game.generator_step()
        game.random = np.random.default_rng(1)  # the same noise before and after
        points.append(game.generate(1000).data)
    return float(np.abs(points[1] - points[0]).mean())


def experiment(fast=False):
    """Return paths of the one-parameter game, movements, and points of each remedy."""
    steps, small_steps = (40, 200) if fast else (800, 500)
    rings = {}
    for name, remedy in REMEDIES.items():
        game = Game(ring, **(COLLAPSING | remedy)).play(steps // 3 if remedy.get("unrolled") else steps)
        rings[name] = game.generate(2000).data.reshape(-1, 2)
    paths = {name: one_number_each(small_steps, **options) for name, options in ONE_NUMBER.items()}
    return {"paths": paths, "rings": rings,
            "modes": {name: modes_found(points, WITHIN) for name, points in rings.items()},
            "moved": {name: movement(name, 40 if fast else 200) for name in ("minimax", "non-saturating")}}


def image(found):
    """Plot the one-parameter game (top) and the ring (bottom)."""
    drawing = chart.figure(11, 5.2)
    above, below = drawing.subfigures(2)
    for axes, (name, path) in zip(above.subplots(1, len(found["paths"]), sharey=True), found["paths"].items()):
        axes.plot(*path.T, color=chart.BLUE, linewidth=0.8)
        axes.plot(*path[-1], "o", color=chart.ORANGE, markersize=5)
        axes.plot(0, 0, "+", color=chart.GREEN, markersize=12)
        axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
        axes.set_title(f"{name}: ends {np.hypot(*path[-1]):.2f} away", fontsize=9)
    for axes, (name, points) in zip(below.subplots(1, len(found["rings"])), found["rings"].items()):
        draw_points(axes, points)
        axes.set_title(f"{name}: {found['modes'][name][0]} of {MODES}", fontsize=9)
    return chart.pixels(drawing)


def claim(found):
    ends = ", ".join(f"{name} {np.hypot(*path[-1]):.2f}" for name, path in found["paths"].items())
    modes = ", ".join(f"{name} {count}" for name, (count, _) in found["modes"].items())
    return (f"Against a perfect discriminator, the same steps move minimax's points by "
            f"{found['moved']['minimax']:.3f}, the modified loss's by {found['moved']['non-saturating']:.3f}.\n"
            f"One parameter each, final distance from the equilibrium: {ends}.\n"
            f"Modes found of {MODES}, by remedy: {modes}.")


if __name__ == "__main__":
    lesson.run(globals())
