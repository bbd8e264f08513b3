"""What the face finder's networks learn from: pictures with landmarks, cut, turned, degraded, and put on other backgrounds.

A Bank holds each labelled face once, as a canvas: a square around the face in which the longer side of its box (the tight box of
the 68 points) takes SCALE pixels. All batches read from it, each face at a size, angle and place of its own.

    landmark_batch   crops as the landmark network meets them, in its first pass and in its second, and crops without a face
    detector_batch   patches of pictures with faces of all sizes, and what each cell of the detector should say
    identity_batch   aligned crops, and whose they are

Batch k depends on (seed, purpose, k) alone. Legend: N faces, P side of a canvas, n batch, S side of a crop or patch.
"""
import csv
import os
import pathlib
from dataclasses import dataclass

import numpy as np

import nn
from data.detection import detector, embedding, landmarker
from data.detection.training.degrade import degrade
from data.detection.training.scenes import background
from data.geometry.alignment import apply, crop_transform, invert, mirror_landmarks, warp
from data.geometry.boxes import box_of, overlap
from data.media.image_io import PictureError, read_picture
from data.support.threads import in_threads
from data.synthetic import Person, random_pose, render

SIDE = 160  # P
SCALE = 50.0  # pixels of a canvas for the longer side of the face's box
PATCH = 96  # side of the detector's patches
HELD_OUT = 5  # every fifth person is never trained on
_PURPOSE_RENDERED, _PURPOSE_LANDMARKS, _PURPOSE_DETECTOR, _PURPOSE_BACKGROUNDS, _PURPOSE_IDENTITY = 31, 32, 33, 34, 36


@dataclass
class Bank:
    """Labelled faces as canvases."""

    canvases: np.ndarray  # (N, P, P, 4) uint8: RGB, and 255 where the picture is
    points: np.ndarray  # (N, 68, 2) float64, canvas pixels
    people: np.ndarray  # (N,) int; rendered people are negative
    files: list  # N names

    def __post_init__(self):
        halves = self.canvases.reshape(len(self.canvases), SIDE // 2, 2, SIDE // 2, 2, 4)
        self.halved = np.stack([half.mean(axis=(1, 3)).round().astype(np.uint8) for half in halves])  # for small faces

    def __len__(self):
        return len(self.canvases)

    def part(self, chosen):
        """The faces at these indices, as a Bank."""
        return Bank(self.canvases[chosen], self.points[chosen], self.people[chosen], [self.files[i] for i in chosen])

    def joined(self, other):
        """This Bank's faces and the other's."""
        return Bank(np.concatenate([self.canvases, other.canvases]), np.concatenate([self.points, other.points]),
                    np.concatenate([self.people, other.people]), self.files + other.files)


def read_table(folder):
    """Rows of folder/landmarks.csv: (file, landmarks (68, 2)) each. The person is the file's folder, person_NNN. Raises
    PictureError for a table that is not of this kind."""
    table = pathlib.Path(folder) / "landmarks.csv"
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    try:
        return [(row[0], np.array(row[3:], np.float64).reshape(68, 2)) for row in rows if person_of(row[0]) >= 0]
    except (ValueError, IndexError) as error:
        raise PictureError(f"{table} should have rows person_NNN/FILE,width,height,x0,y0,...,x67,y67 ({error})") from error


def labelled(folder, held_out, left_out=()):
    """The rows of read_table of the held-out people, or of all others, without the files in left_out."""
    return [(file, landmarks) for file, landmarks in read_table(folder)
            if is_held_out(np.array(person_of(file))) == held_out and file not in left_out]


def load_bank(folder, left_out=()):
    """The Bank of the people who are trained on, of a folder with landmarks.csv. Raises PictureError."""
    rows = labelled(folder, False, left_out)
    if not rows:
        raise PictureError(f"{folder} holds no labelled pictures")
    cut = in_threads(lambda row: _canvas(read_picture(pathlib.Path(folder) / row[0]).pixels, row[1]), rows, os.cpu_count())
    people = np.array([person_of(file) for file, _ in rows])
    return Bank(np.stack([c for c, _ in cut]), np.stack([p for _, p in cut]), people, [file for file, _ in rows])


def person_of(file):
    """The number of the person whose folder, person_NNN, a file lies in."""
    return int(file.split("/")[0].rsplit("_", 1)[1])


def rendered_bank(count, seed):
    """`count` rendered faces, each of another person."""
    def draw(k):
        made = render(Person(seed + k), random_pose(np.random.default_rng([seed, _PURPOSE_RENDERED, k])), SIDE)
        return _canvas(np.rint(np.clip(made.image, 0, 1) * 255).astype(np.uint8), made.landmarks.astype(np.float64))

    cut = [draw(k) for k in range(count)]
    return Bank(np.stack([c for c, _ in cut]), np.stack([p for _, p in cut]), -1 - np.arange(count),
                [f"rendered {k}" for k in range(count)])


def make_backgrounds(count, seed):
    """`count` textures and landscapes, (m, P, P, 3) uint8."""
    return np.stack([background(np.random.default_rng([seed, _PURPOSE_BACKGROUNDS, k]), SIDE, SIDE) for k in range(count)])


def is_held_out(people):
    """Which people are never trained on."""
    return (people >= 0) & (people % HELD_OUT == 0)


def _canvas(pixels, landmarks):
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    to_canvas = landmarker.square_transform((low + high) / 2, SIDE / SCALE * (high - low).max(), 0.0, SIDE)
    inside = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    edged = np.pad(np.concatenate([pixels, inside], axis=2), ((1, 1), (1, 1), (0, 0)), mode="edge")
    edged[[0, -1], :, 3], edged[:, [0, -1], 3] = 0, 0  # the border is repeated outwards: so nothing is inside there
    shifted = np.column_stack([to_canvas[:, :2], to_canvas[:, 2] - to_canvas[:, :2].sum(axis=1)])
    return np.rint(warp(edged, shifted, SIDE) * 255).astype(np.uint8), apply(to_canvas, landmarks)


def read_crops(bank, indices, transforms, size):
    """Crops (n, S, S, 4) float32 of faces, through transforms (n, 2, 3) from canvas to crop pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    back = np.stack([invert(transform) for transform in transforms])
    small = np.sqrt(np.abs(np.linalg.det(back[:, :, :2]))) > 1.6  # canvas pixels a crop pixel: read from the halved canvases
    result = np.empty((len(indices), size, size, 4), np.float32)
    for canvases, chosen, factor in ((bank.canvases, ~small, 1), (bank.halved, small, 2)):
        if chosen.any():
            b = back[chosen] / factor
            b[:, :, 2] -= (factor - 1) / 2 / factor
            b = b.astype(np.float32)[..., None, None]
            result[chosen] = nn.kernels.select(canvases).sample_bilinear(
                canvases, np.asarray(indices)[chosen], b[:, 0, 0] * x + b[:, 0, 1] * y + b[:, 0, 2],
                b[:, 1, 0] * x + b[:, 1, 1] * y + b[:, 1, 2])
    return result


def landmark_batch(bank, count, seed, k):
    """Batch k for the landmark network: crops (n, S, S, 3) float32 and points (n, 68, 2) float32 in crops (0..1)."""
    rng = np.random.default_rng([seed, _PURPOSE_LANDMARKS, k])
    chosen = rng.choice(len(bank), count, replace=len(bank) < count)
    transforms, points = [], []
    for i in chosen:
        landmarks = bank.points[i]
        to_crop = _first_pass(landmarks, rng) if rng.random() < 0.5 else _second_pass(landmarks, rng)
        found = apply(to_crop, landmarks)
        if rng.random() < 0.5:
            to_crop, found = _mirrored(to_crop, landmarker.CROP), mirror_landmarks(found, landmarker.CROP)
        transforms.append(to_crop)
        points.append((found + 0.5) / landmarker.CROP)
    crops = read_crops(bank, chosen, transforms, landmarker.CROP)[..., :3]
    return degrade(crops, rng), np.stack(points).astype(np.float32)


def _first_pass(landmarks, rng):
    """A box as the detector gives it, of a face turned by up to 45 degrees: off by a twentieth, too large or too small."""
    angle = np.deg2rad(np.clip(rng.normal(0, 18), -45, 45))
    middle, longest = landmarker.turned_box(landmarks, angle)
    side = landmarker.MARGIN * longest
    middle = middle + rng.normal(0, 0.06, 2) * side
    return landmarker.square_transform(landmarker.turned_back(middle, angle), side * np.exp(rng.normal(0, 0.12)), angle,
                                       landmarker.CROP)


def _second_pass(landmarks, rng):
    """The crop of points that are nearly right."""
    return _nudged(landmarker.points_transform(landmarks), landmarker.CROP, rng, 5, 0.06, 0.025)


def _nudged(to_crop, size, rng, degrees, scale, shift):
    """A transform turned, scaled and shifted a little; the amounts are standard deviations, the shift's in crops."""
    angle, factor = np.deg2rad(rng.normal(0, degrees)), np.exp(rng.normal(0, scale))
    linear = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * factor
    middle = size / 2 - 0.5
    return np.column_stack([linear @ to_crop[:, :2], linear @ (to_crop[:, 2] - middle) + middle + rng.normal(0, shift, 2) * size])


def _mirrored(to_crop, size):
    """The transform to the mirror image of its crop."""
    mirrored = np.array([[-1.0, 0], [0, 1]]) @ to_crop
    mirrored[0, 2] += size - 1
    return mirrored


def identity_batch(bank, count, seed, k):
    """Batch k for the likeness network: aligned crops (n, S, S, 3) float32, cut a little beside where they should be, as found
    landmarks are, and the indices (n,) of their faces. People come equally often, however many pictures they have."""
    rng = np.random.default_rng([seed, _PURPOSE_IDENTITY, k])
    people, person = np.unique(bank.people, return_inverse=True)
    members = np.argsort(person, kind="stable")
    counts = np.bincount(person)
    drawn = rng.choice(len(people), count, replace=len(people) < count)
    chosen = members[(np.cumsum(counts) - counts)[drawn] + rng.integers(0, counts[drawn])]
    transforms = []
    for i in chosen:
        to_crop = _nudged(crop_transform(bank.points[i], embedding.CROP), embedding.CROP, rng, 3, 0.04, 0.02)
        if rng.random() < 0.5:
            to_crop = _mirrored(to_crop, embedding.CROP)
        transforms.append(to_crop)
    return degrade(read_crops(bank, chosen, transforms, embedding.CROP)[..., :3], rng), chosen


def detector_batch(bank, backgrounds, count, seed, k):
    """Batch k for the detector: patches (n, S, S, 3) float32 and targets (n, S/8, S/8, 6) float32: 1 for a face, its box as
    detector.encode tells it, and the weight of the cell (0: it may say what it likes).

    backgrounds: (m, B, B, 3) uint8, B >= S, pictures without faces.
    """
    rng = np.random.default_rng([seed, _PURPOSE_DETECTOR, k])
    chosen = rng.choice(len(bank), count, replace=len(bank) < count)
    transforms = [_placement(bank.points[i], rng) for i in chosen]
    behind = _cut_backgrounds(backgrounds, count, rng, PATCH)
    layer = read_crops(bank, chosen, transforms, PATCH)
    shown = rng.random((count, 1, 1, 1)) < 0.8
    share = np.where(shown, layer[..., 3:], 0)
    patches = behind + share * (layer[..., :3] - behind)
    targets = np.stack([_cells(apply(to_patch, bank.points[i])) if seen else _cells(None)
                        for to_patch, i, seen in zip(transforms, chosen, shown.ravel())])
    return degrade(patches.astype(np.float32), rng, 0.15), targets


def _placement(landmarks, rng):
    """Canvas -> patch: mostly of a size that should be found, else larger or smaller; turned by up to 45 degrees."""
    kind = rng.random()
    low, high = (detector.LEAST, detector.MOST) if kind < 0.7 else (detector.MOST, 250) if kind < 0.87 else (7, detector.LEAST)
    size = np.exp(rng.uniform(np.log(low), np.log(high)))
    reach = 0.5 * size / PATCH  # the face's middle may lie outside the patch, the more so the larger the face is
    x, y = (rng.uniform(-reach, 1 + reach, 2) if kind > 0.7 else rng.uniform(0, 1, 2)) * PATCH
    angle = np.deg2rad(np.clip(rng.normal(0, 18), -45, 45))
    mirror = 1 if rng.random() < 0.5 else -1
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([mirror, 1]) * size / SCALE
    middle = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2
    return np.column_stack([linear, np.array([x, y]) - linear @ middle])


def _cells(landmarks):
    """What the cells of a patch should say: (S/8, S/8, 6)."""
    cells = np.zeros((PATCH // detector.STRIDE, PATCH // detector.STRIDE, 6), np.float32)
    cells[..., 5] = 1
    if landmarks is None:
        return cells
    box = box_of(landmarks)
    size = max(box[2] - box[0], box[3] - box[1])
    at = detector.cell_centre(np.arange(len(cells)))
    far = np.maximum(np.abs(at - (box[0] + box[2]) / 2), np.abs(at[:, None] - (box[1] + box[3]) / 2)) / size
    if detector.LEAST <= size <= detector.MOST:
        face = far <= max(0.16, 0.5 * detector.STRIDE / size)
        cells[far < 0.45, 5] = 0
        cells[face, 0], cells[face, 5] = 1, 1
        for row, column in np.argwhere(face):
            cells[row, column, 1:5] = detector.encode(box, at[column], at[row])
    elif size < 1.4 * detector.MOST:
        cells[far < 0.6, 5] = 0
    return cells


def _cut_backgrounds(backgrounds, count, rng, size):
    """(n, size, size, 3) float32, from random places of random backgrounds."""
    room = backgrounds.shape[1] - size
    cut = np.empty((count, size, size, 3), np.float32)
    for k, (i, top, left) in enumerate(zip(rng.integers(len(backgrounds), size=count), *rng.integers(0, room + 1, (2, count)))):
        cut[k] = backgrounds[i, top:top + size, left:left + size]
    return cut * np.float32(1 / 255)


def negative_crops(bank, backgrounds, count, rng):
    """Crops (n, S, S, 3) float32 without a face, as the landmark network may meet them: pieces of textures, of surroundings,
    and of faces, from far too near, too far or beside them."""
    size, chosen = landmarker.CROP, rng.choice(len(bank), count)
    transforms = [_beside(bank.points[i], rng) for i in chosen]
    layer = read_crops(bank, chosen, transforms, size)
    behind = _cut_backgrounds(backgrounds, count, rng, size)
    share = np.where(rng.random((count, 1, 1, 1)) < 0.75, layer[..., 3:], 0)
    return degrade((behind + share * (layer[..., :3] - behind)).astype(np.float32), rng)


def _beside(landmarks, rng):
    """A crop whose box shares less than a fifth with the face's."""
    box = box_of(landmarks)
    while True:
        half = np.exp(rng.uniform(np.log(0.12), np.log(1.6))) * SCALE / 2
        x, y = rng.uniform(0.05, 0.95, 2) * SIDE
        if overlap(np.array([x - half, y - half, x + half, y + half]), box[None])[0] < 0.2:
            return landmarker.square_transform((x, y), landmarker.MARGIN * 2 * half, rng.uniform(-0.6, 0.6), landmarker.CROP)
