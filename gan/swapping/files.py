"""Swap whole files: images, animated images, videos.

    image              read, detect faces or look up landmarks, swap, write with a provenance label
    video, animation   frames --track--> frames with faces --swap in batches--> frames --> file

A file without a face is copied unchanged, byte for byte.
"""
import itertools
import pathlib
from dataclasses import dataclass, field

import numpy as np

from data.detection.face_analyzer import FaceAnalyzer
from data.detection.tracker import TrackedFace, choose_faces, track_faces
from data.geometry.color import ColorMemory
from data.geometry.landmarks import face_shape_problem, landmark_problem
from data.interchange.landmark_lookup import lookup_frame_landmarks, lookup_landmarks
from data.media.animation import is_animation, read_animation, write_animation
from data.media.image_io import IMAGE_SUFFIXES, list_images, read_image, save_image, write_atomically
from data.media.probe import probe
from data.media.provenance import DigitalSource
from data.media.video import VIDEO_SUFFIXES, VideoWriter, read_frames
from data.media.watermark import add_watermark, add_watermark_to_alpha
from data.support.progress import Progress
from gan.swapper import SwapError
from gan.swapping.before_after import side_by_side

FRAMES_PER_BATCH = 8  # the faces of this many frames are generated in one batch


@dataclass
class SwapSettings:
    """How files are swapped.

    swapper: gan.swapper.Swapper
    direction: 'ab' or 'ba'
    faces: number of faces to swap in each image, the largest first, or 'all'
    landmarks: path of a CSV, of a folder of extracted faces or of alignments; None: detect faces
    preview: also write OUTPUT.preview.png: input, swapped region, result
    watermark: put a visible watermark into a corner of each swapped image
    """

    swapper: object
    direction: str = "ab"
    faces: object = 1
    landmarks: pathlib.Path | None = None
    preview: bool = False
    watermark: bool = False
    _known_landmarks: dict | None = None

    def known_landmarks(self, source):
        """Look up an image in the user's landmarks: return [(stated size, landmarks), ...].

        The stated size is the (width, height) that the table gives for the image, or None. The
        table is read once, for all images of the folder.
        """
        if self._known_landmarks is None:
            self._known_landmarks = lookup_landmarks(self.landmarks, list_images(source.parent))
        return self._known_landmarks.get(source.resolve(), [])


@dataclass
class SwapResult:
    """The result of swapping one file.

    faces: number of faces swapped in all frames
    frames: number of frames
    with_faces: number of frames with a swapped face
    notes: remarks for the user, one phrase each
    """

    faces: int = 0
    frames: int = 1
    with_faces: int = 0
    notes: list = field(default_factory=list)


def is_clip(path):
    """Return whether a file is a video or an animated image. Raises ImageError if unreadable."""
    suffix = pathlib.Path(path).suffix.lower()
    return suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES and is_animation(path)


def swap_file(settings, source, target):
    """Swap one file.

    Raises ImageError, VideoError or SwapError; an existing target is then left as it was.
    """
    suffix = source.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return _swap_video(settings, source, target)
    return (_swap_animation if is_animation(source) else _swap_image)(settings, source, target)


def _swap_image(settings, source, target):
    if settings.landmarks and not settings.known_landmarks(source):
        _copy_unchanged(source, target)
        return SwapResult()
    image = read_image(source)
    if settings.landmarks:
        faces = _known_faces(settings, source, image.pixels.shape[:2])
    else:
        found = FaceAnalyzer.load().detect(image.pixels)
        usable = [face for face in found if not face_shape_problem(face.landmarks)]
        faces = [face.landmarks for face in choose_faces(usable, settings.faces)]
    if not faces:
        _copy_unchanged(source, target)
        return SwapResult()
    swapped, mask = settings.swapper.swap_many([image.pixels], [faces], settings.direction, return_mask=True)[0]
    alpha = image.alpha
    if settings.watermark:
        swapped, alpha = add_watermark(swapped), None if alpha is None else add_watermark_to_alpha(alpha)
    notes = image.notes + save_image(target, swapped, DigitalSource.COMPOSITE, alpha=alpha)
    if settings.preview:
        _write_preview(target, image.pixels, faces, mask, swapped)
    return SwapResult(len(faces), 1, 1, notes)


def _known_faces(settings, source, shape):
    """Return the user's landmarks of an image of shape (height, width). Raises SwapError."""
    listed = settings.known_landmarks(source)
    for stated_size, landmarks in listed:
        problem = landmark_problem(landmarks, stated_size or shape[::-1], shape)
        if problem:
            raise SwapError(f"its landmarks in {settings.landmarks} cannot be used: {problem}")
    faces = [TrackedFace(k, landmarks) for k, (_, landmarks) in enumerate(listed)]
    return [face.landmarks for face in choose_faces(faces, settings.faces)]


def _copy_unchanged(source, target):
    if target.suffix.lower() != source.suffix.lower():
        raise SwapError(f"no face was found, and it cannot be copied unchanged to a '{target.suffix}' file; choose an "
                        f"OUTPUT that ends in {source.suffix}, or give --landmarks")
    write_atomically(target, source.read_bytes())


def _write_preview(target, before, faces, mask, after):
    path = target.with_name(target.name + ".preview.png")
    save_image(path, side_by_side(before, faces, mask, after), DigitalSource.COMPOSITE)


def _swap_video(settings, source, target):
    info = probe(source)
    progress = Progress("frames")
    try:
        with read_frames(source, info) as frames, VideoWriter(target, info, source) as writer:
            result = _swap_frames(settings, source, target, frames, writer.write, progress, info.frames)
            if not result.faces:
                raise _NoFace
        result.notes += [*info.notes, *frames.notes, *writer.notes]
    except _NoFace:
        _copy_unchanged(source, target)
    finally:
        progress.end()
    return result


class _NoFace(Exception):
    """No frame has a face. Raised inside a VideoWriter, which then discards its file."""


def _swap_animation(settings, source, target):
    animation, swapped, progress = read_animation(source), [], Progress("frames")
    try:
        result = _swap_frames(settings, source, target, animation, swapped.append, progress, len(animation))
    finally:
        progress.end()
    if not result.faces:
        _copy_unchanged(source, target)
        return result
    alpha = animation.alpha
    if settings.watermark and animation.has_alpha:
        alpha = map(add_watermark_to_alpha, alpha)
    result.notes += [*animation.notes, *write_animation(target, swapped, animation.durations, animation.loop,
                                                         DigitalSource.COMPOSITE, alpha)]
    return result


def _swap_frames(settings, source, target, frames, write, progress, expected):
    """Swap the faces of each frame and pass every frame to write(frame). Returns a SwapResult."""
    result, memories, chosen, preview_due = SwapResult(frames=0), {}, set(), settings.preview
    for batch in _batches(_frames_with_faces(settings, source, frames), FRAMES_PER_BATCH):
        faces = []
        for _, tracked in batch:
            usable = [face for face in tracked if not face_shape_problem(face.landmarks)]
            picked = choose_faces(usable, settings.faces, chosen)
            chosen = {face.track_id for face in picked}
            faces.append(picked)
        images = [image for image, _ in batch]
        landmarks = [[face.landmarks for face in picked] for picked in faces]
        batch_memories = [[memories.setdefault(face.track_id, ColorMemory()) for face in picked] for picked in faces]
        results = settings.swapper.swap_many(images, landmarks, settings.direction, True, batch_memories)
        for image, picked, (swapped, mask) in zip(images, faces, results):
            swapped = add_watermark(swapped) if settings.watermark else swapped
            write(swapped)
            result.frames += 1
            result.faces += len(picked)
            result.with_faces += bool(picked)
            if picked and preview_due:
                _write_preview(target, image, [face.landmarks for face in picked], mask, swapped)
                preview_due = False
        progress.show(result.frames, expected)
    return result


def _frames_with_faces(settings, source, frames):
    """Yield (frame, [TrackedFace]) of a video: tracked, or from the user's landmarks.

    The k-th landmarks of every frame count as the same face.
    """
    if settings.landmarks is None:
        yield from track_faces(frames, FaceAnalyzer.load())
        return
    known = lookup_frame_landmarks(settings.landmarks, source)
    if not known:
        raise SwapError(f"{settings.landmarks} names no frame of {source.name}; omit --landmarks to detect the faces")
    for number, frame in enumerate(frames):
        yield frame, [TrackedFace(k, np.asarray(landmarks)) for k, landmarks in enumerate(known.get(number, []))]


def _batches(items, size):
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch
