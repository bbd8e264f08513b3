"""A crowd: many people at once, of whom one encoder and one decoder learn what faces have in common.

    input: person i in pose p  --encoder-->  code + place of person j  --decoder-->  person j in pose p

What is learned so is a base: a new pair starts from it instead of from nothing (gan/networks/pretrained.py). A crowd has an adversary as a pair
has, but it is not told who it ought to see.

Rendered people can be asked for what no photographs show: several of them in the very same pose, expression and light. So each
pose is rendered of SHARED people, any of whom may be the one that is seen and any the one to be drawn. The encoder is then told
outright to forget who it sees, and the places to say it. Of photographed people each is drawn as himself.

Legend: N faces of P people, n faces a batch, S side of a crop.
"""
import pathlib
from typing import NamedTuple

import numpy as np

import nn
from data.datasets.augmentation import make_batch
from data.datasets.face_set import evenly, from_renders, joined
from data.datasets.person import faces_of
from data.support.errors import FaceSetError
from data.synthetic import Person, random_pose
from data.synthetic.renderer import render_each
from gan.networks.autoencoder import average_colours
from gan.people import preview_sheet
from gan.people.pair import DETAIL, HELD_OUT_FACES

FIRST_PERSON = 1_000_000  # rendered people from this number on: a pair's people are never among them
POSES = 15  # of each rendered person, times SHARED
SHARED = 4  # people of a pose
LEAST_PEOPLE = 4
HELD_OUT_SHARE = 0.05  # of the poses
_PURPOSE_POSES = 13  # keeps these random numbers apart from others of the same seed
_PURPOSE_CHOICE = 14


class CrowdBatch(NamedTuple):
    """Faces of many people, all float32; what is drawn may be another person than the one that is seen."""

    warped: np.ndarray  # (n, S, S, 3) what the network is given
    colours: np.ndarray  # (n, 2, 1, 1, 3) average colours of the people who are seen
    drawn_as: np.ndarray  # (n, P) one 1 a row: the person to be drawn
    target: np.ndarray  # (n, S, S, 3) what it should draw
    mask: np.ndarray  # (n, S, S, 1) where the face is in target


class Crowd:
    """Faces of many people.

    faces: FaceSet of all. person (N,): who each is, 0..P-1. pose (N,): faces of one number show the same pose, or for
    photographs belong to the same clip. Some poses are held out, with all faces that show them. partners: whether faces of one
    pose may be drawn for each other.
    """

    def __init__(self, faces, person, pose, seed, partners=True):
        self.faces, self.person, self.pose, self.seed = faces, person, pose, seed
        self.partners = partners
        poses = np.random.default_rng([seed, _PURPOSE_CHOICE]).permutation(np.unique(pose))
        out = np.isin(pose, poses[:max(1, round(HELD_OUT_SHARE * len(poses)))])
        self.train, self.held_out = np.flatnonzero(~out), np.flatnonzero(out)
        self._order = self.train[np.argsort(pose[self.train], kind="stable")]  # by pose
        self.colours = np.stack([self._colours_of(number) for number in range(int(person.max()) + 1)])  # (P, 2, 3)

    names = ("crowd",)

    def sets(self):
        """The face sets, in the order of `names`: here one, of all people."""
        return (self.faces,)

    def sheet(self, model):
        """A sheet of held-out faces: as they are, as a gan.networks.multi_person.ManyFaces draws them, and drawn as the first one's person."""
        batch = self.held_out_batch(preview_sheet.PREVIEW_FACES)
        first = batch._replace(drawn_as=np.repeat(batch.drawn_as[:1], len(batch.drawn_as), axis=0))
        return preview_sheet.label_rows([("real", batch.target), ("drawn", _drawn(model, batch)[..., :3]),
                                   ("as first", _drawn(model, first)[..., :3])])

    def batches(self, recipe, k, warp, turn=0, device="cpu"):
        """Batch k: a list of one CrowdBatch of 2 * recipe.batch faces, as many as a step with two people has. Its pictures are made
        on the device."""
        rng = np.random.default_rng([recipe.seed, _PURPOSE_CHOICE, turn, k])
        seen = rng.choice(self.train, 2 * recipe.batch)
        drawn = self._partners(seen, rng) if self.partners else seen
        options = {"flip": recipe.flip, "warp": warp, "light": recipe.light, "occluded": recipe.occluded, "device": device}
        # The same random numbers for both: only whose face is read differs. What hides a part of the face that is seen, hides
        # that part of the one that is drawn.
        given, wanted = (make_batch(self.faces, len(rows), recipe.seed, turn, k, indices=rows, in_order=True, held_before=seen,
                                    **options) for rows in (seen, drawn))
        return [self._batch(given.warped, seen, drawn, wanted.target, wanted.mask)]

    def redrawn(self, model):
        """Held-out faces as they are, each drawn as itself by a gan.networks.multi_person.ManyFaces: [(drawn, target, mask)], host memory."""
        batch = self.held_out_batch()
        return [(_drawn(model, batch), batch.target, batch.mask)]

    def held_out_batch(self, count=HELD_OUT_FACES):
        """A CrowdBatch of held-out faces, as they are: each to be drawn as itself."""
        rows = evenly(self.held_out, count)
        target, mask = self.faces.crops(rows)
        return self._batch(target, rows, rows, target, mask)

    def _partners(self, rows, rng):
        """For each row of the training part one at random that shows the same pose, which may be the row itself."""
        poses = self.pose[self._order]
        first, last = (np.searchsorted(poses, self.pose[rows], side) for side in ("left", "right"))
        return self._order[rng.integers(first, last)]

    def _batch(self, warped, seen, drawn, target, mask):
        drawn_as = np.zeros((len(drawn), len(self.colours)), np.float32)
        drawn_as[np.arange(len(drawn)), self.person[drawn]] = 1
        return CrowdBatch(warped, self.colours[self.person[seen]][:, :, None, None], drawn_as, target, mask)

    def _colours_of(self, number):
        rows = self.train[self.person[self.train] == number]
        if len(rows) == 0:
            rows = np.flatnonzero(self.person == number)
        return average_colours(*self.faces.crops(rows))


def _drawn(model, batch):
    """What a model draws of a CrowdBatch, in host memory."""
    with nn.no_grad():
        ((drawn, *_),) = model.redraw(CrowdBatch(*(nn.backend.to_device(x, model.places.device) for x in batch)))
    return drawn.numpy()


def of(config, folder, say=None):
    """The crowd that a run's configuration names: a number of rendered people, or a folder with a folder for each person.

    folder: the RunFolder. say: takes lines for the user. Raises FaceSetError where nobody can be used."""
    if isinstance(config["crowd"], int):
        return rendered_crowd(config["crowd"], config["size"], config["seed"])
    return photographed_crowd(config["crowd"], config["landmarks"], config["size"], config["seed"], folder.faces, say)


def photographed_crowd(given, landmarks, size, seed, kept, say=None):
    """Real people: a folder with a folder for each, whose pictures may be given as those of a pair (data/datasets/person.py).

    landmarks: CSV of all pictures, or None: faces are looked for. kept: folder for the faces cut out. Somebody who cannot be
    used is left out, and `say` hears it."""
    folders = sorted(path for path in pathlib.Path(given).iterdir() if path.is_dir()) if pathlib.Path(given).is_dir() else []
    sets = []
    for folder in folders:
        try:
            sets.append(faces_of(folder, landmarks, size, seed, kept / folder.name, say))
        except FaceSetError as error:
            if say is not None:
                say(f"  left out: {error}")
    if len(sets) < LEAST_PEOPLE:
        raise FaceSetError(f"{given} has {len(sets)} folders with the faces of a person; a base needs at least {LEAST_PEOPLE}")
    faces = joined(pathlib.Path(given).name, sets)
    person = np.repeat(np.arange(len(sets)), [len(each) for each in sets])
    return Crowd(faces, person, faces.groups, seed, partners=False)


def rendered_crowd(count, size, seed):
    """`count` rendered people, POSES * SHARED faces of each."""
    rng, shared = np.random.default_rng([seed, _PURPOSE_POSES]), min(SHARED, count)
    person = np.concatenate([rng.permutation(count) for _ in range(POSES * shared)])  # each person equally often
    person = person[:len(person) // shared * shared]
    pose = np.repeat(np.arange(len(person) // shared), shared)
    poses = [random_pose(np.random.default_rng([seed, _PURPOSE_POSES, k])) for k in range(pose[-1] + 1)]
    people = [Person(FIRST_PERSON + number) for number in range(count)]
    renders = render_each([people[number] for number in person], [poses[k] for k in pose], round(size * DETAIL))
    return Crowd(from_renders("rendered people", renders, size, seed), person, pose, seed)
