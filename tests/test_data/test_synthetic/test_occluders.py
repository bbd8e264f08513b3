"""Occluders: ranges, positions, frequencies and colors."""

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE
from data.geometry.masks import face_mask
from data.synthetic import occluders
from data.synthetic.occluders import random_occluders, skin_colors

SIZE = 64
KINDS = ["hand", "glasses", "hair", "thing"]
SKIN = np.array([0.8, 0.6, 0.5])


def turned(angle, scale=1.0, shift=(0.0, 0.0)):
    """Return landmarks of the mean face in a crop, rotated about its center."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return (MEAN_FACE - 0.5) @ np.array([[c, s], [-s, c]]) * SIZE + SIZE / 2 - 0.5 + shift


@pytest.fixture
def only(monkeypatch):
    """Return only(kind), which restricts occluders to one kind."""
    return lambda kind: monkeypatch.setattr(occluders, "_PROBABILITIES", {each: float(each == kind) for each in KINDS})


def make(seed, landmarks, size=SIZE):
    return random_occluders(np.random.default_rng(seed), landmarks, size, np.tile(SKIN, (len(landmarks), 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 64])
def test_occluders_have_valid_ranges_and_hide_part_of_most_faces(only, kind, size):
    only(kind)
    landmarks = np.stack([turned(angle) * size / SIZE for angle in np.linspace(-0.3, 0.3, 40)])
    result = make(0, landmarks, size)
    assert result.colors.shape == (40, size, size, 3)
    assert result.alpha.shape == result.shade.shape == (40, size, size, 1)
    for array in result:
        assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    masks = np.stack([face_mask(each, (size, size)) for each in landmarks])
    hidden = (result.alpha[..., 0] * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    assert (hidden > 0.02).mean() > 0.6  # some miss the face, as in photos
    assert hidden.max() < 0.85 and 0.03 < hidden.mean() < 0.4  # a fully hidden face would be useless for training


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_antialiased(only, kind):
    """A shape rendered at 4 times the size and averaged down is the same shape with soft edges."""
    only(kind)
    landmarks = np.stack([turned(0.1)] * 12)
    coarse = make(3, landmarks).alpha
    fine = make(3, (landmarks + 0.5) * 4 - 0.5, 4 * SIZE).alpha
    mean = fine.reshape(12, SIZE, 4, SIZE, 4, 1).mean(axis=(2, 4))
    if kind in ("hand", "thing"):  # rims and strands have a minimum width in pixels
        assert np.abs(coarse - mean).max() < 0.45 and np.abs(coarse - mean).mean() < 0.005
    partly = (coarse > 0.1) & (coarse < 0.9)
    assert partly.sum() > 12 * 20


def test_occluders_depend_only_on_the_random_generator():
    landmarks = np.stack([turned(0)] * 6)
    first, again, other = make(1, landmarks), make(1, landmarks), make(2, landmarks)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.array_equal(first.alpha, other.alpha)


def test_kinds_have_their_probabilities(monkeypatch):
    kinds = []
    for name in ("_hands", "_glasses", "_hair", "_things"):
        def counted(rng, frame, skin, name=name):
            kinds.extend([name] * len(skin))
            return np.zeros((len(skin), 8, 8, 3)), np.zeros((len(skin), 8, 8)), np.ones((len(skin), 8, 8))
        monkeypatch.setattr(occluders, name, counted)
    make(0, np.stack([turned(0)] * 2000), 8)
    shares = [kinds.count(name) / 2000 for name in ("_hands", "_glasses", "_hair", "_things")]
    np.testing.assert_allclose(shares, [0.4, 0.2, 0.25, 0.15], atol=0.04)


def centroid(alpha):
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.array([(alpha * x).sum(), (alpha * y).sum()]) / alpha.sum()


@pytest.mark.parametrize("angle, scale, shift", [(0, 1, (0, 0)), (0.4, 0.8, (4, -3)), (-0.5, 0.7, (-5, 5))])
def test_glasses_are_on_the_eyes(only, angle, scale, shift):
    only("glasses")
    landmarks = turned(angle, scale, shift)
    eyes = landmarks[36:48].mean(axis=0)
    alphas = make(0, np.stack([landmarks] * 60)).alpha[..., 0]
    middles = np.array([centroid(alpha) for alpha in alphas])
    assert np.linalg.norm(middles - eyes, axis=1).max() < 5
    x, y = np.rint(landmarks[36:42].mean(axis=0)).astype(int)
    dark = alphas[alphas[:, y, x] > 0.7]
    assert 8 < len(dark) < 40  # sunglasses
    across = landmarks[42:48].mean(axis=0) - landmarks[36:42].mean(axis=0)
    y, x = np.nonzero(dark.mean(axis=0) > 0.5)
    long, _ = np.linalg.eigh(np.cov(np.stack([x, y])))[1].T[::-1]
    assert abs(long @ across) / np.linalg.norm(across) > 0.99  # their long axis is along the line of the eyes


def test_hair_hangs_from_above(only):
    only("hair")
    alphas = make(0, np.stack([turned(0)] * 200)).alpha[..., 0]
    above, below = alphas[:, :16].mean(), alphas[:, 48:].mean()
    assert above > 2 * below > 0


def test_about_half_of_the_hands_have_the_skin_color_of_the_face(only):
    only("hand")
    result = make(0, np.stack([turned(0)] * 200))
    inside = result.alpha[..., 0] > 0.99
    tints = np.array([color[where].mean(axis=0) for color, where in zip(result.colors, inside) if where.any()])
    own = np.abs(tints / tints.sum(axis=1, keepdims=True) - SKIN / SKIN.sum()).max(axis=1) < 0.003
    assert 0.35 < own.mean() < 0.65


def test_shadow_is_next_to_a_hand_and_not_far_from_it(only):
    only("hand")
    result = make(0, np.stack([turned(0)] * 30))
    for alpha, shade in zip(result.alpha[..., 0], result.shade[..., 0]):
        adjacent = np.zeros_like(alpha, bool)
        adjacent[1:] = (alpha[:-1] > 0.99) & (alpha[1:] < 0.01)
        y, x = np.nonzero(alpha > 0.01)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        far = np.hypot(rows[..., None] - y, columns[..., None] - x).min(axis=2) > 12
        # the hand continues outside the crop
        far &= np.minimum(np.minimum(rows, columns), SIZE - 1 - np.maximum(rows, columns)) > 12
        assert not adjacent.any() or shade[adjacent].mean() < 0.96
        assert not far.any() or shade[far].min() > 0.99


def test_skin_color_is_that_of_the_cheeks():
    """Eyes, brows, mouth and the background have other colors."""
    landmarks = turned(0.2)
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    image[face_mask(landmarks, (SIZE, SIZE)) > 0] = SKIN
    y, x = np.mgrid[:SIZE, :SIZE]
    for features in (slice(17, 27), slice(36, 48), slice(48, 68)):
        for point in landmarks[features]:
            image[np.hypot(x - point[0], y - point[1]) < 2] = (1, 0, 0)
    images = np.stack([image, image * 0.5])
    np.testing.assert_allclose(skin_colors(images, np.stack([landmarks] * 2)), [SKIN, SKIN * 0.5], atol=1e-6)


def test_faces_partly_or_entirely_outside_the_crop():
    landmarks = np.stack([turned(0) + shift for shift in (-50, 50, 300)])
    skin = skin_colors(np.full((3, SIZE, SIZE, 3), 0.5, np.float32), landmarks)
    np.testing.assert_array_equal(skin, np.full((3, 3), 0.5))
    for seed in range(10):
        assert all(np.isfinite(array).all() for array in make(seed, landmarks))
