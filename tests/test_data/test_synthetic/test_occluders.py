"""Occluders: what they cover, where they are placed, and that a picture with one is what the arrays say."""

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE
from data.geometry.masks import face_mask
from data.synthetic import occluders
from data.synthetic.occluders import draw_occluders, skin_colours

SIZE = 64
KINDS = ["hand", "glasses", "hair", "thing"]
SKIN = np.array([0.8, 0.6, 0.5])


def turned(angle, scale=1.0, shift=(0.0, 0.0)):
    """Landmarks of the mean face in a crop, turned about its middle."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return (MEAN_FACE - 0.5) @ np.array([[c, s], [-s, c]]) * SIZE + SIZE / 2 - 0.5 + shift


@pytest.fixture
def only(monkeypatch):
    """only(kind): from now on, occluders are of this kind."""
    return lambda kind: monkeypatch.setattr(occluders, "_SHARES", {each: float(each == kind) for each in KINDS})


def draw(seed, landmarks, size=SIZE):
    return draw_occluders(np.random.default_rng(seed), landmarks, size, np.tile(SKIN, (len(landmarks), 1)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 64])
def test_arrays_in_range_that_hide_a_part_of_most_faces(only, kind, size):
    only(kind)
    landmarks = np.stack([turned(angle) * size / SIZE for angle in np.linspace(-0.3, 0.3, 40)])
    drawn = draw(0, landmarks, size)
    assert drawn.colours.shape == (40, size, size, 3) and drawn.alpha.shape == drawn.shade.shape == (40, size, size, 1)
    for array in drawn:
        assert array.dtype == np.float32 and array.min() >= 0 and array.max() <= 1
    masks = np.stack([face_mask(each, (size, size)) for each in landmarks])
    hidden = (drawn.alpha[..., 0] * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    assert (hidden > 0.02).mean() > 0.6  # some lie beside the face, as they do in pictures
    assert hidden.max() < 0.85 and 0.03 < hidden.mean() < 0.4  # a face that is hidden altogether teaches nothing


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_smooth(only, kind):
    """A shape drawn at 4 times the size and averaged down is the same shape: its edges have shares of pixels, not stairs."""
    only(kind)
    landmarks = np.stack([turned(0.1)] * 12)
    coarse = draw(3, landmarks).alpha
    fine = draw(3, (landmarks + 0.5) * 4 - 0.5, 4 * SIZE).alpha
    mean = fine.reshape(12, SIZE, 4, SIZE, 4, 1).mean(axis=(2, 4))
    if kind in ("hand", "thing"):  # rims and strands have a least width in pixels
        assert np.abs(coarse - mean).max() < 0.45 and np.abs(coarse - mean).mean() < 0.005
    partly = (coarse > 0.1) & (coarse < 0.9)
    assert partly.sum() > 12 * 20


def test_the_generator_alone_decides():
    landmarks = np.stack([turned(0)] * 6)
    first, again, other = draw(1, landmarks), draw(1, landmarks), draw(2, landmarks)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not np.array_equal(first.alpha, other.alpha)


def test_kinds_come_in_their_shares(monkeypatch):
    drawn = []
    for name in ("_hands", "_glasses", "_hair", "_things"):
        def counted(rng, frame, skin, name=name):
            drawn.extend([name] * len(skin))
            return np.zeros((len(skin), 8, 8, 3)), np.zeros((len(skin), 8, 8)), np.ones((len(skin), 8, 8))
        monkeypatch.setattr(occluders, name, counted)
    draw(0, np.stack([turned(0)] * 2000), 8)
    shares = [drawn.count(name) / 2000 for name in ("_hands", "_glasses", "_hair", "_things")]
    np.testing.assert_allclose(shares, [0.4, 0.2, 0.25, 0.15], atol=0.04)


def centroid(alpha):
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.array([(alpha * x).sum(), (alpha * y).sum()]) / alpha.sum()


@pytest.mark.parametrize("angle, scale, shift", [(0, 1, (0, 0)), (0.4, 0.8, (4, -3)), (-0.5, 0.7, (-5, 5))])
def test_glasses_sit_on_the_eyes(only, angle, scale, shift):
    only("glasses")
    landmarks = turned(angle, scale, shift)
    eyes = landmarks[36:48].mean(axis=0)
    alphas = draw(0, np.stack([landmarks] * 60)).alpha[..., 0]
    middles = np.array([centroid(alpha) for alpha in alphas])
    assert np.linalg.norm(middles - eyes, axis=1).max() < 5
    x, y = np.rint(landmarks[36:42].mean(axis=0)).astype(int)
    dark = alphas[alphas[:, y, x] > 0.7]
    assert 8 < len(dark) < 40  # sunglasses
    across = landmarks[42:48].mean(axis=0) - landmarks[36:42].mean(axis=0)
    y, x = np.nonzero(dark.mean(axis=0) > 0.5)
    long, _ = np.linalg.eigh(np.cov(np.stack([x, y])))[1].T[::-1]
    assert abs(long @ across) / np.linalg.norm(across) > 0.99  # their length lies along the line of the eyes


def test_a_fringe_comes_from_above_and_hangs_down(only):
    only("hair")
    alphas = draw(0, np.stack([turned(0)] * 200)).alpha[..., 0]
    above, below = alphas[:, :16].mean(), alphas[:, 48:].mean()
    assert above > 2 * below > 0


def test_hands_have_the_skin_of_the_face_in_about_half(only):
    only("hand")
    drawn = draw(0, np.stack([turned(0)] * 200))
    inside = drawn.alpha[..., 0] > 0.99
    tints = np.array([colour[where].mean(axis=0) for colour, where in zip(drawn.colours, inside) if where.any()])
    own = np.abs(tints / tints.sum(axis=1, keepdims=True) - SKIN / SKIN.sum()).max(axis=1) < 0.003
    assert 0.35 < own.mean() < 0.65


def test_light_falls_off_beside_a_hand_but_not_far_from_it(only):
    only("hand")
    drawn = draw(0, np.stack([turned(0)] * 30))
    for alpha, shade in zip(drawn.alpha[..., 0], drawn.shade[..., 0]):
        beside = np.zeros_like(alpha, bool)
        beside[1:] = (alpha[:-1] > 0.99) & (alpha[1:] < 0.01)
        y, x = np.nonzero(alpha > 0.01)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        far = np.hypot(rows[..., None] - y, columns[..., None] - x).min(axis=2) > 12
        far &= np.minimum(np.minimum(rows, columns), SIZE - 1 - np.maximum(rows, columns)) > 12  # the hand goes on outside
        assert not beside.any() or shade[beside].mean() < 0.96
        assert not far.any() or shade[far].min() > 0.99


def test_skin_is_the_colour_of_the_cheeks():
    """Eyes, brows, mouth and all around the face are of other colours."""
    landmarks = turned(0.2)
    picture = np.zeros((SIZE, SIZE, 3), np.float32)
    picture[face_mask(landmarks, (SIZE, SIZE)) > 0] = SKIN
    y, x = np.mgrid[:SIZE, :SIZE]
    for features in (slice(17, 27), slice(36, 48), slice(48, 68)):
        for point in landmarks[features]:
            picture[np.hypot(x - point[0], y - point[1]) < 2] = (1, 0, 0)
    pictures = np.stack([picture, picture * 0.5])
    np.testing.assert_allclose(skin_colours(pictures, np.stack([landmarks] * 2)), [SKIN, SKIN * 0.5], atol=1e-6)


def test_a_face_partly_outside_the_crop_is_no_obstacle():
    landmarks = np.stack([turned(0) + shift for shift in (-50, 50, 300)])
    skin = skin_colours(np.full((3, SIZE, SIZE, 3), 0.5, np.float32), landmarks)
    np.testing.assert_array_equal(skin, np.full((3, 3), 0.5))
    for seed in range(10):
        assert all(np.isfinite(array).all() for array in draw(seed, landmarks))
