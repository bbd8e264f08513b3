"""Face PNGs: round trips, and one-line errors that name the file."""

import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE, crop_transform
from data.interchange.face_png import KEYWORD, FaceFileError, FaceRecord, read_face, read_record, write_face
from data.media.chunks import read_png_text
from data.media.image_io import ImageError, encode_image, read_label, save_image
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


def image_with(path, pixels, chunks):
    """Write a PNG with extra chunks after its header."""
    content, _ = encode_image(path, pixels, None)
    path.write_bytes(content[:33] + chunks + content[33:])
    return path


def stored(face):
    return json.loads(read_png_text(face, KEYWORD, 10**6))


def test_round_trip(face, pixels, record):
    image, got = read_face(face)
    np.testing.assert_array_equal(image.pixels, pixels)
    for name in ("source", "source_size", "score", "blur", "digest", "frame", "time", "group"):
        assert getattr(got, name) == getattr(record, name)
    np.testing.assert_array_equal(got.transform, record.transform)
    np.testing.assert_array_equal(got.landmarks, record.landmarks)


def test_missing_optional_fields_stay_missing(tmp_path, pixels, record):
    write_face(tmp_path / "a.png", pixels, FaceRecord("a.jpg", (640, 480), record.transform, record.landmarks, 0.5))
    got = read_record(tmp_path / "a.png")
    assert (got.frame, got.time, got.group, got.digest) == (None, None, None, "")


def test_face_landmarks_are_the_transformed_source_landmarks(record):
    expected = [record.transform[:, :2] @ point + record.transform[:, 2] for point in record.landmarks]
    np.testing.assert_allclose(record.face_landmarks, expected)
    np.testing.assert_allclose(record.face_landmarks[17:], MEAN_FACE[17:] * SIZE - 0.5, atol=1e-6)


def test_only_faces_of_synthetic_images_are_labeled(tmp_path, face, pixels, record):
    assert read_label(face) is None
    write_face(tmp_path / "rendered.png", pixels, record, DigitalSource.ALGORITHMIC)
    assert read_label(tmp_path / "rendered.png") is DigitalSource.ALGORITHMIC
    assert read_record(tmp_path / "rendered.png").source == record.source


def test_the_record_is_read_without_the_pixels(face):
    content = face.read_bytes()
    face.write_bytes(content[: content.index(b"IDAT") + 4])
    assert read_record(face).frame == 17
    with pytest.raises(ImageError, match="face.png is damaged or cut short"):
        read_face(face)


def test_a_damaged_record_is_detected(tmp_path, face):
    content = face.read_bytes()
    start = content.index(KEYWORD.encode())
    face.write_bytes(content.replace(b'"frame": 17', b'"frame": 18'))
    with pytest.raises(ImageError, match="face.png: the checksum of its metadata is wrong"):
        read_record(face)
    for length in (start + 40, content.index(b"IDAT") - 6):
        face.write_bytes(content[:length])
        with pytest.raises(ImageError, match="face.png is cut short within its metadata"):
            read_record(face)


def test_only_png_holds_a_record(tmp_path, pixels, record):
    with pytest.raises(ImageError, match="only PNG can store its text"):
        write_face(tmp_path / "face.jpg", pixels, record)
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_record_is_not_written(tmp_path, pixels, record):
    bad = FaceRecord("a.jpg", (640, 480), record.transform, np.full((68, 2), np.nan), 0.5)
    with pytest.raises(ValueError, match="landmarks must be 68 x 2 finite numbers"):
        write_face(tmp_path / "face.png", pixels, bad)
    assert list(tmp_path.iterdir()) == []


WRONG_VALUES = {
    "version": [None, 0, 2, "1", True],
    "source": [None, 5, "", "folder/", "a\nb", "\udc80", "x" * 1001],
    "source_size": [None, [640], [640, 0], [640.5, 480], [640, "480"], 640, [640, 10**12]],
    "transform": [None, [[1, 0, 0]], [[1, 0, 0], [0, 1]], [[0, 0, 0], [0, 0, 0]], [[1, 0, float("nan")], [0, 1, 0]],
                  {}],
    "landmarks": [None, [], [[0, 0]] * 67, [[0, 0, 0]] * 68, [[0, float("inf")]] * 68, [[0, "1"]] * 68,
                  [[True] * 2] * 68],
    "score": [None, "1", float("nan"), [], 10**400],
    "blur": [float("inf")],
    "digest": [7],
    "frame": [-1, 0.5, "3"],
    "time": ["0", float("nan")],
    "group": [-1],
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_a_wrong_field_is_named(tmp_path, face, pixels, name):
    for value in WRONG_VALUES[name]:
        path = image_with(tmp_path / "bad.png", pixels, itxt(json.dumps(stored(face) | {name: value}).encode()))
        with pytest.raises(FaceFileError, match=f"bad.png.*{name}") as caught:
            read_record(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["version", "source", "source_size", "transform", "landmarks", "score", "blur",
                                  "digest"])
def test_a_missing_field_is_named(tmp_path, face, pixels, name):
    fields = stored(face)
    del fields[name]
    path = image_with(tmp_path / "bad.png", pixels, itxt(json.dumps(fields).encode()))
    with pytest.raises(FaceFileError, match=f"bad.png.*{name} is missing"):
        read_record(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"7", b"\xff", b"[" * 100_000, b"9" * 5000,
                                  b'{"version": 1}'])
def test_text_that_is_not_a_record(tmp_path, pixels, text):
    path = image_with(tmp_path / "bad.png", pixels, itxt(text))
    with pytest.raises(ImageError, match="bad.png"):
        read_record(path)


def test_an_image_without_a_record(tmp_path, pixels):
    save_image(tmp_path / "plain.png", pixels, None)
    save_image(tmp_path / "plain.jpg", pixels, None)
    (tmp_path / "empty.png").touch()
    for name in ("plain.png", "plain.jpg", "empty.png"):
        with pytest.raises(FaceFileError, match=f"{name} is not a face"):
            read_record(tmp_path / name)
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(ImageError, match="cannot be read"):
            read_record(path)


def test_a_chunk_of_100_megabytes_is_rejected_unread(tmp_path):
    """The file is sparse: it has its size but takes no disk space."""
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)))
        file.write(struct.pack(">I", 100 << 20) + b"iTXt" + KEYWORD.encode() + bytes(5))
        file.truncate(101 << 20)
    with pytest.raises(ImageError, match="huge.png: its metadata has 104,857,600 bytes"):
        read_record(path)
    with pytest.raises(ImageError, match="huge.png: its metadata has 104,857,600 bytes"):
        read_face(path)


def test_a_compressed_record_is_read_and_a_bomb_is_not(tmp_path, face, pixels):
    text = json.dumps(stored(face)).encode()
    path = image_with(tmp_path / "packed.png", pixels, itxt(zlib.compress(text), rest=b"\1\0\0\0"))
    assert read_record(path).frame == 17
    path = image_with(tmp_path / "bomb.png", pixels, itxt(zlib.compress(b" " * (64 << 20)), rest=b"\1\0\0\0"))
    tracemalloc.start()
    with pytest.raises(ImageError, match="bomb.png: its text 'face-record' is broken"):
        read_record(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("rest", [b"\2\0\0\0", b"\0\1\0\0", b"\0", b"\0\0\0", b"\1\0\0\0"])
def test_a_chunk_of_an_unknown_form(tmp_path, pixels, rest):
    path = image_with(tmp_path / "bad.png", pixels, itxt(b"", rest=rest))
    with pytest.raises(ImageError, match="bad.png"):
        read_record(path)


def test_mutations_are_read_or_rejected(tmp_path, face, pixels):
    """With and without a corrected checksum, so that the code behind the check is reached too."""
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
            image_with(path, pixels, itxt(bytes(data)))
        try:
            read_face(path)
        except ImageError as error:
            assert str(path) in str(error) and "\n" not in str(error)
