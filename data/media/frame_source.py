"""Frame source: iterate over photos and the frames of videos.

A file in a folder that cannot be read is skipped and listed in `unreadable`. Of a video, every k-th
frame is used, plus requested ones. Animated images count as videos here.

Legend: H, W height and width.
"""

import contextlib
import hashlib
import pathlib
import re
from dataclasses import dataclass

import numpy as np

from data.media.animation import Animation, decode_animation, is_animation
from data.media.image_io import IMAGE_SUFFIXES, DecodedImage, ImageError, decode_image, one_line, open_image
from data.media.provenance import DigitalSource
from data.media.video import VIDEO_SUFFIXES, FrameReader, VideoError, probe
from data.support.errors import UserError

SOURCE_ERRORS = (ImageError, VideoError)  # raised for a file that cannot be read
FILE_ERRORS = (*SOURCE_ERRORS, OSError, MemoryError)  # what one file of a folder may raise without ending the rest


FRAMES_SEARCHED = 1200  # frames of a video that are searched for faces unless told otherwise, about


class SourceError(UserError, ValueError):
    """The input cannot be used. The message is one line: what, where, what to do."""


def passed_over(folder):
    """Return a line that counts and names what list_source_files leaves out, or None."""
    kinds = {}
    for path in sorted(pathlib.Path(folder).iterdir()):
        if path.name.startswith(".") or path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and path.is_file():
            continue
        kind = "sub-folder" if path.is_dir() else "other file" if path.exists() else "broken link"
        kinds.setdefault(kind, []).append(path)
    if not kinds:
        return None
    advice = ["give sub-folders one by one"] if "sub-folder" in kinds else []
    if any(path.suffix.lower() in (".heic", ".heif") for path in kinds.get("other file", ())):
        advice.append("convert HEIC photos to JPEG (on an iPhone: Settings, Camera, Formats, Most Compatible)")
    elif "other file" in kinds:
        advice.append("convert images and videos of other formats to .png or .mp4")
    if "broken link" in kinds:
        advice.append("restore the files that the links name")
    counts = [f"{len(paths)} {kind}{'s' if len(paths) > 1 else ''} ({', '.join(path.name for path in paths[:5])}"
              f"{', ...' if len(paths) > 5 else ''})" for kind, paths in kinds.items()]
    return f"passed over: {', '.join(counts)}; {'; '.join(advice)}"


def failure(file, error):
    """Return why a file failed, as one line without its path."""
    if isinstance(error, MemoryError):
        return "it needs more memory than is free; scale it down first"
    return one_line(str(error).removeprefix(f"{file}").removeprefix(":").strip() or error)


def open_media(path):
    """Open a file once and return what it is: a DecodedImage, an Animation, or the VideoInfo of a video.

    Raises one of SOURCE_ERRORS.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return probe(path)
    with open_image(path) as image:
        return (decode_animation if is_animation(image) else decode_image)(path, image)


@dataclass(frozen=True)
class Frame:
    """A photo or a frame of a video, and the file it comes from."""

    path: pathlib.Path
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
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    files = sorted(p for p in path.iterdir()
                   if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.is_file())
    if not files:
        rest = passed_over(path)
        raise SourceError(f"the folder {path} contains no images and no videos"
                          f"{f' ({rest})' if rest else ''}; put images of one person into it")
    return files


class FrameSource:
    """Iterable (to be used once) over the Frames of an image, a video, or a folder of them.

    every: every k-th frame of a video is used; None: so that about FRAMES_SEARCHED are
    requested: {(file, frame)} that are used in any case: those with hand-made corrections
        (data/extract/corrections.py); frame is None for photos

    Attributes:
    video_frames: number of frames of all videos, as far as it is known
    expected: estimated number of frames; more exact as files are opened
    failed: [(file, reason)] of the files that could not be used, or not to their end
    notes: [(file, note)] of damaged and converted files

    Raises SourceError if there is no input, or `requested` names something that does not exist. If
    `path` is a single file that cannot be read, raises one of SOURCE_ERRORS.
    """

    def __init__(self, path, every=None, requested=()):
        files = list_source_files(path)
        self._requested, self._files, self.failed, self.notes = set(requested), files, [], []
        self._single_file = files[0] if not pathlib.Path(path).is_dir() else None
        if missing := {file for file, _ in requested} - {file.name for file in files}:
            raise SourceError(f"{path} has no image {min(missing)!r}, which the corrections name; "
                              f"give its name within {path}")
        # A photo is opened when its turn comes: its pixels would fill the memory.
        self._videos = {file: self._open(file) for file in files if file.suffix.lower() in VIDEO_SUFFIXES}
        self.video_frames = sum(video.frames or 0 for video in self._videos.values() if video is not None)
        self._every = every or max(1, self.video_frames // FRAMES_SEARCHED)
        self.expected = len(files) + sum(self._count(video) - 1 for video in self._videos.values())

    def _open(self, file):
        """Return the opened file, or None if it cannot be read."""
        try:
            media = open_media(file)
        except FILE_ERRORS as error:
            return self.skip(file, error)
        photo = isinstance(media, DecodedImage)
        if any(name == file.name and (frame is None) != photo for name, frame in self._requested):
            raise SourceError(f"the corrections name {file.name!r} {'with' if photo else 'without'} a frame, "
                              f"but it is {'a photo' if photo else 'a video'}; correct the column 'frame'")
        return media

    def _count(self, media):
        """Return how many frames of an opened file will be used, about."""
        return 1 if media is None or isinstance(media, DecodedImage) else -(-(media.frames or 0) // self._every)

    def skip(self, file, error):
        """Note that a file of the folder failed. If it is the only input, raise the error."""
        if self._single_file:
            raise error
        self.failed.append((file.name, failure(file, error)))

    def __iter__(self):
        for file in self._files:
            media = self._videos[file] if file in self._videos else self._open(file)
            if file not in self._videos:
                self.expected += self._count(media) - 1
            try:
                if media is not None:
                    yield from self._frames(media)
            except FILE_ERRORS as error:
                self.skip(file, error)

    def _frames(self, media):
        name, digest = media.path.name, _digest(media.path)
        if isinstance(media, DecodedImage):
            yield Frame(media.path, name, digest, None, None, media.label, media.pixels)
            return
        with contextlib.nullcontext(media) if isinstance(media, Animation) else FrameReader(media) as frames:
            for number, (index, pixels, count) in enumerate(distinct_frames(frames)):
                requested = [k for k in range(index, index + count) if (name, k) in self._requested]
                for k in requested or ([index] if number % self._every == 0 else []):
                    yield Frame(media.path, name, digest, k, media.time(k), media.label, pixels)
            self.notes += [(name, note) for note in frames.notes]


def _digest(file):
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def distinct_frames(frames):
    """Yield (index, frame, count) of the frames of a video. A frame that is repeated is yielded once.

    count: how often the frame is shown, at `index` and after it
    """
    index, count, last = 0, 0, None
    for frame in frames:
        if count and np.array_equal(frame, last):
            count += 1
            continue
        if count:
            yield index, last, count
        index, count, last = index + count, 1, frame
    if count:
        yield index, last, count


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
