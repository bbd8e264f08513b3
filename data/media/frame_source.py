"""Frame source: iterate over photos and the frames of videos.

A file in a folder that cannot be read is skipped and listed in `unreadable`. Of a video, every k-th
frame is used, plus requested ones. Animated images count as videos here.

Legend: H, W height and width.
"""

import contextlib
import hashlib
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.media.animation import ANIMATION_SUFFIXES, is_animation, read_animation
from data.media.image_io import IMAGE_SUFFIXES, ImageError, read_image, read_label
from data.media.provenance import DigitalSource
from data.media.video import VIDEO_SUFFIXES, VideoError, probe, read_frames, read_video_label

SOURCE_ERRORS = (ImageError, VideoError)  # raised for a file that cannot be read


class SourceError(ValueError):
    """The input cannot be used. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class Frame:
    """A photo or a frame of a video, and the file it comes from."""

    file: str  # file name
    digest: str  # SHA-256 of the file
    frame: int | None  # index in the video, from 0; None for a photo
    time: float | None  # seconds from the start of the video
    label: DigitalSource | None  # the provenance label of the file, if it has one
    pixels: np.ndarray  # (H, W, 3) uint8, upright


def list_source_files(path):
    """Return the images and videos in a folder, without hidden files; for a file, [path]."""
    path = pathlib.Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; give an image, a video, or a folder of images and videos")
    if not path.is_dir():
        return [path]
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES + ANIMATION_SUFFIXES
    files = sorted(p for p in path.iterdir()
                   if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file())
    if not files:
        raise SourceError(f"the folder {path} contains no images and no videos; put images of one person into it")
    return files


class FrameSource:
    """Iterable (to be used once) over the Frames of an image, a video, or a folder of them.

    every: every k-th frame of a video is used
    requested: {(file, frame)} that are used in any case: those with hand-made corrections
        (data/extract/corrections.py); frame is None for photos

    Attributes:
    expected: estimated number of frames
    unreadable: [(file, reason)], complete at the end of the iteration

    Raises SourceError if there is no input, or `requested` names something that does not exist. If
    `path` is a single file that cannot be read, raises one of SOURCE_ERRORS.
    """

    def __init__(self, path, every=1, requested=()):
        files = list_source_files(path)
        self._every, self._requested, self._videos, self.unreadable = every, set(requested), {}, []
        self._single_file = files[0] if not pathlib.Path(path).is_dir() else None
        for file in files:
            try:
                self._videos[file] = _open_video(file)
            except SOURCE_ERRORS as error:
                self._skip(file, error)
        self.expected = sum(1 if video is None else -(-(video.frames or 0) // every) for video in self._videos.values())
        self._check_requested(path)

    def _check_requested(self, path):
        videos = {file.name: video for file, video in self._videos.items()}
        for file, frame in self._requested:
            if file not in videos:
                raise SourceError(f"{path} has no image {file!r}, which the corrections name; "
                                  f"give its name within {path}")
            if (frame is None) != (videos[file] is None):
                raise SourceError(
                    f"the corrections name {file!r} {'without' if frame is None else 'with'} a frame, "
                    f"but it is {'a video' if frame is None else 'a photo'}; correct the column 'frame'"
                )

    def _skip(self, file, error):
        if self._single_file:
            raise error
        self.unreadable.append((file.name, str(error).removeprefix(f"{file} ")))

    def __iter__(self):
        for file, video in self._videos.items():
            try:
                yield from self._photo(file) if video is None else self._video_frames(file, video)
            except SOURCE_ERRORS as error:
                self._skip(file, error)

    def _photo(self, file):
        pixels = read_image(file).pixels
        yield Frame(file.name, _digest(file), None, None, read_label(file), pixels)

    def _video_frames(self, file, video):
        digest = _digest(file)
        with video.open() as frames:
            for index, pixels in enumerate(frames):
                if index % self._every == 0 or (file.name, index) in self._requested:
                    yield Frame(file.name, digest, index, video.time(index), video.label, pixels)
            self.unreadable += [(file.name, note) for note in frames.notes]


@dataclass(frozen=True)
class _Video:
    """The common interface to the frames of a video file and of an animated image."""

    frames: int | None  # estimated number
    open: Callable  # () -> context manager over an iterable of frames, which has .notes at its end
    time: Callable  # frame index -> seconds from the start
    label: DigitalSource | None


def _open_video(file):
    """Return the _Video of a file, or None for a photo. Raises one of SOURCE_ERRORS."""
    suffix = file.suffix.lower()
    if suffix in ANIMATION_SUFFIXES and is_animation(file):
        animation = read_animation(file)
        starts = np.cumsum([0.0, *animation.durations]) / 1000
        return _Video(len(animation), lambda: contextlib.nullcontext(animation), lambda k: float(starts[k]),
                      read_label(file))
    if suffix in IMAGE_SUFFIXES:
        return None
    info = probe(file)
    return _Video(info.frames, lambda: read_frames(file, info), lambda k: float(k / info.rate), read_video_label(file))


def _digest(file):
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def group_by_clip(files, shapes):
    """Guess which images come from the same video clip. Returns clip numbers, (N,) int.

    Images in the same folder belong to one clip if their names differ only in the number at the end
    (video_000123, clipA_01). If the names are only numbers, or have the same word throughout, a run
    of images of equal size is a clip, because the frames of a video have one size.

    files: N names in natural order
    shapes: (height, width) of each image
    """
    paths = [pathlib.PurePath(file) for file in files]
    stems = [(str(path.parent), re.sub(r"[\s_.\-(]*\d+\)?$", "", path.stem)) for path in paths]
    words = {folder: {word for other, word in stems if other == folder} for folder, _ in stems}
    by_size = [word == "" or len(words[folder]) == 1 for folder, word in stems]
    keys, run = [], 0
    for i, stem in enumerate(stems):
        if i and (stem != stems[i - 1] or tuple(shapes[i]) != tuple(shapes[i - 1])):
            run += 1
        keys.append((*stem, run if by_size[i] else -1))
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([order[key] for key in keys])
