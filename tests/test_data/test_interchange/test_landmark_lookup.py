"""Landmark lookup in a CSV, in folders of aligned faces of three programs and in an .fsa."""

import csv
import logging

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE, crop_transform
from data.interchange.dfl_faceswap import DflFace, FaceswapFace, FormatError, to_dfl_face, write_dfl_jpeg, write_fsa
from data.interchange.face_png import FaceRecord, write_face
from data.interchange.landmark_lookup import lookup_frame_landmarks, lookup_landmarks
from data.media.image_io import ImageError, encode_image
from data.support.errors import FaceSetError

PIXELS = np.zeros((48, 48, 3), np.uint8)
COLUMNS = ["file", "width", "height"] + [f"{axis}{i}" for i in range(68) for axis in "xy"]


def landmarks(k):
    """Return the landmarks of face k, each at another position."""
    return np.round(MEAN_FACE * (100 + 10 * k) + (20 * k, 5), 2)


def record(k, source, frame=None):
    return FaceRecord(source, (640, 480), crop_transform(landmarks(k), 48), landmarks(k), 0.9, frame=frame)


def write_table(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *([name, 640, 480, *points.ravel()] for name, points in rows)])
    return path


def write_faceswap(path, k, name):
    """Write a face PNG as faceswap does, with the chunk built by hand."""
    source = {"alignments_version": 2.4, "original_filename": "x_0.png", "face_index": 0, "source_filename": name}
    source |= {"source_is_video": False, "source_frame_dims": (480, 640)}
    text = str({"alignments": {"landmarks_xy": landmarks(k).tolist()}, "source": source})
    path.write_bytes(encode_image(path, PIXELS, None, text={"faceswap": text})[0])


@pytest.fixture
def images(tmp_path):
    """Paths of the images. The files need not exist."""
    folder = tmp_path / "images"
    folder.mkdir()
    return [folder / name for name in ("one.png", "two \u00e9.jpg", "three.png")]


def write_faces(tmp_path, kind, names):
    """Write the faces 0, 1, ... of images with these names in a format; return the path."""
    if kind == "csv":
        return write_table(tmp_path / "faces.csv", [(f"images/{name}", landmarks(k)) for k, name in enumerate(names)])
    if kind == "fsa":
        frames = {}
        for k, name in enumerate(names):
            frames.setdefault(name, []).append(FaceswapFace(landmarks(k), name))
        write_fsa(tmp_path / "faces.fsa", frames)
        return tmp_path / "faces.fsa"
    folder = tmp_path / kind
    folder.mkdir()
    for k, name in enumerate(names):
        if kind == "ours":
            write_face(folder / f"{k}.png", PIXELS, record(k, name))
        elif kind == "dfl":
            write_dfl_jpeg(folder / f"{k}.jpg", PIXELS, to_dfl_face(record(k, name)))
        else:
            write_faceswap(folder / f"{k}.png", k, name)
    return folder


KINDS = ["csv", "fsa", "ours", "dfl", "faceswap"]


@pytest.mark.parametrize("kind", KINDS)
def test_faces_are_found_by_the_name_of_their_image(tmp_path, images, kind):
    path = write_faces(tmp_path, kind, ["one.png", "two \u00e9.jpg", "other.png", "one.png"])
    found = lookup_landmarks(path, images)
    assert set(found) == {images[0].resolve(), images[1].resolve()}
    size = None if kind in ("fsa", "dfl") else (640, 480)  # the other formats store the size of the image
    for image, faces in ((images[0], (0, 3)), (images[1], (1,))):
        got = found[image.resolve()]
        assert [stated for stated, _ in got] == [size] * len(faces)
        for (_, points), k in zip(got, faces):
            np.testing.assert_allclose(points, landmarks(k), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_whole_name_takes_precedence_over_the_stem(tmp_path, images, kind):
    path = write_faces(tmp_path, kind, ["two \u00e9.png", "one.jpg"])
    both = [*images, images[0].with_suffix(".jpg")]
    found = lookup_landmarks(path, both)
    assert set(found) == {images[1].resolve(), both[-1].resolve()}


def test_a_name_that_fits_several_images_is_left_out(tmp_path, images, caplog):
    path = write_faces(tmp_path, "ours", ["one.png", "three.png"])
    found = lookup_landmarks(path, [*images, tmp_path / "one.png"])
    assert set(found) == {images[2].resolve()}
    assert "one.png may be any of 2 images" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_paths_in_files_are_not_followed(tmp_path, images, kind):
    """A path stored in a file only matches the given images, nothing elsewhere."""
    (tmp_path / "secret.png").write_bytes(b"not to be touched")
    path = write_faces(tmp_path, kind, ["../secret.png", "/etc/passwd", "..\\..\\secret.png"])
    assert lookup_landmarks(path, images) == {}


def test_no_images(tmp_path):
    assert lookup_landmarks(write_faces(tmp_path, "csv", ["one.png"]), []) == {}


def test_broken_faces_are_skipped(tmp_path, images, caplog):
    path = write_faces(tmp_path, "dfl", ["one.png", "two \u00e9.jpg"])
    broken = (path / "0.jpg").read_bytes().replace(b"source_landmarks", b"source_landmarkz")
    (path / "2.jpg").write_bytes(broken)
    write_dfl_jpeg(path / "3.jpg", PIXELS, DflFace(landmarks(3)))
    (path / "note.txt").write_text("not an image")
    (path / "sheet.png").write_bytes(encode_image("sheet.png", PIXELS, None)[0])
    assert len(lookup_landmarks(path, images)) == 2
    assert "2.jpg does not say which frame" in caplog.text and "3.jpg does not say which frame" in caplog.text
    assert "sheet" not in caplog.text and len(caplog.records) == 2


def test_incomplete_lines_of_a_csv_are_reported(tmp_path, images, caplog):
    path = write_faces(tmp_path, "csv", ["one.png"])
    with open(path, "a", encoding="utf-8") as file:
        file.write("images/three.png,640,480,1,2\n")
    assert len(lookup_landmarks(path, images)) == 1
    assert "images/three.png: line 3" in caplog.text


@pytest.mark.parametrize("lookup", [lambda path: lookup_landmarks(path, ["one.png"]), lookup_frame_landmarks],
                         ids=["images", "frames"])
def test_unusable_paths_are_rejected(tmp_path, lookup):
    (tmp_path / "bad.csv").write_text("file,width\n")
    (tmp_path / "bad.fsa").write_bytes(b"bad")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    for name in ("bad.csv", "bad.fsa", "binary", "missing.csv", "missing.fsa"):
        with pytest.raises(FormatError if name.endswith("fsa") else FaceSetError, match=name):
            lookup(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match="folder contains no aligned faces"):
        lookup(tmp_path / "folder")


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_a_video_are_found_by_their_number(tmp_path, kind):
    """Names count from 1, frames from 0."""
    names = [f"my clip_{number:06d}.png" for number in (1, 12, 12)] + ["other_000003.png", "no number.png",
                                                                       "000100.png"]
    path = write_faces(tmp_path, kind, names)
    found = lookup_frame_landmarks(path, "folder/my clip.mp4")
    assert {number: len(faces) for number, faces in found.items()} == {0: 1, 11: 2, 99: 1}
    np.testing.assert_allclose(found[11][1], landmarks(2), atol=1e-9)
    assert set(lookup_frame_landmarks(path)) == {0, 2, 11, 99}


def test_a_frame_0_means_that_names_count_from_0(tmp_path):
    assert set(lookup_frame_landmarks(write_faces(tmp_path, "fsa", ["clip_0.png", "clip_7.png"]))) == {0, 7}


def test_own_faces_store_their_frame(tmp_path):
    for name, frame, k in (("a.png", 4, 0), ("b.png", 4, 1), ("c.png", 9, 2)):
        write_face(tmp_path / name, PIXELS, record(k, "clip_2.mp4", frame))
    write_face(tmp_path / "d.png", PIXELS, record(3, "other.mp4", 1))
    found = lookup_frame_landmarks(tmp_path, "clip_2.mp4")
    assert {number: len(faces) for number, faces in found.items()} == {4: 2, 9: 1}
    # The same clip as a folder of images, named as faceswap names them.
    image = tmp_path / "frames" / "clip_2_000010.jpg"
    assert set(lookup_landmarks(tmp_path, [image])) == {image.resolve()}


def test_landmarks_that_are_not_finite_are_left_out_of_a_video(tmp_path, caplog):
    broken = landmarks(1)
    broken[5, 0] = np.nan
    table = write_table(tmp_path / "a.csv", [("f_1.png", landmarks(0)), ("f_2.png", broken)])
    assert set(lookup_frame_landmarks(table)) == {0}
    assert "f_2.png is left out" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_mutations_are_read_or_rejected(tmp_path, images, kind, caplog):
    caplog.set_level(logging.CRITICAL)
    path, rng = write_faces(tmp_path, kind, ["one.png", "two \u00e9.jpg"]), np.random.default_rng(3)
    file = path / ("0.jpg" if kind == "dfl" else "0.png") if path.is_dir() else path
    content = file.read_bytes()
    for _ in range(100):
        data = bytearray(content)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        file.write_bytes(data[: rng.integers(len(data))] if rng.random() < 0.3 else data)
        for lookup in (lambda: lookup_landmarks(path, images), lambda: lookup_frame_landmarks(path)):
            try:
                lookup()
            except (FaceSetError, ImageError) as error:
                assert str(path) in str(error) and "\n" not in str(error)
