"""Face sets of rendered people whose faces are rendered as they are needed: a first batch of 16 need not wait for 300.

It is the set that data.datasets.face_set.from_renders makes of all renders, bit for bit, whoever renders them in whatever order.
"""
import functools

import numpy as np

from data.datasets.face_set import FaceSet, face_of_render, files_of_renders, split
from data.geometry.padded_crop import canvas_side
from data.support.process_pool import Workshop, useful_workers
from data.synthetic import render
from data.synthetic.renderer import SECONDS

_PART = {"canvas": "canvas", "landmarks": "landmarks", "transforms": "transform", "digests": "digest"}  # of a set: of a face


class _Whole:
    """An array of a set as an attribute: who asks for it as a whole waits for all faces."""

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, faces, owner):
        faces.wait(np.arange(len(faces)))
        return vars(faces)[self._name]

    def __set__(self, faces, value):
        vars(faces)[self._name] = value


class RenderedFaces(FaceSet):
    """A FaceSet whose faces a Workshop makes. Its methods wait for the faces that they are asked for, its arrays for all."""

    canvas, landmarks, transforms, digests = _Whole(), _Whole(), _Whole(), _Whole()
    _work, _first = None, 0  # the Workshop, and the number of the first face there; a copy of the set is whole

    def wait(self, indices):
        """Until the faces at `indices` (n,) are there. While some are missing, the others are rendered beside what goes on."""
        if self._work is not None:
            self._work.wait(self._first + np.asarray(indices, np.intp))

    def ask(self, indices):
        """Have the faces at `indices` (n,) rendered before others, without waiting for them."""
        self._work.ask(self._first + np.asarray(indices, np.intp))

    def arrays(self, indices):
        self.wait(indices)
        return vars(self)["canvas"], vars(self)["landmarks"]

    def complete(self):
        return self._work is None or self._work.complete()

    def stop(self):
        if self._work is not None:
            self._work.stop()


def on_demand(people, poses, size, side, workers=None):
    """A RenderedFaces of each of `people` (data.synthetic.Person) in that person's list of `poses`, at least 4.

    size: side S of the crops. side: of the renders. workers: at most so many processes; None: one a core. They make all sets
    together, and begin when a face is first asked for."""
    sets = [_empty(f"rendered person {person.seed}", len(listed), size) for person, listed in zip(people, poses)]
    items = [(number, pose) for number, listed in enumerate(poses) for pose in listed]
    places = [(faces, index) for faces in sets for index in range(len(faces))]

    def take(number, face):
        faces, index = places[number]
        for name, part in _PART.items():
            vars(faces)[name][index] = face[part]

    work = Workshop(functools.partial(_face, people, size, side), items, take, useful_workers(len(items), SECONDS, workers))
    for faces, first in zip(sets, np.cumsum([0, *map(len, sets)])):
        faces._work, faces._first = work, int(first)
    return sets


def _face(people, size, side, item):
    number, pose = item
    return face_of_render(render(people[number], pose, side), size)


def _empty(name, count, size):
    p, clips = canvas_side(size), np.arange(count)
    return RenderedFaces(name, size, np.zeros((count, p, p, 4), np.uint8), np.zeros((count, 68, 2), np.float32),
                         np.zeros((count, 2, 3)), files_of_renders(name, count), [""] * count, clips, *split(clips, 0)[:2])
