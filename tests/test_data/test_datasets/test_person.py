"""Load a person's faces from photos, or from faces extracted by this or another program. Every way
must give the same faces as a CSV of landmarks."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from data.datasets.face_set import load_faces
from data.datasets.person import load_person
from data.extract import pipeline
from data.geometry.alignment import apply, crop_transform, invert, umeyama, warp
from data.interchange.dfl_faceswap import DflFace, write_dfl_jpeg
from data.media.image_io import save_image
from data.support.errors import FaceSetError

SIDE = 144  # pixels, side of the rendered images
POSES = {f"anna{chr(97 + k)}_1.png": (0, k) for k in range(6)}


@pytest.fixture
def anna(tmp_path, write_photos):
    return write_photos(tmp_path / "anna", POSES)


@pytest.fixture
def expected(anna, renders, tmp_path):
    """The face set from the photos and their true landmarks."""
    return load_faces(
        anna, write_table(tmp_path / "landmarks.csv", {f"anna/{name}": renders[key] for name, key in POSES.items()}), 32
    )


def write_table(path, faces):
    """Write a landmarks CSV of {file: (pixels, landmarks)}."""
    header = ["file", "width", "height", *(f"{axis}{i}" for i in range(68) for axis in "xy")]
    with open(path, "w", newline="") as file:
        rows = [[name, pixels.shape[1], pixels.shape[0], *landmarks.ravel()]
                for name, (pixels, landmarks) in faces.items()]
        csv.writer(file).writerows([header, *rows])
    return path


class Said(list):
    """A list of the lines printed."""

    def __call__(self, line):
        self.append(line)

    @property
    def text(self):
        return "\n".join(self)


def given(path, tmp_path, say=None, size=32):
    return load_person(path, None, size, 0, tmp_path / "run" / "faces" / "a", say)


def assert_same_faces(faces, expected, difference=2.5):
    """Compare two face sets. difference: largest RMS difference of an image, in steps of 8 bits."""
    assert len(faces) == len(expected) == len(POSES)
    everyone = range(len(POSES))
    (images, masks), (others, other_masks) = faces.crops(everyone), expected.crops(everyone)
    assert np.sqrt(((images - others) ** 2).mean((1, 2, 3))).max() < difference / 255
    assert np.abs(masks - other_masks).max() < 0.03
    np.testing.assert_allclose(faces.landmarks, expected.landmarks, atol=0.02)
    np.testing.assert_allclose(faces.transforms, expected.transforms, atol=0.02)


def test_photos_without_landmarks_give_the_same_faces(anna, expected, tmp_path):
    said = Said()
    faces = given(anna, tmp_path, said)
    assert_same_faces(faces, expected)
    assert faces.name == "anna" and faces.files == list(POSES) and len(np.unique(faces.groups)) == 6
    assert "extracting the faces of" in said.text and "6 images searched" in said.text
    assert (tmp_path / "run" / "faces" / "a" / "faces.png").exists()


def test_faces_from_data_extract_give_the_same_faces(anna, expected, tmp_path, known):
    pipeline.extract(anna, tmp_path / "cut")
    looked = known.looked
    assert_same_faces(given(tmp_path / "cut", tmp_path), expected)
    assert known.looked == looked and not (tmp_path / "run").exists()


def test_faces_are_extracted_once(anna, expected, tmp_path, known):
    first, said = given(anna, tmp_path, Said()), Said()
    assert known.looked == 6
    again = given(anna, tmp_path, said)
    assert known.looked == 6 and "using the faces extracted from" in said.text
    np.testing.assert_array_equal(first.padded_crops, again.padded_crops)


def test_changed_images_are_extracted_again(anna, tmp_path, known, renders):
    given(anna, tmp_path, Said())
    state = (anna / "annaa_1.png").stat()
    os.utime(anna / "annaa_1.png", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    said = Said()
    given(anna, tmp_path, said)
    assert known.looked == 12 and "have changed" in said.text
    pixels, landmarks = renders[0, 7]
    Image.fromarray(pixels).save(anna / "more.png")
    known.learn(pixels, landmarks)
    assert len(given(anna, tmp_path)) == 6  # without `say`, as in evaluation, the cached faces are used
    assert len(given(anna, tmp_path, Said())) == 7 and known.looked == 19


def test_cached_faces_are_used_without_their_images(anna, tmp_path):
    given(anna, tmp_path, Said())
    anna.rename(tmp_path / "elsewhere")
    said = Said()
    assert len(given(anna, tmp_path, said)) == 6 and "no longer exists" in said.text
    assert len(given(anna, tmp_path)) == 6


def test_the_person_with_the_most_faces_is_used(tmp_path, write_photos):
    group = write_photos(tmp_path / "group", POSES | {f"ben{chr(97 + k)}_1.png": (1, k) for k in range(4)})
    for _ in range(2):  # extracted, then from the cache
        said = Said()
        faces = given(group, tmp_path, said)
        assert faces.files == list(POSES)
        assert "shows 2 people" in said.text and "most faces (6)" in said.text and "4 faces of others" in said.text
    pipeline.extract(group, tmp_path / "cut")
    assert given(tmp_path / "cut", tmp_path).files == list(POSES)
    assert [name[:3] for name in given(tmp_path / "cut" / "person_2", tmp_path).files] == ["ben"] * 4


def test_too_few_faces_and_none(tmp_path, write_photos):
    few = write_photos(tmp_path / "few", {name: POSES[name] for name in list(POSES)[:3]})
    with pytest.raises(FaceSetError, match=r"few has 3 usable faces, at least 4"):
        given(few, tmp_path, Said())
    for path in few.iterdir():
        Image.fromarray(np.full((50, 50, 3), 80, np.uint8)).save(path)
    with pytest.raises(FaceSetError, match="no face found in .*few .3 images searched"):
        given(few, tmp_path / "other", Said())
    assert not (tmp_path / "other" / "run").exists()  # no empty folders are left


def cut_dfl(folder, renders, share):
    """Write the poses as DeepFaceLab's aligned faces: 96 pixels for `share` of the crop's side."""
    folder.mkdir()
    for name, key in POSES.items():
        pixels, landmarks = renders[key]
        to_face = crop_transform(landmarks, 96 / share)
        to_face[:, 2] -= (96 / share - 96) / 2
        face = np.rint(warp(pixels, to_face, 96) * 255).astype(np.uint8)
        write_dfl_jpeg(
            folder / name.replace(".png", ".jpg"),
            face,
            DflFace(apply(to_face, landmarks), name, landmarks, image_to_face_mat=to_face),
        )
    return folder


def test_deepfacelabs_faces_train(expected, tmp_path, renders, known):
    faces = given(cut_dfl(tmp_path / "dfl", renders, 1.5), tmp_path)
    assert_same_faces(faces, expected, 8)  # JPEG
    assert known.looked == 0 and faces.files == list(POSES)


def test_the_mask_ends_at_the_border_of_a_tight_face_image(expected, tmp_path, renders):
    faces = given(cut_dfl(tmp_path / "dfl", renders, 0.6), tmp_path)
    masks, full = faces.crops(range(6))[1], expected.crops(range(6))[1]
    shown = slice(round(32 * 0.2), round(32 * 0.8))  # the middle six tenths of a crop
    beyond = np.ones((32, 32, 1), bool)
    beyond[shown, shown] = False
    assert full[:, beyond].max() > 0.9 and masks[:, beyond].max() < 0.02
    well_inside = slice(shown.start + 3, shown.stop - 3)
    np.testing.assert_allclose(masks[:, well_inside, well_inside], full[:, well_inside, well_inside], atol=0.03)


def test_the_mask_ends_at_the_border_of_the_source_image(expected, tmp_path, renders, known, monkeypatch):
    """The same from a CSV and from an extracted face: repeated border pixels are not part of the
    face."""
    cut = {}
    (tmp_path / "edge").mkdir()
    for name, key in POSES.items():
        pixels, landmarks = renders[key]
        top = int(landmarks[17:27, 1].min()) - 1  # at the brows: the forehead is gone
        cut[f"edge/{name}"] = pixels[top:].copy(), landmarks - [0, top]
        Image.fromarray(pixels[top:]).save(tmp_path / "edge" / name)
        known.learn(*cut[f"edge/{name}"])
    full = expected.crops(range(6))[1][..., 0]
    monkeypatch.setattr("data.extract.quality_filter.MAX_CUT_OFF", 1.0)
    for faces in (
        load_faces(tmp_path / "edge", write_table(tmp_path / "edge.csv", cut), 32),
        given(tmp_path / "edge", tmp_path),
    ):
        masks = faces.crops(range(6))[1][..., 0]
        for k in range(6):
            y = apply(invert(faces.transforms[k]), np.stack(np.mgrid[:32, :32][::-1], axis=-1))[..., 1]
            assert full[k][y < -1.5].max() > 0.5 and masks[k][y < -1.5].max() < 0.02
            np.testing.assert_allclose(masks[k][y > 10], full[k][y > 10], atol=0.03)


def write_faceswap(path, pixels, landmarks, frame, size):
    """Write a face PNG like faceswap's."""
    alignments = {"x": 1, "y": 2, "w": 3, "h": 4, "landmarks_xy": landmarks.tolist(), "mask": {}, "identity": {}}
    source = {"alignments_version": 2.4, "original_filename": path.name, "face_index": 0, "source_filename": frame}
    source |= {"source_is_video": False, "source_frame_dims": size}
    save_image(path, pixels, None, text={"faceswap": str({"alignments": alignments, "source": source})})


@pytest.fixture
def faceswap(tmp_path, renders, known):
    """Faces of the poses as faceswap extracts them: 120 pixels for 1.5 crops, rotated; detection is
    noisy."""
    folder = tmp_path / "faceswap"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, key in POSES.items():
        pixels, landmarks = renders[key]
        turn = np.deg2rad(rng.uniform(-8, 8))
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        to_face = crop_transform(landmarks, 80)
        to_face = np.column_stack([rotation @ to_face[:, :2], rotation @ (to_face[:, 2] - 39.5) + 59.5])
        face = np.rint(warp(pixels, to_face, 120) * 255).astype(np.uint8)
        write_faceswap(folder / name, face, landmarks, name, (SIDE, SIDE))
        known.learn(face, umeyama_noise(rng, apply(to_face, landmarks)))
    return folder


def umeyama_noise(rng, points):
    """Add noise of one pixel to points, without the part that a similarity transform explains."""
    noisy = points + rng.normal(0, 1, points.shape)
    return apply(invert(umeyama(points[17:], noisy[17:])), noisy)


def test_faceswaps_faces_train_by_the_landmarks_of_their_frames(faceswap, expected, tmp_path, known):
    assert_same_faces(given(faceswap, tmp_path), expected, 4)
    assert known.looked == 6
    assert_same_faces(given(faceswap, tmp_path), expected, 4)
    assert known.looked == 6  # the transforms are cached


DAMAGED = [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"[1]", b'{"a": [[1, 2], [3]]}']


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_note_is_ignored(anna, tmp_path, known, content):
    given(anna, tmp_path, Said())
    (tmp_path / "run" / "faces" / "a.json").write_bytes(content)
    assert len(given(anna, tmp_path, Said())) == 6 and known.looked == 12


BAD_TRANSFORMS = [b'{"%s": [[NaN, 0, 0], [0, 1, 0]]}', b'{"%s": [[1, 0, Infinity], [0, 1, 0]]}',
                  b'{"%s": [[1, 0, 1e999], [0, 1, 0]]}',
                  b'{"%s": 1}',
                  b'{"%s": [[0, 0, 0], [0, 0, 0]]}']


@pytest.mark.parametrize("content", DAMAGED + BAD_TRANSFORMS, ids=range(len(DAMAGED + BAD_TRANSFORMS)))
def test_invalid_cached_transforms_are_computed_again(faceswap, tmp_path, known, content):
    given(faceswap, tmp_path)
    places = tmp_path / "run" / "faces" / "a_places.json"
    for digest in json.loads(places.read_text()):
        content = content.replace(b"%s", digest.encode(), 1)
    places.write_bytes(content)
    assert len(given(faceswap, tmp_path)) == 6 and known.looked == 12


def test_a_faceswap_face_that_is_not_detected_is_skipped(faceswap, tmp_path, known, renders):
    first, second = sorted(faceswap.iterdir())[:2]
    blank = np.full((120, 120, 3), 128, np.uint8)
    write_faceswap(first, blank, renders[0, 0][1], "frame.png", (SIDE, SIDE))
    shuffled = np.random.default_rng(0).permutation(renders[0, 1][1])
    write_faceswap(second, np.asarray(Image.open(second)), shuffled, "frame.png", (SIDE, SIDE))
    faces = given(faceswap, tmp_path)
    assert len(faces) == 4 and [(name, "no detected face" in reason) for name, reason in faces.skipped] == [
        (first.name, True),
        (second.name, True),
    ]


def test_a_bystander_in_a_faceswap_image_is_ignored(faceswap, expected, tmp_path, known, renders):
    for path in faceswap.iterdir():
        larger = (renders[1, 3][1] - SIDE / 2) * 1.3 * [1, 0.6] + 60  # fits no similarity transform
        known.learn(np.asarray(Image.open(path)), larger)
    assert_same_faces(given(faceswap, tmp_path), expected, 4)


def test_photos_among_extracted_faces_are_skipped(anna, tmp_path, renders):
    folder = cut_dfl(tmp_path / "dfl", renders, 1.5)
    Image.fromarray(renders[0, 7][0]).save(folder / "photo.png")
    faces = given(folder, tmp_path)
    reason = "not an extracted face like the other files of the folder"
    assert len(faces) == 6 and faces.skipped == [("photo.png", reason)]
    shutil.copy(folder / "annab_1.jpg", anna)
    assert given(anna, tmp_path, Said()).files == list(POSES)  # one extracted face does not change the kind of folder
