"""Face hulls, signed distances and masks."""

import time

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE
from data.geometry.masks import contour_depth, face_hull, face_mask, face_region, polygon_area, polygon_depth


def turned(points, angle, scale=1.0, shift=(0, 0)):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return (points - 0.5) @ np.array([[c, s], [-s, c]]) + shift


@pytest.fixture
def landmarks():
    return turned(MEAN_FACE, 0.3, 150, (100, 110))


def inside(hull, x, y):
    """Test which points are in a convex polygon by the definition: on one side of every edge."""
    following = np.roll(hull, -1, axis=0)
    cross = [(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for a, b in zip(hull, following)]
    return (np.array(cross) >= 0).all(axis=0)


def test_face_hull_is_convex_and_contains_all_landmarks(landmarks):
    hull = face_hull(landmarks)
    x, y = landmarks.T
    assert inside(hull.mean(axis=0) + 1.000001 * (hull - hull.mean(axis=0)), x, y).all()
    edges = np.roll(hull, -1, axis=0) - hull
    following = np.roll(edges, -1, axis=0)
    assert (edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all()


def test_face_hull_extends_to_mid_forehead():
    hull = face_hull(MEAN_FACE)
    brow, nose = MEAN_FACE[17:27, 1].min(), MEAN_FACE[33, 1]
    raised = brow - hull[:, 1].min()
    assert 0.4 < raised / (nose - brow) < 0.6  # the forehead is about as high as brow to nose base
    assert 0.70 < np.ptp(hull[:, 1]) < 0.80  # fraction of the crop


def test_face_mask_is_zero_outside_the_hull_and_one_well_inside(landmarks):
    mask = face_mask(landmarks, (220, 200))
    assert mask.shape == (220, 200) and mask.dtype == np.float32 and mask.min() == 0 and mask.max() == 1
    y, x = np.mgrid[:220, :200]
    hull = face_hull(landmarks)
    assert (mask[~inside(hull, x, y)] == 0).all()
    shrunk = hull.mean(axis=0) + 0.6 * (hull - hull.mean(axis=0))
    assert (mask[inside(shrunk, x, y)] == 1).all()


def test_face_mask_ramps_over_the_feather():
    mask = face_mask(MEAN_FACE * 400, (400, 400), feather=40)
    hull = face_hull(MEAN_FACE * 400)
    depth = polygon_depth(hull, np.arange(400), np.arange(400))
    assert (mask[depth >= 40] == 1).all() and (mask[depth <= 0] == 0).all()
    np.testing.assert_allclose(mask[np.abs(depth - 20) < 0.2], 0.5, atol=0.01)
    assert np.abs(np.diff(mask, axis=0)).max() < 1.6 / 40  # no jump anywhere


def test_border_is_antialiased_even_without_feather():
    mask = face_mask(turned(MEAN_FACE, 0.2, 60, (32, 32)), (64, 64), feather=0)
    assert 60 < ((mask > 0) & (mask < 1)).sum() < 250
    # Its ramp of one pixel is inside the hull, so half a pixel of the area is missing all around.
    hull = face_hull(turned(MEAN_FACE, 0.2, 60, (32, 32)))
    outline = np.linalg.norm(np.roll(hull, -1, axis=0) - hull, axis=1).sum()
    assert mask.sum() == pytest.approx(polygon_area(hull) - outline / 2, rel=0.01)


def test_polygon_depth_is_the_distance_to_the_outline():
    square = np.array([[10.0, 10], [30, 10], [30, 30], [10, 30]])
    depth = polygon_depth(square, np.arange(40), np.arange(40))
    assert depth[20, 20] == 10 and depth[20, 12] == 2 and depth[10, 20] == 0 and depth[20, 5] == -5


def test_face_mask_is_equivariant_to_rotation_and_scale():
    upright = face_mask(turned(MEAN_FACE, 0, 100, (64, 64)), (129, 129))
    quarter = face_mask(turned(MEAN_FACE, np.pi / 2, 100, (64, 64)), (129, 129))
    np.testing.assert_allclose(np.rot90(upright, -1), quarter, atol=1e-4)
    double = face_mask(turned(MEAN_FACE, 0, 200, (128, 128)), (257, 257))
    np.testing.assert_allclose(double[::2, ::2], upright, atol=1e-4)


def test_face_mask_of_a_face_partly_or_entirely_outside_the_image(landmarks):
    whole = face_mask(landmarks, (300, 300))
    np.testing.assert_array_equal(face_mask(landmarks, (120, 90)), whole[:120, :90])
    np.testing.assert_allclose(face_mask(landmarks - 50, (250, 250)), whole[50:, 50:], atol=1e-5)
    assert face_mask(landmarks + 1000, (100, 100)).max() == 0 and face_mask(landmarks - 1000, (100, 100)).max() == 0


def test_degenerate_landmarks_give_an_empty_mask():
    assert face_mask(np.full((68, 2), 20.0), (40, 40)).max() == 0
    assert face_mask(np.full((68, 2), np.nan), (40, 40)).max() == 0
    with pytest.raises(ValueError, match=r"\(68, 2\)"):
        face_mask(np.zeros((5, 2)), (40, 40))


def test_face_mask_of_a_small_face_in_a_large_image_is_fast(landmarks):
    start = time.thread_time()
    face_mask(landmarks, (3000, 4000))
    assert time.thread_time() - start < 0.25  # 12 million pixels with 30 edges would take seconds


def disc(side, radius, x, y):
    """Return the mask (side, side) of a disc with a border one pixel wide."""
    rows, columns = np.mgrid[:side, :side]
    return np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1)


def test_contour_depth_is_the_distance_to_the_contour():
    depth = contour_depth(disc(64, 20, 30.3, 33.6))
    rows, columns = np.mgrid[:64, :64]
    truth = 20 - np.hypot(columns - 30.3, rows - 33.6)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, truth, atol=0.3)  # near the contour: half the distance of its sample points
    far = np.abs(truth) > 3
    np.testing.assert_allclose(depth[far], truth[far], atol=0.15)


def test_contour_depth_with_several_contours_or_none():
    parts = np.maximum(disc(64, 8, 15, 15), disc(64, 8, 48, 48))
    depth = contour_depth(parts)
    assert depth[15, 15] == pytest.approx(8, abs=0.2) and depth[48, 48] == pytest.approx(8, abs=0.2)
    assert depth[31, 32] < -10
    assert (contour_depth(np.zeros((5, 7))) == -12).all() and (contour_depth(np.ones((5, 7))) == 12).all()


@pytest.fixture
def crop_landmarks():
    return MEAN_FACE * 64 - 0.5


def test_region_contains_the_hull_and_both_brows(crop_landmarks):
    region = face_region(crop_landmarks, 64)
    hull = face_hull(crop_landmarks)
    assert region.size == pytest.approx(np.sqrt(polygon_area(hull)))
    hull_depth = polygon_depth(hull, np.arange(64), np.arange(64))
    assert (region.depth >= hull_depth - 1e-5)[hull_depth > 0].all()
    wide = face_region(turned(MEAN_FACE, 0, 800, (400, 400)), 800)
    x, y = np.rint(turned(MEAN_FACE, 0, 800, (400, 400))[17:27]).astype(int).T
    opacity = wide.alpha(wide.depth, 0, 0.1, 1)
    assert opacity[y, x].min() > 0.65  # old brow tails mostly hidden; with the hull alone 95 % remain


def test_region_is_hardly_widened_on_the_far_side_of_a_turned_head(crop_landmarks):
    """The brow ends at the outline of the head there, and background is beyond it."""
    turned_away = crop_landmarks.copy()
    far = turned_away[:, 0] > 31.5
    turned_away[far, 0] = 31.5 + 0.4 * (turned_away[far, 0] - 31.5)
    region = face_region(turned_away, 64)
    added = region.depth > np.maximum(polygon_depth(face_hull(turned_away), np.arange(64), np.arange(64)), 0)
    left, right = (added[:, :32] & (region.depth[:, :32] > 0)).sum(), (added[:, 32:] & (region.depth[:, 32:] > 0)).sum()
    assert right < 0.5 * left


def test_generated_mask_only_extends_the_region_at_its_outline(crop_landmarks):
    hull = face_region(crop_landmarks, 64).depth
    np.testing.assert_array_equal(face_region(crop_landmarks, 64, np.zeros((64, 64))).depth, hull)
    more = face_region(crop_landmarks, 64, disc(64, 10, 32, 56)).depth
    assert hull.dtype == more.dtype == np.float32 and (more >= hull).all() and more[58, 32] > 3 > 0 > hull[58, 32]


def generated_mask(landmarks, holes=()):
    """Return a mask like those of training, with occluders. holes: (mask (S, S) 0..1, ...)."""
    mask = face_mask(landmarks, (64, 64))
    for hole in holes:
        mask = mask * (1 - hole)
    return mask


def bar(x0, x1, y0, y1):
    """Return a mask (64, 64) that is 1 on a rectangle of pixels."""
    mask = np.zeros((64, 64))
    mask[y0:y1, x0:x1] = 1
    return mask


def test_generated_mask_without_occluder_keeps_the_region_of_the_hull(crop_landmarks):
    """Masks of training, and those of a narrower face, end inside the hull but are not holes."""
    hull = face_region(crop_landmarks, 64).depth
    narrow = 31.5 + (crop_landmarks - 31.5) * [0.9, 1]
    for mask in (generated_mask(crop_landmarks), generated_mask(narrow)):
        region = face_region(crop_landmarks, 64, mask)
        np.testing.assert_array_equal(region.depth, np.maximum(hull, contour_depth(mask)))


@pytest.mark.parametrize("hole", [disc(64, 5, 36, 30), disc(64, 3, 24, 36), bar(26, 31, 22, 46)])
def test_hole_in_the_generated_mask_is_left_out_with_a_soft_edge(crop_landmarks, hole):
    whole = face_region(crop_landmarks, 64)
    region = face_region(crop_landmarks, 64, generated_mask(crop_landmarks, [hole]))
    opacity, old_opacity = (each.alpha(each.depth, 0, 0.1, 1) for each in (region, whole))
    from_hole = -contour_depth(hole)
    middle = from_hole <= from_hole.min() + 0.1
    assert opacity[middle].max() < 0.2 and old_opacity[middle].min() == 1
    far = from_hole > 3.5
    np.testing.assert_array_equal(region.depth[far & (whole.depth < 4)], whole.depth[far & (whole.depth < 4)])
    np.testing.assert_array_equal(opacity[far], old_opacity[far])
    inside = whole.depth > 6
    assert np.abs(opacity[inside & (np.abs(from_hole) < 0.6)] - 0.5).max() < 0.3  # half at the edge
    assert max(np.abs(np.diff(opacity * inside, axis=k))[inside.take(range(63), k) & inside.take(range(1, 64), k)].max()
               for k in (0, 1)) < 0.6


@pytest.mark.parametrize("hole", [bar(31, 32, 20, 46), disc(64, 1.2, 36, 30),
                                  disc(64, 1, 24, 36) + disc(64, 1, 40, 40)])
def test_hole_of_a_few_pixels_is_ignored(crop_landmarks, hole):
    mask = generated_mask(crop_landmarks, [hole])
    assert (mask[face_mask(crop_landmarks, (64, 64)) == 1] < 0.5).any()
    regions = face_region(crop_landmarks, 64, mask), face_region(crop_landmarks, 64)
    opacity, old_opacity = (each.alpha(each.depth, 0, 0.1, 1) for each in regions)
    np.testing.assert_array_equal(opacity, old_opacity)


@pytest.mark.parametrize("hand", [bar(0, 30, 34, 44), bar(36, 64, 28, 38), bar(26, 38, 40, 64), bar(26, 36, 0, 30)])
def test_occluder_that_enters_from_outside_is_left_out_up_to_the_border(crop_landmarks, hand):
    """Every mask is low in the soft border; the occluder continues there only next to its hole."""
    region = face_region(crop_landmarks, 64, generated_mask(crop_landmarks, [hand]))
    whole = face_region(crop_landmarks, 64)
    from_hand = -contour_depth(hand)
    opacity, old_opacity = (each.alpha(each.depth, 0, 0.1, 1) for each in (region, whole))
    assert (opacity[from_hand < -1.9] < 0.45).all()
    away = from_hand > 6
    np.testing.assert_array_equal(opacity[away], old_opacity[away])
    assert away[whole.depth > 0].mean() > 0.3


def test_mask_that_covers_too_little_of_the_face_is_not_trusted(crop_landmarks):
    hull = face_region(crop_landmarks, 64).depth
    partly_occluded = generated_mask(crop_landmarks, [bar(0, 64, 30, 64)])
    assert face_region(crop_landmarks, 64, partly_occluded).depth[40, 31] < 0
    nothing = generated_mask(crop_landmarks, [bar(0, 64, 20, 64)])
    assert (face_region(crop_landmarks, 64, nothing).depth >= hull).all()


def test_holes_of_a_mask_without_confidence_are_ignored(crop_landmarks):
    """An untrained network generates such masks: just above 0.5, and below it in some pixels."""
    mask = 0.2 + 0.4 * generated_mask(crop_landmarks, [disc(64, 5, 36, 30)])
    assert (face_region(crop_landmarks, 64, mask).depth >= face_region(crop_landmarks, 64).depth).all()


def test_region_ends_at_the_border_of_the_crop(crop_landmarks):
    depth = face_region(crop_landmarks, 64, np.ones((64, 64))).depth
    assert (depth[[0, -1]] < 0).all() and (depth[:, [0, -1]] < 0).all() and depth[1:-1, 1:-1].min() == 0.5


@pytest.mark.parametrize("erode, feather", [(0, 0.1), (0.05, 0.1), (0.1, 0.3), (-0.05, 0)])
def test_erode_and_feather_are_in_proportion_to_the_face(erode, feather):
    def opacity(side):
        region = face_region(turned(MEAN_FACE, 0.2, side, (side, side)), 2 * side + 1)
        return region.alpha(region.depth, erode, feather, 0.01)

    np.testing.assert_allclose(opacity(200)[::2, ::2], opacity(100), atol=0.02 if feather else 1)
    assert opacity(200).sum() == pytest.approx(4 * opacity(100).sum(), rel=0.01)


def test_erode_moves_the_outline_and_feather_widens_the_border(crop_landmarks):
    region = face_region(crop_landmarks, 64)
    line = np.linspace(-20, 20, 4001, dtype=np.float32)  # depths, crop pixels
    opacity = region.alpha(line, 0.1, 0.2, 1)
    begin, end = line[opacity > 0][0], line[opacity < 1][-1]
    assert begin == pytest.approx(0.1 * region.size, abs=0.1)
    assert end - begin == pytest.approx(0.2 * region.size, abs=0.3)
    assert opacity[np.abs(line - 0.2 * region.size) < 0.005] == pytest.approx(0.5, abs=0.01)
    sharp = region.alpha(line, 0, 0, 2.0)
    assert line[sharp < 1][-1] == pytest.approx(2, abs=0.1)  # never narrower than an image pixel
