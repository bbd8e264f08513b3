"""Faces rendered on demand: the same set as rendered in advance, without waiting for other
faces."""
import dataclasses
import threading

import numpy as np
import pytest

from data.datasets import rendered
from data.datasets.augmentation import make_batch
from data.datasets.face_set import from_renders
from data.datasets.rendered import render_on_demand
from data.support.errors import FaceSetError
from data.synthetic import Person, random_pose, render

SIZE, SIDE, COUNTS = 32, 48, (7, 5)


@pytest.fixture
def people():
    return [Person(3), Person(4)]


@pytest.fixture(scope="module")
def poses():
    rng = np.random.default_rng(0)
    return [[random_pose(rng) for _ in range(count)] for count in COUNTS]


@pytest.fixture(scope="module")
def whole(poses):
    """Both sets from from_renders."""
    return [from_renders(f"rendered person {k}", [render(Person(k), pose, SIDE) for pose in listed], SIZE)
            for k, listed in zip((3, 4), poses)]


@pytest.fixture
def held(monkeypatch, poses):
    """An event before which the third pose of the second person is not rendered."""
    let_go, draw = threading.Event(), rendered.render

    def hesitant(person, pose, side):
        assert pose is not poses[1][2] or let_go.wait(60)
        return draw(person, pose, side)

    monkeypatch.setattr(rendered, "render", hesitant)
    yield let_go
    let_go.set()


def assert_same(faces, expected):
    for field in dataclasses.fields(expected):
        one, other = getattr(faces, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(one, other, err_msg=field.name, strict=isinstance(other, np.ndarray))


@pytest.mark.parametrize("first", [[], [4], [6, 0, 2]])
def test_sets_equal_those_of_from_renders_in_any_order(people, poses, whole, first):
    sets = render_on_demand(people, poses, SIZE, SIDE)
    sets[0].request(first)
    for faces, expected in zip(reversed(sets), reversed(whole)):
        assert_same(faces, expected)
    assert all(faces.complete() for faces in sets)
    assert [(len(faces), faces.nbytes) for faces in sets] == [(len(each), each.padded_crops.nbytes) for each in whole]


def test_a_batch_waits_only_for_its_own_faces(people, poses, whole, held):
    sets = render_on_demand(people, poses, SIZE, SIDE)
    rows = np.array([4, 1])
    made, expected = (make_batch(faces, 2, 0, 1, 3, indices=rows, occlusion_prob=1.0) for faces in (sets[1], whole[1]))
    for one, other in zip(made, expected):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(sets[1].images([3]), whole[1].images([3])):
        np.testing.assert_array_equal(one, other)
    assert not sets[1].complete()
    held.set()
    np.testing.assert_array_equal(sets[1].crops([2])[0], whole[1].crops([2])[0])


def test_a_copy_contains_the_whole_set(people, poses, whole):
    faces = render_on_demand(people, poses, SIZE, SIDE)[0]
    copy = dataclasses.replace(faces, train=faces.train[:3])
    assert copy.complete() and len(copy.train) == 3
    np.testing.assert_array_equal(copy.crops([6])[0], whole[0].crops([6])[0])


def test_too_few_faces_are_refused_before_rendering(people, poses, monkeypatch):
    monkeypatch.setattr(rendered, "render", None)
    with pytest.raises(FaceSetError, match="person 4 has 3 rendered faces"):
        render_on_demand(people, [poses[0], poses[1][:3]], SIZE, SIDE)
