"""The visible mark: it can be read on any picture of any size, and leaves the rest of the picture alone."""
import numpy as np
import pytest

from data.media.watermark import SMALLEST, marked, marked_alpha


def luminance(grey):
    """Relative luminance of sRGB values 0..255 (WCAG 2.2)."""
    share = np.asarray(grey, np.float64) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def grounds(height, width):
    """Pictures that a mark could drown in."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    stripes = np.repeat(np.where(np.arange(width) // 2 % 2, 255, 0).astype(np.uint8)[None, :, None], height, axis=0)
    return [np.zeros_like(noise), np.full_like(noise, 255), noise, np.broadcast_to(stripes, noise.shape).copy()]


SIZES = [(32, 32), (64, 64), (48, 200), (300, 40), (256, 256), (480, 640), (1080, 1920)]


@pytest.mark.parametrize("height, width", SIZES)
def test_the_mark_is_read_on_any_ground(height, width):
    """Letters against their ground: a contrast of 4.5 at least, which WCAG 2.2 (1.4.3) asks of text; and large enough."""
    made = [marked(picture).astype(float).mean(axis=2) for picture in grounds(height, width)]
    light = np.min(made, axis=0) > 140  # where all show the same letters
    rows, columns = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
    assert np.ptp(rows) + 1 >= 0.6 * SMALLEST and np.ptp(columns) + 1 >= 0.6 * SMALLEST
    assert height - rows[-1] < 0.2 * min(height, width) + 4 and width - columns[-1] < 0.1 * width + 4  # in the corner
    box = np.s_[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    for picture in made:
        letters, ground = np.median(picture[light]), np.percentile(picture[box], 25)  # letters cover less than three quarters
        assert (luminance(letters) + 0.05) / (luminance(ground) + 0.05) > 4.5
    assert min(height, width) < 100 or np.ptp(rows) < 0.1 * height  # small


@pytest.mark.parametrize("height, width", [*SIZES, (5, 3), (1, 1)])
def test_the_rest_of_the_picture_stays(height, width):
    picture = grounds(height, width)[2]
    before = picture.copy()
    changed = (marked(picture) != picture).any(axis=2)
    assert np.array_equal(picture, before) and changed.any()
    assert min(height, width) < 64 or changed.mean() < 0.2
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (rows[-1], columns[-1]) == (height - 1, width - 1)


def test_the_mark_is_seen_on_a_clear_picture():
    alpha = marked_alpha(np.zeros((96, 96), np.uint8))
    changed = (marked(grounds(96, 96)[2]) != grounds(96, 96)[2]).any(axis=2)
    assert (alpha[changed] == 255).all() and 0 < (alpha == 255).mean() < 0.2 and alpha[0, 0] == 0
