"""Extraction end to end on rendered people. A stand-in for the face networks knows their faces, so
that no trained weights are needed."""

import csv
import errno
import hashlib
import os
import shutil
import signal
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageFilter

from data.extract import pipeline
from data.extract.__main__ import main
from data.extract.face_folder import FaceFolder, read_list
from data.extract.quality_filter import spread_sample
from data.geometry.alignment import INNER, MEAN_FACE, apply, crop_transform, warp
from data.geometry.boxes import box_of, iou
from data.geometry.padded_crop import PADDED_CROP_EXTENT
from data.interchange.dfl_faceswap import read_dfl, read_fsa
from data.interchange.face_png import read_face
from data.interchange.restricted_unpickler import read_plain
from data.media.animation import write_animation
from data.media.chunks import APP15, read_part
from data.media.image_io import read_image, read_label, save_image
from data.media.provenance import DigitalSource
from data.media.video import VideoInfo, VideoWriter
from tests.helpers.programs import call

SIDE = 144  # pixels, side of the rendered images
PARTLY = 3  # exit code of an extraction in which a file failed


@pytest.fixture
def photos(tmp_path, write_photos):
    """Ten files: five photos of person 0, three of person 1, one landscape, and one that is no
    image."""
    images = {f"p{person} {k}.png": (person, k) for person, count in ((0, 5), (1, 3)) for k in range(count)}
    folder = write_photos(tmp_path / "photos of 'Anna'", images)
    Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(folder / "landscape.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def program(*arguments):
    """Run the command line. Returns (exit code, lines of stdout, lines of stderr)."""
    return call(main, *arguments)


def faces_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png") if p.name != "faces.png")


def test_photos_become_a_folder_per_person(photos, tmp_path, renders):
    code, out, err = program(photos, tmp_path / "faces")
    assert (code, err) == (PARTLY, [])
    folder = tmp_path / "faces"
    assert faces_in(folder) == [
        *(f"person_1/{k + 1:05d}_p0 {k}.png" for k in range(5)),
        *(f"person_2/{k + 6:05d}_p1 {k}.png" for k in range(3)),
    ]
    text = "\n".join(out)
    for words in (
        "9 images searched, 1 without a face",
        "broken.jpg: is not an image",
        "2 people",
        "person_1 with 5 faces",
        "person_2 with 3",
    ):
        assert words in text, words
    assert read_image(folder / "faces.png").pixels.shape[1] >= 96 * 5


def test_content_of_a_face_file(photos, tmp_path, renders):
    program(photos, tmp_path / "faces")
    pixels, landmarks = renders[0, 2]
    image, record = read_face(tmp_path / "faces" / "person_1" / "00003_p0 2.png")
    assert image.pixels.shape == (256, 256, 3)
    assert (record.source, record.source_size, record.frame, record.score) == ("p0 2.png", (SIDE, SIDE), None, 0.95)
    np.testing.assert_allclose(record.landmarks, landmarks)
    assert np.abs(image.pixels / 255 - warp(pixels, record.transform, 256)).max() < 0.6 / 255
    # It is PADDED_CROP_EXTENT times as wide as a crop, and the crop is in the middle.
    at = apply(record.transform, landmarks)[INNER]
    expected = 127.5 + (apply(crop_transform(landmarks, 1), landmarks)[INNER] * 256 / PADDED_CROP_EXTENT)
    np.testing.assert_allclose(at, expected, atol=1e-6)
    center = 127.5 + (MEAN_FACE[INNER].mean(axis=0) - 0.5) * 256 / PADDED_CROP_EXTENT
    assert np.abs(at.mean(axis=0) - center).max() < 1e-6


def test_faces_of_one_person_are_directly_in_the_folder(photos, tmp_path):
    for path in photos.glob("p1*"):
        path.unlink()
    assert program(photos, tmp_path / "faces", "--size", 128)[0] == PARTLY
    assert faces_in(tmp_path / "faces") == [f"{k + 1:05d}_p0 {k}.png" for k in range(5)]
    assert read_face(tmp_path / "faces" / "00001_p0 0.png")[0].pixels.shape == (128, 128, 3)


def test_bad_faces_are_sorted_out_by_reason(photos, tmp_path, known, renders):
    pixels, landmarks = renders[0, 0]
    wide = np.concatenate([pixels] * 2, axis=1)

    def show(name, image, points, score=0.95):
        Image.fromarray(image).save(photos / name)
        known.learn(image, points, score)

    show("blurred.png", np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(6))), landmarks)
    show(
        "tiny.png",
        np.asarray(Image.fromarray(pixels).resize((40, 40), Image.Resampling.BOX)),
        (landmarks + 0.5) * 40 / SIDE - 0.5,
    )
    show("doubtful.png", wide[::-1].copy(), landmarks, 0.55)
    show("shuffled.png", wide[:, ::-1].copy(), np.random.default_rng(0).permutation(landmarks))
    show("cut.png", pixels[:, int(landmarks[33, 0]) :].copy(), landmarks - [int(landmarks[33, 0]), 0])
    code, out, _ = program(photos, tmp_path / "faces")
    assert code == PARTLY
    aside = [p.split("/")[1:] for p in faces_in(tmp_path / "faces") if p.startswith("sorted_out")]
    assert sorted((reason, name[6:]) for reason, name in aside) == [
        ("blurred", "blurred.png"),
        ("cut_off", "cut.png"),
        ("doubtful", "doubtful.png"),
        ("doubtful", "shuffled.png"),
        ("tiny", "tiny.png"),
    ]
    assert any(
        "rejected" in line and "1 blurred" in line and "2 doubtful" in line and "1 cut off" in line for line in out
    ), out


def test_near_duplicates_are_skipped(photos, tmp_path, known, renders):
    rng = np.random.default_rng(0)
    pixels, landmarks = renders[0, 0]
    noisy = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(photos / "p0 0 again.png")
    known.learn(noisy, landmarks + 0.1)
    code, out, _ = program(photos, tmp_path / "faces")
    assert code == PARTLY and "skipped 1 near duplicate" in out and len(faces_in(tmp_path / "faces")) == 8


def test_faces_are_dropped_by_number_and_stay_dropped(photos, tmp_path):
    folder = tmp_path / "faces"
    program(photos, folder)
    before = read_image(folder / "faces.png").pixels
    code, out, err = program(photos, folder, "--drop", "3, 7")
    assert (code, err) == (0, []) and "2 faces dropped" in out[0]
    dropped = ["sorted_out/dropped/00003_p0 2.png", "sorted_out/dropped/00007_p1 1.png"]
    assert [p for p in faces_in(folder) if p.startswith("sorted_out")] == dropped and len(faces_in(folder)) == 8
    assert not np.array_equal(read_image(folder / "faces.png").pixels, before)
    assert {entry.number for entry in read_list(folder) if entry.person} == {1, 2, 4, 5, 6, 8}
    assert program(photos, folder)[0] == PARTLY
    assert [p for p in faces_in(folder) if p.startswith("sorted_out")] == dropped
    (folder / "person_1" / "00001_p0 0.png").unlink()  # by hand
    assert program(photos, folder, "--drop", "2")[0] == 0
    for numbers, word in (("3", "no face number 3"), ("1", "no face number 1"), ("99", "no face number 99")):
        code, _, err = program(photos, folder, "--drop", numbers)
        assert code == 1 and len(err) == 1 and word in err[0]
    assert program(photos, folder, "--drop", "x")[0] == 2
    code, _, err = program(photos, tmp_path / "new", "--drop", "1")
    assert code == 1 and "no faces yet" in err[0] and not (tmp_path / "new").exists()


def test_a_face_given_by_hand_comes_back_after_it_was_dropped(photos, tmp_path, renders):
    program(photos, tmp_path / "faces")
    program(photos, tmp_path / "faces", "--drop", "1")
    points = renders[0, 0][1]
    table = write_csv(tmp_path / "c.csv", ["file", *POINTS], ["p0 0.png", *points.ravel()])
    assert program(photos, tmp_path / "faces", "--corrections", table)[0] == PARTLY
    assert {entry.file for entry in read_list(tmp_path / "faces") if entry.person} >= {"p0 0.png"}


def test_with_the_shipped_networks(tmp_path, renders):
    (tmp_path / "photos").mkdir()
    for k in range(6):
        Image.fromarray(renders[0, k][0]).save(tmp_path / "photos" / f"{k}.png")
    assert program(tmp_path / "photos", tmp_path / "faces")[0] == 0
    entries = read_list(tmp_path / "faces")
    found = [entry for entry in entries if iou(entry.box, box_of(renders[0, int(entry.file[0])][1])[None])[0] > 0.5]
    assert len(found) >= 5 and len(entries) - len(found) <= 1


def write_csv(path, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


POINTS = [f"{axis}{i}" for i in range(68) for axis in "xy"]


def test_corrections_replace_detection(photos, tmp_path, known, renders):
    (pixels, landmarks), blank = renders[1, 4], np.full((SIDE, SIDE, 3), 128, np.uint8)
    Image.fromarray(pixels).save(photos / "missed.png")  # not detected without a correction
    detect = known.detect
    known.detect = lambda shown: [] if np.array_equal(shown, pixels) else detect(shown)
    known.learn(pixels, landmarks, person=1)
    Image.fromarray(blank).save(photos / "blank.png")
    box = [*(landmarks.min(axis=0) - 2).round(1), *(landmarks.max(axis=0) + 2).round(1)]
    boxes = write_csv(
        tmp_path / "boxes.csv",
        ["file", "left", "top", "right", "bottom"],
        ["missed.png", *box],
        ["p0 0.png", "", "", "", ""],
    )
    assert program(photos, tmp_path / "faces", "--corrections", boxes)[0] == PARTLY
    entries = {entry.file: entry for entry in read_list(tmp_path / "faces")}
    assert "p0 0.png" not in entries
    np.testing.assert_allclose(entries["missed.png"].box, box_of(landmarks), atol=0.06)
    points = write_csv(tmp_path / "points.csv", ["file", *POINTS], ["blank.png", *(landmarks + 1).ravel()])
    assert program(photos, tmp_path / "faces", "--corrections", points)[0] == PARTLY
    entries = {entry.file: entry for entry in read_list(tmp_path / "faces")}
    assert "missed.png" not in entries and entries["blank.png"].person  # taken, featureless as it is
    np.testing.assert_allclose(read_face(tmp_path / "faces" / entries["blank.png"].face)[1].landmarks, landmarks + 1)


@pytest.mark.parametrize(
    "header, row, words",
    [
        (["file", "left", "top", "right"], ["p0 0.png", 1, 2, 3], "must begin with the line"),
        (["file", "left", "top", "right", "bottom"], ["p0 0.png", 9, 2, 3, 4], "not a valid box"),
        (["file", "left", "top", "right", "bottom"], ["p0 0.png", 1, "", 3, 4], "row 2"),
        (["file", "left", "top", "right", "bottom"], ["p0 0.png", 1, 2, "inf", 4], "not a valid box"),
        (["file", "left", "top", "right", "bottom"], ["none.png", 1, 2, 3, 4], "'none.png'"),
        (["file", "frame", "left", "top", "right", "bottom"], ["p0 0.png", 3, 1, 2, 3, 4], "it is a photo"),
        (["file", "frame", "left", "top", "right", "bottom"], ["p0 0.png", "x", 1, 2, 3, 4], "whole number"),
        (["file", "frame", "left", "top", "right", "bottom"], ["p0 0.png", "\u00b2", 1, 2, 3, 4], "whole number"),
        (["file", "frame", "left", "top", "right", "bottom"], ["p0 0.png", "9" * 5000, 1, 2, 3, 4], "whole number"),
        (["file", *POINTS], ["p0 0.png", *range(136)], "do not form a face"),
    ],
)
def test_invalid_corrections_are_refused(photos, tmp_path, header, row, words):
    table = write_csv(tmp_path / "c.csv", header, row)
    code, _, err = program(photos, tmp_path / "faces", "--corrections", table)
    assert code == 1 and len(err) == 1 and words in err[0], err
    assert not (tmp_path / "faces").exists()


def test_extracting_again_replaces_only_its_own_files(photos, tmp_path):
    folder = tmp_path / "faces"
    program(photos, folder)
    (folder / "person_1" / "mine.txt").write_text("mine")
    for path in photos.glob("p1*"):
        path.unlink()
    assert program(photos, folder)[0] == PARTLY
    assert faces_in(folder) == [f"{k + 1:05d}_p0 {k}.png" for k in range(5)]
    assert (folder / "person_1" / "mine.txt").read_text() == "mine" and not (folder / "person_2").exists()


def test_a_folder_with_other_files_is_refused(photos, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "holiday.jpg").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for folder, words in ((tmp_path / "full", "contains other files"), (tmp_path / "file", "is a file")):
        code, _, err = program(photos, folder)
        assert code == 1 and len(err) == 1 and words in err[0]
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["holiday.jpg"]
    assert program(photos, photos)[0] == 2


def test_a_list_with_paths_outside_the_folder_is_refused(photos, tmp_path):
    folder = tmp_path / "faces"
    program(photos, folder)
    text = (folder / "faces.csv").read_text()
    (folder / "faces.csv").write_text(text.replace("person_1/00001_", "../00001_"))
    code, _, err = program(photos, folder)
    assert code == 1 and "not the path of a face" in err[0]


def test_no_face_gives_an_error_of_one_line(tmp_path, known, photos, renders):
    for path in photos.glob("p*"):
        path.unlink()
    code, out, err = program(photos, tmp_path / "faces")
    assert (
        (code, out, len(err)) == (1, [], 1)
        and "no face found" in err[0]
        and "1 image searched" in err[0]
        and "broken.jpg" in err[0]
    )
    assert not (tmp_path / "faces").exists()
    pixels, landmarks = renders[0, 7]
    Image.fromarray(pixels).save(photos / "p.png")
    known.learn(pixels, landmarks, 0.55)
    code, out, err = program(photos, tmp_path / "faces")
    assert (code, len(err)) == (1, 1) and "no good face" in err[0] and "1 doubtful" in err[0]
    assert faces_in(tmp_path / "faces") == ["sorted_out/doubtful/00001_p.png"]


@pytest.mark.parametrize(
    "given, words",
    [("nowhere", "does not exist"), ("empty", "no images"), ("broken.jpg", "not an image"), ("zero.mp4", "zero.mp4")],
)
def test_input_that_cannot_be_used(photos, tmp_path, given, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "zero.mp4").write_bytes(b"")
    code, out, err = program(tmp_path / given, tmp_path / "faces")
    assert (code, out, len(err)) == (1, [], 1) and words in err[0]
    assert not (tmp_path / "faces").exists()


def interrupt_at(known, monkeypatch, k, number=signal.SIGINT):
    """Interrupt the k-th call of detect, and check that there is none after it."""
    calls, detect = [0], known.detect

    def watched(pixels):
        calls[0] += 1
        assert calls[0] <= k
        if calls[0] == k:
            signal.raise_signal(number)
        return detect(pixels)

    monkeypatch.setattr(known, "detect", watched)


@pytest.mark.parametrize("number, expected", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_saves_the_faces_found_so_far(photos, tmp_path, known, monkeypatch, number, expected):
    interrupt_at(known, monkeypatch, 4, number)  # after the landscape and two faces
    code, _, err = program(photos, tmp_path / "faces")
    assert code == expected and len(err) == 1 and "interrupted" in err[0]
    assert faces_in(tmp_path / "faces") == ["00001_p0 0.png", "00002_p0 1.png"]
    assert (tmp_path / "faces" / "faces.png").exists()
    assert len(read_list(tmp_path / "faces")) == 2


def test_an_interruption_with_many_faces_says_that_it_saves_them(photos, tmp_path, known, monkeypatch):
    monkeypatch.setattr(pipeline, "_MANY_FACES", 2)
    interrupt_at(known, monkeypatch, 4)
    code, _, err = program(photos, tmp_path / "faces")
    assert code == 130 and len(err) == 2 and "saving the 2 faces found so far" in err[0]


@pytest.mark.parametrize("owner, name", [(FaceFolder, "_write_list"), (FaceFolder, "_write_contact_sheets"),
                                         (pipeline, "_group_by_person")])
def test_a_second_interruption_quits_and_leaves_complete_faces(photos, tmp_path, known, monkeypatch, owner, name):
    """Moving new faces into the folder is completed first. Before that, the earlier faces stay."""
    program(photos, tmp_path / "faces")
    before = {path: path.read_bytes() for path in (tmp_path / "faces").rglob("*") if path.is_file()}
    interrupt_at(known, monkeypatch, 4)
    really = getattr(owner, name)

    def again(*arguments):
        if known.looked > 9:  # the first extraction looked at nine images
            signal.raise_signal(signal.SIGTERM)
        return really(*arguments)

    monkeypatch.setattr(owner, name, again)
    code, _, err = program(photos, tmp_path / "faces")
    assert code == 143 and len(err) == 1 and "interrupted" in err[0]
    after = {path: path.read_bytes() for path in (tmp_path / "faces").rglob("*") if path.is_file()}
    if name == "_group_by_person":
        assert after == before
    else:
        listed = {tmp_path / "faces" / entry.face for entry in read_list(tmp_path / "faces")}
        assert len(listed) == 2 and {path for path in after if path.name[:2] == "00"} == listed
    assert not (tmp_path / "faces" / ".extracting").exists()


@pytest.mark.parametrize("folder", ["new", "faces"])
def test_a_full_disk_gives_one_line_and_leaves_the_earlier_faces(photos, tmp_path, monkeypatch, folder):
    program(photos, tmp_path / "faces")
    before = {path: path.read_bytes() for path in (tmp_path / "faces").rglob("*") if path.is_file()}

    def full_disk(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full_disk)
    code, out, err = program(photos, tmp_path / folder)
    assert (code, out, len(err)) == (1, [], 1) and "No space left" in err[0] and str(tmp_path / folder) in err[0]
    assert {path: path.read_bytes() for path in (tmp_path / "faces").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", photos.name]


def test_a_folder_deleted_during_extraction_gives_one_line(photos, tmp_path, known, monkeypatch):
    detect = known.detect
    monkeypatch.setattr(known, "detect",
                        lambda pixels: shutil.rmtree(tmp_path / "faces", ignore_errors=True) or detect(pixels))
    code, out, err = program(photos, tmp_path / "faces")
    assert (code, out, len(err)) == (1, [], 1) and "does not exist" in err[0]
    assert [path.name for path in tmp_path.iterdir()] == [photos.name]


def test_an_error_leaves_the_earlier_faces_unchanged(photos, tmp_path, known, monkeypatch):
    folder = tmp_path / "faces"
    program(photos, folder)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def broken(pixels):
        raise RuntimeError("a mistake in the program")

    monkeypatch.setattr(known, "detect", broken)
    with pytest.raises(RuntimeError):
        pipeline.extract(photos, folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_faces_keep_the_provenance_label_of_their_images(photos, tmp_path, renders):
    program(photos, tmp_path / "plain")
    assert read_label(tmp_path / "plain" / "faces.png") is None
    save_image(photos / "p0 0.png", renders[0, 0][0], DigitalSource.ALGORITHMIC)
    program(photos, tmp_path / "faces")
    assert read_label(tmp_path / "faces" / "person_1" / "00001_p0 0.png") == DigitalSource.ALGORITHMIC
    assert read_label(tmp_path / "faces" / "person_1" / "00002_p0 1.png") is None
    assert read_label(tmp_path / "faces" / "faces.png") == DigitalSource.ALGORITHMIC


def test_grouping_by_samples_gives_the_same_people(monkeypatch):
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(5), [40, 25, 20, 3, 1])
    embeddings = np.eye(5, 16)[people] + rng.normal(0, 0.08, (89, 16))
    embeddings = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    order = rng.permutation(89)
    expected = pipeline._group_by_person(list(embeddings[order]))
    np.testing.assert_array_equal(expected, people[order])
    monkeypatch.setattr(pipeline, "_MAX_CLUSTERED", 20)
    np.testing.assert_array_equal(pipeline._group_by_person(list(embeddings[order])), people[order])


@pytest.fixture
def clip(tmp_path, renders, known):
    """An animated PNG of 24 noisy frames, whose pose changes at frame 12; `known` recognizes all
    frames."""
    rng, frames = np.random.default_rng(0), []
    for k in range(24):
        pixels, landmarks = renders[0, k // 12]
        frames.append(np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8))
        known.learn(frames[-1], landmarks)
    write_animation(tmp_path / "clip.png", frames, [40] * 24, 0, DigitalSource.ALGORITHMIC)
    return tmp_path / "clip.png"


def test_every_kth_frame_of_a_video_is_searched(clip, tmp_path, known):
    code, out, _ = program(clip, tmp_path / "faces", "--every", 4)
    assert (
        code == 0
        and "6 images searched, 0 without a face" in out
        and "skipped 4 near duplicates" in out
        and known.looked == 6
    )
    assert faces_in(tmp_path / "faces") == ["00001_clip_000000.png", "00002_clip_000012.png"]
    record = read_face(tmp_path / "faces" / "00002_clip_000012.png")[1]
    assert (record.source, record.frame, record.time) == ("clip.png", 12, pytest.approx(0.48))
    assert record.digest == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert read_label(tmp_path / "faces" / "00002_clip_000012.png") == DigitalSource.ALGORITHMIC


def test_a_short_video_gives_all_its_frames_and_the_most_different_ones(tmp_path, known, renders):
    """Sixteen frames of two poses: all are taken; of only two, one of each pose."""
    rng, frames = np.random.default_rng(0), []
    for k in range(16):
        pixels, landmarks = renders[0, k // 8]
        brighter = pixels * (0.9 + 0.02 * (k % 8)) + rng.normal(0, 1, pixels.shape)
        frames.append(np.clip(brighter, 0, 255).astype(np.uint8))
        known.learn(frames[-1], landmarks)
    write_animation(tmp_path / "clip.png", frames, [40] * 16, 0, DigitalSource.ALGORITHMIC)
    code, out, _ = program(tmp_path / "clip.png", tmp_path / "faces")
    assert code == 0 and "16 images searched, 0 without a face" in out and len(faces_in(tmp_path / "faces")) == 16
    code, out, _ = program(tmp_path / "clip.png", tmp_path / "faces", "--max-faces", 2)
    assert code == 0 and "skipped 14 near duplicates" in out
    assert [entry.frame // 8 for entry in read_list(tmp_path / "faces")] == [0, 1]
    assert [path.name for path in (tmp_path / "faces").iterdir() if path.name.startswith(".")] == []


def test_spread_sample_takes_the_farthest():
    """On a line, after the first point the farthest one, then the middle."""
    found = [(np.array([x, 0.0]), np.array([1.0]), np.array([0.0])) for x in (0, 1, 2, 5, 9, 10)]
    assert spread_sample(found, 3) == [0, 3, 5] and spread_sample(found, 2) == [0, 5]
    assert spread_sample(found, 9) == [0, 1, 2, 3, 4, 5]


def test_what_a_folder_holds_beside_images_is_named(photos, tmp_path):
    (photos / "IMG_1.HEIC").write_bytes(b"x")
    (photos / "more").mkdir()
    (photos / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (photos / ".hidden").write_bytes(b"x")
    (photos / "a\nb.txt").write_bytes(b"x")
    line = next(line for line in program(photos, tmp_path / "faces")[1] if line.startswith("passed over"))
    for words in ("2 other files (IMG_1.HEIC, a\\nb.txt)", "1 sub-folder (more)",
                  "1 broken link (gone.jpg)", "convert HEIC"):
        assert words in line
    assert ".hidden" not in line and "p0 0.png" not in line


def test_a_lack_of_memory_ends_one_file_only(photos, tmp_path, known, monkeypatch):
    detect = known.detect

    def fail_once(pixels):
        if known.looked == 2:
            known.looked += 1
            raise MemoryError
        return detect(pixels)

    monkeypatch.setattr(known, "detect", fail_once)
    code, out, _ = program(photos, tmp_path / "faces")
    assert code == PARTLY and any("needs more memory" in line for line in out)
    assert len(faces_in(tmp_path / "faces")) == 7


def test_frames_are_corrected_by_their_number(clip, tmp_path, renders):
    box = [*renders[0, 1][1].min(axis=0), *renders[0, 1][1].max(axis=0)]
    table = write_csv(
        tmp_path / "c.csv",
        ["file", "frame", "left", "top", "right", "bottom"],
        ["clip.png", 13, *box],
        ["clip.png", 0, "", "", "", ""],
    )
    assert program(clip, tmp_path / "faces", "--every", 12, "--corrections", table)[0] == 0
    assert [entry.frame for entry in read_list(tmp_path / "faces")] == [12, 13]
    table = write_csv(tmp_path / "c.csv", ["file", "left", "top", "right", "bottom"], ["clip.png", *box])
    code, _, err = program(clip, tmp_path / "faces", "--corrections", table)
    assert code == 1 and "without a frame, but it is a video" in err[0]


def test_faces_for_deepfacelab(photos, tmp_path, renders):
    assert program(photos, tmp_path / "faces", "--format", "dfl")[0] == PARTLY
    folder = tmp_path / "faces"
    assert sorted(p.name for p in (folder / "person_1").iterdir()) == [f"{k + 1:05d}_p0 {k}.jpg" for k in range(5)]
    face = read_dfl(folder / "person_1" / "00003_p0 2.jpg")
    pixels, landmarks = renders[0, 2]
    np.testing.assert_allclose(face.source_landmarks, landmarks)
    stored = read_plain(read_part(folder / "person_1" / "00003_p0 2.jpg", APP15))
    matrix = np.array(stored["image_to_face_mat"])
    np.testing.assert_allclose(apply(matrix, landmarks), face.landmarks)
    shown = read_image(folder / "person_1" / "00003_p0 2.jpg").pixels / 255
    assert face.source_filename == "p0 2.png"
    assert np.abs(shown - warp(pixels, matrix, 256)).mean() < 2 / 255
    assert program(photos, folder, "--drop", "3")[0] == 0
    assert not (folder / "person_1" / "00003_p0 2.jpg").exists()
    assert program(photos, folder)[0] == PARTLY  # back to our own
    assert not list(folder.rglob("*.jpg")) or [p.parent.name for p in folder.rglob("*.jpg")] == ["dropped"]


def test_alignments_for_faceswap(photos, tmp_path, renders):
    folder = tmp_path / "faces"
    assert program(photos, folder, "--format", "fsa")[0] == PARTLY
    frames = read_fsa(folder / "person_2" / "alignments.fsa")
    assert sorted(frames) == ["p1 0.png", "p1 1.png", "p1 2.png"]
    assert [len(faces) for faces in frames.values()] == [1, 1, 1]
    np.testing.assert_allclose(frames["p1 1.png"][0].landmarks, renders[1, 1][1])
    assert program(photos, folder, "--drop", "7")[0] == 0
    assert sorted(read_fsa(folder / "person_2" / "alignments.fsa")) == ["p1 0.png", "p1 2.png"]
    assert program(photos, folder)[0] == PARTLY
    assert not list(folder.rglob("*.fsa"))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_videos_and_photos_in_one_folder(photos, tmp_path, known, renders, monkeypatch):
    for path in photos.glob("p1*"):
        path.unlink()
    pixels, landmarks = renders[0, 6]
    with VideoWriter(
        photos / "-clip 'ä'.mp4", VideoInfo(SIDE, SIDE, Fraction(25)), label=DigitalSource.ALGORITHMIC
    ) as writer:
        for _ in range(11):
            writer.write(pixels)
    (photos / "cut.mp4").write_bytes((photos / "-clip 'ä'.mp4").read_bytes()[:700])
    detect = known.detect

    def find_through_the_codec(shown):
        alike = shown.shape == pixels.shape and np.abs(shown.astype(int) - pixels).mean() < 4
        return detect(pixels if alike else shown)

    monkeypatch.setattr(known, "detect", find_through_the_codec)
    known.learn(pixels, landmarks)
    code, out, _ = program(photos, tmp_path / "faces", "--every", 5)
    text = "\n".join(out)
    assert code == PARTLY and "7 images searched, 1 without" in text and "cut.mp4" in text  # one frame, repeated
    entry = next(entry for entry in read_list(tmp_path / "faces") if entry.frame is not None)
    assert entry.file == "-clip 'ä'.mp4" and entry.face.endswith("00001_-clip 'ä'_000000.png") and entry.frame == 0
    assert read_label(tmp_path / "faces" / entry.face) == DigitalSource.ALGORITHMIC
