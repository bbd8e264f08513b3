"""Known faces: the same faces told by a table, by folders of faces of three programs and by an .fsa, found by name."""

import csv
import logging

import numpy as np
import pytest

from data.geometry.alignment import MEAN_FACE, crop_transform
from data.interchange.dfl_faceswap import DflFace, FaceswapFace, FormatError, dfl_face, write_dfl_jpeg, write_fsa
from data.interchange.face_png import FaceRecord, write_face
from data.interchange.landmark_lookup import known_frames, known_landmarks
from data.media.image_io import PictureError, encode_picture
from data.support.errors import FaceSetError

PIXELS = np.zeros((48, 48, 3), np.uint8)
COLUMNS = ["file", "width", "height"] + [f"{axis}{i}" for i in range(68) for axis in "xy"]


def landmarks(k):
    """Those of the k-th face, each elsewhere."""
    return np.round(MEAN_FACE * (100 + 10 * k) + (20 * k, 5), 2)


def record(k, source, frame=None):
    return FaceRecord(source, (640, 480), crop_transform(landmarks(k), 48), landmarks(k), 0.9, frame=frame)


def write_table(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *([name, 640, 480, *points.ravel()] for name, points in rows)])
    return path


def write_faceswap(path, k, name):
    """A face as faceswap writes it, with the chunk put in by hand."""
    source = {"alignments_version": 2.4, "original_filename": "x_0.png", "face_index": 0, "source_filename": name}
    source |= {"source_is_video": False, "source_frame_dims": (480, 640)}
    text = str({"alignments": {"landmarks_xy": landmarks(k).tolist()}, "source": source})
    path.write_bytes(encode_picture(path, PIXELS, None, text={"faceswap": text})[0])


@pytest.fixture
def pictures(tmp_path):
    """Paths of the pictures in question; whether they are there, nobody looks."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return [folder / name for name in ("one.png", "two \u00e9.jpg", "three.png")]


def told(tmp_path, kind, names):
    """The faces 0, 1, ... of pictures with these names, told in one of the ways."""
    if kind == "csv":
        return write_table(tmp_path / "faces.csv", [(f"pictures/{name}", landmarks(k)) for k, name in enumerate(names)])
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
            write_dfl_jpeg(folder / f"{k}.jpg", PIXELS, dfl_face(record(k, name)))
        else:
            write_faceswap(folder / f"{k}.png", k, name)
    return folder


KINDS = ["csv", "fsa", "ours", "dfl", "faceswap"]


@pytest.mark.parametrize("kind", KINDS)
def test_faces_are_found_by_the_name_of_their_picture(tmp_path, pictures, kind):
    path = told(tmp_path, kind, ["one.png", "two \u00e9.jpg", "other.png", "one.png"])
    known = known_landmarks(path, pictures)
    assert set(known) == {pictures[0].resolve(), pictures[1].resolve()}
    size = None if kind in ("fsa", "dfl") else (640, 480)  # the others say how large the picture was
    for picture, faces in ((pictures[0], (0, 3)), (pictures[1], (1,))):
        got = known[picture.resolve()]
        assert [stated for stated, _ in got] == [size] * len(faces)
        for (_, points), k in zip(got, faces):
            np.testing.assert_allclose(points, landmarks(k), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_stem_is_enough_but_the_whole_name_goes_first(tmp_path, pictures, kind):
    path = told(tmp_path, kind, ["two \u00e9.png", "one.jpg"])
    both = [*pictures, pictures[0].with_suffix(".jpg")]
    known = known_landmarks(path, both)
    assert set(known) == {pictures[1].resolve(), both[-1].resolve()}


def test_a_name_that_fits_several_pictures_is_left_out(tmp_path, pictures, caplog):
    path = told(tmp_path, "ours", ["one.png", "three.png"])
    known = known_landmarks(path, [*pictures, tmp_path / "one.png"])
    assert set(known) == {pictures[2].resolve()}
    assert "one.png may be any of 2 pictures" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_names_lead_nowhere(tmp_path, pictures, kind):
    """A path within a file finds the picture of that name among those asked about, and none anywhere else."""
    (tmp_path / "secret.png").write_bytes(b"not to be touched")
    path = told(tmp_path, kind, ["../secret.png", "/etc/passwd", "..\\..\\secret.png"])
    assert known_landmarks(path, pictures) == {}


def test_no_pictures_no_faces(tmp_path):
    assert known_landmarks(told(tmp_path, "csv", ["one.png"]), []) == {}


def test_a_folder_with_broken_faces_gives_the_good_ones(tmp_path, pictures, caplog):
    path = told(tmp_path, "dfl", ["one.png", "two \u00e9.jpg"])
    broken = (path / "0.jpg").read_bytes().replace(b"source_landmarks", b"source_landmarkz")
    (path / "2.jpg").write_bytes(broken)
    write_dfl_jpeg(path / "3.jpg", PIXELS, DflFace(landmarks(3)))
    (path / "note.txt").write_text("not a picture")
    (path / "sheet.png").write_bytes(encode_picture("sheet.png", PIXELS, None)[0])
    assert len(known_landmarks(path, pictures)) == 2
    assert "2.jpg does not say which frame" in caplog.text and "3.jpg does not say which frame" in caplog.text
    assert "sheet" not in caplog.text and len(caplog.records) == 2


def test_lines_of_a_table_that_are_incomplete_are_told(tmp_path, pictures, caplog):
    path = told(tmp_path, "csv", ["one.png"])
    with open(path, "a", encoding="utf-8") as file:
        file.write("pictures/three.png,640,480,1,2\n")
    assert len(known_landmarks(path, pictures)) == 1
    assert "pictures/three.png: line 3" in caplog.text


@pytest.mark.parametrize("ask", [lambda path: known_landmarks(path, ["one.png"]), known_frames], ids=["pictures", "frames"])
def test_a_path_that_tells_nothing_is_refused(tmp_path, ask):
    (tmp_path / "bad.csv").write_text("file,width\n")
    (tmp_path / "bad.fsa").write_bytes(b"bad")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    for name in ("bad.csv", "bad.fsa", "binary", "missing.csv", "missing.fsa"):
        with pytest.raises(FormatError if name.endswith("fsa") else FaceSetError, match=name):
            ask(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match="folder holds no aligned faces"):
        ask(tmp_path / "folder")


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_a_clip_are_found_by_their_number(tmp_path, kind):
    """Names count from 1, frames from 0."""
    names = [f"my clip_{number:06d}.png" for number in (1, 12, 12)] + ["other_000003.png", "no number.png", "000100.png"]
    path = told(tmp_path, kind, names)
    known = known_frames(path, "folder/my clip.mp4")
    assert {number: len(faces) for number, faces in known.items()} == {0: 1, 11: 2, 99: 1}
    np.testing.assert_allclose(known[11][1], landmarks(2), atol=1e-9)
    assert set(known_frames(path)) == {0, 2, 11, 99}


def test_a_frame_0_says_that_names_count_from_it(tmp_path):
    assert set(known_frames(told(tmp_path, "fsa", ["clip_0.png", "clip_7.png"]))) == {0, 7}


def test_our_faces_know_their_frame(tmp_path):
    for name, frame, k in (("a.png", 4, 0), ("b.png", 4, 1), ("c.png", 9, 2)):
        write_face(tmp_path / name, PIXELS, record(k, "clip_2.mp4", frame))
    write_face(tmp_path / "d.png", PIXELS, record(3, "other.mp4", 1))
    known = known_frames(tmp_path, "clip_2.mp4")
    assert {number: len(faces) for number, faces in known.items()} == {4: 2, 9: 1}
    # The same clip as a folder of pictures, named as faceswap names them.
    picture = tmp_path / "frames" / "clip_2_000010.jpg"
    assert set(known_landmarks(tmp_path, [picture])) == {picture.resolve()}


def test_landmarks_that_are_not_finite_are_left_out_of_a_clip(tmp_path, caplog):
    broken = landmarks(1)
    broken[5, 0] = np.nan
    table = write_table(tmp_path / "a.csv", [("f_1.png", landmarks(0)), ("f_2.png", broken)])
    assert set(known_frames(table)) == {0}
    assert "f_2.png is left out" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_mutations_are_read_or_refused(tmp_path, pictures, kind, caplog):
    caplog.set_level(logging.CRITICAL)
    path, rng = told(tmp_path, kind, ["one.png", "two \u00e9.jpg"]), np.random.default_rng(3)
    file = path / ("0.jpg" if kind == "dfl" else "0.png") if path.is_dir() else path
    content = file.read_bytes()
    for _ in range(100):
        data = bytearray(content)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            data[place] = rng.integers(256)
        file.write_bytes(data[: rng.integers(len(data))] if rng.random() < 0.3 else data)
        for ask in (lambda: known_landmarks(path, pictures), lambda: known_frames(path)):
            try:
                ask()
            except (FaceSetError, PictureError) as error:
                assert str(path) in str(error) and "\n" not in str(error)
