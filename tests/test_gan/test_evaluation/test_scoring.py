"""The held-out exam: what is asked, who made it, and that nobody is judged by what was learned from himself."""
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import nn
from gan.evaluation import scoring
from gan.evaluation.scoring import KINDS, Exam, accuracy, crop_of, examine, halves, probabilities, scored
from gan.people.pair import Subjects
from gan.training.spectrum import radial_power


class Network:
    """Takes for real what is bright. Two maps: one score for the whole face, its person; and 4 x 4, the mean red of each
    region."""

    size = 32

    def __init__(self):
        self.asked = []  # (faces, mask, person) of each call

    def parameters(self):
        return [nn.Parameter(np.zeros(1, np.float32))]

    def __call__(self, faces, mask, person):
        self.asked.append((faces, mask, person))
        regions = faces[..., :1].reshape(len(faces), 4, 8, 4, 8, 1).mean((2, 4))
        return [nn.Tensor(person.reshape(-1, 1, 1, 1)), nn.Tensor(regions)]


class Model:
    """Draws anybody as a flat face: red tells the side, green whose face it was."""

    size = 32

    def draw(self, faces, person, side):
        drawn = np.zeros_like(faces)
        drawn[..., 0], drawn[..., 1] = {"a": 0.25, "b": 0.75}[side], {"a": 0.1, "b": 0.9}[person]
        return drawn, None


@pytest.fixture
def unchanged(monkeypatch):
    """Swaps that leave every picture as it is; returns the directions that were asked for."""
    directions = []

    def swap_many(self, pictures, faces, direction):
        directions.append(direction)
        return list(pictures)

    monkeypatch.setattr(scoring, "Swapper", lambda model: SimpleNamespace(swap_many=swap_many.__get__(model)))
    return directions


def exam_of(scores, kind, half):
    regions = np.zeros((len(scores), 1, 1), np.float32)
    return Exam(np.array(scores, np.float64), np.array(kind), np.array(half), regions, regions == 0)


class TestExamine:
    def test_each_kind_is_asked_of_each_person(self, faces, unchanged):
        network = Network()
        found = examine(network, Model(), faces)
        a, b = len(faces.a.held_out), len(faces.b.held_out)
        counts = {kind: a + b for kind in KINDS}
        assert {kind: int((found.kind == kind).sum()) for kind in KINDS} == counts
        assert unchanged == ["ba", "ab"]
        # Told to be A: A's own faces, B's drawn as A.
        told = [(person[0], round(float(shown[0, 0, 0, 0]), 2), round(float(shown[0, 0, 0, 1]), 2))
                for shown, _, person in network.asked]
        assert told[2:4] == [(-1, 0.25, 0.1), (-1, 0.25, 0.9)] and told[7:9] == [(1, 0.75, 0.9), (1, 0.75, 0.1)]

    def test_faces_come_with_their_own_masks(self, faces, unchanged):
        network = Network()
        examine(network, Model(), faces)
        crops_a, mask_a = faces.a.crops(faces.a.held_out)
        _, mask_b = faces.b.crops(faces.b.held_out)
        for number, mask in zip(range(4), (mask_a, mask_a, mask_a, mask_b)):
            np.testing.assert_array_equal(network.asked[number][1], mask)
        np.testing.assert_array_equal(network.asked[0][0], crops_a)

    def test_what_is_put_back_is_cut_out_at_the_same_place(self, faces, unchanged):
        """A swap that changes nothing: the face is B's own crop again, but for one more resampling."""
        network = Network()
        examine(network, Model(), faces)
        pasted, mask, _ = network.asked[4]
        own, own_mask = faces.b.crops(faces.b.held_out)
        assert np.abs(pasted - own).mean() < 0.01
        assert np.abs(mask - own_mask).mean() < 0.01

    def test_blurred_faces_have_the_made_ones_spectrum(self, faces, unchanged):
        class Soft(Model):
            def draw(self, faces, person, side):
                rows = (2 * faces + np.roll(faces, 1, 1) + np.roll(faces, -1, 1)) / 4
                return (2 * rows + np.roll(rows, 1, 2) + np.roll(rows, -1, 2)) / 4, None

        network = Network()
        examine(network, Soft(), faces)
        real, soft, redrawn, swapped = (radial_power(*each[:2])[5:20] for each in network.asked[:4])
        made = (redrawn + swapped) / 2
        assert abs(np.log(soft / made).mean()) < 0.1 and np.log(real / made).mean() > 0.5

    def test_scores_are_those_of_the_face(self, faces, unchanged):
        """Red by region, weighted by the mask, and the person: the mean of both maps."""
        found = examine(Network(), Model(), faces)
        a, b = len(faces.a.held_out), len(faces.b.held_out)
        np.testing.assert_allclose(found.scores[found.kind == "reconstruction"], [(0.25 - 1) / 2] * a + [(0.75 + 1) / 2] * b,
                                   atol=1e-6)

    def test_regions_and_what_lies_in_the_face(self, faces, unchanged):
        found = examine(Network(), Model(), faces)
        crops, mask = faces.a.crops(faces.a.held_out)
        assert found.regions.shape == found.inside.shape == (len(found.scores), 4, 4)
        expected = crops[..., 0].reshape(-1, 4, 8, 4, 8).mean((2, 4))
        np.testing.assert_allclose(found.regions[:len(crops)], expected, atol=1e-5)
        np.testing.assert_array_equal(found.inside[:len(crops)], mask[:, 4::8, 4::8, 0] > 0.5)

    def test_the_truth_brings_further_faces(self, faces, unchanged):
        more, network = faces.truth(4), Network()
        found = examine(network, Model(), faces, more)
        a, b = len(faces.a.held_out), len(faces.b.held_out)
        np.testing.assert_array_equal(network.asked[0][0][a:], more.a)
        np.testing.assert_array_equal(network.asked[5][0][b:], more.b)
        np.testing.assert_array_equal(network.asked[3][1][b:], more.mask_b)
        assert (found.kind == "swap").sum() == a + b + 8 and (found.kind == "pasted").sum() == a + b

    def test_all_that_is_made_of_a_face_is_in_its_half(self, faces, unchanged):
        """A's faces are drawn as A and as B: in each kind they come in the same order, so their halves agree."""
        found = examine(Network(), Model(), faces, faces.truth(4))
        count = len(faces.a.held_out) + 4
        real = found.half[found.kind == "real"]
        swap = found.half[found.kind == "swap"]
        np.testing.assert_array_equal(swap, np.concatenate([real[count:], real[:count]]))
        np.testing.assert_array_equal(found.half[found.kind == "blurred"], real)
        np.testing.assert_array_equal(found.half[found.kind == "reconstruction"], real)
        # A pose of the truth is in the same half for both people.
        np.testing.assert_array_equal(real[count - 4:count], [0, 1, 0, 1])
        np.testing.assert_array_equal(real[-4:], [0, 1, 0, 1])

    def test_one_held_out_face_of_each_is_enough(self, faces, unchanged):
        alone = Subjects(*(dataclasses.replace(each, held_out=each.held_out[:1]) for each in (faces.a, faces.b)))
        found = examine(Network(), Model(), alone)
        np.testing.assert_array_equal(found.half[found.kind == "real"], [1, 0])
        assert np.isfinite(probabilities(found)).all()


def test_fine_maps_are_thinned_and_large_batches_parted():
    class Fine(Network):
        def __call__(self, faces, mask, person):
            return [nn.Tensor(faces[:, :1, :1, :1]), nn.Tensor(faces[..., :1])]

    faces = np.random.default_rng(0).random((70, 32, 32, 3), np.float32)
    mask = np.ones((70, 32, 32, 1), np.float32)
    mask[:, :, 20:] = 0
    scores, maps = scored(Fine(), faces, mask, "a")
    np.testing.assert_array_equal(maps, faces[..., 0])
    inner = faces[:, :, :20, 0].mean((1, 2))
    np.testing.assert_allclose(scores, (faces[:, 0, 0, 0] + inner) / 2, atol=1e-5)
    found = scoring._asked(Fine(), "a", "real", faces, mask, np.zeros(70))
    np.testing.assert_array_equal(found.regions, faces[:, 1::2, 1::2, 0])
    np.testing.assert_array_equal(found.inside, mask[:, 1::2, 1::2, 0] == 1)


class TestHalves:
    @pytest.mark.parametrize("clips, expected", [
        ([4, 4, 4, 7, 7, 7], [0, 0, 0, 1, 1, 1]),
        ([7, 4, 7, 4, 7, 4], [1, 0, 1, 0, 1, 0]),
        ([1, 1, 1, 2, 3, 3, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1]),
        ([5, 5, 5, 5], [0, 0, 1, 1]),
        ([1] * 9 + [2], [0] * 5 + [1] * 5),
    ], ids=["two clips", "in any order", "three clips", "one clip", "one far too long"])
    def test_by_hand(self, clips, expected):
        np.testing.assert_array_equal(halves(np.array(clips)), expected)
        np.testing.assert_array_equal(halves(np.array(clips), first=1), 1 - np.array(expected))

    def test_two_people_of_one_face_each_are_in_both_halves(self):
        assert {int(halves(np.array([0]), 0)[0]), int(halves(np.array([0]), 1)[0])} == {0, 1}


class TestAccuracy:
    def test_each_half_is_judged_by_the_other(self):
        """In half 0 real faces score 1 and made ones -1; in half 1 all scores are 10 higher. By its own half each would be
        told right; by the other's, half 0 looks all made and half 1 all real."""
        kinds = ["real", "swap"] * 2 * 20
        half = [0, 0, 1, 1] * 20
        scores = [1, -1, 11, 9] * 20
        found = exam_of(scores, kinds, half)
        told = probabilities(found) > 0.5
        np.testing.assert_array_equal(told, found.half == 0)

    def test_figures_by_hand(self):
        """Ten of each kind and half. Real and made ones are far apart, but for: 2 of 20 real ones that look made, 4 of 20
        blurred, 1 of 20 reconstructions that look real, 3 of 20 pasted ones."""
        wrong = {"real": 2, "blurred": 4, "reconstruction": 1, "swap": 0, "pasted": 3}
        scores, kinds, half = [], [], []
        for kind in KINDS:
            right = -1 if kind in scoring.MADE else 1
            for k in range(20):
                scores.append((-right if k < wrong[kind] else right) * 5 + 0.01 * k)
                kinds.append(kind)
                half.append(k % 2)
        faces = exam_of(scores, kinds, half)
        found = accuracy(faces, probabilities(faces))
        assert found["reconstruction"] == pytest.approx((0.9 + 0.95) / 2)
        assert found["swap"] == pytest.approx((0.9 + 1.0) / 2)
        assert found["pasted"] == pytest.approx((0.9 + 0.85) / 2)
        assert found["blurred"] == pytest.approx((0.8 + 0.975) / 2)
        assert found["faces"] == dict.fromkeys(KINDS, 20)
        assert found["calibration_error"] < 0.1

    def test_scores_without_meaning_are_even_odds(self):
        rng = np.random.default_rng(1)
        faces = exam_of(rng.normal(size=5000), np.repeat(KINDS, 1000), np.arange(5000) % 2)
        found = accuracy(faces, probabilities(faces))
        assert all(0.45 < found[kind] < 0.55 for kind in ("reconstruction", "swap", "pasted", "blurred"))
        assert found["calibration_error"] < 0.05


def test_a_crop_of_a_picture_is_the_face_sets(faces):
    """The face set's first canvas as a picture, its landmarks in it: the crop is the one that was learned from."""
    picture = np.ascontiguousarray(faces.a.canvas[0, ..., :3])
    landmarks = 1.5 * faces.a.landmarks[0] + (picture.shape[0] - 1) / 2 - 1.5 * (32 - 1) / 2
    crop, mask = crop_of(picture, landmarks, 32)
    learned, learned_mask = faces.a.crops([0])
    assert np.abs(crop - learned[0]).mean() < 0.01 and np.abs(mask - learned_mask[0]).mean() < 0.01
    assert crop.dtype == mask.dtype == np.float32 and mask.shape == (32, 32, 1)
