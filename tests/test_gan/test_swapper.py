"""Test the swap of images: results, unchanged pixels, invalid images and landmarks."""
import csv
import logging

import numpy as np
import pytest

from data.blending.paste import Blending
from data.detection import face_analyzer
from data.geometry.alignment import apply, crop_transform, invert, warp
from data.geometry.color import ColorMemory
from data.geometry.face import Face
from data.geometry.masks import face_mask, face_region
from data.media.image_io import read_image
from gan.run.checkpoint import RunError
from gan.swapper import SwapError, Swapper


@pytest.fixture(scope="module")
def swapper(small_run):
    return Swapper.load(small_run[0])


@pytest.fixture(scope="module")
def photo(people):
    """Return an image (96, 96, 3) of person 0 and its landmarks."""
    with open(people / "landmarks.csv", newline="") as file:
        row = list(csv.reader(file))[1]
    return read_image(people / row[0]).pixels, np.array(row[3:], np.float64).reshape(68, 2)


def test_swap_records_no_graph(swapper, photo, monkeypatch):
    generated, generate_as = [], type(swapper.model).generate_as
    monkeypatch.setattr(type(swapper.model), "generate_as",
                        lambda *arguments: generated.append(generate_as(*arguments)) or generated[-1])
    swapper.swap(*photo)
    assert len(generated) == 1 and not generated[0].requires_grad
    direct = generate_as(swapper.model, np.zeros((1, 32, 32, 3), np.float32), "a", "b")
    assert direct.requires_grad  # the swap disables it, not the network


def embedded(photo, height, width, left, top, scale=1):
    """Paste the photo into a larger noisy image. Returns (image, landmarks)."""
    pixels, landmarks = photo
    pixels = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image[top:top + len(pixels), left:left + len(pixels)] = pixels
    return image, (landmarks + 0.5) * scale - 0.5 + (left, top)


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_types_and_unchanged_pixels(swapper, photo, direction):
    image, landmarks = embedded(photo, 150, 200, 70, 30)
    before = image.copy()
    swapped, mask = swapper.swap(image, landmarks, direction, return_mask=True)
    assert swapped.dtype == np.uint8 and swapped.shape == image.shape
    assert mask.dtype == np.float32 and mask.shape == (150, 200) and 0 <= mask.min() and mask.max() <= 1
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(swapped[mask == 0], image[mask == 0])
    assert (mask == 0).any() and np.abs(swapped[mask > 0.5].astype(int) - image[mask > 0.5]).mean() > 1
    np.testing.assert_array_equal(swapper.swap(image, landmarks, direction), swapped)


def test_directions_differ_and_ab_is_the_default(swapper, photo):
    ab, ba = (swapper.swap(*photo, direction) for direction in ("ab", "ba"))
    assert not np.array_equal(ab, ba)
    np.testing.assert_array_equal(swapper.swap(*photo), ab)


def test_changes_are_inside_the_crop(swapper, photo):
    image, landmarks = embedded(photo, 150, 200, 70, 30)
    mask = swapper.swap(image, landmarks, return_mask=True)[1]
    y, x = np.nonzero(mask)
    side = 1000
    inside = apply(crop_transform(landmarks, side), np.stack([x, y], axis=-1))
    assert inside.min() > -0.5 and inside.max() < side - 0.5


class WhiteModel:
    """A model that generates white faces and a constant mask."""

    size = 32

    def __init__(self, mask):
        self.mask = mask

    def generate(self, faces, person, side):
        return np.ones_like(faces), None if self.mask is None else np.full((*faces.shape[:3], 1), self.mask, np.float32)


@pytest.mark.parametrize("generated", [None, 0.05])
def test_without_a_generated_mask_the_landmarks_give_the_region(photo, generated):
    image, landmarks = embedded(photo, 150, 200, 70, 30)
    mask = Swapper(WhiteModel(generated)).swap(image, landmarks, return_mask=True)[1]
    region = face_region(landmarks, 200)  # with the image itself as the crop
    own = region.alpha(region.depth, 0, Blending().feather, 1)[:150]
    assert np.abs(mask - own).mean() < 0.01 and np.minimum(mask, own).sum() > 0.9 * np.maximum(mask, own).sum()


def test_generated_mask_extends_the_hull(photo):
    mask = Swapper(WhiteModel(0.9)).swap(*photo, return_mask=True)[1]
    y, x = np.mgrid[:96, :96]
    position = apply(crop_transform(photo[1], 1), np.stack([x, y], axis=-1).astype(float)) + 0.5  # in crops, 0 to 1
    beyond = ((position > 0.15) & (position < 0.85)).all(axis=-1) & (face_mask(photo[1], (96, 96)) == 0)
    assert beyond.sum() > 20 and mask[beyond].min() == 1


class OccludedModel(WhiteModel):
    """A model that generates white faces, with an occluder in front of their middle."""

    def __init__(self):
        super().__init__(None)

    def generate(self, faces, person, side):
        mask = np.ones((*faces.shape[:3], 1), np.float32)
        mask[:, 13:19, 13:19] = 0
        return np.ones_like(faces), mask


def test_occluder_is_not_replaced(photo):
    swapped, mask = Swapper(OccludedModel()).swap(*photo, return_mask=True)
    y, x = np.mgrid[:96, :96]
    position = apply(crop_transform(photo[1], 32), np.stack([x, y], axis=-1).astype(float))
    middle = (np.abs(position - 15.5) < 1.5).all(axis=-1)
    around = (np.abs(position - 15.5).max(axis=-1) > 5) & (np.abs(position - 15.5).max(axis=-1) < 6)
    assert middle.sum() > 10 and mask[middle].max() < 0.1 and mask[around].min() == 1
    np.testing.assert_array_equal(swapped[mask == 0], photo[0][mask == 0])


def test_occluder_does_not_change_the_colors(photo):
    """A purple occluder that the mask leaves out does not change the colors around it."""
    class OccludedConstantModel(ConstantModel):
        def generate(self, faces, person, side):
            return super().generate(faces, person, side)[0], OccludedModel().generate(faces, person, side)[1]

    pixels, landmarks = photo
    y, x = np.mgrid[:96, :96]
    position = apply(crop_transform(landmarks, 32), np.stack([x, y], axis=-1).astype(float))
    occluded = pixels.copy()
    occluded[(np.abs(position - 15.5) < 3).all(axis=-1)] = (140, 0, 255)
    plain, occluded_swap = (Swapper(OccludedConstantModel(photo), Blending(grain=0)).swap(image, landmarks)
                            for image in (pixels, occluded))
    x, y = np.rint(landmarks[57]).astype(int)  # the lower lip
    assert np.abs(plain[y - 3:y + 4, x - 6:x + 7].astype(int) - occluded_swap[y - 3:y + 4, x - 6:x + 7]).max() <= 3


@pytest.mark.parametrize("left, top", [(-60, 0), (0, -70), (60, 40)])
def test_face_partly_outside_the_image(swapper, photo, left, top):
    pixels, landmarks = photo
    image = np.ascontiguousarray(np.roll(pixels, (top, left), (0, 1)))
    swapped, mask = swapper.swap(image, landmarks + (left, top), return_mask=True)
    np.testing.assert_array_equal(swapped[mask == 0], image[mask == 0])


def test_colors_are_measured_inside_the_image(photo):
    """Beyond the image a crop repeats the border, which must not count as part of the face."""
    pixels, landmarks = embedded(photo, 288, 288, 0, 0, scale=3)
    half, landmarks = pixels[:, 150:].copy(), landmarks - (150, 0)
    edge = half.copy()
    edge[:, 0] = 0  # the column that the crop repeats beyond the image
    plain, dark = (Swapper(ConstantModel(photo), Blending(grain=0)).swap(image, landmarks) for image in (half, edge))
    x, y = np.rint(landmarks[45]).astype(int)  # a corner of the eye
    assert np.abs(plain[y, x].astype(int) - dark[y, x]).max() <= 12


def test_face_far_outside_changes_nothing(swapper, photo):
    swapped, mask = swapper.swap(photo[0], photo[1] + 5000, return_mask=True)
    assert not mask.any()
    np.testing.assert_array_equal(swapped, photo[0])


def test_views_and_read_only_arrays(swapper, photo):
    expected = swapper.swap(*photo)
    wide = np.zeros((96, 192, 3), np.uint8)
    wide[:, ::2] = photo[0]
    view = wide[:, ::2]
    view.flags.writeable = False
    np.testing.assert_array_equal(swapper.swap(view, photo[1].astype(np.float32).tolist()),
                                  swapper.swap(photo[0], photo[1].astype(np.float32)))
    np.testing.assert_array_equal(swapper.swap(view, photo[1]), expected)


def face_side(landmarks):
    """Return the side of the crop in pixels of the image."""
    return np.linalg.norm(invert(crop_transform(landmarks, 1))[:, 0])


def test_one_warning_for_a_face_larger_than_twice_the_network(swapper, photo, caplog):
    fresh = Swapper(swapper.model)
    fresh.swap(photo[0][::2, ::2], photo[1] / 2)
    assert face_side(photo[1] / 2) < 2 * 32 and not caplog.records
    assert face_side(photo[1]) > 2 * 32
    for _ in range(2):
        fresh.swap(*photo)
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
    assert f"{face_side(photo[1]) / 32:.1f} times" in caplog.text and "32 pixels" in caplog.text


@pytest.mark.parametrize("change, word", [
    (lambda points: [], "(0,)"), (lambda points: points[:67], "(67, 2)"), (lambda points: points.T, "(2, 68)"),
    (lambda points: points * np.nan, "finite"), (lambda points: points * 0 + 40, "coincide"),
    (lambda points: points * (1, 0) + (0, 40), "face"), (lambda points: points * 1e200, "face"),
    (lambda points: "left", "landmarks"), (lambda points: np.random.default_rng(0).permutation(points), "face"),
])
def test_invalid_landmarks(swapper, photo, change, word):
    with pytest.raises(SwapError) as error:
        swapper.swap(photo[0], change(photo[1]))
    assert word in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)),
                                     np.zeros((0, 9, 3), np.uint8), np.zeros((1, 9, 9, 3), np.uint8)])
def test_invalid_images(swapper, photo, image):
    with pytest.raises(SwapError, match="uint8"):
        swapper.swap(image, photo[1])


def test_invalid_direction(swapper, photo):
    with pytest.raises(SwapError, match="'aa'"):
        swapper.swap(*photo, direction="aa")


class FakeAnalyzer:
    """A face analyzer that returns the given faces."""

    def __init__(self, *faces):
        self.faces = [np.asarray(landmarks, np.float64) for landmarks in faces]

    def load(self):
        return self

    def detect(self, image):
        return [Face(image, landmarks) for landmarks in self.faces]


def test_without_landmarks_the_largest_face_is_swapped(swapper, photo, monkeypatch):
    image, landmarks = embedded(photo, 150, 200, 70, 30)
    monkeypatch.setattr(face_analyzer, "FaceAnalyzer", FakeAnalyzer(landmarks, landmarks / 2))
    np.testing.assert_array_equal(swapper.swap(image), swapper.swap(image, landmarks))
    monkeypatch.setattr(face_analyzer, "FaceAnalyzer", FakeAnalyzer())
    with pytest.raises(SwapError, match="^no face.*[^\n]$"):
        swapper.swap(image)


def two_faces(photo):
    """Return an image with the photo's face twice, and both landmarks."""
    image, left = embedded(photo, 110, 230, 5, 5)
    image[5:101, 125:221] = photo[0]
    return image, [left, left + (120, 0)]


def test_several_faces_of_several_images_in_one_batch(swapper, photo):
    """The result is the same as one by one, up to rounding of the network's sums."""
    image, faces = two_faces(photo)
    plain = Swapper(swapper.model, Blending(grain=0))
    found = [[Face(image, landmarks) for landmarks in faces], [], [Face(*photo)]]
    together = plain.swap_many([image, photo[0], photo[0]], found, "ba", return_mask=True)
    one_by_one = image
    for landmarks in faces:
        one_by_one = plain.swap(one_by_one, landmarks, "ba")
    assert np.abs(together[0][0].astype(int) - one_by_one).max() <= 1
    np.testing.assert_array_equal(together[1][0], photo[0])
    assert not together[1][1].any() and together[1][0] is not photo[0]
    assert np.abs(together[2][0].astype(int) - plain.swap(*photo, "ba")).max() <= 1
    mask = together[0][1]
    for x, y in np.rint([landmarks[30] for landmarks in faces]).astype(int):
        assert mask[y, x] == 1
    with pytest.raises(ValueError):
        plain.swap_many([image], [[], []])


class ConstantModel:
    """A model that always generates the photo's face."""

    size = 32

    def __init__(self, photo):
        self.face = warp(photo[0], crop_transform(photo[1], self.size), self.size)

    def generate(self, faces, person, side):
        return np.stack([self.face] * len(faces)), None


def test_color_memory_reduces_flicker(photo):
    """The generated face is constant, and the color transfer flickers less with a memory."""
    brightness = (0.85 + 0.03 * np.random.default_rng(0).standard_normal(24))[:, None, None, None]
    frames = np.rint(np.clip(photo[0] * brightness, 0, 255)).astype(np.uint8)
    x, y = np.rint(photo[1][30]).astype(int)

    def flicker(memory):
        swapper = Swapper(ConstantModel(photo), Blending(grain=0))
        shown = [swapper.swap(frame, photo[1], memory=memory)[y - 8:y + 8, x - 8:x + 8].mean() for frame in frames]
        return np.std(shown[4:])

    assert flicker(ColorMemory(12)) < 0.5 * flicker(None)


def test_each_frame_has_different_grain(swapper, photo):
    image, landmarks = embedded(photo, 400, 400, 5, 5, scale=4)  # small faces get no grain
    noisy = np.clip(image + 8 * np.random.default_rng(1).standard_normal(image.shape), 0, 255).astype(np.uint8)
    memory = ColorMemory()
    first, second = (swapper.swap(noisy, landmarks, memory=memory) for _ in range(2))
    assert (first != second).any() and np.abs(first.astype(int) - second).mean() < 8


@pytest.mark.parametrize("blending", [Blending(color="mkl"), Blending(color="none"), Blending(seamless=True),
                                      Blending(sharpen=2), Blending(erode=0.1), Blending(feather=0.3)])
def test_each_blending_option_changes_the_image_inside_the_mask(swapper, photo, blending):
    image, landmarks = embedded(photo, 150, 200, 70, 30)
    swapped, mask = Swapper(swapper.model, blending).swap(image, landmarks, return_mask=True)
    np.testing.assert_array_equal(swapped[mask == 0], image[mask == 0])
    assert np.abs(swapped.astype(int) - swapper.swap(image, landmarks)).max() > 5


def test_load_takes_blending_options(small_run):
    assert Swapper.load(small_run[0], Blending(color="mkl")).blending.color == "mkl"


def test_load_of_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunError, match="config.json"):
        Swapper.load(tmp_path)
