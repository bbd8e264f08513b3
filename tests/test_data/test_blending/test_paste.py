"""Pasting bit by bit: what stays, where the face lands, and each choice of how it is put back."""

import numpy as np
import pytest

from data.blending.grain import grain_of
from data.blending.paste import Blending, paste
from data.geometry.alignment import MEAN_FACE, apply, crop_transform, invert, scale_of, warp
from data.geometry.masks import Region, face_hull, face_region, polygon_area, polygon_depth

# A region without a border: all of a crop of 64 pixels, but for its outermost ones.
WHOLE = Region(np.pad(np.full((58, 58), 30, np.float32), 3, constant_values=-30), 38.0)


def turned(points, angle, scale=1.0, shift=(0, 0)):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return (points - 0.5) @ np.array([[c, s], [-s, c]]) + shift


@pytest.fixture
def picture():
    """A smooth picture (300, 260, 3) uint8, as a photograph is between its edges."""
    y, x = np.mgrid[:300, :260] / 40
    waves = np.stack([np.sin(x + y), np.cos(1.3 * x - y), np.sin(0.7 * x * y / 4)], axis=-1)
    return np.rint(127 + 100 * waves).astype(np.uint8)


@pytest.mark.parametrize("scale", [60, 150, 400])
@pytest.mark.parametrize("angle", [0.0, 0.7])
@pytest.mark.parametrize(
    "blending", [Blending(), Blending(seamless=True, sharpen=2, grain=2), Blending(erode=-0.1, feather=0)]
)
def test_where_nothing_is_changed_every_bit_stays(picture, scale, angle, blending):
    landmarks = turned(MEAN_FACE, angle, scale, (120, 140))
    transform = crop_transform(landmarks, 64)
    rng = np.random.default_rng(4)
    picture = np.clip(picture + 5 * rng.standard_normal((300, 260, 1)), 0, 255).astype(np.uint8)  # with grain to match
    face = 0.5 + 0.1 * rng.random((8, 8, 3), np.float32).repeat(8, axis=0).repeat(8, axis=1)
    before = picture.copy()
    result, changed = paste(picture, face, face_region(MEAN_FACE * 64 - 0.5, 64), transform, blending)
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(result[changed == 0], picture[changed == 0])
    assert result.dtype == np.uint8 and changed.dtype == np.float32 and changed.shape == picture.shape[:2]
    assert changed.min() == 0 and changed.max() == 1
    hull = face_hull(landmarks)
    depth = polygon_depth(hull, np.arange(260), np.arange(300)) / np.sqrt(polygon_area(hull))
    assert (changed[depth < -0.25] == 0).all() and (changed[depth > 0.25] == 1).all()


@pytest.mark.parametrize("scale", [50, 100, 200])
def test_a_face_pasted_back_where_it_came_from_changes_little(picture, scale):
    landmarks = turned(MEAN_FACE, 0.3, scale, (130, 140))
    transform = crop_transform(landmarks, 64)
    region = face_region(apply(transform, landmarks), 64)
    result, changed = paste(picture, warp(picture, transform, 64), region, transform)
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
    result, changed = paste(picture, face, WHOLE, transform, Blending(grain=0, feather=0.1))
    full = changed == 1
    py, px = np.nonzero(full)
    np.testing.assert_allclose(result[full][:, 0], px / 300 * 255, atol=0.51)
    np.testing.assert_allclose(result[full][:, 1], py / 300 * 255, atol=0.51)
    assert full.sum() > 130**2 / 2


def test_no_edge_of_the_crop_ever_shows(picture):
    """Where all of the crop is drawn, the border still fades, inside the crop."""
    transform = crop_transform(turned(MEAN_FACE, 0.2, 150, (130, 150)), 64)
    region = face_region(MEAN_FACE * 64 - 0.5, 64, np.ones((64, 64)))
    _, changed = paste(picture, np.zeros((64, 64, 3), np.float32), region, transform)
    steps = max(np.abs(np.diff(changed, axis=0)).max(), np.abs(np.diff(changed, axis=1)).max())
    assert changed.max() == 1 and steps < 0.25
    y, x = np.nonzero(changed)
    crop = apply(transform, np.stack([x, y], axis=1))
    assert crop.min() > -0.5 and crop.max() < 63.5


def test_a_face_outside_or_at_the_edge_of_the_picture(picture):
    face = np.ones((64, 64, 3), np.float32)
    result, changed = paste(picture, face, WHOLE, crop_transform(turned(MEAN_FACE, 0, 100, (2000, 50)), 64))
    assert changed.max() == 0 and (result == picture).all()
    result, changed = paste(picture, face, WHOLE, crop_transform(turned(MEAN_FACE, 0, 100, (0, 0)), 64))
    assert changed[0, 0] == 1 and (result[0, 0] == 255).all()


def test_paste_says_what_it_expects(picture):
    with pytest.raises(ValueError, match="paste"):
        paste(picture.astype(np.float32), np.ones((64, 64, 3)), WHOLE, np.eye(3)[:2])
    with pytest.raises(ValueError, match="paste"):
        paste(picture, np.ones((32, 32, 3)), WHOLE, np.eye(3)[:2])


@pytest.fixture
def place(picture):
    """A face of 150 pixels in the picture: (transform, region)."""
    landmarks = turned(MEAN_FACE, 0.2, 240, (130, 150))
    transform = crop_transform(landmarks, 64)
    return transform, face_region(apply(transform, landmarks), 64)


FLAT = np.full((64, 64, 3), 0.5, np.float32)


@pytest.mark.parametrize("choice", ["erode", "feather"])
def test_erode_and_feather_take_from_the_area(picture, place, choice):
    transform, region = place
    areas = [paste(picture, FLAT, region, transform, Blending(**{choice: value}))[1].sum() for value in (0.0, 0.1, 0.2)]
    assert areas[0] > 1.1 * areas[1] > 1.1 * areas[2]


def test_the_border_is_as_wide_as_was_asked_whatever_the_scale(picture):
    """From 0 to 1 along a row through the middle: the feather in sizes of the face, for a face of half the size as well."""
    widths = []
    for side in (100, 200):
        landmarks = turned(MEAN_FACE, 0, side, (130, 150))
        transform = crop_transform(landmarks, 64)
        region = face_region(apply(transform, landmarks), 64)
        changed = paste(picture, FLAT, region, transform, Blending(feather=0.2))[1]
        left = changed[round(landmarks[30, 1]), : round(landmarks[30, 0])]
        widths.append(((left > 0) & (left < 1)).sum() / (region.size / scale_of(transform)))
    assert widths[0] == pytest.approx(widths[1], abs=0.03) and widths[1] == pytest.approx(0.2, abs=0.03)


def test_a_seamless_face_takes_the_colours_around_it(place):
    """A face of other colours on an even ground: pasted it is seen, cloned only what is drawn on it."""
    ground = np.full((300, 260, 3), (150, 120, 90), np.uint8)
    transform, region = place
    face = FLAT.copy()
    face[30:34, 30:34] -= 0.2
    plain, seamless = (paste(ground, face, region, transform, Blending(seamless=choice)) for choice in (False, True))
    y, x = np.mgrid[:300, :260]
    around = np.abs(apply(transform, np.stack([x, y], axis=-1)) - 31.5).max(axis=-1) > 5  # of the spot, in crop pixels
    assert np.abs(plain[0].astype(int) - ground)[around].max() > 20
    assert np.abs(seamless[0].astype(int) - ground)[around].max() <= 1 and seamless[1].max() == 1
    np.testing.assert_allclose(seamless[0][150, 130], np.array([150, 120, 90]) - 0.2 * 255, atol=3)


def test_sharpening_raises_detail_and_keeps_what_is_flat(picture, place):
    transform, region = place
    detailed = FLAT + 0.1 * np.sin(np.arange(64) * 1.5).astype(np.float32)[:, None]
    plain, sharp, sharper = (paste(picture, detailed, region, transform, Blending(sharpen=amount, grain=0))
                             for amount in (0, 1, 2))
    inside = plain[1] == 1
    assert plain[0][inside].std() * 1.5 < sharp[0][inside].std() * 1.2 < sharper[0][inside].std()
    flat = [paste(picture, FLAT, region, transform, Blending(sharpen=amount, grain=0))[0] for amount in (0, 2)]
    np.testing.assert_array_equal(*flat)


def test_grain_is_the_pictures_up_to_the_border(picture, place):
    """Within the face and within its border alike, where two grains are mixed."""
    noise = 5 * np.random.default_rng(8).standard_normal((300, 260, 1))
    noisy = np.rint(np.clip(0.4 * picture + 75 + noise, 0, 255)).astype(np.uint8)
    transform, region = place
    face = FLAT + 0.1 * np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    grains = {}
    for amount in (0.0, 1.0):
        result, changed = paste(noisy, face, region, transform, Blending(grain=amount, feather=0.3))
        result = result.astype(np.float32) / 255
        grains[amount] = [grain_of(result, where) for where in (changed > 0.95, (changed > 0.25) & (changed < 0.75))]
    wanted = grain_of(noisy.astype(np.float32) / 255, np.ones((300, 260), bool))
    inside, border = grains[1.0]
    np.testing.assert_allclose(inside, wanted, rtol=0.2)
    np.testing.assert_allclose(border, wanted, rtol=0.15)
    assert (grains[0.0][0] < 0.2 * wanted).all() and grains[0.0][1][0] < 0.75 * wanted[0]


def test_grain_differs_from_frame_to_frame(picture, place):
    noisy = np.clip(picture + 6 * np.random.default_rng(9).standard_normal(picture.shape), 0, 255).astype(np.uint8)
    transform, region = place
    one, again, other = (paste(noisy, FLAT, region, transform, number=number)[0] for number in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("choice, value", [
    ("colour", "rgb"), ("sharpen", -1), ("sharpen", np.nan), ("erode", 0.31), ("erode", -1), ("feather", -0.1),
    ("feather", 0.6), ("grain", 3),
])  # fmt: skip
def test_choices_that_make_no_sense(choice, value):
    with pytest.raises(ValueError, match=f"{choice} should be .*, got {value!r}"):
        Blending(**{choice: value})
