"""The mask against geometry, the colours against statistics, pasting bit by bit."""

import time

import numpy as np
import pytest

from data.align import MEAN_FACE, apply, crop_transform, invert, warp
from data.blend import face_hull, face_mask, lab_to_rgb, match_colours, paste, polygon_area, polygon_depth, rgb_to_lab


def turned(points, angle, scale=1.0, shift=(0, 0)):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return (points - 0.5) @ np.array([[c, s], [-s, c]]) + shift


@pytest.fixture
def landmarks():
    return turned(MEAN_FACE, 0.3, 150, (100, 110))


def inside(hull, x, y):
    """Point in convex polygon by the definition: on one side of every edge."""
    following = np.roll(hull, -1, axis=0)
    cross = [(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for a, b in zip(hull, following)]
    return (np.array(cross) >= 0).all(axis=0)


def test_the_hull_is_convex_and_holds_all_landmarks(landmarks):
    hull = face_hull(landmarks)
    x, y = landmarks.T
    assert inside(hull.mean(axis=0) + 1.000001 * (hull - hull.mean(axis=0)), x, y).all()
    edges = np.roll(hull, -1, axis=0) - hull
    following = np.roll(edges, -1, axis=0)
    assert (edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all()


def test_the_hull_reaches_mid_forehead():
    hull = face_hull(MEAN_FACE)
    brow, nose = MEAN_FACE[17:27, 1].min(), MEAN_FACE[33, 1]
    rise = brow - hull[:, 1].min()
    assert 0.4 < rise / (nose - brow) < 0.6  # the forehead is about as high as brow to nose base
    assert 0.70 < np.ptp(hull[:, 1]) < 0.80  # of the crop


def test_the_mask_is_zero_outside_the_hull_and_one_well_inside(landmarks):
    mask = face_mask(landmarks, (220, 200))
    assert mask.shape == (220, 200) and mask.dtype == np.float32 and mask.min() == 0 and mask.max() == 1
    y, x = np.mgrid[:220, :200]
    hull = face_hull(landmarks)
    assert (mask[~inside(hull, x, y)] == 0).all()
    shrunk = hull.mean(axis=0) + 0.6 * (hull - hull.mean(axis=0))
    assert (mask[inside(shrunk, x, y)] == 1).all()


def test_the_mask_ramps_over_the_feather():
    mask = face_mask(MEAN_FACE * 400, (400, 400), feather=40)
    hull = face_hull(MEAN_FACE * 400)
    depth = polygon_depth(hull, np.arange(400), np.arange(400))
    assert (mask[depth >= 40] == 1).all() and (mask[depth <= 0] == 0).all()
    np.testing.assert_allclose(mask[np.abs(depth - 20) < 0.2], 0.5, atol=0.01)
    assert np.abs(np.diff(mask, axis=0)).max() < 1.6 / 40  # no jump anywhere


def test_even_without_feather_the_border_is_antialiased():
    mask = face_mask(turned(MEAN_FACE, 0.2, 60, (32, 32)), (64, 64), feather=0)
    assert 60 < ((mask > 0) & (mask < 1)).sum() < 250
    # Its ramp of one pixel lies inside the hull, so the area falls short by half a pixel all around.
    hull = face_hull(turned(MEAN_FACE, 0.2, 60, (32, 32)))
    outline = np.linalg.norm(np.roll(hull, -1, axis=0) - hull, axis=1).sum()
    assert mask.sum() == pytest.approx(polygon_area(hull) - outline / 2, rel=0.01)


def test_depth_is_the_distance_to_the_outline():
    square = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])
    depth = polygon_depth(square, np.arange(40), np.arange(40))
    assert depth[20, 20] == 10 and depth[20, 12] == 2 and depth[10, 20] == 0 and depth[20, 5] == -5


def test_the_mask_follows_roll_and_scale():
    upright = face_mask(turned(MEAN_FACE, 0, 100, (64, 64)), (129, 129))
    quarter = face_mask(turned(MEAN_FACE, np.pi / 2, 100, (64, 64)), (129, 129))
    np.testing.assert_allclose(np.rot90(upright, -1), quarter, atol=1e-4)
    double = face_mask(turned(MEAN_FACE, 0, 200, (128, 128)), (257, 257))
    np.testing.assert_allclose(double[::2, ::2], upright, atol=1e-4)


def test_a_face_that_is_partly_or_wholly_outside(landmarks):
    whole = face_mask(landmarks, (300, 300))
    np.testing.assert_array_equal(face_mask(landmarks, (120, 90)), whole[:120, :90])
    np.testing.assert_allclose(face_mask(landmarks - 50, (250, 250)), whole[50:, 50:], atol=1e-5)
    assert face_mask(landmarks + 1000, (100, 100)).max() == 0 and face_mask(landmarks - 1000, (100, 100)).max() == 0


def test_degenerate_landmarks_give_an_empty_mask():
    assert face_mask(np.full((68, 2), 20.0), (40, 40)).max() == 0
    assert face_mask(np.full((68, 2), np.nan), (40, 40)).max() == 0
    with pytest.raises(ValueError, match=r"\(68, 2\)"):
        face_mask(np.zeros((5, 2)), (40, 40))


def test_a_small_face_in_a_large_picture_is_cheap(landmarks):
    start = time.thread_time()
    face_mask(landmarks, (3000, 4000))
    assert time.thread_time() - start < 0.25  # 12 million pixels with 30 edges would take seconds


def test_lab_of_known_colours():
    """Values of the CIE formulas for sRGB with white D65 (two degrees)."""
    known = {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20), (0, 255, 0): (87.73, -86.18, 83.18),
             (0, 0, 255): (32.30, 79.19, -107.86), (0, 0, 0): (0, 0, 0), (119, 119, 119): (50.03, 0, 0)}  # fmt: skip
    for rgb, lab in known.items():
        np.testing.assert_allclose(rgb_to_lab(np.array(rgb) / 255), lab, atol=0.03)


def test_lab_and_back():
    colours = np.random.default_rng(0).random((1000, 3))
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(colours)), colours, atol=1e-9)
    greys = np.linspace(0, 0.06, 50)[:, None].repeat(3, axis=1)  # both straight ends of the curves
    np.testing.assert_allclose(lab_to_rgb(rgb_to_lab(greys)), greys, atol=1e-9)


def weighted(lab, mask):
    weights = mask[..., None] / mask.sum()
    mean = (lab * weights).sum(axis=(0, 1))
    return mean, np.sqrt(((lab - mean) ** 2 * weights).sum(axis=(0, 1)))


def test_colour_transfer_reaches_the_targets_mean_and_spread():
    rng = np.random.default_rng(1)
    mask = face_mask(MEAN_FACE * 64 - 0.5, (64, 64))
    source = (0.5 + 0.05 * rng.standard_normal((64, 64, 3))).astype(np.float32)
    target = (np.array([0.6, 0.45, 0.35]) + 0.04 * rng.standard_normal((64, 64, 3))).astype(np.float32)
    target[mask == 0] = 0  # what lies outside the mask must not count
    result = match_colours(source, target, mask)
    assert result.dtype == np.float32 and result.shape == source.shape
    for got, wanted in zip(weighted(rgb_to_lab(result), mask), weighted(rgb_to_lab(target), mask)):
        np.testing.assert_allclose(got, wanted, atol=0.05)


def test_colour_transfer_does_not_blow_up_noise():
    rng = np.random.default_rng(2)
    mask = np.ones((32, 32), np.float32)
    flat, noise = np.full((32, 32, 3), 0.4, np.float32), rng.standard_normal((32, 32, 3)).astype(np.float32)
    result = match_colours(flat, np.clip(0.5 + 0.2 * noise, 0, 1), mask)
    assert np.ptp(result, axis=(0, 1)).max() < 1e-5  # a flat face stays flat
    nearly = flat + 0.004 * noise
    stretched = match_colours(nearly, np.clip(0.5 + 0.2 * noise, 0, 1), mask)
    assert weighted(rgb_to_lab(stretched), mask)[1][0] <= 2.01 * weighted(rgb_to_lab(nearly), mask)[1][0]
    assert stretched.min() >= 0 and stretched.max() <= 1


def test_colour_transfer_with_an_empty_mask_changes_nothing():
    source = np.random.default_rng(3).random((8, 8, 3)).astype(np.float32)
    np.testing.assert_array_equal(match_colours(source, 1 - source, np.zeros((8, 8))), source)


@pytest.fixture
def picture():
    """A smooth picture (300, 260, 3) uint8, as a photograph is between its edges."""
    y, x = np.mgrid[:300, :260] / 40
    waves = np.stack([np.sin(x + y), np.cos(1.3 * x - y), np.sin(0.7 * x * y / 4)], axis=-1)
    return np.rint(127 + 100 * waves).astype(np.uint8)


@pytest.mark.parametrize("scale", [60, 150, 400])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_where_nothing_is_changed_every_bit_stays(picture, scale, angle):
    landmarks = turned(MEAN_FACE, angle, scale, (120, 140))
    transform = crop_transform(landmarks, 64)
    face = np.random.default_rng(4).random((64, 64, 3)).astype(np.float32)
    before = picture.copy()
    result, changed = paste(picture, face, face_mask(MEAN_FACE * 64 - 0.5, (64, 64)), transform)
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(result[changed == 0], picture[changed == 0])
    assert result.dtype == np.uint8 and changed.dtype == np.float32 and changed.shape == picture.shape[:2]
    assert changed.min() == 0 and changed.max() == 1
    assert (changed[face_mask(landmarks, picture.shape[:2], feather=1) == 0] < 0.05).all()


@pytest.mark.parametrize("scale", [50, 100, 200])
def test_a_face_pasted_back_where_it_came_from_changes_little(picture, scale):
    landmarks = turned(MEAN_FACE, 0.3, scale, (130, 140))
    transform = crop_transform(landmarks, 64)
    mask = face_mask(apply(transform, landmarks), (64, 64))
    result, changed = paste(picture, warp(picture, transform, 64), mask, transform)
    difference = np.abs(result.astype(int) - picture)
    assert (changed > 0.99).sum() > 0.2 * scale**2
    assert difference.mean() < 0.2 and difference.max() <= 6


def test_the_face_lands_where_it_belongs(picture):
    """A crop that holds a linear ramp of picture positions must come back as those positions."""
    landmarks = turned(MEAN_FACE, 0.5, 130, (130, 150))
    transform = crop_transform(landmarks, 64)
    y, x = np.mgrid[:64, :64]
    places = apply(invert(transform), np.stack([x, y], axis=-1))
    face = np.dstack([places / 300, np.zeros((64, 64))]).astype(np.float32)
    result, changed = paste(picture, face, np.ones((64, 64), np.float32), transform)
    full = changed == 1
    py, px = np.nonzero(full)
    np.testing.assert_allclose(result[full][:, 0], px / 300 * 255, atol=0.51)
    np.testing.assert_allclose(result[full][:, 1], py / 300 * 255, atol=0.51)


def test_no_edge_of_the_crop_ever_shows(picture):
    """A mask of ones still fades out inside the crop's border."""
    transform = crop_transform(turned(MEAN_FACE, 0.2, 150, (130, 150)), 64)
    _, changed = paste(picture, np.zeros((64, 64, 3), np.float32), np.ones((64, 64), np.float32), transform)
    steps = max(np.abs(np.diff(changed, axis=0)).max(), np.abs(np.diff(changed, axis=1)).max())
    assert changed.max() == 1 and steps < 0.25
    y, x = np.nonzero(changed)
    crop = apply(transform, np.stack([x, y], axis=1))
    assert crop.min() > -0.5 and crop.max() < 63.5


def test_a_face_outside_or_at_the_edge_of_the_picture(picture):
    face, mask = np.ones((64, 64, 3), np.float32), np.ones((64, 64), np.float32)
    result, changed = paste(picture, face, mask, crop_transform(turned(MEAN_FACE, 0, 100, (2000, 50)), 64))
    assert changed.max() == 0 and (result == picture).all()
    result, changed = paste(picture, face, mask, crop_transform(turned(MEAN_FACE, 0, 100, (0, 0)), 64))
    assert changed[0, 0] == 1 and (result[0, 0] == 255).all()


def test_paste_says_what_it_expects(picture):
    with pytest.raises(ValueError, match="paste"):
        paste(picture.astype(np.float32), np.ones((64, 64, 3)), np.ones((64, 64)), np.eye(3)[:2])
    with pytest.raises(ValueError, match="paste"):
        paste(picture, np.ones((64, 64, 3)), np.ones((32, 32)), np.eye(3)[:2])
