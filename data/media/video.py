"""Video in and out by the system's ffmpeg, through pipes: no frame ever touches the disk.

    info = probe(path)
    with read_frames(path, info) as frames, VideoWriter(target, info, path) as writer:
        for frame in frames:
            writer.write(change(frame))

A clip becomes what programs can rely on: upright 8-bit RGB frames at a constant rate, the k-th shown k / rate seconds after
the first, so that sound copied from the clip stays in step. What had to be converted, or was damaged, is said in notes.

Legend: H, W height and width. Frames are (H, W, 3) uint8 RGB.
"""

import functools
import os
import pathlib
import threading

import numpy as np

from data.media.codecs import CONTAINERS, ENCODERS, MATRICES, ODD_SIZES, label_comment, usual_matrix, xmp_box
from data.media.ffmpeg import GUARD, QUIET, VideoError, ask, end, place, start
from data.media.image_io import PIXEL_LIMIT
from data.media.probe import VideoInfo, describe, probe, read_video_label, sound_streams
from data.media.provenance import DigitalSource
from data.support.cli import undivided

__all__ = ["VIDEO_SUFFIXES", "VideoError", "VideoInfo", "VideoWriter", "probe", "read_frames", "read_video_label"]

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts"),
    *(".vob", ".wmv", ".asf", ".flv", ".ogv", ".3gp", ".mxf", ".dv", ".nut"),
)

_EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"  # swscale's fast paths repeat chroma and round down


def read_frames(path, info=None):
    """The upright frames of a clip: a FrameReader, iterator and context manager. info: from `probe`, asked if None."""
    return FrameReader(path, info or probe(path))


class FrameReader:
    """Frames (H, W, 3) uint8 of a clip, decoded by an ffmpeg of its own, which ends when this is exhausted or closed.

    A clip that is damaged or ends early gives the frames that can be had, then adds to `notes`; without any: VideoError.
    count: frames delivered so far.
    """

    def __init__(self, path, info):
        self.path, self.info, self.count, self.notes = pathlib.Path(path), info, 0, []
        self._process = None
        filters = ["bwdif=mode=send_frame:deint=interlaced"] if info.interlaced else []
        matrix = MATRICES.get(info.matrix or usual_matrix(info.height), "auto")
        # The filter fps repeats a frame until the next one's time; the option -r would show the next one early instead.
        filters += ["setpts=PTS-STARTPTS", f"fps={info.rate}"]
        filters += [f"scale={info.width}:{info.height}:in_color_matrix={matrix}:{_EXACT}"]
        arguments = [*QUIET, *GUARD, "-max_pixels", str(PIXEL_LIMIT), "-i", place(path), "-map", f"0:{info.stream}"]
        arguments += ["-vf", ",".join(filters), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
        self._process, self._messages = start(arguments, feed=False)

    def __iter__(self):
        return self

    def __next__(self):
        if self._process is None:
            raise StopIteration
        frame = np.empty((self.info.height, self.info.width, 3), np.uint8)
        if self._process.stdout.readinto(memoryview(frame).cast("B")) < frame.size:  # it stops short only at the pipe's end
            self._finish()
            raise StopIteration
        self.count += 1
        return frame

    def _finish(self):
        """The pipe has ended: note what the decoder said."""
        code = self._process.wait()
        self.close()
        said = self._messages
        if self.count == 0:
            reason = said.first or "its picture stream is empty"
            raise VideoError(f"{self.path} gives no frame ({reason}); fetch it again, or convert it to MP4")
        expected = self.info.frames
        if expected and self.count + max(2, expected // 50) < expected:
            self.notes.append(f"ended early: {self.count} of about {expected} frames")
        if said.count or code:
            first = said.first or f"exit code {code}"
            self.notes.append(f"damaged: {said.count} faults while decoding, the first: {first}")

    def close(self):
        """End the decoder. May be called at any time, and more than once."""
        if self._process is not None:
            process, self._process = self._process, None
            end(process, self._messages)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __del__(self):
        self.close()


class VideoWriter:
    """Writes frames as a video with its label, and with the sound of the clip they come from.

    path:   its suffix chooses the container (data.media.codecs.CONTAINERS); a file there is replaced once the new one is complete.
    info:   size, rate and colours: the VideoInfo of the clip, or VideoInfo(width, height, rate).
    source: path of the clip whose sound is kept, None for none. Sound that the container cannot hold is encoded anew.
    label:  a DigitalSource: how the pictures came about.

    A context manager; left by an exception, it leaves nothing in the file's place. notes: what differs from the clip.
    """

    def __init__(self, path, info, source=None, label=DigitalSource.COMPOSITE):
        self.path, self.info, self.count, self.notes = pathlib.Path(path), info, 0, []
        self._container = CONTAINERS.get(self.path.suffix.lower())
        if self._container is None:
            known = " ".join(CONTAINERS)
            raise VideoError(f"cannot write {path}: unknown kind of video '{self.path.suffix}'; use one of {known}")
        self._label = label
        self._target = _checked_target(self.path)
        self._part = self._target.with_name(f".{self._target.name[:200]}.{os.getpid()}-{threading.get_ident()}.part")
        self._arguments = [*QUIET, "-y", *self._pictures_in(source), *self._sound(source), *self._pictures_out()]
        self._arguments += ["-metadata", f"comment={label_comment(label)}"]
        self._arguments += [*self._container.flags, "-f", self._container.muxer, place(self._part)]

    def _pictures_in(self, source):
        """Raw frames from the pipe, beginning as many frames later than the sound as in the clip."""
        size, later = f"{self.info.width}x{self.info.height}", 0.0 if source is None else self._later()[0]
        arguments = ["-itsoffset", f"{later:.6f}", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", size]
        return [*arguments, "-framerate", str(self.info.rate), "-i", "pipe:0"]

    def _later(self):
        """How much later than the sound the pictures begin: (whole frames, the rest up to half a frame), both in seconds."""
        frame = 1 / float(self.info.rate)
        whole = round(self.info.start / frame) * frame
        return whole, self.info.start - whole

    def _sound(self, source):
        """The clip as a second input, each of its sound streams copied where the container takes it."""
        streams = [] if source is None else sound_streams(describe(source)[0])
        arguments = ["-itsoffset", f"{-self._later()[1]:.6f}", *GUARD, "-i", place(source)] if streams else []
        arguments += ["-map", "0:v:0"]
        for number, stream in enumerate(streams):
            codec, *options = ["copy"] if stream["codec_name"] in self._container.sound else self._container.encoder
            if codec != "copy":
                self.notes.append(f"sound encoded anew: {self.path.suffix} cannot hold {stream['codec_name']}")
            of_stream = [f"{option}:{number}" if option.startswith("-") else option for option in ("-c:a", codec, *options)]
            arguments += ["-map", f"1:{stream['index']}", *of_stream]
        return arguments

    def _pictures_out(self):
        """Encoder, pixel format and colours."""
        info, container = self.info, self._container
        encoder = next((name for name in container.pictures if name in _encoders()), None)
        if encoder is None:
            wanted = container.pictures[0]
            raise VideoError(f"cannot write {self.path}: this ffmpeg lacks the encoder {wanted}; install a complete ffmpeg")
        odd = (info.width % 2 or info.height % 2) and encoder not in ODD_SIZES
        if odd:
            size = f"{info.width}x{info.height}"
            self.notes.append(f"odd size {size}: written with full colour (4:4:4), which some players do not show")
        matrix = info.matrix if info.matrix in MATRICES and container.tagged else usual_matrix(info.height)
        filters = [f"scale=out_color_matrix={MATRICES[matrix]}:out_range=tv:{_EXACT}"]
        filters += [f"format={'yuv444p' if odd else 'yuv420p'}", f"setsar={info.aspect.numerator}/{info.aspect.denominator}"]
        tags = {"-colorspace": matrix, "-color_primaries": info.primaries, "-color_trc": info.transfer, "-color_range": "tv"}
        named = [text for tag, value in tags.items() if value for text in (tag, value)]
        return ["-vf", ",".join(filters), "-c:v", encoder, *ENCODERS[encoder], *named]

    def __enter__(self):
        self._process, self._messages = start(self._arguments, feed=True)
        return self

    def write(self, frame):
        """Add a frame (H, W, 3) uint8. Raises VideoError where the encoder has given up."""
        expected = (self.info.height, self.info.width, 3)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise ValueError(f"VideoWriter: expected frames {expected} uint8, got {frame.shape} {frame.dtype}")
        try:
            self._process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            raise self._failure() from error
        self.count += 1

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._complete()
        finally:  # also for an interruption that comes while the file is completed
            with undivided():  # and a second one leaves no half file either
                end(self._process, self._messages)
                self._part.unlink(missing_ok=True)

    def _complete(self):
        """All frames are written: let the encoder end, add the label, flush, and put the file in its place."""
        if self.count == 0:
            raise VideoError(f"cannot write {self.path}: there are no frames to write")
        try:
            self._process.stdin.close()
        except OSError as error:
            raise self._failure() from error
        if self._process.wait():
            raise self._failure()
        self._messages.join()
        if self._messages.count:
            self.notes.append(f"ffmpeg said while writing: {self._messages.first}")
        try:
            with open(self._part, "ab") as file:
                if self._container.muxer in ("mp4", "mov"):
                    file.write(xmp_box(self._label))
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._part, self._target)
        except OSError as error:
            reason = error.strerror or error
            raise VideoError(f"cannot write {self.path}: {reason}; free space or choose another place") from error

    def _failure(self):
        """The VideoError for an encoder that has ended before its time."""
        self._process.wait()
        self._messages.join()
        reason = self._messages.last or "it was ended from outside"
        return VideoError(f"cannot write {self.path}: ffmpeg gave up ({reason}); free space or choose another kind of file")


def _checked_target(path):
    """The file that will be replaced, behind links. VideoError where it cannot be written: before any frame is made."""
    target = pathlib.Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise VideoError(f"cannot write {path}: the folder {target.parent} does not exist; create it first")
    if not os.access(target.parent, os.W_OK):
        raise VideoError(f"cannot write {path}: the folder {target.parent} is write-protected; choose another place")
    if target.is_dir() or (target.exists() and not os.access(target, os.W_OK)):
        fault = "a folder" if target.is_dir() else "write-protected"
        raise VideoError(f"cannot write {path}: it is {fault}; choose another name")
    return target


@functools.cache
def _encoders():
    """Names of the encoders that the installed ffmpeg has."""
    _, text, _ = ask("ffmpeg", [*QUIET, "-encoders"])
    return frozenset(line.split()[1] for line in text.splitlines() if len(line.split()) > 1)
