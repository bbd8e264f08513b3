"""Failures of GANs: non-convergence, vanishing gradients, mode collapse; and the known remedies.

The simplest game that fails has one parameter on each side (Mescheder 2018): the real point is 0,
the fake point is t, the discriminator's score of x is s * x. The equilibrium is t = s = 0, but with
minimax, hinge or Wasserstein losses both circle around it. With the non-saturating loss they spiral
inwards, slowly. Noise on the inputs and a penalty on the discriminator's gradient make them
converge. On the ring of eight, the same remedies are tried against mode collapse. Unrolled steps,
in which the generator takes the discriminator's next steps into account, need the derivative of
those steps, which is a second derivative.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import looks
import nn
from ring import OBJECTIVES, Game, draw_points, objectives, modes_found, over_seeds, ring, span

SEEDS = (0, 1, 2)
STEPS = 800  # of the generator, for every remedy
COLLAPSING = (2e-3, 2e-4)  # learning rates: the generator learns too fast for its discriminator
REMEDIES = {"none": {}, "noise": {"noise": 0.3}, "R1": {"r1": 0.3}, "unrolled, 3 steps": {"unrolled": 3},
            "equal learning rates": {"lrs": (2e-3, 2e-3)}}
ONE_NUMBER = {"minimax": {"objective": "minimax"}, "non-saturating": {},
              "noise": {"objective": "minimax", "noise": 0.7},
              "R1": {"objective": "minimax", "r1": 0.6}, "unrolled": {"objective": "minimax", "unrolled": 1},
              "Wasserstein, clip": {"objective": "wasserstein-clip", "clip": 1.0}}


# %% Non-convergence: one parameter on each side
def one_number_each(steps, objective="non-saturating", noise=0.0, r1=0.0, unrolled=0, clip=None, lr=0.1,
                    simultaneous=False):
    """Return the path (steps + 1, 2) of (t, s) from (1, 1), by alternating gradient steps."""
    game, random = OBJECTIVES[objective], np.random.default_rng(0)
    t, s = nn.Tensor(np.array([1.0]), requires_grad=True), nn.Tensor(np.array([1.0]), requires_grad=True)
    path = [(1.0, 1.0)]

    def noise_sample():
        return noise * random.standard_normal(64)

    def discriminator_loss(s, t):
        return game.discriminator(s * noise_sample(), s * (t + noise_sample())) + r1 / 2 * (s * s).sum()

    for _ in range(steps):
        before = s
        (gs,) = nn.grad(discriminator_loss(s, t.detach()), [s])
        s = nn.Tensor(s.data - lr * gs.data, requires_grad=True)
        if clip is not None:
            objectives.clip_weights([s], clip)
        ahead = before if simultaneous else s
        for _ in range(unrolled):
            (gs,) = nn.grad(discriminator_loss(ahead, t), [ahead], create_graph=True)
            ahead = ahead - 5 * lr * gs
        (gt,) = nn.grad(game.generator(ahead * (t + noise_sample())), [t])
        t = nn.Tensor(t.data - lr * gt.data, requires_grad=True)
        path.append((t.item(), s.item()))
    return np.array(path)


def end(path):
    """Return the distance of a path's end from the equilibrium."""
    return float(np.hypot(*path[-1]))


# %% Vanishing gradients
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


# %% Mode collapse
def collapse(steps, seed=0, snapshots=1, **remedy):
    """Play at the COLLAPSING learning rates; return the points (2000, 2) at several times."""
    game, shown = Game(ring, **({"lrs": COLLAPSING, "seed": seed} | remedy)), []
    for _ in range(snapshots):
        game.play(steps // snapshots)
        shown.append(game.generate(2000).data.reshape(-1, 2))
    return shown


# %% The experiment
def experiment(fast=False):
    """Return paths of the one-parameter game, movements, and points of each remedy."""
    steps, seeds = (40, SEEDS[:1]) if fast else (STEPS, SEEDS)
    rings = {name: [collapse(steps, seed, snapshots=8, **remedy) for seed in seeds]
             for name, remedy in REMEDIES.items()}
    return {"paths": {name: one_number_each(500, **options) for name, options in ONE_NUMBER.items()},
            "rings": rings, "steps": steps,
            "modes": {name: [modes_found(shown[-1]) for shown in each] for name, each in rings.items()},
            "moved": {name: movement(name, 40 if fast else 200) for name in ("minimax", "non-saturating")}}


def images(found):
    """Plot the one-parameter game with its arrows, the collapsing generator in time, and the
    remedies."""
    game = looks.figure(8, 5.4)
    grid = np.linspace(-2, 2, 13)
    for axes, (name, path) in zip(game.subplots(2, 3, sharex=True, sharey=True).ravel(), found["paths"].items()):
        fields = [_gradients(t, s, **ONE_NUMBER[name]) for s in grid for t in grid]
        axes.quiver(*np.meshgrid(grid, grid), *np.array(fields).T, color=looks.NEUTRAL, alpha=0.5, width=0.004)
        axes.plot(*path.T, color=looks.DISCRIMINATOR, linewidth=0.8)
        axes.plot(*path[0], "s", color=looks.ink(), markersize=4)
        axes.plot(*path[-1], "o", color=looks.GENERATED, markersize=6)
        axes.plot(0, 0, "+", color=looks.REAL, markersize=12, markeredgewidth=2)
        axes.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
        axes.set_title(f"{name}: ends {end(path):.2f} away")
    for axes in game.axes[3:]:
        axes.set_xlabel("t, the fake point")
    for axes in game.axes[::3]:
        axes.set_ylabel("s, the score's slope")
    film = looks.figure(8, 1.4)
    for k, (axes, points) in enumerate(zip(film.subplots(1, 8), found["rings"]["none"][0]), 1):
        draw_points(axes, points)
        axes.set_title(f"step {k * found['steps'] // 8}", fontsize=7)
    rings = looks.figure(8, 2.1)
    for axes, (name, shown) in zip(rings.subplots(1, len(found["rings"])), found["rings"].items()):
        draw_points(axes, shown[0][-1])
        axes.set_title(f"{name}\n{over_seeds(found['modes'][name])}", fontsize=7)
    return {"game": game, "film": film, "rings": rings}


def _gradients(t, s, objective="non-saturating", r1=0.0, **_):
    """Return minus the gradients of the two losses, (for t, for s), without noise."""
    t, s = (nn.Tensor(np.array([v]), requires_grad=True) for v in (t, s))
    game = OBJECTIVES[objective]
    (gs,) = nn.grad(game.discriminator(s * 0.0, s * t.detach()) + r1 / 2 * (s * s).sum(), [s])
    (gt,) = nn.grad(game.generator(s.detach() * t), [t])
    return -gt.item(), -gs.item()


def claim(found):
    ends = ", ".join(f"{name} {end(path):.2f}" for name, path in found["paths"].items())
    modes = "\n".join(f"    {name}: {over_seeds(each)}" for name, each in found["modes"].items())
    return (f"One parameter each, distance from the equilibrium after 500 steps (at first 1.41): {ends}.\n"
            f"Against a perfect discriminator, the same steps move minimax's points by "
            f"{found['moved']['minimax']:.3f}, the non-saturating loss's by {found['moved']['non-saturating']:.3f}.\n"
            f"Modes found, and points near one, after {found['steps']} steps of the generator; seeds: "
            f"{len(found['modes']['none'])}\n{modes}")


# %% What would happen if ...
def if_simultaneous(fast=False):
    """... both moved simultaneously instead of alternately?"""
    ends = {name: end(one_number_each(500, name, simultaneous=True)) for name in ("minimax", "non-saturating")}
    return ends | {"answer": (f"With minimax the circle becomes a spiral outwards, {ends['minimax']:.2f} away after "
                              f"500 steps; the non-saturating loss still goes inwards, to "
                              f"{ends['non-saturating']:.2f}.")}


def if_longer(fast=False):
    """... the game of one parameter each went on four times as long?"""
    ends = {name: end(one_number_each(2000, name)) for name in ("minimax", "non-saturating", "hinge", "least-squares")}
    shown = ", ".join(f"{name} {value:.2f}" for name, value in ends.items())
    return ends | {"answer": f"Distances after 2,000 steps: {shown}. Only the non-saturating loss goes inwards."}


def if_strong_r1(fast=False):
    """... R1 had ten times the weight?"""
    ends = {steps: end(one_number_each(steps, "minimax", r1=6.0)) for steps in (100, 500)}
    return ends | {"answer": f"The discriminator hardly moves, and the generator follows slowly: {ends[100]:.2f} away "
                             f"after 100 steps, {ends[500]:.2f} after 500."}


def if_short_sight(fast=False):
    """... the unrolled steps were a hundred times smaller?"""
    steps, seeds = (400, SEEDS[:1]) if fast else (STEPS, SEEDS)
    near = {lr: [modes_found(collapse(steps, seed, unrolled=3, unrolled_lr=lr)[0])[1] for seed in seeds]
            for lr in (0.1, 0.001)}
    return {"near": near, "answer": (f"Less foresight, less effect: {span(near[0.001], '{:.0%}')} of the points are "
                                     f"near a mode instead of {span(near[0.1], '{:.0%}')}.")}


def if_wasserstein(fast=False):
    """... a Wasserstein critic had the same slow learning rate?"""
    steps, seeds = (100, SEEDS[:1]) if fast else (STEPS // 2, SEEDS)
    options = {"objective": "wasserstein-gp", "discriminator_steps": 3, "penalty": 1.0}
    found = {name: [modes_found(collapse(steps, seed, **options, **lrs)[0]) for seed in seeds]
             for name, lrs in (("slow", {}), ("equal", {"lrs": (2e-3, 2e-3)}))}
    return found | {"answer": (f"{over_seeds(found['slow'])}; at equal learning rates {over_seeds(found['equal'])}. "
                               "A critic's value is only the distance if it is nearly optimal all the time.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
