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

from gan.monitor import chart
from ring import Game

WINDOW = 60  # steps over which the accuracy is averaged
CHANCE = 0.55  # accuracy below which the discriminator counts as guessing


def real(count, rng):
    """Draw numbers (count, 1, 1, 1) with two modes: a narrow one at -1, a wide one at 1.5."""
    first = rng.random(count) < 0.4
    numbers = np.where(first, rng.normal(-1, 0.2, count), rng.normal(1.5, 0.5, count))
    return numbers.reshape(count, 1, 1, 1).astype(np.float32)


def distance(a, b):
    """Return the earth mover's distance of two sets of equal size: of their sorted numbers, in
    1-D."""
    return float(np.abs(np.sort(a.ravel()) - np.sort(b.ravel())).mean())


def weights_of(network):
    return [p.data.copy() for p in network.parameters()]


def same(before, network):
    return all(np.array_equal(old, p.data) for old, p in zip(before, network.parameters()))


def experiment(fast=False):
    """Check which weights each step changes; train, and record accuracy and distance."""
    game = Game(real, dimensions=1, lrs=(1e-3, 2e-3), batch=256)
    before = weights_of(game.generator), weights_of(game.discriminator)
    game.discriminator_step()
    checks = {"generator frozen": same(before[0], game.generator),
              "discriminator updated": not same(before[1], game.discriminator)}
    before = weights_of(game.generator), weights_of(game.discriminator)
    game.generator_step()
    checks |= {"discriminator frozen": same(before[1], game.discriminator),
               "generator updated": not same(before[0], game.generator)}

    ground_truth = real(2000, np.random.default_rng(1))
    accuracies, distances, snapshots = [], [], {}
    steps = 600 if fast else 6000
    snapshot_steps = {0, steps // 20, steps // 4, steps - 1}

    def record(step, game, accuracy):
        accuracies.append(accuracy)
        if step % 20 == 0:
            distances.append((step, distance(game.generate(2000).data, ground_truth)))
        if step in snapshot_steps:
            snapshots[step] = game.generate(2000).data.ravel()

    game.play(steps, record)
    smooth = np.convolve(accuracies, np.ones(WINDOW) / WINDOW, "valid")
    guessing = np.flatnonzero(smooth < CHANCE)
    return {"checks": checks, "accuracy": smooth, "distances": np.array(distances), "snapshots": snapshots,
            "ground_truth": ground_truth.ravel(), "guesses_from": int(guessing[0] + WINDOW) if len(guessing) else None}


def image(found):
    """Plot the numbers at four steps, the accuracy and the distance."""
    drawing = chart.figure(10, 6.5)
    above, below = drawing.subfigures(2)
    bins = np.linspace(-3, 4, 71)
    for axes, (step, fake) in zip(above.subplots(1, 4, sharey=True), found["snapshots"].items()):
        axes.hist(found["ground_truth"], bins, density=True, color=chart.GREEN, alpha=0.4, label="real")
        axes.hist(fake, bins, density=True, color=chart.ORANGE, histtype="step", linewidth=1.5, label="fake")
        axes.set_title(f"after {step + 1} step{'s' * (step > 0)}", fontsize=9)
        axes.set_ylim(0, 1.2)
        axes.legend(frameon=False, fontsize=8)
    upper, lower = below.subplots(2, 1, sharex=True)
    upper.plot(np.arange(len(found["accuracy"])) + WINDOW, 100 * found["accuracy"], color=chart.BLUE)
    upper.axhline(50, color=chart.GRAY, linestyle="--", linewidth=1)
    upper.set(ylabel="discriminator\naccuracy, %", ylim=(40, 102))
    lower.plot(*found["distances"].T, color=chart.ORANGE)
    lower.set(yscale="log", ylabel="earth mover's\ndistance", xlabel="step")
    return chart.pixels(drawing)


def claim(found):
    step, distances = found["distances"].T
    best = int(distances.argmin())
    after = distances[best:]
    return (f"Each step leaves the frozen network unchanged bit for bit: {all(found['checks'].values())}.\n"
            f"The discriminator's best accuracy is {found['accuracy'].max():.0%}; from step {found['guesses_from']} on "
            f"it is at chance (below {CHANCE:.0%}).\n"
            f"The distance of the fake numbers is least, {distances.min():.3f}, at step {step[best]:.0f}; then it "
            f"is {after.max():.3f} at most, {np.median(after):.3f} in the median.")


if __name__ == "__main__":
    lesson.run(globals())
