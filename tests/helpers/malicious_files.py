"""Malicious files: lying headers, 10 GB in 10 MB, endless nesting, invalid numbers, names that lead
elsewhere, and programs in data. Files on which fuzzing made a reader fail are kept here as well.

    malicious_inputs()        [(reader of tests/helpers/fuzzing.py, file name, bytes)]
"""
import functools
import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from nn import serialize

SYSTEM_CALL_PICKLE = b"\x80\3cos\nsystem\nX\x08\0\0\0echo run\x85R."  # runs a program when unpickled
BOMB_SIZE = 10 << 30
DEPTH = 100_000
NAMES = ("../../etc/passwd", "/etc/passwd", "C:\\x", "\\\\server\\share\\x", "CON", "a\0b", "..", ".", "~",
         "$(echo run)", "a" * 5000, "\ud800")


@functools.cache
def malicious_inputs():
    """Return [(reader, file name, bytes)]."""
    return [*_images(), *_animations(), *_faces(), *_tables(), *_runs(), *_videos()]


def _images():
    wide = struct.pack("<HH", 65535, 65535)
    named = [("png", png(65535, 65535)), ("png", png(65535, 65535, zeros(BOMB_SIZE))),
             ("png", png(9000, 7000, zeros(7000 * 36001), 6)),
             ("png", png(8, 8, extra=chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros(BOMB_SIZE)))),
             ("png", png(8, 8, extra=chunk(b"zTXt", b"Comment\0\0" + zeros(BOMB_SIZE)))),
             ("png", png(8, 8, extra=chunk(b"iCCP", b"profile\0\0" + zeros(BOMB_SIZE)))),
             ("png", png(8, 8, extra=b"".join(chunk(b"tEXt", b"a\0b") for _ in range(DEPTH)))),
             ("png", png(8, 8, extra=struct.pack(">I", 1 << 31) + b"iTXt")),
             ("png", png(8, 8, extra=chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + b"\x12\1\3\0\1\0\0\0" * 99))),
             ("bmp", b"BM" + struct.pack("<IIIIiiHHIIIIII", 0, 0, 54, 40, 65535, 65535, 1, 24, 0, 0, 0, 0, 0, 0)),
             ("bmp", b"BM" + struct.pack("<IIIIiiHHIIIIII", 0, 0, 54, 40, 1 << 30, -1 << 31, 1, 32, 0, 0, 0, 0, 0, 0)),
             ("gif", b"GIF89a" + wide + b"\xf7\0\0" + b"\0" * 768), ("ppm", b"P6 65535 65535 255\n"),
             ("ppm", b"P6 " + b"9" * 5000 + b" 1 255\n"), ("ppm", b"P6\n#" + b"x" * 5_000_000),
             ("ppm", b"P5 8 8 99999\n"),
             ("webp", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + b"\xff" * 6),
             ("jpg", b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\x01\x03\x11\x01\xff\xd9"),
             ("jpg", b"\xff\xd8" + b"\xff\xe1\xff\xff" + b"\xff" * 65533 + b"\xff\xd9"),
             ("jpg", b"\xff\xd8" + b"\xff" * 1_000_000),
             ("tif", tiff(65535, 65535)), ("tif", tiff(8, 8, following=8)), ("tif", tiff(8, 8, following=122)),
             ("tif", tiff(8, 8, strip=0xFFFFFFFF)),
             ("tif", tiff(1 << 31, 1)), ("jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 99),
             ("avif", b"\0\0\0\x1cftypavif" + b"\xff" * 99)]
    return [("image", f"input.{suffix}", content) for suffix, content in named]


def _animations():
    wide = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0"
    big = b"GIF89a" + struct.pack("<HH", 3999, 3999) + b"\x80\0\0\0\0\0\xff\xff\xff"
    dot = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    control = struct.pack(">IIII", 0, 8, 8, 0) + bytes(10)
    named = [("gif", wide + (b"\x2c\0\0\0\0" + b"\xff" * 4 + b"\0\x02\0") * 1000 + b";"), ("gif", big + dot * 3 + b";"),
             ("gif", big[:6] + b"\1\0\1\0" + big[10:] + dot * DEPTH + b";"),
             ("gif", big + dot + b"\x21\xff\x0bXMP DataXMP" + b"\1" * 3000),
             ("png", png(8, 8, extra=chunk(b"acTL", struct.pack(">II", 0x7FFFFFFF, 0)) + chunk(b"fcTL", control))),
             ("png", png(3999, 3999, extra=chunk(b"acTL", struct.pack(">II", 9, 0)) + chunk(b"fcTL", control)))]
    short = big[:6] + b"\1\0\1\0" + big[10:] + dot + dot[:4]
    cut = big[:6] + b"\1\0\1\0" + big[10:] + dot + dot[:10]
    animations = [*named, ("gif", cut), ("gif", short)]
    return [("image", "input.gif", cut),
            *(("animation", f"moving.{suffix}", content) for suffix, content in animations)]


def _faces():
    literals = ("[" * DEPTH, "{1:" * DEPTH, "-" * DEPTH + "1", "9" * DEPTH, "1" + "+1j" * DEPTH,
                "__import__('os').system('echo run')",
                "'" + "\\N{BULLET}" * 9 + "'", "(" * 16 + ")" * 16)
    records = ("[" * DEPTH, '{"version": ' + "9" * DEPTH + "}", '{"version": 1e999}', '{"version": NaN}',
               '{"a":' * DEPTH)
    found = [("faces", "input.png", _png_with_text("faceswap", text)) for text in literals]
    found += [("faces", "input.png", _png_with_text("face-record", text)) for text in records]
    found += [("faces", "input.jpg", _jpeg_with_segment(payload))
              for payload in (SYSTEM_CALL_PICKLE, _expanding_pickle(), b"\x80\4" + b"]" * 60_000 + b".")]
    found += [("faces", "input.png", png(8, 8, extra=chunk(b"iTXt", b"faceswap\0\1\0\0\0" + zeros(BOMB_SIZE)))),
              ("faces", "input.png", png(8, 8, extra=chunk(b"fcWp", SYSTEM_CALL_PICKLE)))]
    found += [("fsa", "alignments.fsa", content)
              for content in (zlib.compress(SYSTEM_CALL_PICKLE), zeros(BOMB_SIZE), zlib.compress(_expanding_pickle()))]
    nested = [b"[" * DEPTH, b'{"a":' * DEPTH, b"9" * DEPTH, b'{"a": [[NaN, 1, 1], [1, 1e999, 1]]}',
              b'{"a": ' + b"[" * 60 + b"]" * 60 + b"}"]
    return found + [(reader, name, text)
                    for reader, name in (("kept_places", "kept_places.json"), ("note", "kept.json")) for text in nested]


def _tables():
    header = ",".join(["file", "width", "height", *(f"{axis}{k}" for k in range(68) for axis in "xy")])
    rows = [f"input.png,48,48,{','.join([word] * 136)}"
            for word in ("nan", "inf", "-inf", "1e308", "-1e18", "1e999", "", "0x10", "\u0663")]
    rows += [f"input.png,{word},{word},{','.join(['1'] * 136)}" for word in ("nan", "inf", "-1", "1e308", "0")]
    rows += [f"{name},48,48,{','.join(['1'] * 136)}" for name in NAMES]
    found = [("landmarks", "landmarks.csv", f"{header}\n{row}\n".encode("utf-8", "surrogatepass")) for row in rows]
    entry = "number,face,file,frame,left,top,right,bottom,score\n{},{},a.png,,1,1,1,1,1\n"
    found += [("extraction", "faces.csv", entry.format(number, name).encode("utf-8", "surrogatepass"))
              for number, name in (*((1, name) for name in NAMES), ("9" * 5000, "00001_a.png"),
                                   (1, "person_1/../00001_a"),
                                   (1, f"person_{'9' * 5000}/00001_a.png"))]
    return found + [("landmarks", "landmarks.csv", b'"' + b"a" * 2_000_000), ("corrections", "boxes.csv", b"\0" * 1000),
                    ("corrections", "boxes.csv", b"file,frame,left,top,right,bottom\na,\xc2\xb2,1,1,2,2\n"),
                    ("corrections", "boxes.csv", b"file,frame,left,top,right,bottom\na," + b"9" * 5000 + b",1,1,2,2\n"),
                    ("sweep", "results.csv", b"experiment\n" + b"9" * 200_000),
                    ("notes", "notes.txt", b"9" * 10_000 + b"\tx")]


def _runs():
    texts = (b"[" * DEPTH, b"9" * DEPTH, b'{"format": 3, "alignment_version": 1e999}',
             b'{"format": 3, "alignment_version": "a\\nb"}',
             b"\xff\xfe{}", b"null", b'{"format": NaN}')
    found = [("pair", "config.json", text) for text in texts]
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1342177280,), }"
    big = archive([("a", b"\x93NUMPY\1\0v\0" + header.ljust(117) + b"\n")])
    packed = archive([("a", array(np.zeros(1 << 20)))], zipfile.ZIP_DEFLATED)
    found += [(reader, name, content) for reader, name in (("pair", "checkpoint.npz"), ("weights", "input.npz"))
              for content in (big, packed, archive([("a", array(np.array([None]), SYSTEM_CALL_PICKLE))]), archive([]))]
    return found + [("metrics", "metrics.csv", b"step,stage\n1," + b"9" * 200_000),
                    ("metrics", "timing.csv", b"step,seconds\r\n1,nan\r\n")]


def _videos():
    playlists = (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n",
                 b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
                 b"YUV4MPEG2 W65535 H65535 F25:1\nFRAME\n")
    return [("video", f"clip{suffix}", content) for content, suffix in zip(playlists, (".mp4", ".mkv", ".avi", ".mp4"))]


# Building blocks


@functools.cache
def zeros(size):
    """Return `size` zero bytes, zlib-compressed, by repeating one compressed block."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, -15), 1 << 22
    part = packer.compress(bytes(block)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    end = rest.compress(bytes(size % block)) + rest.flush()
    return b"\x78\xda" + part * (size // block) + end + struct.pack(">I", (size % 65521) << 16 | 1)


def chunk(kind, data):
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, packed=None, colors=2, extra=b""):
    """Build a PNG by hand. packed: its compressed rows."""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colors, 0, 0, 0))
    return start + extra + chunk(b"IDAT", zlib.compress(b"") if packed is None else packed) + chunk(b"IEND", b"")


def tiff(width, height, strip=8, following=0):
    """Build a gray TIFF by hand.

    strip: claimed bytes of its only strip; following: claimed offset of the next directory
    """
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, height), (279, 4, strip)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + bytes(64)


def _png_with_text(keyword, text):
    return png(8, 8, extra=chunk(b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode()))


def _jpeg_with_segment(payload):
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "JPEG")
    jpeg = image.getvalue()
    return jpeg[:2] + b"\xff\xef" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def _expanding_pickle():
    """Return a short pickle that expands to 10 ** 30 values ("billion laughs")."""
    value = b"\x80\x04]\x94"
    for k in range(30):
        value += b"]\x94(" + (b"h" + bytes([k])) * 10 + b"e"
    return value + b"."


def array(values, content=None):
    """Return an array as a .npy file. content: bytes in place of its data."""
    file = io.BytesIO()
    if content is None:
        np.lib.format.write_array(file, values, allow_pickle=False)
    else:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
        file.write(content)
    return file.getvalue()


def archive(members, packing=zipfile.ZIP_STORED):
    """Return an archive as nn.save writes it. members: [(name, bytes)]."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as whole:
        whole.comment = serialize._names_checksum([name for name, _ in members])
        for name, content in members:
            member = zipfile.ZipInfo(name + ".npy")  # its fixed date: the same members give the same bytes
            member.compress_type = packing
            whole.writestr(member, content)
    return file.getvalue()
