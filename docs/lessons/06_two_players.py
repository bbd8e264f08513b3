"""Two players: a generator of numbers, a discriminator of real and fake ones, and their game.

The discriminator's step: real numbers should score high, fake ones low; the generator is frozen.
The generator's step: its fake numbers should score high. The gradient passes through the
discriminator, which is frozen. At first the discriminator is usually correct. As the fake numbers
become distributed like the real ones, its accuracy falls to chance, 50 %. That is the goal, but not
a stable state: the gradient of a discriminator at chance is noise, and the generator keeps
following it.
"""
import lesson  # first: it puts the project on the path

import numpy as np

import drawings
import looks
import nn.functional as F
from ring import Game, span

WINDOW = 60  # steps over which the accuracy is averaged
CHANCE = 0.55  # accuracy below which the discriminator counts as guessing
SEEDS = (0, 1, 2)
LINE = np.linspace(-3, 4, 141, dtype=np.float32)


# %% The real numbers, and how far the fake ones are from them
def real(count, rng):
    """Draw numbers (count, 1, 1, 1) with two modes: a narrow one at -1, a wide one at 1.5."""
    first = rng.random(count) < 0.4
    numbers = np.where(first, rng.normal(-1, 0.2, count), rng.normal(1.5, 0.5, count))
    return numbers.reshape(count, 1, 1, 1).astype(np.float32)


GROUND_TRUTH = real(2000, np.random.default_rng(1))


def distance(a, b):
    """Return the earth mover's distance of two sets of equal size: of their sorted numbers, in
    1-D."""
    return float(np.abs(np.sort(a.ravel()) - np.sort(b.ravel())).mean())


def new_game(seed=0, lrs=(1e-3, 2e-3)):
    return Game(real, dimensions=1, lrs=lrs, batch=256, seed=seed)


def play(game, steps, fade=False):
    """Play a game; return the smoothed accuracies, distances (n, 2) and four snapshots.

    fade: decrease both learning rates to zero in the second half
    A snapshot is (fake numbers, the discriminator's probability of "real" along LINE).
    """
    accuracies, distances, snapshots = [], [], {}
    lrs, shown = [optimizer.lr for optimizer in game.optimizers], {0, steps // 20, steps // 6, steps - 1}

    def record(step, game, accuracy):
        accuracies.append(accuracy)
        if step % 20 == 0:
            distances.append((step, distance(game.generate(2000).data, GROUND_TRUTH)))
        if step in shown:
            probability = F.sigmoid(game.discriminator(LINE.reshape(-1, 1, 1, 1))).numpy().ravel()
            snapshots[step] = game.generate(2000).data.ravel(), probability
        if fade:
            for optimizer, lr in zip(game.optimizers, lrs):
                optimizer.lr = lr * min(1.0, 2 * (1 - step / steps))

    game.play(steps, record)
    smooth = np.convolve(accuracies, np.ones(WINDOW) / WINDOW, "valid")
    return {"accuracy": smooth, "distances": np.array(distances), "snapshots": snapshots}


def frozen_checks(game):
    """Return which weights each player's step leaves unchanged bit for bit, and which it changes."""
    players = {"generator": game.generator, "discriminator": game.discriminator}
    checks = {}
    for step in (game.discriminator_step, game.generator_step):
        before = {name: [p.data.copy() for p in player.parameters()] for name, player in players.items()}
        step()
        checks[step.__name__] = {name: all(np.array_equal(old, p.data) for old, p in
                                           zip(before[name], player.parameters())) for name, player in players.items()}
    return checks


# %% The experiment
def experiment(fast=False):
    """Check which weights each step changes; play with three seeds."""
    steps, seeds = (600, SEEDS[:2]) if fast else (4000, SEEDS)
    return {"checks": frozen_checks(new_game()), "games": [play(new_game(seed), steps) for seed in seeds]}


def at_chance(game):
    """Return the first step at which the discriminator guesses, and the distance there."""
    guessing = np.flatnonzero(game["accuracy"] < CHANCE)
    if not len(guessing):
        return None
    step = int(guessing[0] + WINDOW)
    times, distances = game["distances"].T
    return step, float(np.interp(step, times, distances))


def images(found):
    """Draw the two steps; plot numbers and scores at four steps, accuracies and distances."""
    snapshots = looks.figure(8, 2.6)
    bins = np.linspace(-3, 4, 71)
    for axes, (step, (fake, probability)) in zip(snapshots.subplots(1, 4, sharey=True),
                                                 found["games"][0]["snapshots"].items()):
        axes.hist(GROUND_TRUTH.ravel(), bins, density=True, color=looks.REAL, alpha=0.4, label="real")
        axes.hist(fake, bins, density=True, color=looks.GENERATED, histtype="step", linewidth=1.5, label="fake")
        axes.plot(LINE, probability, color=looks.DISCRIMINATOR, label="D: probability of real")
        axes.set(title=f"after {step + 1} step{'s' * (step > 0)}", ylim=(0, 2), xlabel="number")
    snapshots.axes[0].set_ylabel("density, probability")
    snapshots.axes[0].legend(loc="upper left")
    curves = looks.figure(8, 3.6)
    upper, lower = curves.subplots(2, 1, sharex=True)
    for game, alpha in zip(found["games"], (1.0, 0.55, 0.3)):
        upper.plot(np.arange(len(game["accuracy"])) + WINDOW, 100 * game["accuracy"], color=looks.DISCRIMINATOR,
                   alpha=alpha)
        lower.plot(*game["distances"].T, color=looks.GENERATED, alpha=alpha)
    upper.axhline(50, color=looks.NEUTRAL, linestyle="--", linewidth=1)
    upper.set(ylabel="discriminator's\naccuracy, %", title="three games that differ only in the seed")
    lower.set(yscale="log", ylabel="earth mover's\ndistance", xlabel="step")
    return {"players": drawings.two_players(), "snapshots": snapshots, "curves": curves}


def claim(found):
    checks, games = found["checks"], found["games"]
    frozen = checks["discriminator_step"]["generator"] and checks["generator_step"]["discriminator"]
    guesses = [at_chance(game) for game in games]
    best = [game["distances"][:, 1].min() for game in games]
    when = [int(game["distances"][game["distances"][:, 1].argmin(), 0]) for game in games]
    after = [game["distances"][game["distances"][:, 1].argmin():, 1] for game in games]
    return (f"Each step leaves the frozen network unchanged bit for bit: {frozen}.\n"
            f"{len(games)} seeds: the discriminator's best accuracy is "
            f"{span([game['accuracy'].max() for game in games], '{:.0%}')}; it is at chance (below {CHANCE:.0%}) from "
            f"step {span([step for step, _ in guesses], '{:d}')} on, when the distance is "
            f"{span([each for _, each in guesses], '{:.2f}')}.\n"
            f"The distance is least, {span(best, '{:.2f}')}, at step {span(when, '{:d}')}; after that its median is "
            f"{span([np.median(each) for each in after], '{:.2f}')}, its maximum "
            f"{span([each.max() for each in after], '{:.2f}')}.")


# %% What would happen if ...
def _late(game):
    """Return the median distance of the last third of a game."""
    distances = game["distances"][:, 1]
    return float(np.median(distances[-len(distances) // 3:]))


def if_fast_discriminator(fast=False):
    """... the discriminator had ten times the learning rate?"""
    game = play(new_game(lrs=(1e-3, 2e-2)), 600 if fast else 2000)
    usual = play(new_game(), 600 if fast else 2000)
    accuracy, before = (float(each["accuracy"][-200:].mean()) for each in (game, usual))
    return {"accuracy": accuracy, "usual": before, "distance": _late(game), "usual_distance": _late(usual), "answer": (
        f"It stays ahead: an accuracy of {accuracy:.0%} at the end instead of {before:.0%}. But a better judge is "
        f"not a better teacher: the distance is {_late(game):.2f} instead of {_late(usual):.2f}.")}


def if_no_noise(fast=False):
    """... the generator had no noise to start from, only zeros?"""
    game = new_game()
    game.latents = np.zeros
    game.play(100 if fast else 600)
    numbers = game.generate(1000).data
    return {"spread": float(np.ptp(numbers)), "answer": (
        f"All 1,000 numbers are {numbers.mean():.2f}: a network turns equal inputs into equal outputs. All variety "
        "comes from the noise.")}


def if_untrained(fast=False):
    """... the discriminator never took a step?"""
    game = new_game()
    scores = [game.discriminator(game.generate(1000)).data.mean()]
    for _ in range(100 if fast else 400):
        game.generator_step()
    numbers = game.generate(1000).data
    scores.append(game.discriminator(numbers).data.mean())
    return {"scores": scores, "median": float(np.median(numbers)), "answer": (
        f"The generator climbs the score of random weights, from {scores[0]:.2f} to {scores[1]:.2f}: its numbers move "
        f"to {np.median(numbers):.1f}, which has nothing to do with the real ones.")}


def if_fading(fast=False):
    """... both learning rates decreased to zero in the second half?"""
    steps, seeds = (1000, SEEDS[:1]) if fast else (4000, SEEDS)
    ends = {}
    for name, fade in (("constant", False), ("fading", True)):
        last = [play(new_game(seed), steps, fade)["distances"][-steps // 200:, 1] for seed in seeds]
        ends[name] = {"mean": [float(each.mean()) for each in last], "spread": [float(each.std()) for each in last]}
    constant, fading = ends["constant"], ends["fading"]
    return ends | {"answer": (
        f"In the last tenth the distance fluctuates by {span(fading['spread'], '{:.3f}')} instead of "
        f"{span(constant['spread'], '{:.3f}')}, around {span(fading['mean'], '{:.2f}')} instead of "
        f"{span(constant['mean'], '{:.2f}')}.")}


# %%
if __name__ == "__main__":
    lesson.run(globals())
