"""Test the calibration: recover a known curve, and compare bins with those computed by hand."""
import numpy as np
import pytest

from gan.evaluation.calibration import (Bin, Calibration, balanced_weights, calibration_error, fit, reliability,
    reliability_diagram)


def sample(slope, offset, count, seed=0):
    """Sample scores, and whether each is fake, with the probability of the curve."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-6, 6, count)
    return scores, rng.uniform(size=count) < 1 / (1 + np.exp(slope * scores - offset))


@pytest.mark.parametrize("slope, offset", [(1.0, 0.0), (0.4, -1.0), (3.0, 2.0)])
def test_fit_recovers_a_known_curve(slope, offset):
    scores, fake = sample(slope, offset, 40_000)
    found = fit(scores, fake, np.ones(len(scores)))
    assert found.slope == pytest.approx(slope, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.08)


@pytest.mark.parametrize("scale, shift", [(1e-4, 0.5), (100.0, -1e4)])
def test_fit_does_not_depend_on_the_scale_of_scores(scale, shift):
    scores, fake = sample(1.0, 0.5, 500)
    weight, other = np.ones(500), scale * scores + shift
    np.testing.assert_allclose(fit(other, fake, weight)(other), fit(scores, fake, weight)(scores), atol=1e-6)


def test_fit_is_a_minimum_of_the_cross_entropy():
    """Compare the cross entropy against Platt's targets at the fitted curve and around it."""
    scores, fake = sample(0.7, 0.3, 60, seed=3)
    weight = np.random.default_rng(4).uniform(0.5, 2, 60)
    target = np.where(fake, (fake.sum() + 1) / (fake.sum() + 2), 1 / ((~fake).sum() + 2))

    def loss(slope, offset):
        p = 1 / (1 + np.exp(slope * scores - offset))
        return -(weight * (target * np.log(p) + (1 - target) * np.log(1 - p))).sum()

    found = fit(scores, fake, weight)
    steps = (-1e-3, 0, 1e-3)
    around = [loss(found.slope + dx, found.offset + dy) for dx in steps for dy in steps if dx or dy]
    assert loss(*found) < min(around)


def test_separated_scores_do_not_diverge():
    """With two perfectly separated faces of each label, Platt's targets are 3/4 and 1/4."""
    found = fit(np.array([9.0, 9.0, -9.0, -9.0]), np.array([False, False, True, True]), np.ones(4))
    np.testing.assert_allclose(found(np.array([9.0, 0.0, -9.0])), [0.25, 0.5, 0.75], atol=1e-6)


def test_two_faces_give_moderate_probabilities():
    found = fit(np.array([1.0, -1.0]), np.array([False, True]), np.ones(2))
    np.testing.assert_allclose(found(np.array([1.0, -1.0])), [1 / 3, 2 / 3], atol=1e-6)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]], ids=["reversed", "all equal"])
def test_uninformative_scores_give_even_odds(scores):
    found = fit(np.array(scores), np.array([False, False, True, True]), np.ones(4))
    np.testing.assert_allclose(found(np.array([-100.0, 0.0, 100.0])), 0.5, atol=1e-9)


def test_extreme_scores_do_not_overflow():
    with np.errstate(over="raise"):
        np.testing.assert_array_equal(Calibration(1.0, 0.0)(np.array([-1000.0, 1000.0])) > 0.5, [True, False])


def test_balanced_weights_of_labels_and_kinds():
    kinds = np.array(["real"] * 4 + ["soft"] * 1 + ["fake"] * 2)
    weight = balanced_weights(kinds, kinds == "fake")
    np.testing.assert_allclose(weight, [1 / 16] * 4 + [1 / 4] + [1 / 4] * 2)


def test_fit_uses_weights():
    """One real face of weight 3, three fakes of weight 1, equal scores: the mean of the targets."""
    fake = np.array([False, True, True, True])
    p = fit(np.zeros(4), fake, np.array([3.0, 1, 1, 1]))(np.zeros(1))[0]
    assert p == pytest.approx((1 / 3 + 4 / 5) / 2)


class TestReliability:
    PROBABILITY = np.array([0.05, 0.08, 0.55, 0.52, 0.58, 0.95, 1.0])
    FAKE = np.array([False, False, True, False, True, True, True])

    def test_bins_computed_by_hand(self):
        bins = reliability(self.PROBABILITY, self.FAKE, np.ones(7))
        expected = [Bin(0.065, 0.0, 2 / 7, 2, 0), Bin(0.55, 2 / 3, 3 / 7, 1, 2), Bin(0.975, 1.0, 2 / 7, 0, 2)]
        assert len(bins) == 3
        for got, hand in zip(bins, expected):
            assert tuple(got) == pytest.approx(tuple(hand))

    def test_calibration_error_is_the_mean_deviation(self):
        error = calibration_error(reliability(self.PROBABILITY, self.FAKE, np.ones(7)))
        assert error == pytest.approx((2 * 0.065 + 3 * (2 / 3 - 0.55) + 2 * 0.025) / 7)

    def test_bins_use_weights(self):
        (only,) = reliability(np.array([0.42, 0.48]), np.array([False, True]), np.array([3.0, 1.0]))
        assert tuple(only) == pytest.approx((0.435, 0.25, 1.0, 1, 1))

    def test_correct_calibration_has_no_error(self):
        scores, fake = sample(1.0, 0.0, 100_000, seed=5)
        assert calibration_error(reliability(Calibration(1.0, 0.0)(scores), fake, np.ones(len(scores)))) < 0.005
        assert calibration_error(reliability(Calibration(3.0, 0.0)(scores), fake, np.ones(len(scores)))) > 0.06

    def test_diagram_shows_the_points(self):
        """A point at 20 %, 90 % is in the left half, near the top of the upper panel."""
        pixels = reliability_diagram([Bin(0.2, 0.9, 1.0, 1, 9)], "title").astype(int)
        assert pixels.shape == (660, 770, 3)
        y, x = np.nonzero(np.abs(pixels - (0x1f, 0x6f, 0xb4)).sum(-1) < 30)
        right = x > 150  # excludes the marker in the legend
        assert 180 < x[right].mean() < 250 and y[right].max() < 150
