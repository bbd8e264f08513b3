"""Poisson blending: the solved equation, its border, and known solutions."""

import numpy as np
import pytest

from data.blending.poisson import clone, membrane
from data.geometry.alignment import MEAN_FACE
from data.geometry.masks import face_mask


def face_region(side, shift=0):
    """Return the region of a face: (side, side) bool."""
    return face_mask(MEAN_FACE * side - 0.5 + shift, (side, side), feather=1) > 0


def max_residual(values, inside):
    """Return the largest difference of a point inside and the mean of its existing neighbors."""
    height, width = inside.shape
    differences = []
    for y, x in np.argwhere(inside):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        around = [values[at] for at in around if 0 <= at[0] < height and 0 <= at[1] < width]
        differences.append(values[y, x] - np.mean(around, axis=0))
    return np.abs(differences).max()


@pytest.mark.parametrize("shift", [0, (20, 0), (-25, 18)])  # in the middle; over one edge of the image; over a corner
def test_membrane_points_are_the_mean_of_their_neighbors(shift):
    inside = face_region(64, shift)
    values = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    surface = membrane(values, inside)
    assert surface.dtype == np.float32 and inside.sum() > 300
    np.testing.assert_array_equal(surface[~inside], values[~inside])
    assert max_residual(surface, inside) < 1e-4
    assert surface[inside].min() > 0 and surface[inside].max() < 1  # no extremes inside


@pytest.mark.parametrize("side", [17, 64, 250])
def test_membrane_reproduces_known_harmonic_functions(side):
    """Real and imaginary parts of z**2 and z**3 satisfy the five-point equation exactly."""
    y, x = (np.mgrid[:side, :side] - side / 2) / side
    truth = np.stack([x * x - y * y, 2 * x * y, x**3 - 3 * x * y * y], axis=-1).astype(np.float32)
    inside = face_region(side)
    np.testing.assert_allclose(membrane(np.where(inside[..., None], 9, truth), inside), truth, atol=1e-4)


def test_membrane_over_disconnected_and_thin_regions_with_holes():
    rng = np.random.default_rng(1)
    values = rng.random((40, 50, 2)).astype(np.float32)
    inside = np.zeros((40, 50), bool)
    inside[5:30, 5:25] = True
    inside[12:16, 10:14] = False  # a hole
    inside[3:38, 30] = inside[33, 5:45] = True  # lines
    inside[rng.integers(0, 40, 60), rng.integers(31, 50, 60)] = True  # single pixels
    surface = membrane(values, inside)
    np.testing.assert_array_equal(surface[~inside], values[~inside])
    assert max_residual(surface, inside) < 1e-4


def test_membrane_over_an_empty_and_a_full_region():
    values = np.random.default_rng(2).random((9, 9, 3)).astype(np.float32)
    np.testing.assert_array_equal(membrane(values, np.zeros((9, 9), bool)), values)
    np.testing.assert_array_equal(membrane(values, np.ones((9, 9), bool)), np.zeros_like(values))


def test_clone_keeps_the_gradients_of_the_face_and_the_border_of_the_image():
    """A manufactured solution: cloning the image with shifted colors gives the image."""
    y, x = np.mgrid[:80, :80] / 80
    image = np.stack([0.5 + 0.2 * np.sin(9 * x + 4 * y), 0.4 + 0.1 * np.cos(8 * y), 0.5 + 0.1 * x * y], axis=-1)
    image = image.astype(np.float32)
    inside = face_region(80)
    shifted = image + np.array([0.1, -0.05, 0.2], np.float32)
    np.testing.assert_allclose(clone(image, shifted, inside), image, atol=1e-3)
    # Any other face: its Laplacian inside and the image outside.
    face = np.clip(image + 0.05 * np.random.default_rng(3).standard_normal((80, 80, 3)), 0.1, 0.9).astype(np.float32)
    cloned = clone(image, face, inside)
    np.testing.assert_array_equal(cloned[~inside], image[~inside])
    assert max_residual(cloned - face, inside) < 1e-4 and np.abs(cloned - image)[inside].mean() > 0.02


def test_clone_leaves_no_seam():
    """A plain paste has a jump at the border, a clone does not."""
    image, inside = np.full((64, 64, 3), 0.6, np.float32), face_region(64)
    image[:, :, 0] += np.linspace(-0.2, 0.2, 64, dtype=np.float32)
    face = np.full_like(image, 0.3)

    def jump(result):
        crossing = inside[:, 1:] != inside[:, :-1]
        return np.abs(np.diff(result, axis=1))[crossing].max()

    assert jump(np.where(inside[..., None], face, image)) > 0.25
    assert jump(clone(image, face, inside)) < 0.02


def test_clone_is_clipped_and_rejects_wrong_shapes():
    image, face = np.ones((20, 20, 3), np.float32), np.zeros((20, 20, 3), np.float32)
    face[8:12, 8:12] = 0.5
    inside = np.zeros((20, 20), bool)
    inside[3:17, 3:17] = True
    assert clone(image, face, inside).max() == 1
    with pytest.raises(ValueError, match="clone"):
        clone(image, face[:10], inside)
    with pytest.raises(ValueError, match="clone"):
        clone(image, face, inside[:10])
