"""Faces of DeepFaceLab and faceswap, in files built byte by byte as those programs write them."""

import ast
import os
import pickletools
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE, crop_transform
from data.interchange import dfl_faceswap
from data.interchange.dfl_faceswap import (DflFace, FaceswapFace, FormatError, detect_format, dump_plain, read_dfl,
    read_faceswap, read_fsa, to_dfl_face, to_faceswap_face, write_dfl_jpeg, write_fsa)  # fmt: skip
from data.interchange.face_png import FaceRecord, write_face
from data.interchange.restricted_unpickler import read_plain
from data.media import chunks
from data.media.image_io import ImageError, encode_image, read_image, read_label
from data.media.provenance import DigitalSource

SIZE = 48
LANDMARKS = np.round(MEAN_FACE @ [[180.0, 40], [-40, 180]] + (200, 90), 2)
ALIGNED = np.round(MEAN_FACE * SIZE, 2)
MATRIX = [[0.25, 0.0625, -40.0], [-0.0625, 0.25, 3.5]]


@pytest.fixture
def pixels():
    y, x = np.mgrid[:SIZE, :SIZE] * 5
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


@pytest.fixture
def record():
    return FaceRecord("clip 1.mp4", (640, 480), crop_transform(LANDMARKS, SIZE), LANDMARKS, 0.9, frame=6)


def as_array(values, kind="f4"):
    """The pickle (protocol 3) of an array, as numpy writes it, for the inside of a dictionary."""
    values = np.asarray(values, "<" + kind)
    shape = b"(" + b"".join(b"M" + struct.pack("<H", side) for side in values.shape) + b"t"
    dtype = b"cnumpy\ndtype\nX\2\0\0\0" + kind.encode() + b"K\0K\1\x87R"
    dtype += b"(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    raw = b"B" + struct.pack("<I", values.nbytes) + values.tobytes()
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
    return empty + b"(K\1" + shape + dtype + b"\x89" + raw + b"tb"


def pickled(entries):
    """The pickle of a dictionary; values are plain, or bytes that are instructions already."""
    parts = [part if isinstance(part, bytes) else dump_plain(part)[2:-1] for item in entries.items() for part in item]
    return b"\x80\3}(" + b"".join(parts) + b"u."


def dfl_entries():
    """What DeepFaceLab writes: the landmarks as lists, what came out of OpenCV as arrays."""
    return {
        "face_type": "whole_face", "landmarks": ALIGNED.tolist(), "source_filename": "00017.png",
        "source_rect": as_array([210, 120, 380, 300], "i4"), "source_landmarks": as_array(LANDMARKS, "f8"),
        "image_to_face_mat": as_array(MATRIX), "eyebrows_expand_mod": 1.0, "xseg_mask": as_array([1, 2, 3], "u1"),
    }  # fmt: skip


def segment(marker, payload):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def dfl_jpeg(path, pixels, payload):
    """An ordinary JPEG with an APP15 segment right behind its JFIF header."""
    jpeg = encode_image("a.jpg", pixels, None)[0]
    path.write_bytes(jpeg[:20] + segment(0xEF, payload) + jpeg[20:])
    return path


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(path, pixels, chunks, before=b"IDAT"):
    png = encode_image("a.png", pixels, None)[0]
    place = png.index(before) - 4
    path.write_bytes(png[:place] + chunks + png[place:])
    return path


def faceswap_text():
    """The dictionary as faceswap writes it: str() of it, with a mask as bytes."""
    mask = {"mask": zlib.compress(bytes(range(256)) * 64), "affine_matrix": MATRIX, "interpolator": 1}
    mask |= {"stored_size": 128, "stored_centering": "face"}
    face = {"x": 210, "y": 120, "w": 170, "h": 180, "landmarks_xy": LANDMARKS.tolist()}
    face |= {"mask": {"components": mask}, "identity": {"vggface2": [0.1, -2e-05]}}
    source = {"alignments_version": 2.4, "original_filename": "it's 1_0.png", "face_index": 1}
    source |= {"source_filename": "it's \"1\".png", "source_is_video": False, "source_frame_dims": (480, 640)}
    return str({"alignments": face, "source": source})


def faceswap_png(path, pixels, text):
    return png_with(path, pixels, chunk(b"iTXt", b"faceswap\0\0\0\0\0" + text.encode()))


# DeepFaceLab


def test_a_dfl_jpeg_is_read(tmp_path, pixels):
    face = read_dfl(dfl_jpeg(tmp_path / "a.jpg", pixels, pickled(dfl_entries())))
    np.testing.assert_array_equal(face.landmarks, ALIGNED)
    np.testing.assert_array_equal(face.source_landmarks, LANDMARKS)
    assert face.source_filename == "00017.png"


def test_an_old_dfl_png_is_read(tmp_path, pixels):
    path = png_with(tmp_path / "a.png", pixels, chunk(b"fcWp", pickled(dfl_entries())), before=b"IEND")
    assert detect_format(path) == "dfl"
    np.testing.assert_array_equal(read_dfl(path).source_landmarks, LANDMARKS)


def test_landmarks_are_enough(tmp_path, pixels):
    payload = pickled({"landmarks": as_array(ALIGNED), "source_landmarks": b"N"})
    face = read_dfl(dfl_jpeg(tmp_path / "a.jpg", pixels, payload))
    assert face.source_landmarks is None and face.source_filename == ""


@pytest.mark.parametrize("name, value, reason", [
    ("landmarks", [[0.0, 0.0]] * 67, "68 x 2"), ("landmarks", [[0.0, float("nan")]] * 68, "68 x 2"),
    ("landmarks", "x", "68 x 2"), ("landmarks", b"N", "missing"),
    ("source_landmarks", as_array(np.zeros((68, 3))), "68 x 2"), ("source_filename", 5, "source_filename"),
    ("x", b"cos\nsystem\nX\4\0\0\0echo\x85R", "os.system"),
])  # fmt: skip
def test_a_wrong_dfl_field_is_named(tmp_path, pixels, name, value, reason, monkeypatch):
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("it was called"))
    path = dfl_jpeg(tmp_path / "bad.jpg", pixels, pickled(dfl_entries() | {name: value}))
    with pytest.raises(FormatError, match=reason) as caught:
        read_dfl(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pickle_of_protocol_0_is_rejected_and_named(tmp_path, pixels):
    with pytest.raises(FormatError, match="a.jpg.* os.system"):
        read_dfl(dfl_jpeg(tmp_path / "a.jpg", pixels, b"cos\nsystem\n(S'echo'\ntR."))


def segments(jpeg):
    """[(marker, payload)] up to the scan, read here a second way."""
    place, found = 2, []
    while jpeg[place + 1] != 0xDA:
        length = struct.unpack(">H", jpeg[place + 2 : place + 4])[0]
        found.append((jpeg[place + 1], jpeg[place + 4 : place + 2 + length]))
        place += 2 + length
    return found


@pytest.mark.parametrize("source", [None, DigitalSource.ALGORITHMIC])
def test_a_dfl_jpeg_is_written_as_dfl_reads_it(tmp_path, pixels, source):
    face = DflFace(ALIGNED, "00017.png", LANDMARKS, (210, 120, 380, 300), np.array(MATRIX), "whole_face")
    path = tmp_path / "a.jpg"
    write_dfl_jpeg(path, pixels, face, source)
    parts = segments(path.read_bytes())
    applications = [marker for marker, _ in parts if 0xE0 <= marker <= 0xEF]
    assert parts[0][0] == 0xE0 and parts[0][1].startswith(b"JFIF\0")  # without which DeepFaceLab gives up
    assert applications == [0xE0, 0xEF] if source is None else [0xE0, 0xE1, 0xEF]
    assert [marker for marker, _ in parts][: len(applications)] == applications
    payload = dict(parts)[0xEF]
    words = {word.name for word, _, _ in pickletools.genops(payload)}
    allowed = "PROTO EMPTY_DICT EMPTY_LIST MARK BINUNICODE BININT BINFLOAT APPENDS SETITEMS STOP"
    assert words <= set(allowed.split())
    assert read_plain(payload) == {
        "face_type": "whole_face", "landmarks": ALIGNED.tolist(), "source_filename": "00017.png",
        "source_landmarks": LANDMARKS.tolist(), "source_rect": [210, 120, 380, 300], "image_to_face_mat": MATRIX,
    }  # fmt: skip
    assert read_label(path) is source
    assert np.abs(read_image(path).pixels.astype(int) - pixels).mean() < 4
    assert read_dfl(path).source_filename == "00017.png"


def test_a_jpeg_that_dfl_cannot_read_is_not_written(tmp_path, pixels):
    for name in ("a.jpeg", "a.png", "a.JPG"):
        with pytest.raises(FormatError, match=r"end in \.jpg"):
            write_dfl_jpeg(tmp_path / name, pixels, DflFace(ALIGNED))
    assert list(tmp_path.iterdir()) == []


def test_to_dfl_face(record):
    face = to_dfl_face(record)
    np.testing.assert_array_equal(face.landmarks, record.face_landmarks)
    np.testing.assert_array_equal(face.source_landmarks, LANDMARKS)
    assert face.source_filename == "00007.png" and face.face_type == "head"
    assert face.source_rect == (*np.floor(LANDMARKS.min(axis=0)), *np.ceil(LANDMARKS.max(axis=0)))


# faceswap


def test_a_faceswap_png_is_read(tmp_path, pixels):
    face = read_faceswap(faceswap_png(tmp_path / "a.png", pixels, faceswap_text()))
    np.testing.assert_array_equal(face.landmarks, LANDMARKS)
    assert (face.source_filename, face.frame_size, face.index) == ("it's \"1\".png", (640, 480), 1)


@pytest.mark.parametrize("text", [
    "", "{", "{[]: 1}", "{'a' 1}", "[1, 2", "]", "[1)", "# a", "os.system('echo')", "1 + 1", "1 1", "'\\U00110000'",
    "'a\nb'", "'a\0b'", "1" * 9999, "-" * 99_999 + "1", "1" + "+1" * 99_999, "not " * 99_999 + "1",
    "lambda: " * 9999 + "1", "[" * 9999, "[" * 9999 + "]" * 9999, "{'a': " * 999, "1" + "[0]" * 99_999,
    "f" + "()" * 99_999,
])  # fmt: skip
def test_texts_that_are_not_literals_are_rejected(text):
    with pytest.raises(ValueError, match="not a literal"):
        dfl_faceswap._parse_literal(text)


def test_a_literal_that_is_not_a_face_is_rejected(tmp_path, pixels):
    for text in ("", "7", "[]", "{'alignments': {}}", "{'alignments': {}, 'source': {}}",
                 "__import__('os').system('echo')"):
        path = faceswap_png(tmp_path / "bad.png", pixels, text)
        with pytest.raises(FormatError, match="bad.png: its faceswap data cannot be used"):
            read_faceswap(path)


@pytest.mark.parametrize("value", [
    {"a": [1, -2.5, 1e-5, True, False, None], "c": {}, "d": ()}, [], (1,), "", -1,
    (b"\x00\xff'\"\\", "it's \"\n\t\\ \u00e9 \u2028 \U0001f600 \x7f"),
])  # fmt: skip
def test_the_output_of_repr_is_a_literal(value):
    assert dfl_faceswap._parse_literal(repr(value)) == value == ast.literal_eval(repr(value))


@pytest.mark.parametrize("change, reason", [
    (("'landmarks_xy'", "'landmarks'"), "landmarks_xy is missing"), (("(480, 640)", "(480,)"), "source_frame_dims"),
    (("'face_index': 1", "'face_index': -1"), "face_index"),
    (("'source_filename': ", "'source_filename': 5, 'b': "), "source_filename"),
    (("'source': {", "'source': 5, 'b': {"), "source is missing"),
])  # fmt: skip
def test_a_wrong_faceswap_field_is_named(tmp_path, pixels, change, reason):
    text = faceswap_text().replace(*change)
    assert text != faceswap_text()
    with pytest.raises(FormatError, match=f"bad.png.*{reason}"):
        read_faceswap(faceswap_png(tmp_path / "bad.png", pixels, text))


def test_a_faceswap_text_above_the_limit_is_rejected_unread(tmp_path):
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)))
        file.write(struct.pack(">I", 100 << 20) + b"iTXtfaceswap\0\0\0\0\0")
        file.truncate(101 << 20)
    with pytest.raises(ImageError, match="huge.png.*104,857,600 bytes"):
        read_faceswap(path)


def fsa(path, stored, level=6):
    path.write_bytes(zlib.compress(stored if isinstance(stored, bytes) else dump_plain(stored), level))
    return path


def fsa_face(**changes):
    face = {"x": 1, "y": 2, "w": 3, "h": 4, "landmarks_xy": LANDMARKS.tolist()}
    return face | {"mask": {}, "identity": {}, "thumb": [1, 2, 255]} | changes


def test_an_fsa_is_read(tmp_path):
    faces = [fsa_face(), fsa_face(landmarks_xy=ALIGNED.tolist())]
    frames = {"clip_000001.png": {"faces": faces, "video_meta": {}}, "clip_000002.png": {"faces": [], "video_meta": {}}}
    got = read_fsa(fsa(tmp_path / "a.fsa", {"__meta__": {"version": 2.4}, "__data__": frames}))
    assert {name: len(faces) for name, faces in got.items()} == {"clip_000001.png": 2, "clip_000002.png": 0}
    np.testing.assert_array_equal(got["clip_000001.png"][1].landmarks, ALIGNED)
    assert [face.index for face in got["clip_000001.png"]] == [0, 1]
    assert {face.source_filename for face in got["clip_000001.png"]} == {"clip_000001.png"}


def test_an_older_fsa_with_arrays_is_read(tmp_path):
    face = pickled({"x": 1, "landmarksXY": as_array(LANDMARKS), "mask": {}})[2:-1]
    frames = pickled({"a.png": b"}X\5\0\0\0faces](" + face + b"es"})[2:-1]
    got = read_fsa(fsa(tmp_path / "a.fsa", pickled({"__meta__": {"version": 2.2}, "__data__": frames})))
    np.testing.assert_allclose(got["a.png"][0].landmarks, LANDMARKS, atol=1e-4)


@pytest.mark.parametrize("stored, reason", [
    ({}, "__meta__ is missing"), ({"__meta__": {"version": 1.0}, "__data__": {}}, "version is before 2"),
    ({"__meta__": {}, "__data__": {}}, "version is missing"),
    ({"__meta__": {"version": 2.4}}, "__data__ is missing"), ([], "__meta__ is missing"),
    ({"__meta__": {"version": 2.4}, "__data__": {"a": 5}}, "frame 'a'"),
    ({"__meta__": {"version": 2.4}, "__data__": {"a": {"faces": [5]}}}, "frame 'a'"),
    ({"__meta__": {"version": 2.4}, "__data__": {"a": {"faces": [fsa_face(landmarks_xy=[[1.0] * 2] * 4)]}}},
     "must be 68 x 2"),
    ({"__meta__": {"version": 2.4}, "__data__": {"../": {"faces": []}}}, "frame name"),
    (b"\x80\2cposix\nsystem\nX\4\0\0\0echo\x85R.", "posix.system"), (b"", "cut short"),
])  # fmt: skip
def test_a_wrong_fsa_gives_one_line(tmp_path, stored, reason):
    path = fsa(tmp_path / "bad.fsa", stored)
    with pytest.raises(FormatError, match=reason) as caught:
        read_fsa(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_not_an_fsa(tmp_path, monkeypatch):
    (tmp_path / "a.fsa").write_bytes(b"not compressed")
    with pytest.raises(FormatError, match="a.fsa cannot be used .it is not zlib-compressed"):
        read_fsa(tmp_path / "a.fsa")
    with pytest.raises(FormatError, match="missing.fsa cannot be used .No such file"):
        read_fsa(tmp_path / "missing.fsa")
    whole = fsa(tmp_path / "b.fsa", {"__meta__": {"version": 2.4},
                                     "__data__": {"a": {"faces": [fsa_face()]}}}).read_bytes()
    (tmp_path / "b.fsa").write_bytes(whole[:-9])
    with pytest.raises(FormatError, match="b.fsa cannot be used .it is cut short"):
        read_fsa(tmp_path / "b.fsa")
    monkeypatch.setattr(dfl_faceswap, "MAX_BYTES", 1 << 20)
    bomb = fsa(tmp_path / "bomb.fsa", bytes(50 << 20))
    tracemalloc.start()
    with pytest.raises(FormatError, match="decompresses to more than 1,048,576 bytes"):
        read_fsa(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_an_fsa_is_written_as_faceswap_reads_it(tmp_path, record):
    path = tmp_path / "a.fsa"
    write_fsa(path, {"a.png": [FaceswapFace(LANDMARKS, "a.png")], "b.png": [],
                     "clip 1_000007.png": [to_faceswap_face(record)]})
    pickle = zlib.decompress(path.read_bytes())
    assert not {word.name for word, _, _ in pickletools.genops(pickle)} & {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
    stored = read_plain(pickle)
    assert stored["__meta__"] == {"version": 2.4}
    low, high = np.floor(LANDMARKS.min(axis=0)), np.ceil(LANDMARKS.max(axis=0))
    face = dict(zip("xywh", (*low, *(high - low)))) | {"landmarks_xy": LANDMARKS.tolist(), "mask": {}, "identity": {}}
    assert stored["__data__"]["a.png"] == {"faces": [face],
                                           "video_meta": {}} and stored["__data__"]["b.png"]["faces"] == []
    assert all(type(stored["__data__"]["a.png"]["faces"][0][key]) is int for key in "xywh")
    assert to_faceswap_face(record).source_filename == "clip 1_000007.png"
    np.testing.assert_array_equal(read_fsa(path)["clip 1_000007.png"][0].landmarks, LANDMARKS)


# All of them


def test_detect_format(tmp_path, pixels, record):
    write_face(tmp_path / "ours.png", pixels, record)
    assert detect_format(tmp_path / "ours.png") == "ours"
    assert detect_format(dfl_jpeg(tmp_path / "a.jpg", pixels, pickled(dfl_entries()))) == "dfl"
    assert detect_format(faceswap_png(tmp_path / "a.png", pixels, faceswap_text())) == "faceswap"
    for name in ("plain.png", "plain.jpg", "plain.bmp"):
        (tmp_path / name).write_bytes(encode_image(name, pixels, DigitalSource.TRAINED)[0])
    assert detect_format(dfl_jpeg(tmp_path / "graphic.jpg", pixels, b"Q 95")) is None  # an APP15 of another program
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "empty.png").touch()
    for name in ("plain.png", "plain.jpg", "plain.bmp", "broken.jpg", "empty.png", "missing.png", "."):
        assert detect_format(tmp_path / name) is None


@pytest.mark.parametrize("content", [b"\xff\xd8" + b"\xff" * 8_000_000, b"\x89PNG\r\n\x1a\n" + bytes(24_000_000)])
def test_a_file_of_millions_of_parts_is_not_searched_to_its_end(tmp_path, content, monkeypatch):
    taken, parts = [], chunks._parts
    monkeypatch.setattr(chunks, "_parts", lambda content: (taken.append(None) or part for part in parts(content)))
    (tmp_path / "a").write_bytes(content)
    assert detect_format(tmp_path / "a") is None and len(taken) <= 4 * 100_000


@pytest.mark.parametrize("name", ["plain.jpg", "plain.png", "plain.bmp"])
def test_an_ordinary_image_is_not_a_face(tmp_path, pixels, name):
    (tmp_path / name).write_bytes(encode_image(name, pixels, None)[0])
    for read in (read_dfl, read_faceswap):
        with pytest.raises(FormatError, match=f"{name} is not an aligned face"):
            read(tmp_path / name)


@pytest.mark.parametrize("kind", ["dfl", "faceswap", "fsa"])
def test_mutations_are_read_or_rejected(tmp_path, pixels, kind):
    rng = np.random.default_rng(2)
    payload = {"dfl": pickled(dfl_entries()), "faceswap": faceswap_text().encode("latin-1")}
    payload["fsa"] = dump_plain({"__meta__": {"version": 2.4}, "__data__": {"a": {"faces": [fsa_face()]}}})
    read = {"dfl": read_dfl, "faceswap": read_faceswap, "fsa": read_fsa}[kind]
    path = tmp_path / "mutant"
    for turn in range(200):
        data = bytearray(payload[kind])
        # Half of the changes hit what is read first, where the structure is densest.
        for place in rng.integers(len(data) if turn % 2 else 120, size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        if kind == "dfl":
            dfl_jpeg(path, pixels, bytes(data))
        elif kind == "faceswap":
            png_with(path, pixels, chunk(b"iTXt", b"faceswap\0\0\0\0\0" + bytes(data)))
        else:
            fsa(path, bytes(data), level=0)
        if turn % 3 == 0:  # and the file around it
            whole = bytearray(path.read_bytes())
            whole[rng.integers(len(whole))] = rng.integers(256)
            path.write_bytes(whole[: rng.integers(len(whole))] if turn % 2 else whole)
        detect_format(path)
        try:
            read(path)
        except ImageError as error:
            assert str(path) in str(error) and "\n" not in str(error)
