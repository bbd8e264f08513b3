"""Training and evaluation of the face networks on rendered people: losses and metrics against
hand-renders values."""
import dataclasses

import numpy as np
import pytest

import nn
from data.detection import detector, embedding, landmarker
from data.detection.training import measure, train_networks
from data.detection.training.batches import (FaceBank, detector_batch, is_held_out, labeled, landmark_batch, load_bank,
    make_backgrounds, person_of, rendered_bank)
from data.detection.training.measure import (detection_on_scenes, equal_error, landmark_error, match, summary,
    with_pixels)
from data.detection.training.train_networks import TrainingSettings, detector_loss, landmarker_loss, learning_rate_at
from data.geometry.boxes import box_of
from data.media.image_io import ImageError
from data.synthetic import Person, random_pose, render
from data.synthetic.folder import write_people

FEW = TrainingSettings(steps=12, batch=8, learning_rate=1e-3, rendered=0, backgrounds=4)


@pytest.fixture(scope="module")
def bank():
    return rendered_bank(8, 900)


def test_learning_rate_schedule():
    rates = [learning_rate_at(2.0, step, 1000) for step in range(1000)]
    assert rates[0] == 0.02 and rates[99] == rates[400] == 2.0
    assert rates[700] == pytest.approx(1.0) and rates[999] < 1e-4
    assert all(a >= b for a, b in zip(rates[400:], rates[401:]))


def cells(face=0.0, weight=1.0):
    targets = np.zeros((1, 2, 2, 6), np.float32)
    targets[..., 5] = weight
    targets[0, 0, 0, 0] = face
    targets[0, 0, 0, 1:5] = 0.5
    return targets


def test_detector_loss_of_known_outputs():
    output = np.zeros((1, 2, 2, 5), np.float32)  # every cell: even odds
    half = np.log(2) * 0.5 ** train_networks.FOCUS  # cross-entropy at 50 %, with the focal weight
    assert detector_loss(nn.Tensor(output), cells()).item() == pytest.approx(4 * 0.5 * half, rel=1e-5)
    with_box = half + 3 * 0.5 * half + train_networks.BOX_WEIGHT * 4 * 0.5  # one face, three negatives, 4 errors of 0.5
    assert detector_loss(nn.Tensor(output), cells(face=1.0)).item() == pytest.approx(with_box, rel=1e-5)
    assert detector_loss(nn.Tensor(output), cells(weight=0.0)).item() == 0


def test_focal_loss_reduces_the_weight_of_easy_cells():
    sure = np.zeros((1, 2, 2, 5), np.float32)
    sure[..., 0] = -6
    unsure = np.zeros_like(sure)
    plain = np.log1p(np.exp(-6)) / np.log(2)  # the ratio of their cross-entropies
    ratio = detector_loss(nn.Tensor(sure), cells()).item() / detector_loss(nn.Tensor(unsure), cells()).item()
    assert ratio < 0.02 * plain


def test_landmarker_loss_of_known_outputs():
    points = np.full((2, 68, 2), 0.5, np.float32)

    def network(crops):
        n = len(crops.data)
        return nn.Tensor(np.full((n, 68, 2), 0.52, np.float32)), nn.Tensor(np.zeros(n, np.float32))

    crops, wrong = (np.zeros((n, 8, 8, 3), np.float32) for n in (2, 3))
    expected = 2 + train_networks.SCORE_WEIGHT * np.log(2)
    assert landmarker_loss(network, crops, points, wrong).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["detector", "landmarker", "embedding"])
def test_training_is_reproducible_and_moves_the_weights(bank, monkeypatch, name):
    monkeypatch.setattr(train_networks, "_MINING_CANDIDATES", 16)
    monkeypatch.setattr(train_networks, "_MINED", 8)
    make = {"detector": detector.Detector, "landmarker": landmarker.Landmarker,
            "embedding": embedding.EmbeddingNetwork}[name]
    settings = dataclasses.replace(FEW, steps=3)
    first, again = (train_networks.STAGES[name].run(bank, settings, None)[0].state_dict() for _ in range(2))
    assert first.keys() == make().state_dict().keys()
    assert all(first[key].tobytes() == again[key].tobytes() for key in first)
    nn.manual_seed(settings.seed)
    before = make().state_dict()
    assert any((before[key] != first[key]).any() for key in first)


@pytest.mark.slow
def test_the_detector_learns(bank):
    backgrounds = make_backgrounds(4, 0)
    patches, targets = detector_batch(bank, backgrounds, 16, 5, 0)

    def loss(network):
        with nn.no_grad():
            return detector_loss(network(nn.Tensor(patches)), targets).item()

    nn.manual_seed(0)
    before = loss(detector.Detector())
    network, _ = train_networks.train_detector(bank, dataclasses.replace(FEW, steps=120, learning_rate=2e-3, decay=0.9))
    assert loss(network) < 0.8 * before


def test_training_saves_the_averaged_weights(monkeypatch):
    network = nn.Linear(2, 1)
    weights = [network.weight.data.copy()]

    class Recorded(nn.optim.ExponentialMovingAverage):
        def update(self):
            weights.append(network.weight.data.copy())
            super().update()

    monkeypatch.setattr(nn.optim, "ExponentialMovingAverage", Recorded)
    settings = dataclasses.replace(FEW, steps=30)
    x = np.random.default_rng(0).random((8, 2)).astype(np.float32)
    train_networks.train_steps(network, settings, "line", lambda k: ((network(nn.Tensor(x)) - 1) ** 2).mean())
    expected = weights[0]
    for t, newest in enumerate(weights[1:], start=1):
        decay = min(settings.decay, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * newest
    assert len(weights) == 31 and (network.weight.data != weights[-1]).any()
    np.testing.assert_allclose(network.weight.data, expected, rtol=1e-5)


def test_all_images_of_a_person_are_held_out_together():
    people = np.arange(-3, 12)
    assert people[is_held_out(people)].tolist() == [0, 5, 10]
    assert person_of("person_123/07.jpg") == 123


def test_a_folder_is_split_into_training_and_held_out_people(tmp_path):
    write_people(tmp_path, 6, 2, 96, seed=0)
    held_out, trained = (labeled(tmp_path, part) for part in (True, False))
    assert [person_of(file) for file, _ in held_out] == [0, 0, 5, 5]
    assert [person_of(file) for file, _ in trained] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len(labeled(tmp_path, True, ("person_005/00001.png",))) == 3
    bank = load_bank(tmp_path, ("person_002/00000.png",))
    assert bank.people.tolist() == [1, 1, 2, 3, 3, 4, 4] and bank.files[2] == "person_002/00001.png"
    (_, pixels, landmarks), *_ = with_pixels(tmp_path, held_out)
    assert pixels.shape == (96, 96, 3) and landmarks.shape == (68, 2)


def test_a_table_with_other_columns_is_refused_in_one_line(tmp_path):
    (tmp_path / "landmarks.csv").write_text("file,width\nperson_001/a.jpg,1\n")
    with pytest.raises(ImageError, match=r"landmarks.csv should have rows person_NNN/FILE"):
        labeled(tmp_path, False)


def test_a_face_is_matched_once_and_other_boxes_are_false():
    truths = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], float)
    found = np.array([[0, 0, 10, 9], [1, 0, 10, 10], [30, 30, 40, 40]], float)
    right, seen = match(found, truths)
    assert right.tolist() == [True, False, False] and seen.tolist() == [True, False]
    right, seen = match(np.zeros((0, 4)), truths)
    assert right.tolist() == [] and seen.tolist() == [False, False]
    assert match(found, np.zeros((0, 4)))[0].tolist() == [False] * 3


def test_equal_error_rate_of_known_similarities():
    assert equal_error(np.array([0.9, 0.8, 0.7]), np.array([0.1, 0.2]))[1] == 0
    threshold, error = equal_error(np.array([0.1, 0.6, 0.7, 0.8]), np.array([0.0, 0.2, 0.3, 0.65]))
    assert error == 0.25 and 0.3 < threshold <= 0.6


def test_landmark_error_is_relative_to_the_eye_distance():
    truth = np.zeros((68, 2))
    truth[45] = (50, 0)
    assert landmark_error(truth + (3, 4), truth) == pytest.approx(10)
    assert summary(np.array([4.0, np.nan, 6.0, 8.0])) == {"mean": 6.0, "median": 6.0, "found": 75.0}


@pytest.fixture(scope="module")
def images():
    renders = [render(Person(k), random_pose(np.random.default_rng(k)), 96) for k in range(4)]
    pixels = [np.rint(np.clip(m.image, 0, 1) * 255).astype(np.uint8) for m in renders]
    return [(f"person_{5 * k:03d}/00.jpg", pixels[k], m.landmarks.astype(float)) for k, m in enumerate(renders)]


@pytest.mark.slow
def test_scene_metrics_of_a_perfect_and_of_a_blind_detector(images):
    scenes = list(measure.make_scenes(images, 6))
    answers = {scene.image.tobytes(): [box_of(points) for points in scene.landmarks] for scene in scenes}
    perfect, false = detection_on_scenes(lambda image: answers[image.tobytes()], images, 6)
    faces = sum(len(scene.landmarks) for scene in scenes)
    assert perfect["faces"] == faces > 0 and perfect["false_boxes_per_100_scenes"] == 0 and false == []
    assert {value for key, value in perfect.items() if key in ("recall_from_48", "recall_below_48")} <= {100.0, None}
    blind, false = detection_on_scenes(lambda image: [(0, 0, 5, 5)], images, 6)
    assert blind["false_boxes_per_100_scenes"] == 100 and len(false) == 6
    assert {value for key, value in blind.items() if key in ("recall_from_48", "recall_below_48")} <= {0.0, None}


def test_metrics_on_plain_images_include_the_constant_box(images):
    training = [(pixels.shape, landmarks) for _, pixels, landmarks in images]
    answers = {pixels.tobytes(): [box_of(landmarks), (0, 0, 4, 4)] for _, pixels, landmarks in images}
    found, false = measure.detection_on_plain(lambda image: answers[image.tobytes()], images, training)
    assert len(false) == 4 and false[0].shape == (96, 96, 3)
    assert found["recall"] == 100 and found["false_boxes"] == 4
    assert found["recall_of_a_constant_box"] >= 50  # rendered faces lie in the middle too


def test_pieces_without_a_face_exclude_the_face(images):
    wide = [(file, np.pad(pixels, ((0, 0), (90, 90), (0, 0)), mode="edge"), landmarks + (90, 0))
            for file, pixels, landmarks in images]
    seen = []
    found, _ = measure.pieces_without_a_face(lambda piece: seen.append(piece) or [], wide)
    assert found == {"pieces": len(seen), "boxes": 0} and len(seen) >= 8
    for piece in seen:
        assert min(piece.shape[:2]) >= 40


def test_a_face_bank_is_joined(bank):
    both = bank.joined(FaceBank(bank.padded_crops[[2]], bank.landmarks[[2]], bank.people[[2]], [bank.files[2]]))
    assert isinstance(both, FaceBank) and len(both) == 9 and both.files[-1] == bank.files[2]
    np.testing.assert_array_equal(both.halved[-1], bank.halved[2])


def test_landmarks_of_a_batch_are_those_of_its_crops(bank):
    crops, points = landmark_batch(bank, 6, 0, 0)
    assert crops.shape == (6, landmarker.CROP, landmarker.CROP, 3) and points.shape == (6, 68, 2)
    assert (np.ptp(points, axis=1).max(axis=1) * landmarker.MARGIN < 2).all()  # the face about fills its crop
    assert (points[:, 36, 0] < points[:, 45, 0]).all()  # mirrored points were renumbered: the eyes keep their sides
