"""Warnings about a run that goes wrong, read off its curves: what was seen, and what to change.

    warning                  read off                                            known as
    overfitting              held-out loss rises, training loss falls            overfitting
    underfitting             the held-out loss still falls steeply at the end    underfitting
    discriminator_too_weak   it is near chance at the end of its own stage
    discriminator_wins       accuracy near 1; its gradient fades, or the gap     vanishing gradients
                             between the scores grows
    collapse                 faces vary less than before the adversary           mode collapse
    discriminator_at_chance  accuracy near 0.5, and the held-out loss rises      useless feedback
    divergence               the held-out loss keeps rising                      no convergence
    oscillation              the discriminator's lead oscillates ever more       no convergence
    over_sharpening          more fine detail than real faces have               weight too high
    no_effect                faces are as soft as before the adversary           weight too low

Each check takes gan.monitor.metrics_log.Curves and the rows (a slice) of the stage that it looks
at. It returns a line or None. Levels are medians over several steps or measurements, so one odd
batch triggers nothing. Goodfellow (2016, arXiv:1701.00160) and Arjovsky and Bottou (2017,
arXiv:1701.04862) describe the failures.
"""
import numpy as np

RECENT = 100  # steps; with 16 faces of each person 6,400 predictions: their accuracy is known to within 1 %
LEVEL = 3  # held-out measurements in one level: the median of three ignores one outlier
FORGET_AFTER = 5  # calls of look() without a warning until it is given again; fewer would repeat borderline ones

OVERFITTING_RISE = 1.02  # held-out level / the best; it varies by 1 % from one measurement to the next
OVERFITTING_SINCE = 0.2  # least fraction of the steps since the best; plateaus of a tenth are normal
UNDERFITTING_FALL = 0.05  # fall of the held-out loss in the last fifth of the steps while a run still learns
WEAK_ACCURACY = 0.6  # blur alone gives fakes away more often than this
WEAK_STEPS = 40  # over which the accuracy is averaged: this stage is short, and the discriminator still learns
ADVERSARIAL_STEPS = 2 * RECENT  # least steps under the adversary: it begins with a large lead, by design
WIN_ACCURACY = 0.97  # here the sigmoid is flat
WIN_GRADIENT = 0.2  # gradient / its first level; below this, the reconstruction loss alone has an effect
WIN_GAP = 2.0  # gap between the scores / its first level: some growth is learning, doubling is running away
COLLAPSED = 0.8  # variety / before the adversary: sharper faces vary more; it varies by a few percent
CHANCE_ACCURACY = 0.55  # 0.5, and what 6,400 predictions and a drifting threshold add
CHANCE_RISE = 1.05  # held-out level / the lowest under the adversary: five times its variation
CHANCE_STEPS = 200  # a balanced discriminator passes 0.5 now and then
DIVERGENCE_RISE = 1.3  # held-out level / the lowest under the adversary: sharpness costs a tenth
DIVERGENCE_STILL = 1.02  # held-out level / LEVEL measurements ago: it is still rising
OSCILLATION_STEPS = 100  # steps of an interval; three consecutive ones are compared
OSCILLATION_GROWTH = 1.7  # from interval to interval: by chance it never grows this much twice
OSCILLATION_AMPLITUDE = 0.5  # amplitude / mean gap; below this, the lead does not change sides
OVER_SHARP = 1.4  # sharpness; real faces are between 0.8 and 1.2
NO_EFFECT = 0.05  # a gain in sharpness too small to see


class Diagnosis:
    """The warnings about one run. Each is given once, and again only after it had gone away."""

    def __init__(self):
        self._absent = {}  # check whose warning was given -> calls since then without it

    def look(self, curves):
        """Return warnings about the current stage, and what the end of the stage before shows.

        curves: gan.monitor.metrics_log.Curves
        """
        spans = curves.spans()
        return self._new(curves, CHECKS, spans[-1:]) + self._new(curves, CHECKS_AT_END, spans[-2:-1])

    def at_the_end(self, curves):
        """Return warnings after the last step, also those that only the end shows."""
        return self.look(curves) + self._new(curves, CHECKS_AT_END, curves.spans()[-1:])

    def _new(self, curves, checks, spans):
        lines = []
        for check, rows in [(check, rows) for stage, rows in spans for check in checks[stage]]:
            line = check(curves, rows)
            if line is None:
                self._absent[check] = self._absent.get(check, FORGET_AFTER) + 1
                continue
            if self._absent.get(check, FORGET_AFTER) >= FORGET_AFTER:
                lines.append(line)
            self._absent[check] = 0
        return lines


def overfitting(curves, rows):
    """Warn if the held-out loss has been rising since its best, and the training loss has not."""
    step, held_out = curves.recorded("held_out", rows)
    if len(held_out) <= LEVEL:
        return None
    best, last = np.argmin(held_out), step[-1]
    rise = np.median(held_out[-LEVEL:]) / held_out[best]
    if len(held_out) - best <= LEVEL or last - step[best] < OVERFITTING_SINCE * last or rise < OVERFITTING_RISE:
        return None
    step_of_loss, loss = curves.recorded("loss", rows)
    around = loss[abs(step_of_loss - step[best]) <= RECENT / 2]
    if not len(around) or np.median(loss[-RECENT:]) >= np.median(around):
        return None
    return (f"overfitting since step {step[best]:.0f}: the held-out loss rose by {_percent(rise - 1)} while the "
            f"training loss fell. The weights of step {step[best]:.0f} are kept and used. Add more photos; more steps "
            "will not help")


def underfitting(curves, rows):
    """Warn if the held-out loss is lowest at the end, after a steep fall in the last fifth."""
    step, held_out = curves.recorded("held_out", rows)
    first, last = curves["step"][rows][[0, -1]]
    earlier = held_out[step <= last - (last - first) / 5]
    if not len(earlier) or len(held_out) <= LEVEL or held_out[-1] > held_out.min():
        return None
    fall = 1 - held_out[-1] / earlier[-1]
    if fall < UNDERFITTING_FALL:
        return None
    return (f"underfitting: the held-out loss still fell by {_percent(fall)} in the last fifth of the autoencoder's "
            "steps. Train with more --steps")


def discriminator_too_weak(curves, rows):
    """Warn if the discriminator is still near chance at the end of its own stage."""
    accuracy = curves.recorded("accuracy", rows)[1][-WEAK_STEPS:]
    if len(accuracy) < WEAK_STEPS or accuracy.mean() > WEAK_ACCURACY:
        return None
    return (f"the discriminator is too weak: at the end of its stage it classified {_percent(accuracy.mean())} of the "
            "faces correctly (chance is 50 %), so the autoencoder cannot learn from it. Give it more steps, change "
            "--discriminator-learning-rate, or lower --noise and --r1")


def discriminator_wins(curves, rows):
    """Warn if the discriminator is always right, and its gradient fades or the scores diverge."""
    step = _adversarial_steps(curves, rows)
    accuracy = curves.recorded("accuracy", rows)[1][-RECENT:]
    if len(step) < ADVERSARIAL_STEPS or not len(accuracy) or accuracy.mean() < WIN_ACCURACY:
        return None
    gradient = curves["fake_grad_norm"][rows][step]
    gap = (curves["score_real"] - curves["score_fake"])[rows][step]
    (first_gradient, last_gradient), (first_gap, last_gap) = _ends(gradient), _ends(gap)
    if last_gradient < WIN_GRADIENT * first_gradient:
        evidence = ("its gradient with respect to the generated faces fell to "
                    f"{_percent(last_gradient / first_gradient, 1)} of its first value")
    elif last_gap > WIN_GAP * max(first_gap, 0):
        evidence = ("the gap between the scores of real and generated faces grew from "
                    f"{first_gap:.3g} to {last_gap:.3g}")
    else:
        return None
    return (f"the discriminator wins: it now classifies {_percent(accuracy.mean())} of the faces correctly, and "
            f"{evidence}. Lower --discriminator-learning-rate or --discriminator-steps, raise --noise or --r1, or "
            "choose --objective hinge or wasserstein-gp")


def collapse(curves, rows):
    """Warn if the generated faces vary less than before the adversary."""
    before, now = _level_before_adversary(curves, "variety"), _levels(curves, "variety", rows)
    if before is None or not len(now) or now[-1] >= COLLAPSED * before:
        return None
    return (f"mode collapse: the variety of the generated faces fell to {_percent(now[-1] / before)} of its value "
            "before the adversarial stage. Lower --adversarial-weight, choose --objective wasserstein-gp, or raise "
            "--r1")


def discriminator_at_chance(curves, rows):
    """Warn if the discriminator guesses, so that its feedback is noise, and the faces get worse."""
    accuracy, levels = curves.recorded("accuracy", rows)[1][-CHANCE_STEPS:], _levels(curves, "held_out", rows)
    if not _is_chance(accuracy) or not len(levels) or levels[-1] < CHANCE_RISE * levels.min():
        return None
    return (f"the discriminator is at chance: it classifies {_percent(accuracy.mean())} of the faces correctly, and "
            f"the held-out loss rose by {_percent(levels[-1] / levels.min() - 1)}. Its feedback is noise: stop, or "
            "raise --discriminator-learning-rate or --discriminator-steps, or lower --noise and --r1")


def divergence(curves, rows):
    """Warn if the held-out loss keeps rising under an adversary that is not at chance."""
    levels = _levels(curves, "held_out", rows)
    if (len(levels) <= LEVEL or levels[-1] < DIVERGENCE_RISE * levels.min()
            or levels[-1] < DIVERGENCE_STILL * levels[-1 - LEVEL]):
        return None
    if _is_chance(curves.recorded("accuracy", rows)[1][-CHANCE_STEPS:]):
        return None
    return (f"divergence: the held-out loss rose by {_percent(levels[-1] / levels.min() - 1)} in the adversarial stage "
            "and is still rising. Lower --adversarial-weight or --discriminator-learning-rate, or raise --noise or "
            "--r1")


def oscillation(curves, rows):
    """Warn if the lead of the discriminator oscillates, with a growing amplitude."""
    gap = (curves["score_real"] - curves["score_fake"])[rows]
    gap = gap[np.isfinite(gap)][-3 * OSCILLATION_STEPS:]
    if len(gap) < 3 * OSCILLATION_STEPS:
        return None
    parts = gap.reshape(3, -1, 4).mean(axis=2)  # means of four steps, because batches differ
    amplitudes = [_deviation_from_line(part) for part in parts]
    if any(after < OSCILLATION_GROWTH * before for before, after in zip(amplitudes, amplitudes[1:])):
        return None
    if amplitudes[2] < OSCILLATION_AMPLITUDE * abs(parts[2].mean()):
        return None
    return (f"oscillation: the scores of real and generated faces oscillate {amplitudes[2] / amplitudes[0]:.0f} times "
            f"as strongly as {2 * OSCILLATION_STEPS} steps ago. Lower --discriminator-learning-rate, or raise --noise "
            "or --r1")


def over_sharpening(curves, rows):
    """Warn if the generated faces have more fine detail than real ones."""
    levels = _levels(curves, "sharpness", rows)
    if not len(levels) or levels[-1] < OVER_SHARP:
        return None
    return (f"over-sharpening: the generated faces have {levels[-1]:.1f} times the fine detail of real ones. Lower "
            "--adversarial-weight or raise --r1")


def no_effect(curves, rows):
    """Warn if the generated faces are as soft as they were before the adversary."""
    before, now = _level_before_adversary(curves, "sharpness"), _levels(curves, "sharpness", rows)
    if (before is None or not len(now) or len(_adversarial_steps(curves, rows)) < ADVERSARIAL_STEPS
            or now[-1] - before > NO_EFFECT or now[-1] > 1):
        return None
    return (f"the adversarial stage had little effect: sharpness was {before:.2f} before it and is {now[-1]:.2f} now. "
            "Raise --adversarial-weight, or give it more steps")


CHECKS = {"autoencoder": (overfitting,), "discriminator": (),
          "adversarial": (discriminator_wins, collapse, discriminator_at_chance, divergence, oscillation,
                          over_sharpening)}
CHECKS_AT_END = {"autoencoder": (underfitting,), "discriminator": (discriminator_too_weak,),
                 "adversarial": (no_effect,)}


def _adversarial_steps(curves, rows):
    """Return the indices among the rows of the steps with an adversarial weight above 0."""
    return np.flatnonzero((curves["adversarial_weight"][rows] > 0) & np.isfinite(curves["fake_grad_norm"][rows]))


def _ends(values):
    """Return (median of the first RECENT values, median of the last)."""
    return np.median(values[:RECENT]), np.median(values[-RECENT:])


def _levels(curves, name, rows):
    """Return the medians of each LEVEL consecutive measurements; empty if there are fewer."""
    values = curves.recorded(name, rows)[1]
    if len(values) < LEVEL:
        return values[:0]
    return np.median(np.lib.stride_tricks.sliding_window_view(values, LEVEL), axis=1)


def _level_before_adversary(curves, name):
    """Return the level just before the first adversarial step of the run, or None."""
    first = next(rows.start for stage, rows in curves.spans() if stage == "adversarial")
    levels = _levels(curves, name, slice(first))
    return levels[-1] if len(levels) else None


def _is_chance(accuracy):
    return len(accuracy) == CHANCE_STEPS and accuracy.mean() <= CHANCE_ACCURACY


def _deviation_from_line(values):
    """Return the standard deviation of values (n,) from their regression line."""
    x = np.arange(len(values))
    return (values - np.polyval(np.polyfit(x, values, 1), x)).std()


def _percent(fraction, digits=0):
    return f"{100 * fraction:.{digits}f} %"
