"""Calibrate discriminator scores to probabilities by Platt scaling, and measure how well.

A discriminator's score says which of two faces looks more real, not with what confidence. Each
objective has its own scale. Even if the scores are logits, networks are overconfident (Guo 2017,
"On calibration of modern neural networks"). So a logistic curve is fitted to the scores of labeled
faces (Platt 1999, "Probabilistic outputs for support vector machines"):

    probability that a face is fake = 1 / (1 + exp(slope * score - offset)), slope >= 0

A reliability diagram checks it: of the faces with a probability of 80 %, 80 % should be fake. The
calibration error is the mean deviation from that (expected calibration error, Guo 2017).

Legend: n scores; fake: (n,) bool, whether a face is fake; weight: (n,) weights of the faces.
"""
from typing import NamedTuple

import numpy as np

from gan.monitor import chart

_ITERATIONS = 100
_BINS = 10


class Calibration(NamedTuple):
    """The logistic curve. Call it on scores (n,): the higher, the more real a face looks."""

    slope: float
    offset: float

    def __call__(self, scores):
        """Return the probability that each face is fake: (n,) float64, 0..1."""
        return _sigmoid(self.offset - self.slope * np.asarray(scores, np.float64))


class Bin(NamedTuple):
    """The faces of one bin of a reliability diagram."""

    probability: float  # mean predicted probability of being fake
    fake_fraction: float  # weighted fraction of fake faces, 0..1
    weight: float  # fraction of the total weight, 0..1
    real: int  # number of real faces
    fake: int  # number of fake faces


def fit(scores, fake, weight):
    """Fit a Calibration to the scores of labeled faces, at least one real and one fake; (n,) each.

    Platt's targets are slightly inside 0 and 1, as if each class had one more face of the other
    label. This keeps the curve gentle if scores are few or perfectly separated. It is fitted by
    Newton's method (Lin, Lin & Weng 2007, "A note on Platt's probabilistic outputs for support
    vector machines"). If fake faces do not score lower, the scores carry no information: the slope
    is 0.
    """
    scores, weight = np.asarray(scores, np.float64), weight / np.sum(weight)
    count = np.array([np.sum(~fake), np.sum(fake)])
    target = np.where(fake, (count[1] + 1) / (count[1] + 2), 1 / (count[0] + 2))
    center, spread = scores.mean(), scores.std() or 1.0
    x = np.stack([(center - scores) / spread, np.ones(len(scores))])  # (2, n)
    w = np.zeros(2)
    loss = _cross_entropy(w, x, target, weight)
    for _ in range(_ITERATIONS):
        p = _sigmoid(w @ x)
        gradient = x @ (weight * (p - target))
        hessian = (x * (weight * p * (1 - p))) @ x.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while (next_loss := _cross_entropy(w - step, x, target, weight)) > loss and np.abs(step).max() > 1e-9:
            step /= 2
        w, loss = w - step, next_loss
        if np.abs(step).max() <= 1e-9:
            break
    if w[0] <= 0:
        mean = np.sum(weight * target)
        return Calibration(0.0, float(np.log(mean / (1 - mean))))
    return Calibration(float(w[0] / spread), float(w[1] + w[0] * center / spread))


def _cross_entropy(w, x, target, weight):
    logit = w @ x
    return np.sum(weight * (np.logaddexp(0, logit) - target * logit))


def _sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def balanced_weights(kinds, fake):
    """Return weights (n,) under which real and fake faces count alike, and so do the kinds of each.

    kinds: (n,) names
    """
    weight = np.zeros(len(kinds))
    for label in (fake, ~fake):
        names = np.unique(kinds[label])
        for name in names:
            chosen = label & (kinds == name)
            weight[chosen] = 0.5 / (len(names) * chosen.sum())
    return weight


def reliability(probability, fake, weight):
    """Divide 0..1 into bins of equal width. Returns the Bins that contain faces."""
    index = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    weight, result = weight / weight.sum(), []
    for k in np.unique(index):
        chosen = index == k
        total, fakes = weight[chosen].sum(), chosen & fake
        result.append(Bin(float((probability * weight)[chosen].sum() / total), float(weight[fakes].sum() / total),
                          float(total), int((chosen & ~fake).sum()), int(fakes.sum())))
    return result


def calibration_error(bins):
    """Return the expected calibration error, 0..1; lower is better."""
    return sum(each.weight * abs(each.probability - each.fake_fraction) for each in bins)


def reliability_diagram(bins, title):
    """Plot the reliability diagram, (660, 770, 3) uint8: frequency by predicted probability.

    The lower panel shows the number of faces in each bin.
    """
    figure = chart.figure(7, 6)
    upper, lower = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    predicted = 100 * np.array([each.probability for each in bins])
    observed = 100 * np.array([each.fake_fraction for each in bins])
    upper.plot([0, 100], [0, 100], "--", color=chart.GRAY, linewidth=1, label="perfect calibration")
    upper.vlines(predicted, predicted, observed, color=chart.ORANGE, linewidth=1.5, label="calibration error")
    upper.plot(predicted, observed, "o-", color=chart.BLUE, linewidth=1.2, label="held-out faces", clip_on=False,
               zorder=3)
    upper.set(ylabel="observed frequency of synthesized, %", ylim=(-4, 104), yticks=range(0, 101, 20), title=title)
    left = np.minimum(predicted * _BINS // 100, _BINS - 1) * 100 / _BINS
    for shift, name, color, label in ((10, "real", chart.GREEN, "real"), (50, "fake", chart.ORANGE, "synthesized")):
        counts = [getattr(each, name) for each in bins]
        bars = lower.bar(left + shift / _BINS, counts, 40 / _BINS, align="edge", color=color, label=label)
        lower.bar_label(bars, [n or "" for n in counts], fontsize=8, padding=1)
    lower.set(xlabel="predicted probability of being synthesized, %", ylabel="faces", xlim=(-2, 102),
              xticks=range(0, 101, 10))
    lower.margins(y=0.25)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left" if axes is upper else "upper center", frameon=False, fontsize=9)
    return chart.pixels(figure)
