"""The adversary: what it is shown of an autoencoder that stays as it is, softness that is no answer, and its state."""
import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.networks.multi_person import ManyFaces
from gan.people.many import CrowdBatch
from gan.training import adversary
from gan.training.adversary import Adversary, as_finished, shown_as_swapped
from gan.training.steps import Recipe

RECIPE = Recipe(batch=4, seed=4)


def new(recipe=RECIPE, seed=1, kind="patch", spectral=False):
    nn.manual_seed(seed)
    return Adversary(DISCRIMINATORS[kind](32, 4, spectral), recipe)


@pytest.fixture
def model(faces):
    nn.manual_seed(0)
    made = FaceAutoencoder(32, 4, True, identity=True)
    for side, subject in (("a", faces.a), ("b", faces.b)):
        made.learn_colours(*subject.crops(subject.train), side)
    return made


@pytest.fixture
def pair(faces):
    return faces.batches(RECIPE, 0, 0.0)


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


@pytest.fixture
def shown(monkeypatch):
    """Each (real, made) that a discriminator is shown."""
    pairs, step = [], adversary.train_discriminator

    def watched(network, optimizer, recipe, real, made, k, *watch):
        pairs.append((real, made))
        return step(network, optimizer, recipe, real, made, k, *watch)

    monkeypatch.setattr(adversary, "train_discriminator", watched)
    return pairs


def test_half_is_drawn_as_its_own_person_and_half_as_the_other(model, pair):
    a, b = pair
    swapped, pictures = shown_as_swapped(model, a, b)
    assert swapped.person.tolist() == [-1] * 4 + [1] * 4
    expected = [(a, 0, "a", "a"), (a, 1, "a", "a"), (b, 2, "b", "a"), (b, 3, "b", "a"),
                (b, 0, "b", "b"), (b, 1, "b", "b"), (a, 2, "a", "b"), (a, 3, "a", "b")]
    for face, mask, (batch, row, person, side) in zip(swapped.faces, swapped.mask, expected, strict=True):
        np.testing.assert_allclose(face, model.draw(batch.target[row:row + 1], person, side)[0][0], atol=1e-5)
        np.testing.assert_array_equal(mask, batch.mask[row])
    np.testing.assert_array_equal(pictures, np.stack([batch.target[row] for batch, row, _, _ in expected]))
    assert type(swapped.faces) is np.ndarray


def test_a_crowds_faces_are_drawn_as_others_and_nobody_is_told(shown):
    random = np.random.default_rng(0)
    batch = CrowdBatch(random.random((6, 32, 32, 3), np.float32), random.uniform(0.2, 0.8, (6, 2, 1, 1, 3)).astype(np.float32),
                       np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0, 2]], random.random((6, 32, 32, 3), np.float32),
                       random.random((6, 32, 32, 1), np.float32))
    nn.manual_seed(0)
    many = ManyFaces(32, 4, True, 3)
    drawn, one = many(batch.warped, batch.colours, batch.drawn_as).numpy()[..., :3], new()
    one.learn_alone(many, [batch], 1e-3, 0, 0, judging=False)
    one.learn_against(many.redraw(batch), 1e-3, 0, 1)
    for real, made in shown:
        np.testing.assert_array_equal(real.faces, batch.target)
        np.testing.assert_array_equal(made.faces, drawn)
        np.testing.assert_array_equal(real.mask, batch.mask)
        assert real.person.tolist() == made.person.tolist() == [0] * 6


def test_it_begins_with_what_another_has_learned_where_the_shapes_are_equal():
    learned, one = new(seed=5), new()
    one.inherit({name: array.astype(np.float16) for name, array in learned.network.state_dict().items()})
    for name, array in one.network.state_dict().items():
        np.testing.assert_allclose(array, learned.network.state_dict()[name], atol=1e-3)
        assert array.dtype == np.float32
    for other in (new(kind="unet"), new(spectral=True)):
        before = other.network.state_dict()
        other.inherit(learned.network.state_dict())
        assert_same(other.network.state_dict(), before)


def test_a_batch_of_one(model, faces):
    pair = faces.batches(Recipe(batch=1, seed=4), 0, 0.0)
    swapped, _ = shown_as_swapped(model, *pair)
    assert swapped.faces.shape == (2, 32, 32, 3) and swapped.person.tolist() == [-1, 1]
    assert new().learn_alone(model, pair, 1e-3, 0, 0).accuracy in (0, 0.25, 0.5, 0.75, 1)


class Soft:
    """Draws each face as it is, but blurred: the mean of 5 x 5 pixels."""

    def draw_as(self, faces, person, side):
        padded = np.pad(faces, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        return nn.Tensor(np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (1, 2)).mean((-2, -1), dtype=np.float32))


def fine(faces, mask):
    """Mean square of what a face differs by from the mean of its pixel's neighbours, within the mask."""
    inner, around = faces[:, 1:-1, 1:-1], (faces[:, :-2, 1:-1] + faces[:, 2:, 1:-1] + faces[:, 1:-1, :-2] + faces[:, 1:-1, 2:]) / 4
    return (((inner - around) ** 2).mean(-1, keepdims=True) * mask[:, 1:-1, 1:-1]).sum() / mask[:, 1:-1, 1:-1].sum()


def test_every_other_real_face_is_as_soft_as_the_made_ones(pair, shown):
    new().learn_alone(Soft(), pair, 1e-3, 0, 0)
    (real, made), sharp = shown[0], np.concatenate([batch.target for batch in pair])
    np.testing.assert_array_equal(real.faces[1::2], sharp[1::2])
    soft = fine(made.faces, made.mask)
    assert fine(sharp[::2], real.mask[::2]) > 4 * soft
    assert 0.5 * soft < fine(real.faces[::2], real.mask[::2]) < 2 * soft
    np.testing.assert_array_equal(np.concatenate([batch.target for batch in pair]), sharp)  # the batch is left as it was


def test_one_that_is_to_teach_sees_faces_as_they_are(model, pair, shown):
    new().learn_alone(model, pair, 1e-3, 0, 0, judging=False)
    np.testing.assert_array_equal(shown[0][0].faces, np.concatenate([batch.target for batch in pair]))
    np.testing.assert_array_equal(shown[0][1].faces, shown_as_swapped(model, *pair)[0].faces)


def test_one_that_is_to_judge_sees_every_other_made_face_as_in_a_finished_picture(model, pair, shown):
    new().learn_alone(model, pair, 1e-3, 0, 0)
    swapped, pictures = shown_as_swapped(model, *pair)
    np.testing.assert_array_equal(shown[0][1].faces[::2], swapped.faces[::2])
    finished = as_finished(swapped.faces[1::2], pictures[1::2], swapped.mask[1::2])
    np.testing.assert_array_equal(shown[0][1].faces[1::2], finished)


def test_in_a_finished_picture_a_face_has_its_colours_and_its_surroundings():
    random = np.random.default_rng(0)
    smooth = np.linspace(0, 1, 32, dtype=np.float32)[:, None, None] * np.ones((32, 32, 3), np.float32)
    pictures = np.stack([0.2 + 0.5 * smooth, 0.6 + 0.3 * smooth]) + random.normal(0, 0.02, (2, 32, 32, 3)).astype(np.float32)
    mask = np.zeros((2, 32, 32, 1), np.float32)
    mask[:, 8:24, 8:24] = 1
    drawn = (pictures - 0.1) * np.array([0.9, 0.7, 1.2], np.float32)  # the same faces in another light
    finished = as_finished(drawn, pictures, mask)
    assert finished.dtype == np.float32
    expected = pictures.copy()  # each pixel again: 3/4 of it, and 1/8 of either neighbour, along both axes
    for axis in (1, 2):
        before, after = (np.concatenate(np.split(expected, [edge], axis)[::-1], axis) for edge in (31, 1))
        expected = 0.75 * expected + 0.125 * (before + after)
    np.testing.assert_allclose(finished[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-5)
    flat = as_finished(np.full_like(drawn, 0.5), pictures, mask)  # a face without detail has the mean colour there
    np.testing.assert_allclose(flat[:, 10:22, 10:22], np.broadcast_to(pictures[:, 8:24, 8:24].mean((1, 2), keepdims=True), (2, 12, 12, 3)), atol=1e-5)


def test_against_an_autoencoder_that_learns_real_faces_stay_as_they_are(model, pair, shown):
    one = new()
    one.learn_alone(model, pair, 1e-3, 0, 0)
    redrawn = model.redraw(*pair)
    one.learn_against(redrawn, 1e-3, 0, 1)
    real, made = shown[1]
    np.testing.assert_array_equal(real.faces, np.concatenate([batch.target for batch in pair]))
    np.testing.assert_array_equal(made.faces, np.concatenate([drawn.numpy()[..., :3] for drawn, _, _ in redrawn]))


@pytest.mark.parametrize("kind, spectral", [("patch", False), ("unet", True)])
def test_alone_it_leaves_the_autoencoder_bit_for_bit(model, pair, kind, spectral):
    before, one = model.state_dict(), new(kind=kind, spectral=spectral)
    network = one.network.state_dict()
    for k in range(2):
        one.learn_alone(model, pair, 1e-3, 0.1, k)
    assert_same(before, model.state_dict())
    assert all(parameter.grad is None for parameter in model.parameters())
    moved = [not np.array_equal(network[name], array) for name, array in one.network.state_dict().items()]
    assert np.mean(moved) > 0.9


def test_noise_lies_on_both_and_differs(model, pair, shown):
    one = new()
    one.learn_alone(model, pair, 1e-3, 0.2, 3, judging=False)
    real, made = shown[0]
    noise = [real.faces - np.concatenate([batch.target for batch in pair]),
             made.faces - shown_as_swapped(model, *pair)[0].faces]
    for each in noise:
        assert each.std() == pytest.approx(0.2, rel=0.05)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_the_rate_is_the_one_asked_for(model, pair):
    """One of Adam's first steps moves a weight by its rate."""
    one = new()
    before = one.network.state_dict()
    one.learn_alone(model, pair, 7e-4, 0, 0)
    moved = np.abs(one.network.state_dict()["downs.0.weight"] - before["downs.0.weight"])
    assert np.median(moved) == pytest.approx(7e-4, rel=0.01)


def test_a_state_continues_bit_for_bit(model, pair, tmp_path):
    one, other = (new(seed=seed, kind="unet", spectral=True) for seed in (1, 9))
    one.learn_alone(model, pair, 1e-3, 0.1, 0)
    nn.save(tmp_path / "state.npz", one.state_dict())
    other.load_state_dict(nn.load(tmp_path / "state.npz"))
    assert_same(one.state_dict(), other.state_dict())
    for k in (1, 2):
        assert one.learn_alone(model, pair, 1e-3, 0.1, k) == other.learn_alone(model, pair, 1e-3, 0.1, k)
    assert_same(one.state_dict(), other.state_dict())
    assert {"network", "optimizer", "spectra"} == {name.partition(".")[0] for name in one.state_dict()}


@pytest.mark.parametrize("name", ["network.score.bias", "optimizer.m.0", "spectra.made"])
def test_a_state_that_does_not_fit(name):
    state = new().state_dict()
    del state[name]
    with pytest.raises(ValueError, match=name.partition(".")[2]):
        new().load_state_dict(state)
