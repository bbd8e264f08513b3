"""Swap whole files: images, animated images, videos.

    image              read, detect faces or look up landmarks, swap, write with a provenance label
    video, animation   frames --track--> frames with faces --swap in batches--> frames --> file

A file without a face is copied unchanged, byte for byte.
"""
import collections
import contextlib
import itertools
import os
import pathlib
from dataclasses import dataclass, field, replace

import numpy as np

from data.detection.face_analyzer import SCORE_THRESHOLD, FaceAnalyzer
from data.detection.tracker import choose_faces, track_faces
from data.geometry.color import ColorMemory
from data.geometry.face import Face
from data.geometry.landmarks import landmark_problem
from data.interchange.landmark_lookup import lookup_frame_landmarks, lookup_landmarks
from data.media.animation import ANIMATION_SUFFIXES, Animation, write_animation
from data.media.codecs import CONTAINERS
from data.media.frame_source import distinct_frames
from data.media.image_io import WRITABLE_IMAGES, DecodedImage, list_images, save_image, write_atomically
from data.media.provenance import DigitalSource
from data.media.video import FrameReader, VideoWriter
from data.media.watermark import add_watermark, add_watermark_to_alpha
from data.support.progress import Progress
from gan.swapper import SwapError
from gan.swapping.before_after import side_by_side

NAME_LIMIT = 255  # bytes of a file name, on all common file systems
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
    first: the first Face that was swapped, or None
    """

    faces: int = 0
    frames: int = 1
    with_faces: int = 0
    notes: list = field(default_factory=list)
    first: Face | None = None


def swap_file(settings, media, target):
    """Swap one file.

    media: the file, as data.media.frame_source.open_media returns it
    Without a face nothing is written: see copy_unchanged.
    Raises ImageError, VideoError or SwapError; an existing target is then left as it was.
    """
    if isinstance(media, DecodedImage):
        return _swap_image(settings, media, target)
    return (_swap_animation if isinstance(media, Animation) else _swap_video)(settings, media, target)


def _swap_image(settings, image, target):
    if settings.landmarks:
        found = _known_faces(settings, image)
    else:
        found = FaceAnalyzer.load().detect(image.pixels)
    faces = choose_faces(found, settings.faces)
    if not faces:
        return SwapResult()
    swapped, mask = settings.swapper.swap_many([image.pixels], [faces], settings.direction, return_mask=True)[0]
    alpha = image.alpha
    if settings.watermark:
        swapped, alpha = add_watermark(swapped), None if alpha is None else add_watermark_to_alpha(alpha)
    notes = image.notes + save_image(target, swapped, DigitalSource.COMPOSITE, alpha, exif=image.exif)
    if settings.preview:
        _write_preview(target, image.pixels, faces, mask, swapped)
    return SwapResult(len(faces), 1, 1, notes, faces[0])


def _known_faces(settings, image):
    """Return the Faces of an image that the user's landmarks give. Raises SwapError."""
    listed, shape = settings.known_landmarks(image.path), image.pixels.shape[:2]
    for stated_size, landmarks in listed:
        problem = landmark_problem(landmarks, stated_size or shape[::-1], shape)
        if problem:
            raise SwapError(f"its landmarks in {settings.landmarks} cannot be used: {problem}")
    return [Face(image.pixels, landmarks) for _, landmarks in listed]


def copy_unchanged(source, target):
    """Copy a file without a face. Raises SwapError if the target is of another format."""
    if target.suffix.lower() != source.suffix.lower():
        raise SwapError(f"no face was found, and it cannot be copied unchanged to a '{target.suffix}' file; choose an "
                        f"OUTPUT that ends in {source.suffix}, or give --landmarks")
    write_atomically(target, source.read_bytes())


def writable_name(media):
    """Return the file name for the swapped `media`: its own, with another suffix if it has a format that
    is read but not written."""
    suffixes, other = ((WRITABLE_IMAGES, ".png") if isinstance(media, DecodedImage) else
                       (ANIMATION_SUFFIXES, ".webp") if isinstance(media, Animation) else (CONTAINERS, ".mp4"))
    path = media.path
    if path.suffix.lower() in suffixes:
        return path.name
    return path.name + other if path.with_suffix(other).exists() else path.with_suffix(other).name


def _write_preview(target, before, faces, mask, after):
    suffix = ".preview.png"
    name = os.fsencode(target.name)[:NAME_LIMIT - len(suffix)].decode(errors="ignore")
    path = target.with_name(name + suffix)
    save_image(path, side_by_side(before, faces, mask, after), DigitalSource.COMPOSITE)


def _swap_video(settings, info, target):
    result = SwapResult()
    with contextlib.suppress(_NoFace):
        with FrameReader(info) as frames, VideoWriter(target, info) as writer:
            result = _swap_frames(settings, info, target, frames, writer.write)
            if not result.faces:
                raise _NoFace
        result.notes += [*info.notes, *frames.notes, *writer.notes]
    return result


class _NoFace(Exception):
    """No frame has a face. Raised inside a VideoWriter, which then discards its file."""


def _swap_animation(settings, animation, target):
    swapped = []
    result = _swap_frames(settings, animation, target, animation, swapped.append)
    if not result.faces:
        return result
    alpha = animation.alpha
    if settings.watermark and animation.has_alpha:
        alpha = map(add_watermark_to_alpha, alpha)
    result.notes += [*animation.notes, *write_animation(target, swapped, animation.durations, animation.loop,
                                                         DigitalSource.COMPOSITE, alpha)]
    return result


def _swap_frames(settings, media, target, frames, write):
    """Swap the faces of each frame and pass every frame to write(frame). Returns a SwapResult."""
    result, progress, preview_due = SwapResult(frames=0), Progress("frames"), settings.preview
    memories, chosen = collections.defaultdict(ColorMemory), ()
    try:
        for batch in _batches(_frames_with_faces(settings, media.path, frames), FRAMES_PER_BATCH):
            images, faces = [image for image, _, _ in batch], []
            for _, found, _ in batch:
                faces.append(choose_faces(found, settings.faces, chosen))
                chosen = {face.track_id for face in faces[-1]}
            results = settings.swapper.swap_many(images, faces, settings.direction, True, memories)
            for (image, _, count), picked, (swapped, mask) in zip(batch, faces, results):
                swapped = add_watermark(swapped) if settings.watermark else swapped
                for _ in range(count):
                    write(swapped)
                result.frames += count
                result.faces += count * len(picked)
                result.with_faces += count * bool(picked)
                result.first = result.first or next(iter(picked), None)
                if picked and preview_due:
                    _write_preview(target, image, picked, mask, swapped)
                    preview_due = False
            progress.show(result.frames, media.frames)
    finally:
        progress.end()
    return result


def _frames_with_faces(settings, source, frames):
    """Yield (frame, [Face], how often it is shown) of a video: tracked, or from the user's landmarks."""
    counts = collections.deque()

    def distinct():
        for _, frame, count in distinct_frames(frames):
            counts.append(count)
            yield frame

    if settings.landmarks is None:
        for frame, faces in track_faces(distinct(), FaceAnalyzer.load()):
            yield frame, faces, counts.popleft()
        return
    known = lookup_frame_landmarks(settings.landmarks, source)
    if not known:
        raise SwapError(f"{settings.landmarks} names no frame of {source.name}; omit --landmarks to detect the faces")
    yield from _known_frames(known, frames)


def _known_frames(known, frames):
    """Yield (frame, [Face], how often it is shown) of a video with known landmarks, by frame number.

    The k-th landmarks of every frame count as the same face. Landmarks may be those of every N-th frame,
    and an extraction leaves out near duplicates. So the faces are tracked through the frames between
    those that are known, and up to N - 1 frames after the last one.
    """
    end = max(known) + np.median(np.diff(sorted(known), prepend=min(known) - 1))
    faces = []
    for index, frame, count in distinct_frames(frames):
        listed = [known[k] for k in range(index, index + count) if k in known]
        if listed:
            faces = [Face(frame, np.asarray(points), track_id=k) for k, points in enumerate(listed[0])]
        else:
            tracked = [replace(FaceAnalyzer.load().refine(frame, face.landmarks), track_id=face.track_id)
                       for face in faces if index < end]
            faces = [face for face in tracked if face.score > SCORE_THRESHOLD]
        yield frame, faces, count


def _batches(items, size):
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch
