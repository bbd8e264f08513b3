"""Seamless cloning against the equation it solves: inside the mean of the neighbours, at the border the picture."""

import numpy as np
import pytest

from data.blending.poisson import clone, membrane
from data.geometry.alignment import MEAN_FACE
from data.geometry.masks import face_mask


def face_region(side, shift=0):
    """A face's outline: (side, side) bool."""
    return face_mask(MEAN_FACE * side - 0.5 + shift, (side, side), feather=1) > 0


def imbalance(values, inside):
    """What each point inside differs from the mean of its neighbours, as far as they lie in the picture: the definition."""
    height, width = inside.shape
    differences = []
    for y, x in np.argwhere(inside):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        around = [values[at] for at in around if 0 <= at[0] < height and 0 <= at[1] < width]
        differences.append(values[y, x] - np.mean(around, axis=0))
    return np.abs(differences).max()


@pytest.mark.parametrize("shift", [0, (20, 0), (-25, 18)])  # in the middle; over one edge of the picture; over a corner
def test_inside_each_point_is_the_mean_of_its_neighbours(shift):
    inside = face_region(64, shift)
    values = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    surface = membrane(values, inside)
    assert surface.dtype == np.float32 and inside.sum() > 300
    np.testing.assert_array_equal(surface[~inside], values[~inside])
    assert imbalance(surface, inside) < 1e-4
    assert surface[inside].min() > 0 and surface[inside].max() < 1  # no extremes inside


@pytest.mark.parametrize("side", [17, 64, 250])
def test_a_known_harmonic_surface_is_found(side):
    """Real and imaginary parts of z**2 and z**3 satisfy the five-point equation exactly."""
    y, x = (np.mgrid[:side, :side] - side / 2) / side
    truth = np.stack([x * x - y * y, 2 * x * y, x**3 - 3 * x * y * y], axis=-1).astype(np.float32)
    inside = face_region(side)
    np.testing.assert_allclose(membrane(np.where(inside[..., None], 9, truth), inside), truth, atol=1e-4)


def test_regions_with_holes_in_parts_and_as_thin_as_a_pixel():
    rng = np.random.default_rng(1)
    values = rng.random((40, 50, 2)).astype(np.float32)
    inside = np.zeros((40, 50), bool)
    inside[5:30, 5:25] = True
    inside[12:16, 10:14] = False  # a hole
    inside[3:38, 30] = inside[33, 5:45] = True  # lines
    inside[rng.integers(0, 40, 60), rng.integers(31, 50, 60)] = True  # crumbs
    surface = membrane(values, inside)
    np.testing.assert_array_equal(surface[~inside], values[~inside])
    assert imbalance(surface, inside) < 1e-4


def test_nothing_and_everything():
    values = np.random.default_rng(2).random((9, 9, 3)).astype(np.float32)
    np.testing.assert_array_equal(membrane(values, np.zeros((9, 9), bool)), values)
    np.testing.assert_array_equal(membrane(values, np.ones((9, 9), bool)), np.zeros_like(values))


def test_a_clone_has_the_faces_gradients_and_the_pictures_border():
    """A manufactured solution: a face that is the picture, but for a shift of colour, comes back as the picture."""
    y, x = np.mgrid[:80, :80] / 80
    picture = np.stack([0.5 + 0.2 * np.sin(9 * x + 4 * y), 0.4 + 0.1 * np.cos(8 * y), 0.5 + 0.1 * x * y], axis=-1)
    picture = picture.astype(np.float32)
    inside = face_region(80)
    shifted = picture + np.array([0.1, -0.05, 0.2], np.float32)
    np.testing.assert_allclose(clone(picture, shifted, inside), picture, atol=1e-3)
    # Any other face: its Laplacian inside, the picture outside.
    face = np.clip(picture + 0.05 * np.random.default_rng(3).standard_normal((80, 80, 3)), 0.1, 0.9).astype(np.float32)
    cloned = clone(picture, face, inside)
    np.testing.assert_array_equal(cloned[~inside], picture[~inside])
    assert imbalance(cloned - face, inside) < 1e-4 and np.abs(cloned - picture)[inside].mean() > 0.02


def test_no_seam_is_left():
    """At the border a paste jumps by the difference of colour; a clone does not jump."""
    picture, inside = np.full((64, 64, 3), 0.6, np.float32), face_region(64)
    picture[:, :, 0] += np.linspace(-0.2, 0.2, 64, dtype=np.float32)
    face = np.full_like(picture, 0.3)

    def jump(result):
        crossing = inside[:, 1:] != inside[:, :-1]
        return np.abs(np.diff(result, axis=1))[crossing].max()

    assert jump(np.where(inside[..., None], face, picture)) > 0.25
    assert jump(clone(picture, face, inside)) < 0.02


def test_a_clone_stays_within_the_range_and_says_what_it_expects():
    picture, face = np.ones((20, 20, 3), np.float32), np.zeros((20, 20, 3), np.float32)
    face[8:12, 8:12] = 0.5
    inside = np.zeros((20, 20), bool)
    inside[3:17, 3:17] = True
    assert clone(picture, face, inside).max() == 1
    with pytest.raises(ValueError, match="clone"):
        clone(picture, face[:10], inside)
    with pytest.raises(ValueError, match="clone"):
        clone(picture, face, inside[:10])
