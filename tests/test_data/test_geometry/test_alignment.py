"""Alignment: similarity transforms, and resampling of functions with known values."""

import numpy as np
import pytest

from data.geometry.alignment import (ALIGNMENT_VERSION, INNER, MEAN_FACE, apply, crop_transform, invert,
    mirror_landmarks, scale_of, umeyama, warp)


def similarity(angle, scale, x, y):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


def squared_error(transform, source, target):
    return ((apply(transform, source) - target) ** 2).sum()


@pytest.mark.parametrize("angle", [0, 0.5, -2.8, np.pi])
def test_umeyama_recovers_a_similarity_exactly(angle):
    points = np.random.default_rng(1).normal(size=(51, 2)) * 40 + 500
    truth = similarity(angle, 0.37, 12.5, -300)
    np.testing.assert_allclose(umeyama(points, apply(truth, points)), truth, atol=1e-9)
    np.testing.assert_allclose(umeyama(points[:2], apply(truth, points[:2])), truth, atol=1e-9)


def test_umeyama_has_the_smallest_squared_error():
    rng = np.random.default_rng(2)
    source, target = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    best = umeyama(source, target)
    least = squared_error(best, source, target)
    (a, b), (x, y) = best[:, 0], best[:, 2]
    for da, db, dx, dy in rng.normal(size=(200, 4)) * 0.05:
        other = np.array([[a + da, -(b + db), x + dx], [b + db, a + da, y + dy]])
        assert squared_error(other, source, target) > least


def test_umeyama_against_linear_least_squares():
    rng = np.random.default_rng(3)
    source, target = rng.normal(size=(9, 2)) + 4, rng.normal(size=(9, 2))
    x, y = source.T
    one, zero = np.ones(9), np.zeros(9)
    system = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
    a, b, tx, ty = np.linalg.lstsq(system, target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(umeyama(source, target), [[a, -b, tx], [b, a, ty]], atol=1e-12)


def test_umeyama_never_returns_a_reflection():
    points = np.random.default_rng(4).normal(size=(30, 2))
    transform = umeyama(points, points * (-1, 1))
    assert np.linalg.det(transform[:, :2]) > 0
    np.testing.assert_allclose(transform[:, :2] @ transform[:, :2].T, np.eye(2) * scale_of(transform) ** 2, atol=1e-12)


def test_umeyama_rejects_invalid_points():
    with pytest.raises(ValueError, match="coincide"):
        umeyama(np.full((51, 2), 100.0), np.random.default_rng(0).random((51, 2)))
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        umeyama(np.zeros((3, 2)), np.zeros((4, 2)))


def test_mean_face_is_symmetric_and_inside_the_crop():
    np.testing.assert_allclose(mirror_landmarks(MEAN_FACE, 2), MEAN_FACE, atol=1e-12)
    assert MEAN_FACE.min() > 0.1 and MEAN_FACE.max() < 0.9
    assert ALIGNMENT_VERSION == 1
    # Trained weights depend on these numbers: if you change them, raise ALIGNMENT_VERSION.
    np.testing.assert_allclose(MEAN_FACE[INNER].sum(axis=0), [25.5, 25.177], atol=1e-9)


def test_mean_face_fits_rendered_people():
    synthetic = pytest.importorskip("data.synthetic")
    from dataclasses import replace

    neutral = ("yaw", "pitch", "roll", "mouth_open", "smile", "brow_raise", "brow_frown", "blink")
    pose = replace(synthetic.random_pose(np.random.default_rng(0)), **dict.fromkeys(neutral, 0))
    faces = np.array([synthetic.render(synthetic.Person(seed), pose, 32).landmarks for seed in range(40)], np.float64)
    mean = np.mean([apply(crop_transform(face, 1), face) + 0.5 for face in faces], axis=0)
    distance = np.linalg.norm(mean - MEAN_FACE, axis=1)[INNER]
    assert np.sqrt((distance**2).mean()) < 0.02 and distance.max() < 0.04


@pytest.mark.parametrize("size", [64, 128, 100])
def test_crop_transform_maps_landmarks_to_the_mean_face(size):
    truth = similarity(0.4, 3.1, 220, 140)
    landmarks = apply(truth, MEAN_FACE * 64 - 0.5)
    np.testing.assert_allclose(apply(crop_transform(landmarks, size), landmarks), MEAN_FACE * size - 0.5, atol=1e-9)


def test_crops_of_two_sizes_show_the_same_region():
    landmarks = np.random.default_rng(5).normal(scale=2, size=(68, 2)) + MEAN_FACE * 200 + 30
    small, large = crop_transform(landmarks, 64), crop_transform(landmarks, 128)
    points = np.random.default_rng(6).random((10, 2)) * 300
    np.testing.assert_allclose((apply(small, points) + 0.5) * 2, apply(large, points) + 0.5, atol=1e-9)


def test_jaw_does_not_affect_the_crop():
    landmarks = MEAN_FACE * 100
    moved = landmarks.copy()
    moved[:17] += 9
    np.testing.assert_array_equal(crop_transform(landmarks, 64), crop_transform(moved, 64))


def test_invert_is_the_inverse():
    transform, points = similarity(1.1, 0.3, -40, 7), np.random.default_rng(7).random((3, 5, 2))
    np.testing.assert_allclose(apply(invert(transform), apply(transform, points)), points, atol=1e-12)


def test_mirror_landmarks_renumbers_them():
    landmarks = MEAN_FACE * 64 - 0.5 + 3
    mirrored = mirror_landmarks(landmarks, 80)
    assert mirrored[36, 0] < mirrored[45, 0] and mirrored[0, 0] < mirrored[16, 0]  # the left eye is still 36
    np.testing.assert_allclose(mirror_landmarks(mirrored, 80), landmarks, atol=1e-12)


def positions(transform, size):
    """Return the image positions, x and y (size, size), of the pixels of a result."""
    y, x = np.mgrid[:size, :size]
    return np.moveaxis(apply(invert(transform), np.stack([x, y], axis=-1)), -1, 0)


def test_enlarging_reproduces_a_quadratic_exactly():
    y, x = np.mgrid[:40, :50].astype(np.float64)
    image = (0.002 * x**2 - 0.003 * x * y + 0.01 * y).astype(np.float32)
    transform = similarity(0.3, 2.7, -30, -35)
    px, py = positions(transform, 40)
    assert px.min() > 2 and py.min() > 2 and px.max() < 46 and py.max() < 36
    np.testing.assert_allclose(warp(image, transform, 40), 0.002 * px**2 - 0.003 * px * py + 0.01 * py, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.7, 0.4, 0.21, 0.05])
def test_shrinking_does_not_shift_a_ramp(scale):
    """The mean of a linear function over a pixel is its value at the center, so any shift shows."""
    y, x = np.mgrid[:600, :700].astype(np.float64)
    image = (x / 700 + y / 1200).astype(np.float32)
    transform = similarity(-0.2, scale, 10 - 350 * scale, 10 - 300 * scale)
    px, py = positions(transform, 20)
    inside = (px > 45) & (px < 655) & (py > 45) & (py < 555)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(warp(image, transform, 20)[inside], (px / 700 + py / 1200)[inside], atol=3e-5)


def test_identity_transform_changes_no_pixel():
    image = np.random.default_rng(8).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.rint(warp(image, similarity(0, 1, 0, 0), 30) * 255), image)


@pytest.mark.parametrize("scale", [0.9, 0.6, 0.35, 0.15])
def test_shrinking_keeps_resolvable_detail(scale):
    """Waves of eight result pixels lose little; averaging over one pixel costs 2.5 %."""
    y, x = np.mgrid[:600, :600]
    waves = np.sin(2 * np.pi * x * scale / 8).astype(np.float32)
    result = warp(waves, similarity(0, scale, 0, 0), 64)[8:56, 8:56]
    assert result.std() > 0.93 * np.sqrt(0.5)


@pytest.mark.parametrize("scale", [0.45, 0.3, 0.11])
def test_shrinking_turns_fine_texture_gray(scale):
    y, x = np.mgrid[:400, :400]
    checks = ((x + y) % 2).astype(np.float32)
    result = warp(checks, similarity(0.1, scale, 0, 0), 30)[8:, 8:]
    assert np.abs(result - 0.5).max() < 0.08


def test_border_pixels_are_repeated():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    result = warp(image, similarity(0, 1, 5, 5), 14)
    np.testing.assert_array_equal(result[:6, :6], 0)
    np.testing.assert_array_equal(result[8:, 9:], 11)
    assert np.isfinite(warp(image, similarity(0, 1, 500, 500), 4)).all()  # entirely outside the image


def test_warp_stays_within_the_range_of_the_image():
    image = np.zeros((20, 20), np.float32)
    image[5:15, 5:15] = 1
    result = warp(image, similarity(0.3, 5.3, 0, 0), 100)
    assert result.min() == 0 and result.max() == 1


def test_warp_shapes_and_value_scales():
    image = np.full((20, 30, 3), 51, np.uint8)
    result = warp(image, similarity(0, 1, 0, 0), (7, 9))
    assert result.shape == (7, 9, 3) and result.dtype == np.float32
    np.testing.assert_allclose(result, 0.2, atol=1e-6)
    assert warp(image[..., 0].astype(np.float64) * 10, similarity(0, 1, 0, 0), 5).max() == pytest.approx(510)
