"""Augmented batches: determinism, geometry of the random warp, color jitter, occluders, and batches
on a device."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import nn
from data.datasets import augmentation
from data.datasets.augmentation import make_batch
from data.datasets.face_set import from_renders
from data.geometry.alignment import MEAN_FACE
from data.synthetic.occluders import Occluders
from nn import backend
from tests.helpers.cuda_on_host import HostModule
from tests.helpers.fake_cupy import FakeArray, FakeCupy


def render(seed):
    """Return a smooth image in which every position has its own color: red encodes x, green encodes
    y."""
    y, x = np.mgrid[:110, :110] / 110
    blue = np.random.default_rng(seed).uniform(0.2, 0.8)
    image = np.dstack([0.1 + 0.6 * x, 0.1 + 0.6 * y, np.full_like(x, blue)]).astype(np.float32)
    return SimpleNamespace(image=image, landmarks=MEAN_FACE * 64 + 22.5)


@pytest.fixture(scope="module")
def faces():
    return from_renders("a", [render(seed) for seed in range(24)], 64)


@pytest.fixture
def no_color_jitter(monkeypatch):
    """Switch color jitter off, so that colors encode positions."""
    monkeypatch.setattr(augmentation, "_color_matrices",
                        lambda rng, count, color_jitter: np.tile(np.eye(4, 3, dtype=np.float32), (count, 1, 1)))


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b))


def test_shapes(faces):
    batch = make_batch(faces, 7, seed=0, side=0, k=0)
    assert batch.warped.shape == batch.target.shape == (7, 64, 64, 3) and batch.mask.shape == (7, 64, 64, 1)
    for array in batch:
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.min() >= 0 and array.max() <= 1
    assert batch.mask.max() == 1 and batch.mask.min() == 0


@pytest.fixture
def stand_in(monkeypatch):
    """The fake CuPy; returns a list of the operations that copied to the host."""
    module, copied = FakeCupy(), []
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)
    for name in ("get", "item", "__bool__", "__int__", "__float__"):
        monkeypatch.setattr(FakeArray, name, lambda self, name=name, take=getattr(FakeArray, name):
                            copied.append(name) or take(self))
    return copied


@pytest.mark.parametrize("kernels", ["plain", "fast"])
def test_a_batch_on_a_device_is_the_same_and_not_copied_back(faces, stand_in, kernels, monkeypatch):
    """Up to the order of sums, with many occluded faces, whose skin color is computed on the
    host."""
    monkeypatch.setattr(HostModule, "launched", [])
    options = {"seed": 3, "side": 1, "k": 5, "occlusion_prob": 0.5, "color_jitter": 2.0}
    skins, there, draw = [], [], augmentation.random_occluders
    monkeypatch.setattr(augmentation, "random_occluders",
                        lambda rng, landmarks, size, skin: skins.append(skin) or draw(rng, landmarks, size, skin))
    with nn.use_kernels(kernels):
        batches = [(make_batch(faces, 40, device="cuda", **options), there.append(faces._on_device[0]))[0]
                   for _ in range(2)]
    assert stand_in == [] and HostModule.launched == ["sample_bilinear", "sample_bilinear"] * (kernels == "fast")
    assert there[0] is there[1]  # padded crops are brought there once
    expected = make_batch(faces, 40, **options)
    for skin in skins:
        np.testing.assert_allclose(skin, skins[-1], atol=1e-5)
    for array, again, right in zip(*batches, expected, strict=True):
        assert type(array) is FakeArray and array.dtype == np.float32 and array.flags.c_contiguous
        np.testing.assert_allclose(array.get(), right, atol=1e-5)
        np.testing.assert_array_equal(array.get(), again.get())


def test_a_batch_depends_on_its_key_alone(faces):
    first = make_batch(faces, 5, seed=3, side=1, k=17)
    make_batch(faces, 9, seed=8, side=0, k=2)
    np.random.default_rng(0).random(100)
    assert equal(first, make_batch(faces, 5, seed=3, side=1, k=17))
    for other in ({"seed": 4}, {"side": 0}, {"k": 18}):
        changed = make_batch(faces, 5, **({"seed": 3, "side": 1, "k": 17} | other))
        assert not np.array_equal(first.target, changed.target)


def test_batches_made_in_threads_are_the_same(faces):
    alone = [make_batch(faces, 8, 0, 0, k) for k in range(12)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        together = list(pool.map(lambda k: make_batch(faces, 8, 0, 0, k), range(11, -1, -1)))[::-1]
    assert all(equal(a, b) for a, b in zip(alone, together))


def test_batches_use_only_the_training_set(faces):
    seen = []
    original = faces.sample
    faces.sample = lambda indices, x, y: seen.extend(indices) or original(indices, x, y)
    try:
        for k in range(20):
            make_batch(faces, 16, 0, 0, k)
        assert set(seen) == set(faces.train)
        seen.clear()
        make_batch(faces, 6, 0, 0, 0, indices=faces.held_out)
        assert set(seen) == set(faces.held_out)
    finally:
        del faces.sample


def test_no_face_repeats_before_all_were_used(faces):
    seen = []
    original = faces.sample
    faces.sample = lambda indices, x, y: seen.extend(indices) or original(indices, x, y)
    try:
        make_batch(faces, len(faces.train) + 3, 0, 0, 0)
    finally:
        del faces.sample
    assert sorted(seen[: len(faces.train)]) == sorted(faces.train)


def test_an_empty_set_is_refused_by_name(faces):
    with pytest.raises(ValueError, match="no faces"):
        make_batch(faces, 4, 0, 0, 0, indices=[])


def positions(images):
    """Return the render position (n, S, S, 2) of each pixel, decoded from its color."""
    return (images[..., :2] - 0.1) / 0.6 * 110


def affine_fit(where):
    """Fit an affine map (3, 2) of a target's pixels to positions. Returns it and the largest
    error."""
    y, x = np.mgrid[8:56, 8:56]
    system = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)
    values = where[8:56, 8:56].reshape(-1, 2)
    solution = np.linalg.lstsq(system, values, rcond=None)[0]
    return solution, np.abs(system @ solution - values).max()


def test_the_target_is_rotated_scaled_and_shifted_within_bounds(faces, no_color_jitter):
    angles, scales, shifts = [], [], []
    for where in positions(make_batch(faces, 60, 0, 0, 0, flip=False).target):
        (a, b), (c, d), _ = affine_fit(where)[0]
        assert affine_fit(where)[1] < 0.6
        assert abs(a - d) < 0.02 and abs(b + c) < 0.02  # a similarity
        angles.append(np.degrees(np.arctan2(b, a)))
        scales.append(np.hypot(a, b))
        # The center of the crop, 31.5, is at 54.5 of the render.
        shifts.append(np.array([31.5, 31.5, 1]) @ affine_fit(where)[0] - 54.5)
    assert 7 < np.max(np.abs(angles)) < 10.5 and 0.04 < np.max(np.abs(np.array(scales) - 1)) < 0.06
    assert 2.5 < np.abs(shifts).max() < 3.3 and np.std(angles) > 4


def test_flip_mirrors_half_of_the_faces(faces, no_color_jitter):
    mirrored = [np.linalg.det(affine_fit(where)[0][:2]) < 0
                for where in positions(make_batch(faces, 200, 0, 0, 1).target)]
    assert 70 < sum(mirrored) < 130
    unmirrored = [np.linalg.det(affine_fit(where)[0][:2]) > 0
                  for where in positions(make_batch(faces, 50, 0, 0, 1, flip=False).target)]
    assert all(unmirrored)


def test_warped_differs_from_target_by_small_displacements(faces, no_color_jitter):
    batch = make_batch(faces, 60, 0, 0, 0)
    moved = positions(batch.warped)[:, 4:60, 4:60] - positions(batch.target)[:, 4:60, 4:60]
    assert 0.8 < moved.std() < 2.2 and np.abs(moved).max() < 10
    for face in moved:  # no shift, rotation or scale that the network could not infer
        assert np.abs(face.mean(axis=(0, 1))).max() < 1.3


def test_the_random_warp_never_folds_the_face():
    between = augmentation._interpolation_weights(64)
    dx, dy = between @ augmentation._grid_displacements(np.random.default_rng(0), 500, 64) @ between.T
    along_x, along_y = [np.gradient(d, axis=(2, 1)) for d in (dx, dy)]
    area = (1 + along_x[0]) * (1 + along_y[1]) - along_x[1] * along_y[0]
    assert area.min() > 0.05 and 1.2 < dx.std() < 2.0


def test_the_random_warp_contains_no_similarity():
    basis = augmentation._similarity_basis()
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-12)
    y, x = np.mgrid[:5, :5] - 2.0
    for move in ((3 + 0 * x, -1 + 0 * y), (0.1 * x - 0.2 * y, 0.2 * x + 0.1 * y)):
        flat = np.stack(move).ravel()
        np.testing.assert_allclose(basis @ basis.T @ flat, flat, atol=1e-12)
    np.testing.assert_allclose(augmentation._interpolation_weights(64).sum(axis=1), 1, atol=1e-6)


def test_target_and_mask_share_their_geometry(faces, no_color_jitter):
    """The mask must move with the face: it equals the plain crop's mask at the render's
    positions."""
    images, masks = faces.crops([0])
    batch = make_batch(faces, 12, 0, 0, 5)
    for where, mask in zip(positions(batch.target), batch.mask[..., 0]):
        crop = np.rint(where - 23).astype(int)  # render pixel 23 + i is crop pixel i
        inside = ((crop >= 0) & (crop < 64)).all(axis=-1)
        expected = masks[0, crop[inside][:, 1], crop[inside][:, 0], 0]
        assert np.abs(mask[inside] - expected).mean() < 0.02


def test_warped_and_target_have_the_same_color_jitter(faces):
    batch = make_batch(faces, 30, 0, 0, 2)
    inner = np.s_[:, 24:40, 24:40]
    ratio = batch.warped[inner].mean(axis=(1, 2)) / batch.target[inner].mean(axis=(1, 2))
    assert np.abs(ratio - 1).max() < 0.1
    strength = batch.target[inner].mean(axis=(1, 2, 3))
    assert strength.std() > 0.02


def test_color_jitter_is_small_and_unbiased():
    matrices = augmentation._color_matrices(np.random.default_rng(0), 500)
    assert (matrices[:, 3] == 0).all()  # the mask's channel never reaches the colors
    gray = np.array([0.5, 0.5, 0.5, 1], np.float32) @ matrices
    assert 0.4 < gray.min() and gray.max() < 0.6 and abs(gray.mean() - 0.5) < 0.01 and gray.std() > 0.02


def test_bright_faces_stay_in_range():
    white = SimpleNamespace(image=np.ones((84, 84, 3), np.float32), landmarks=MEAN_FACE * 64 + 10)
    bright = from_renders("bright", [white] * 8, 64)
    batch = make_batch(bright, 32, 0, 0, 0)
    assert batch.warped.max() == batch.target.max() == 1 and batch.target.min() < 0.98


def test_without_warp_the_input_equals_the_target(faces):
    warped, plain = (make_batch(faces, 4, 3, 0, 7, warp=warp) for warp in (1.0, 0.0))
    np.testing.assert_array_equal(plain.warped, plain.target)
    np.testing.assert_array_equal(plain.target, warped.target)
    np.testing.assert_array_equal(plain.mask, warped.mask)


def test_strength_of_color_jitter():
    def spread(color_jitter):
        matrices = augmentation._color_matrices(np.random.default_rng(0), 400, color_jitter)[:, :3]
        return np.abs(matrices - np.eye(3)).max()
    assert spread(0.0) == 0 and spread(2.0) > 1.5 * spread(1.0)


def test_occluders_cover_a_fraction_of_the_faces_and_change_nothing_else(faces):
    plain, occluded = (make_batch(faces, 200, 5, 1, 9, occlusion_prob=share) for share in (0.0, 0.3))
    np.testing.assert_array_equal(occluded.target, plain.target)
    touched = (occluded.warped != plain.warped).any(axis=(1, 2, 3))
    assert 40 < touched.sum() < 80
    np.testing.assert_array_equal(occluded.mask[~touched], plain.mask[~touched])
    assert (occluded.mask <= plain.mask).all()
    assert (occluded.mask[touched] < plain.mask[touched]).any(axis=(1, 2, 3)).mean() > 0.8
    assert equal(occluded, make_batch(faces, 200, 5, 1, 9, occlusion_prob=0.3))
    assert occluded.warped.dtype == occluded.mask.dtype == np.float32
    assert occluded.mask.min() >= 0 and occluded.warped.min() >= 0 and occluded.warped.max() <= 1


def test_the_mask_has_a_hole_where_the_occluder_is(faces, monkeypatch):
    """With a black occluder, the image is black exactly where the mask has its hole."""
    def half(rng, landmarks, size, skin):
        alpha = np.zeros((len(landmarks), size, size, 1), np.float32)
        alpha[:, :, size // 2:] = 1
        alpha[:, :, size // 2 - 1] = 0.25
        return Occluders(np.zeros((len(landmarks), size, size, 3), np.float32), alpha, np.full_like(alpha, 0.5))

    monkeypatch.setattr(augmentation, "random_occluders", half)
    plain, occluded = (make_batch(faces, 6, 0, 0, 0, occlusion_prob=share) for share in (0.0, 1.0))
    assert (occluded.warped[:, :, 32:] == 0).all() and (occluded.mask[:, :, 32:] == 0).all()
    np.testing.assert_array_equal(occluded.warped[:, :, :31], plain.warped[:, :, :31] * 0.5)  # in its shadow
    np.testing.assert_array_equal(occluded.mask[:, :, :31], plain.mask[:, :, :31])
    np.testing.assert_allclose(occluded.warped[:, :, 31], plain.warped[:, :, 31] * 0.375, rtol=1e-6)
    np.testing.assert_allclose(occluded.mask[:, :, 31], plain.mask[:, :, 31] * 0.75, rtol=1e-6)


def test_occlude_like_places_occluders_by_other_faces(faces):
    rows, others = np.arange(8), np.arange(8, 16)
    shift = np.repeat([0, 9], [8, len(faces) - 8])[:, None, None]
    faces = dataclasses.replace(faces, landmarks=faces.landmarks + shift)
    options = {"in_order": True, "flip": False, "color_jitter": 0.0}

    def made(indices, **more):
        return make_batch(faces, 8, 3, 0, 1, indices=indices, **options, **more).mask

    whole, others_whole = made(rows), made(others)
    inside = (whole > 0.1) & (others_whole > 0.1)
    expected = (made(rows, occlusion_prob=1.0) / np.maximum(whole, 0.1))[inside]  # what stays visible
    placed, own = (made(others, occlusion_prob=1.0, occlude_like=before) for before in (rows, None))
    np.testing.assert_allclose((placed / np.maximum(others_whole, 0.1))[inside], expected, atol=1e-3)
    assert np.abs((own / np.maximum(others_whole, 0.1))[inside] - expected).max() > 0.5


def test_occluders_are_placed_by_the_landmarks_of_the_moved_face(faces, no_color_jitter, monkeypatch):
    """The pixel under each landmark has the color of the landmark in the render; if mirrored, left
    stays left."""
    seen = {}

    def watch(rng, landmarks, size, skin):
        seen.update(landmarks=landmarks, skin=skin)
        clear = np.zeros((len(landmarks), size, size, 1), np.float32)
        return Occluders(np.zeros((len(landmarks), size, size, 3), np.float32), clear, clear + 1)

    monkeypatch.setattr(augmentation, "random_occluders", watch)
    batch = make_batch(faces, 24, 0, 0, 4, occlusion_prob=1.0)
    landmarks = seen["landmarks"]
    assert landmarks.shape == (24, 68, 2)
    crossed = [np.linalg.det(affine_fit(where)[0][:2]) < 0 for where in positions(batch.target)]
    assert 4 < sum(crossed) < 20
    assert (landmarks[:, 36, 0] < landmarks[:, 45, 0]).all() and (landmarks[:, 2, 0] < landmarks[:, 14, 0]).all()
    for where, points, mirrored, skin in zip(positions(batch.target), landmarks, crossed, seen["skin"]):
        for left, right in ((36, 45), (31, 35), (48, 54)):
            source = (MEAN_FACE * 64 + 22.5)[right if mirrored else left]
            x, y = np.rint(points[left]).astype(int)
            assert np.abs(where[y, x] - source).max() < 1.6
        x, y = np.rint(points[29]).astype(int)  # on the ridge of the nose, where skin colors are sampled
        assert np.abs(positions(skin) - where[y, x]).max() < 8
