"""Whom a run learns: two rendered people, or two folders of photographs.

Rendered people bring what photographs cannot: the exact truth of a swap, B rendered in A's pose, expression and light.
"""
from dataclasses import dataclass

import numpy as np

from data.faceset import FaceSet, from_renders
from data.given import faces_of
from data.synthetic import Person, random_pose, render_many

_PURPOSE_POSES = 11  # keeps these random numbers apart from others of the same seed
_PURPOSE_TRUTH = 12
_DETAIL = 1.5  # a render's side in crops: a crop takes about 3/4 of it, so this keeps a little more detail than the crop shows


@dataclass(frozen=True)
class Truth:
    """Both people in the same poses: crops (n, S, S, 3) and masks (n, S, S, 1), each cut by that person's own landmarks.
    The swap of a[i] should look like b[i]."""

    a: np.ndarray
    mask_a: np.ndarray
    b: np.ndarray
    mask_b: np.ndarray


@dataclass(frozen=True)
class Subjects:
    """The two face sets; for rendered people the poses' seed as well."""

    a: FaceSet
    b: FaceSet
    people: tuple | None = None
    seed: int = 0

    def truth(self, count):
        """The exact truth of `count` swaps in poses that no face set holds, or None for photographs."""
        if self.people is None:
            return None
        poses = _poses(self.seed, _PURPOSE_TRUTH, 0, count)
        crops = [_rendered_set(person, poses, self.a.size).crops(range(count)) for person in self.people]
        return Truth(*crops[0], *crops[1])


def rendered(people, count, size, seed):
    """Two rendered people: `people` are their two seeds, `count` faces each, crops of `size` pixels."""
    sets = [_rendered_set(person, _poses(seed, _PURPOSE_POSES, side, count), size) for side, person in enumerate(people)]
    return Subjects(*sets, people=tuple(people), seed=seed)


def photographed(given_a, given_b, landmarks, size, seed, kept, say=None):
    """Two real people, each given as a folder of photographs, of faces cut out before, or a clip (data/given.py).

    landmarks: CSV of the photographs' landmarks, or None: faces are looked for. kept: folder for the faces cut out of them.
    say: takes lines for the user; None: what was cut out before is taken as it is. Raises FaceSetError where a person
    cannot be used, FinderError where faces cannot be looked for."""
    a, b = (faces_of(given, landmarks, size, seed, kept / side, say) for side, given in (("a", given_a), ("b", given_b)))
    return Subjects(a, b, seed=seed)


def _poses(seed, purpose, side, count):
    return [random_pose(np.random.default_rng([seed, purpose, side, k])) for k in range(count)]


def _rendered_set(person, poses, size):
    return from_renders(f"rendered person {person}", render_many(Person(person), poses, round(size * _DETAIL)), size)
