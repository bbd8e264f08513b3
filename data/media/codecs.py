"""What a video file can hold: the codecs that each container takes, the names of colours, and the label of synthetic media.

Only tables and bytes; the programs are run by `data.media.ffmpeg`. The label stands twice: as the container's comment tag, which
players and ffprobe show, and in MP4 and MOV also as an XMP packet in a `uuid` box (Adobe XMP specification, part 3).
"""

import re
import struct
from dataclasses import dataclass

from data.media.provenance import DigitalSource, label_packet

@dataclass(frozen=True)
class Container:
    """How one kind of file is written.

    muxer:    ffmpeg's name of it. flags: its options.
    pictures: encoders, the best first; the first that the installed ffmpeg has is used.
    sound:    codecs that are copied as they are. encoder: what all others are encoded with, and its options.
    tagged:   the colour matrix is recorded, so any may be used; without, players guess it from the size.
    """

    muxer: str
    pictures: tuple
    sound: frozenset
    encoder: tuple
    flags: tuple = ()
    tagged: bool = True


# Encoder -> its options. Quality is held, not the bit rate: next to no loss to the eye, at the speed of two cores.
ENCODERS = {
    "libx264": ("-preset", "faster", "-crf", "17"),
    "libopenh264": ("-b:v", "12M"),
    "mpeg4": ("-q:v", "2", "-bf", "0"),
    "libvpx-vp9": ("-crf", "22", "-b:v", "0", "-deadline", "good", "-cpu-used", "5", "-row-mt", "1"),
    "libvpx": ("-crf", "6", "-b:v", "12M", "-deadline", "good", "-cpu-used", "4"),
}
ODD_SIZES = ("libvpx-vp9", "libvpx", "mpeg4")  # take an odd width or height at 4:2:0; H.264 encoders only at 4:4:4

_H264 = ("libx264", "libopenh264", "mpeg4")
_AAC = ("aac", "-b:a", "192k")
_PCM = frozenset({"pcm_s16le", "pcm_u8"})
_MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
_MOV_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16be", "pcm_s24le"}) | _PCM
_MKV_SOUND = _MP4_SOUND | _MOV_SOUND | {"vorbis", "flac", "dts", "truehd", "mp2"}
_AVI_SOUND = _PCM | {"mp3", "ac3", "mp2"}
_MP4 = Container("mp4", _H264, _MP4_SOUND, _AAC, ("-movflags", "+faststart"))
# AVI knows no times: its sound is written without the delay that an encoder would put before it.
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", _H264, _MOV_SOUND, _AAC, ("-movflags", "+faststart")),
    ".mkv": Container("matroska", _H264, _MKV_SOUND, _AAC),
    ".webm": Container("webm", ("libvpx-vp9", "libvpx"), frozenset({"opus", "vorbis"}), ("libopus", "-b:a", "160k")),
    ".avi": Container("avi", ("mpeg4",), _AVI_SOUND, ("pcm_s16le",), ("-vtag", "xvid"), tagged=False),
}

# ffprobe's name of a colour matrix -> the scale filter's.
MATRICES = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "bt470",
    "fcc": "fcc",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
}


def usual_matrix(height):
    """The matrix that players assume where a file names none: BT.601 for standard definition, BT.709 above."""
    return "smpte170m" if height <= 576 else "bt709"


# --- The label ---

_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # the uuid of XMP packets in MP4 and MOV


def label_comment(label):
    """The text of the comment tag. label: a DigitalSource."""
    if not isinstance(label, DigitalSource):
        raise TypeError(f"expected a DigitalSource, got {label!r}")
    return f"Synthetic media, DigitalSourceType {label.uri}"


def find_label(text):
    """The DigitalSource that a tag's text declares; None where there is none, or another term."""
    found = re.search(r"http://cv\.iptc\.org/newscodes/digitalsourcetype/(\w+)", text)
    return {label.value: label for label in DigitalSource}.get(found.group(1)) if found else None


def xmp_box(label):
    """The label as a box to append to an MP4 or MOV file: size, 'uuid', the uuid of XMP, the packet."""
    body = _XMP_BOX + label_packet(label)
    return struct.pack(">I4s", 8 + len(body), b"uuid") + body
