"""Test the hint that the wrong person's photo is replaced, and the warning that A and B are the same."""
from types import SimpleNamespace

import numpy as np
import pytest

import gan.people.pair
import gan.swapping.recognition
from data.detection.embedding import mean_similarity
from data.extract.face_folder import FaceFolder
from data.geometry.alignment import MEAN_FACE
from data.geometry.face import Face
from data.interchange.face_png import FaceRecord
from gan.swapping.recognition import direction_hint

A, B, NEITHER = 40, 200, 120  # gray values of the people's faces
LANDMARKS = MEAN_FACE * 64


def face(gray):
    return Face(np.full((64, 64, 3), gray, np.uint8), LANDMARKS)


class GrayEmbedder:
    """Embeds a face by its gray value: A and B are orthogonal, and others as similar to both."""

    def embed(self, face):
        share = np.clip((face.image.mean() - A) / (B - A), 0, 1)
        vector = np.array([1 - share, share], np.float32)
        return vector / np.linalg.norm(vector)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder with six extracted faces of each person."""
    for module in (gan.swapping.recognition, gan.people.pair):
        monkeypatch.setattr(module, "FaceEmbedder", SimpleNamespace(load=GrayEmbedder))
    (tmp_path / "config.json").write_text('{"a": "nowhere", "b": null}')
    for side, gray in (("a", A), ("b", B)):
        folder = FaceFolder(tmp_path / "faces" / side)
        folder.begin()
        for k in range(6):
            folder.add(np.full((64, 64, 3), gray, np.uint8),
                       FaceRecord(f"{k}.png", (64, 64), np.eye(2, 3), LANDMARKS, 0.9, 0.5, "ab" * 32))
        folder.finish([0] * 6)
    return tmp_path


def test_the_hint_names_the_other_direction(run):
    assert "--direction ba" in direction_hint(run, "ab", [face(B), face(B)])
    assert "--direction ab" in direction_hint(run, "ba", [face(A)])


def test_no_hint_for_the_right_person_or_a_stranger(run):
    assert direction_hint(run, "ab", [face(A)]) is None and direction_hint(run, "ba", [face(B)]) is None
    assert direction_hint(run, "ab", [face(NEITHER)]) is None and direction_hint(run, "ab", []) is None


def test_no_hint_without_faces_to_compare(run, tmp_path):
    (tmp_path / "faces" / "a" / "faces.csv").write_text("broken")
    assert direction_hint(run, "ab", [face(B)]) is None
    assert direction_hint(tmp_path / "nowhere", "ab", [face(B)]) is None


def test_the_similarity_of_means_is_their_cosine():
    first, second = [np.array([1.0, 0]), np.array([0, 1.0])], [np.array([0, 3.0])]
    assert mean_similarity(first, second) == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("b, warned", [("a", True), ("b", False)])
def test_a_warning_if_a_and_b_are_the_same_person(run, b, warned):
    lines = []
    gan.people.pair.photographed_pair(run / "faces" / "a", run / "faces" / b, None, 32, 0, run / "other", lines.append)
    assert any("the same person" in line for line in lines) == warned
