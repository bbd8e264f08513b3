"""What people have, one picture at a time: a photograph, a folder of photographs and clips, or a clip.

A file of a folder that cannot be read is named in `unreadable` and passed over. Of a clip every k-th frame is shown, and
those that somebody asks for.

Legend: H, W height and width.
"""

import contextlib
import hashlib
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.media.animation import ANIMATION_SUFFIXES, is_animation, read_animation
from data.media.image_io import PICTURE_SUFFIXES, PictureError, read_label, read_picture
from data.media.provenance import DigitalSource
from data.media.video import VIDEO_SUFFIXES, VideoError, probe, read_frames, read_video_label

SourceFault = (PictureError, VideoError)  # what a file that cannot be read raises


class SourceError(ValueError):
    """Pictures that cannot be used. The message is one line: what, where, what to do."""


@dataclass(frozen=True)
class Shot:
    """One picture. Its file is told by name, of a clip the clip's, and by digest."""

    file: str
    digest: str  # SHA-256 of the file
    frame: int | None  # number in the clip, from 0; None for a photograph
    time: float | None  # seconds from the clip's start
    label: DigitalSource | None  # where the file says that it is synthetic
    pixels: np.ndarray  # (H, W, 3) uint8, upright


def files_of(path):
    """Paths of the pictures and clips that `path` stands for: itself, or those directly in a folder but for hidden files."""
    path = pathlib.Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a picture, a folder of pictures and clips, or a clip")
    if not path.is_dir():
        return [path]
    suffixes = PICTURE_SUFFIXES + VIDEO_SUFFIXES + ANIMATION_SUFFIXES
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file())
    if not files:
        raise SourceError(f"the folder {path} holds no pictures and no clips; put pictures of one person into it")
    return files


class Source:
    """The pictures of `path`, to be iterated over once.

    every: of a clip's frames every k-th is shown. asked: {(file, frame)} shown in any case; frame is None for photographs.
    expected: about how many pictures there will be. unreadable: [(file, reason)], complete at the end.
    Raises SourceError where there is nothing, or where `asked` names what is not there; where `path` is a single file that
    cannot be read, a SourceFault.
    """

    def __init__(self, path, every=1, asked=()):
        files = files_of(path)
        self._every, self._asked, self._clips, self.unreadable = every, set(asked), {}, []
        self._alone = files[0] if not pathlib.Path(path).is_dir() else None
        for file in files:
            try:
                self._clips[file] = _clip(file)
            except SourceFault as error:
                self._pass_over(file, error)
        self.expected = sum(1 if clip is None else -(-(clip.frames or 0) // every) for clip in self._clips.values())
        self._check_asked(path)

    def _check_asked(self, path):
        clips = {file.name: clip for file, clip in self._clips.items()}
        for file, frame in self._asked:
            if file not in clips:
                raise SourceError(f"{path} has no picture {file!r}, which the corrections name; give its name within {path}")
            if (frame is None) != (clips[file] is None):
                raise SourceError(
                    f"the corrections name {file!r} {'without' if frame is None else 'with'} a frame, "
                    f"but it is {'a clip' if frame is None else 'a photograph'}; correct the column 'frame'"
                )

    def _pass_over(self, file, error):
        if self._alone:
            raise error
        self.unreadable.append((file.name, str(error).removeprefix(f"{file} ")))

    def __iter__(self):
        for file, clip in self._clips.items():
            try:
                yield from self._photograph(file) if clip is None else self._frames(file, clip)
            except SourceFault as error:
                self._pass_over(file, error)

    def _photograph(self, file):
        pixels = read_picture(file).pixels
        yield Shot(file.name, _digest(file), None, None, read_label(file), pixels)

    def _frames(self, file, clip):
        digest = _digest(file)
        with clip.open() as frames:
            for number, pixels in enumerate(frames):
                if number % self._every == 0 or (file.name, number) in self._asked:
                    yield Shot(file.name, digest, number, clip.time(number), clip.label, pixels)
            self.unreadable += [(file.name, note) for note in frames.notes]


@dataclass(frozen=True)
class _Clip:
    """How the frames of a file are read, whatever kind of clip it is."""

    frames: int | None  # about how many
    open: Callable  # () -> context manager over an iterable of frames that has .notes at its end
    time: Callable  # number of a frame -> seconds from the start
    label: DigitalSource | None


def _clip(file):
    """The _Clip of a file, or None for a photograph. Raises SourceFault."""
    suffix = file.suffix.lower()
    if suffix in ANIMATION_SUFFIXES and is_animation(file):
        animation = read_animation(file)
        begins = np.cumsum([0.0, *animation.durations]) / 1000
        return _Clip(len(animation), lambda: contextlib.nullcontext(animation), lambda k: float(begins[k]), read_label(file))
    if suffix in PICTURE_SUFFIXES:
        return None
    info = probe(file)
    return _Clip(info.frames, lambda: read_frames(file, info), lambda k: float(k / info.rate), read_video_label(file))


def _digest(file):
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
