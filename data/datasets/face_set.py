"""Load a folder of faces into arrays, split into a training set and a validation set.

Each face is stored as a padded crop: larger and denser than the crop, so that batches can cut
rotated, scaled and shifted crops from it without inventing a border. Its side is 1.4 times that of
the crop, which has room for a crop rotated by 10 degrees, enlarged by 5 % and shifted by 5 %. It
has 1.5 pixels per pixel of the crop, so that its own averaging and the later bilinear sampling
together blur no more than one direct resampling would.

Legend: N faces, S side of a crop, P side of a padded crop, n faces requested, h, w height and width
of an image file. Landmarks are (68, 2) in pixels of the crop, x then y, pixel centers at integers.
"""

import functools
import hashlib
import pathlib
import re
from dataclasses import dataclass, field

import numpy as np

import nn
from data.geometry.alignment import apply, crop_transform, invert, scale_of, warp
from data.geometry.landmarks import face_shape_problem, landmark_problem
from data.geometry.masks import face_mask
from data.geometry.padded_crop import PADDED_CROP_DENSITY, padded_crop_side
from data.interchange.landmarks_csv import read_landmarks
from data.media.frame_source import group_by_clip
from data.media.image_io import ImageError, list_images, read_image
from data.support.errors import FaceSetError
from data.support.process_pool import map_processes, useful_workers
from data.support.threads import map_threads

MIN_FACES = 4
HELD_OUT_SHARE = 0.18

COLUMNS = ("padded_crop", "landmarks", "transform", "digest")  # the arrays of each face
_FACE_SECONDS = 0.018  # CPU time to read and crop a face: many short steps, in which threads would block each other
_IDENTITY = np.eye(2, 3)  # the transform that changes nothing
_EDGE = 0.04  # width, as a share of the crop, over which the mask falls to 0 at the border of the image


@dataclass(frozen=True)
class AlignedFace:
    """A face that some program extracted from an image, with the data of its file."""

    pixels: np.ndarray  # (h, w, 3) uint8
    landmarks: np.ndarray  # (68, 2) in these pixels
    source: str  # name of the image or video that it was extracted from
    frame: int | None = None  # its number in the video
    transform: np.ndarray | None = None  # (2, 3) source pixels -> these pixels, if known
    shape: tuple | None = None  # (height, width) of the source, if known


@dataclass
class FaceSet:
    """The faces of one person (or of several, joined) in the form that training needs."""

    name: str
    size: int  # S
    padded_crops: np.ndarray  # (N, P, P, 4) uint8: RGB and mask
    landmarks: np.ndarray  # (N, 68, 2) float32, pixels of the crop
    transforms: np.ndarray  # (N, 2, 3) float64, image pixels -> crop pixels
    files: list  # N names, as in the CSV
    digests: list  # N SHA-256 of the image files
    groups: np.ndarray  # (N,) int: the clip that each face comes from
    train: np.ndarray  # indices of the training set
    held_out: np.ndarray  # indices of the validation set; no clip is in both sets, unless a note says so
    skipped: list = field(default_factory=list)  # (file, reason)
    notes: list = field(default_factory=list)  # warnings for the user
    # The padded crops on a GPU, copied when the first batch is made there.
    _on_device: list = field(default_factory=list, init=False, repr=False, compare=False)

    def __len__(self):
        return len(self.files)

    @property
    def nbytes(self):
        """Size of the padded crops in bytes."""
        return self.padded_crops.nbytes

    def sample(self, indices, x, y):
        """Sample faces at any positions, bilinearly.

        indices: (n,), which faces
        x, y: (n, ...) float32, crop pixels; beyond the padded crop its border is repeated
        Returns (n, ..., 4) float32 0..1, RGB and mask, on the device of x and y. All padded crops
        are copied there once.
        """
        padded_crops = self.padded_crops
        if nn.backend.device_of(x) != "cpu":
            self._on_device = self._on_device or [nn.backend.to_device(padded_crops, nn.backend.device_of(x))]
            padded_crops = self._on_device[0]
        scale, shift = np.float32(PADDED_CROP_DENSITY), np.float32(self._margin)
        x, y = x * scale + shift, y * scale + shift
        return nn.kernels.select(padded_crops).sample_bilinear(padded_crops, indices, x, y)

    @property
    def _margin(self):
        """Position of the crop's first pixel in the padded crop; their centers coincide."""
        return (padded_crop_side(self.size) - 1) / 2 - PADDED_CROP_DENSITY * (self.size - 1) / 2

    def images(self, indices):
        """Return (padded crops, landmarks) of the faces at `indices` (n,).

        Padded crops are (n, P, P, 3) uint8, landmarks (n, 68, 2) float64 in their pixels.
        """
        pixels = np.ascontiguousarray(self.padded_crops[indices, ..., :3])
        return pixels, self.landmarks[indices].astype(np.float64) * PADDED_CROP_DENSITY + self._margin

    def crops(self, indices):
        """Return crops of the faces at `indices` (n,), without augmentation: (images, masks).

        Images are (n, S, S, 3), masks (n, S, S, 1), float32 0..1.
        """
        indices = np.asarray(indices, np.intp)
        y, x = np.mgrid[: self.size, : self.size].astype(np.float32)
        grid = (len(indices), self.size, self.size)
        values = self.sample(indices, np.broadcast_to(x, grid), np.broadcast_to(y, grid))
        return np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3:])


def load_faces(folder, landmarks_csv, size, seed=0):
    """Load the faces of a folder of images with known landmarks.

    folder: images; those in subfolders are used if the CSV names them
    landmarks_csv: columns file, width, height, x0, y0 ... x67, y67; paths relative to the CSV,
                   pixels of upright images
    size: side S of the crops
    seed: decides which clips are held out
    Returns a FaceSet. A face that cannot be used is skipped, with the reason in `.skipped`. Raises
    FaceSetError if fewer than 4 faces are left.
    """
    folder, table = pathlib.Path(folder), pathlib.Path(landmarks_csv)
    if not folder.is_dir():
        raise FaceSetError(f"the folder {folder} does not exist; give a folder of images")
    rows, skipped = read_landmarks(table, folder)
    named = {(table.parent / file).resolve() for file, *_ in [*rows, *skipped]}
    images = list_images(folder)
    if not images and not rows:
        raise FaceSetError(f"the folder {folder} holds no images; put photos of one person into it")
    skipped += [(str(p), f"no row in {table.name}") for p in images if p.resolve() not in named]
    if not rows:
        raise FaceSetError(f"{table} has no usable row for the images in {folder}; its paths must be relative to it"
                           + _skipped_text(skipped))  # fmt: skip
    faces = map_processes(functools.partial(_load_face, table.parent, size), rows,
                          useful_workers(len(rows), _FACE_SECONDS))
    return _face_set(folder, [(row[0], face) for row, face in zip(rows, faces)], size, seed, skipped)


def load_aligned(folder, paths, read, size, seed=0, skipped=()):
    """Load faces that were extracted before.

    folder: path that names the set
    paths: image files
    read: path -> AlignedFace; raises ImageError for a face to skip
    size, seed: as in load_faces
    skipped: (file, reason) of faces that the caller skipped
    Returns a FaceSet. Its masks end at the border of the face image, and of the image that this was
    extracted from. Raises FaceSetError if fewer than 4 faces are left.
    """
    faces = map_processes(functools.partial(_crop_read, size), (_read_aligned(path, read) for path in paths),
                          useful_workers(len(paths), _FACE_SECONDS))
    return _face_set(folder, [(path.name, face) for path, face in zip(paths, faces)], size, seed, skipped)


def _face_set(folder, loaded, size, seed, skipped):
    """Return the FaceSet of a folder. Raises FaceSetError if it has too few faces.

    loaded: [(name, the face's arrays as a dict, or the reason (str) why it is skipped)]
    skipped: (file, reason) of other faces
    """
    skipped = [*skipped, *((name, face) for name, face in loaded if isinstance(face, str))]
    faces = sorted((face for _, face in loaded if not isinstance(face, str)), key=lambda face: _natural(face["file"]))
    if len(faces) < MIN_FACES:
        raise FaceSetError(f"{folder} has {len(faces)} usable faces, at least {MIN_FACES} are needed"
                           f"{_skipped_text(skipped)}")
    files = [face["file"] for face in faces]
    groups = group_by_clip(files, [face["shape"] for face in faces])
    return assemble(folder.name, size, files, _columns(faces), groups, seed, skipped)


def _read_aligned(path, read):
    """Return (AlignedFace, digest of its file), or the reason (str) why the face is skipped."""
    try:
        face = read(path)
        if not np.isfinite(face.landmarks).all():
            return "landmarks that are not finite numbers"
        return face_shape_problem(face.landmarks) or (face, hashlib.sha256(path.read_bytes()).hexdigest())
    except (ImageError, OSError) as error:
        return str(error)


def _crop_read(size, result):
    """Turn a result of _read_aligned into a dict of a face's arrays.

    A reason is returned unchanged.
    """
    if isinstance(result, str):
        return result
    face, digest = result
    file = face.source if face.frame is None else f"{face.source}_{face.frame:06d}"
    return _crop_aligned(face, size) | {"file": file, "shape": face.shape or face.pixels.shape[:2], "digest": digest}


def _crop_aligned(face, size):
    """Crop an AlignedFace and return a dict of its arrays.

    The transform starts from the source image, whose pixels determine the amount of detail.
    """
    images = [(_IDENTITY, face.pixels.shape[:2])]
    if face.transform is None:
        return _crop(face.pixels, face.landmarks, size, images)
    if face.shape is not None:
        images.append((invert(face.transform), face.shape))
    arrays = _crop(face.pixels, face.landmarks, size, images)
    linear, shift = arrays["transform"][:, :2], arrays["transform"][:, 2]
    from_source = np.column_stack([linear @ face.transform[:, :2], linear @ face.transform[:, 2] + shift])
    return arrays | {"transform": from_source}


def from_renders(name, renders, size, seed=0):
    """Return a FaceSet of rendered faces, processed like photos.

    Each render counts as its own clip.

    name: the set's name
    renders: at least 4 objects with .image (R, R, 3) float32 0..1 and .landmarks (68, 2) in its
             pixels. A crop takes about 3/4 of a render's side, so R = 4/3 S gives the detail of S.
             The padded crop shows the background beyond it.
    size: side S of the crops
    seed: as in load_faces
    """
    faces = map_threads(lambda render: face_of_render(render, size), renders)
    return assemble(name, size, files_of_renders(name, len(faces)), _columns(faces), np.arange(len(faces)), seed)


def face_of_render(render, size):
    """Return the arrays of a rendered face and its digest as a dict; see _crop."""
    pixels = np.rint(np.clip(render.image, 0, 1) * 255).astype(np.uint8)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return _crop(pixels, np.asarray(render.landmarks, np.float64), size) | {"digest": digest}


def files_of_renders(name, count):
    """Return names for `count` rendered faces. Raises FaceSetError if these are too few."""
    if count < MIN_FACES:
        raise FaceSetError(f"{name} has {count} rendered faces, at least {MIN_FACES} are needed")
    return [f"{name}/{i:05d}" for i in range(count)]


def evenly_spaced(indices, count):
    """Return at most `count` of the indices (N,), evenly spaced."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)]


def join_face_sets(name, sets):
    """Concatenate several FaceSets with crops of the same size.

    Clips of different sets stay different clips.
    """
    face_shifts = np.cumsum([0, *(len(each) for each in sets)])[:-1]
    clip_shifts = np.cumsum([0, *(each.groups.max() + 1 for each in sets)])[:-1]

    def column(attribute, shifts=None):
        parts = [getattr(each, attribute) for each in sets]
        return np.concatenate(parts if shifts is None else [part + shift for part, shift in zip(parts, shifts)])

    def listed(attribute):
        return [entry for each in sets for entry in getattr(each, attribute)]

    return FaceSet(
        name, sets[0].size, column("padded_crops"), column("landmarks"), column("transforms"),
        listed("files"), listed("digests"), column("groups", clip_shifts), column("train", face_shifts),
        column("held_out", face_shifts), listed("skipped"), listed("notes"),
    )  # fmt: skip


def _load_face(base, size, row):
    """Return a face's arrays as a dict, or the reason (str) why it is skipped."""
    name, width, height, landmarks = row
    try:
        image = read_image(base / name)
        shape = image.pixels.shape[:2]
        if problem := landmark_problem(landmarks, (width, height), shape):
            return problem
        face = _crop(image.pixels, landmarks, size, [(_IDENTITY, shape)])
        digest = hashlib.sha256((base / name).read_bytes()).hexdigest()
        return face | {"file": name, "shape": shape, "digest": digest}
    except (ImageError, OSError) as error:
        return str(error)


def _crop(pixels, landmarks, size, images=()):
    """Return one face's padded crop (P, P, 4), landmarks (68, 2) and transform (2, 3) as a dict.

    pixels: (h, w, 3) uint8
    landmarks: (68, 2) in these pixels; those returned are in crop pixels
    size: side S of the crop
    images: [(transform from `pixels` to another image, its (height, width)), ...]; the mask ends at
            the border of each, because the padded crop repeats the border pixels beyond it
    """
    to_crop = crop_transform(landmarks, size)
    side = padded_crop_side(size)
    to_padded_crop = to_crop * PADDED_CROP_DENSITY
    to_padded_crop[:, 2] += (side - 1) / 2 - PADDED_CROP_DENSITY * (size - 1) / 2
    mask = face_mask(apply(to_padded_crop, landmarks), (side, side))
    for transform, shape in images:
        mask *= _inside_image(to_padded_crop, transform, shape, side, _EDGE * size * PADDED_CROP_DENSITY)
    padded_crop = np.empty((side, side, 4), np.uint8)
    padded_crop[..., :3] = np.rint(warp(pixels, to_padded_crop, side) * 255)
    padded_crop[..., 3] = np.rint(mask * 255)
    return {"padded_crop": padded_crop, "landmarks": apply(to_crop, landmarks).astype(np.float32), "transform": to_crop}


def _inside_image(to_padded_crop, transform, shape, side, feather):
    """Return a mask (P, P) float32: 0 beyond an image, rising to 1 inside it.

    to_padded_crop: (2, 3), from face pixels
    transform: (2, 3), from face pixels to the image
    shape: (height, width) of the image
    side: P
    feather: width of the rise in pixels of the padded crop
    """
    y, x = np.mgrid[:side, :side]
    points = apply(transform, apply(invert(to_padded_crop), np.stack([x, y], axis=-1)))  # (P, P, 2), image pixels
    depth = np.minimum(points + 0.5, np.array(shape[::-1]) - 0.5 - points).min(axis=-1)
    depth *= scale_of(to_padded_crop) / scale_of(transform)  # in padded crop pixels
    ramp = np.clip(depth / feather, 0, 1).astype(np.float32)
    return ramp * ramp * (3 - 2 * ramp)


def _columns(faces):
    """Stack the arrays of faces, given as dicts."""
    return {name: np.stack([face[name] for face in faces]) for name in COLUMNS}


def assemble(name, size, files, columns, groups, seed=0, skipped=()):
    """Return a FaceSet of the arrays of its faces, {name in COLUMNS: (N, ...)}."""
    train, held_out, notes = split_by_clip(groups, seed)
    return FaceSet(name, size, columns["padded_crop"], columns["landmarks"], columns["transform"], files,
                   columns["digest"].tolist(), groups, train, held_out, list(skipped), notes)


def split_by_clip(groups, seed):
    """Split faces into a training and a validation set: return (train, held_out, notes).

    train, held_out: indices of faces; no clip is in both
    notes: warnings for the user

    Whole clips are held out, about 18 % of the faces, and at least 3 faces are left to train on. If
    there is only one clip, or a clip is too large for that, the last faces are held out instead,
    and a note warns of it.

    groups: (N,) int, the clip of each face
    """
    count = len(groups)
    clips, sizes = np.unique(groups, return_counts=True)
    limit = max(HELD_OUT_SHARE * count, sizes.min())
    chosen, held = [], 0
    for i in np.random.default_rng(seed).permutation(len(clips)):
        if held + sizes[i] <= limit:
            chosen.append(clips[i])
            held += sizes[i]
    if len(clips) > 1 and count - held >= 3:
        is_held_out = np.isin(groups, chosen)
        return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out), []
    last = max(1, round(HELD_OUT_SHARE * count))
    note = (f"all {count} faces seem to come from one clip; the last {last} are held out, but they resemble their "
            "neighbors, so held-out metrics are too good")
    return np.arange(count - last), np.arange(count - last, count), [note]


def _natural(name):
    """Return a sorting key that puts frame 9 before frame 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _skipped_text(skipped):
    """Return the first few skipped faces with their reasons, for the end of a message."""
    if not skipped:
        return ""
    shown = "; ".join(f"{file}: {reason}" for file, reason in skipped[:3])
    return f" ({len(skipped)} skipped: {shown}{'; ...' if len(skipped) > 3 else ''})"
