"""Adversarial losses: minimax and its modification, the Wasserstein distance, least squares, hinge.

Minimax gives the generator its largest gradient where it already does well, and almost none where
the discriminator is certain: the gradient vanishes just when it is needed. The modified
(non-saturating) loss does the opposite. A Wasserstein critic does not classify: it estimates the
distance of the fake points from the real ones, if the norm of its gradient is bounded. With a
gradient penalty the estimate is nearly right, with clipped weights only proportional. Which loss
learns all eight modes of the ring?
"""
import lesson  # first: it puts the project on the path

import numpy as np

import looks
import nn
import nn.functional as F
from ring import OBJECTIVES, Game, draw_points, modes_found, over_seeds, ring

SHIFTS = (0.5, 1.0, 2.0, 4.0)
SEEDS = (0, 1, 2)
WEIGHT = OBJECTIVES["wasserstein-gp"].gradient_penalty
# A critic takes more steps than the generator, because its value is the generator's loss. Modes as
# small as the ring's need a smaller penalty.
OPTIONS = {"wasserstein-clip": {"discriminator_steps": 5},
           "wasserstein-gp": {"discriminator_steps": 3, "penalty": 1.0, "lrs": (2e-3, 2e-3)}}
UPDATES = 1600  # steps of both networks together, the same for every loss


# %% How large is the generator's gradient?
def gradient_norm(game, name):
    """Return the sum over fake points of the norm of an objective's gradient."""
    fake = nn.Tensor(game.generate(512).data, requires_grad=True)
    loss = OBJECTIVES[name].generator(game.discriminator(fake))
    return float(np.linalg.norm(nn.grad(loss, [fake])[0].numpy().reshape(512, -1), axis=1).sum())


def vanishing_gradients(steps):
    """Train only the discriminator; return rows (n, 4): the step, the mean probability of being
    real that it gives fake points, and the gradient norms of minimax and of the modified loss."""
    game, rows = Game(ring, "minimax"), []
    for step in range(steps):
        game.discriminator_step()
        if step % max(1, steps // 40) == 0:
            probability = F.sigmoid(game.discriminator(game.generate(512).data)).mean().item()
            rows.append((step, probability, gradient_norm(game, "minimax"), gradient_norm(game, "non-saturating")))
    return np.array(rows)


# %% What does a critic estimate?
def critic_values(name, shifts, steps, dimensions=2, seed=0, **changes):
    """Return a critic's estimates of the distance of two Gaussians; the true value is the shift.

    changes: attributes of the objective to replace
    """
    def real(count, rng):
        return rng.normal(0, 0.3, (count, 1, 1, dimensions)).astype(np.float32)

    values = []
    for shift in shifts:
        game, offset = Game(real, name, dimensions, lrs=(0, 2e-3), seed=seed), np.zeros(dimensions, np.float32)
        offset[0] = shift
        game.objective = type("Changed", (type(game.objective),), changes)()
        game.penalty = game.objective.gradient_penalty
        game.generate = lambda count=None, game=game, offset=offset: nn.Tensor(
            real(count or game.batch, game.random) + offset)
        for _ in range(steps):
            game.discriminator_step()
        values.append((game.discriminator(real(2000, game.random)).mean()
                       - game.discriminator(game.generate(2000).data).mean()).item())
    return np.array(values)


# %% The experiment
def experiment(fast=False):
    """Return gradient norms, the critics' values, and generated points for each objective."""
    updates, critic_steps, seeds = (40, 150, SEEDS[:1]) if fast else (UPDATES, 200, SEEDS)
    games, shifts = {}, SHIFTS[::3] if fast else SHIFTS
    for name in OBJECTIVES:
        options = OPTIONS.get(name, {})
        steps = updates // (1 + options.get("discriminator_steps", 1))
        games[name] = [Game(ring, name, seed=seed, **options).play(steps).generate(2000).data.reshape(-1, 2)
                       for seed in seeds]
    return {"gradients": vanishing_gradients(160 if fast else 400), "games": games, "updates": updates,
            "modes": {name: [modes_found(points) for points in each] for name, each in games.items()},
            "shifts": shifts, "values": {name: critic_values(name, shifts, critic_steps)
                                         for name in ("wasserstein-gp", "wasserstein-clip")}}


def images(found):
    """Plot the losses over the score; the gradients and the critics' values; six rings."""
    formulas = looks.figure(8, 2.5)
    score = np.linspace(-4, 4, 161)
    left, right = formulas.subplots(1, 2)
    styles = dict(zip(OBJECTIVES, ("-", "--", "-.", ":", "-", "--")))
    zeros = np.zeros(1)
    for name, loss in OBJECTIVES.items():
        if name == "wasserstein-gp":
            continue  # the same formulas
        look = {"label": name.removesuffix("-clip"), "linewidth": 3 if name == "hinge" else 1.5}
        left.plot(score, [loss.generator(np.array([s])) for s in score], styles[name], **look,
                  color=looks.NEUTRAL if name == "minimax" else looks.GENERATED)
        if name != "non-saturating":
            right.plot(score, [loss.discriminator(zeros, np.array([s])) - loss.discriminator(zeros, zeros)
                               for s in score], styles[name], **look,
                       color=looks.NEUTRAL if name == "minimax" else looks.DISCRIMINATOR)
    left.set(xlabel="D(g), score of a fake point", ylabel="loss", title="of the generator", ylim=(-4, 6))
    right.set(xlabel="D(g), score of a fake point", title="of the discriminator (its part for fake points)",
              ylim=(-4, 6))
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    curves = looks.figure(8, 2.9)
    left, right = curves.subplots(1, 2)
    steps, probability, minimax, modified = found["gradients"].T
    left.semilogy(steps, modified, color=looks.GENERATED, label="non-saturating")
    left.semilogy(steps, minimax, color=looks.NEUTRAL, label="minimax")
    left.semilogy(steps, probability, ":", color=looks.DISCRIMINATOR, label="sigmoid(D(g))")
    left.set(xlabel="steps of the discriminator alone", ylabel="gradient norm at the fake points")
    line = np.linspace(0, SHIFTS[-1], 50)
    right.plot(line, line, color=looks.NEUTRAL, linestyle="--", label="distance")
    right.plot(line, line * (1 + line / (2 * WEIGHT)), color=looks.NEUTRAL, linewidth=1,
               label="distance + distance² / 20")
    right.plot(found["shifts"], found["values"]["wasserstein-gp"], "o-", color=looks.DISCRIMINATOR,
               label="gradient penalty")
    own = right.twinx()
    own.plot(found["shifts"], found["values"]["wasserstein-clip"], "s-", color=looks.GENERATED, label="clipped weights")
    own.set_ylabel("estimate, clipped weights", color=looks.GENERATED)
    own.set_ylim(0, 1.1 * found["values"]["wasserstein-clip"].max())
    right.set(xlabel="earth mover's distance of two sets", ylabel="the critic's estimate", ylim=(0, 5.2))
    left.legend()
    right.legend(loc="upper left")
    rings = looks.figure(8, 5.6)
    for axes, (name, games) in zip(rings.subplots(2, 3).ravel(), found["games"].items()):
        draw_points(axes, games[0])
        axes.set_title(f"{name}\n{over_seeds(found['modes'][name])}")
    return {"formulas": formulas, "curves": curves, "rings": rings}


def claim(found):
    _, probability, minimax, modified = found["gradients"][-1]
    values = found["values"]
    modes = "\n".join(f"    {name}: {over_seeds(each)}" for name, each in found["modes"].items())
    return (f"When the discriminator gives fake points a probability of {probability:.0e} of being real, the "
            f"gradient norm of minimax is {minimax:.0e}, that of the non-saturating loss {modified:.1f}.\n"
            f"Estimated distance of two sets {found['shifts'][-1]:g} apart: {values['wasserstein-gp'][-1]:.2f} with a "
            f"gradient penalty, {values['wasserstein-clip'][-1]:.2g} with clipped weights.\n"
            f"Modes found, and points near one, after {found['updates']} updates; seeds: "
            f"{len(found['modes']['minimax'])}\n{modes}")


# %% What would happen if ...
def if_longer(fast=False):
    """... the discriminator were trained alone for twice as long?"""
    short, long = (vanishing_gradients(steps)[-1] for steps in ((150, 300) if fast else (400, 800)))
    return {"short": short, "long": long, "answer": (
        f"sigmoid(D(g)) falls from {short[1]:.0e} to {long[1]:.0e} and minimax's gradient with it, from "
        f"{short[2]:.0e} to {long[2]:.0e}. The non-saturating gradient is {long[3]:.1f} instead of {short[3]:.1f}.")}


def if_wide_clip(fast=False):
    """... the weights were clipped at 0.1 instead of 0.01?"""
    narrow, wide = (critic_values("wasserstein-clip", (2.0,), 100 if fast else 200, clip=clip)[0]
                    for clip in (0.01, 0.1))
    return {"ratio": wide / narrow, "answer": (
        f"The critic's values grow {wide / narrow:.0f}-fold: three layers, up to ten times each. Their scale is that "
        "of the clip, not of the distance.")}


def if_no_penalty(fast=False):
    """... the gradient penalty had no weight?"""
    short, long = (critic_values("wasserstein-gp", (1.0,), steps, gradient_penalty=0.0)[0]
                   for steps in ((60, 120) if fast else (200, 400)))
    return {"short": short, "long": long, "answer": (
        f"Nothing bounds the critic: for a distance of 1 it says {short:.0f}, and after twice as many steps "
        f"{long:.0f}.")}


def if_score(fast=False):
    """... a fake point already had a high score?"""
    slopes = {}
    for name in OBJECTIVES:
        for score in (-3.0, 3.0):
            s = nn.Tensor(np.array([score]), requires_grad=True)
            slopes[name, score] = nn.grad(OBJECTIVES[name].generator(s), [s])[0].item()
    shown = ", ".join(f"{name} {slopes[name, -3.0]:.2f} and {slopes[name, 3.0]:.2f}" for name in OBJECTIVES)
    return {"slopes": slopes, "answer": (
        f"Slope of the generator's loss at scores of -3 and 3: {shown}. Only least squares pulls a score of 3 back "
        "down, to its target 1.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
