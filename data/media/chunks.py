"""PNG chunks and JPEG segments: the metadata of an image file, read without decoding the pixels.

The file is mapped into memory. So only what is looked at is read, and a chunk that claims to be longer
than the file is cut off. All errors are ImageError, one line that names the file.
PNG: W3C Portable Network Graphics, third edition, sections 5 and 11.3.3. JPEG: ITU-T T.81, annex B.

The kind of a part is the type of a chunk (4 bytes), or the second byte of a segment's marker.
"""

import itertools
import mmap
import struct
import zlib

from data.media.image_io import ImageError

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
APP15 = b"\xef"

_MAX_PARTS = 100_000  # parts that are searched; only a malicious file has more


def read_png_text(path, keyword, limit):
    """Return the text of the iTXt chunk of a PNG with a keyword, or None. limit: bytes of text."""
    wanted = keyword.encode("latin-1") + b"\0"
    body = read_part(path, b"iTXt", wanted, limit + 1024)  # 1024: for the language and the translated keyword
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


def has_part(path, kind, start=b""):
    """Return whether an image has a part of a kind whose data begins with `start`."""
    return _find(_content(path), kind, start) is not None


def read_part(path, kind, start=b"", limit=1 << 20):
    """Return the data of the first part of a kind that begins with `start`, or None.

    limit: longest data in bytes
    """
    content = _content(path)
    found = _find(content, kind, start)
    if found is None:
        return None
    offset, length = found
    if length > limit:
        raise ImageError(f"{path}: its metadata has {length:,} bytes, more than the limit of {limit:,}; "
                         "it is not an ordinary image")
    data, checksum = content[offset : offset + length], content[offset + length : offset + length + 4]
    if len(data + checksum) < length + 4:  # in a JPEG more than 4 bytes follow, too
        raise ImageError(f"{path} is cut short within its metadata; fetch it again")
    if len(kind) == 4 and zlib.crc32(kind + data) != int.from_bytes(checksum):
        raise ImageError(f"{path}: the checksum of its metadata is wrong; fetch it again")
    return data


def _find(content, kind, start):
    """Return (offset, length) of the data of the first part of a kind that begins with `start`, or None."""
    for found, offset, length in itertools.islice(_parts(content), _MAX_PARTS):
        if found == kind and len(start) <= length and content[offset : offset + len(start)] == start:
            return offset, length
    return None


def _parts(content):
    """Yield (kind, offset of its data, length) of each part of a PNG, or of a JPEG before its first scan."""
    place = 8
    if content[:8] == PNG_START:
        while len(header := content[place : place + 8]) == 8 and header[4:] != b"IEND":
            length = int.from_bytes(header[:4])
            yield header[4:], place + 8, length
            place += 12 + length
    place = 2
    if content[:2] == JPEG_START:
        while len(header := content[place : place + 4]) == 4 and header[0] == 0xFF and header[1] not in (0xD9, 0xDA):
            length = int.from_bytes(header[2:]) - 2
            yield header[1:2], place + 4, length
            place += 1 if header[1] == 0xFF else 4 + length  # 0xFF: a fill byte before the marker


def _content(path):
    """Return the bytes of a file, mapped into memory."""
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror or error}); check the path") from error
    except ValueError:  # it is empty
        return b""


def _inflate(packed, limit):
    """Return at most limit + 1 decompressed bytes: a small file may expand to gigabytes."""
    return zlib.decompressobj().decompress(packed, limit + 1)


def insert_jpeg_segment(jpeg, marker, payload):
    """Return a JPEG with one more segment after its last application segment.

    jpeg, marker, payload: bytes; the payload has at most 65,533
    """
    offset = 2
    while jpeg[offset] == 0xFF and 0xE0 <= jpeg[offset + 1] <= 0xEF:
        offset += 2 + int.from_bytes(jpeg[offset + 2 : offset + 4])
    return jpeg[:offset] + b"\xff" + marker + struct.pack(">H", len(payload) + 2) + payload + jpeg[offset:]
