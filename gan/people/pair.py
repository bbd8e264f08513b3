"""Whom a run learns: two rendered people, or two folders of photographs.

Rendered people bring what photographs cannot: the exact truth of a swap, B rendered in A's pose, expression and light.
"""
import functools
from dataclasses import dataclass

import numpy as np

from data.datasets.augmentation import make_batch
from data.datasets.face_set import FaceSet, evenly
from data.datasets.person import faces_of
from data.datasets.rendered import on_demand
from data.synthetic import Person, random_pose
from gan.people import preview_sheet
from nn.kernels.cpu import parallel

HELD_OUT_FACES = 64
COLOUR_FACES = 48  # of a rendered person
_PURPOSE_POSES = 11  # keeps these random numbers apart from others of the same seed
_PURPOSE_TRUTH = 12
DETAIL = 1.5  # a render's side in crops: a crop takes about 3/4 of it, so this keeps a little more detail than the crop shows


@dataclass(frozen=True)
class Truth:
    """Both people in the same poses: crops (n, S, S, 3) and masks (n, S, S, 1), each cut by that person's own landmarks.
    The swap of a[i] should look like b[i]."""

    a: np.ndarray
    mask_a: np.ndarray
    b: np.ndarray
    mask_b: np.ndarray


@dataclass(frozen=True)
class Subjects:
    """The two face sets; for rendered people the poses' seed as well. typical: of each set the faces from which that person's
    average colours are measured; None: from all of the training part."""

    a: FaceSet
    b: FaceSet
    people: tuple | None = None
    seed: int = 0
    typical: tuple | None = None

    names = ("a", "b")

    def sets(self):
        """The face sets, in the order of `names`."""
        return self.a, self.b

    def learn_colours(self, model):
        """Tell a FaceAutoencoder each person's average colours."""
        for side, faces, indices in zip(self.names, self.sets(), self.typical or (self.a.train, self.b.train)):
            model.learn_colours(*faces.crops(indices), side)

    def sheet(self, model):
        """A sheet of held-out faces as `model` draws them now."""
        return preview_sheet.preview_sheet(model, self, self._preview_truth)

    @functools.cached_property
    def _preview_truth(self):
        return self.truth(preview_sheet.PREVIEW_FACES)

    def batches(self, recipe, k, warp, turn=0, device="cpu"):
        """Batch k of a run: one data.datasets.augmentation.Batch for each person. turn: further batches of the same step are of other
        random numbers. device: where they are made."""
        return [make_batch(faces, recipe.batch, recipe.seed, side + 2 * turn, k, flip=recipe.flip, warp=warp, light=recipe.light,
                           occluded=recipe.occluded, device=device)
                for side, faces in enumerate((self.a, self.b))]

    def redrawn(self, model):
        """Held-out faces as they are, each drawn as its own person: [(drawn, target, mask)] of A and of B, of HELD_OUT_FACES
        each, evenly chosen, where there are more. Arrays in host memory."""
        return [_redrawn(model, faces, side) for side, faces in (("a", self.a), ("b", self.b))]

    def truth(self, count):
        """The exact truth of `count` swaps in poses that no face set holds, or None for photographs."""
        return None if self.people is None else _truth(self.people, count, self.a.size, self.seed)


def _redrawn(model, faces, side):
    target, mask = faces.crops(evenly(faces.held_out, HELD_OUT_FACES))
    face, drawn_mask = model.draw(target, side, side)
    return face if drawn_mask is None else np.concatenate([face, drawn_mask], axis=-1), target, mask


def rendered(people, count, size, seed):
    """Two rendered people: `people` are their two seeds, `count` faces each, crops of `size` pixels, rendered as they are needed.
    Those asked for last are remembered, as is their truth: all runs of a sweep learn the same two."""
    return _rendered(tuple(people), count, size, seed)


@functools.lru_cache(maxsize=1)
def _rendered(people, count, size, seed):
    poses = [_poses(seed, _PURPOSE_POSES, side, count) for side in (0, 1)]
    sets = _rendered_sets(people, poses, size)
    typical = [_evenly_lit(faces.train, listed) for faces, listed in zip(sets, poses)]
    for faces, indices in zip(sets, typical):
        faces.ask(indices)
    return Subjects(*sets, people=people, seed=seed, typical=tuple(typical))


def _evenly_lit(indices, poses):
    """COLOUR_FACES of the indices, evenly over the light of these poses. What falls on a face explains five sixths of how bright its
    picture is: so these few tell the average colours of all about as well as all do, and the first step need not wait for all."""
    light = [pose.ambient + 0.6 * pose.strength * np.cos(pose.light_side) * np.cos(pose.light_height) for pose in poses]
    return evenly(indices[np.argsort(np.array(light)[indices], kind="stable")], COLOUR_FACES)


@functools.lru_cache(maxsize=2)  # a run's: for its previews, and for its figures
def _truth(people, count, size, seed):
    poses = _poses(seed, _PURPOSE_TRUTH, 0, count)
    crops = [faces.crops(range(count)) for faces in _rendered_sets(people, [poses, poses], size)]
    return Truth(*crops[0], *crops[1])


def photographed(given_a, given_b, landmarks, size, seed, kept, say=None):
    """Two real people, each given as a folder of photographs, of faces cut out before, or a clip (data/datasets/person.py).

    landmarks: CSV of the photographs' landmarks, or None: faces are looked for. kept: folder for the faces cut out of them.
    say: takes lines for the user; None: what was cut out before is taken as it is. Raises FaceSetError where a person
    cannot be used, FinderError where faces cannot be looked for."""
    a, b = (faces_of(given, landmarks, size, seed, kept / side, say) for side, given in (("a", given_a), ("b", given_b)))
    return Subjects(a, b, seed=seed)


def _poses(seed, purpose, side, count):
    return [random_pose(np.random.default_rng([seed, purpose, side, k])) for k in range(count)]


def _rendered_sets(people, poses, size):
    """A face set of each of two people, in that person's list of poses."""
    return on_demand([Person(person) for person in people], poses, size, round(size * DETAIL), parallel.thread_count())


def load_pair(config, folder, say=None):
    """The subjects that a run's configuration names. folder: the RunFolder. say: takes lines for the user; None: faces that
    the run cut out of pictures or clips are taken as they are. Raises FaceSetError where pictures are gone."""
    if config["people"] is not None:
        return rendered(config["people"], config["faces"], config["size"], config["seed"])
    return photographed(config["a"], config["b"], config["landmarks"], config["size"], config["seed"], folder.faces,
                               say)
