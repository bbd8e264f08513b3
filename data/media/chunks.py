"""PNG chunks and JPEG segments: the metadata of an image file, read without decoding the pixels.

Sizes are checked before anything is read, because a chunk may claim, and hold, gigabytes. All
errors are ImageError, one line that names the file.
PNG: W3C Portable Network Graphics, third edition, sections 5 and 11.3.3. JPEG: ITU-T T.81, annex B.
"""

import os
import struct
import zlib

from data.media.image_io import ImageError

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
APP15 = 0xEF

_MAX_PARTS = 100_000  # chunks or segments in a file; a file with more is an attack


def read_png_text(path, keyword, limit):
    """Return the text of the iTXt chunk of a PNG with a keyword, or None. limit: bytes of text."""
    wanted = keyword.encode("latin-1") + b"\0"
    body = read_png_chunk(path, b"iTXt", wanted, limit + 1024)  # 1024: for the language and the translated keyword
    if body is None:
        return None
    try:
        compressed, method = body[len(wanted) : len(wanted) + 2]
        _language, _translated, text = body[len(wanted) + 2 :].split(b"\0", 2)
        if compressed:
            text = _inflate(text, limit)
        if compressed > 1 or method or len(text) > limit:
            raise ValueError("an unknown form, or too long")
        return text.decode("utf-8")
    except (ValueError, zlib.error) as error:
        raise ImageError(f"{path}: its text '{keyword}' is broken ({error}); fetch the file again") from error


def has_png_chunk(path, kind, start=b""):
    """Return whether a PNG has a chunk of type `kind` (4 bytes) whose data begins with `start`."""
    with _open(path) as file:
        return _find_chunk(path, file, kind, start) is not None


def read_png_chunk(path, kind, start, limit):
    """Return the data of the first chunk of type `kind` that begins with `start`, or None.

    limit: longest data in bytes
    """
    with _open(path) as file:
        length = _find_chunk(path, file, kind, start)
        if length is None:
            return None
        what = f"chunk {kind.decode('latin-1')}"
        if length > limit:
            raise ImageError(f"{path}: its {what} has {length:,} bytes, more than the limit of {limit:,}; "
                             "it is not an ordinary image")
        body, checksum = start + file.read(length - len(start)), file.read(4)
        if len(checksum) < 4:
            raise ImageError(f"{path} is cut short within its {what}; fetch it again")
        if zlib.crc32(kind + body) != int.from_bytes(checksum):
            raise ImageError(f"{path}: the checksum of its {what} is wrong; fetch it again")
        return body


def _find_chunk(path, file, kind, start):
    """Return the length of the chunk's data, with the file positioned after `start` in it; None if
    there is none."""
    if file.read(8) != PNG_START:
        return None
    for _ in range(_MAX_PARTS):
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IEND":
            return None
        length, offset = int.from_bytes(header[:4]), file.tell()
        if header[4:] == kind and len(start) <= length and file.read(len(start)) == start:
            return length
        file.seek(offset + length + 4)
    raise ImageError(f"{path} has more than {_MAX_PARTS:,} chunks; it is not an ordinary PNG")


def _inflate(packed, limit):
    """Return at most limit + 1 decompressed bytes: a small file may expand to gigabytes."""
    return zlib.decompressobj().decompress(packed, limit + 1)


def read_jpeg_segment(path, marker, start=b""):
    """Return the payload of the first segment with `marker` that begins with `start`, or None.

    marker: the second byte of the marker, such as APP15
    Only segments before the first scan are searched.
    """
    with _open(path) as file:
        for kind, length in _segment_headers(path, file):
            offset = file.tell()
            if kind == marker:
                payload = file.read(length)
                if len(payload) < length:
                    raise ImageError(f"{path} is cut short; fetch it again")
                if payload.startswith(start):
                    return payload
            file.seek(offset + length)
    return None


def _segment_headers(path, file):
    """Yield (second byte of the marker, payload length) of each segment before the first scan. The
    caller seeks to its end."""
    if file.read(2) != JPEG_START:
        return
    for _ in range(_MAX_PARTS):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF:
            raise ImageError(f"{path} is damaged or cut short between its segments; fetch it again")
        if marker[1] == 0xFF:  # a fill byte
            file.seek(-1, os.SEEK_CUR)
            continue
        if marker[1] in (0xD9, 0xDA):  # end of the image, start of a scan
            return
        size = file.read(2)
        if len(size) < 2 or int.from_bytes(size) < 2:
            raise ImageError(f"{path} is damaged or cut short between its segments; fetch it again")
        yield marker[1], int.from_bytes(size) - 2
    raise ImageError(f"{path} has more than {_MAX_PARTS} segments; it is not an ordinary JPEG")


def insert_jpeg_segment(jpeg, marker, payload):
    """Return a JPEG with one more segment after its last application segment.

    jpeg, payload: bytes; the payload has at most 65,533
    """
    offset = 2
    while jpeg[offset] == 0xFF and 0xE0 <= jpeg[offset + 1] <= 0xEF:
        offset += 2 + int.from_bytes(jpeg[offset + 2 : offset + 4])
    return jpeg[:offset] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + jpeg[offset:]


def _open(path):
    try:
        return open(path, "rb")
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}); check the path") from error
