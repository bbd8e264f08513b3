"""What a video file holds: size, rate, rotation, colours and sound, as ffprobe tells them and as its packets show.

Headers are often wrong about the rate, those of phones and screen recorders above all: it is taken from the packets' times.
"""

import json
import math
import pathlib
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from data.media.codecs import find_label
from data.media.ffmpeg import GUARD, VideoError, ask, place, plain
from data.media.image_io import PIXEL_LIMIT

RATE_LIMIT = 1000  # frames a second; a header that claims more is broken

_STANDARD_RATES = tuple(
    Fraction(rate) for rate in "1 2 5 8 10 12 15 20 24000/1001 24 25 30000/1001 30 48 50 60000/1001 60 90 120".split()
)
_SAMPLED_PACKETS = 3000  # a minute or two tells whether the rate varies
_ROUNDED = 0.001  # seconds: some containers round times to milliseconds

_DEEP = r"(9|10|12|14|16|32)[lb]e$|^(p[024]1[06]|x2)"  # pixel formats of more than 8 bits a channel
_CLEAR = r"^(yuva|rgba|argb|bgra|abgr|gbrap|ya8|ya16|ayuv)"  # pixel formats with transparency
_DEEP_TRANSFERS = ("smpte2084", "arib-std-b67")  # PQ and HLG


@dataclass(frozen=True)
class VideoInfo:
    """What a clip holds, as `data.media.video.read_frames` delivers and `data.media.video.VideoWriter` writes it.

    width, height: of the upright frames. rate: frames a second.
    frames, seconds: estimates, None where nothing is known.
    rotation: degrees by which the stored pictures are turned clockwise. variable: the clip's own rate is not constant.
    start:  seconds from the file's beginning to its first picture: sound may come before it.
    aspect: width / height of one pixel.
    matrix, primaries, transfer: ffmpeg's names of the colour tags, "" where the clip has none.
    stream: number of the picture stream in the file. notes: what reading converts, one phrase each.
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
    """What the clip holds: a VideoInfo. Raises VideoError for whatever has no moving pictures that can be read."""
    streams, whole = describe(path)
    stream = _picture_stream(streams)
    if stream is None:
        raise VideoError(f"{path} holds no moving pictures{', only sound' if sound_streams(streams) else ''}; give a video")
    width, height = _stored_size(path, stream)
    rotation, aspect = _rotation(stream), _fraction(stream.get("sample_aspect_ratio", "").replace(":", "/")) or Fraction(1)
    lying = rotation in (90, 270)
    rate, variable = _rate(path, stream)
    start = max(0.0, _number(stream.get("start_time")) - _number(whole.get("start_time")))
    seconds = _number(stream.get("duration")) or max(0.0, _number(whole.get("duration")) - start)
    counted = stream.get("nb_frames", "").isdigit() and not variable
    interlaced = stream.get("field_order") in ("tt", "bb", "tb", "bt")
    return VideoInfo(
        width=height if lying else width,
        height=width if lying else height,
        rate=rate,
        frames=int(stream["nb_frames"]) if counted else round(seconds * rate) or None,
        seconds=seconds or None,
        rotation=rotation,
        variable=variable,
        has_audio=bool(sound_streams(streams)),
        codec=stream.get("codec_name", ""),
        pixel_format=stream.get("pix_fmt", ""),
        start=start,
        aspect=1 / aspect if lying else aspect,
        matrix=_colour_tag(stream, "space"),
        primaries=_colour_tag(stream, "primaries"),
        transfer=_colour_tag(stream, "transfer"),
        interlaced=interlaced,
        stream=stream["index"],
        notes=tuple(_conversions(stream, rate, variable, interlaced)),
    )


def read_video_label(path):
    """The DigitalSource that a video's tags declare; None where there is none, or another term. VideoError for no video."""
    streams, whole = describe(path)
    tags = [part.get("tags", {}) for part in (whole, *streams)]
    return find_label("\n".join(str(value) for group in tags for value in group.values()))


def describe(path):
    """What ffprobe says of a file: (list of its streams, the whole), each a dict. VideoError where it cannot be read."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise VideoError(f"{path} {'is not a file' if path.exists() else 'does not exist'}; check the path")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); remove it or fetch it again")
    arguments = ["-loglevel", "error", *GUARD, "-show_streams", "-show_format", "-of", "json", place(path)]
    code, text, messages = ask("ffprobe", arguments)
    if code:
        reason = _reason(messages)
        raise VideoError(f"{path} is not a video that can be read ({reason}); fetch it again, or convert it to MP4")
    described = json.loads(text)
    return described.get("streams", []), described.get("format", {})


def sound_streams(streams):
    """Those of the streams that are sound of a known codec."""
    return [stream for stream in streams if stream.get("codec_type") == "audio" and stream.get("codec_name")]


def _reason(messages):
    """The first of ffprobe's messages, cut to what a person needs."""
    lines = [plain(line) for line in messages.splitlines()]
    if any(line.startswith("Format not on whitelist") for line in lines):
        return "it is a playlist or another kind of file that is not opened"
    line = next((line for line in lines if line), "no reason given")
    return "no video format is recognised" if line.startswith("file:") else line[:200]


def _picture_stream(streams):
    """The stream of moving pictures, the default one of several, or None. Cover pictures of sound files do not count."""
    pictures = [stream for stream in streams if stream.get("codec_type") == "video"]
    moving = [stream for stream in pictures if not stream.get("disposition", {}).get("attached_pic")]
    return min(moving, key=lambda stream: not stream.get("disposition", {}).get("default"), default=None)


def _stored_size(path, stream):
    width, height = stream.get("width", 0), stream.get("height", 0)
    if not width or not height:
        raise VideoError(f"{path} is damaged or cut short: the size of its pictures is not known; fetch it again")
    if width * height > PIXEL_LIMIT:
        limit = PIXEL_LIMIT // 1_000_000
        raise VideoError(f"{path} has frames of {width}x{height}, more than {limit} million pixels; make it smaller first")
    return width, height


def _rotation(stream):
    """Degrees clockwise, a multiple of 90: from the display matrix, or from the tag that old versions of ffmpeg show."""
    turns = [data["rotation"] for data in stream.get("side_data_list", []) if "rotation" in data]
    degrees = -float(turns[0]) if turns else _number(stream.get("tags", {}).get("rotate"))
    return round(degrees / 90) * 90 % 360


def _colour_tag(stream, key):
    value = stream.get(f"color_{key}", "")
    return "" if value in ("unknown", "unspecified", "reserved", "gbr") else value


def _fraction(text):
    """'30000/1001' as a Fraction; None for 0/0 and the like."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def _number(text):
    """A time or an angle; 0 where there is none that can be used."""
    try:
        value = float(text)
    except (TypeError, ValueError):  # missing, or N/A
        return 0.0
    return value if math.isfinite(value) else 0.0


def _rate(path, stream):
    """(frames a second as a Fraction, whether they vary).

    A constant rate is the header's where the packets agree with it. A variable one is the lowest that has a place for every
    picture, unless that would double their number; else, as for a wrong header, the standard rate nearest to the average.
    """
    stated = [_fraction(stream.get(key, "")) for key in ("avg_frame_rate", "r_frame_rate")]
    stated = [rate for rate in stated if rate and rate <= RATE_LIMIT]
    times = _times(path, stream["index"])
    gaps = np.diff(times)
    gaps = gaps[gaps > 0.5 / RATE_LIMIT]
    if len(gaps) == 0:
        return (stated[0] if stated else Fraction(25)), False
    mean, middle = float(gaps.mean()), float(np.median(gaps))
    variable = bool(np.any(abs(gaps - middle) > 0.4 * middle + _ROUNDED))
    if variable:
        rates = [rate for rate in [*stated, *_STANDARD_RATES] if 0.98 < rate * mean < 2.02]
        off = {rate: _off_grid(times, rate) for rate in rates}
        placed = [rate for rate in off if off[rate] < 0.05 + _ROUNDED * rate]
        agreeing = sorted(placed, key=lambda rate: (round(off[rate], 2), rate))
    else:
        agreeing = [rate for rate in stated if abs(rate * mean - 1) < 2e-4 + 2 * _ROUNDED / gaps.sum()]
    if agreeing:
        return agreeing[0], variable
    enough = [rate for rate in _STANDARD_RATES if rate * mean > 0.98] or [Fraction(1 / mean).limit_denominator(1001)]
    return min(enough, key=lambda rate: abs(rate * mean - 1)), variable


def _off_grid(times, rate):
    """How far at most a time is from a whole number of frames after the first, in frames."""
    places = (times - times[0]) * float(rate)
    return float(abs(places - np.rint(places)).max())


def _times(path, index):
    """Sorted times of a stream's first packets in seconds, (n,) float64; empty where the container does not tell all."""
    arguments = ["-loglevel", "quiet", *GUARD, "-select_streams", str(index), "-read_intervals", f"%+#{_SAMPLED_PACKETS}"]
    arguments += ["-show_entries", "packet=pts_time,dts_time,flags", "-of", "json", place(path)]
    code, text, _ = ask("ffprobe", arguments)
    packets = json.loads(text).get("packets", []) if code == 0 else []
    shown = [packet for packet in packets if "D" not in packet.get("flags", "")]  # D: cut away by an edit list
    for key in ("pts_time", "dts_time"):  # MPEG gives only some packets a time to show, but all a time to decode
        if all(key in packet for packet in shown):
            return np.sort(np.array([float(packet[key]) for packet in shown], np.float64))
    return np.zeros(0)


def _conversions(stream, rate, variable, interlaced):
    """What reading changes, one phrase each."""
    pixel_format = stream.get("pix_fmt", "")
    tags = {key.lower(): value for key, value in stream.get("tags", {}).items()}
    if re.search(_DEEP, pixel_format):
        yield "more than 8 bits a channel read as 8"
    if stream.get("color_transfer") in _DEEP_TRANSFERS:
        yield "high dynamic range: the values are kept, with 8 bits"
    if re.search(_CLEAR, pixel_format) or tags.get("alpha_mode") == "1":
        yield "transparency dropped"
    if interlaced:
        yield "interlaced pictures made whole"
    if variable:
        yield f"variable frame rate made constant: {float(rate):.5g} a second"
