"""Face sets of rendered people, rendered on demand: a first batch of 16 does not have to wait for
all 300 faces.

The result is bit for bit the same as data.datasets.face_set.from_renders on all renders, in
whatever order worker processes compute them.
"""
import functools

import numpy as np

from data.datasets.face_set import FaceSet, face_of_render, files_of_renders, split_by_clip
from data.geometry.padded_crop import padded_crop_side
from data.support.process_pool import ProcessPool, useful_workers
from data.synthetic import render
from data.synthetic.renderer import SECONDS_PER_RENDER

# Attribute of a FaceSet: key of face_of_render.
_KEYS = {"padded_crops": "padded_crop", "landmarks": "landmarks", "transforms": "transform", "digests": "digest"}


class _WaitForAll:
    """An attribute that holds an array of all faces. Reading it waits until all faces are
    rendered."""

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, faces, owner):
        faces.wait(np.arange(len(faces)))
        return vars(faces)[self._name]

    def __set__(self, faces, value):
        vars(faces)[self._name] = value


class RenderedFaces(FaceSet):
    """A FaceSet that a ProcessPool renders. Methods wait for the faces they need, array attributes
    for all faces."""

    padded_crops, landmarks, transforms, digests = _WaitForAll(), _WaitForAll(), _WaitForAll(), _WaitForAll()
    # The ProcessPool, and the index of this set's first face in it. A copy is complete without one.
    _pool, _first = None, 0

    def wait(self, indices):
        """Wait until the faces at `indices` (n,) are rendered. The other faces are rendered in the
        background."""
        if self._pool is not None:
            self._pool.wait(self._first + np.asarray(indices, np.intp))

    def request(self, indices):
        """Render the faces at `indices` (n,) before the others, without waiting for them."""
        self._pool.request(self._first + np.asarray(indices, np.intp))

    def arrays(self, indices):
        self.wait(indices)
        return vars(self)["padded_crops"], vars(self)["landmarks"]

    def complete(self):
        return self._pool is None or self._pool.done()

    def stop(self):
        if self._pool is not None:
            self._pool.stop()


def render_on_demand(people, poses, size, side, workers=None):
    """Return a RenderedFaces for each person. Rendering starts when a face is first needed.

    people: data.synthetic.Person each
    poses: a list of at least 4 poses for each person
    size: side S of the crops
    side: side of the renders in pixels
    workers: maximum number of processes, which all sets share; None: one per core
    """
    sets = [_empty(f"rendered person {person.seed}", len(listed), size) for person, listed in zip(people, poses)]
    items = [(number, pose) for number, listed in enumerate(poses) for pose in listed]
    targets = [(faces, index) for faces in sets for index in range(len(faces))]

    def store(number, face):
        faces, index = targets[number]
        for attribute, key in _KEYS.items():
            vars(faces)[attribute][index] = face[key]

    workers = useful_workers(len(items), SECONDS_PER_RENDER, workers)
    pool = ProcessPool(functools.partial(_render_face, people, size, side), items, store, workers)
    for faces, first in zip(sets, np.cumsum([0, *map(len, sets)])):
        faces._pool, faces._first = pool, int(first)
    return sets


def _render_face(people, size, side, item):
    number, pose = item
    return face_of_render(render(people[number], pose, side), size)


def _empty(name, count, size):
    """Return a RenderedFaces with room for `count` faces."""
    p, clips = padded_crop_side(size), np.arange(count)
    train, held_out, _ = split_by_clip(clips, 0)
    return RenderedFaces(name, size, np.zeros((count, p, p, 4), np.uint8), np.zeros((count, 68, 2), np.float32),
                         np.zeros((count, 2, 3)), files_of_renders(name, count), [""] * count, clips, train, held_out)
