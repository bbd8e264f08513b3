"""Scenes: faces are where they are said to be, of the size that was asked for, and the batches say the same to the networks."""
import numpy as np
import pytest

from data.detection import detector, landmarker
from data.detection.training import batches
from data.detection.training.degrade import degrade, light
from data.detection.training.scenes import Layer, background, compose, landscape, noise, texture
from data.geometry.alignment import mirror_landmarks
from data.geometry.boxes import overlap


def marked(side=60):
    """A grey picture whose 68 landmarks are white pixels' places on a dark square."""
    image = np.full((side, side, 3), 90, np.uint8)
    x, y = np.meshgrid(np.linspace(20, 40, 17).round(), np.linspace(18, 42, 4).round())
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    image[points[:, 1].astype(int), points[:, 0].astype(int)] = 255
    return Layer(image, points)


@pytest.mark.parametrize("make", [texture, landscape, background])
def test_backgrounds_have_their_size_and_are_reproducible(make):
    for k in range(12):
        first, second = (make(np.random.default_rng(k), 50, 70) for _ in range(2))
        assert first.shape == (50, 70, 3) and first.dtype == np.uint8 and first.std() > 1
        np.testing.assert_array_equal(first, second)


def test_noise_fills_its_range():
    clouds = noise(np.random.default_rng(0), 40, 90)
    assert clouds.shape == (40, 90) and clouds.dtype == np.float32 and (clouds.min(), clouds.max()) == (0, 1)


def test_faces_lie_where_the_scene_says():
    rng = np.random.default_rng(4)
    scene = compose(rng, np.zeros((200, 260, 3), np.uint8), [marked(), marked()], [48.0, 24.0], tilt=30)
    assert len(scene.landmarks) == 2 and scene.heights.tolist() == [48, 24]
    for points, height in zip(scene.landmarks, scene.heights):
        nearest = np.rint(points).astype(int)
        around = scene.image[nearest[:, 1], nearest[:, 0], 0].astype(float)
        assert around.mean() > 120  # brighter than the picture's grey and the black behind
        long_side = np.linalg.norm(points[51] - points[0])  # the left column of the grid: the face's height before it was turned
        assert long_side == pytest.approx(height, rel=1e-6)


def test_faces_lie_whole_in_the_scene_and_cover_nothing():
    for k in range(10):
        rng = np.random.default_rng(k)
        scene = compose(rng, np.zeros((150, 200, 3), np.uint8), [marked()] * 4, [40.0] * 4)
        for points in scene.landmarks:
            assert points.min() >= 0 and (points.max(axis=0) <= (199, 149)).all()
        boxes = [np.concatenate([p.min(axis=0), p.max(axis=0)]) for p in scene.landmarks]
        for i, box in enumerate(boxes[:-1]):
            assert overlap(box, np.array(boxes[i + 1:])).max() == 0


def test_a_face_without_room_is_left_out():
    scene = compose(np.random.default_rng(0), np.zeros((40, 40, 3), np.uint8), [marked(), marked()], [80.0, 20.0])
    assert scene.used.tolist() == [1] and len(scene.landmarks) == 1


@pytest.fixture(scope="module")
def bank():
    return batches.rendered_bank(6, 500)


@pytest.fixture(scope="module")
def backgrounds():
    return batches.make_backgrounds(4, 0)


def test_a_canvas_shows_its_face_at_the_banks_scale(bank):
    np.testing.assert_allclose(np.ptp(bank.points, axis=1).max(axis=1), batches.SCALE, rtol=1e-6)
    assert bank.canvases[:, 80, 80, 3].min() == 255  # the picture is there


def test_points_move_with_the_crops(bank):
    """A crop read through a transform shows at the moved point what the canvas shows at the point."""
    transform = landmarker.points_transform(bank.points[0])
    crop = batches.read_crops(bank, [0], [transform], landmarker.CROP)[0]
    moved = bank.points[0] @ transform[:, :2].T + transform[:, 2]
    inside = ((moved > 1) & (moved < 62)).all(axis=1)
    at, was = np.rint(moved[inside]).astype(int), np.rint(bank.points[0][inside]).astype(int)
    assert np.corrcoef(crop[at[:, 1], at[:, 0], 1], bank.canvases[0][was[:, 1], was[:, 0], 1])[0, 1] > 0.9


def test_crops_of_half_the_size_are_means(bank):
    """Read from the halved canvases: each pixel is the mean of the four that it covers."""
    side = batches.SIDE // 2
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])  # pixel centres at integers: 0.5 goes to 0
    crop = batches.read_crops(bank, [1], [half], side)[0]
    means = bank.canvases[1].reshape(side, 2, side, 2, 4).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(crop[1:-1, 1:-1], means[1:-1, 1:-1], atol=0.006)


def test_points_are_where_the_crops_show_them_mirrored_or_not(bank, monkeypatch):
    """Point 36 of a mirrored crop shows what point 45 of the canvas shows."""
    monkeypatch.setattr(batches, "degrade", lambda crops, rng: crops)
    one = bank.part(np.array([0]))
    crops, points = batches.landmark_batch(one, 16, 0, 0)

    def shown(picture, at):
        x, y = np.clip(np.rint(at).astype(int), 0, len(picture) - 1).T
        return picture[y, x, 1].astype(float)

    straight = shown(one.canvases[0], one.points[0])
    mirrored = straight[mirror_landmarks(np.arange(136).reshape(68, 2), 0)[:, 1] // 2]  # the numbers of the mirrored points
    alike = np.array([[np.corrcoef(shown(crop, found * landmarker.CROP - 0.5), values)[0, 1] for values in (straight, mirrored)]
                      for crop, found in zip(crops, points)])
    assert alike.max(axis=1).min() > 0.8
    assert 3 < (alike[:, 0] > alike[:, 1]).sum() < 13


@pytest.mark.parametrize("batch", ["landmark", "detector", "identity"])
def test_batches_depend_on_seed_and_number_alone(bank, backgrounds, batch):
    def make(seed, k):
        if batch == "detector":
            return batches.detector_batch(bank, backgrounds, 5, seed, k)
        return getattr(batches, f"{batch}_batch")(bank, 5, seed, k)
    again, once = make(0, 3), make(0, 3)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again, once))
    assert make(0, 4)[0].tobytes() != once[0].tobytes() != make(1, 3)[0].tobytes()
    assert once[0].dtype == np.float32 and 0 <= once[0].min() and once[0].max() <= 1


def test_what_cells_are_told_is_the_box_of_the_face(bank, backgrounds):
    patches, targets = batches.detector_batch(bank, backgrounds, 40, 0, 0)
    faces = np.argwhere(targets[..., 0] == 1)
    assert len(faces) > 10
    for n, row, column in faces:
        box = detector.decode(targets[n, row, column, 1:5].astype(float), detector.cell_centre(column), detector.cell_centre(row))
        size = max(box[2] - box[0], box[3] - box[1])
        assert detector.LEAST - 1e-3 <= size <= detector.MOST + 1e-3
        assert box[0] < detector.cell_centre(column) < box[2] and box[1] < detector.cell_centre(row) < box[3]
    assert (targets[..., 5][targets[..., 0] == 1] == 1).all()


def test_crops_without_a_face_share_little_with_one(bank, backgrounds):
    rng = np.random.default_rng(0)
    for i in range(30):
        transform = batches._beside(bank.points[0], rng)
        middle = np.linalg.inv(np.vstack([transform, (0, 0, 1)])) @ (31.5, 31.5, 1)
        half = landmarker.CROP / np.sqrt(np.linalg.det(transform[:, :2])) / landmarker.MARGIN / 2
        box = np.concatenate([middle[:2] - half, middle[:2] + half])
        truth = np.concatenate([bank.points[0].min(axis=0), bank.points[0].max(axis=0)])
        assert overlap(box, truth[None])[0] < 0.2


def test_degraded_pictures_stay_pictures():
    pictures = np.random.default_rng(0).random((12, 32, 32, 3)).astype(np.float32)
    before = pictures.copy()
    changed = degrade(pictures, np.random.default_rng(1))
    assert changed.shape == pictures.shape and changed.dtype == np.float32
    assert 0 <= changed.min() and changed.max() <= 1 and np.isfinite(changed).all()
    np.testing.assert_array_equal(pictures, before)
    assert len({face.tobytes() for face in changed}) == 12


def test_light_saturates():
    pictures = np.full((20, 8, 8, 3), 0.95, np.float32)
    changed = light(pictures, np.random.default_rng(0))
    assert 0 <= changed.min() and changed.max() == 1 and len(np.unique(changed.mean(axis=(1, 2, 3)).round(3))) > 10
