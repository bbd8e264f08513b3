"""The finder with its shipped weights, on scenes of rendered people, which need no data from outside, and on pictures without faces."""
import numpy as np
import pytest
from PIL import Image

import data.detection.face_analyzer
from data.detection.face_analyzer import WEIGHTS, Face, Finder, FinderError
from data.detection.training.measure import match, point_error
from data.detection.training.scenes import Layer, background, compose, landscape, texture
from data.geometry.boxes import box_of
from data.synthetic import Person, random_pose, render

PEOPLE = range(700, 712)  # none of them is among those that the networks learned from


@pytest.fixture(scope="module")
def layers():
    made = [render(Person(person), random_pose(np.random.default_rng([5, person])), 200) for person in PEOPLE]
    return [Layer(np.rint(np.clip(m.image, 0, 1) * 255).astype(np.uint8), m.landmarks.astype(np.float64)) for m in made]


@pytest.fixture(scope="module")
def finder():
    return Finder.load()


def boxes(faces):
    return np.array([face.box for face in faces]).reshape(-1, 4)


def scene_of(layers, k, sizes, shape=(480, 640), tilt=30.0):
    rng = np.random.default_rng([6, k])
    chosen = [layers[i] for i in rng.choice(len(layers), len(sizes), replace=False)]
    return compose(rng, background(rng, *shape), chosen, sizes, tilt)


def test_several_people_on_a_background(finder, layers):
    """Ten scenes with up to three people, brow to chin 32 to 160 pixels: at least 19 of 20 found, at most one box beside them."""
    seen, beside = [], 0
    for k in range(10):
        scene = scene_of(layers, k, -np.sort(-np.exp(np.random.default_rng(k).uniform(np.log(32), np.log(160), 3))))
        right, found = match(boxes(finder.find(scene.image)), np.array([box_of(p) for p in scene.landmarks]))
        seen += found.tolist()
        beside += (~right).sum()
    assert len(seen) >= 20 and np.mean(seen) >= 0.95
    assert beside <= 1


def test_landmarks_lie_where_the_renderer_put_them(finder, layers):
    errors = []
    for layer in layers:
        faces = finder.find(layer.image)
        assert len(faces) == 1
        errors.append(point_error(faces[0].landmarks, layer.landmarks))
    assert np.median(errors) < 8


def test_the_second_pass_is_nearer_on_tilted_heads(finder, layers):
    """The first sees the face tilted in an upright box, the second upright."""
    errors = []
    for k, layer in enumerate(layers):
        rng = np.random.default_rng(k)
        scene = compose(rng, texture(rng, 300, 300), [layer], [100.0], tilt=40)
        passes = finder.looks(scene.image, 60)
        errors.append([min(point_error(points, scene.landmarks[0]) for points in found) for _, found, _ in passes])
    first, second = np.mean(errors, axis=0)
    assert second < 0.95 * first


@pytest.mark.parametrize("size", [32, 64, 150, 340])
def test_faces_from_small_to_nearly_the_whole_picture(finder, layers, size):
    found = [match(boxes(finder.find(scene.image)), np.array([box_of(p) for p in scene.landmarks]))[1].all()
             for scene in (scene_of(layers, 20 + k, [float(size)]) for k in range(6))]
    assert sum(found) >= 5


def test_grey_pictures(finder, layers):
    for layer in layers[:6]:
        grey = np.asarray(Image.fromarray(layer.image).convert("L").convert("RGB"))
        assert len(finder.find(grey)) == 1


@pytest.mark.parametrize("make", [texture, landscape])
def test_a_picture_without_a_face_gives_none(finder, make):
    assert [len(finder.find(make(np.random.default_rng([8, k]), 240, 320))) for k in range(12)] == [0] * 12


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (17, 17), (33, 21)])
def test_pictures_too_small_for_a_face(finder, shape):
    assert finder.find(np.full((*shape, 3), 128, np.uint8)) == []


def test_the_largest_comes_first_and_boxes_hold_the_points(finder, layers):
    scene = scene_of(layers, 31, [120.0, 60.0])
    faces = finder.find(scene.image)
    assert [face.size for face in faces] == sorted((face.size for face in faces), reverse=True)
    for face in faces:
        assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float64 and 0.5 < face.score <= 1
        assert face.box == (*face.landmarks.min(axis=0), *face.landmarks.max(axis=0))


def test_larger_than_smallest_is_quicker_and_finds_the_large_ones(finder, layers):
    scene = scene_of(layers, 32, [150.0])
    assert len(finder.find(scene.image, smallest=100)) == 1


def test_the_same_picture_gives_the_same_bits(finder, layers):
    first, again = finder.find(layers[0].image), finder.find(layers[0].image)
    assert first[0].landmarks.tobytes() == again[0].landmarks.tobytes() and first[0].score == again[0].score


def test_a_face_is_followed_to_where_it_moved(finder, layers):
    layer = layers[0]
    before = finder.find(layer.image)[0]
    moved = np.roll(layer.image, (6, -5), (0, 1))
    after = finder.follow(moved, before.landmarks)
    assert after.score > 0.5
    np.testing.assert_allclose(after.landmarks.mean(axis=0), before.landmarks.mean(axis=0) + (-5, 6), atol=2.5)


def test_a_face_that_is_gone_is_not_followed(finder, layers):
    face = finder.find(layers[0].image)[0]
    assert finder.follow(background(np.random.default_rng(1), 200, 200), face.landmarks).score < 0.5


@pytest.mark.parametrize("picture", [np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_only_pictures_are_looked_at(finder, picture):
    with pytest.raises(ValueError, match=r"uint8 picture \(H, W, 3\)"):
        finder.find(picture)


def test_weights_are_as_small_as_was_promised():
    sizes = {name: (WEIGHTS / f"{name}.npz").stat().st_size for name in ("detector", "landmarker", "identity")}
    assert sizes["detector"] + sizes["landmarker"] <= 3e6 and sizes["identity"] <= 1e6


def test_missing_weights_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(data.detection.face_analyzer, "WEIGHTS", tmp_path)
    with pytest.raises(FinderError, match="detector.npz cannot be used.*train_finder"):
        data.detection.face_analyzer.load_weights(data.detection.face_analyzer.detector.Detector(), "detector")


def test_a_face_knows_its_size():
    assert Face(np.array([(0.0, 0), (10, 30)]), 1.0).size == 30
