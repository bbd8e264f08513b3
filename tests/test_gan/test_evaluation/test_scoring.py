"""Test the scores of held-out faces: what is scored, and two-fold cross-validation."""
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import nn
from gan.evaluation import scoring
from gan.evaluation.scoring import (KINDS, ScoredFaces, accuracy, crop_and_mask, halves, probabilities, score_faces,
    score_held_out)
from gan.people.pair import FacePair
from gan.evaluation.spectrum import radial_power


class Network:
    """A discriminator whose scores grow with brightness.

    Two score maps: the person, for the whole face; and the mean red of each of 4 x 4 regions.
    """

    size = 32

    def __init__(self):
        self.calls = []  # (faces, mask, person) of each call

    def parameters(self):
        return [nn.Parameter(np.zeros(1, np.float32))]

    def __call__(self, faces, mask, person):
        self.calls.append((faces, mask, person))
        regions = faces[..., :1].reshape(len(faces), 4, 8, 4, 8, 1).mean((2, 4))
        return [nn.Tensor(person.reshape(-1, 1, 1, 1)), nn.Tensor(regions)]


class Model:
    """A model that generates flat faces: red encodes the decoder, green the input person."""

    size = 32

    def generate(self, faces, person, side):
        generated = np.zeros_like(faces)
        generated[..., 0], generated[..., 1] = {"a": 0.25, "b": 0.75}[side], {"a": 0.1, "b": 0.9}[person]
        return generated, None


@pytest.fixture
def unchanged(monkeypatch):
    """Replace swaps by unchanged images. Returns the list of requested directions."""
    directions = []

    def swap_many(self, images, faces, direction):
        directions.append(direction)
        return list(images)

    monkeypatch.setattr(scoring, "Swapper", lambda model: SimpleNamespace(swap_many=swap_many.__get__(model)))
    return directions


def scored_faces(scores, kind, half):
    regions = np.zeros((len(scores), 1, 1), np.float32)
    return ScoredFaces(np.array(scores, np.float64), np.array(kind), np.array(half), regions, regions == 0)


class TestScoreHeldOut:
    def test_each_kind_is_scored_for_each_person(self, faces, unchanged):
        network = Network()
        found = score_held_out(network, Model(), faces)
        a, b = len(faces.a.held_out), len(faces.b.held_out)
        counts = {kind: a + b for kind in KINDS}
        assert {kind: int((found.kind == kind).sum()) for kind in KINDS} == counts
        assert unchanged == ["ba", "ab"]
        # Condition A: A's reconstructions, and B swapped to A.
        conditions = [(person[0], round(float(images[0, 0, 0, 0]), 2), round(float(images[0, 0, 0, 1]), 2))
                for images, _, person in network.calls]
        assert conditions[2:4] == [(-1, 0.25, 0.1), (-1, 0.25, 0.9)]
        assert conditions[7:9] == [(1, 0.75, 0.9), (1, 0.75, 0.1)]

    def test_faces_come_with_their_own_masks(self, faces, unchanged):
        network = Network()
        score_held_out(network, Model(), faces)
        crops_a, mask_a = faces.a.crops(faces.a.held_out)
        _, mask_b = faces.b.crops(faces.b.held_out)
        for number, mask in zip(range(4), (mask_a, mask_a, mask_a, mask_b)):
            np.testing.assert_array_equal(network.calls[number][1], mask)
        np.testing.assert_array_equal(network.calls[0][0], crops_a)

    def test_composites_are_cropped_at_the_original_position(self, faces, unchanged):
        """If the swap changes nothing, the face is B's own crop, resampled once more."""
        network = Network()
        score_held_out(network, Model(), faces)
        pasted, mask, _ = network.calls[4]
        own, own_mask = faces.b.crops(faces.b.held_out)
        assert np.abs(pasted - own).mean() < 0.01
        assert np.abs(mask - own_mask).mean() < 0.01

    def test_blurred_faces_have_the_spectrum_of_the_fakes(self, faces, unchanged):
        class Soft(Model):
            def generate(self, faces, person, side):
                rows = (2 * faces + np.roll(faces, 1, 1) + np.roll(faces, -1, 1)) / 4
                return (2 * rows + np.roll(rows, 1, 2) + np.roll(rows, -1, 2)) / 4, None

        network = Network()
        score_held_out(network, Soft(), faces)
        real, soft, reconstructions, swapped = (radial_power(*each[:2])[5:20] for each in network.calls[:4])
        fake = (reconstructions + swapped) / 2
        assert abs(np.log(soft / fake).mean()) < 0.1 and np.log(real / fake).mean() > 0.5

    def test_scores_are_masked_means(self, faces, unchanged):
        """A score is the mean of both maps: red by region, weighted by the mask, and person."""
        found = score_held_out(Network(), Model(), faces)
        a, b = len(faces.a.held_out), len(faces.b.held_out)
        expected = [(0.25 - 1) / 2] * a + [(0.75 + 1) / 2] * b
        np.testing.assert_allclose(found.scores[found.kind == "reconstruction"], expected, atol=1e-6)

    def test_regions_inside_the_face(self, faces, unchanged):
        found = score_held_out(Network(), Model(), faces)
        crops, mask = faces.a.crops(faces.a.held_out)
        assert found.regions.shape == found.inside.shape == (len(found.scores), 4, 4)
        expected = crops[..., 0].reshape(-1, 4, 8, 4, 8).mean((2, 4))
        np.testing.assert_allclose(found.regions[:len(crops)], expected, atol=1e-5)
        np.testing.assert_array_equal(found.inside[:len(crops)], mask[:, 4::8, 4::8, 0] > 0.5)

    def test_ground_truth_adds_faces(self, faces, unchanged):
        more, network = faces.ground_truth(4), Network()
        found = score_held_out(network, Model(), faces, more)
        a, b = len(faces.a.held_out), len(faces.b.held_out)
        np.testing.assert_array_equal(network.calls[0][0][a:], more.a)
        np.testing.assert_array_equal(network.calls[5][0][b:], more.b)
        np.testing.assert_array_equal(network.calls[3][1][b:], more.mask_b)
        assert (found.kind == "swap").sum() == a + b + 8 and (found.kind == "composite").sum() == a + b

    def test_fakes_are_in_the_half_of_their_face(self, faces, unchanged):
        """In each kind the faces have the same order, so their halves agree."""
        found = score_held_out(Network(), Model(), faces, faces.ground_truth(4))
        count = len(faces.a.held_out) + 4
        real = found.half[found.kind == "real"]
        swap = found.half[found.kind == "swap"]
        np.testing.assert_array_equal(swap, np.concatenate([real[count:], real[:count]]))
        np.testing.assert_array_equal(found.half[found.kind == "blurred"], real)
        np.testing.assert_array_equal(found.half[found.kind == "reconstruction"], real)
        # A pose of the ground truth is in the same half for both people.
        np.testing.assert_array_equal(real[count - 4:count], [0, 1, 0, 1])
        np.testing.assert_array_equal(real[-4:], [0, 1, 0, 1])

    def test_one_held_out_face_of_each_is_enough(self, faces, unchanged):
        alone = FacePair(*(dataclasses.replace(each, held_out=each.held_out[:1]) for each in (faces.a, faces.b)))
        found = score_held_out(Network(), Model(), alone)
        np.testing.assert_array_equal(found.half[found.kind == "real"], [1, 0])
        assert np.isfinite(probabilities(found)).all()


def test_fine_maps_are_subsampled_and_large_batches_split():
    class Fine(Network):
        def __call__(self, faces, mask, person):
            return [nn.Tensor(faces[:, :1, :1, :1]), nn.Tensor(faces[..., :1])]

    faces = np.random.default_rng(0).random((70, 32, 32, 3), np.float32)
    mask = np.ones((70, 32, 32, 1), np.float32)
    mask[:, :, 20:] = 0
    scores, maps = score_faces(Fine(), faces, mask, "a")
    np.testing.assert_array_equal(maps, faces[..., 0])
    inner = faces[:, :, :20, 0].mean((1, 2))
    np.testing.assert_allclose(scores, (faces[:, 0, 0, 0] + inner) / 2, atol=1e-5)
    found = scoring._score_kind(Fine(), "a", "real", faces, mask, np.zeros(70))
    np.testing.assert_array_equal(found.regions, faces[:, 1::2, 1::2, 0])
    np.testing.assert_array_equal(found.inside, mask[:, 1::2, 1::2, 0] == 1)


class TestHalves:
    @pytest.mark.parametrize("clips, expected", [
        ([4, 4, 4, 7, 7, 7], [0, 0, 0, 1, 1, 1]),
        ([7, 4, 7, 4, 7, 4], [1, 0, 1, 0, 1, 0]),
        ([1, 1, 1, 2, 3, 3, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1]),
        ([5, 5, 5, 5], [0, 0, 1, 1]),
        ([1] * 9 + [2], [0] * 5 + [1] * 5),
    ], ids=["two clips", "in any order", "three clips", "one clip", "one long clip"])
    def test_halves_by_hand(self, clips, expected):
        np.testing.assert_array_equal(halves(np.array(clips)), expected)
        np.testing.assert_array_equal(halves(np.array(clips), first=1), 1 - np.array(expected))

    def test_two_people_of_one_face_each_are_in_both_halves(self):
        assert {int(halves(np.array([0]), 0)[0]), int(halves(np.array([0]), 1)[0])} == {0, 1}


class TestAccuracy:
    def test_each_half_is_judged_by_the_other(self):
        """In half 0 real faces score 1 and fakes -1; in half 1 all scores are 10 higher.

        Calibrated on its own half, each face would be classified correctly. Calibrated on the
        other, half 0 looks fake and half 1 real.
        """
        kinds = ["real", "swap"] * 2 * 20
        half = [0, 0, 1, 1] * 20
        scores = [1, -1, 11, 9] * 20
        found = scored_faces(scores, kinds, half)
        conditions = probabilities(found) > 0.5
        np.testing.assert_array_equal(conditions, found.half == 0)

    def test_accuracy_by_hand(self):
        """Ten faces of each kind and half, well separated.

        Exceptions: 2 of 20 real faces and 4 of 20 blurred ones look fake, 1 of 20 reconstructions
        and 3 of 20 composites look real.
        """
        wrong = {"real": 2, "blurred": 4, "reconstruction": 1, "swap": 0, "composite": 3}
        scores, kinds, half = [], [], []
        for kind in KINDS:
            right = -1 if kind in scoring.FAKE else 1
            for k in range(20):
                scores.append((-right if k < wrong[kind] else right) * 5 + 0.01 * k)
                kinds.append(kind)
                half.append(k % 2)
        faces = scored_faces(scores, kinds, half)
        found = accuracy(faces, probabilities(faces))
        assert found["reconstruction"] == pytest.approx((0.9 + 0.95) / 2)
        assert found["swap"] == pytest.approx((0.9 + 1.0) / 2)
        assert found["composite"] == pytest.approx((0.9 + 0.85) / 2)
        assert found["blurred"] == pytest.approx((0.8 + 0.975) / 2)
        assert found["faces"] == dict.fromkeys(KINDS, 20)
        assert found["calibration_error"] < 0.1

    def test_random_scores_are_at_chance(self):
        rng = np.random.default_rng(1)
        faces = scored_faces(rng.normal(size=5000), np.repeat(KINDS, 1000), np.arange(5000) % 2)
        found = accuracy(faces, probabilities(faces))
        assert all(0.45 < found[kind] < 0.55 for kind in ("reconstruction", "swap", "composite", "blurred"))
        assert found["calibration_error"] < 0.05


def test_crop_equals_that_of_the_face_set(faces):
    """Crop the first padded crop of a face set by its landmarks: the training crop."""
    image = np.ascontiguousarray(faces.a.padded_crops[0, ..., :3])
    landmarks = 1.5 * faces.a.landmarks[0] + (image.shape[0] - 1) / 2 - 1.5 * (32 - 1) / 2
    crop, mask = crop_and_mask(image, landmarks, 32)
    learned, learned_mask = faces.a.crops([0])
    assert np.abs(crop - learned[0]).mean() < 0.01 and np.abs(mask - learned_mask[0]).mean() < 0.01
    assert crop.dtype == mask.dtype == np.float32 and mask.shape == (32, 32, 1)
