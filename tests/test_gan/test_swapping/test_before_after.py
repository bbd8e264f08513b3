"""Test the preview of a swap: three panels, the middle one with landmarks and mask."""
import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE
from data.geometry.face import Face
from gan.swapping.before_after import LARGEST, side_by_side


def example(height=90, width=120):
    """Return a gray image, landmarks, a square mask, and a result that is lighter there."""
    image, mask = np.full((height, width, 3), 100, np.uint8), np.zeros((height, width), np.float32)
    mask[20:70, 20:70] = 1
    result = image.copy()
    result[20:70, 20:70] = 200
    return image, [Face(image, MEAN_FACE * 60 + 15)], mask, result


def panels(preview, width):
    gap = (preview.shape[1] - 3 * width) // 2
    return [preview[:, k * (width + gap):k * (width + gap) + width] for k in range(3)]


def test_input_and_result_are_shown_unchanged():
    image, faces, mask, result = example()
    preview = side_by_side(image, faces, mask, result)
    assert preview.dtype == np.uint8
    left, _, right = panels(preview, 120)
    np.testing.assert_array_equal(left[-90:], image)
    np.testing.assert_array_equal(right[-90:], result)


def test_mask_is_tinted_and_landmarks_are_drawn():
    image, faces, mask, result = example()
    _, middle, _ = panels(side_by_side(image, faces, mask, result), 120)
    middle = middle[-90:].astype(int)
    tinted = middle[..., 1] - middle[..., 0] > 40
    assert tinted[mask == 1].mean() > 0.5 and not tinted[mask == 0].any()
    red = (middle[..., 0] > 200) & (middle[..., 1] < 100)
    for x, y in np.rint(faces[0].landmarks).astype(int):
        assert red[y - 1:y + 2, x - 1:x + 2].any()


def test_bounding_box_is_drawn():
    image, faces, mask, result = example()
    _, middle, _ = panels(side_by_side(image, faces, 0 * mask, result), 120)
    yellow = (middle[-90:, :, :2] > 200).all(axis=-1)
    y, x = np.nonzero(yellow)
    assert np.abs(np.array([x.min(), y.min(), x.max(), y.max()]) - np.rint(faces[0].box)).max() <= 1


def test_nothing_is_drawn_without_faces():
    image, _, mask, _ = example()
    _, middle, _ = panels(side_by_side(image, [], 0 * mask, image), 120)
    np.testing.assert_array_equal(middle[-90:], image)


def test_titles_stay_above_their_panels():
    image = np.full((60, 40, 3), 100, np.uint8)
    preview = side_by_side(image, [Face(image, MEAN_FACE * 30)] * 12, np.zeros((60, 40), np.float32), image)
    strip, gap = preview[:-60], (preview.shape[1] - 120) // 2
    for left in (40, 80 + gap):
        assert (strip[:, left:left + gap] == strip[0, 0]).all()  # no title crosses a gap


def test_large_images_are_scaled_down():
    image = np.full((LARGEST // 2 * 2, LARGEST * 2, 3), 90, np.uint8)
    preview = side_by_side(image, [Face(image, MEAN_FACE * 900)], np.zeros(image.shape[:2], np.float32), image)
    assert 3 * LARGEST < preview.shape[1] < 3 * LARGEST + 40 and LARGEST // 2 < preview.shape[0] < LARGEST // 2 + 60


def test_images_of_different_shapes_are_rejected():
    image, faces, mask, result = example()
    with pytest.raises(ValueError, match="side_by_side"):
        side_by_side(image, faces, mask, result[:50])
