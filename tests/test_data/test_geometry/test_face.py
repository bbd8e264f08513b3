"""Test Face: what it computes from its landmarks equals the definitions, and is computed once."""
import numpy as np

import data.geometry.face
from data.geometry.alignment import MEAN_FACE, apply, crop_transform, warp
from data.geometry.face import Face
from data.geometry.masks import face_hull, face_mask, face_region

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
LANDMARKS = MEAN_FACE * 60 + 5


def test_values_are_those_of_the_definitions():
    face, transform = Face(IMAGE, LANDMARKS), crop_transform(LANDMARKS, 32)
    np.testing.assert_array_equal(face.transform(32), transform)
    np.testing.assert_array_equal(face.crop(32), warp(IMAGE, transform, 32))
    np.testing.assert_allclose(face.mask(32), face_mask(apply(transform, LANDMARKS), (32, 32)), atol=1e-6)
    np.testing.assert_allclose(face.region(32).depth, face_region(apply(transform, LANDMARKS), 32).depth, atol=1e-5)
    np.testing.assert_array_equal(face.box, [*LANDMARKS.min(axis=0), *LANDMARKS.max(axis=0)])
    assert Face(None, np.array([(0.0, 0), (10, 30)])).size == 30


def test_hull_and_transform_are_computed_once(monkeypatch):
    calls = []
    for function in (face_hull, crop_transform):
        monkeypatch.setattr(data.geometry.face, function.__name__,
                            lambda *arguments, function=function: calls.append(function) or function(*arguments))
    face = Face(IMAGE, LANDMARKS)
    for _ in range(2):
        assert face.problem is None
        face.crop(32), face.mask(32), face.region(32)
    assert calls.count(face_hull) == 1 and calls.count(crop_transform) == 2  # for the checks of size 1, and for 32


def test_landmarks_that_do_not_form_a_face():
    rng = np.random.default_rng(0)
    assert "do not form a face" in Face(IMAGE, rng.permutation(LANDMARKS)).problem
    assert "coincide" in Face(IMAGE, np.ones((68, 2))).problem
