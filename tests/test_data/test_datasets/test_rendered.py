"""Sets of rendered faces: equal to those of from_renders, and rendered only once for a cache file."""
import dataclasses
import os

import numpy as np
import pytest

import nn
from data.datasets import rendered
from data.datasets.face_set import from_renders
from data.datasets.rendered import render_sets
from data.support.errors import FaceSetError
from data.support.process_pool import use_workers
from data.synthetic import Person, random_pose, render

SIZE, SIDE, COUNTS = 32, 48, (7, 5)


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    return [(f"person {number}", [(Person(number), random_pose(rng)) for _ in range(count)])
            for number, count in zip((3, 4), COUNTS)]


@pytest.fixture(scope="module")
def expected(sets):
    return [from_renders(name, [render(person, pose, SIDE) for person, pose in faces], SIZE) for name, faces in sets]


@pytest.fixture
def renderings(monkeypatch):
    """The poses that are rendered, in order."""
    seen = []
    monkeypatch.setattr(rendered, "render", lambda person, pose, side: seen.append(pose) or render(person, pose, side))
    return seen


def assert_same(found, expected):
    for faces, other_faces in zip(found, expected, strict=True):
        for field in dataclasses.fields(other_faces):
            one, other = getattr(faces, field.name), getattr(other_faces, field.name)
            np.testing.assert_array_equal(one, other, err_msg=field.name, strict=isinstance(other, np.ndarray))


@pytest.mark.parametrize("workers", [0, 2])
def test_sets_equal_those_of_from_renders(sets, expected, monkeypatch, workers):
    monkeypatch.setattr(rendered, "SECONDS_PER_RENDER", 10)  # so that workers are worth their start
    with use_workers(workers):
        found = render_sets(sets, SIZE, SIDE)
    assert_same(found, expected)
    assert [faces.nbytes for faces in found] == [faces.padded_crops.nbytes for faces in expected]


def test_too_few_faces_are_refused_before_rendering(sets, renderings):
    with pytest.raises(FaceSetError, match="person 4 has 3 rendered faces"):
        render_sets([sets[0], ("person 4", sets[1][1][:3])], SIZE, SIDE)
    assert not renderings


def test_a_cache_file_is_read_by_the_next_start(sets, expected, renderings, tmp_path):
    said = []
    assert_same(render_sets(sets, SIZE, SIDE, tmp_path / "faces.npz", said.append), expected)
    assert len(renderings) == sum(COUNTS) and not said and os.listdir(tmp_path) == ["faces.npz"]
    assert_same(render_sets(sets, SIZE, SIDE, tmp_path / "faces.npz", said.append), expected)
    assert len(renderings) == sum(COUNTS) and said == [f"  using the faces rendered before: {tmp_path / 'faces.npz'}"]


def cut(file, sets):
    file.write_bytes(file.read_bytes()[:-1000])


def flip_a_bit(file, sets):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def not_an_archive(file, sets):
    file.write_text("not an archive")


def of_other_poses(file, sets):
    render_sets([sets[0], (sets[1][0], sets[1][1][::-1])], SIZE, SIDE, file)


def of_another_size(file, sets):
    render_sets(sets, SIZE // 2, SIDE, file)


def without_a_key(file, sets):
    nn.save(file, {name: array for name, array in nn.load(file).items() if name != "key"})


def of_another_renderer(file, sets):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered, "RENDERER_VERSION", 0)
        render_sets(sets, SIZE, SIDE, file)


@pytest.mark.parametrize("spoil", [cut, flip_a_bit, not_an_archive, of_other_poses, of_another_size, without_a_key,
                                   of_another_renderer])
def test_a_damaged_or_wrong_cache_file_is_made_again(sets, expected, renderings, tmp_path, spoil):
    file = tmp_path / "faces.npz"
    render_sets(sets, SIZE, SIDE, file)
    spoil(file, sets)
    renderings.clear()
    assert_same(render_sets(sets, SIZE, SIDE, file), expected)
    assert len(renderings) == sum(COUNTS)
    assert_same(render_sets(sets, SIZE, SIDE, file), expected)
    assert len(renderings) == sum(COUNTS)


def test_a_cache_file_that_cannot_be_written_is_left_out(sets, expected, tmp_path):
    assert_same(render_sets(sets, SIZE, SIDE, tmp_path / "missing" / "faces.npz"), expected)
    assert not os.listdir(tmp_path)


def test_an_interruption_leaves_no_file(sets, monkeypatch, tmp_path):
    def interrupted(person, pose, side):
        if pose is sets[1][1][2][1]:
            raise KeyboardInterrupt
        return render(person, pose, side)

    monkeypatch.setattr(rendered, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render_sets(sets, SIZE, SIDE, tmp_path / "faces.npz")
    assert not os.listdir(tmp_path)
