"""Read and write videos with the system's ffmpeg, through pipes: no frame is ever stored on disk.

    info = probe(path)
    with FrameReader(info) as frames, VideoWriter(target, info) as writer:
        for frame in frames:
            writer.write(change(frame))

A video is read as upright 8-bit RGB frames at a constant rate: frame k is shown k / rate seconds
after the first one. So audio copied from the source stays in sync. Notes list what was converted or
damaged.

Legend: H, W height and width. Frames are (H, W, 3) uint8 RGB.
"""

import functools
import os
import pathlib
from dataclasses import replace

import numpy as np

from data.media.codecs import (CONTAINERS, ENCODERS, MATRICES, ODD_SIZES, TEXT_SUBTITLES, default_matrix, find_label,
                               label_comment, xmp_box)
from data.media.ffmpeg import GUARD, QUIET, VideoError, file_url, run_program, start_ffmpeg, stop_process
from data.media.hdr import tone_map
from data.media.image_io import PIXEL_LIMIT, checked_target
from data.media.probe import VideoInfo, probe, read_video_label
from data.media.provenance import DigitalSource
from data.support.cli import defer_signals
from nn.serialize import temporary_path

__all__ = ["VIDEO_SUFFIXES", "VideoError", "VideoInfo", "FrameReader", "VideoWriter", "probe", "read_video_label"]

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts"),
    *(".vob", ".wmv", ".asf", ".flv", ".ogv", ".3gp", ".mxf", ".dv", ".nut"),
)

# Without these flags swscale uses fast paths that repeat chroma and round down.
_EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


class FrameReader:
    """Frames (H, W, 3) uint8 of a video, decoded by an ffmpeg process that ends when the reader is
    exhausted or closed.

    A video that is damaged or ends early gives the frames that can be decoded, and then adds to
    `notes`. If there are none, VideoError is raised.
    info: the VideoInfo of the file
    count: frames delivered so far
    """

    def __init__(self, info):
        self.info, self.count, self.notes = info, 0, []
        self._process = None
        size = f"scale={info.width}:{info.height}"
        filters = [size, "bwdif=mode=send_frame:deint=interlaced"] if info.interlaced else []
        matrix = MATRICES.get(info.matrix or default_matrix(info.height), "auto")
        # The filter fps repeats a frame until the time of the next one; the option -r would show
        # the next one early instead.
        filters += ["setpts=PTS-STARTPTS", f"fps={info.rate}"]
        filters += [f"{size}:in_color_matrix={matrix}:{_EXACT}"]
        # reinit_filter: a new size within the stream must not restart the filters, and with them the time.
        arguments = [*QUIET, *GUARD, "-max_pixels", str(PIXEL_LIMIT), "-reinit_filter", "0", "-i", file_url(info.path)]
        arguments += ["-map", f"0:{info.stream}", "-vf", ",".join(filters)]
        arguments += ["-f", "rawvideo", "-pix_fmt", "rgb48le" if info.hdr else "rgb24", "pipe:1"]
        if info.hdr:
            self.notes.append("high dynamic range: tone-mapped to SDR")
        self._process, self._messages = start_ffmpeg(arguments, feed=False)

    def __iter__(self):
        return self

    def __next__(self):
        if self._process is None:
            raise StopIteration
        frame = np.empty((self.info.height, self.info.width, 3), "<u2" if self.info.hdr else np.uint8)
        if self._process.stdout.readinto(memoryview(frame).cast("B")) < frame.nbytes:  # short only at the end
            self._finish()
            raise StopIteration
        self.count += 1
        return tone_map(frame, self.info.transfer) if self.info.hdr else frame

    def _finish(self):
        """Note the messages of the decoder, after the end of the pipe."""
        code = self._process.wait()
        self.close()
        messages = self._messages
        if self.count == 0:
            reason = messages.first or "its video stream is empty"
            raise VideoError(f"{self.info.path} has no readable frame ({reason}); fetch it again, or convert it to MP4")
        expected = self.info.frames
        if self.info.counted and self.count + max(2, expected // 50) < expected:
            self.notes.append(f"ended early: {self.count} of {expected} frames")
        if messages.count or code:
            first = messages.first or f"exit code {code}"
            self.notes.append(f"damaged: {messages.count} decoding errors, the first: {first}")

    def close(self):
        """End the decoder. May be called at any time, more than once."""
        if self._process is not None:
            process, self._process = self._process, None
            stop_process(process, self._messages)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __del__(self):
        self.close()


class VideoWriter:
    """Context manager that writes frames as a video with the provenance label and the audio of the
    source video.

    path: its suffix chooses the container (data.media.codecs.CONTAINERS); an existing file is
        replaced once the new one is complete, and stays as it is after an exception
    info: the VideoInfo of the source, whose audio, subtitles, cover, chapters and tags are carried over
        as far as the container takes them, or VideoInfo(width, height, rate); audio that the container
        does not support is re-encoded
    label: the DigitalSource of the frames

    notes: differences from the source, one phrase each
    """

    def __init__(self, path, info, label=DigitalSource.COMPOSITE):
        if info.hdr:
            info = replace(info, matrix="bt709", primaries="bt709", transfer="bt709")
        self.path, self.info, self.count, self.notes = pathlib.Path(path), info, 0, []
        self._container = CONTAINERS.get(self.path.suffix.lower())
        if self._container is None:
            known = " ".join(CONTAINERS)
            raise VideoError(f"cannot write {path}: unknown video format '{self.path.suffix}'; use one of {known}")
        self._label = label
        self._target = _checked_target(path)
        self._part = pathlib.Path(temporary_path(self._target))
        self._arguments = [*QUIET, "-y", *self._frame_input(), *self._source_streams(), *self._video_output()]
        comment = "" if find_label(info.comment) or not info.comment else f"; {info.comment}"
        self._arguments += ["-metadata", f"comment={label_comment(label)}{comment}"]
        self._arguments += [*self._container.flags, "-f", self._container.muxer, file_url(self._part)]

    def _frame_input(self):
        """Return arguments for raw frames from the pipe, delayed against the audio by as many
        frames as in the source."""
        size, delay = f"{self.info.width}x{self.info.height}", self._video_delay()[0]
        arguments = ["-itsoffset", f"{delay:.6f}", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", size]
        return [*arguments, "-framerate", str(self.info.rate), "-i", "pipe:0"]

    def _video_delay(self):
        """Return how much later than the audio the video starts, in seconds: (whole frames,
        remainder up to half a frame)."""
        frame = 1 / float(self.info.rate)
        whole_frames = round(self.info.start / frame) * frame
        return whole_frames, self.info.start - whole_frames

    def _source_streams(self):
        """Return arguments for the source as a second input: each stream is copied if the container
        supports it."""
        if self.info.path is None:
            return ["-map", "0:v:0"]
        arguments = ["-itsoffset", f"{-self._video_delay()[1]:.6f}", *GUARD, "-i", file_url(self.info.path)]
        arguments += ["-map", "0:v:0", "-map_metadata", "1", "-map_chapters", "1"]
        for number, (index, codec_name) in enumerate(self.info.audio):
            can_copy = codec_name in self._container.audio_codecs
            codec, *options = ["copy"] if can_copy else self._container.audio_encoder
            if codec != "copy":
                self.notes.append(f"audio re-encoded: {self.path.suffix} does not support {codec_name}")
            options = ("-c:a", codec, *options)
            per_stream = [f"{option}:{number}" if option.startswith("-") else option for option in options]
            arguments += ["-map", f"1:{index}", *per_stream]
        return arguments + self._other_streams()

    def _other_streams(self):
        """Return arguments for subtitles, a cover and attachments, and note the streams that are left out."""
        arguments, subtitles, covers, left_out = [], 0, 0, []
        for index, kind, codec in self.info.others:
            if kind == "subtitle" and codec in self._container.subtitle_codecs:
                options, subtitles = [f"-c:s:{subtitles}", "copy"], subtitles + 1
            elif kind == "subtitle" and codec in TEXT_SUBTITLES and self._container.subtitle_encoder:
                options, subtitles = [f"-c:s:{subtitles}", self._container.subtitle_encoder], subtitles + 1
            elif kind == "cover" and self._container.covers and codec in ("mjpeg", "png"):
                covers += 1
                options = [f"-c:v:{covers}", "copy", f"-disposition:v:{covers}", "attached_pic"]
            elif kind == "attachment" and self._container.muxer == "matroska":
                options = ["-c:t", "copy"]
            else:
                left_out.append(f"{kind} ({codec})")
                continue
            arguments += ["-map", f"1:{index}", *options]
        if left_out:
            self.notes.append(f"not carried over: {', '.join(left_out)}; {self.path.suffix} files cannot hold them, "
                              "keep the original")
        return arguments

    def _video_output(self):
        """Return arguments for the encoder, the pixel format and the colors."""
        info, container = self.info, self._container
        encoder = next((name for name in container.video_encoders if name in _encoders()), None)
        if encoder is None:
            wanted = container.video_encoders[0]
            raise VideoError(f"cannot write {self.path}: this ffmpeg lacks the encoder {wanted}; "
                             "install a full build of ffmpeg")
        odd = (info.width % 2 or info.height % 2) and encoder not in ODD_SIZES
        if odd:
            size = f"{info.width}x{info.height}"
            self.notes.append(f"odd size {size}: written with full chroma (4:4:4), which some players do not support")
        matrix = info.matrix if info.matrix in MATRICES and container.has_color_tags else default_matrix(info.height)
        filters = [f"scale=out_color_matrix={MATRICES[matrix]}:out_range=tv:{_EXACT}"]
        filters += [f"format={'yuv444p' if odd else 'yuv420p'}"]
        filters += [f"setsar={info.aspect.numerator}/{info.aspect.denominator}"]
        tags = {"-colorspace": matrix, "-color_primaries": info.primaries, "-color_trc": info.transfer,
                "-color_range": "tv"}
        color_tags = [text for tag, value in tags.items() if value for text in (tag, value)]
        return ["-filter:v:0", ",".join(filters), "-c:v:0", encoder, *ENCODERS[encoder], *color_tags]

    def __enter__(self):
        self._process, self._messages = start_ffmpeg(self._arguments, feed=True)
        return self

    def write(self, frame):
        """Add a frame (H, W, 3) uint8. Raises VideoError if the encoder has failed."""
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
        finally:  # also after an interruption while the file is completed
            with defer_signals():  # nor may a second interruption leave a partial file
                stop_process(self._process, self._messages)
                self._part.unlink(missing_ok=True)

    def _complete(self):
        """Wait for the encoder, add the label, flush the file and rename it to its final name."""
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
            self.notes.append(f"message of ffmpeg while writing: {self._messages.first}")
        try:
            with open(self._part, "ab") as file:
                if self._container.muxer in ("mp4", "mov"):
                    file.write(xmp_box(self._label))
                file.flush()
                os.fsync(file.fileno())
            os.replace(self._part, self._target)
        except OSError as error:
            reason = error.strerror or error
            raise VideoError(f"cannot write {self.path}: {reason}; free disk space or choose another folder") from error

    def _failure(self):
        """Return the VideoError for an encoder that ended too early."""
        self._process.wait()
        self._messages.join()
        reason = self._messages.last or "the process was killed"
        return VideoError(f"cannot write {self.path}: ffmpeg failed ({reason}); "
                          "free disk space or choose another format")


def _checked_target(path):
    """Return the file that will be replaced. Raises VideoError at once if it cannot be written."""
    target = checked_target(path, VideoError)
    if not os.access(target.parent, os.W_OK):
        raise VideoError(f"cannot write {path}: the folder {target.parent} is write-protected; choose another folder")
    return target


@functools.cache
def _encoders():
    """Return the names of the encoders that the installed ffmpeg has."""
    _, text, _ = run_program("ffmpeg", [*QUIET, "-encoders"])
    return frozenset(line.split()[1] for line in text.splitlines() if len(line.split()) > 1)
