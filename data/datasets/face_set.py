"""A folder of faces becomes arrays: one canvas a face, a part to train on and a part held out.

Around each face a canvas is kept: a larger and denser crop, from which batches cut rotated, scaled and shifted crops
without inventing a border. It is 1.4 times the crop, which holds a crop turned by 10 degrees, enlarged by 5 % and shifted
by 5 %; and it has 1.5 pixels for one of the crop, so that its own averaging and the bilinear reading after it together blur
as little as one direct resampling would.

Legend: N faces, S side of a crop, P side of a canvas, n faces asked for, h, w height and width of what is read. Landmarks
are (68, 2) in pixels of the crop, x then y, pixel centres at integers.
"""

import functools
import hashlib
import pathlib
import re
from dataclasses import dataclass, field

import numpy as np

import nn
from data.geometry.alignment import apply, crop_transform, invert, scale_of, warp
from data.geometry.landmarks import landmark_fault, shape_fault
from data.geometry.masks import face_mask
from data.geometry.padded_crop import DENSITY, canvas_side
from data.interchange.landmarks_csv import read_landmarks
from data.media.image_io import PictureError, list_pictures, read_picture
from data.support.errors import FaceSetError
from data.support.process_pool import made, useful_workers
from data.support.threads import in_threads

LEAST_FACES = 4
HELD_OUT_SHARE = 0.18

_SECONDS = 0.018  # of a core that reading and cutting a face takes: many short steps, for which threads would wait for one another
_SAME = np.eye(2, 3)  # the transform that changes nothing
_EDGE = 0.04  # of the crop: over this width the mask falls to 0 where the picture ends


@dataclass(frozen=True)
class AlignedFace:
    """A face that some program cut out of a picture, with what its file tells of it."""

    pixels: np.ndarray  # (h, w, 3) uint8
    landmarks: np.ndarray  # (68, 2) in these pixels
    source: str  # name of the picture or clip that it was cut from
    frame: int | None = None  # of the clip
    transform: np.ndarray | None = None  # (2, 3) source pixels -> these pixels, where it is known
    shape: tuple | None = None  # (height, width) of the source, where it is known


@dataclass
class FaceSet:
    """Faces as training takes them."""

    name: str
    size: int  # S
    canvas: np.ndarray  # (N, P, P, 4) uint8: RGB and the one mask
    landmarks: np.ndarray  # (N, 68, 2) float32, pixels of the crop
    transforms: np.ndarray  # (N, 2, 3) float64, picture pixels -> crop pixels
    files: list  # N names, as in the CSV
    digests: list  # N SHA-256 of the picture files
    groups: np.ndarray  # (N,) int: the clip that each face comes from
    train: np.ndarray  # indices
    held_out: np.ndarray  # indices; no clip lies in both parts
    skipped: list = field(default_factory=list)  # (file, reason)
    notes: list = field(default_factory=list)  # what the user should know
    _there: list = field(default_factory=list, init=False, repr=False, compare=False)  # the canvas on a GPU, once batches are made there

    def __len__(self):
        return len(self.files)

    def arrays(self, indices):
        """(canvas, landmarks) of all faces, of which those at `indices` (n,) at least are there: of all, unless faces are still
        being rendered (data/datasets/rendered.py)."""
        return self.canvas, self.landmarks

    def complete(self):
        """Whether all faces are there."""
        return True

    def stop(self):
        """Make no more faces than are waited for."""

    @property
    def nbytes(self):
        """The size of the canvases."""
        return len(self) * 4 * canvas_side(self.size) ** 2

    def sample(self, indices, x, y):
        """Read faces at any positions, bilinearly.

        indices: (n,) which faces. x, y: (n, ...) float32, crop pixels. Beyond the canvas its border is repeated.
        Returns (n, ..., 4) float32 0..1: RGB and mask, on the device of x and y. All canvases are brought there once.
        """
        shift = np.float32(self._margin)
        if nn.backend.device_of(x) == "cpu":
            canvas = self.arrays(indices)[0]
        else:
            self._there = self._there or [nn.backend.to_device(self.canvas, nn.backend.device_of(x))]
            canvas = self._there[0]
        return nn.kernels.select(canvas).sample_bilinear(canvas, indices, x * np.float32(DENSITY) + shift, y * np.float32(DENSITY) + shift)

    @property
    def _margin(self):
        """Where the crop's first pixel lies in the canvas: the centres of both coincide."""
        return (canvas_side(self.size) - 1) / 2 - DENSITY * (self.size - 1) / 2

    def pictures(self, indices):
        """Faces with what surrounds them, as much as the canvas keeps: uint8 (n, P, P, 3), and their landmarks (n, 68, 2) in
        these pixels, float64."""
        canvas, landmarks = self.arrays(indices)
        pixels = np.ascontiguousarray(canvas[indices, ..., :3])
        return pixels, landmarks[indices].astype(np.float64) * DENSITY + self._margin

    def crops(self, indices):
        """The plain crops of faces: images (n, S, S, 3) and masks (n, S, S, 1), float32 0..1."""
        indices = np.asarray(indices, np.intp)
        y, x = np.mgrid[: self.size, : self.size].astype(np.float32)
        grid = (len(indices), self.size, self.size)
        values = self.sample(indices, np.broadcast_to(x, grid), np.broadcast_to(y, grid))
        return np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3:])


def load_faces(folder, landmarks_csv, size, seed=0):
    """Read the faces of a folder.

    folder:        pictures; those of sub-folders count where the CSV names them.
    landmarks_csv: columns file, width, height, x0, y0 ... x67, y67; paths relative to the CSV, pixels of upright pictures.
    size:          side S of the crops. seed: decides which clips are held out.
    A face that cannot be used is skipped, with its reason in `.skipped`. Raises FaceSetError where fewer than 4 are left.
    """
    folder, table = pathlib.Path(folder), pathlib.Path(landmarks_csv)
    if not folder.is_dir():
        raise FaceSetError(f"the folder {folder} does not exist; give a folder of pictures")
    rows, skipped = read_landmarks(table, folder)
    named = {(table.parent / row[0]).resolve() for row in rows} | {(table.parent / file).resolve() for file, _ in skipped}
    pictures = list_pictures(folder)
    if not pictures and not rows:
        raise FaceSetError(f"the folder {folder} holds no pictures; put photographs of one person into it")
    skipped += [(str(p), f"no row in {table.name}") for p in pictures if p.resolve() not in named]
    if not rows:
        raise FaceSetError(f"{table} has no usable row for the pictures in {folder}; its paths must be relative to the CSV"
                           + _first(skipped))  # fmt: skip
    rows.sort(key=lambda row: _natural(row[0]))
    loaded = made(functools.partial(_load_face, table.parent, size), rows, useful_workers(len(rows), _SECONDS))
    faces = [(row[0], face) for row, face in zip(rows, loaded) if not isinstance(face, str)]
    skipped += [(row[0], face) for row, face in zip(rows, loaded) if isinstance(face, str)]
    if len(faces) < LEAST_FACES:
        raise FaceSetError(f"{folder} has {len(faces)} usable faces, at least {LEAST_FACES} are needed{_first(skipped)}")
    files, shapes = [file for file, _ in faces], [face["shape"] for _, face in faces]
    return _assemble(folder.name, size, files, [face for _, face in faces], clips_of(files, shapes), seed, skipped)


def load_aligned(given, paths, read, size, seed=0, skipped=()):
    """Read faces that were cut out before.

    given: path that names the set. paths: picture files. read: path -> AlignedFace, called in threads; raises PictureError for one
    to skip.
    size, seed: as in load_faces. skipped: (file, reason) of what was left out before.
    The mask ends where a face's picture, or the picture that this was cut from, does. Raises FaceSetError where fewer than
    4 are left.
    """
    cut = made(functools.partial(_cut_read, size), paths, useful_workers(len(paths), _SECONDS), lambda path: _read_aligned(path, read))
    loaded = list(zip((path.name for path in paths), cut))
    skipped = [*skipped, *((file, face) for file, face in loaded if isinstance(face, str))]
    faces = sorted((face for _, face in loaded if not isinstance(face, str)), key=lambda face: _natural(face["file"]))
    if len(faces) < LEAST_FACES:
        raise FaceSetError(f"{given} has {len(faces)} usable faces, at least {LEAST_FACES} are needed{_first(skipped)}")
    files = [face["file"] for face in faces]
    return _assemble(given.name, size, files, faces, clips_of(files, [face["shape"] for face in faces]), seed, skipped)


def _read_aligned(path, read):
    """(AlignedFace, digest of its file), or the reason (str) why it is skipped."""
    try:
        face = read(path)
        if not np.isfinite(face.landmarks).all():
            return "landmarks that are not finite numbers"
        return shape_fault(face.landmarks) or (face, hashlib.sha256(path.read_bytes()).hexdigest())
    except (PictureError, OSError) as error:
        return str(error)


def _cut_read(size, given):
    """What _read_aligned gave, as a dict of a face's arrays; a reason as it is."""
    if isinstance(given, str):
        return given
    face, digest = given
    file = face.source if face.frame is None else f"{face.source}_{face.frame:06d}"
    return _cut_aligned(face, size) | {"file": file, "shape": face.shape or face.pixels.shape[:2], "digest": digest}


def _cut_aligned(face, size):
    """The canvas of an AlignedFace. The transform is that from its source on, whose pixels tell how much detail there is."""
    reach = [(_SAME, face.pixels.shape[:2])]
    if face.transform is None:
        return _cut(face.pixels, face.landmarks, size, reach)
    if face.shape is not None:
        reach.append((invert(face.transform), face.shape))
    cut = _cut(face.pixels, face.landmarks, size, reach)
    linear, shift = cut["transform"][:, :2], cut["transform"][:, 2]
    return cut | {"transform": np.column_stack([linear @ face.transform[:, :2], linear @ face.transform[:, 2] + shift])}


def from_renders(name, renders, size, seed=0):
    """A face set of rendered people, along the same path as photographs; each render is a clip of its own.

    renders: at least 4 objects with .image (R, R, 3) float32 0..1 and .landmarks (68, 2) in its pixels. Surroundings beyond
    the crop are used where the picture shows them; a crop takes about 3/4 of a render's side, so R = 4/3 S has the detail
    of S. size: side S.
    """
    faces = in_threads(lambda render: face_of_render(render, size), renders)
    return _assemble(name, size, files_of_renders(name, len(faces)), faces, np.arange(len(faces)), seed, [])


def face_of_render(render, size):
    """A rendered face's part of a face set: a dict of its canvas (P, P, 4), landmarks (68, 2), transform (2, 3) and digest."""
    pixels = np.rint(np.clip(render.image, 0, 1) * 255).astype(np.uint8)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return _cut(pixels, np.asarray(render.landmarks, np.float64), size) | {"digest": digest}


def files_of_renders(name, count):
    """The names of so many rendered faces. Raises FaceSetError where these are too few."""
    if count < LEAST_FACES:
        raise FaceSetError(f"{name} has {count} rendered faces, at least {LEAST_FACES} are needed")
    return [f"{name}/{i:05d}" for i in range(count)]


def evenly(indices, most):
    """At most so many of the indices (N,), evenly chosen."""
    return indices[np.linspace(0, len(indices) - 1, min(most, len(indices))).round().astype(int)]


def joined(name, sets):
    """One face set of several whose crops have one size, face after face; their clips stay apart."""
    faces = np.cumsum([0, *(len(each) for each in sets)])[:-1]
    clips = np.cumsum([0, *(each.groups.max() + 1 for each in sets)])[:-1]

    def column(attribute, shifts=None):
        parts = [getattr(each, attribute) for each in sets]
        return np.concatenate(parts if shifts is None else [part + shift for part, shift in zip(parts, shifts)])

    def listed(attribute):
        return [entry for each in sets for entry in getattr(each, attribute)]

    return FaceSet(
        name, sets[0].size, column("canvas"), column("landmarks"), column("transforms"), listed("files"), listed("digests"),
        column("groups", clips), column("train", faces), column("held_out", faces), listed("skipped"), listed("notes"),
    )  # fmt: skip


def _load_face(base, size, row):
    """A face's arrays as a dict, or the reason (str) why it is skipped."""
    name, width, height, landmarks = row
    try:
        picture = read_picture(base / name)
        shape = picture.pixels.shape[:2]
        if fault := landmark_fault(landmarks, (width, height), shape):
            return fault
        face = _cut(picture.pixels, landmarks, size, [(_SAME, shape)])
        return face | {"shape": shape, "digest": hashlib.sha256((base / name).read_bytes()).hexdigest()}
    except (PictureError, OSError) as error:
        return str(error)


def _cut(pixels, landmarks, size, reach=()):
    """The canvas of one face, its landmarks in crop pixels and the transform that led there.

    reach: [(transform from the picture's pixels to those of another, its (height, width)), ...]: where one of these ends,
    the mask does, for what lies beyond is a repeated border.
    """
    to_crop = crop_transform(landmarks, size)
    side = canvas_side(size)
    to_canvas = to_crop * DENSITY
    to_canvas[:, 2] += (side - 1) / 2 - DENSITY * (size - 1) / 2
    mask = face_mask(apply(to_canvas, landmarks), (side, side))
    for transform, shape in reach:
        mask *= _covered(to_canvas, transform, shape, side, _EDGE * size * DENSITY)
    canvas = np.empty((side, side, 4), np.uint8)
    canvas[..., :3] = np.rint(warp(pixels, to_canvas, side) * 255)
    canvas[..., 3] = np.rint(mask * 255)
    return {"canvas": canvas, "landmarks": apply(to_crop, landmarks).astype(np.float32), "transform": to_crop}


def _covered(to_canvas, transform, shape, side, feather):
    """(P, P) float32: 1 where a picture of shape (H, W) reaches, 0 beyond it, smooth over `feather` canvas pixels within."""
    y, x = np.mgrid[:side, :side]
    points = apply(transform, apply(invert(to_canvas), np.stack([x, y], axis=-1)))  # (P, P, 2), that picture's pixels
    depth = np.minimum(points + 0.5, np.array(shape[::-1]) - 0.5 - points).min(axis=-1)
    depth *= scale_of(to_canvas) / scale_of(transform)  # in canvas pixels
    ramp = np.clip(depth / feather, 0, 1).astype(np.float32)
    return ramp * ramp * (3 - 2 * ramp)


def _assemble(name, size, files, faces, groups, seed, skipped):
    train, held_out, notes = split(groups, seed)
    return FaceSet(
        name, size, np.stack([face["canvas"] for face in faces]), np.stack([face["landmarks"] for face in faces]),
        np.stack([face["transform"] for face in faces]), files, [face["digest"] for face in faces], groups, train, held_out, skipped, notes,
    )  # fmt: skip


def clips_of(files, shapes):
    """(N,) int: which clip each picture comes from, for files in natural order.

    Within a folder pictures are of one clip when their names agree but for the number at the end (video_000123, clipA_01).
    Where that tells nothing apart (bare numbers, or the same word throughout), a run of equal picture size is a clip:
    neighbouring frames of a video have one size. shapes: (height, width) of each picture.
    """
    stems = [(str(pathlib.PurePath(file).parent), re.sub(r"[\s_.\-(]*\d+\)?$", "", pathlib.PurePath(file).stem)) for file in files]
    words = {folder: {word for where, word in stems if where == folder} for folder, _ in stems}
    by_size = [word == "" or len(words[folder]) == 1 for folder, word in stems]
    keys, run = [], 0
    for i, stem in enumerate(stems):
        if i and (stem != stems[i - 1] or tuple(shapes[i]) != tuple(shapes[i - 1])):
            run += 1
        keys.append((*stem, run if by_size[i] else -1))
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([order[key] for key in keys])


def split(groups, seed):
    """(train, held_out, notes): whole clips are held out, about 18 % of the faces; at least 3 faces are left to train on.

    With a single clip, or one so large that too little would be left, the last faces are held out instead, and a note says
    it.
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
        out = np.isin(groups, chosen)
        return np.flatnonzero(~out), np.flatnonzero(out), []
    last = max(1, round(HELD_OUT_SHARE * count))
    note = f"all {count} faces seem to be of one clip: the last {last} are held out, but they resemble their neighbours, so held-out figures flatter"
    return np.arange(count - last), np.arange(count - last, count), [note]


def _natural(name):
    """Sorting key that puts frame 9 before frame 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _first(skipped):
    """The first few reasons, for the end of a message."""
    if not skipped:
        return ""
    shown = "; ".join(f"{file}: {reason}" for file, reason in skipped[:3])
    return f" ({len(skipped)} skipped: {shown}{'; ...' if len(skipped) > 3 else ''})"
