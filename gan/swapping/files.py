"""Whole files through the swapper: pictures, animated pictures, videos.

    picture    read, faces found or known, swapped, written with its label
    clip       frames --track--> frames with faces --swapper, a batch at a time--> frames --> a file of the same kind

A file in which no face is found passes unchanged, byte for byte.
"""
import itertools
import pathlib
from dataclasses import dataclass, field

import numpy as np

from data.detection.face_analyzer import Finder
from data.detection.tracker import TrackedFace, choose_faces, track_faces
from data.geometry.color import ColourMemory
from data.geometry.landmarks import landmark_fault, shape_fault
from data.interchange.landmark_lookup import known_frames, known_landmarks
from data.media.animation import is_animation, read_animation, write_animation
from data.media.image_io import PICTURE_SUFFIXES, list_pictures, read_picture, save_picture, write_whole
from data.media.probe import probe
from data.media.provenance import DigitalSource
from data.media.video import VIDEO_SUFFIXES, VideoWriter, read_frames
from data.media.watermark import marked, marked_alpha
from data.support.progress import Progress
from gan.swapper import SwapError
from gan.swapping.before_after import side_by_side

FRAMES_AT_ONCE = 8  # frames whose faces are drawn in one batch


@dataclass
class Task:
    """How files are swapped.

    swapper: a gan.swapper.Swapper. direction: 'ab' or 'ba'. faces: how many of each picture, the largest first, or 'all'.
    landmarks: a CSV, a folder of extracted faces or alignments that say where the faces are; None: they are found.
    preview: write OUTPUT's name with .preview.png beside it: input, what is replaced, result.
    mark: put a visible mark into a corner of what is swapped.
    """

    swapper: object
    direction: str = "ab"
    faces: object = 1
    landmarks: pathlib.Path | None = None
    preview: bool = False
    mark: bool = False
    _known: dict | None = None

    def known(self, source):
        """The (stated size, landmarks) pairs that the user's table has for a picture. The table is read once, for all pictures
        of the folder."""
        if self._known is None:
            self._known = known_landmarks(self.landmarks, list_pictures(source.parent))
        return self._known.get(source.resolve(), [])


@dataclass
class Outcome:
    """What became of one file. faces: swapped, in all its frames; frames: how many it has, with_faces: in how many one was swapped;
    notes: what the user should know, one phrase each."""

    faces: int = 0
    frames: int = 1
    with_faces: int = 0
    notes: list = field(default_factory=list)


def is_clip(path):
    """Whether a file is a video or an animated picture. Raises PictureError for a picture that cannot be read."""
    suffix = pathlib.Path(path).suffix.lower()
    return suffix in VIDEO_SUFFIXES or suffix in PICTURE_SUFFIXES and is_animation(path)


def swap_file(task, source, target):
    """Swap one file. Raises PictureError, VideoError or SwapError; then there is no file, or the old one, in the target's place."""
    suffix = source.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return _swap_video(task, source, target)
    return (_swap_animation if is_animation(source) else _swap_picture)(task, source, target)


def _swap_picture(task, source, target):
    if task.landmarks and not task.known(source):
        _pass_unchanged(source, target)
        return Outcome()
    picture = read_picture(source)
    if task.landmarks:
        faces = _known_faces(task, source, picture.pixels.shape[:2])
    else:
        found = Finder.load().find(picture.pixels)
        faces = [face.landmarks for face in choose_faces([f for f in found if not shape_fault(f.landmarks)], task.faces)]
    if not faces:
        _pass_unchanged(source, target)
        return Outcome()
    swapped, mask = task.swapper.swap_many([picture.pixels], [faces], task.direction, return_mask=True)[0]
    alpha = picture.alpha
    if task.mark:
        swapped, alpha = marked(swapped), None if alpha is None else marked_alpha(alpha)
    notes = picture.notes + save_picture(target, swapped, DigitalSource.COMPOSITE, alpha=alpha)
    if task.preview:
        _write_preview(target, picture.pixels, faces, mask, swapped)
    return Outcome(len(faces), 1, 1, notes)


def _known_faces(task, source, shape):
    """The landmarks that the user's table gives for a picture of this (height, width), checked."""
    listed = task.known(source)
    for stated, landmarks in listed:
        fault = landmark_fault(landmarks, stated or shape[::-1], shape)
        if fault:
            raise SwapError(f"its landmarks in {task.landmarks} cannot be used: {fault}")
    faces = [TrackedFace(k, landmarks) for k, (_, landmarks) in enumerate(listed)]
    return [face.landmarks for face in choose_faces(faces, task.faces)]


def _pass_unchanged(source, target):
    if target.suffix.lower() != source.suffix.lower():
        raise SwapError(f"no face was found, and it cannot pass unchanged as '{target.suffix}'; choose an OUTPUT that ends in "
                        f"{source.suffix}, or give the face's --landmarks")
    write_whole(target, source.read_bytes())


def _write_preview(target, before, faces, mask, after):
    path = target.with_name(target.name + ".preview.png")
    save_picture(path, side_by_side(before, faces, mask, after), DigitalSource.COMPOSITE)


def _swap_video(task, source, target):
    info = probe(source)
    progress = Progress("frames")
    try:
        with read_frames(source, info) as frames, VideoWriter(target, info, source) as writer:
            outcome = _swap_frames(task, source, target, frames, writer.write, progress, info.frames)
            if not outcome.faces:
                raise _NoFace
        outcome.notes += [*info.notes, *frames.notes, *writer.notes]
    except _NoFace:
        _pass_unchanged(source, target)
    finally:
        progress.end()
    return outcome


class _NoFace(Exception):
    """No face in any frame: leaves a writer, which then leaves no file."""


def _swap_animation(task, source, target):
    animation, swapped, progress = read_animation(source), [], Progress("frames")
    try:
        outcome = _swap_frames(task, source, target, animation, swapped.append, progress, len(animation))
    finally:
        progress.end()
    if not outcome.faces:
        _pass_unchanged(source, target)
        return outcome
    alpha = map(marked_alpha, animation.alpha) if task.mark and animation.has_alpha else animation.alpha
    outcome.notes += [*animation.notes, *write_animation(target, swapped, animation.durations, animation.loop,
                                                         DigitalSource.COMPOSITE, alpha)]
    return outcome


def _swap_frames(task, source, target, frames, write, progress, expected):
    """Hand each frame, swapped where it has faces, to write(frame). Returns an Outcome."""
    outcome, memories, chosen, preview_due = Outcome(frames=0), {}, set(), task.preview
    for part in _batches(_frames_with_faces(task, source, frames), FRAMES_AT_ONCE):
        faces = []
        for _, seen in part:
            usable = [face for face in seen if not shape_fault(face.landmarks)]
            picked = choose_faces(usable, task.faces, chosen)
            chosen = {face.number for face in picked}
            faces.append(picked)
        images = [image for image, _ in part]
        kept = [[memories.setdefault(face.number, ColourMemory()) for face in picked] for picked in faces]
        made = task.swapper.swap_many(images, [[f.landmarks for f in picked] for picked in faces], task.direction, True, kept)
        for image, picked, (swapped, mask) in zip(images, faces, made):
            swapped = marked(swapped) if task.mark else swapped
            write(swapped)
            outcome.frames += 1
            outcome.faces += len(picked)
            outcome.with_faces += bool(picked)
            if picked and preview_due:
                _write_preview(target, image, [face.landmarks for face in picked], mask, swapped)
                preview_due = False
        progress.show(outcome.frames, expected)
    return outcome


def _frames_with_faces(task, source, frames):
    """Yield (frame, [TrackedFace]) of a clip: tracked, or as the user's table has them, the k-th of each frame as one face."""
    if task.landmarks is None:
        yield from track_faces(frames, Finder.load())
        return
    known = known_frames(task.landmarks, source)
    if not known:
        raise SwapError(f"{task.landmarks} names no frame of {source.name}; leave --landmarks out to have the faces found")
    for number, frame in enumerate(frames):
        yield frame, [TrackedFace(k, np.asarray(landmarks)) for k, landmarks in enumerate(known.get(number, []))]


def _batches(items, size):
    items = iter(items)
    while part := list(itertools.islice(items, size)):
        yield part
