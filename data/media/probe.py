"""Probe a video file: size, frame rate, rotation, colors and audio.

Headers often state a wrong frame rate, above all those of phones and screen recorders. So it is
taken from the timestamps of all packets, and chosen so that no frame is lost.
"""

import contextlib
import json
import math
import pathlib
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from data.media.codecs import find_label
from data.media.ffmpeg import GUARD, VideoError, clean_message, file_url, run_program
from data.media.image_io import PIXEL_LIMIT, check_source
from data.media.provenance import DigitalSource

RATE_LIMIT = 1000  # frames per second; a header that claims more is broken

_STANDARD_RATES = tuple(
    Fraction(rate) for rate in "1 2 5 8 10 12 15 20 24000/1001 24 25 30000/1001 30 48 50 60000/1001 60 90 120".split()
)
_TIME_ROUNDING = 0.001  # seconds: some containers round times to milliseconds

_HIGH_BIT_DEPTH = r"(9|10|12|14|16|32)[lb]e$|^(p[024]1[06]|x2)"  # pixel formats of more than 8 bits per channel
_WITH_ALPHA = r"^(yuva|rgba|argb|bgra|abgr|gbrap|ya8|ya16|ayuv)"  # pixel formats with transparency
HDR_TRANSFERS = ("smpte2084", "arib-std-b67")  # PQ and HLG


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video as data.media.video.FrameReader reads it and
    data.media.video.VideoWriter writes it.

    width, height: size of the upright frames
    rate: frames per second
    frames, seconds: None if unknown
    counted: `frames` is known from the packets; otherwise it is an estimate
    rotation: degrees by which the stored frames are turned clockwise on reading
    variable: the frame rate of the file is not constant
    start: seconds from the start of the file to its first frame; audio may start earlier
    aspect: width / height of one pixel
    matrix, primaries, transfer: ffmpeg's names of the color tags; "" if the file has none
    hdr: the frames have a high dynamic range and are tone-mapped on reading
    notes: conversions on reading, one phrase each
    path: the file; None for a video that does not exist yet
    stream: index of the video stream in the file
    audio: (index, codec) of each audio stream of a known codec
    others: (index, kind, codec) of each further stream; kind: "subtitle", "cover", "attachment", "data",
        "video" or "audio"
    comment: the file's comment tag, or ""
    label: the provenance label that the file's tags declare, or None
    """

    width: int
    height: int
    rate: Fraction
    frames: int | None = None
    seconds: float | None = None
    counted: bool = False
    rotation: int = 0
    variable: bool = False
    codec: str = ""
    pixel_format: str = ""
    start: float = 0.0
    aspect: Fraction = Fraction(1)
    matrix: str = ""
    primaries: str = ""
    transfer: str = ""
    hdr: bool = False
    interlaced: bool = False
    notes: tuple = ()
    path: pathlib.Path | None = None
    stream: int = 0
    audio: tuple = ()
    others: tuple = ()
    comment: str = ""
    label: DigitalSource | None = None

    def time(self, index):
        """Return the time of a frame, in seconds from the first one."""
        return float(index / self.rate)


def probe(path):
    """Return the VideoInfo of a file. Raises VideoError if it has no readable video stream."""
    streams, container = _run_ffprobe(path)
    stream = _video_stream(streams)
    audio = tuple((other["index"], other["codec_name"]) for other in streams
                  if other.get("codec_type") == "audio" and other.get("codec_name"))
    if stream is None:
        only_audio = ", only audio" if audio else ""
        raise VideoError(f"{path} contains no video{only_audio}; give a video file")
    width, height = _stored_size(path, stream)
    rotation = _rotation(stream)
    aspect = _fraction(stream.get("sample_aspect_ratio", "").replace(":", "/")) or Fraction(1)
    sideways = rotation in (90, 270)
    times, discarded = _times(path, stream["index"])
    rate, variable = _rate(stream, times)
    start = max(0.0, _number(stream.get("start_time")) - _number(container.get("start_time")))
    seconds = _number(stream.get("duration")) or max(0.0, _number(container.get("duration")) - start)
    frames = _slots(times, rate)[-1] + 1 if len(times) else round(seconds * rate)
    if "mp4" in container.get("format_name", "") and stream.get("nb_frames", "").isdigit():
        frames = max(frames, int(stream["nb_frames"]) - discarded)  # the file may be cut short
    if len(times) and frames > 1000 * len(times) + 100_000:
        raise VideoError(f"{path} has broken timestamps: its {len(times)} frames would last "
                         f"{float(frames / rate):,.0f} seconds; fetch it again, or convert it to MP4")
    interlaced = stream.get("field_order") in ("tt", "bb", "tb", "bt")
    return VideoInfo(
        width=height if sideways else width,
        height=width if sideways else height,
        rate=rate,
        frames=int(frames) or None,
        seconds=seconds or None,
        counted=len(times) > 0,
        rotation=rotation,
        variable=variable,
        codec=stream.get("codec_name", ""),
        pixel_format=stream.get("pix_fmt", ""),
        start=start,
        aspect=1 / aspect if sideways else aspect,
        matrix=_color_tag(stream, "space"),
        primaries=_color_tag(stream, "primaries"),
        transfer=_color_tag(stream, "transfer"),
        hdr=_color_tag(stream, "transfer") in HDR_TRANSFERS,
        interlaced=interlaced,
        notes=tuple(_conversions(stream, rate, variable, interlaced)),
        path=pathlib.Path(path),
        stream=stream["index"],
        audio=audio,
        others=tuple(_other_stream(other) for other in streams
                     if other is not stream and other["index"] not in dict(audio) and not _is_chapter_list(other)),
        comment=next((value for key, value in container.get("tags", {}).items() if key.lower() == "comment"), ""),
        label=_label(streams, container),
    )


def read_video_label(path):
    """Return the DigitalSource that the tags of a video declare, or None.

    Raises VideoError if the file is not a video.
    """
    return _label(*_run_ffprobe(path))


def _label(streams, container):
    tags = [part.get("tags", {}) for part in (container, *streams)]
    return find_label("\n".join(str(value) for group in tags for value in group.values()))


def _run_ffprobe(path):
    """Return ffprobe's description of a file: (list of its streams, the container), each a dict.

    Raises VideoError if the file cannot be read.
    """
    check_source(pathlib.Path(path), VideoError)
    arguments = ["-loglevel", "error", *GUARD, "-show_streams", "-show_format", "-of", "json", file_url(path)]
    code, text, messages = run_program("ffprobe", arguments)
    if code:
        reason = _reason(messages)
        raise VideoError(f"{path} is not a video that can be read ({reason}); fetch it again, or convert it to MP4")
    described = json.loads(text)
    return described.get("streams", []), described.get("format", {})


def _reason(messages):
    """Return the first of ffprobe's messages, shortened for the user."""
    lines = [clean_message(line) for line in messages.splitlines()]
    if any(line.startswith("Format not on whitelist") for line in lines):
        return "it is a playlist or another format that is not opened"
    line = next((line for line in lines if line), "no reason given")
    return "unknown video format" if line.startswith("file:") else line[:200]


def _video_stream(streams):
    """Return the video stream, the default one of several, or None. The cover image of an audio
    file does not count."""
    all_video = [stream for stream in streams if stream.get("codec_type") == "video"]
    moving = [stream for stream in all_video if not stream.get("disposition", {}).get("attached_pic")]
    return min(moving, key=lambda stream: not stream.get("disposition", {}).get("default"), default=None)


def _is_chapter_list(stream):
    """Return whether a stream holds the names of the chapters in MP4 and MOV, which are carried over."""
    return stream.get("codec_type") == "data" and stream.get("codec_tag_string") == "text"


def _other_stream(stream):
    """Return (index, kind, codec) of a stream that is neither the video nor audio of a known codec."""
    kind = "cover" if stream.get("disposition", {}).get("attached_pic") else stream.get("codec_type", "data")
    return stream["index"], kind, stream.get("codec_name") or stream.get("codec_tag_string", "unknown")


def _stored_size(path, stream):
    width, height = stream.get("width", 0), stream.get("height", 0)
    if not width or not height:
        raise VideoError(f"{path} is damaged or cut short: its frame size is unknown; fetch it again")
    if width * height > PIXEL_LIMIT:
        limit = PIXEL_LIMIT // 1_000_000
        raise VideoError(f"{path} has frames of {width}x{height}, more than {limit} million pixels; "
                         "scale it down first")
    return width, height


def _rotation(stream):
    """Return degrees clockwise, a multiple of 90, from the display matrix or from the tag that old
    versions of ffmpeg show."""
    rotations = [data["rotation"] for data in stream.get("side_data_list", []) if "rotation" in data]
    degrees = -float(rotations[0]) if rotations else _number(stream.get("tags", {}).get("rotate"))
    return round(degrees / 90) * 90 % 360


def _color_tag(stream, key):
    value = stream.get(f"color_{key}", "")
    return "" if value in ("unknown", "unspecified", "reserved", "gbr") else value


def _fraction(text):
    """Return a text such as '30000/1001' as a Fraction; None for 0/0 and the like."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def _number(text):
    """Return a time or an angle as float; 0 if it is missing or not finite."""
    try:
        value = float(text)
    except (TypeError, ValueError):  # missing, or N/A
        return 0.0
    return value if math.isfinite(value) else 0.0


def _rate(stream, times):
    """Return (frames per second as a Fraction, whether the rate varies).

    For a constant rate: the header's rate if the packets agree with it, otherwise the standard rate
    nearest to the mean. For a variable rate: one at which as few frames as possible are lost, if
    possible one whose frame times match those of all frames, and the lowest of these.
    """
    stated = [_fraction(stream.get(key, "")) for key in ("avg_frame_rate", "r_frame_rate")]
    stated = [rate for rate in stated if rate and rate <= RATE_LIMIT]
    gaps = np.diff(times)
    gaps = gaps[gaps > 0.5 / RATE_LIMIT]
    if len(gaps) == 0:
        return (stated[0] if stated else Fraction(25)), False
    mean, median = float(gaps.mean()), float(np.median(gaps))
    variable = bool(np.any(abs(gaps - median) > 0.4 * median + _TIME_ROUNDING))
    if variable:
        rates = sorted(rate for rate in {*stated, *_STANDARD_RATES} if rate * mean > 0.98)
        if rates:
            return min(rates, key=lambda rate: _misfit(times, rate)), True
    agreeing = [rate for rate in stated if abs(rate * mean - 1) < 2e-4 + 2 * _TIME_ROUNDING / gaps.sum()]
    if agreeing and not variable:
        return agreeing[0], False
    fast_enough = [rate for rate in _STANDARD_RATES if rate * mean > 0.98]
    fast_enough = fast_enough or [Fraction(1 / mean).limit_denominator(1001)]
    return min(fast_enough, key=lambda rate: abs(rate * mean - 1)), variable


def _slots(times, rate):
    """Return the numbers of the frames (n,) at a constant rate that show the frames at these times."""
    return np.floor((times - times[0]) * float(rate) + 0.5).astype(int)


def _misfit(times, rate):
    """Return (number of frames that are lost at a constant rate, whether others are shifted in time)."""
    positions = (times - times[0]) * float(rate)
    shifted = abs(positions - np.rint(positions)).max() >= 0.05 + _TIME_ROUNDING * rate
    return int((np.diff(_slots(times, rate)) == 0).sum()), bool(shifted)


def _times(path, index):
    """Return (the sorted times in seconds of a stream's packets, (n,) float64, number of discarded packets).

    No times are returned if some packets have none.
    """
    arguments = ["-loglevel", "quiet", *GUARD, "-select_streams", str(index)]
    arguments += ["-show_entries", "packet=pts_time,dts_time,flags", "-of", "csv=p=0", file_url(path)]
    packets = [line.split(",") for line in run_program("ffprobe", arguments)[1].split()]
    packets = [packet for packet in packets if len(packet) >= 3]
    shown = [packet for packet in packets if "D" not in packet[2]]  # D: discarded by an edit list
    for column in (0, 1):  # in MPEG only some packets have a pts, but all have a dts
        with contextlib.suppress(ValueError):
            return np.unique(np.array([packet[column] for packet in shown], np.float64)), len(packets) - len(shown)
    return np.zeros(0), 0


def _conversions(stream, rate, variable, interlaced):
    """Yield the conversions on reading, one phrase each."""
    pixel_format = stream.get("pix_fmt", "")
    tags = {key.lower(): value for key, value in stream.get("tags", {}).items()}
    hdr = stream.get("color_transfer") in HDR_TRANSFERS  # FrameReader notes it
    if re.search(_HIGH_BIT_DEPTH, pixel_format) and not hdr:
        yield "more than 8 bits per channel converted to 8"
    if re.search(_WITH_ALPHA, pixel_format) or tags.get("alpha_mode") == "1":
        yield "transparency dropped"
    if interlaced:
        yield "deinterlaced"
    if variable:
        yield f"variable frame rate converted to constant: {float(rate):.5g} fps"
