"""Hostile file names, in file systems, lists and data of other programs.

Nothing is written outside the requested folder, and no name breaks anything.
"""
import csv
import io
import os
import pathlib
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

import nn
from data.datasets.face_set import load_faces
from data.datasets.person import load_person
from data.extract import pipeline
from data.extract.face_folder import LIST, ExtractError, FaceFolder, read_list
from data.interchange.dfl_faceswap import FaceswapFace, read_fsa, to_dfl_face, write_dfl_jpeg, write_fsa
from data.interchange.face_png import FaceRecord, read_record, write_face
from data.interchange.landmark_lookup import lookup_landmarks
from data.media.animation import write_animation
from data.media.codecs import CONTAINERS
from data.media.image_io import save_image, write_atomically
from data.media.provenance import DigitalSource, sidecar_path
from data.media.video import VideoInfo, VideoWriter
from data.support.errors import FaceSetError

ROOT = pathlib.Path(__file__).resolve().parents[3]
HOSTILE = ["../../outside/a.png", "/etc/passwd", "..", "C:\\Windows\\a.png", "C:a.png", "\\\\server\\share\\a.png",
           "CON.png", "nul",
           "-rf.png", "~.png", "$(touch pwned).png", "a\0b.png", "a\nb.png", "\x1b[2Ja.png", "a\udcff.png",
           "x" * 400 + ".png", "\u540d" * 77 + ".png", "a.png.", "\u202egnp.a"]
ON_DISK = [name for name in HOSTILE if "/" not in name and "\0" not in name and name != ".." and len(name) < 256]


def snapshot(folder):
    return {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def outside(tmp_path):
    """A folder next to the output folder, in which nothing may change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.png").write_bytes(b"mine")
    return tmp_path / "outside"


@pytest.mark.parametrize("form", ["png", "dfl", "fsa"])
def test_faces_stay_in_their_folder_for_any_source_name(tmp_path, outside, renders, form):
    pixels, landmarks = renders[0, 0]
    before = snapshot(outside)
    faces = FaceFolder(tmp_path / "out" / "faces", form)
    faces.begin()
    for k, name in enumerate(HOSTILE):
        record = FaceRecord(name, (144, 144), np.eye(2, 3), landmarks, 0.9, frame=k if k % 2 else None)
        faces.add(pixels, record)
    faces.finish(np.zeros(len(HOSTILE), int))
    assert snapshot(outside) == before and sorted(path.name for path in tmp_path.iterdir()) == ["out", "outside"]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()
               and path.name not in (LIST, "alignments.fsa")]
    assert len(written) == len(HOSTILE) + 1  # a contact sheet
    for path in written:
        assert not set('\\:*?"<>|\0\n\x1b') & set(path.name)
        assert len(os.fsencode(path.name)) < 200 and path.name[0] in "0f"
    assert [entry.file for entry in read_list(faces.path)] == HOSTILE
    again = FaceFolder(faces.path)
    again.drop({1, 3})  # the list leads nowhere else
    assert snapshot(outside) == before and sum(map(len, again.people().values())) == len(HOSTILE) - 2


@pytest.mark.skipif(os.name != "posix", reason="names that other systems do not have")
def test_photos_of_any_name_are_extracted(tmp_path, known, renders):
    (tmp_path / "photos").mkdir()
    for k, name in enumerate(ON_DISK):
        pixels, landmarks = renders[0, k % 8]
        pixels = pixels.copy()
        pixels[0, 0] = k
        with open(tmp_path / "photos" / f"{name}{'' if name.endswith('.png') else '.png'}", "wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
        known.learn(pixels, landmarks)
    faces, summary = pipeline.extract(tmp_path / "photos", tmp_path / "faces")
    assert summary.searched == len(ON_DISK) and summary.failed == []
    found = [entry for entries in faces.people().values() for entry in entries]
    assert len(found) + summary.duplicates == len(ON_DISK) and len(found) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "photos"]
    assert all(read_record(tmp_path / "faces" / entry.face).source.endswith(".png") for entry in found)


@pytest.mark.parametrize("name", [*HOSTILE, "person_1/../00001_a.png", "00001_a\0.png",
                                  f"person_{'9' * 5000}/00001_a.png", "../00001_a.png"])
def test_a_list_of_faces_elsewhere_is_rejected(tmp_path, outside, name):
    (tmp_path / "faces").mkdir()
    rows = [[*"number face file frame left top right bottom score".split()], [1, name, "a.png", "", 1, 1, 2, 2, 0.5]]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    (tmp_path / "faces" / LIST).write_bytes(text.getvalue().encode(errors="surrogateescape"))
    with pytest.raises(ExtractError, match=LIST):
        FaceFolder(tmp_path / "faces")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_in_alignments_are_only_compared(tmp_path, outside, renders, name):
    """faceswap's names lose their folders and are compared with existing images."""
    pixels, landmarks = renders[0, 0]
    save_image(tmp_path / "a.png", pixels, None)
    write_fsa(tmp_path / "a.fsa", {name: [FaceswapFace(landmarks, name)]})
    before = snapshot(tmp_path)
    try:
        (frame,) = read_fsa(tmp_path / "a.fsa")
        assert not {"/", "\\"} & set(frame)
        assert set(lookup_landmarks(tmp_path / "a.fsa", [tmp_path / "a.png"])) <= {(tmp_path / "a.png").resolve()}
    except ValueError as error:
        assert "a.fsa" in str(error) and "name of a file" in str(error)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", [*HOSTILE, "../outside/a.png"])
def test_a_table_of_landmarks_reads_nothing_outside_its_folder(tmp_path, outside, renders, name):
    pixels, landmarks = renders[0, 0]
    (tmp_path / "photos").mkdir()
    save_image(outside / "a.png", pixels, None)
    save_image(tmp_path / "photos" / "b.png", pixels, None)
    header = ["file", "width", "height", *(f"{axis}{k}" for k in range(68) for axis in "xy")]
    with open(tmp_path / "photos" / "landmarks.csv", "w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows([header, [name, 144, 144, *landmarks.ravel()]])
    with pytest.raises(FaceSetError, match="no usable row|has 0 usable|must be a CSV in UTF-8"):
        load_faces(tmp_path / "photos", tmp_path / "photos" / "landmarks.csv", 32)


def long_name(suffix):
    """Return a name of 78 characters and 250 bytes; file systems allow 255."""
    return "\u540d" * ((250 - len(suffix)) // 3) + "a" * ((250 - len(suffix)) % 3) + suffix


@pytest.mark.parametrize("suffix", [
    ".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".ppm", ".gif animation", ".png animation", ".webp animation",
    *CONTAINERS, ".csv", ".npz", ".fsa", ".png face", ".jpg face",
])  # fmt: skip
def test_every_writer_takes_a_name_of_250_bytes(tmp_path, renders, suffix):
    suffix, _, kind = suffix.partition(" ")
    path = tmp_path / long_name(suffix)
    assert len(os.fsencode(path.name)) == 250
    pixels, landmarks = renders[0, 0]
    record = FaceRecord(path.name, (144, 144), np.eye(2, 3), landmarks, 0.9)
    if kind == "animation":
        write_animation(path, [pixels, 255 - pixels], [100, 100], 0, DigitalSource.COMPOSITE)
    elif kind == "face" and suffix == ".png":
        write_face(path, pixels, record)
    elif kind == "face":
        write_dfl_jpeg(path, pixels, to_dfl_face(record))
    elif suffix == ".fsa":
        write_fsa(path, {path.name: [FaceswapFace(landmarks, path.name)]})
    elif suffix == ".csv":
        write_atomically(path, b"1")
    elif suffix == ".npz":
        nn.save(path, {"a": np.zeros(2)})
    elif suffix in CONTAINERS:
        if not (shutil.which("ffmpeg") and shutil.which("ffprobe")):
            pytest.skip("ffmpeg is not installed")
        with VideoWriter(path, VideoInfo(144, 144, Fraction(10))) as writer:
            writer.write(pixels)
    else:
        save_image(path, pixels, DigitalSource.COMPOSITE)
    sidecar = {sidecar_path(path).name} if suffix in (".bmp", ".ppm") else set()
    assert {file.name for file in tmp_path.iterdir()} == {path.name} | sidecar and path.stat().st_size


def test_a_face_file_stores_a_printable_name(tmp_path, renders):
    pixels, landmarks = renders[0, 0]
    write_face(tmp_path / "a.png", pixels, FaceRecord("a\udcff\x1b.png", (144, 144), np.eye(2, 3), landmarks, 0.9))
    assert read_record(tmp_path / "a.png").source == "a\ufffd\ufffd.png"


def test_extracted_faces_are_stored_in_the_run_folder(tmp_path, outside, write_photos):
    """Extraction at the start of training."""
    photos = write_photos(tmp_path / "photos", {f"{k}.png": (0, k) for k in range(6)})
    before = snapshot(outside)
    load_person(photos, None, 32, 0, tmp_path / "run" / "faces" / "a", say=lambda line: None)
    shutil.rmtree(tmp_path / "run")
    assert snapshot(outside) == before and sorted(path.name for path in tmp_path.iterdir()) == ["outside", "photos"]


@pytest.mark.skipif(os.name != "posix", reason="names that other systems do not have")
def test_a_name_that_is_not_valid_text_can_be_printed(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    with open(path, "wb") as file:
        Image.new("RGB", (8, 8)).save(file, "PNG")
    done = subprocess.run([sys.executable, "-m", "data.media.labels", path], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONUTF8": "1"})
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("\\udcff.png: no label of synthetic media\n")
