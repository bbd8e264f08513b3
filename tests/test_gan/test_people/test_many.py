"""MultiPersonDataset on painted faces, whose colors encode the person and the pose."""
import shutil

import numpy as np
import pytest

from data.datasets.face_set import FaceSet, from_renders
from data.support.errors import FaceSetError
from data.synthetic import Person, random_pose, render
from data.synthetic.folder import write_people
from gan.networks.multi_person import MultiPersonAutoencoder
from gan.people import many, preview_sheet
from gan.people.many import FIRST_PERSON, MultiPersonDataset, photographed_people, rendered_people
from tests.helpers.configs import new_config

PEOPLE, POSES = 5, 20
PLAIN = new_config(batch=8, seed=4, flip=False, color_jitter=0.0)


def painted(person, pose):
    """Return a FaceSet: red encodes the person, green the pose, blue is a common pattern."""
    side = 80
    padded_crops = np.full((len(person), side, side, 4), 255, np.uint8)
    padded_crops[..., 0] = 10 + 20 * person[:, None, None]
    padded_crops[..., 1] = 10 + 10 * pose[:, None, None]
    padded_crops[..., 2] = np.random.default_rng(0).integers(0, 256, (side, side))
    count = len(person)
    return FaceSet("painted", 16, padded_crops, np.zeros((count, 68, 2), np.float32), np.zeros((count, 2, 3)),
                   ["file"] * count,
                   ["digest"] * count, pose, np.arange(count), np.arange(0))


def decode(faces):
    """Return person and pose of faces (n, S, S, 3), from the painted colors."""
    red, green = (faces[..., channel].mean(axis=(1, 2)) * 255 for channel in (0, 1))
    return (red - 10) / 20, (green - 10) / 10


@pytest.fixture(scope="module")
def people():
    """20 poses, each of four of five people."""
    pose = np.repeat(np.arange(POSES), 4)
    person = np.concatenate([[(k + j) % PEOPLE for j in range(4)] for k in range(POSES)])
    return MultiPersonDataset(painted(person, pose), person, pose, seed=3)


def batches(people, count, config=PLAIN):
    return [people.batches(config, k, 0.0)[0] for k in range(count)]


def test_person_pose_and_colors_of_each_face_are_correct(people):
    """Colors belong to the input person, target_person to the target; both have the same pose."""
    for batch in batches(people, 6):
        inputs, input_pose = decode(batch.warped)
        targets, target_pose = decode(batch.target)
        for found in (inputs, input_pose, targets, target_pose):
            np.testing.assert_allclose(found, found.round(), atol=0.01)
        np.testing.assert_array_equal(input_pose.round(), target_pose.round())
        np.testing.assert_array_equal(batch.target_person,
                                      np.eye(PEOPLE, dtype=np.float32)[targets.round().astype(int)])
        np.testing.assert_array_equal(batch.colors[:, :, 0, 0], people.colors[inputs.round().astype(int)])
        assert batch.warped.shape == batch.target.shape == (16, 16, 16, 3) and batch.mask.shape == (16, 16, 16, 1)
        assert all(array.dtype == np.float32 for array in batch)


@pytest.mark.parametrize("config", [PLAIN, new_config(batch=8, seed=4)])
def test_input_and_target_have_the_same_augmentation(people, config):
    for batch in batches(people, 3, config):
        same = (batch.target_person @ np.arange(PEOPLE)) == [np.argmin(np.abs(people.colors - each[:, 0,
                                                                                                   0]).sum(axis=(1, 2)))
                                                        for each in batch.colors]
        assert same.any() and not same.all()
        np.testing.assert_allclose(batch.warped[same], batch.target[same], atol=1e-6)  # the same person
        if config is PLAIN:
            np.testing.assert_allclose(batch.warped[..., 2], batch.target[..., 2], atol=1e-6)
            assert batch.warped[0, ..., 2].std() > 0.05  # the pattern is there and moved with the face
            assert np.abs(batch.warped[0, ..., 2] - batch.warped[1, ..., 2]).max() > 0.1


def test_only_the_input_is_warped(people):
    (plain,), (warped,) = (people.batches(PLAIN, 2, warp) for warp in (0.0, 1.0))
    np.testing.assert_array_equal(plain.target, warped.target)
    assert np.abs(plain.warped - warped.warped).max() > 0.05


def test_any_person_of_a_pose_may_be_the_target(people):
    pairs = set()
    for batch in batches(people, 40):
        pairs |= set(zip(decode(batch.warped)[0].round().astype(int).tolist(),
                         batch.target_person.argmax(axis=1).tolist()))
    assert pairs == {(source, target) for source in range(PEOPLE) for target in range(PEOPLE)}


def test_photographed_people_are_their_own_targets():
    pose, person = np.repeat(np.arange(POSES), 4), np.tile(np.arange(4), POSES)
    dataset = MultiPersonDataset(painted(person, pose), person, pose, seed=3, partners=False)
    for batch in batches(dataset, 4):
        np.testing.assert_array_equal(decode(batch.warped)[0].round(), batch.target_person.argmax(axis=1))
        np.testing.assert_allclose(batch.warped, batch.target, atol=1e-6)


def test_held_out_poses_are_never_trained_on(people):
    held_out = set(people.pose[people.held_out].tolist())
    assert len(held_out) == 1 and len(people.held_out) == 4  # 1 of 20 poses, with all its faces
    assert sorted([*people.train, *people.held_out]) == list(range(4 * POSES))
    poses = set()
    for batch in batches(people, 40):
        poses |= set(decode(batch.target)[1].round().astype(int).tolist())
    assert poses == set(range(POSES)) - held_out
    batch = people.held_out_batch()
    np.testing.assert_allclose(decode(batch.target)[1], held_out.pop(), atol=0.01)
    np.testing.assert_array_equal(batch.warped, batch.target)
    np.testing.assert_allclose(decode(batch.target)[0], batch.target_person.argmax(axis=1), atol=0.01)


def test_a_batch_depends_only_on_seed_number_and_substep(people):
    def first(config=PLAIN, k=5, substep=0):
        return people.batches(config, k, 0.0, substep)[0]

    for array, again in zip(first(), first()):
        np.testing.assert_array_equal(array, again)
    for other in (first(k=6), first(substep=1), first(new_config(batch=8, seed=5, flip=False, color_jitter=0.0))):
        assert not np.array_equal(first().warped, other.warped)


def test_the_colors_of_each_person_are_those_of_the_training_faces(people):
    for number in range(PEOPLE):
        poses = people.pose[[k for k in people.train if people.person[k] == number]]
        np.testing.assert_allclose(people.colors[number, 0, 0] * 255, 10 + 20 * number, atol=0.01)
        np.testing.assert_allclose(people.colors[number, 0, 1] * 255, (10 + 10 * poses).mean(), atol=0.01)
        np.testing.assert_allclose(people.colors[number, 1, 1] * 255, (10 * poses).std() + 0.255, atol=0.01)


def test_reconstructions_of_held_out_faces(people):
    model = MultiPersonAutoencoder(16, 4, True, PEOPLE)
    ((generated, target, mask),) = people.reconstructions(model)
    assert type(generated) is np.ndarray and generated.shape == (4, 16, 16, 4)
    batch = people.held_out_batch()
    np.testing.assert_array_equal(target, batch.target)
    np.testing.assert_array_equal(mask, batch.mask)
    np.testing.assert_allclose(generated, model(batch.warped, batch.colors, batch.target_person).numpy(), atol=1e-6)
    scale = 96 // 16
    assert people.preview(model).shape == (3 * 16 * scale, 64 + min(4, preview_sheet.PREVIEW_FACES) * 16 * scale, 3)
    assert people.names == ("many_people",) and people.sets() == (people.faces,)


def test_rendered_people_share_their_poses(monkeypatch):
    """As requested from the renderer: each face has its person, each pose is one for its people."""
    asked, one = [], render(Person(0), random_pose(np.random.default_rng(0)), 48)

    def render_sets(sets, size, side, *_):
        asked.append((*zip(*sets[0][1]), side))
        return [from_renders(sets[0][0], [one] * len(sets[0][1]), size)]

    monkeypatch.setattr(many, "render_sets", render_sets)
    dataset = rendered_people(5, 32, seed=1)
    ((people, poses, size),) = asked
    assert size == 48 and len(dataset.faces) == len(people) == 5 * many.POSES_PER_PERSON * 4
    by_person, by_pose = {}, {}
    for identity, pose, person, number in zip(people, poses, dataset.person, dataset.pose, strict=True):
        assert by_person.setdefault(int(person), identity) is identity and by_pose.setdefault(int(number), pose) is pose
    assert len({id(identity) for identity in by_person.values()}) == 5
    assert len({id(pose) for pose in by_pose.values()}) == len(by_pose)
    assert np.bincount(dataset.person).tolist() == [many.POSES_PER_PERSON * 4] * 5
    assert np.bincount(dataset.pose).tolist() == [4] * (5 * many.POSES_PER_PERSON)
    assert FIRST_PERSON >= 1_000_000  # far from the seeds of pairs


@pytest.fixture(scope="module")
def folder_of_people(tmp_path_factory):
    """A folder of five people with four images of 64 pixels each, and landmarks; read-only."""
    folder = tmp_path_factory.mktemp("folder_of_people")
    write_people(folder, 5, 4, 64, seed=20)
    return folder


def test_folder_with_one_subfolder_for_each_person(folder_of_people, tmp_path):
    messages = []
    people = photographed_people(folder_of_people, folder_of_people / "landmarks.csv", 32, 0, tmp_path / "kept",
                                 messages.append)
    assert np.bincount(people.person).tolist() == [4] * 5 and not people.partners and messages == []
    assert [file.split("/")[0] for file in people.faces.files] == [f"person_{k:03d}" for k in people.person]
    for number in np.unique(people.pose):  # a group belongs to one person
        assert len(set(people.person[people.pose == number].tolist())) == 1
    assert len(people.held_out) and not set(people.pose[people.train]) & set(people.pose[people.held_out])


def test_unusable_people_are_skipped_and_named(folder_of_people, tmp_path):
    folder = shutil.copytree(folder_of_people, tmp_path / "folder_of_people")
    for name in ("00000.png", "00001.png"):
        (folder / "person_002" / name).write_bytes(b"")
    messages = []
    people = photographed_people(folder, folder / "landmarks.csv", 32, 0, tmp_path / "kept", messages.append)
    assert np.bincount(people.person).tolist() == [4] * 4 and "person_002" not in str(people.faces.files)
    assert len(messages) == 1 and "skipped" in messages[0] and "person_002" in messages[0]
    shutil.rmtree(folder / "person_000")
    with pytest.raises(FaceSetError, match="3 folders.*at least 4") as error:
        photographed_people(folder, folder / "landmarks.csv", 32, 0, tmp_path / "kept", messages.append)
    assert str(folder) in str(error.value)
    with pytest.raises(FaceSetError, match="0 folders"):
        photographed_people(tmp_path / "nowhere", None, 32, 0, tmp_path / "kept")
