"""From a score of any scale to a probability, and how far that can be trusted.

A discriminator's score says which of two faces looks more real, not how sure that is; each objective has a scale of its own,
and even where scores are logits, networks are surer than they are right (Guo 2017, "On calibration of modern neural
networks"). So the scores of faces whose origin is known are laid along a logistic curve (Platt 1999, "Probabilistic outputs
for support vector machines"):

    probability that a face is made = 1 / (1 + exp(slope * score - offset)), slope >= 0

A reliability figure shows whether it holds: of the faces that get 80 %, 80 % should be made. The calibration error is how
far off that is, on average over the faces (expected calibration error, Guo 2017).

Legend: n scores; made: (n,) bool, whether a face is made; weight: (n,) how much each counts.
"""
from typing import NamedTuple

import numpy as np

from gan.monitor import chart

_ITERATIONS = 100
_BINS = 10


class Calibration(NamedTuple):
    """The logistic curve. Call it on scores (n,), higher where a face looks more real."""

    slope: float
    offset: float

    def __call__(self, scores):
        """Probability that each is made: (n,) float64, 0..1."""
        return _sigmoid(self.offset - self.slope * np.asarray(scores, np.float64))


class Bin(NamedTuple):
    """Faces whose probability lies between two bounds."""

    probability: float  # mean of what was said
    share: float  # of the made ones among them, by weight
    weight: float  # of all faces, 0..1
    real: int  # faces
    made: int


def fit(scores, made, weight):
    """The Calibration of scores whose origin is known, at least one real and one made; (n,) each.

    Platt's targets stand a little inside 0 and 1, as if one face more of each side had been seen to be of the other: so the
    curve stays gentle where scores are few, or all told apart. It is found by Newton's method (Lin, Lin & Weng 2007, "A note
    on Platt's probabilistic outputs for support vector machines"). Scores that are no lower for made faces tell nothing:
    their slope is 0."""
    scores, weight = np.asarray(scores, np.float64), weight / np.sum(weight)
    count = np.array([np.sum(~made), np.sum(made)])
    target = np.where(made, (count[1] + 1) / (count[1] + 2), 1 / (count[0] + 2))
    centre, spread = scores.mean(), scores.std() or 1.0
    x = np.stack([(centre - scores) / spread, np.ones(len(scores))])  # (2, n)
    w = np.zeros(2)
    loss = _cross_entropy(w, x, target, weight)
    for _ in range(_ITERATIONS):
        p = _sigmoid(w @ x)
        slope = x @ (weight * (p - target))
        curvature = (x * (weight * p * (1 - p))) @ x.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        while _cross_entropy(w - step, x, target, weight) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        w, loss = w - step, _cross_entropy(w - step, x, target, weight)
        if np.abs(step).max() <= 1e-9:
            break
    if w[0] <= 0:
        mean = np.sum(weight * target)
        return Calibration(0.0, float(np.log(mean / (1 - mean))))
    return Calibration(float(w[0] / spread), float(w[1] + w[0] * centre / spread))


def _cross_entropy(w, x, target, weight):
    logit = w @ x
    return np.sum(weight * (np.logaddexp(0, logit) - target * logit))


def _sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def balanced(kinds, made):
    """Weights (n,) with which real and made faces count alike, and the kinds of each side alike. kinds: (n,) names."""
    weight = np.zeros(len(kinds))
    for side in (made, ~made):
        names = np.unique(kinds[side])
        for name in names:
            chosen = side & (kinds == name)
            weight[chosen] = 0.5 / (len(names) * chosen.sum())
    return weight


def reliability(probability, made, weight, bins=_BINS):
    """The Bins of equal width, 0..1, that hold faces."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    weight, found = weight / weight.sum(), []
    for k in np.unique(place):
        chosen = place == k
        total = weight[chosen].sum()
        found.append(Bin(float((probability * weight)[chosen].sum() / total), float(weight[chosen & made].sum() / total),
                         float(total), int((chosen & ~made).sum()), int((chosen & made).sum())))
    return found


def calibration_error(bins):
    """Mean distance of the probabilities from the shares, 0..1, each Bin by its weight; lower is better."""
    return sum(each.weight * abs(each.probability - each.share) for each in bins)


def reliability_plot(bins, title):
    """The reliability figure, (660, 770, 3) uint8: shares against probabilities; below, how many faces there are."""
    figure = chart.figure(7, 6)
    upper, lower = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    said, share = 100 * np.array([each.probability for each in bins]), 100 * np.array([each.share for each in bins])
    upper.plot([0, 100], [0, 100], "--", color=chart.GREY, linewidth=1, label="if it were always right about itself")
    upper.vlines(said, said, share, color=chart.ORANGE, linewidth=1.5, label="how far off")
    upper.plot(said, share, "o-", color=chart.BLUE, linewidth=1.2, label="held-out faces", clip_on=False, zorder=3)
    upper.set(ylabel="of these, synthesized, %", ylim=(-4, 104), yticks=range(0, 101, 20), title=title)
    edges = np.arange(_BINS) * 100 / _BINS
    place = [min(int(each.probability * _BINS), _BINS - 1) for each in bins]
    real, made = np.zeros(_BINS), np.zeros(_BINS)
    real[place], made[place] = [each.real for each in bins], [each.made for each in bins]
    width = 40 / _BINS
    for shift, counts, colour, label in ((0, real, chart.GREEN, "real"), (width, made, chart.ORANGE, "synthesized")):
        bars = lower.bar(edges + 10 / _BINS + shift, counts, width, align="edge", color=colour, label=label)
        lower.bar_label(bars, ["" if n == 0 else f"{n:.0f}" for n in counts], fontsize=8, padding=1)
    lower.set(xlabel="probability of being synthesized, as told, %", ylabel="faces", xlim=(-2, 102),
              xticks=range(0, 101, 10))
    lower.margins(y=0.25)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left" if axes is upper else "upper center", frameon=False, fontsize=9)
    return chart.pixels(figure)
