"""Training batches of the face networks: labeled faces on random backgrounds, degraded.

A FaceBank holds each labeled face once, as a padded crop: a square around the face, in which the
longer side of its box (the tight box of the 68 landmarks) takes SCALE pixels. All batches sample
from it, each face at a random size, angle and position.

    landmark_batch    crops as the landmark network gets them in its first and its second pass
    negative_crops    crops without a face
    detector_batch    patches with faces of all sizes, and the target of each cell of the detector
    embedding_batch   aligned crops, and the indices of their faces

Batch k depends on (seed, purpose, k) alone.

Legend: N faces, P side of a padded crop, n batch size, S side of a crop or patch.
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
from data.geometry.boxes import box_of, iou
from data.media.image_io import ImageError, read_image
from data.support.threads import map_threads
from data.synthetic import Person, random_pose, render

SIDE = 160  # P
SCALE = 50.0  # longer side of the face's box, in pixels of the padded crop
PATCH = 96  # side of the detector's patches
HELD_OUT = 5  # every fifth person is never trained on
_PURPOSE_RENDERED, _PURPOSE_LANDMARKS, _PURPOSE_DETECTOR, _PURPOSE_BACKGROUNDS, _PURPOSE_EMBEDDING = 31, 32, 33, 34, 36


@dataclass
class FaceBank:
    """Labeled faces as padded crops."""

    padded_crops: np.ndarray  # (N, P, P, 4) uint8: RGB, and 255 where the image is
    landmarks: np.ndarray  # (N, 68, 2) float64, pixels of the padded crop
    people: np.ndarray  # (N,) int; rendered people are negative
    files: list  # N file names

    def __post_init__(self):
        halves = self.padded_crops.reshape(len(self.padded_crops), SIDE // 2, 2, SIDE // 2, 2, 4)
        self.halved = np.stack([half.mean(axis=(1, 3)).round().astype(np.uint8) for half in halves])  # for small faces

    def __len__(self):
        return len(self.padded_crops)

    def joined(self, other):
        """Return a FaceBank of this one's faces and another's."""
        return FaceBank(np.concatenate([self.padded_crops, other.padded_crops]),
                        np.concatenate([self.landmarks, other.landmarks]),
                        np.concatenate([self.people, other.people]), self.files + other.files)


def read_table(folder):
    """Read the rows of folder/landmarks.csv as (file, landmarks (68, 2)).

    The folder of a file, person_NNN, is the person. Raises ImageError if the table has
    other columns.
    """
    table = pathlib.Path(folder) / "landmarks.csv"
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    try:
        return [(row[0], np.array(row[3:], np.float64).reshape(68, 2)) for row in rows if person_of(row[0]) >= 0]
    except (ValueError, IndexError) as error:
        raise ImageError(
            f"{table} should have rows person_NNN/FILE,width,height,x0,y0,...,x67,y67 ({error})") from error


def labeled(folder, held_out, left_out=()):
    """Return the rows of read_table of the held-out people (held_out), or of all others.

    left_out: files to leave out
    """
    return [(file, landmarks) for file, landmarks in read_table(folder)
            if is_held_out(np.array(person_of(file))) == held_out and file not in left_out]


def load_bank(folder, left_out=()):
    """Load the training people of a folder with landmarks.csv as a FaceBank. Raises ImageError."""
    rows = labeled(folder, False, left_out)
    if not rows:
        raise ImageError(f"{folder} holds no labeled images of training people; give a folder with landmarks.csv")

    def load(row):
        return _padded_crop(read_image(pathlib.Path(folder) / row[0]).pixels, row[1])

    padded_crops, landmarks = zip(*map_threads(load, rows, os.cpu_count()))
    people = np.array([person_of(file) for file, _ in rows])
    return FaceBank(np.stack(padded_crops), np.stack(landmarks), people, [file for file, _ in rows])


def person_of(file):
    """Return the number NNN of the folder person_NNN that a file is in."""
    return int(file.split("/")[0].rsplit("_", 1)[1])


def rendered_bank(count, seed):
    """Render `count` faces of different people as a FaceBank."""
    def rendered_face(k):
        rendering = render(Person(seed + k), random_pose(np.random.default_rng([seed, _PURPOSE_RENDERED, k])), SIDE)
        pixels = np.rint(np.clip(rendering.image, 0, 1) * 255).astype(np.uint8)
        return _padded_crop(pixels, rendering.landmarks.astype(np.float64))

    padded_crops, landmarks = zip(*(rendered_face(k) for k in range(count)))
    return FaceBank(np.stack(padded_crops), np.stack(landmarks), -1 - np.arange(count),
                    [f"rendered {k}" for k in range(count)])


def make_backgrounds(count, seed):
    """Return `count` textures and landscapes, (m, P, P, 3) uint8."""
    return np.stack([background(np.random.default_rng([seed, _PURPOSE_BACKGROUNDS, k]), SIDE, SIDE)
                     for k in range(count)])


def is_held_out(people):
    """Return which people are held out: never trained on."""
    return (people >= 0) & (people % HELD_OUT == 0)


def _padded_crop(pixels, landmarks):
    """Return the padded crop (P, P, 4) uint8 of a labeled face, and its landmarks in the crop."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    to_padded_crop = landmarker.square_transform((low + high) / 2, SIDE / SCALE * (high - low).max(), 0.0, SIDE)
    inside = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    edged = np.pad(np.concatenate([pixels, inside], axis=2), ((1, 1), (1, 1), (0, 0)), mode="edge")
    edged[[0, -1], :, 3], edged[:, [0, -1], 3] = 0, 0  # the border pixels are repeated: mark them as outside
    shifted = np.column_stack([to_padded_crop[:, :2], to_padded_crop[:, 2] - to_padded_crop[:, :2].sum(axis=1)])
    return np.rint(warp(edged, shifted, SIDE) * 255).astype(np.uint8), apply(to_padded_crop, landmarks)


def read_crops(bank, indices, transforms, size):
    """Sample crops (n, S, S, 4) float32 by transforms (n, 2, 3) from padded crop to crop pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    back = np.stack([invert(transform) for transform in transforms])
    # Above 1.6 pixels of the padded crop per pixel of the crop, sample from the halved ones.
    small = np.sqrt(np.abs(np.linalg.det(back[:, :, :2]))) > 1.6
    result = np.empty((len(indices), size, size, 4), np.float32)
    for padded_crops, chosen, factor in ((bank.padded_crops, ~small, 1), (bank.halved, small, 2)):
        if chosen.any():
            matrix = back[chosen] / factor
            matrix[:, :, 2] -= (factor - 1) / 2 / factor  # a halved pixel's center lies between two pixels
            matrix = matrix.astype(np.float32)[..., None, None]
            result[chosen] = nn.kernels.select(padded_crops).sample_bilinear(
                padded_crops, np.asarray(indices)[chosen],
                matrix[:, 0, 0] * x + matrix[:, 0, 1] * y + matrix[:, 0, 2],
                matrix[:, 1, 0] * x + matrix[:, 1, 1] * y + matrix[:, 1, 2])
    return result


def landmark_batch(bank, count, seed, k):
    """Return batch k for the landmark network: (crops, landmarks).

    Crops are (n, S, S, 3) float32, 0..1; landmarks (n, 68, 2) float32 in crops, 0..1.
    """
    rng = np.random.default_rng([seed, _PURPOSE_LANDMARKS, k])
    chosen = rng.choice(len(bank), count, replace=len(bank) < count)
    transforms, points = [], []
    for i in chosen:
        landmarks = bank.landmarks[i]
        to_crop = _first_pass(landmarks, rng) if rng.random() < 0.5 else _second_pass(landmarks, rng)
        found = apply(to_crop, landmarks)
        if rng.random() < 0.5:
            to_crop, found = _mirrored(to_crop, landmarker.CROP), mirror_landmarks(found, landmarker.CROP)
        transforms.append(to_crop)
        points.append((found + 0.5) / landmarker.CROP)
    crops = read_crops(bank, chosen, transforms, landmarker.CROP)[..., :3]
    return degrade(crops, rng), np.stack(points).astype(np.float32)


def _first_pass(landmarks, rng):
    """Return a transform to the crop of the first pass, as from the detector's box.

    The face is rotated by up to 45 degrees, and the box has random errors of shift and size.
    """
    angle = np.deg2rad(np.clip(rng.normal(0, 18), -45, 45))
    center, longer_side = landmarker.rotated_box(landmarks, angle)
    side = landmarker.MARGIN * longer_side
    center = center + rng.normal(0, 0.06, 2) * side
    return landmarker.square_transform(landmarker.rotate_back(center, angle), side * np.exp(rng.normal(0, 0.12)), angle,
                                       landmarker.CROP)


def _second_pass(landmarks, rng):
    """Return a transform to the crop of the second pass, as from nearly correct landmarks."""
    return _jittered(landmarker.landmarks_transform(landmarks), landmarker.CROP, rng, 5, 0.06, 0.025)


def _jittered(to_crop, size, rng, degrees, scale, shift):
    """Rotate, scale and shift a transform a little, by normally distributed amounts.

    to_crop: (2, 3), to crop pixels
    size: side of the crop in pixels
    degrees, scale, shift: standard deviations of the angle, the logarithm of the factor, and the
        shift as a fraction of the crop's side
    """
    angle, factor = np.deg2rad(rng.normal(0, degrees)), np.exp(rng.normal(0, scale))
    linear = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * factor
    center = size / 2 - 0.5
    offset = linear @ (to_crop[:, 2] - center) + center + rng.normal(0, shift, 2) * size
    return np.column_stack([linear @ to_crop[:, :2], offset])


def _mirrored(to_crop, size):
    """Return the transform to the mirror image of a crop."""
    mirrored = np.array([[-1.0, 0], [0, 1]]) @ to_crop
    mirrored[0, 2] += size - 1
    return mirrored


def embedding_batch(bank, count, seed, k):
    """Return batch k for the embedding network: (crops, indices of their faces).

    Crops are aligned, (n, S, S, 3) float32, 0..1; indices (n,). The alignment has small errors,
    like those of predicted landmarks. All people are equally frequent, however many images they
    have.
    """
    rng = np.random.default_rng([seed, _PURPOSE_EMBEDDING, k])
    people, person = np.unique(bank.people, return_inverse=True)
    members = np.argsort(person, kind="stable")
    counts = np.bincount(person)
    picked = rng.choice(len(people), count, replace=len(people) < count)
    chosen = members[(np.cumsum(counts) - counts)[picked] + rng.integers(0, counts[picked])]
    transforms = []
    for i in chosen:
        to_crop = _jittered(crop_transform(bank.landmarks[i], embedding.CROP), embedding.CROP, rng, 3, 0.04, 0.02)
        if rng.random() < 0.5:
            to_crop = _mirrored(to_crop, embedding.CROP)
        transforms.append(to_crop)
    return degrade(read_crops(bank, chosen, transforms, embedding.CROP)[..., :3], rng), chosen


def detector_batch(bank, backgrounds, count, seed, k):
    """Return batch k for the detector: (patches, targets).

    Patches are (n, S, S, 3) float32, 0..1; targets (n, S/8, S/8, 6) float32. The six numbers of a
    cell are 1 for a face, its box encoded by detector.encode, and the weight (0: ignored).

    backgrounds: (m, B, B, 3) uint8, B >= S, images without faces
    """
    rng = np.random.default_rng([seed, _PURPOSE_DETECTOR, k])
    chosen = rng.choice(len(bank), count, replace=len(bank) < count)
    transforms = [_placement(bank.landmarks[i], rng) for i in chosen]
    behind = _background_crops(backgrounds, count, rng, PATCH)
    layer = read_crops(bank, chosen, transforms, PATCH)
    shown = rng.random((count, 1, 1, 1)) < 0.8
    share = np.where(shown, layer[..., 3:], 0)
    patches = behind + share * (layer[..., :3] - behind)
    targets = np.stack([_cells(apply(to_patch, bank.landmarks[i])) if seen else _cells(None)
                        for to_patch, i, seen in zip(transforms, chosen, shown.ravel())])
    return degrade(patches.astype(np.float32), rng, 0.15), targets


def _placement(landmarks, rng):
    """Return a random transform from padded crop to patch, rotated by up to 45 degrees.

    Most faces get a size that the detector should find, others are larger or smaller.
    """
    kind = rng.random()
    if kind < 0.7:
        low, high = detector.MIN_SIZE, detector.MAX_SIZE
    else:
        low, high = (detector.MAX_SIZE, 250) if kind < 0.87 else (7, detector.MIN_SIZE)
    size = np.exp(rng.uniform(np.log(low), np.log(high)))
    reach = 0.5 * size / PATCH  # a large face's center may be further outside the patch
    x, y = (rng.uniform(-reach, 1 + reach, 2) if kind > 0.7 else rng.uniform(0, 1, 2)) * PATCH
    angle = np.deg2rad(np.clip(rng.normal(0, 18), -45, 45))
    mirror = 1 if rng.random() < 0.5 else -1
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([mirror, 1]) * size / SCALE
    center = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2
    return np.column_stack([linear, np.array([x, y]) - linear @ center])


def _cells(landmarks):
    """Return the targets (S/8, S/8, 6) of a patch.

    landmarks: (68, 2) of its face in pixels of the patch, or None
    """
    cells = np.zeros((PATCH // detector.STRIDE, PATCH // detector.STRIDE, 6), np.float32)
    cells[..., 5] = 1
    if landmarks is None:
        return cells
    box = box_of(landmarks)
    size = max(box[2] - box[0], box[3] - box[1])
    centers = detector.cell_center(np.arange(len(cells)))
    dx, dy = np.abs(centers - (box[0] + box[2]) / 2), np.abs(centers[:, None] - (box[1] + box[3]) / 2)
    distance = np.maximum(dx, dy) / size
    if detector.MIN_SIZE <= size <= detector.MAX_SIZE:
        face = distance <= max(0.16, 0.5 * detector.STRIDE / size)
        cells[distance < 0.45, 5] = 0
        cells[face, 0], cells[face, 5] = 1, 1
        for row, column in np.argwhere(face):
            cells[row, column, 1:5] = detector.encode(box, centers[column], centers[row])
    elif size < 1.4 * detector.MAX_SIZE:
        cells[distance < 0.6, 5] = 0
    return cells


def _background_crops(backgrounds, count, rng, size):
    """Cut pieces (n, size, size, 3) float32 from random positions of random backgrounds."""
    room = backgrounds.shape[1] - size
    cut = np.empty((count, size, size, 3), np.float32)
    chosen, (tops, lefts) = rng.integers(len(backgrounds), size=count), rng.integers(0, room + 1, (2, count))
    for k, (i, top, left) in enumerate(zip(chosen, tops, lefts)):
        cut[k] = backgrounds[i, top:top + size, left:left + size]
    return cut * np.float32(1 / 255)


def negative_crops(bank, backgrounds, count, rng):
    """Return crops (n, S, S, 3) float32 without a face, as the landmark network may get them.

    They show textures, surroundings, and parts of faces: far too near, too far away or off to the
    side.
    """
    size, chosen = landmarker.CROP, rng.choice(len(bank), count)
    transforms = [_off_face_transform(bank.landmarks[i], rng) for i in chosen]
    layer = read_crops(bank, chosen, transforms, size)
    behind = _background_crops(backgrounds, count, rng, size)
    share = np.where(rng.random((count, 1, 1, 1)) < 0.75, layer[..., 3:], 0)
    return degrade((behind + share * (layer[..., :3] - behind)).astype(np.float32), rng)


def _off_face_transform(landmarks, rng):
    """Return the transform of a random crop whose box has an IoU below 0.2 with the face's."""
    box = box_of(landmarks)
    while True:
        half = np.exp(rng.uniform(np.log(0.12), np.log(1.6))) * SCALE / 2
        x, y = rng.uniform(0.05, 0.95, 2) * SIDE
        if iou(np.array([x - half, y - half, x + half, y + half]), box[None])[0] < 0.2:
            side, angle = landmarker.MARGIN * 2 * half, rng.uniform(-0.6, 0.6)
            return landmarker.square_transform((x, y), side, angle, landmarker.CROP)
