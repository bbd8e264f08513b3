"""The face analyzer with its shipped weights, on scenes of rendered people and on images without
faces."""
import numpy as np
import pytest
from PIL import Image

import data.detection.face_analyzer
from data.detection.face_analyzer import WEIGHTS, DetectionError, FaceAnalyzer
from data.detection.training.measure import landmark_error, match
from data.detection.training.scenes import Layer, background, compose, landscape, texture
from data.geometry.boxes import box_of
from data.synthetic import Person, random_pose, render

PEOPLE = range(700, 712)  # none of them is among the training people


@pytest.fixture(scope="module")
def layers():
    made = [render(Person(person), random_pose(np.random.default_rng([5, person])), 200) for person in PEOPLE]
    return [Layer(np.rint(np.clip(m.image, 0, 1) * 255).astype(np.uint8), m.landmarks.astype(np.float64)) for m in made]


@pytest.fixture(scope="module")
def analyzer():
    return FaceAnalyzer.load()


def boxes(faces):
    return np.array([face.box for face in faces]).reshape(-1, 4)


def scene_of(layers, k, sizes, shape=(480, 640), tilt=30.0):
    rng = np.random.default_rng([6, k])
    chosen = [layers[i] for i in rng.choice(len(layers), len(sizes), replace=False)]
    return compose(rng, background(rng, *shape), chosen, sizes, tilt)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_faces_that_lie_or_hang_are_found(analyzer, layers, turns):
    upright = analyzer.detect(layers[0].image)[0].landmarks
    turned = np.ascontiguousarray(np.rot90(layers[0].image, turns))
    face, = analyzer.detect(turned)
    assert face.image is turned
    x, y = upright.T
    for _ in range(turns):  # counter-clockwise; the image is square
        x, y = y, len(turned) - 1 - x
    assert landmark_error(face.landmarks, np.stack([x, y], axis=1)) < 2


def test_a_face_cut_by_the_edge_is_found(analyzer, layers):
    """A third of each face is missing. The networks find fewer of them without the margin."""
    found = without_margin = 0
    for layer in layers:
        left = int(layer.landmarks[:, 0].min() + 0.33 * np.ptp(layer.landmarks[:, 0]))
        image = np.ascontiguousarray(layer.image[:, left:])
        faces = analyzer.detect(image)
        found += len(faces) == 1 and landmark_error(faces[0].landmarks, layer.landmarks - (left, 0)) < 15
        without_margin += len(analyzer._detect_upright(image, 24.0))
    assert found >= 0.6 * len(layers) and found > without_margin


def test_a_face_without_a_forehead_is_found(analyzer, layers):
    """The image ends below the brows. What is mirrored above it stands in for the forehead."""
    found = without_margin = 0
    for layer in layers:
        top = int(layer.landmarks[:, 1].min() + 0.2 * np.ptp(layer.landmarks[:, 1]))
        image = np.ascontiguousarray(layer.image[top:])
        faces = analyzer.detect(image)
        found += len(faces) == 1 and landmark_error(faces[0].landmarks, layer.landmarks - (0, top)) < 15
        without_margin += len(analyzer._detect_upright(image, 24.0))
    assert found >= 0.8 * len(layers) and found > without_margin


def test_several_people_on_a_background(analyzer, layers):
    """Ten scenes, up to three people of 32 to 160 pixels: recall of 95 %, at most one false box."""
    hits, false_boxes = [], 0
    for k in range(10):
        scene = scene_of(layers, k, -np.sort(-np.exp(np.random.default_rng(k).uniform(np.log(32), np.log(160), 3))))
        correct, found = match(boxes(analyzer.detect(scene.image)), np.array([box_of(p) for p in scene.landmarks]))
        hits += found.tolist()
        false_boxes += (~correct).sum()
    assert len(hits) >= 20 and np.mean(hits) >= 0.95
    assert false_boxes <= 1


def test_landmarks_are_near_those_of_the_renderer(analyzer, layers):
    errors = []
    for layer in layers:
        faces = analyzer.detect(layer.image)
        assert len(faces) == 1
        errors.append(landmark_error(faces[0].landmarks, layer.landmarks))
    assert np.median(errors) < 8


def test_second_pass_is_more_accurate_on_tilted_heads(analyzer, layers):
    """The first pass gets a tilted face in an upright box, the second pass an upright face."""
    errors = []
    for k, layer in enumerate(layers):
        rng = np.random.default_rng(k)
        scene = compose(rng, texture(rng, 300, 300), [layer], [100.0], tilt=40)
        passes = analyzer.detect_in_two_passes(scene.image, 60)
        errors.append([min(landmark_error(points, scene.landmarks[0]) for points in found) for _, found, _ in passes])
    first, second = np.mean(errors, axis=0)
    assert second < 0.95 * first


@pytest.mark.parametrize("size", [32, 64, 150, 340])
def test_faces_from_small_to_nearly_the_whole_image(analyzer, layers, size):
    found = [match(boxes(analyzer.detect(scene.image)), np.array([box_of(p) for p in scene.landmarks]))[1].all()
             for scene in (scene_of(layers, 20 + k, [float(size)]) for k in range(6))]
    assert sum(found) >= 5


def test_gray_images(analyzer, layers):
    for layer in layers[:6]:
        gray = np.asarray(Image.fromarray(layer.image).convert("L").convert("RGB"))
        assert len(analyzer.detect(gray)) == 1


@pytest.mark.parametrize("make", [texture, landscape])
def test_no_detection_in_images_without_a_face(analyzer, make):
    assert [len(analyzer.detect(make(np.random.default_rng([8, k]), 240, 320))) for k in range(12)] == [0] * 12


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (17, 17), (33, 21)])
def test_images_too_small_for_a_face(analyzer, shape):
    assert analyzer.detect(np.full((*shape, 3), 128, np.uint8)) == []


def test_faces_are_sorted_by_size_and_boxes_are_tight(analyzer, layers):
    scene = scene_of(layers, 31, [120.0, 60.0])
    faces = analyzer.detect(scene.image)
    assert [face.size for face in faces] == sorted((face.size for face in faces), reverse=True)
    for face in faces:
        assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float64 and 0.5 < face.score <= 1
        assert tuple(face.box) == (*face.landmarks.min(axis=0), *face.landmarks.max(axis=0))


def test_min_size_still_detects_larger_faces(analyzer, layers):
    scene = scene_of(layers, 32, [150.0])
    assert len(analyzer.detect(scene.image, min_size=100)) == 1


def test_detection_is_deterministic(analyzer, layers):
    first, again = analyzer.detect(layers[0].image), analyzer.detect(layers[0].image)
    assert first[0].landmarks.tobytes() == again[0].landmarks.tobytes() and first[0].score == again[0].score


def test_refine_finds_a_face_that_moved(analyzer, layers):
    layer = layers[0]
    before = analyzer.detect(layer.image)[0]
    moved = np.roll(layer.image, (6, -5), (0, 1))
    after = analyzer.refine(moved, before.landmarks)
    assert after.score > 0.5
    np.testing.assert_allclose(after.landmarks.mean(axis=0), before.landmarks.mean(axis=0) + (-5, 6), atol=2.5)


def test_refine_gives_a_low_score_without_a_face(analyzer, layers):
    face = analyzer.detect(layers[0].image)[0]
    assert analyzer.refine(background(np.random.default_rng(1), 200, 200), face.landmarks).score < 0.5


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_input_that_is_not_an_image_is_refused(analyzer, image):
    with pytest.raises(ValueError, match=r"uint8 image \(H, W, 3\)"):
        analyzer.detect(image)


def test_weight_files_are_small():
    sizes = {name: (WEIGHTS / f"{name}.npz").stat().st_size for name in ("detector", "landmarker", "embedding")}
    assert sizes["detector"] + sizes["landmarker"] <= 3e6 and sizes["embedding"] <= 1e6


def test_missing_weights_give_an_error_of_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(data.detection.face_analyzer, "WEIGHTS", tmp_path)
    with pytest.raises(DetectionError, match="detector.npz cannot be loaded.*train_networks"):
        data.detection.face_analyzer.load_weights(data.detection.face_analyzer.detector.Detector(), "detector")
