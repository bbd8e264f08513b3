"""Two players: a generator that makes numbers, a discriminator that tells them from real ones, and where their game leads.

The discriminator's step: real numbers should score high, made ones low; the generator rests. The generator's step: its numbers
should score high; the slope comes back through the discriminator, which rests. At first the discriminator is nearly always right.
As the made numbers spread like the real ones it can only guess: half of its answers are right, a coin's. That is the goal, and it
is no place to rest: the advice of someone who guesses is noise, and the generator goes on following it.
"""
import lesson  # first: it puts the project on the path

import numpy as np

from gan.monitor import chart
from ring import Game

LAPS = 60  # of the smoothed accuracy
FAIR = 0.55  # hardly better than a coin


def real(count, rng):
    """Numbers of two kinds, (count, 1, 1, 1): a narrow heap at -1, a wide one at 1.5."""
    first = rng.random(count) < 0.4
    return np.where(first, rng.normal(-1, 0.2, count), rng.normal(1.5, 0.5, count)).reshape(count, 1, 1, 1).astype(np.float32)


def distance(a, b):
    """The earth mover's distance of two sets of equally many numbers: in one dimension, each to its neighbour by rank."""
    return float(np.abs(np.sort(a.ravel()) - np.sort(b.ravel())).mean())


def weights_of(network):
    return [p.data.copy() for p in network.parameters()]


def same(before, network):
    return all(np.array_equal(old, p.data) for old, p in zip(before, network.parameters()))


def experiment(fast=False):
    """Whether the resting player keeps its weights, bit for bit; accuracy and distance over the game."""
    game = Game(real, dimensions=1, rates=(1e-3, 2e-3), batch=256)
    before = weights_of(game.generator), weights_of(game.critic)
    game.critic_step()
    rests = {"generator": same(before[0], game.generator), "discriminator moves": not same(before[1], game.critic)}
    before = weights_of(game.generator), weights_of(game.critic)
    game.generator_step()
    rests |= {"discriminator": same(before[1], game.critic), "generator moves": not same(before[0], game.generator)}

    truth = real(2000, np.random.default_rng(1))
    right, far, shown = [], [], {}
    steps = 600 if fast else 6000
    moments = {0, steps // 20, steps // 4, steps - 1}

    def watch(step, game, accuracy):
        right.append(accuracy)
        if step % 20 == 0:
            far.append((step, distance(game.made(2000).data, truth)))
        if step in moments:
            shown[step] = game.made(2000).data.ravel()

    game.play(steps, watch)
    smooth = np.convolve(right, np.ones(LAPS) / LAPS, "valid")
    guessing = np.flatnonzero(smooth < FAIR)
    return {"rests": rests, "accuracy": smooth, "far": np.array(far), "shown": shown, "truth": truth.ravel(),
            "guesses_from": int(guessing[0] + LAPS) if len(guessing) else None}


def picture(found):
    """The numbers at four moments; accuracy and distance."""
    drawing = chart.figure(10, 6.5)
    above, below = drawing.subfigures(2)
    bins = np.linspace(-3, 4, 71)
    for axes, (step, made) in zip(above.subplots(1, 4, sharey=True), found["shown"].items()):
        axes.hist(found["truth"], bins, density=True, color=chart.GREEN, alpha=0.4, label="real")
        axes.hist(made, bins, density=True, color=chart.ORANGE, histtype="step", linewidth=1.5, label="made")
        axes.set_title(f"after {step + 1} step{'s' * (step > 0)}", fontsize=9)
        axes.set_ylim(0, 1.2)
        axes.legend(frameon=False, fontsize=8)
    upper, lower = below.subplots(2, 1, sharex=True)
    upper.plot(np.arange(len(found["accuracy"])) + LAPS, 100 * found["accuracy"], color=chart.BLUE)
    upper.axhline(50, color=chart.GREY, linestyle="--", linewidth=1)
    upper.set(ylabel="told rightly, %", ylim=(40, 102))
    lower.plot(*found["far"].T, color=chart.ORANGE)
    lower.set(yscale="log", ylabel="earth mover's\ndistance", xlabel="step")
    return chart.pixels(drawing)


def claim(found):
    step, far = found["far"].T
    best = int(far.argmin())
    after = far[best:]
    return (f"Who rests stays the same bit for bit: {all(found['rests'].values())}.\n"
            f"The discriminator is right in {found['accuracy'].max():.0%} of cases at best; from step {found['guesses_from']} on it guesses "
            f"(below {FAIR:.0%}).\n"
            f"The made numbers come as near as {far.min():.3f} at step {step[best]:.0f}; after that their distance is anything up to "
            f"{after.max():.3f}, {np.median(after):.3f} on the whole.")


if __name__ == "__main__":
    lesson.run(globals())
