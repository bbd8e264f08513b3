"""Many people to train on at once: one encoder and one decoder learn what faces have in common.

    input: person i in pose p  --encoder-->  latent code + embedding of person j
                               --decoder-->  person j in pose p

The result is pretrained weights, from which a new pair starts (gan/networks/pretrained.py). There
is an adversary as for a pair, but it is not given the person that a face should show.

Rendered people offer what no photographs show: several of them in exactly the same pose, expression
and light. So each pose is rendered of PEOPLE_PER_POSE people, and any of them may be the input and
any the target. This trains the encoder directly to ignore the identity, and the embeddings to hold
it. Photographed people are only reconstructed: each is its own target.

Legend: N faces of P people, n faces in a batch, S side of a crop in pixels.
"""
import pathlib
from typing import NamedTuple

import numpy as np

import nn
from data.datasets.augmentation import make_batch
from data.datasets.face_set import evenly_spaced, join_face_sets
from data.datasets.person import load_person
from data.datasets.rendered import render_sets
from data.support.errors import FaceSetError
from data.synthetic import Person, random_pose
from gan.networks.autoencoder import mean_colors
from gan.people import preview_sheet
from gan.people.pair import HELD_OUT_FACES, RENDER_SCALE, rendered_file

FIRST_PERSON = 1_000_000  # seed of the first rendered person, far from those of pairs
POSES_PER_PERSON = 15  # number of rendered poses divided by the number of people
PEOPLE_PER_POSE = 4  # rendered people who share a pose
MIN_PEOPLE = 4
HELD_OUT_SHARE = 0.05  # fraction of the poses that is held out
_PURPOSE_POSES = 13  # part of the random seed, so that each purpose has its own random numbers
_PURPOSE_CHOICE = 14


class MultiPersonBatch(NamedTuple):
    """Faces of many people, all float32; the target person may differ from the input person."""

    warped: np.ndarray  # (n, S, S, 3), the network's input
    colors: np.ndarray  # (n, 2, 1, 1, 3), color statistics of the input people
    target_person: np.ndarray  # (n, P), one-hot
    target: np.ndarray  # (n, S, S, 3), what the network should generate
    mask: np.ndarray  # (n, S, S, 1), the face in target


class MultiPersonDataset:
    """Faces of many people. Some poses are held out, with all faces in them.

    faces: FaceSet of all people
    person: (N,), index of each face's person, 0..P-1
    pose: (N,), index of each face's pose; for photographs, of its video or folder
    seed: of the held-out split
    partners: whether faces of one pose may be each other's targets
    """

    def __init__(self, faces, person, pose, seed, partners=True):
        self.faces, self.person, self.pose, self.seed = faces, person, pose, seed
        self.partners = partners
        poses = np.random.default_rng([seed, _PURPOSE_CHOICE]).permutation(np.unique(pose))
        out = np.isin(pose, poses[:max(1, round(HELD_OUT_SHARE * len(poses)))])
        self.train, self.held_out = np.flatnonzero(~out), np.flatnonzero(out)
        self._order = self.train[np.argsort(pose[self.train], kind="stable")]  # training rows by pose
        self.colors = np.stack([self._colors_of(number) for number in range(int(person.max()) + 1)])  # (P, 2, 3)

    names = ("many_people",)

    def sets(self):
        """Return the face sets, in the order of `names`: one, of all people."""
        return (self.faces,)

    def preview(self, model):
        """Return an image grid of held-out faces: real, generated, and as the first face's person.

        model: gan.networks.multi_person.MultiPersonAutoencoder
        """
        batch = self.held_out_batch(preview_sheet.PREVIEW_FACES)
        first = batch._replace(target_person=np.repeat(batch.target_person[:1], len(batch.target_person), axis=0))
        return preview_sheet.labeled_grid([("real", batch.target), ("generated", _generate(model, batch)[..., :3]),
                                           ("as first", _generate(model, first)[..., :3])])

    def batches(self, config, k, warp, substep=0, device="cpu"):
        """Return batch k: a list of one MultiPersonBatch of 2 * config.batch faces.

        That is the same number of faces as in a step with a pair. The arguments are those of
        gan.people.pair.FacePair.batches.
        """
        rng = np.random.default_rng([config.seed, _PURPOSE_CHOICE, substep, k])
        inputs = rng.choice(self.train, 2 * config.batch)
        targets = self._partners(inputs, rng) if self.partners else inputs
        options = {"flip": config.flip, "warp": warp, "color_jitter": config.color_jitter,
                   "occlusion_prob": config.occlusion_prob, "device": device}
        # Both have the same random numbers and differ only in the person. An occluder of the input
        # face covers the same part of the target face.
        source, target = (make_batch(self.faces, len(rows), config.seed, substep, k, indices=rows, in_order=True,
                                     occlude_like=inputs, **options) for rows in (inputs, targets))
        return [self._batch(source.warped, inputs, targets, target.target, target.mask)]

    def reconstructions(self, model):
        """Reconstruct held-out faces and return [(generated, target, mask)], in host memory.

        model: gan.networks.multi_person.MultiPersonAutoencoder
        """
        batch = self.held_out_batch()
        return [(_generate(model, batch), batch.target, batch.mask)]

    def held_out_batch(self, count=HELD_OUT_FACES):
        """Return a MultiPersonBatch of held-out faces, not augmented, each its own target."""
        rows = evenly_spaced(self.held_out, count)
        target, mask = self.faces.crops(rows)
        return self._batch(target, rows, rows, target, mask)

    def _partners(self, rows, rng):
        """Return for each training row a random row of the same pose, which may be the same row."""
        poses = self.pose[self._order]
        first, last = (np.searchsorted(poses, self.pose[rows], side) for side in ("left", "right"))
        return self._order[rng.integers(first, last)]

    def _batch(self, warped, inputs, targets, target, mask):
        target_person = np.zeros((len(targets), len(self.colors)), np.float32)
        target_person[np.arange(len(targets)), self.person[targets]] = 1
        return MultiPersonBatch(warped, self.colors[self.person[inputs]][:, :, None, None], target_person, target, mask)

    def _colors_of(self, number):
        rows = self.train[self.person[self.train] == number]
        if len(rows) == 0:
            rows = np.flatnonzero(self.person == number)
        return mean_colors(*self.faces.crops(rows))


def _generate(model, batch):
    """Return what a model generates for a MultiPersonBatch, in host memory."""
    with nn.no_grad():
        batch = MultiPersonBatch(*(nn.backend.to_device(x, model.person_embeddings.device) for x in batch))
        ((generated, *_),) = model.reconstruct(batch)
    return generated.numpy()


def load_people(config, folder, say=None):
    """Return the MultiPersonDataset that a run's configuration names.

    It is of a number of rendered people, or of a folder with one subfolder for each person.

    folder: RunFolder
    say: takes messages for the user
    Raises FaceSetError if too few people can be used.
    """
    if isinstance(config.many_people, int):
        return rendered_people(config.many_people, config.size, config.seed, folder, say)
    return photographed_people(config.many_people, config.landmarks, config.size, config.seed, folder.faces,
                               say)


def photographed_people(given, landmarks, size, seed, faces_folder, say=None):
    """Return a MultiPersonDataset of real people.

    given: folder with one subfolder for each person, each as for a pair (data/datasets/person.py)
    landmarks: CSV of all images' landmarks, or None to detect faces
    size: side of the crops in pixels
    seed: of the held-out split
    faces_folder: folder for the extracted faces
    say: takes messages for the user, also about people who are skipped because they cannot be used
    """
    given = pathlib.Path(given)
    folders = sorted(path for path in given.iterdir() if path.is_dir()) if given.is_dir() else []
    sets = []
    for folder in folders:
        try:
            sets.append(load_person(folder, landmarks, size, seed, faces_folder / folder.name, say))
        except FaceSetError as error:
            if say is not None:
                say(f"  skipped: {error}")
    if len(sets) < MIN_PEOPLE:
        raise FaceSetError(f"{given} has {len(sets)} folders with the faces of a person; training on many people needs "
                           f"at least {MIN_PEOPLE}")
    faces = join_face_sets(given.name, sets)
    person = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    return MultiPersonDataset(faces, person, faces.groups, seed, partners=False)


def rendered_people(count, size, seed, folder=None, say=None):
    """Return a MultiPersonDataset of `count` rendered people.

    There are POSES_PER_PERSON * PEOPLE_PER_POSE faces of each.

    size: side of the crops in pixels
    seed: of the poses and of the held-out split
    folder: RunFolder that keeps the rendered faces, so that they are rendered only once
    say: takes messages for the user
    """
    rng, shared = np.random.default_rng([seed, _PURPOSE_POSES]), min(PEOPLE_PER_POSE, count)
    # Permutations, so that each person is in the same number of poses.
    person = np.concatenate([rng.permutation(count) for _ in range(POSES_PER_PERSON * shared)])
    person = person[:len(person) // shared * shared]
    pose = np.repeat(np.arange(len(person) // shared), shared)
    poses = [random_pose(np.random.default_rng([seed, _PURPOSE_POSES, k])) for k in range(pose[-1] + 1)]
    people = [Person(FIRST_PERSON + number) for number in range(count)]
    items = [(people[number], poses[k]) for number, k in zip(person, pose)]
    (faces,) = render_sets([("rendered people", items)], size, round(size * RENDER_SCALE),
                           rendered_file(folder, f"{count}_people", seed, size), say)
    return MultiPersonDataset(faces, person, pose, seed)
