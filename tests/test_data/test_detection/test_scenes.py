"""Scenes and training batches of the face networks: positions, sizes and targets of the faces."""
import numpy as np
import pytest

from data.detection import detector, landmarker
from data.detection.training import batches
from data.detection.training.degrade import color_jitter, degrade
from data.detection.training.scenes import Layer, background, compose, landscape, noise, texture
from data.geometry.alignment import mirror_landmarks
from data.geometry.boxes import iou


def marked(side=60):
    """Return a gray image with a white pixel at each of its 68 landmarks."""
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


def test_faces_are_where_the_scene_says():
    rng = np.random.default_rng(4)
    scene = compose(rng, np.zeros((200, 260, 3), np.uint8), [marked(), marked()], [48.0, 24.0], tilt=30)
    assert len(scene.landmarks) == 2 and scene.heights.tolist() == [48, 24]
    for points, height in zip(scene.landmarks, scene.heights):
        nearest = np.rint(points).astype(int)
        around = scene.image[nearest[:, 1], nearest[:, 0], 0].astype(float)
        assert around.mean() > 120  # brighter than the image's gray and the black behind
        long_side = np.linalg.norm(points[51] - points[0])  # left column: height before the rotation
        assert long_side == pytest.approx(height, rel=1e-6)


def test_faces_are_inside_the_scene_and_do_not_overlap():
    for k in range(10):
        rng = np.random.default_rng(k)
        scene = compose(rng, np.zeros((150, 200, 3), np.uint8), [marked()] * 4, [40.0] * 4)
        for points in scene.landmarks:
            assert points.min() >= 0 and (points.max(axis=0) <= (199, 149)).all()
        boxes = [np.concatenate([p.min(axis=0), p.max(axis=0)]) for p in scene.landmarks]
        for i, box in enumerate(boxes[:-1]):
            assert iou(box, np.array(boxes[i + 1:])).max() == 0


def test_a_face_without_room_is_left_out():
    scene = compose(np.random.default_rng(0), np.zeros((40, 40, 3), np.uint8), [marked(), marked()], [80.0, 20.0])
    assert scene.used.tolist() == [1] and len(scene.landmarks) == 1


@pytest.fixture(scope="module")
def bank():
    return batches.rendered_bank(6, 500)


@pytest.fixture(scope="module")
def backgrounds():
    return batches.make_backgrounds(4, 0)


def test_a_padded_crop_shows_its_face_at_the_banks_scale(bank):
    np.testing.assert_allclose(np.ptp(bank.landmarks, axis=1).max(axis=1), batches.SCALE, rtol=1e-6)
    assert bank.padded_crops[:, 80, 80, 3].min() == 255  # the image is there


def test_landmarks_move_with_the_crops(bank):
    """A crop shows at the transformed landmarks what the padded crop shows at the landmarks."""
    transform = landmarker.landmarks_transform(bank.landmarks[0])
    crop = batches.read_crops(bank, [0], [transform], landmarker.CROP)[0]
    moved = bank.landmarks[0] @ transform[:, :2].T + transform[:, 2]
    inside = ((moved > 1) & (moved < 62)).all(axis=1)
    at, was = np.rint(moved[inside]).astype(int), np.rint(bank.landmarks[0][inside]).astype(int)
    assert np.corrcoef(crop[at[:, 1], at[:, 0], 1], bank.padded_crops[0][was[:, 1], was[:, 0], 1])[0, 1] > 0.9


def test_crops_of_half_the_size_are_means(bank):
    """Sampled from the halved padded crops: each pixel is the mean of the four that it covers."""
    side = batches.SIDE // 2
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])  # pixel centers at integers: 0.5 goes to 0
    crop = batches.read_crops(bank, [1], [half], side)[0]
    means = bank.padded_crops[1].reshape(side, 2, side, 2, 4).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(crop[1:-1, 1:-1], means[1:-1, 1:-1], atol=0.006)


def test_landmarks_of_mirrored_and_unmirrored_crops(bank, monkeypatch):
    """Point 36 of a mirrored crop shows what point 45 of the padded crop shows."""
    monkeypatch.setattr(batches, "degrade", lambda crops, rng: crops)
    one = batches.FaceBank(bank.padded_crops[:1], bank.landmarks[:1], bank.people[:1], bank.files[:1])
    crops, points = batches.landmark_batch(one, 16, 0, 0)

    def shown(image, at):
        x, y = np.clip(np.rint(at).astype(int), 0, len(image) - 1).T
        return image[y, x, 1].astype(float)

    straight = shown(one.padded_crops[0], one.landmarks[0])
    mirrored = straight[mirror_landmarks(np.arange(136).reshape(68, 2), 0)[:, 1] // 2]  # renumbered
    alike = np.array([[np.corrcoef(shown(crop, found * landmarker.CROP - 0.5), values)[0, 1]
                       for values in (straight, mirrored)] for crop, found in zip(crops, points)])
    assert alike.max(axis=1).min() > 0.8
    assert 3 < (alike[:, 0] > alike[:, 1]).sum() < 13


@pytest.mark.parametrize("batch", ["landmark", "detector", "embedding"])
def test_batches_depend_on_seed_and_number_alone(bank, backgrounds, batch):
    def make(seed, k):
        if batch == "detector":
            return batches.detector_batch(bank, backgrounds, 5, seed, k)
        return getattr(batches, f"{batch}_batch")(bank, 5, seed, k)
    again, once = make(0, 3), make(0, 3)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(again, once))
    assert make(0, 4)[0].tobytes() != once[0].tobytes() != make(1, 3)[0].tobytes()
    assert once[0].dtype == np.float32 and 0 <= once[0].min() and once[0].max() <= 1


def test_targets_of_cells_are_the_box_of_the_face(bank, backgrounds):
    patches, targets = batches.detector_batch(bank, backgrounds, 40, 0, 0)
    faces = np.argwhere(targets[..., 0] == 1)
    assert len(faces) > 10
    for n, row, column in faces:
        x, y = detector.cell_center(column), detector.cell_center(row)
        box = detector.decode(targets[n, row, column, 1:5].astype(float), x, y)
        size = max(box[2] - box[0], box[3] - box[1])
        assert detector.MIN_SIZE - 1e-3 <= size <= detector.MAX_SIZE + 1e-3
        assert box[0] < detector.cell_center(column) < box[2] and box[1] < detector.cell_center(row) < box[3]
    assert (targets[..., 5][targets[..., 0] == 1] == 1).all()


def test_negative_crops_overlap_little_with_the_face(bank, backgrounds):
    rng = np.random.default_rng(0)
    for i in range(30):
        transform = batches._off_face_transform(bank.landmarks[0], rng)
        middle = np.linalg.inv(np.vstack([transform, (0, 0, 1)])) @ (31.5, 31.5, 1)
        half = landmarker.CROP / np.sqrt(np.linalg.det(transform[:, :2])) / landmarker.MARGIN / 2
        box = np.concatenate([middle[:2] - half, middle[:2] + half])
        truth = np.concatenate([bank.landmarks[0].min(axis=0), bank.landmarks[0].max(axis=0)])
        assert iou(box, truth[None])[0] < 0.2


def test_degraded_images_stay_images():
    images = np.random.default_rng(0).random((12, 32, 32, 3)).astype(np.float32)
    before = images.copy()
    changed = degrade(images, np.random.default_rng(1))
    assert changed.shape == images.shape and changed.dtype == np.float32
    assert 0 <= changed.min() and changed.max() <= 1 and np.isfinite(changed).all()
    np.testing.assert_array_equal(images, before)
    assert len({face.tobytes() for face in changed}) == 12


def test_color_jitter_clips_at_white():
    images = np.full((20, 8, 8, 3), 0.95, np.float32)
    changed = color_jitter(images, np.random.default_rng(0))
    assert 0 <= changed.min() and changed.max() == 1 and len(np.unique(changed.mean(axis=(1, 2, 3)).round(3))) > 10
