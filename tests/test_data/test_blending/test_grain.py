"""Grain: measured against noise of known strength, and given back in the same strength."""

import io

import numpy as np
import pytest
from PIL import Image

from data.blending.grain import grain_of, matching_grain, octaves, spline_blur

SIDE = 160
INSIDE = np.ones((SIDE, SIDE), bool)
OCTAVE = np.array([0.8908, 0.2007])  # spread of white noise of spread 1 in each octave of the cubic B-spline (Starck)


def scene():
    """A picture (160, 160, 3) of smooth shading with edges and texture on its left half."""
    y, x = np.mgrid[:SIDE, :SIDE]
    plane = 0.5 + 0.1 * np.sin(x / 40) * np.cos(y / 50)
    plane += np.where(x < 70, 0.15 * np.sign(np.sin(x / 2.5) * np.sin(y / 3)), 0)
    return plane[..., None].repeat(3, axis=2).astype(np.float32)


def noisy(picture, spread, seed=0, grey=True):
    noise = np.random.default_rng(seed).standard_normal((*picture.shape[:2], 1 if grey else 3))
    return (picture + spread * noise).astype(np.float32)


def test_octaves_add_up_and_are_a_wavelets():
    plane = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)
    details, rest = octaves(plane)
    np.testing.assert_allclose(sum(details) + rest, plane, atol=1e-5)
    np.testing.assert_allclose([detail.std() for detail in details], OCTAVE, rtol=0.03)


def test_the_blur_keeps_lines_and_spreads_a_point_by_its_sigma():
    y, x = np.mgrid[:60, :60].astype(np.float32)
    np.testing.assert_allclose(spline_blur(x + 2 * y, 2)[8:-8, 8:-8], (x + 2 * y)[8:-8, 8:-8], atol=1e-4)
    point = np.zeros((61, 61), np.float32)
    point[30, 30] = 1
    for hole in (1, 2, 3):
        blurred = spline_blur(point, hole)
        assert blurred.sum() == pytest.approx(1)
        assert (blurred.sum(axis=1) * (np.arange(61) - 30) ** 2).sum() == pytest.approx(hole**2)


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.05])
def test_noise_is_measured_beside_edges_and_texture(spread):
    np.testing.assert_allclose(grain_of(noisy(scene(), spread), INSIDE), spread * OCTAVE, rtol=0.15)


def test_a_clean_picture_has_no_grain():
    assert grain_of(scene(), INSIDE).max() < 5e-4


@pytest.mark.parametrize("quality", [None, 90, 70])
def test_a_smooth_face_gets_the_pictures_grain(quality):
    """Camera noise, and what JPEG makes of it, in every octave; pixels outside the region say nothing."""
    picture = np.rint(np.clip(noisy(scene(), 0.03, grey=False), 0, 1) * 255).astype(np.uint8)
    if quality:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        picture = np.array(Image.open(file))
    old, made = picture.astype(np.float32) / 255, np.full((SIDE, SIDE, 3), 0.5, np.float32)
    grain = matching_grain(old, made, INSIDE)
    assert grain.dtype == np.float32 and grain.shape == (SIDE, SIDE) and abs(grain.mean()) < 1e-3
    got, wanted = grain_of(np.rint((made + grain[..., None]) * 255) / np.float32(255), INSIDE), grain_of(old, INSIDE)
    assert wanted[0] > 0.004
    np.testing.assert_allclose(got, wanted, rtol=0.2)


def test_a_face_that_has_it_gets_no_more():
    old, made = noisy(scene(), 0.02), noisy(scene(), 0.03, seed=1)
    assert not matching_grain(old, made, INSIDE).any()
    assert not matching_grain(scene(), noisy(scene(), 0.01), INSIDE).any()


def test_half_of_it_is_filled_up():
    old, made = noisy(scene(), 0.03), noisy(scene(), 0.02, seed=1)
    both = made + matching_grain(old, made, INSIDE)[..., None]
    np.testing.assert_allclose(grain_of(both, INSIDE), grain_of(old, INSIDE), rtol=0.15)


def test_grain_is_new_in_each_frame_and_the_same_when_drawn_again():
    old, made = noisy(scene(), 0.03), np.full((SIDE, SIDE, 3), 0.5, np.float32)
    one, again, other = (matching_grain(old, made, INSIDE, number) for number in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_a_small_face_gets_none():
    """In few blocks an eye or a wrinkle in every one of them would pass for grain."""
    small = np.zeros_like(INSIDE)
    small[:72, :72] = True
    assert grain_of(noisy(scene(), 0.05), small).all()  # it can be measured here, where there is noise alone
    assert not matching_grain(noisy(scene(), 0.05), scene(), small).any()


def test_a_face_too_small_to_tell_gets_none():
    few = np.zeros_like(INSIDE)
    few[:20, :20] = True
    assert not grain_of(noisy(scene(), 0.05), few).any()
    assert not matching_grain(noisy(scene(), 0.05), scene(), few).any()
    assert not matching_grain(*np.random.default_rng(0).random((2, 5, 3, 3), np.float32), np.ones((5, 3), bool)).any()
