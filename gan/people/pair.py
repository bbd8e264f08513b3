"""A pair of people to train on: two rendered people, or two folders of photographs.

Rendered people have what photographs lack: the ground truth of a swap, which is B rendered in A's
pose, expression and light.

Legend: N faces, S side of a crop in pixels.
"""
import functools
from dataclasses import dataclass

import numpy as np

from data.datasets.augmentation import make_batch
from data.datasets.face_set import FaceSet, evenly_spaced
from data.datasets.person import load_person
from data.datasets.rendered import render_sets
from data.detection.embedding import FaceEmbedder, mean_similarity
from data.geometry.face import Face
from data.synthetic import Person, random_pose
from data.synthetic.renderer import RENDERER_VERSION
from gan.people import preview_sheet

HELD_OUT_FACES = 64
COMPARED_FACES = 24  # faces of each person that are compared to see whether A and B are the same
SAME_PERSON = 0.7  # similarity of the mean embeddings above which they are
_PURPOSE_POSES = 11  # part of the random seed, so that each purpose has its own random numbers
_PURPOSE_GROUND_TRUTH = 12
# Side of a render relative to a crop. A crop covers about 3/4 of a render's side, so the render has
# slightly more detail than the crop shows.
RENDER_SCALE = 1.5


@dataclass(frozen=True)
class GroundTruth:
    """Both people in the same poses; the swap of a[i] should look like b[i].

    Each crop is aligned by that person's own landmarks.
    """

    a: np.ndarray  # (N, S, S, 3), 0..1
    mask_a: np.ndarray  # (N, S, S, 1), 0..1
    b: np.ndarray  # (N, S, S, 3), 0..1
    mask_b: np.ndarray  # (N, S, S, 1), 0..1


@dataclass(frozen=True)
class FacePair:
    """The face sets of two people."""

    a: FaceSet
    b: FaceSet
    people: tuple | None = None  # seeds of the rendered people, or None
    seed: int = 0  # seed of the rendered people's poses

    names = ("a", "b")

    def sets(self):
        """Return the face sets, in the order of `names`."""
        return self.a, self.b

    def fit_colors(self, model):
        """Measure each person's color statistics and store them in a FaceAutoencoder."""
        for side, faces in zip(self.names, self.sets()):
            model.fit_colors(*faces.crops(faces.train), side)

    def preview(self, model):
        """Return an image grid of held-out faces, reconstructions and swaps."""
        return preview_sheet.pair_preview(model, self, self._preview_ground_truth)

    @functools.cached_property
    def _preview_ground_truth(self):
        return self.ground_truth(preview_sheet.PREVIEW_FACES)

    def batches(self, config, k, warp, substep=0, device="cpu"):
        """Return batch k: a data.datasets.augmentation.Batch for each person.

        config: gan.run.config.Config
        warp: strength of the random warp
        substep: 0 for the step's batch; 1, 2, ... for further ones with other random numbers
        device: where the images are computed
        """
        return [make_batch(faces, config.batch, config.seed, side + 2 * substep, k, flip=config.flip, warp=warp,
                           color_jitter=config.color_jitter, occlusion_prob=config.occlusion_prob, device=device)
                for side, faces in enumerate((self.a, self.b))]

    def reconstructions(self, model):
        """Reconstruct held-out faces and return [(generated, target, mask)] of A and of B.

        They are not augmented, at most HELD_OUT_FACES of each, evenly spaced. Arrays in host
        memory.
        """
        return [_reconstructions(model, faces, side) for side, faces in (("a", self.a), ("b", self.b))]

    def ground_truth(self, count):
        """Return the GroundTruth of `count` swaps in new poses, or None for photographs."""
        return None if self.people is None else _ground_truth(self.people, count, self.a.size, self.seed)


def _reconstructions(model, faces, side):
    target, mask = faces.crops(evenly_spaced(faces.held_out, HELD_OUT_FACES))
    face, generated_mask = model.generate(target, side, side)
    return face if generated_mask is None else np.concatenate([face, generated_mask], axis=-1), target, mask


def rendered_pair(people, count, size, seed, folder=None, say=None):
    """Return a FacePair of two rendered people.

    people: the two people's seeds
    count: faces of each
    size: side of the crops in pixels
    seed: of the poses
    folder: RunFolder that keeps the rendered faces, so that they are rendered only once
    say: takes messages for the user

    The last pair and its ground truth stay in memory, because all runs of a sweep train on the
    same two.
    """
    key = tuple(people), count, size, seed
    if key not in _last_pair:
        poses = [_poses(seed, _PURPOSE_POSES, side, count) for side in (0, 1)]
        cache = rendered_file(folder, f"people_{people[0]}_{people[1]}", seed, size)
        _last_pair.clear()
        _last_pair[key] = FacePair(*_rendered_sets(people, poses, size, cache, say), people=key[0], seed=seed)
    return _last_pair[key]


_last_pair = {}  # the arguments of the last rendered pair: the FacePair


def rendered_file(folder, people, seed, size):
    """Return the file of a RunFolder that keeps its rendered faces; None without a folder."""
    return folder and folder.path / f"rendered_v{RENDERER_VERSION}_{people}_seed_{seed}_size_{size}.npz"


@functools.lru_cache(maxsize=2)  # a run needs two: for its previews and for its metrics
def _ground_truth(people, count, size, seed):
    poses = _poses(seed, _PURPOSE_GROUND_TRUTH, 0, count)
    crops = [faces.crops(range(count)) for faces in _rendered_sets(people, [poses, poses], size)]
    return GroundTruth(*crops[0], *crops[1])


def photographed_pair(given_a, given_b, landmarks, size, seed, faces_folder, say=None):
    """Return a FacePair of two real people.

    given_a, given_b: folder of photographs, folder of extracted faces, or video
        (data/datasets/person.py)
    landmarks: CSV of the photographs' landmarks, or None to detect faces
    size: side of the crops in pixels
    seed: of the held-out split
    faces_folder: folder for the extracted faces
    say: takes messages for the user; None: faces extracted earlier are used without a check

    Raises FaceSetError if a person cannot be used, DetectionError if faces cannot be detected.
    """
    a, b = (load_person(given, landmarks, size, seed, faces_folder / side, say)
            for side, given in (("a", given_a), ("b", given_b)))
    if say is not None and mean_similarity(*map(_embeddings, (a, b))) > SAME_PERSON:
        say(f"  warning: {given_a} and {given_b} seem to show the same person; the swap would change nothing. "
            "Check --a and --b")
    return FacePair(a, b, seed=seed)


def _embeddings(faces):
    """Return the embeddings of some faces of a FaceSet, as a list."""
    images, landmarks = faces.images(evenly_spaced(faces.train, COMPARED_FACES))
    return [FaceEmbedder.load().embed(Face(*each)) for each in zip(images, landmarks)]


def _poses(seed, purpose, side, count):
    return [random_pose(np.random.default_rng([seed, purpose, side, k])) for k in range(count)]


def _rendered_sets(people, poses, size, cache=None, say=None):
    """Return a face set of each of two people, in that person's list of poses."""
    sets = [(f"rendered person {seed}", [(Person(seed), pose) for pose in listed])
            for seed, listed in zip(people, poses)]
    return render_sets(sets, size, round(size * RENDER_SCALE), cache, say)


def load_pair(config, folder, say=None):
    """Return the FacePair that a run's configuration names.

    folder: RunFolder
    say: takes messages for the user; None: the run's extracted faces are used without a check
    Raises FaceSetError if images are missing.
    """
    if config.people is not None:
        return rendered_pair(config.people, config.faces, config.size, config.seed, folder, say)
    return photographed_pair(config.a, config.b, config.landmarks, config.size, config.seed,
                             folder.faces, say)
