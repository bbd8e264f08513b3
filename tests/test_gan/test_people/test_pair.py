"""FacePair: the faces from which the color statistics are measured."""
from types import SimpleNamespace

import numpy as np

from data.synthetic import random_pose
from gan.people import pair


def light_of(pose):
    """Return the light that falls on a face from ahead and from all around."""
    return pose.ambient + 0.6 * pose.strength * np.cos(pose.light_side) * np.cos(pose.light_height)


def test_color_faces_are_evenly_lit():
    poses = [random_pose(np.random.default_rng(k)) for k in range(200)]
    indices = np.arange(10, 200)
    chosen = pair._evenly_lit(indices, poses)
    assert len(set(chosen)) == pair.COLOR_FACES and set(chosen) <= set(indices)
    ranks = np.searchsorted(np.sort([light_of(poses[k]) for k in indices]), [light_of(poses[k]) for k in chosen])
    assert ranks[0] == 0 and ranks[-1] == len(indices) - 1 and set(np.diff(ranks)) == {4, 5}  # 190 faces, 47 steps


def test_all_of_few_faces_are_color_faces():
    poses = [random_pose(np.random.default_rng(k)) for k in range(12)]
    assert sorted(pair._evenly_lit(np.arange(2, 12), poses)) == list(range(2, 12))


def test_fit_colors_uses_all_training_photographs(faces):
    measured = []
    model = SimpleNamespace(fit_colors=lambda crops, masks, side: measured.append((side, crops)))
    pair.FacePair(faces.a, faces.b).fit_colors(model)
    for (side, crops), expected, name in zip(measured, faces.sets(), "ab"):
        assert side == name
        np.testing.assert_array_equal(crops, expected.crops(expected.train)[0])
