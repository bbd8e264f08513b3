"""The swap of one picture: what comes back, what stays untouched, and pictures or landmarks that cannot be used."""
import csv
import logging

import numpy as np
import pytest

from data.blending.paste import Blending
from data.detection import face_analyzer
from data.geometry.alignment import apply, crop_transform, invert, warp
from data.geometry.color import ColourMemory
from data.geometry.masks import face_mask, face_region
from data.media.image_io import read_picture
from gan.run.checkpoint import RunError
from gan.swapper import SwapError, Swapper


@pytest.fixture(scope="module")
def swapper(small_run):
    return Swapper.load(small_run[0])


@pytest.fixture(scope="module")
def photo(people):
    """A picture (96, 96, 3) of person 0 and its landmarks."""
    with open(people / "landmarks.csv", newline="") as file:
        row = list(csv.reader(file))[1]
    return read_picture(people / row[0]).pixels, np.array(row[3:], np.float64).reshape(68, 2)


def test_a_swap_keeps_no_books_for_gradients(swapper, photo, monkeypatch):
    drawn, draw_as = [], type(swapper.model).draw_as
    monkeypatch.setattr(type(swapper.model), "draw_as", lambda *arguments: drawn.append(draw_as(*arguments)) or drawn[-1])
    swapper.swap(*photo)
    assert len(drawn) == 1 and not drawn[0].requires_grad
    assert draw_as(swapper.model, np.zeros((1, 32, 32, 3), np.float32), "a", "b").requires_grad  # the swap's doing, not the network's


def placed(photo, height, width, left, top, scale=1):
    """The photo within a larger noisy picture: (picture, landmarks)."""
    pixels, landmarks = photo
    pixels = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    picture[top:top + len(pixels), left:left + len(pixels)] = pixels
    return picture, (landmarks + 0.5) * scale - 0.5 + (left, top)


@pytest.mark.parametrize("direction", ["ab", "ba"])
def test_what_comes_back(swapper, photo, direction):
    picture, landmarks = placed(photo, 150, 200, 70, 30)
    before = picture.copy()
    swapped, mask = swapper.swap(picture, landmarks, direction, return_mask=True)
    assert swapped.dtype == np.uint8 and swapped.shape == picture.shape
    assert mask.dtype == np.float32 and mask.shape == (150, 200) and 0 <= mask.min() and mask.max() <= 1
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(swapped[mask == 0], picture[mask == 0])
    assert (mask == 0).any() and np.abs(swapped[mask > 0.5].astype(int) - picture[mask > 0.5]).mean() > 1
    np.testing.assert_array_equal(swapper.swap(picture, landmarks, direction), swapped)


def test_directions_differ_and_ab_is_the_default(swapper, photo):
    ab, ba = (swapper.swap(*photo, direction) for direction in ("ab", "ba"))
    assert not np.array_equal(ab, ba)
    np.testing.assert_array_equal(swapper.swap(*photo), ab)


def test_the_change_lies_within_the_crop_of_the_face(swapper, photo):
    picture, landmarks = placed(photo, 150, 200, 70, 30)
    mask = swapper.swap(picture, landmarks, return_mask=True)[1]
    y, x = np.nonzero(mask)
    side = 1000
    inside = apply(crop_transform(landmarks, side), np.stack([x, y], axis=-1))
    assert inside.min() > -0.5 and inside.max() < side - 0.5


class OwnMask:
    """A model that draws a white face and the mask that is asked for."""

    size = 32

    def __init__(self, mask):
        self.mask = mask

    def draw(self, faces, person, side):
        return np.ones_like(faces), None if self.mask is None else np.full((*faces.shape[:3], 1), self.mask, np.float32)


@pytest.mark.parametrize("drawn", [None, 0.05])
def test_without_a_drawn_mask_the_region_of_the_landmarks_is_used(photo, drawn):
    picture, landmarks = placed(photo, 150, 200, 70, 30)
    mask = Swapper(OwnMask(drawn)).swap(picture, landmarks, return_mask=True)[1]
    region = face_region(landmarks, 200)  # with the picture itself as the crop
    own = region.share(region.depth, 0, Blending().feather, 1)[:150]
    assert np.abs(mask - own).mean() < 0.01 and np.minimum(mask, own).sum() > 0.9 * np.maximum(mask, own).sum()


def test_beyond_the_hull_the_drawn_mask_adds(photo):
    mask = Swapper(OwnMask(0.9)).swap(*photo, return_mask=True)[1]
    y, x = np.mgrid[:96, :96]
    place = apply(crop_transform(photo[1], 1), np.stack([x, y], axis=-1).astype(float)) + 0.5  # in crops, 0 to 1
    beyond = ((place > 0.15) & (place < 0.85)).all(axis=-1) & (face_mask(photo[1], (96, 96)) == 0)
    assert beyond.sum() > 20 and mask[beyond].min() == 1


class Hidden(OwnMask):
    """A model that draws a white face, and sees something in front of the middle of it."""

    def __init__(self):
        super().__init__(None)

    def draw(self, faces, person, side):
        mask = np.ones((*faces.shape[:3], 1), np.float32)
        mask[:, 13:19, 13:19] = 0
        return np.ones_like(faces), mask


def test_what_lies_in_front_of_the_face_stays(photo):
    swapped, mask = Swapper(Hidden()).swap(*photo, return_mask=True)
    y, x = np.mgrid[:96, :96]
    place = apply(crop_transform(photo[1], 32), np.stack([x, y], axis=-1).astype(float))
    middle = (np.abs(place - 15.5) < 1.5).all(axis=-1)
    around = (np.abs(place - 15.5).max(axis=-1) > 5) & (np.abs(place - 15.5).max(axis=-1) < 6)
    assert middle.sum() > 10 and mask[middle].max() < 0.1 and mask[around].min() == 1
    np.testing.assert_array_equal(swapped[mask == 0], photo[0][mask == 0])


def test_what_hides_the_face_does_not_stain_it(photo):
    """The same face, once with something purple before its middle, which the model sees: around it, the colours are as ever."""
    class Drawn(Still):
        def draw(self, faces, person, side):
            return super().draw(faces, person, side)[0], Hidden().draw(faces, person, side)[1]

    pixels, landmarks = photo
    y, x = np.mgrid[:96, :96]
    place = apply(crop_transform(landmarks, 32), np.stack([x, y], axis=-1).astype(float))
    hidden = pixels.copy()
    hidden[(np.abs(place - 15.5) < 3).all(axis=-1)] = (140, 0, 255)
    plain, stained = (Swapper(Drawn(photo), Blending(grain=0)).swap(picture, landmarks) for picture in (pixels, hidden))
    x, y = np.rint(landmarks[57]).astype(int)  # the lower lip
    assert np.abs(plain[y - 3:y + 4, x - 6:x + 7].astype(int) - stained[y - 3:y + 4, x - 6:x + 7]).max() <= 3


@pytest.mark.parametrize("left, top", [(-60, 0), (0, -70), (60, 40)])
def test_a_face_that_is_partly_outside(swapper, photo, left, top):
    pixels, landmarks = photo
    picture = np.ascontiguousarray(np.roll(pixels, (top, left), (0, 1)))
    swapped, mask = swapper.swap(picture, landmarks + (left, top), return_mask=True)
    np.testing.assert_array_equal(swapped[mask == 0], picture[mask == 0])


def test_colours_are_measured_in_the_picture_alone(photo):
    """Beyond the picture a crop repeats its border: what is there would count for as much as the face."""
    pixels, landmarks = placed(photo, 288, 288, 0, 0, scale=3)
    half, landmarks = pixels[:, 150:].copy(), landmarks - (150, 0)
    edge = half.copy()
    edge[:, 0] = 0  # one column, which all that lies beyond repeats
    plain, dark = (Swapper(Still(photo), Blending(grain=0)).swap(picture, landmarks) for picture in (half, edge))
    x, y = np.rint(landmarks[45]).astype(int)  # a corner of the eye
    assert np.abs(plain[y, x].astype(int) - dark[y, x]).max() <= 12


def test_a_face_far_outside_changes_nothing(swapper, photo):
    swapped, mask = swapper.swap(photo[0], photo[1] + 5000, return_mask=True)
    assert not mask.any()
    np.testing.assert_array_equal(swapped, photo[0])


def test_arrays_that_are_views_or_write_protected(swapper, photo):
    expected = swapper.swap(*photo)
    wide = np.zeros((96, 192, 3), np.uint8)
    wide[:, ::2] = photo[0]
    view = wide[:, ::2]
    view.flags.writeable = False
    np.testing.assert_array_equal(swapper.swap(view, photo[1].astype(np.float32).tolist()),
                                  swapper.swap(photo[0], photo[1].astype(np.float32)))
    np.testing.assert_array_equal(swapper.swap(view, photo[1]), expected)


def face_side(landmarks):
    """Side of the crop in pixels of the picture."""
    return np.linalg.norm(invert(crop_transform(landmarks, 1))[:, 0])


def test_a_face_larger_than_twice_the_network_is_named_once(swapper, photo, caplog):
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
def test_landmarks_that_cannot_be_used(swapper, photo, change, word):
    with pytest.raises(SwapError) as error:
        swapper.swap(photo[0], change(photo[1]))
    assert word in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("picture", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)),
                                     np.zeros((0, 9, 3), np.uint8), np.zeros((1, 9, 9, 3), np.uint8)])
def test_pictures_that_cannot_be_used(swapper, photo, picture):
    with pytest.raises(SwapError, match="uint8"):
        swapper.swap(picture, photo[1])


def test_directions_that_are_none(swapper, photo):
    with pytest.raises(SwapError, match="'aa'"):
        swapper.swap(*photo, direction="aa")


class Found:
    """A finder that finds what it is told."""

    def __init__(self, *faces):
        self.faces = [face_analyzer.Face(np.asarray(landmarks, np.float64), 1.0) for landmarks in faces]

    def load(self):
        return self

    def find(self, image):
        return self.faces


def test_without_landmarks_the_largest_face_is_swapped(swapper, photo, monkeypatch):
    picture, landmarks = placed(photo, 150, 200, 70, 30)
    monkeypatch.setattr(face_analyzer, "Finder", Found(landmarks, landmarks / 2))
    np.testing.assert_array_equal(swapper.swap(picture), swapper.swap(picture, landmarks))
    monkeypatch.setattr(face_analyzer, "Finder", Found())
    with pytest.raises(SwapError, match="^no face.*[^\n]$"):
        swapper.swap(picture)


def two_faces(photo):
    """A picture with the photo's face twice: (picture, [landmarks, landmarks])."""
    picture, left = placed(photo, 110, 230, 5, 5)
    picture[5:101, 125:221] = photo[0]
    return picture, [left, left + (120, 0)]


def test_several_faces_of_several_pictures_at_once(swapper, photo):
    """As one after the other; the batch may round the network's sums differently."""
    picture, faces = two_faces(photo)
    plain = Swapper(swapper.model, Blending(grain=0))
    together = plain.swap_many([picture, photo[0], photo[0]], [faces, [], [photo[1]]], "ba", return_mask=True)
    one_by_one = picture
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
        plain.swap_many([picture], [faces, faces])


class Still:
    """A model that draws the photo's face whatever it is given."""

    size = 32

    def __init__(self, photo):
        self.face = warp(photo[0], crop_transform(photo[1], self.size), self.size)

    def draw(self, faces, person, side):
        return np.stack([self.face] * len(faces)), None


def test_a_memory_keeps_the_colours_of_a_clip_steady(photo):
    """The made face is the same throughout, only what it is matched to flickers: with a memory, much less of it passes."""
    light = (0.85 + 0.03 * np.random.default_rng(0).standard_normal(24))[:, None, None, None]
    frames = np.rint(np.clip(photo[0] * light, 0, 255)).astype(np.uint8)
    x, y = np.rint(photo[1][30]).astype(int)

    def flicker(memory):
        swapper = Swapper(Still(photo), Blending(grain=0))
        shown = [swapper.swap(frame, photo[1], memory=memory)[y - 8:y + 8, x - 8:x + 8].mean() for frame in frames]
        return np.std(shown[4:])

    assert flicker(ColourMemory(12)) < 0.5 * flicker(None)


def test_each_frame_of_a_clip_has_its_own_grain(swapper, photo):
    picture, landmarks = placed(photo, 400, 400, 5, 5, scale=4)  # small faces get none
    noisy = np.clip(picture + 8 * np.random.default_rng(1).standard_normal(picture.shape), 0, 255).astype(np.uint8)
    memory = ColourMemory()
    first, second = (swapper.swap(noisy, landmarks, memory=memory) for _ in range(2))
    assert (first != second).any() and np.abs(first.astype(int) - second).mean() < 8


@pytest.mark.parametrize("blending", [Blending(colour="mkl"), Blending(colour="none"), Blending(seamless=True),
                                      Blending(sharpen=2), Blending(erode=0.1), Blending(feather=0.3)])
def test_each_choice_changes_the_picture_within_its_mask(swapper, photo, blending):
    picture, landmarks = placed(photo, 150, 200, 70, 30)
    swapped, mask = Swapper(swapper.model, blending).swap(picture, landmarks, return_mask=True)
    np.testing.assert_array_equal(swapped[mask == 0], picture[mask == 0])
    assert np.abs(swapped.astype(int) - swapper.swap(picture, landmarks)).max() > 5


def test_a_swapper_is_loaded_with_its_choices(small_run):
    assert Swapper.load(small_run[0], Blending(colour="mkl")).blending.colour == "mkl"


def test_runs_that_are_none(tmp_path):
    with pytest.raises(RunError, match="config.json"):
        Swapper.load(tmp_path)
