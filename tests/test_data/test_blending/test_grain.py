"""Grain: measured on noise of known strength, and added in the same strength."""

import io

import numpy as np
import pytest
from PIL import Image

from data.blending.grain import grain_of, matching_grain, octaves, spline_blur

SIDE = 160
INSIDE = np.ones((SIDE, SIDE), bool)
OCTAVE = np.array([0.8908, 0.2007])  # deviation of unit white noise in each octave of the cubic B-spline (Starck)


def scene():
    """Return an image (160, 160, 3) of smooth shading, with edges and texture on its left half."""
    y, x = np.mgrid[:SIDE, :SIDE]
    plane = 0.5 + 0.1 * np.sin(x / 40) * np.cos(y / 50)
    plane += np.where(x < 70, 0.15 * np.sign(np.sin(x / 2.5) * np.sin(y / 3)), 0)
    return plane[..., None].repeat(3, axis=2).astype(np.float32)


def noisy(image, spread, seed=0, gray=True):
    noise = np.random.default_rng(seed).standard_normal((*image.shape[:2], 1 if gray else 3))
    return (image + spread * noise).astype(np.float32)


def test_octaves_sum_to_the_input_and_match_the_wavelet():
    plane = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    details, rest = octaves(plane)
    np.testing.assert_allclose(sum(details) + rest, plane, atol=1e-5)
    np.testing.assert_allclose([detail.std() for detail in details], OCTAVE, rtol=0.03)


def test_spline_blur_keeps_linear_functions_and_has_the_stated_deviation():
    y, x = np.mgrid[:60, :60].astype(np.float32)
    np.testing.assert_allclose(spline_blur(x + 2 * y, 2)[8:-8, 8:-8], (x + 2 * y)[8:-8, 8:-8], atol=1e-4)
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    for spacing in (1, 2, 3):
        blurred = spline_blur(point, spacing)
        assert blurred.sum() == pytest.approx(1)
        assert (blurred.sum(axis=1) * (np.arange(61) - 30) ** 2).sum() == pytest.approx(spacing**2)


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.05])
def test_grain_is_measured_correctly_despite_edges_and_texture(spread):
    np.testing.assert_allclose(grain_of(noisy(scene(), spread), INSIDE), spread * OCTAVE, rtol=0.15)


def test_clean_image_has_no_grain():
    assert grain_of(scene(), INSIDE).max() < 5e-4


@pytest.mark.parametrize("quality", [None, 90, 70])
def test_smooth_face_gets_the_grain_of_the_image(quality):
    """Test camera noise, also after JPEG compression, in every octave."""
    image = np.rint(np.clip(noisy(scene(), 0.03, gray=False), 0, 1) * 255).astype(np.uint8)
    if quality:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        image = np.array(Image.open(file))
    old, generated = image.astype(np.float32) / 255, np.full((SIDE, SIDE, 3), 0.5, np.float32)
    grain = matching_grain(old, generated, INSIDE)
    assert grain.dtype == np.float32 and grain.shape == (SIDE, SIDE) and abs(grain.mean()) < 1e-3
    got = grain_of(np.rint((generated + grain[..., None]) * 255) / np.float32(255), INSIDE)
    wanted = grain_of(old, INSIDE)
    assert wanted[0] > 0.004
    np.testing.assert_allclose(got, wanted, rtol=0.2)


def test_face_with_enough_grain_gets_none():
    old, generated = noisy(scene(), 0.02), noisy(scene(), 0.03, seed=1)
    assert not matching_grain(old, generated, INSIDE).any()
    assert not matching_grain(scene(), noisy(scene(), 0.01), INSIDE).any()


def test_missing_part_of_the_grain_is_added():
    old, generated = noisy(scene(), 0.03), noisy(scene(), 0.02, seed=1)
    both = generated + matching_grain(old, generated, INSIDE)[..., None]
    np.testing.assert_allclose(grain_of(both, INSIDE), grain_of(old, INSIDE), rtol=0.15)


def test_grain_differs_between_frames_and_is_reproducible():
    old, generated = noisy(scene(), 0.03), np.full((SIDE, SIDE, 3), 0.5, np.float32)
    one, again, other = (matching_grain(old, generated, INSIDE, number) for number in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_small_face_gets_no_grain():
    """With few blocks, features such as eyes and wrinkles would be measured as grain."""
    small = np.zeros_like(INSIDE)
    small[:72, :72] = True
    assert grain_of(noisy(scene(), 0.05), small).all()  # here it can be measured, because there is only noise
    assert not matching_grain(noisy(scene(), 0.05), scene(), small).any()


def test_face_too_small_to_measure_gets_no_grain():
    few = np.zeros_like(INSIDE)
    few[:20, :20] = True
    assert not grain_of(noisy(scene(), 0.05), few).any()
    assert not matching_grain(noisy(scene(), 0.05), scene(), few).any()
    assert not matching_grain(*np.random.default_rng(0).random((2, 5, 3, 3), np.float32), np.ones((5, 3), bool)).any()
