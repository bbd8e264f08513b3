"""Our own face files: what is written comes back, and whatever is wrong with a file is said in one line that names it."""

import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE, crop_transform
from data.interchange.face_png import KEYWORD, FaceFileError, FaceRecord, read_face, read_record, write_face
from data.media.chunks import png_text
from data.media.image_io import PictureError, encode_picture, read_label, save_picture
from data.media.provenance import DigitalSource

SIZE = 48


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture
def record():
    landmarks = MEAN_FACE @ [[180.0, 40], [-40, 180]] + (200, 90)
    transform = crop_transform(landmarks, SIZE)
    return FaceRecord("a b \u00e9.mp4", (640, 480), transform, landmarks, 0.75, 3.5, "ab" * 32, 17, 0.68, 2)


@pytest.fixture
def face(tmp_path, pixels, record):
    write_face(tmp_path / "face.png", pixels, record)
    return tmp_path / "face.png"


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def itxt(text, keyword=KEYWORD, rest=b"\0\0\0\0"):
    return chunk(b"iTXt", keyword.encode() + b"\0" + rest + text)


def picture_with(path, pixels, chunks):
    """An ordinary PNG with chunks of the test's own behind its header."""
    content, _ = encode_picture(path, pixels, None)
    path.write_bytes(content[:33] + chunks + content[33:])
    return path


def stored(face):
    return json.loads(png_text(face, KEYWORD, 10**6))


def test_a_face_comes_back_with_all_that_was_known(face, pixels, record):
    picture, got = read_face(face)
    np.testing.assert_array_equal(picture.pixels, pixels)
    for name in ("source", "source_size", "score", "blur", "digest", "frame", "time", "group"):
        assert getattr(got, name) == getattr(record, name)
    np.testing.assert_array_equal(got.transform, record.transform)
    np.testing.assert_array_equal(got.landmarks, record.landmarks)


def test_what_is_not_known_stays_so(tmp_path, pixels, record):
    write_face(tmp_path / "a.png", pixels, FaceRecord("a.jpg", (640, 480), record.transform, record.landmarks, 0.5))
    got = read_record(tmp_path / "a.png")
    assert (got.frame, got.time, got.group, got.digest) == (None, None, None, "")


def test_landmarks_in_the_face_are_the_sources_carried_over(record):
    expected = [record.transform[:, :2] @ point + record.transform[:, 2] for point in record.landmarks]
    np.testing.assert_allclose(record.face_landmarks, expected)
    np.testing.assert_allclose(record.face_landmarks[17:], MEAN_FACE[17:] * SIZE - 0.5, atol=1e-6)


def test_a_face_of_a_photograph_has_no_label_and_a_rendered_one_has(tmp_path, face, pixels, record):
    assert read_label(face) is None
    write_face(tmp_path / "made.png", pixels, record, DigitalSource.ALGORITHMIC)
    assert read_label(tmp_path / "made.png") is DigitalSource.ALGORITHMIC
    assert read_record(tmp_path / "made.png").source == record.source


def test_the_record_is_read_without_the_pixels(face):
    content = face.read_bytes()
    face.write_bytes(content[: content.index(b"IDAT") + 4])
    assert read_record(face).frame == 17
    with pytest.raises(PictureError, match="face.png is damaged or cut short"):
        read_face(face)


def test_a_record_that_changed_on_the_way_is_told(tmp_path, face):
    content = face.read_bytes()
    start = content.index(KEYWORD.encode())
    face.write_bytes(content.replace(b'"frame": 17', b'"frame": 18'))
    with pytest.raises(PictureError, match="face.png: the checksum of its chunk iTXt is wrong"):
        read_record(face)
    for length in (start + 40, content.index(b"IDAT") - 6):
        face.write_bytes(content[:length])
        with pytest.raises(PictureError, match="face.png is cut short within its chunk iTXt"):
            read_record(face)


def test_only_png_holds_a_record(tmp_path, pixels, record):
    with pytest.raises(PictureError, match="only PNG holds the text"):
        write_face(tmp_path / "face.jpg", pixels, record)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_is_not_written(tmp_path, pixels, record):
    bad = FaceRecord("a.jpg", (640, 480), record.transform, np.full((68, 2), np.nan), 0.5)
    with pytest.raises(ValueError, match="landmarks must be 68 x 2 finite numbers"):
        write_face(tmp_path / "face.png", pixels, bad)
    assert list(tmp_path.iterdir()) == []


SPOILED = {
    "version": [None, 0, 2, "1", True],
    "source": [None, 5, "", "folder/", "a\nb", "\udc80", "x" * 1001],
    "source_size": [None, [640], [640, 0], [640.5, 480], [640, "480"], 640, [640, 10**12]],
    "transform": [None, [[1, 0, 0]], [[1, 0, 0], [0, 1]], [[0, 0, 0], [0, 0, 0]], [[1, 0, float("nan")], [0, 1, 0]], {}],
    "landmarks": [None, [], [[0, 0]] * 67, [[0, 0, 0]] * 68, [[0, float("inf")]] * 68, [[0, "1"]] * 68, [[True] * 2] * 68],
    "score": [None, "1", float("nan"), [], 10**400],
    "blur": [float("inf")],
    "digest": [7],
    "frame": [-1, 0.5, "3"],
    "time": ["0", float("nan")],
    "group": [-1],
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_wrong_field_is_named(tmp_path, face, pixels, name):
    for value in SPOILED[name]:
        path = picture_with(tmp_path / "bad.png", pixels, itxt(json.dumps(stored(face) | {name: value}).encode()))
        with pytest.raises(FaceFileError, match=f"bad.png.*{name}") as caught:
            read_record(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["version", "source", "source_size", "transform", "landmarks", "score", "blur", "digest"])
def test_a_missing_field_is_named(tmp_path, face, pixels, name):
    fields = stored(face)
    del fields[name]
    path = picture_with(tmp_path / "bad.png", pixels, itxt(json.dumps(fields).encode()))
    with pytest.raises(FaceFileError, match=f"bad.png.*{name} is missing"):
        read_record(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"7", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"version": 1}'])
def test_text_that_is_no_record(tmp_path, pixels, text):
    path = picture_with(tmp_path / "bad.png", pixels, itxt(text))
    with pytest.raises(PictureError, match="bad.png"):
        read_record(path)


def test_a_picture_without_a_record_is_told(tmp_path, pixels):
    save_picture(tmp_path / "plain.png", pixels, None)
    save_picture(tmp_path / "plain.jpg", pixels, None)
    (tmp_path / "empty.png").touch()
    for name in ("plain.png", "plain.jpg", "empty.png"):
        with pytest.raises(FaceFileError, match=f"{name} is no face"):
            read_record(tmp_path / name)
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(PictureError, match="cannot be read"):
            read_record(path)


def test_a_chunk_of_100_megabytes_is_refused_unread(tmp_path):
    """The file is sparse: it claims its size and takes no room."""
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)))
        file.write(struct.pack(">I", 100 << 20) + b"iTXt" + KEYWORD.encode() + bytes(5))
        file.truncate(101 << 20)
    with pytest.raises(PictureError, match="huge.png: its chunk iTXt has 104,857,600 bytes"):
        read_record(path)
    with pytest.raises(PictureError, match="huge.png: its chunk iTXt has 104,857,600 bytes"):
        read_face(path)


def test_a_compressed_record_is_read_and_a_bomb_is_not(tmp_path, face, pixels):
    text = json.dumps(stored(face)).encode()
    path = picture_with(tmp_path / "packed.png", pixels, itxt(zlib.compress(text), rest=b"\1\0\0\0"))
    assert read_record(path).frame == 17
    path = picture_with(tmp_path / "bomb.png", pixels, itxt(zlib.compress(b" " * (64 << 20)), rest=b"\1\0\0\0"))
    tracemalloc.start()
    with pytest.raises(PictureError, match="bomb.png: its text 'face-record' is broken"):
        read_record(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("rest", [b"\2\0\0\0", b"\0\1\0\0", b"\0", b"\0\0\0", b"\1\0\0\0"])
def test_a_chunk_of_an_unknown_form(tmp_path, pixels, rest):
    path = picture_with(tmp_path / "bad.png", pixels, itxt(b"", rest=rest))
    with pytest.raises(PictureError, match="bad.png"):
        read_record(path)


def test_mutations_are_read_or_refused(tmp_path, face, pixels):
    """With and without a checksum that fits again, so that what lies behind it is reached too."""
    rng, content = np.random.default_rng(1), face.read_bytes()
    text = json.dumps(stored(face)).encode()
    path = tmp_path / "mutant.png"
    for turn in range(200):
        data = bytearray(content if turn % 2 else text)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        if turn % 2:
            path.write_bytes(data[: rng.integers(len(data))] if rng.random() < 0.3 else data)
        else:
            picture_with(path, pixels, itxt(bytes(data)))
        try:
            read_face(path)
        except PictureError as error:
            assert str(path) in str(error) and "\n" not in str(error)
