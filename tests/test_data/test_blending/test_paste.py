"""Pasting: unchanged pixels, position of the face, and each blending option."""

import numpy as np
import pytest

from data.blending.grain import grain_of
from data.blending.paste import Blending, paste
from data.geometry.alignment import MEAN_FACE, apply, crop_transform, invert, scale_of, warp
from data.geometry.masks import Region, face_hull, face_region, polygon_area, polygon_depth

# A region without a border: all pixels of a crop of 64 pixels except the outermost ones.
_DEPTH = np.pad(np.full((58, 58), 30, np.float32), 3, constant_values=-30)
WHOLE = Region(_DEPTH, 38.0, _DEPTH)


def turned(points, angle, scale=1.0, shift=(0, 0)):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return (points - 0.5) @ np.array([[c, s], [-s, c]]) + shift


@pytest.fixture
def image():
    """Return a smooth image (300, 260, 3) uint8, like a photograph between its edges."""
    y, x = np.mgrid[:300, :260] / 40
    waves = np.stack([np.sin(x + y), np.cos(1.3 * x - y), np.sin(0.7 * x * y / 4)], axis=-1)
    return np.rint(127 + 100 * waves).astype(np.uint8)


@pytest.mark.parametrize("scale", [60, 150, 400])
@pytest.mark.parametrize("angle", [0.0, 0.7])
@pytest.mark.parametrize(
    "blending", [Blending(), Blending(seamless=True, sharpen=2, grain=2), Blending(erode=-0.1, feather=0)]
)
def test_paste_keeps_pixels_with_opacity_0_bit_for_bit(image, scale, angle, blending):
    landmarks = turned(MEAN_FACE, angle, scale, (120, 140))
    transform = crop_transform(landmarks, 64)
    rng = np.random.default_rng(4)
    image = np.clip(image + 5 * rng.standard_normal((300, 260, 1)), 0, 255).astype(np.uint8)  # with grain to match
    face = 0.5 + 0.1 * rng.random((8, 8, 3), np.float32).repeat(8, axis=0).repeat(8, axis=1)
    before = image.copy()
    result, opacity = paste(image, face, face_region(MEAN_FACE * 64 - 0.5, 64), transform, blending)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(result[opacity == 0], image[opacity == 0])
    assert result.dtype == np.uint8 and opacity.dtype == np.float32 and opacity.shape == image.shape[:2]
    assert opacity.min() == 0 and opacity.max() == 1
    hull = face_hull(landmarks)
    depth = polygon_depth(hull, np.arange(260), np.arange(300)) / np.sqrt(polygon_area(hull))
    assert (opacity[depth < -0.25] == 0).all() and (opacity[depth > 0.25] == 1).all()


@pytest.mark.parametrize("scale", [50, 100, 200])
def test_pasting_a_crop_back_changes_little(image, scale):
    landmarks = turned(MEAN_FACE, 0.3, scale, (130, 140))
    transform = crop_transform(landmarks, 64)
    region = face_region(apply(transform, landmarks), 64)
    result, opacity = paste(image, warp(image, transform, 64), region, transform)
    difference = np.abs(result.astype(int) - image)
    assert (opacity > 0.99).sum() > 0.2 * scale**2
    assert difference.mean() < 0.2 and difference.max() <= 6


def test_paste_puts_the_face_at_the_right_position(image):
    """A crop whose colors are image positions must give those positions."""
    landmarks = turned(MEAN_FACE, 0.5, 130, (130, 150))
    transform = crop_transform(landmarks, 64)
    y, x = np.mgrid[:64, :64]
    positions = apply(invert(transform), np.stack([x, y], axis=-1))
    face = np.dstack([positions / 300, np.zeros((64, 64))]).astype(np.float32)
    result, opacity = paste(image, face, WHOLE, transform, Blending(grain=0, feather=0.1))
    full = opacity == 1
    py, px = np.nonzero(full)
    np.testing.assert_allclose(result[full][:, 0], px / 300 * 255, atol=0.51)
    np.testing.assert_allclose(result[full][:, 1], py / 300 * 255, atol=0.51)
    assert full.sum() > 130**2 / 2


def test_edge_of_the_crop_is_never_visible(image):
    """If the generated mask fills the crop, the border still fades inside the crop."""
    transform = crop_transform(turned(MEAN_FACE, 0.2, 150, (130, 150)), 64)
    region = face_region(MEAN_FACE * 64 - 0.5, 64, np.ones((64, 64)))
    _, opacity = paste(image, np.zeros((64, 64, 3), np.float32), region, transform)
    steps = max(np.abs(np.diff(opacity, axis=0)).max(), np.abs(np.diff(opacity, axis=1)).max())
    assert opacity.max() == 1 and steps < 0.25
    y, x = np.nonzero(opacity)
    crop = apply(transform, np.stack([x, y], axis=1))
    assert crop.min() > -0.5 and crop.max() < 63.5


def test_paste_outside_or_at_the_edge_of_the_image(image):
    face = np.ones((64, 64, 3), np.float32)
    result, opacity = paste(image, face, WHOLE, crop_transform(turned(MEAN_FACE, 0, 100, (2000, 50)), 64))
    assert opacity.max() == 0 and (result == image).all()
    result, opacity = paste(image, face, WHOLE, crop_transform(turned(MEAN_FACE, 0, 100, (0, 0)), 64))
    assert opacity[0, 0] == 1 and (result[0, 0] == 255).all()


def test_paste_rejects_wrong_shapes_and_types(image):
    with pytest.raises(ValueError, match="paste"):
        paste(image.astype(np.float32), np.ones((64, 64, 3)), WHOLE, np.eye(3)[:2])
    with pytest.raises(ValueError, match="paste"):
        paste(image, np.ones((32, 32, 3)), WHOLE, np.eye(3)[:2])


@pytest.fixture
def placement(image):
    """Return (transform, region) of a face of 150 pixels in the image."""
    landmarks = turned(MEAN_FACE, 0.2, 240, (130, 150))
    transform = crop_transform(landmarks, 64)
    return transform, face_region(apply(transform, landmarks), 64)


FLAT = np.full((64, 64, 3), 0.5, np.float32)


@pytest.mark.parametrize("option", ["erode", "feather"])
def test_erode_and_feather_reduce_the_pasted_area(image, placement, option):
    transform, region = placement
    areas = [paste(image, FLAT, region, transform, Blending(**{option: value}))[1].sum() for value in (0.0, 0.1, 0.2)]
    assert areas[0] > 1.1 * areas[1] > 1.1 * areas[2]


def test_border_has_the_requested_width_at_any_scale(image):
    """Along a row through the middle the opacity rises over `feather` sizes of the face."""
    widths = []
    for side in (100, 200):
        landmarks = turned(MEAN_FACE, 0, side, (130, 150))
        transform = crop_transform(landmarks, 64)
        region = face_region(apply(transform, landmarks), 64)
        opacity = paste(image, FLAT, region, transform, Blending(feather=0.2))[1]
        left = opacity[round(landmarks[30, 1]), : round(landmarks[30, 0])]
        widths.append(((left > 0) & (left < 1)).sum() / (region.size / scale_of(transform)))
    assert widths[0] == pytest.approx(widths[1], abs=0.03) and widths[1] == pytest.approx(0.2, abs=0.03)


def test_seamless_face_takes_the_surrounding_colors(placement):
    """On a uniform image, pasting shows the color of the face, cloning shows only its details."""
    ground = np.full((300, 260, 3), (150, 120, 90), np.uint8)
    transform, region = placement
    face = FLAT.copy()
    face[30:34, 30:34] -= 0.2
    plain, seamless = (paste(ground, face, region, transform, Blending(seamless=choice)) for choice in (False, True))
    y, x = np.mgrid[:300, :260]
    around = np.abs(apply(transform, np.stack([x, y], axis=-1)) - 31.5).max(axis=-1) > 5  # crop pixels
    assert np.abs(plain[0].astype(int) - ground)[around].max() > 20
    assert np.abs(seamless[0].astype(int) - ground)[around].max() <= 1 and seamless[1].max() == 1
    np.testing.assert_allclose(seamless[0][150, 130], np.array([150, 120, 90]) - 0.2 * 255, atol=3)


def test_sharpening_amplifies_detail_and_keeps_flat_areas(image, placement):
    transform, region = placement
    detailed = FLAT + 0.1 * np.sin(np.arange(64) * 1.5).astype(np.float32)[:, None]
    plain, sharp, sharper = (paste(image, detailed, region, transform, Blending(sharpen=amount, grain=0))
                             for amount in (0, 1, 2))
    inside = plain[1] == 1
    assert plain[0][inside].std() * 1.5 < sharp[0][inside].std() * 1.2 < sharper[0][inside].std()
    flat = [paste(image, FLAT, region, transform, Blending(sharpen=amount, grain=0))[0] for amount in (0, 2)]
    np.testing.assert_array_equal(*flat)


def test_pasted_face_has_the_grain_of_the_image_up_to_the_border(image, placement):
    """Measure grain inside the face and in its border, where two grains are mixed."""
    noise = 5 * np.random.default_rng(8).standard_normal((300, 260, 1))
    noisy = np.rint(np.clip(0.4 * image + 75 + noise, 0, 255)).astype(np.uint8)
    transform, region = placement
    face = FLAT + 0.1 * np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    grains = {}
    for amount in (0.0, 1.0):
        result, opacity = paste(noisy, face, region, transform, Blending(grain=amount, feather=0.3))
        result = result.astype(np.float32) / 255
        grains[amount] = [grain_of(result, where) for where in (opacity > 0.95, (opacity > 0.25) & (opacity < 0.75))]
    wanted = grain_of(noisy.astype(np.float32) / 255, np.ones((300, 260), bool))
    inside, border = grains[1.0]
    np.testing.assert_allclose(inside, wanted, rtol=0.2)
    np.testing.assert_allclose(border, wanted, rtol=0.15)
    assert (grains[0.0][0] < 0.2 * wanted).all() and grains[0.0][1][0] < 0.75 * wanted[0]


def test_grain_of_pasted_faces_differs_between_frames(image, placement):
    noisy = np.clip(image + 6 * np.random.default_rng(9).standard_normal(image.shape), 0, 255).astype(np.uint8)
    transform, region = placement
    one, again, other = (paste(noisy, FLAT, region, transform, number=number)[0] for number in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("option, value", [
    ("color", "rgb"), ("sharpen", -1), ("sharpen", np.nan), ("erode", 0.31), ("erode", -1), ("feather", -0.1),
    ("feather", 0.6), ("grain", 3),
])  # fmt: skip
def test_blending_rejects_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f"{option} should be .*, got {value!r}"):
        Blending(**{option: value})
