"""Color transfer: Lab conversion, matched statistics, and temporal smoothing in a video."""

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE
from data.geometry.color import (LUMA, ColorMemory, ColorStatistics, lab_to_rgb, match_colors, match_tint, rgb_to_lab,
                                 statistics)
from data.geometry.masks import face_mask


def test_lab_of_known_colors():
    """Values of the CIE formulas for sRGB with white D65 (two degrees)."""
    known = {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20), (0, 255, 0): (87.73, -86.18, 83.18),
             (0, 0, 255): (32.30, 79.19, -107.86), (0, 0, 0): (0, 0, 0), (119, 119, 119): (50.03, 0, 0)}  # fmt: skip
    for rgb, lab in known.items():
        np.testing.assert_allclose(rgb_to_lab(np.array(rgb) / 255), lab, atol=0.03)


def test_lab_round_trip():
    colors = np.random.default_rng(0).random((1000, 3))
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(colors)), colors, atol=1e-9)
    grays = np.linspace(0, 0.06, 50)[:, None].repeat(3, axis=1)  # the linear segments of both curves
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(grays)), grays, atol=1e-9)


def weighted(lab, mask):
    weights = mask[..., None] / mask.sum()
    mean = (lab * weights).sum(axis=(0, 1))
    return mean, np.sqrt(((lab - mean) ** 2 * weights).sum(axis=(0, 1)))


@pytest.mark.parametrize("gain, offset", [((1, 1, 1), (0, 0, 0)), ((1.07, 0.95, 0.75), (0.04, 0.015, 0))])
def test_a_gray_or_toned_image_gives_its_tint(gain, offset):
    """Each gray value has one color, the same in the image and in the generated face."""
    rng = np.random.default_rng(1)
    gray = rng.uniform(0.2, 0.8, (64, 64, 1)).astype(np.float32)
    target = np.rint((gray * gain + offset) * 255).astype(np.float32) / 255 + rng.normal(0, 0.002, (64, 64, 1))
    source = rng.random((64, 64, 3)).astype(np.float32)
    toned = match_tint(source, target.astype(np.float32))
    luma = source @ LUMA
    inside = (luma > 0.3) & (luma < 0.7)
    expected = (luma[..., None] - np.dot(offset, LUMA)) / np.dot(gain, LUMA) * gain + offset
    assert np.abs(toned - expected)[inside].max() < 0.015 and toned.dtype == np.float32
    if gain == (1, 1, 1):
        assert np.ptp(toned, axis=-1).max() == 0


def test_an_image_with_several_colors_changes_nothing():
    rng = np.random.default_rng(2)
    target = (0.5 + 0.03 * rng.standard_normal((64, 64, 3))).astype(np.float32)
    source = rng.random((64, 64, 3)).astype(np.float32)
    assert match_tint(source, target) is source


def test_lab_transfer_matches_mean_and_standard_deviation():
    rng = np.random.default_rng(1)
    mask = face_mask(MEAN_FACE * 64 - 0.5, (64, 64))
    source = (0.5 + 0.05 * rng.standard_normal((64, 64, 3))).astype(np.float32)
    target = (np.array([0.6, 0.45, 0.35]) + 0.04 * rng.standard_normal((64, 64, 3))).astype(np.float32)
    target[mask == 0] = 0  # pixels outside the mask must not count
    result = match_colors(source, target, mask)
    assert result.dtype == np.float32 and result.shape == source.shape
    for got, wanted in zip(weighted(rgb_to_lab(result), mask), weighted(rgb_to_lab(target), mask)):
        np.testing.assert_allclose(got, wanted, atol=0.05)


def test_color_transfer_does_not_amplify_noise():
    rng = np.random.default_rng(2)
    mask = np.ones((32, 32), np.float32)
    flat, noise = np.full((32, 32, 3), 0.4, np.float32), rng.standard_normal((32, 32, 3)).astype(np.float32)
    result = match_colors(flat, np.clip(0.5 + 0.2 * noise, 0, 1), mask)
    assert np.ptp(result, axis=(0, 1)).max() < 1e-5  # a flat face stays flat
    nearly = flat + 0.004 * noise
    stretched = match_colors(nearly, np.clip(0.5 + 0.2 * noise, 0, 1), mask)
    assert weighted(rgb_to_lab(stretched), mask)[1][0] <= 2.01 * weighted(rgb_to_lab(nearly), mask)[1][0]
    assert stretched.min() >= 0 and stretched.max() <= 1


def test_color_transfer_with_an_empty_mask_changes_nothing():
    source = np.random.default_rng(3).random((8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(match_colors(source, 1 - source, np.zeros((8, 8))), source)


def test_lab_conversion_keeps_float32():
    rgb = np.random.default_rng(4).random((50, 3)).astype(np.float32)
    assert rgb_to_lab(rgb).dtype == lab_to_rgb(rgb_to_lab(rgb)).dtype == np.float32
    np.testing.assert_allclose(rgb_to_lab(rgb), rgb_to_lab(rgb.astype(np.float64)), atol=1e-3)
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1e-5)


def faces(seed=5):
    """Return a source and a target with different correlations of channels, and a mask."""
    rng = np.random.default_rng(seed)
    mixes = ([[0.04, 0.02, 0.02], [0.01, 0.03, 0.02], [0, 0.01, 0.03]],
             [[0.05, 0.02, 0.01], [0.02, 0.04, 0.01], [0, 0, 0.03]])
    source, target = (rng.standard_normal((64, 64, 3)) @ np.array(mix) for mix in mixes)
    source, target = source + (0.5, 0.4, 0.4), target + (0.6, 0.45, 0.35)
    return source.astype(np.float32), target.astype(np.float32), face_mask(MEAN_FACE * 64 - 0.5, (64, 64))


def test_statistics_match_numpy():
    source, _, mask = faces()
    found = statistics(rgb_to_lab(source), mask)
    colors, weights = rgb_to_lab(source).reshape(-1, 3), mask.ravel().astype(np.float64)
    np.testing.assert_allclose(found.mean, np.average(colors, axis=0, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(found.covariance, np.cov(colors.T, ddof=0, aweights=weights), rtol=1e-4, atol=1e-4)


def test_mkl_transfer_matches_mean_and_covariance():
    source, target, mask = faces()
    wanted = statistics(rgb_to_lab(target), mask)
    found = statistics(rgb_to_lab(match_colors(source, target, mask, "mkl")), mask)
    np.testing.assert_allclose(found.mean, wanted.mean, atol=0.02)
    np.testing.assert_allclose(found.covariance, wanted.covariance, atol=0.02 * np.abs(wanted.covariance).max())
    channels = statistics(rgb_to_lab(match_colors(source, target, mask, "lab")), mask)
    # "lab" does not match the covariance
    assert np.abs(channels.covariance - wanted.covariance).max() > 0.1 * np.abs(wanted.covariance).max()


def test_mkl_transfer_keeps_equal_and_gray_colors():
    source, _, mask = faces()
    np.testing.assert_allclose(match_colors(source, source, mask, "mkl"), np.clip(source, 0, 1), atol=2e-3)
    gray = source.mean(axis=2, keepdims=True).repeat(3, axis=2)  # a singular covariance
    np.testing.assert_allclose(match_colors(gray, gray, mask, "mkl"), gray, atol=2e-3)


def test_mkl_gains_are_limited():
    source, target, mask = faces()
    flat = 0.5 + 0.05 * (source - source.mean())
    matched = match_colors(flat, target, mask, "mkl")
    after, before = (statistics(rgb_to_lab(x), mask).covariance for x in (matched, flat))
    assert np.linalg.eigvalsh(after).max() <= 4.1 * np.linalg.eigvalsh(before).max()


def test_transfer_none_and_invalid_arguments():
    source, target, mask = faces()
    np.testing.assert_array_equal(match_colors(source, target, mask, "none"), source)
    with pytest.raises(ValueError, match="'rgb'"):
        match_colors(source, target, mask, "rgb")
    with pytest.raises(ValueError, match="one shape"):
        match_colors(source, target[:32], mask)


def means(source, targets, mask, memory):
    """Match the source to each target in turn: its mean Lab colors (n, 3)."""
    matched = [match_colors(source, target, mask, "lab", memory) for target in targets]
    return np.array([statistics(rgb_to_lab(face), mask).mean for face in matched])


@pytest.mark.parametrize("frames", [4, 12])
def test_color_memory_reduces_flicker(frames):
    """An average of time constant T scales noise by sqrt(a / (2 - a)), a = 1 - exp(-1/T)."""
    source, target, mask = faces()
    flicker = np.random.default_rng(6).standard_normal((120, 1, 1, 1)).astype(np.float32)
    targets = target + np.float32(0.02) * flicker
    raw, smoothed = (means(source, targets, mask, memory)[20:, 0].std() for memory in (None, ColorMemory(frames)))
    weight = 1 - np.exp(-1 / frames)
    assert smoothed / raw == pytest.approx(np.sqrt(weight / (2 - weight)), rel=0.35) and smoothed < 0.5 * raw


def test_color_memory_follows_a_change_with_its_time_constant():
    source, target, mask = faces()
    before, after = means(source, [target, target + np.float32(0.06)], mask, None)
    found = means(source, [target] * 5 + [target + np.float32(0.06)] * 60, mask, ColorMemory(10))
    progress = (found[5:] - before)[:, 0] / (after - before)[0]
    assert progress[9] == pytest.approx(1 - np.exp(-1), abs=0.03) and progress[-1] == pytest.approx(1, abs=0.01)


def test_color_memory_does_not_delay_changes_of_both_faces():
    """A flickering lamp also lights the generated face, so its change takes effect at once."""
    source, target, mask = faces()
    memory, light = ColorMemory(12), np.float32(0.05)
    means(source, [target] * 5, mask, memory)
    found = statistics(rgb_to_lab(match_colors(source + light, target + light, mask, "lab", memory)), mask).mean[0]
    before, after = (statistics(rgb_to_lab(x), mask).mean[0] for x in (target, target + light))
    assert after - before > 4 and abs(found - after) < 0.3 * (after - before)  # smoothing would delay 92 % of it


def test_color_memory_resets_at_a_cut():
    source, target, mask = faces()
    other = np.clip(target * np.float32(0.5), 0, 1)
    memory = ColorMemory(50)
    found = means(source, [target] * 3 + [other], mask, memory)
    np.testing.assert_allclose(found[3], means(source, [other], mask, None)[0], atol=1e-6)
    near = target + np.float32(0.03)  # too close to be detected as a cut
    memory.reset()
    np.testing.assert_allclose(means(source, [near], mask, memory), means(source, [near], mask, None), atol=1e-6)
    assert memory.age == 5


def test_color_memory_returns_the_first_frame_unchanged():
    one, two = ColorStatistics(np.ones(3), np.eye(3)), ColorStatistics(np.zeros(3), 2 * np.eye(3))
    assert ColorMemory(9).smooth(one, two) == (one, two)
    with pytest.raises(ValueError, match="frames"):
        ColorMemory(0)
