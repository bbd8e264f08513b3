"""Whom a run learns: from which faces the colours of rendered people are told."""
from types import SimpleNamespace

import numpy as np

from data.synthetic import random_pose
from gan.people import pair


def light_of(pose):
    """What falls on a face from ahead, and from all around."""
    return pose.ambient + 0.6 * pose.strength * np.cos(pose.light_side) * np.cos(pose.light_height)


def test_the_faces_that_tell_the_colours_are_evenly_lit():
    poses = [random_pose(np.random.default_rng(k)) for k in range(200)]
    indices = np.arange(10, 200)
    chosen = pair._evenly_lit(indices, poses)
    assert len(set(chosen)) == pair.COLOUR_FACES and set(chosen) <= set(indices)
    ranks = np.searchsorted(np.sort([light_of(poses[k]) for k in indices]), [light_of(poses[k]) for k in chosen])
    assert ranks[0] == 0 and ranks[-1] == len(indices) - 1 and set(np.diff(ranks)) == {4, 5}  # 190 faces, 47 steps


def test_few_faces_all_tell_the_colours():
    poses = [random_pose(np.random.default_rng(k)) for k in range(12)]
    assert sorted(pair._evenly_lit(np.arange(2, 12), poses)) == list(range(2, 12))


def test_photographs_tell_their_colours_all_together(faces):
    told = []
    model = SimpleNamespace(learn_colours=lambda crops, masks, side: told.append((side, crops)))
    pair.Subjects(faces.a, faces.b).learn_colours(model)
    for (side, crops), expected, name in zip(told, faces.sets(), "ab"):
        assert side == name
        np.testing.assert_array_equal(crops, expected.crops(expected.train)[0])
