"""What tests of data/ and gan/ share: rendered people as pictures, and a finder that knows where their faces are, so that
no trained weights are needed."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data.detection.face_analyzer import Face
from data.synthetic import Person, random_pose, render

SIDE = 144


@pytest.fixture(scope="session")
def renders():
    """{(person, k): (pixels (144, 144, 3) uint8, landmarks (68, 2))}: two people in eight poses each."""
    made = {}
    for person in (0, 1):
        for k in range(8):
            rendering = render(Person(person), random_pose(np.random.default_rng([person, k])), SIDE)
            pixels = np.rint(np.clip(rendering.image, 0, 1) * 255).astype(np.uint8)
            made[person, k] = pixels, rendering.landmarks.astype(np.float64)
    return made


class Known:
    """Stands for finder and likeness: knows the faces of the pictures that it learned, by their pixels. Others hold none.

    looked: how many pictures it was asked about."""

    def __init__(self):
        self._faces, self.looked = {}, 0

    def learn(self, pixels, landmarks, score=0.95, person=0):
        self._faces.setdefault(pixels.tobytes(), []).append((landmarks, score, person))

    def find(self, pixels):
        self.looked += 1
        found = [Face(landmarks, score) for landmarks, score, _ in self._faces.get(pixels.tobytes(), [])]
        return sorted(found, key=lambda face: -face.size)

    def follow(self, pixels, landmarks):
        nearest = self._nearest(pixels, landmarks)
        return Face(nearest[0], 0.9) if nearest else Face(landmarks, 0.0)

    def embed(self, pixels, landmarks):
        nearest = self._nearest(pixels, landmarks)
        return np.eye(8, dtype=np.float32)[nearest[2] if nearest else 7]

    def _nearest(self, pixels, landmarks):
        return min(self._faces.get(pixels.tobytes(), []), key=lambda face: np.abs(face[0] - landmarks).max(), default=None)


@pytest.fixture
def known(monkeypatch):
    """A Known in the place of finder and likeness, wherever faces are extracted or read."""
    finder = Known()
    loaded = SimpleNamespace(load=lambda: finder)
    for name in ("data.extract.Finder", "data.extract.Identity", "data.datasets.aligned_reader.Finder"):
        monkeypatch.setattr(name, loaded)
    return finder


@pytest.fixture
def write_photos(known, renders):
    """write_photos(folder, {name: (person, k)}): a folder of photographs of rendered people, known to the finder."""

    def write(folder, pictures):
        folder.mkdir(exist_ok=True)
        for name, key in pictures.items():
            pixels, landmarks = renders[key]
            Image.fromarray(pixels).save(folder / name)
            known.learn(pixels, landmarks, person=key[0])
        return folder

    return write
