"""Probe a video file: size, frame rate, rotation, colors and audio.

Headers often state a wrong frame rate, above all those of phones and screen recorders. So it is
taken from the timestamps of the packets.
"""

import json
import math
import pathlib
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from data.media.codecs import find_label
from data.media.ffmpeg import GUARD, VideoError, clean_message, file_url, run_program
from data.media.image_io import PIXEL_LIMIT

RATE_LIMIT = 1000  # frames per second; a header that claims more is broken

_STANDARD_RATES = tuple(
    Fraction(rate) for rate in "1 2 5 8 10 12 15 20 24000/1001 24 25 30000/1001 30 48 50 60000/1001 60 90 120".split()
)
_SAMPLED_PACKETS = 3000  # a minute or two is enough to see whether the rate varies
_TIME_ROUNDING = 0.001  # seconds: some containers round times to milliseconds

_HIGH_BIT_DEPTH = r"(9|10|12|14|16|32)[lb]e$|^(p[024]1[06]|x2)"  # pixel formats of more than 8 bits per channel
_WITH_ALPHA = r"^(yuva|rgba|argb|bgra|abgr|gbrap|ya8|ya16|ayuv)"  # pixel formats with transparency
_HDR_TRANSFERS = ("smpte2084", "arib-std-b67")  # PQ and HLG


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video as data.media.video.read_frames reads it and
    data.media.video.VideoWriter writes it.

    width, height: size of the upright frames
    rate: frames per second
    frames, seconds: estimates; None if unknown
    rotation: degrees by which the stored frames are turned clockwise on reading
    variable: the frame rate of the file is not constant
    start: seconds from the start of the file to its first frame; audio may start earlier
    aspect: width / height of one pixel
    matrix, primaries, transfer: ffmpeg's names of the color tags; "" if the file has none
    stream: index of the video stream in the file
    notes: conversions on reading, one phrase each
    """

    width: int
    height: int
    rate: Fraction
    frames: int | None = None
    seconds: float | None = None
    rotation: int = 0
    variable: bool = False
    has_audio: bool = False
    codec: str = ""
    pixel_format: str = ""
    start: float = 0.0
    aspect: Fraction = Fraction(1)
    matrix: str = ""
    primaries: str = ""
    transfer: str = ""
    interlaced: bool = False
    stream: int = 0
    notes: tuple = ()


def probe(path):
    """Return the VideoInfo of a file. Raises VideoError if it has no readable video stream."""
    streams, container = run_ffprobe(path)
    stream = _video_stream(streams)
    if stream is None:
        only_audio = ", only audio" if audio_streams(streams) else ""
        raise VideoError(f"{path} contains no video{only_audio}; give a video file")
    width, height = _stored_size(path, stream)
    rotation = _rotation(stream)
    aspect = _fraction(stream.get("sample_aspect_ratio", "").replace(":", "/")) or Fraction(1)
    sideways = rotation in (90, 270)
    rate, variable = _rate(path, stream)
    start = max(0.0, _number(stream.get("start_time")) - _number(container.get("start_time")))
    seconds = _number(stream.get("duration")) or max(0.0, _number(container.get("duration")) - start)
    counted = stream.get("nb_frames", "").isdigit() and not variable
    interlaced = stream.get("field_order") in ("tt", "bb", "tb", "bt")
    return VideoInfo(
        width=height if sideways else width,
        height=width if sideways else height,
        rate=rate,
        frames=int(stream["nb_frames"]) if counted else round(seconds * rate) or None,
        seconds=seconds or None,
        rotation=rotation,
        variable=variable,
        has_audio=bool(audio_streams(streams)),
        codec=stream.get("codec_name", ""),
        pixel_format=stream.get("pix_fmt", ""),
        start=start,
        aspect=1 / aspect if sideways else aspect,
        matrix=_color_tag(stream, "space"),
        primaries=_color_tag(stream, "primaries"),
        transfer=_color_tag(stream, "transfer"),
        interlaced=interlaced,
        stream=stream["index"],
        notes=tuple(_conversions(stream, rate, variable, interlaced)),
    )


def read_video_label(path):
    """Return the DigitalSource that the tags of a video declare, or None.

    Raises VideoError if the file is not a video.
    """
    streams, container = run_ffprobe(path)
    tags = [part.get("tags", {}) for part in (container, *streams)]
    return find_label("\n".join(str(value) for group in tags for value in group.values()))


def run_ffprobe(path):
    """Return ffprobe's description of a file: (list of its streams, the container), each a dict.

    Raises VideoError if the file cannot be read.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise VideoError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); remove it or fetch it again")
    arguments = ["-loglevel", "error", *GUARD, "-show_streams", "-show_format", "-of", "json", file_url(path)]
    code, text, messages = run_program("ffprobe", arguments)
    if code:
        reason = _reason(messages)
        raise VideoError(f"{path} is not a video that can be read ({reason}); fetch it again, or convert it to MP4")
    described = json.loads(text)
    return described.get("streams", []), described.get("format", {})


def audio_streams(streams):
    """Return the audio streams of a known codec."""
    return [stream for stream in streams if stream.get("codec_type") == "audio" and stream.get("codec_name")]


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


def _rate(path, stream):
    """Return (frames per second as a Fraction, whether the rate varies).

    For a constant rate: the header's rate if the packets agree with it. For a variable rate: the
    lowest rate whose frame times match those of all frames, unless that would double their number.
    Otherwise: the standard rate nearest to the mean.
    """
    stated = [_fraction(stream.get(key, "")) for key in ("avg_frame_rate", "r_frame_rate")]
    stated = [rate for rate in stated if rate and rate <= RATE_LIMIT]
    times = _times(path, stream["index"])
    gaps = np.diff(times)
    gaps = gaps[gaps > 0.5 / RATE_LIMIT]
    if len(gaps) == 0:
        return (stated[0] if stated else Fraction(25)), False
    mean, median = float(gaps.mean()), float(np.median(gaps))
    variable = bool(np.any(abs(gaps - median) > 0.4 * median + _TIME_ROUNDING))
    if variable:
        rates = [rate for rate in [*stated, *_STANDARD_RATES] if 0.98 < rate * mean < 2.02]
        error = {rate: _grid_error(times, rate) for rate in rates}
        matching = [rate for rate in error if error[rate] < 0.05 + _TIME_ROUNDING * rate]
        agreeing = sorted(matching, key=lambda rate: (round(error[rate], 2), rate))
    else:
        agreeing = [rate for rate in stated if abs(rate * mean - 1) < 2e-4 + 2 * _TIME_ROUNDING / gaps.sum()]
    if agreeing:
        return agreeing[0], variable
    fast_enough = [rate for rate in _STANDARD_RATES if rate * mean > 0.98]
    fast_enough = fast_enough or [Fraction(1 / mean).limit_denominator(1001)]
    return min(fast_enough, key=lambda rate: abs(rate * mean - 1)), variable


def _grid_error(times, rate):
    """Return the largest deviation of the times from a grid of frames that starts at the first."""
    positions = (times - times[0]) * float(rate)
    return float(abs(positions - np.rint(positions)).max())


def _times(path, index):
    """Return the sorted times of a stream's first packets in seconds, (n,) float64; empty if some
    packets have none."""
    arguments = ["-loglevel", "quiet", *GUARD, "-select_streams", str(index)]
    arguments += ["-read_intervals", f"%+#{_SAMPLED_PACKETS}", "-show_entries", "packet=pts_time,dts_time,flags"]
    arguments += ["-of", "json", file_url(path)]
    code, text, _ = run_program("ffprobe", arguments)
    packets = json.loads(text).get("packets", []) if code == 0 else []
    shown = [packet for packet in packets if "D" not in packet.get("flags", "")]  # D: discarded by an edit list
    for key in ("pts_time", "dts_time"):  # in MPEG only some packets have a pts, but all have a dts
        if all(key in packet for packet in shown):
            return np.sort(np.array([float(packet[key]) for packet in shown], np.float64))
    return np.zeros(0)


def _conversions(stream, rate, variable, interlaced):
    """Yield the conversions on reading, one phrase each."""
    pixel_format = stream.get("pix_fmt", "")
    tags = {key.lower(): value for key, value in stream.get("tags", {}).items()}
    if re.search(_HIGH_BIT_DEPTH, pixel_format):
        yield "more than 8 bits per channel converted to 8"
    if stream.get("color_transfer") in _HDR_TRANSFERS:
        yield "high dynamic range: converted to 8 bits without tone mapping"
    if re.search(_WITH_ALPHA, pixel_format) or tags.get("alpha_mode") == "1":
        yield "transparency dropped"
    if interlaced:
        yield "deinterlaced"
    if variable:
        yield f"variable frame rate converted to constant: {float(rate):.5g} fps"
