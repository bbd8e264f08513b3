"""A crowd: who is seen, who is to be drawn, in which pose; decoded from faces painted so that each pixel tells."""
import shutil

import numpy as np
import pytest

from data.datasets.face_set import FaceSet
from data.support.errors import FaceSetError
from data.synthetic import Person, random_pose, render
from data.synthetic.folder import write_people
from gan.networks.multi_person import ManyFaces
from gan.people import many, preview_sheet
from gan.people.many import FIRST_PERSON, Crowd, photographed_crowd, rendered_crowd
from gan.training.steps import Recipe

PEOPLE, POSES = 5, 20
PLAIN = Recipe(batch=8, seed=4, flip=False, light=0.0)


def painted(person, pose):
    """Faces whose red says who, whose green says in which pose; blue is the same pattern on all."""
    side = 80
    canvas = np.full((len(person), side, side, 4), 255, np.uint8)
    canvas[..., 0] = 10 + 20 * person[:, None, None]
    canvas[..., 1] = 10 + 10 * pose[:, None, None]
    canvas[..., 2] = np.random.default_rng(0).integers(0, 256, (side, side))
    count = len(person)
    return FaceSet("painted", 16, canvas, np.zeros((count, 68, 2), np.float32), np.zeros((count, 2, 3)), ["file"] * count,
                   ["digest"] * count, pose, np.arange(count), np.arange(0))


def told(faces):
    """(who, in which pose) of faces (n, S, S, 3), from the painted colours."""
    red, green = (faces[..., channel].mean(axis=(1, 2)) * 255 for channel in (0, 1))
    return (red - 10) / 20, (green - 10) / 10


@pytest.fixture(scope="module")
def people():
    """Each of 20 poses shown of four of five people."""
    pose = np.repeat(np.arange(POSES), 4)
    person = np.concatenate([[(k + j) % PEOPLE for j in range(4)] for k in range(POSES)])
    return Crowd(painted(person, pose), person, pose, seed=3)


def batches(people, count, recipe=PLAIN):
    return [people.batches(recipe, k, 0.0)[0] for k in range(count)]


def test_what_is_said_of_each_face_is_true(people):
    """Who is seen is in the colours, who is to be drawn in the place and in the target; both are in the same pose."""
    for batch in batches(people, 6):
        seen, pose_seen = told(batch.warped)
        drawn, pose_drawn = told(batch.target)
        for found in (seen, pose_seen, drawn, pose_drawn):
            np.testing.assert_allclose(found, found.round(), atol=0.01)
        np.testing.assert_array_equal(pose_seen.round(), pose_drawn.round())
        np.testing.assert_array_equal(batch.drawn_as, np.eye(PEOPLE, dtype=np.float32)[drawn.round().astype(int)])
        np.testing.assert_array_equal(batch.colours[:, :, 0, 0], people.colours[seen.round().astype(int)])
        assert batch.warped.shape == batch.target.shape == (16, 16, 16, 3) and batch.mask.shape == (16, 16, 16, 1)
        assert all(array.dtype == np.float32 for array in batch)


@pytest.mark.parametrize("recipe", [PLAIN, Recipe(batch=8, seed=4)])
def test_seen_and_drawn_are_moved_and_lit_alike(people, recipe):
    for batch in batches(people, 3, recipe):
        same = (batch.drawn_as @ np.arange(PEOPLE)) == [np.argmin(np.abs(people.colours - each[:, 0, 0]).sum(axis=(1, 2)))
                                                        for each in batch.colours]
        assert same.any() and not same.all()
        np.testing.assert_allclose(batch.warped[same], batch.target[same], atol=1e-6)  # one's own partner
        if recipe is PLAIN:
            np.testing.assert_allclose(batch.warped[..., 2], batch.target[..., 2], atol=1e-6)
            assert batch.warped[0, ..., 2].std() > 0.05  # the pattern is there, and was moved with the face
            assert np.abs(batch.warped[0, ..., 2] - batch.warped[1, ..., 2]).max() > 0.1


def test_a_warp_pushes_what_is_seen_alone(people):
    (plain,), (warped,) = (people.batches(PLAIN, 2, warp) for warp in (0.0, 1.0))
    np.testing.assert_array_equal(plain.target, warped.target)
    assert np.abs(plain.warped - warped.warped).max() > 0.05


def test_anyone_of_a_pose_may_be_the_one_to_be_drawn(people):
    pairs = set()
    for batch in batches(people, 40):
        pairs |= set(zip(told(batch.warped)[0].round().astype(int).tolist(), batch.drawn_as.argmax(axis=1).tolist()))
    assert pairs == {(seen, drawn) for seen in range(PEOPLE) for drawn in range(PEOPLE)}


def test_photographed_people_are_drawn_as_themselves():
    pose, person = np.repeat(np.arange(POSES), 4), np.tile(np.arange(4), POSES)
    crowd_of = Crowd(painted(person, pose), person, pose, seed=3, partners=False)
    for batch in batches(crowd_of, 4):
        np.testing.assert_array_equal(told(batch.warped)[0].round(), batch.drawn_as.argmax(axis=1))
        np.testing.assert_allclose(batch.warped, batch.target, atol=1e-6)


def test_held_out_poses_are_never_trained_on(people):
    held_out = set(people.pose[people.held_out].tolist())
    assert len(held_out) == 1 and len(people.held_out) == 4  # a twentieth of 20, with all who show it
    assert sorted([*people.train, *people.held_out]) == list(range(4 * POSES))
    seen = set()
    for batch in batches(people, 40):
        seen |= set(told(batch.target)[1].round().astype(int).tolist())
    assert seen == set(range(POSES)) - held_out
    batch = people.held_out_batch()
    np.testing.assert_allclose(told(batch.target)[1], held_out.pop(), atol=0.01)
    np.testing.assert_array_equal(batch.warped, batch.target)
    np.testing.assert_allclose(told(batch.target)[0], batch.drawn_as.argmax(axis=1), atol=0.01)


def test_a_batch_depends_on_seed_number_and_turn_alone(people):
    def first(recipe=PLAIN, k=5, turn=0):
        return people.batches(recipe, k, 0.0, turn)[0]

    for array, again in zip(first(), first()):
        np.testing.assert_array_equal(array, again)
    for other in (first(k=6), first(turn=1), first(Recipe(batch=8, seed=5, flip=False, light=0.0))):
        assert not np.array_equal(first().warped, other.warped)


def test_the_colours_of_each_person_are_those_of_the_training_faces(people):
    for number in range(PEOPLE):
        poses = people.pose[[k for k in people.train if people.person[k] == number]]
        np.testing.assert_allclose(people.colours[number, 0, 0] * 255, 10 + 20 * number, atol=0.01)
        np.testing.assert_allclose(people.colours[number, 0, 1] * 255, (10 + 10 * poses).mean(), atol=0.01)
        np.testing.assert_allclose(people.colours[number, 1, 1] * 255, (10 * poses).std() + 0.255, atol=0.01)


def test_held_out_faces_as_they_are_drawn(people):
    model = ManyFaces(16, 4, True, PEOPLE)
    ((drawn, target, mask),) = people.redrawn(model)
    assert type(drawn) is np.ndarray and drawn.shape == (4, 16, 16, 4)
    batch = people.held_out_batch()
    np.testing.assert_array_equal(target, batch.target)
    np.testing.assert_array_equal(mask, batch.mask)
    np.testing.assert_allclose(drawn, model(batch.warped, batch.colours, batch.drawn_as).numpy(), atol=1e-6)
    scale = 96 // 16
    assert people.sheet(model).shape == (3 * 16 * scale, 64 + min(4, preview_sheet.PREVIEW_FACES) * 16 * scale, 3)
    assert people.names == ("crowd",) and people.sets() == (people.faces,)


def test_rendered_people_share_their_poses(monkeypatch):
    """As asked of the renderer: each face is of the person it is said to be, and one pose is the same for all who show it."""
    asked, one = [], render(Person(0), random_pose(np.random.default_rng(0)), 48)
    monkeypatch.setattr(many, "render_each", lambda *request: asked.append(request) or [one] * len(request[0]))
    made = rendered_crowd(5, 32, seed=1)
    ((people, poses, size),) = asked
    assert size == 48 and len(made.faces) == len(people) == 5 * many.POSES * 4
    by_person, by_pose = {}, {}
    for who, pose, person, number in zip(people, poses, made.person, made.pose, strict=True):
        assert by_person.setdefault(int(person), who) is who and by_pose.setdefault(int(number), pose) is pose
    assert len({id(who) for who in by_person.values()}) == 5 and len({id(pose) for pose in by_pose.values()}) == len(by_pose)
    assert np.bincount(made.person).tolist() == [many.POSES * 4] * 5
    assert np.bincount(made.pose).tolist() == [4] * (5 * many.POSES)
    assert FIRST_PERSON >= 1_000_000  # far from those that a pair is made of


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder with five people, four pictures of 64 pixels of each, and their landmarks; not to be changed."""
    folder = tmp_path_factory.mktemp("album")
    write_people(folder, 5, 4, 64, seed=20)
    return folder


def test_a_folder_of_a_folder_for_each_person(album, tmp_path):
    said = []
    people = photographed_crowd(album, album / "landmarks.csv", 32, 0, tmp_path / "kept", said.append)
    assert np.bincount(people.person).tolist() == [4] * 5 and not people.partners and said == []
    assert [file.split("/")[0] for file in people.faces.files] == [f"person_{k:03d}" for k in people.person]
    for number in np.unique(people.pose):  # a clip is one person's
        assert len(set(people.person[people.pose == number].tolist())) == 1
    assert len(people.held_out) and not set(people.pose[people.train]) & set(people.pose[people.held_out])


def test_somebody_who_cannot_be_used_is_left_out_and_named(album, tmp_path):
    folder = shutil.copytree(album, tmp_path / "album")
    for name in ("00000.png", "00001.png"):
        (folder / "person_002" / name).write_bytes(b"")
    said = []
    people = photographed_crowd(folder, folder / "landmarks.csv", 32, 0, tmp_path / "kept", said.append)
    assert np.bincount(people.person).tolist() == [4] * 4 and "person_002" not in str(people.faces.files)
    assert len(said) == 1 and "left out" in said[0] and "person_002" in said[0]
    shutil.rmtree(folder / "person_000")
    with pytest.raises(FaceSetError, match="3 folders.*at least 4") as error:
        photographed_crowd(folder, folder / "landmarks.csv", 32, 0, tmp_path / "kept", said.append)
    assert str(folder) in str(error.value)
    with pytest.raises(FaceSetError, match="0 folders"):
        photographed_crowd(tmp_path / "nowhere", None, 32, 0, tmp_path / "kept")
