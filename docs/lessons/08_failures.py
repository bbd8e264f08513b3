"""When it fails: vanishing gradients, mode collapse, no convergence; and what each known remedy does about it.

The simplest game that fails has one number on each side (Mescheder 2018): the real point is 0, the generator's point is t, the
discriminator's score at x is s * x. Both are at rest at t = s = 0, yet in turns they circle around it: each follows where the
other was. Noise on the inputs and a penalty on the discriminator's slope lead into the middle; clipped weights do not. On the
ring of eight the same remedies are set against collapse: a generator that shows the same few points, wherever the
discriminator has last forgotten to look. To look ahead at the discriminator's answer (unrolled steps) needs the derivative of its
own steps: second derivatives at work.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import nn
from gan.monitor import chart
from gan.training import losses
from ring import MODES, Game, draw_points, modes_found, ring

AROUND = 0.6  # a heap is found that has points so near: here it is asked where the generator goes, not how well it aims
COLLAPSING = {"rates": (2e-3, 2e-4)}  # a generator too quick for its opponent
REMEDIES = {"none": {}, "noise": {"noise": 0.3}, "R1": {"r1": 0.3}, "unrolled, 3 steps": {"unrolled": 3},
            "Wasserstein, penalty": {"objective": "wasserstein-gp", "turns": 3, "penalty": 1.0, "rates": (2e-3, 2e-3)}}
ONE_NUMBER = {"non-saturating": {}, "noise": {"noise": 0.7}, "R1": {"r1": 0.6}, "unrolled": {"unrolled": 1},
              "Wasserstein, clip": {"objective": "wasserstein-clip", "clip": 1.0}}


def one_number_each(steps, objective="non-saturating", noise=0.0, r1=0.0, unrolled=0, clip=None, rate=0.1):
    """The path (steps + 1, 2) of (t, s), from (1, 1) on, by plain steps in turns."""
    game, random = losses.OBJECTIVES[objective], np.random.default_rng(0)
    t, s = nn.Tensor(np.array([1.0]), requires_grad=True), nn.Tensor(np.array([1.0]), requires_grad=True)
    path = [(1.0, 1.0)]

    def blur():
        return noise * random.standard_normal(64)

    def loss_of(s, t):
        return game.discriminator([s * blur()], [s * (t + blur())]) + r1 / 2 * (s * s).sum()

    for _ in range(steps):
        (slope,) = nn.grad(loss_of(s, t.detach()), [s])
        s = nn.Tensor(s.data - rate * slope.data, requires_grad=True)
        if clip is not None:
            losses.clip_weights([s], clip)
        ahead = s
        for _ in range(unrolled):
            (slope,) = nn.grad(loss_of(ahead, t), [ahead], create_graph=True)
            ahead = ahead - 5 * rate * slope
        (slope,) = nn.grad(game.generator([ahead * (t + blur())]), [t])
        t = nn.Tensor(t.data - rate * slope.data, requires_grad=True)
        path.append((t.item(), s.item()))
    return np.array(path)


def stuck(objective, steps):
    """How far a generator moves its points in so many plain steps, when the discriminator has been made nearly perfect first."""
    game = Game(ring, objective, rates=(0, 1e-2))
    for _ in range(steps):
        game.critic_step()
    game.optimizers[0] = nn.optim.SGD(game.generator.parameters(), lr=0.05)  # Adam would divide the smallness out
    points = []
    for moving in (0, steps // 2):
        for _ in range(moving):
            game.generator_step()
        game.random = np.random.default_rng(1)  # the same noise before and after
        points.append(game.made(1000).data)
    return float(np.abs(points[1] - points[0]).mean())


def experiment(fast=False):
    """Paths of the smallest game, how far a stuck generator moves, points of each remedy on the ring."""
    steps, turns = (40, 200) if fast else (800, 500)
    rings = {}
    for name, remedy in REMEDIES.items():
        game = Game(ring, **(COLLAPSING | remedy)).play(steps // 3 if remedy.get("unrolled") else steps)
        rings[name] = game.made(2000).data.reshape(-1, 2)
    return {"paths": {name: one_number_each(turns, **options) for name, options in ONE_NUMBER.items()}, "rings": rings,
            "modes": {name: modes_found(points, AROUND) for name, points in rings.items()},
            "moved": {name: stuck(name, 40 if fast else 200) for name in ("minimax", "non-saturating")}}


def picture(found):
    """Above the smallest game, below the ring."""
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
    return (f"Against a perfect discriminator, the same steps move minimax's points by {found['moved']['minimax']:.3f}, the modified loss's "
            f"by {found['moved']['non-saturating']:.3f}.\nOne number each, distance from rest in the end: {ends}.\n"
            f"Heaps of {MODES} found, with the remedy: {modes}.")


if __name__ == "__main__":
    lesson.run(globals())
