"""Grouping by similarity on hand-made groups, and the shipped embedding network on rendered
people."""
import numpy as np
import pytest

from data.geometry.face import Face
from data.detection.embedding import CROP, EMBEDDING_SIZE, FaceEmbedder, group, unit
from data.synthetic import Person, random_pose, render


def around(axis, count, spread, rng):
    middle = np.zeros(EMBEDDING_SIZE)
    middle[axis] = 1
    return unit((middle + rng.normal(0, spread / np.sqrt(EMBEDDING_SIZE), (count, EMBEDDING_SIZE))).astype(np.float32))


def test_groups_are_numbered_by_size():
    rng = np.random.default_rng(0)
    faces = np.concatenate([around(0, 3, 0.5, rng), around(1, 7, 0.5, rng), around(2, 1, 0.5, rng)])
    expected = np.array([1] * 3 + [0] * 7 + [2])
    for order in (np.arange(11), np.arange(11)[::-1], rng.permutation(11)):
        assert group(faces[order]).tolist() == expected[order].tolist()


@pytest.mark.parametrize("count", [0, 1])
def test_group_of_no_or_one_face(count):
    assert group(np.ones((count, EMBEDDING_SIZE), np.float32) / np.sqrt(EMBEDDING_SIZE)).tolist() == [0] * count


def test_one_chance_similarity_does_not_merge_two_people():
    """A chain: a is similar to b and b to c, but a and c are strangers, each with more faces."""
    rng = np.random.default_rng(1)
    first, second = around(0, 6, 0.4, rng), around(1, 6, 0.4, rng)
    between = unit((first[:1] + second[:1]))
    labels = group(np.concatenate([first, second, between]), threshold=0.5)
    assert len(set(labels[:6])) == 1 and len(set(labels[6:12])) == 1 and labels[0] != labels[6]


def test_embeddings_have_length_one_and_are_mirror_invariant():
    rng = np.random.default_rng(2)
    crops = rng.random((3, CROP, CROP, 3)).astype(np.float32)
    found = FaceEmbedder.load().embed_crops(crops)
    assert found.shape == (3, EMBEDDING_SIZE) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(FaceEmbedder.load().embed_crops(crops[:, :, ::-1]), found, atol=1e-4)


def test_rendered_people_are_separated():
    renders = [render(Person(person), random_pose(np.random.default_rng([9, k])), 128)
               for person in (3, 7) for k in range(6)]
    images = [np.rint(np.clip(r.image, 0, 1) * 255).astype(np.uint8) for r in renders]
    embeddings = np.stack([FaceEmbedder.load().embed(Face(image, r.landmarks)) for image, r in zip(images, renders)])
    similarity = embeddings @ embeddings.T
    one_person = (np.arange(12)[:, None] < 6) == (np.arange(12) < 6)
    assert similarity[one_person & ~np.eye(12, dtype=bool)].mean() > similarity[~one_person].mean() + 0.2
