"""A run that goes wrong says so: what can be read off its curves, in words, and what to change.

    finding         read off                                                  the trouble
    over-training   the held-out loss rises, the training loss falls          faces are learned by heart
    under-training  at the end the held-out loss still falls steeply          stopped too early
    no foothold     at its end the discriminator, alone, is like a coin       it has nothing to teach yet
    won             it is nearly always right; its push fades, or scores part vanishing gradients
    collapse        drawn faces differ less than before the adversary         mode collapse
    coin            right half of the time, and the held-out loss rises       feedback that became junk
    decay           the held-out loss rises and rises under the adversary     no convergence
    swing           the discriminator's lead swings wider and wider           no convergence
    grain           more fine detail than real faces have                     an adversary that weighs too much
    no effect       at the end faces are as soft as before the adversary      one that weighs too little

Each check takes gan.monitor.metrics_log.Curves and the rows of the stage it looks at, and gives a line or None. Levels are medians over
some steps or measurements: a single odd batch says nothing. The troubles are those of Goodfellow's tutorial (2016,
arXiv:1701.00160) and of Arjovsky and Bottou (2017, arXiv:1701.04862).
"""
import numpy as np

LATELY = 100  # steps that "lately" means; with 16 faces of each person 6,400 judgements: their share is known to within 1 %
LEVEL = 3  # measurements on held-out faces that make one level: the median of three outlives one that is odd
FORGOTTEN = 5  # looks without a finding until it may be told again: with fewer, one that is about at its limit would chatter

OVER_RISE = 1.02  # held-out level / the best: from one measurement to the next it wavers by 1 %
OVER_SINCE = 0.2  # of the steps lie behind the best: plateaus of a tenth pass
UNDER_FALL = 0.05  # of the held-out loss in the last fifth of the steps: what a run falls by that still learns
FOOTHOLD = 0.6  # accuracy: softness alone gives away more
FOOTHOLD_STEPS = 40  # over which it is taken: this stage is short, and it still learns
HEARD = 2 * LATELY  # steps under the adversary before it is judged: it begins well ahead, by design
WON_ACCURACY = 0.97  # nearly always: there the sigmoid is flat
WON_PUSH = 0.2  # push / what it was when first heard: the reconstruction loss then has the say alone
WON_GAP = 2.0  # gap between the scores / what it was: some growth is learning, doubling this high up is running away
COLLAPSED = 0.8  # variety / before the adversary: sharper faces vary more; it wavers by a few percent
COIN = 0.55  # accuracy: a coin's, and what 6,400 judgements and a drifting threshold add
COIN_RISE = 1.05  # held-out level / the lowest under the adversary: five times its wavering
COIN_STEPS = 200  # for so long: a fair match passes by a half now and then
DECAY_RISE = 1.3  # held-out level / the lowest under the adversary: sharpness costs a tenth, this buys none
DECAY_STILL = 1.02  # held-out level / LEVEL measurements ago: it rises still
SWING_STEPS = 100  # a stretch over which a swing is taken; three in a row are compared
SWING_GROWTH = 1.7  # from stretch to stretch: by chance it never grows so twice
SWING_LEAD = 0.5  # swing / mean gap: a lesser one leaves the lead with the same player
GRAIN = 1.4  # sharpness: 0.8 to 1.2 is as real faces are
NO_EFFECT = 0.05  # gain in sharpness that cannot be seen


class Diagnosis:
    """What is wrong with a run, each thing said once, and said again only after it had gone away."""

    def __init__(self):
        self._absent = {}  # check whose finding was told -> looks since it was last found

    def look(self, curves):
        """Lines for the user about what goes wrong in the stage that is under way, and what the end of the one before shows.
        curves: gan.monitor.metrics_log.Curves."""
        spans = curves.spans()
        return self._news(curves, CHECKS, spans[-1:]) + self._news(curves, AT_ITS_END, spans[-2:-1])

    def at_the_end(self, curves):
        """Lines for the user after the last step: what look would say, and what only the end shows."""
        return self.look(curves) + self._news(curves, AT_ITS_END, curves.spans()[-1:])

    def _news(self, curves, checks, spans):
        lines = []
        for check, rows in [(check, rows) for stage, rows in spans for check in checks[stage]]:
            line = check(curves, rows)
            if line is None:
                self._absent[check] = self._absent.get(check, FORGOTTEN) + 1
                continue
            if self._absent.get(check, FORGOTTEN) >= FORGOTTEN:
                lines.append(line)
            self._absent[check] = 0
        return lines


def over_training(curves, rows):
    """The held-out loss has been rising since its best, and the training loss has not."""
    step, held_out = curves.taken("held_out", rows)
    if len(held_out) <= LEVEL:
        return None
    best, last = np.argmin(held_out), step[-1]
    rise = np.median(held_out[-LEVEL:]) / held_out[best]
    if len(held_out) - best <= LEVEL or last - step[best] < OVER_SINCE * last or rise < OVER_RISE:
        return None
    step_of_loss, loss = curves.taken("loss", rows)
    around = loss[abs(step_of_loss - step[best]) <= LATELY / 2]
    if not len(around) or np.median(loss[-LATELY:]) >= np.median(around):
        return None
    return (f"it over-trains since step {step[best]:.0f}: the held-out loss rose by {_percent(rise - 1)} while the training "
            f"loss fell. The weights of step {step[best]:.0f} are kept and used. More faces will help, more steps will not")


def under_training(curves, rows):
    """The held-out loss is at its lowest at the end and was well above that a fifth of the steps before."""
    step, held_out = curves.taken("held_out", rows)
    first, last = curves["step"][rows][[0, -1]]
    earlier = held_out[step <= last - (last - first) / 5]
    if not len(earlier) or len(held_out) <= LEVEL or held_out[-1] > held_out.min():
        return None
    fall = 1 - held_out[-1] / earlier[-1]
    if fall < UNDER_FALL:
        return None
    return (f"it is under-trained: the held-out loss fell by {_percent(fall)} in the last fifth of the autoencoder's steps. "
            "More --steps will help")


def no_foothold(curves, rows):
    """The discriminator alone cannot tell real faces from drawn ones."""
    accuracy = curves.taken("accuracy", rows)[1][-FOOTHOLD_STEPS:]
    if len(accuracy) < FOOTHOLD_STEPS or accuracy.mean() > FOOTHOLD:
        return None
    return (f"the discriminator found no foothold: at last it was right about {_percent(accuracy.mean())} of the faces, a "
            "coin about 50 %. It can teach nothing: give it more steps, another --critic-rate, or less --noise and --r1")


def won(curves, rows):
    """The discriminator is nearly always right, and the autoencoder hears less and less from it, or falls back."""
    step = _heard(curves, rows)
    accuracy = curves.taken("accuracy", rows)[1][-LATELY:]
    if len(step) < HEARD or not len(accuracy) or accuracy.mean() < WON_ACCURACY:
        return None
    push = curves["gradient_made"][rows][step]
    gap = (curves["score_real"] - curves["score_made"])[rows][step]
    (first_push, last_push), (first_gap, last_gap) = _ends(push), _ends(gap)
    if last_push < WON_PUSH * first_push:
        sign = f"its push on the drawn faces fell to {_percent(last_push / first_push, 1)} of what it was"
    elif last_gap > WON_GAP * max(first_gap, 0):
        sign = f"the scores of real and drawn faces part: by {last_gap:.3g}, at first by {first_gap:.3g}"
    else:
        return None
    return (f"the discriminator has won: lately it was right about {_percent(accuracy.mean())} of the faces, and {sign}. "
            "Lower --critic-rate or --critic-turns, add --noise or --r1, or take --objective hinge or wasserstein-gp")


def collapse(curves, rows):
    """The drawn faces have become more alike than they were before the adversary."""
    before, now = _before(curves, "variety"), _levels(curves, "variety", rows)
    if before is None or not len(now) or now[-1] >= COLLAPSED * before:
        return None
    return (f"the drawn faces collapse: they differ from one another by {_percent(now[-1] / before)} of what they did "
            "before the adversary. Lower --adversarial-weight, take --objective wasserstein-gp, or add --r1")


def coin(curves, rows):
    """The discriminator is right half of the time, as a coin: what it says is noise, and the faces suffer from it."""
    accuracy, levels = curves.taken("accuracy", rows)[1][-COIN_STEPS:], _levels(curves, "held_out", rows)
    if not _coin_like(accuracy) or not len(levels) or levels[-1] < COIN_RISE * levels.min():
        return None
    return (f"the discriminator tells no more than a coin: it is right about {_percent(accuracy.mean())} of the faces, and "
            f"the held-out loss rose by {_percent(levels[-1] / levels.min() - 1)}. Its feedback has become junk: stop, or "
            "raise --critic-rate or --critic-turns, or take less --noise and --r1")


def decay(curves, rows):
    """The held-out loss goes on rising under an adversary that is not a coin."""
    levels = _levels(curves, "held_out", rows)
    if len(levels) <= LEVEL or levels[-1] < DECAY_RISE * levels.min() or levels[-1] < DECAY_STILL * levels[-1 - LEVEL]:
        return None
    if _coin_like(curves.taken("accuracy", rows)[1][-COIN_STEPS:]):
        return None
    return (f"it does not converge: the held-out loss rose by {_percent(levels[-1] / levels.min() - 1)} under the "
            "adversary, and rises still. Lower --adversarial-weight or --critic-rate, or add --noise or --r1")


def swing(curves, rows):
    """The lead of the discriminator swings, and wider from stretch to stretch."""
    gap = (curves["score_real"] - curves["score_made"])[rows]
    gap = gap[np.isfinite(gap)][-3 * SWING_STEPS:]
    if len(gap) < 3 * SWING_STEPS:
        return None
    parts = gap.reshape(3, -1, 4).mean(axis=2)  # four steps each: batches differ, which is no swing
    swings = [_spread_around_line(part) for part in parts]
    if any(after < SWING_GROWTH * before for before, after in zip(swings, swings[1:])):
        return None
    if swings[2] < SWING_LEAD * abs(parts[2].mean()):
        return None
    return (f"it does not converge: the two networks swing around each other, {swings[2] / swings[0]:.0f} times wider than "
            f"{2 * SWING_STEPS} steps ago. Lower --critic-rate, or add --noise or --r1")


def grain(curves, rows):
    """The drawn faces have more fine detail than real ones."""
    levels = _levels(curves, "sharpness", rows)
    if not len(levels) or levels[-1] < GRAIN:
        return None
    return (f"the drawn faces are grainy: they have {levels[-1]:.1f} times the fine detail of real ones. Lower "
            "--adversarial-weight or raise --r1")


def no_effect(curves, rows):
    """The drawn faces are as soft as they were before the adversary."""
    before, now = _before(curves, "sharpness"), _levels(curves, "sharpness", rows)
    if before is None or not len(now) or len(_heard(curves, rows)) < HEARD or now[-1] - before > NO_EFFECT or now[-1] > 1:
        return None
    return (f"the adversary changed little: sharpness was {before:.2f} before it and is {now[-1]:.2f}. Raise "
            "--adversarial-weight, or give it more steps")


CHECKS = {"autoencoder": (over_training,), "discriminator": (),
          "adversarial": (won, collapse, coin, decay, swing, grain)}
AT_ITS_END = {"autoencoder": (under_training,), "discriminator": (no_foothold,), "adversarial": (no_effect,)}


def _heard(curves, rows):
    """Places, among the rows, of the steps in which the autoencoder listened to the adversary."""
    return np.flatnonzero((curves["weight"][rows] > 0) & np.isfinite(curves["gradient_made"][rows]))


def _ends(values):
    """(the level over the first LATELY values, over the last)."""
    return np.median(values[:LATELY]), np.median(values[-LATELY:])


def _levels(curves, name, rows):
    """Medians over each LEVEL measurements in a row; none if there are fewer."""
    values = curves.taken(name, rows)[1]
    if len(values) < LEVEL:
        return values[:0]
    return np.median(np.lib.stride_tricks.sliding_window_view(values, LEVEL), axis=1)


def _before(curves, name):
    """The level just before the run's first adversarial step, or None."""
    first = next(rows.start for stage, rows in curves.spans() if stage == "adversarial")
    levels = _levels(curves, name, slice(first))
    return levels[-1] if len(levels) else None


def _coin_like(accuracy):
    return len(accuracy) == COIN_STEPS and accuracy.mean() <= COIN


def _spread_around_line(values):
    """Standard deviation from the straight line through the values: a steady climb is no swing."""
    place = np.arange(len(values))
    return (values - np.polyval(np.polyfit(place, values, 1), place)).std()


def _percent(share, digits=0):
    return f"{100 * share:.{digits}f} %"
