"""Grouping by likeness against groups made by hand; what the shipped network tells apart is tested on rendered people."""
import numpy as np
import pytest

from data.detection.embedding import CROP, DIRECTIONS, Identity, group, unit
from data.synthetic import Person, random_pose, render


def around(axis, count, spread, rng):
    middle = np.zeros(DIRECTIONS)
    middle[axis] = 1
    return unit((middle + rng.normal(0, spread / np.sqrt(DIRECTIONS), (count, DIRECTIONS))).astype(np.float32))


def test_groups_are_numbered_by_size():
    rng = np.random.default_rng(0)
    faces = np.concatenate([around(0, 3, 0.5, rng), around(1, 7, 0.5, rng), around(2, 1, 0.5, rng)])
    expected = np.array([1] * 3 + [0] * 7 + [2])
    for order in (np.arange(11), np.arange(11)[::-1], rng.permutation(11)):
        assert group(faces[order]).tolist() == expected[order].tolist()


@pytest.mark.parametrize("count", [0, 1])
def test_none_and_one(count):
    assert group(np.ones((count, DIRECTIONS), np.float32) / np.sqrt(DIRECTIONS)).tolist() == [0] * count


def test_one_chance_resemblance_does_not_join_two_people():
    """A chain: a is like b, b like c, but a and c are strangers, and each has others of its own."""
    rng = np.random.default_rng(1)
    first, second = around(0, 6, 0.4, rng), around(1, 6, 0.4, rng)
    between = unit((first[:1] + second[:1]))
    labels = group(np.concatenate([first, second, between]), same=0.5)
    assert len(set(labels[:6])) == 1 and len(set(labels[6:12])) == 1 and labels[0] != labels[6]


def test_directions_have_length_one_and_do_not_mind_a_mirror():
    rng = np.random.default_rng(2)
    crops = rng.random((3, CROP, CROP, 3)).astype(np.float32)
    found = Identity.load().embed_crops(crops)
    assert found.shape == (3, DIRECTIONS) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(Identity.load().embed_crops(crops[:, :, ::-1]), found, atol=1e-4)


def test_rendered_people_are_told_apart():
    made = [render(Person(person), random_pose(np.random.default_rng([9, k])), 128) for person in (3, 7) for k in range(6)]
    directions = np.stack([Identity.load().embed(np.rint(np.clip(m.image, 0, 1) * 255).astype(np.uint8), m.landmarks) for m in made])
    alike = directions @ directions.T
    one_person = (np.arange(12)[:, None] < 6) == (np.arange(12) < 6)
    assert alike[one_person & ~np.eye(12, dtype=bool)].mean() > alike[~one_person].mean() + 0.2
