"""What a picture file carries beside its pixels: the chunks of a PNG and the segments of a JPEG, walked without decoding.

Sizes are looked at before anything is read: a chunk may claim, and be, gigabytes. Errors are PictureError, one line that
names the file.
PNG: W3C Portable Network Graphics, third edition, sections 5 and 11.3.3. JPEG: ITU-T T.81, annex B.
"""

import os
import struct
import zlib

from data.media.image_io import PictureError

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
APP15 = 0xEF

_MOST_PARTS = 100_000  # chunks or segments of a file; beyond that it is made to keep us busy


def png_text(path, keyword, limit):
    """The text that a PNG carries under a keyword in an iTXt chunk, or None. limit: bytes of the longest text read."""
    wanted = keyword.encode("latin-1") + b"\0"
    body = png_chunk(path, b"iTXt", wanted, limit + 1024)  # 1024: room for the names of language and keyword
    if body is None:
        return None
    try:
        compressed, method = body[len(wanted) : len(wanted) + 2]
        _language, _translated, text = body[len(wanted) + 2 :].split(b"\0", 2)
        if compressed:
            text = _inflate(text, limit)
        if compressed > 1 or method or len(text) > limit:
            raise ValueError("a form that is not known, or too long")
        return text.decode("utf-8")
    except (ValueError, zlib.error) as error:
        raise PictureError(f"{path}: its text '{keyword}' is broken ({error}); fetch the file again") from error


def has_png_chunk(path, kind, start=b""):
    """Whether a PNG holds a chunk of a kind (4 bytes) whose data begins with `start`; nothing more of it is read."""
    with _open(path) as file:
        return _find_chunk(path, file, kind, start) is not None


def png_chunk(path, kind, start, limit):
    """The first chunk of a kind whose data begins with `start`, as bytes, or None. limit: bytes of the longest read."""
    with _open(path) as file:
        length = _find_chunk(path, file, kind, start)
        if length is None:
            return None
        what = f"chunk {kind.decode('latin-1')}"
        if length > limit:
            raise PictureError(f"{path}: its {what} has {length:,} bytes, {limit:,} are read; it is not an ordinary picture")
        body, checksum = start + file.read(length - len(start)), file.read(4)
        if len(checksum) < 4:
            raise PictureError(f"{path} is cut short within its {what}; fetch it again")
        if zlib.crc32(kind + body) != int.from_bytes(checksum):
            raise PictureError(f"{path}: the checksum of its {what} is wrong; fetch it again")
        return body


def _find_chunk(path, file, kind, start):
    """The length of the chunk's data, with the file standing behind `start` in it; None where there is none."""
    if file.read(8) != PNG_START:
        return None
    for _ in range(_MOST_PARTS):
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IEND":
            return None
        length, place = int.from_bytes(header[:4]), file.tell()
        if header[4:] == kind and len(start) <= length and file.read(len(start)) == start:
            return length
        file.seek(place + length + 4)
    raise PictureError(f"{path} has more than {_MOST_PARTS:,} chunks; it is not an ordinary PNG")


def _inflate(packed, limit):
    """At most limit + 1 bytes of what is packed: a small file may hold gigabytes."""
    return zlib.decompressobj().decompress(packed, limit + 1)


def jpeg_segment(path, marker, start=b""):
    """The payload of the first segment with a marker (its second byte, such as APP15) that begins with `start`, or None.

    Only what stands before the scan is looked at.
    """
    with _open(path) as file:
        for kind, length in _headers(path, file):
            place = file.tell()
            if kind == marker:
                payload = file.read(length)
                if len(payload) < length:
                    raise PictureError(f"{path} is cut short; fetch it again")
                if payload.startswith(start):
                    return payload
            file.seek(place + length)
    return None


def _headers(path, file):
    """(second byte of the marker, payload's length) of the segments before the scan; the caller moves to each one's end."""
    if file.read(2) != JPEG_START:
        return
    for _ in range(_MOST_PARTS):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF:
            raise PictureError(f"{path} is damaged or cut short between its segments; fetch it again")
        if marker[1] == 0xFF:  # a byte of filling
            file.seek(-1, os.SEEK_CUR)
            continue
        if marker[1] in (0xD9, 0xDA):  # end of the picture, start of a scan
            return
        size = file.read(2)
        if len(size) < 2 or int.from_bytes(size) < 2:
            raise PictureError(f"{path} is damaged or cut short between its segments; fetch it again")
        yield marker[1], int.from_bytes(size) - 2
    raise PictureError(f"{path} has more than {_MOST_PARTS} segments; it is not an ordinary JPEG")


def insert_segment(jpeg, marker, payload):
    """A JPEG with one more segment, behind its last application segment. jpeg, payload: bytes, payload of at most 65,533."""
    place = 2
    while jpeg[place] == 0xFF and 0xE0 <= jpeg[place + 1] <= 0xEF:
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
    return jpeg[:place] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + jpeg[place:]


def _open(path):
    try:
        return open(path, "rb")
    except OSError as error:
        raise PictureError(f"{path} cannot be read ({error.strerror or error}); check the path") from error
