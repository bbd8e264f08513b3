"""Figures of quality against their definitions: values worked out by hand, naive loops, known truths."""
import numpy as np
import pytest

from gan import figures


def grey(values):
    """Pictures (n, S, S, 3) of grey values (n, S, S)."""
    return np.repeat(np.asarray(values, np.float32)[..., None], 3, axis=3)


def checker(size, low, high):
    y, x = np.mgrid[:size, :size]
    return grey(np.where((x + y) % 2 == 0, low, high)[None])


def test_sharpness_by_hand():
    fine, faint, mask = checker(8, 0.2, 0.6), checker(8, 0.3, 0.5), np.ones((1, 8, 8, 1), np.float32)
    # every neighbour is 0.4 away: the Laplacian is 4 * 0.4 = 1.6 everywhere; half the contrast has a quarter of the energy
    assert figures.sharpness(faint, fine, mask) == pytest.approx(0.25, rel=1e-5)
    assert figures.sharpness(fine, faint, mask) == pytest.approx(4, rel=1e-5)
    assert figures.sharpness(fine, fine, mask) == 1
    assert np.isnan(figures.sharpness(fine, np.zeros_like(fine), mask))
    one = np.zeros((1, 8, 8, 1), np.float32)
    one[0, 3, 4] = 1
    dot, half = grey(np.zeros((1, 8, 8))), grey(np.zeros((1, 8, 8)))
    dot[0, 3, 4], half[0, 3, 4], half[0, 6, 6] = 0.4, 0.1, 0.9  # the second dot of `half` lies outside the mask
    assert figures.sharpness(half, dot, one) == pytest.approx(0.0625, rel=1e-5)


def test_sharpness_is_the_ratio_of_means_over_the_set():
    real = np.concatenate([checker(8, 0, 1), checker(8, 0.45, 0.55)])
    drawn = np.concatenate([checker(8, 0.25, 0.75), checker(8, 0.45, 0.55)])
    expected = (0.5 ** 2 + 0.1 ** 2) / (1 + 0.1 ** 2)
    assert figures.sharpness(drawn, real, np.ones((2, 8, 8, 1))) == pytest.approx(expected, rel=1e-5)


def test_a_line_of_brightness_has_no_energy_and_blur_takes_it():
    y, x = np.mgrid[:8, :8]
    random = np.random.default_rng(0).random((1, 8, 8))
    ramp = grey((0.1 * x + 0.02 * y)[None])
    assert figures.sharpness(ramp, grey(random), np.ones((1, 8, 8, 1))) == pytest.approx(0, abs=1e-9)
    blurred = sum(np.roll(random, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    assert figures.sharpness(grey(blurred), grey(random), np.ones((1, 8, 8, 1))) < 0.2


def test_variety_by_hand():
    mask = np.ones((2, 4, 4, 1), np.float32)
    real = grey(np.stack([np.full((4, 4), 0.2), np.full((4, 4), 0.8)]))  # 0.3 from the mean of 0.5
    drawn = grey(np.stack([np.full((4, 4), 0.5), np.full((4, 4), 0.7)]))  # 0.1 from the mean of 0.6
    assert figures.variety(drawn, real, mask) == pytest.approx(1 / 3, rel=1e-5)
    assert figures.variety(real, real, mask) == 1
    assert figures.variety(np.repeat(drawn[:1], 2, axis=0), real, mask) == pytest.approx(0, abs=1e-6)
    mask[:, 2:] = 0
    drawn[1, 2:] = 0  # outside the mask
    assert figures.variety(drawn, real, mask) == pytest.approx(1 / 3, rel=1e-5)
    assert np.isnan(figures.variety(drawn[:1], real[:1], mask[:1]))


def test_variety_by_definition():
    random = np.random.default_rng(1)
    drawn, real, mask = random.random((5, 4, 4, 3)), random.random((5, 4, 4, 3)), random.random((5, 4, 4, 1))
    spreads = []
    for faces in (drawn, real):
        total = 0
        for i in range(4):
            for j in range(4):
                for c in range(3):
                    mean = np.average(faces[:, i, j, c], weights=mask[:, i, j, 0])
                    total += (mask[:, i, j, 0] * (faces[:, i, j, c] - mean) ** 2).sum()
        spreads.append(total ** 0.5)
    assert figures.variety(drawn, real, mask) == pytest.approx(spreads[0] / spreads[1])
