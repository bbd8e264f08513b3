"""The visible watermark: it is legible on images of any size, and the rest is unchanged."""
import numpy as np
import pytest

from data.media.watermark import MIN_LETTER_SIZE, add_watermark, add_watermark_to_alpha


def luminance(gray):
    """Relative luminance of sRGB values 0..255 (WCAG 2.2)."""
    share = np.asarray(gray, np.float64) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def backgrounds(height, width):
    """Images on which a watermark could be hard to see."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    stripes = np.repeat(np.where(np.arange(width) // 2 % 2, 255, 0).astype(np.uint8)[None, :, None], height, axis=0)
    return [np.zeros_like(noise), np.full_like(noise, 255), noise, np.broadcast_to(stripes, noise.shape).copy()]


SIZES = [(32, 32), (64, 64), (48, 200), (300, 40), (256, 256), (480, 640), (1080, 1920)]


@pytest.mark.parametrize("height, width", SIZES)
def test_the_watermark_is_legible_on_any_image(height, width):
    """The contrast is at least 4.5, as WCAG 2.2 (1.4.3) requires for text; the size suffices."""
    watermarked = [add_watermark(image).astype(float).mean(axis=2) for image in backgrounds(height, width)]
    light = np.min(watermarked, axis=0) > 140  # where all show the same letters
    rows, columns = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
    assert np.ptp(rows) + 1 >= 0.6 * MIN_LETTER_SIZE and np.ptp(columns) + 1 >= 0.6 * MIN_LETTER_SIZE
    assert height - rows[-1] < 0.2 * min(height, width) + 4 and width - columns[-1] < 0.1 * width + 4  # in the corner
    box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    for image in watermarked:
        letters = np.median(image[light])
        ground = np.percentile(image[box], 25)  # letters cover less than three quarters of the box
        assert (luminance(letters) + 0.05) / (luminance(ground) + 0.05) > 4.5
    assert min(height, width) < 100 or np.ptp(rows) < 0.1 * height  # small


@pytest.mark.parametrize("height, width", [*SIZES, (5, 3), (1, 1)])
def test_the_rest_of_the_image_is_unchanged(height, width):
    image = backgrounds(height, width)[2]
    before = image.copy()
    changed = (add_watermark(image) != image).any(axis=2)
    assert np.array_equal(image, before) and changed.any()
    assert min(height, width) < 64 or changed.mean() < 0.2
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (rows[-1], columns[-1]) == (height - 1, width - 1)


def test_the_watermark_is_visible_on_a_transparent_image():
    alpha = add_watermark_to_alpha(np.zeros((96, 96), np.uint8))
    changed = (add_watermark(backgrounds(96, 96)[2]) != backgrounds(96, 96)[2]).any(axis=2)
    assert (alpha[changed] == 255).all() and 0 < (alpha == 255).mean() < 0.2 and alpha[0, 0] == 0
