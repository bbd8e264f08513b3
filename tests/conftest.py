"""Fixtures of the tests of data/ and gan/: rendered people as images, and a stand-in for the face
networks that knows their faces, so that no trained weights are needed."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data.geometry.face import Face
from data.synthetic import Person, random_pose, render

SIDE = 144


@pytest.fixture(scope="session")
def renders():
    """Two people in eight poses each: {(person, k): (pixels (144, 144, 3) uint8, landmarks (68,
    2))}."""
    images = {}
    for person in (0, 1):
        for k in range(8):
            rendering = render(Person(person), random_pose(np.random.default_rng([person, k])), SIDE)
            pixels = np.rint(np.clip(rendering.image, 0, 1) * 255).astype(np.uint8)
            images[person, k] = pixels, rendering.landmarks.astype(np.float64)
    return images


class Known:
    """A stand-in for FaceAnalyzer and FaceEmbedder that knows the faces of the images given to
    `learn`.

    Images are recognized by their pixels. Other images have no face. looked: number of calls of
    detect.
    """

    def __init__(self):
        self._faces, self.looked = {}, 0

    def learn(self, pixels, landmarks, score=0.95, person=0):
        self._faces.setdefault(pixels.tobytes(), []).append((landmarks, score, person))

    def detect(self, pixels):
        self.looked += 1
        found = [Face(pixels, landmarks, score) for landmarks, score, _ in self._faces.get(pixels.tobytes(), [])]
        return sorted(found, key=lambda face: -face.size)

    def refine(self, pixels, landmarks):
        nearest = self._nearest(pixels, landmarks)
        return Face(pixels, nearest[0], 0.9) if nearest else Face(pixels, landmarks, 0.0)

    def embed(self, face):
        nearest = self._nearest(face.image, face.landmarks)
        return np.eye(8, dtype=np.float32)[nearest[2] if nearest else 7]

    def _nearest(self, pixels, landmarks):
        known = self._faces.get(pixels.tobytes(), [])
        return min(known, key=lambda face: np.abs(face[0] - landmarks).max(), default=None)


@pytest.fixture
def known(monkeypatch):
    """Replace FaceAnalyzer and FaceEmbedder by a Known, wherever faces are extracted or read."""
    faces = Known()
    loaded = SimpleNamespace(load=lambda: faces)
    for name in ("data.extract.pipeline.FaceAnalyzer", "data.extract.pipeline.FaceEmbedder",
                 "data.datasets.aligned_reader.FaceAnalyzer"):
        monkeypatch.setattr(name, loaded)
    return faces


@pytest.fixture
def write_photos(known, renders):
    """write_photos(folder, {name: (person, k)}) writes photos of rendered people that `known`
    recognizes."""

    def write(folder, images):
        folder.mkdir(exist_ok=True)
        for name, key in images.items():
            pixels, landmarks = renders[key]
            Image.fromarray(pixels).save(folder / name)
            known.learn(pixels, landmarks, person=key[0])
        return folder

    return write
