"""Video containers: their codecs, the names of color matrices, and the provenance label.

This file has only tables and bytes; `data.media.ffmpeg` runs the programs. The label is written as
the container's comment tag, which players and ffprobe show. MP4 and MOV also get an XMP packet in a
`uuid` box (Adobe XMP specification, part 3).
"""

import re
import struct
from dataclasses import dataclass

from data.media.provenance import DigitalSource, label_packet


@dataclass(frozen=True)
class Container:
    """How one kind of video file is written.

    muxer: ffmpeg's name of the format
    video_encoders: best first; the first one that the installed ffmpeg has is used
    audio_codecs: codecs that are copied without re-encoding
    audio_encoder: encoder for all other audio, followed by its options
    subtitle_codecs: codecs of subtitles that are copied
    subtitle_encoder: encoder for other subtitles that are text, or None
    covers: whether it takes a cover image
    flags: options of the muxer
    has_color_tags: the file stores its color matrix, so any may be used; otherwise players guess it
        from the size
    """

    muxer: str
    video_encoders: tuple
    audio_codecs: frozenset
    audio_encoder: tuple
    subtitle_codecs: frozenset = frozenset()
    subtitle_encoder: str | None = None
    covers: bool = False
    flags: tuple = ()
    has_color_tags: bool = True


# Encoder -> its options. Constant quality rather than bit rate: almost no visible loss, at a speed
# that suits two cores.
ENCODERS = {
    "libx264": ("-preset", "faster", "-crf", "17"),
    "libopenh264": ("-b:v", "12M"),
    "mpeg4": ("-q:v", "2", "-bf", "0"),
    "libvpx-vp9": ("-crf", "22", "-b:v", "0", "-deadline", "good", "-cpu-used", "5", "-row-mt", "1"),
    "libvpx": ("-crf", "6", "-b:v", "12M", "-deadline", "good", "-cpu-used", "4"),
}
# These encoders take an odd width or height with 4:2:0 chroma; H.264 encoders need 4:4:4 for it.
ODD_SIZES = ("libvpx-vp9", "libvpx", "mpeg4")

_H264 = ("libx264", "libopenh264", "mpeg4")
_AAC = ("aac", "-b:a", "192k")
_PCM = frozenset({"pcm_s16le", "pcm_u8"})
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
_MOV_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16be", "pcm_s24le"}) | _PCM
_MKV_AUDIO = _MP4_AUDIO | _MOV_AUDIO | {"vorbis", "flac", "dts", "truehd", "mp2"}
_AVI_AUDIO = _PCM | {"mp3", "ac3", "mp2"}
_MKV_SUBTITLES = frozenset("subrip ass ssa webvtt hdmv_pgs_subtitle dvd_subtitle dvb_subtitle".split())
_MOV_TEXT = frozenset({"mov_text"}), "mov_text"
TEXT_SUBTITLES = frozenset("subrip ass ssa webvtt mov_text text".split())
_MP4 = Container("mp4", _H264, _MP4_AUDIO, _AAC, *_MOV_TEXT, True, ("-movflags", "+faststart"))
# AVI has no timestamps: its audio is PCM, because other encoders add a delay at the start.
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", _H264, _MOV_AUDIO, _AAC, *_MOV_TEXT, False, ("-movflags", "+faststart")),
    ".mkv": Container("matroska", _H264, _MKV_AUDIO, _AAC, _MKV_SUBTITLES, "subrip", True),
    ".webm": Container("webm", ("libvpx-vp9", "libvpx"), frozenset({"opus", "vorbis"}), ("libopus", "-b:a", "160k"),
                       frozenset({"webvtt"}), "webvtt"),
    ".avi": Container("avi", ("mpeg4",), _AVI_AUDIO, ("pcm_s16le",), flags=("-vtag", "xvid"), has_color_tags=False),
}

# ffprobe's name of a color matrix -> the scale filter's name.
MATRICES = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "bt470",
    "fcc": "fcc",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
}


def default_matrix(height):
    """Return the matrix that players assume if a file names none: BT.601 for standard definition,
    BT.709 above."""
    return "smpte170m" if height <= 576 else "bt709"


# --- The provenance label ---

_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # the uuid of XMP packets in MP4 and MOV


def label_comment(label):
    """Return the text of the comment tag. label: a DigitalSource."""
    if not isinstance(label, DigitalSource):
        raise TypeError(f"expected a DigitalSource, got {label!r}")
    return f"Synthetic media, DigitalSourceType {label.uri}"


def find_label(text):
    """Return the DigitalSource that the text of a tag declares, or None."""
    found = re.search(r"http://cv\.iptc\.org/newscodes/digitalsourcetype/(\w+)", text)
    return {label.value: label for label in DigitalSource}.get(found.group(1)) if found else None


def xmp_box(label):
    """Return the label as a box for the end of an MP4 or MOV file: size, type, uuid, packet."""
    body = _XMP_BOX + label_packet(label)
    return struct.pack(">I4s", 8 + len(body), b"uuid") + body
