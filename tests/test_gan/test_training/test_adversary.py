"""The adversary: batches from a frozen autoencoder, blur and compositing for a judge, state."""
import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.networks.multi_person import MultiPersonAutoencoder
from gan.people.many import MultiPersonBatch
from gan.training import adversary
from gan.training.adversary import Adversary, composite_batch, mixed_fake_batch
from tests.helpers.configs import new_config

CONFIG = new_config(batch=4, seed=4)


def new_adversary(config=CONFIG, seed=1, kind="patch", spectral=False):
    nn.manual_seed(seed)
    return Adversary(DISCRIMINATORS[kind](32, 4, spectral), config)


@pytest.fixture
def model(faces):
    nn.manual_seed(0)
    fake = FaceAutoencoder(32, 4, True, person_embedding=True)
    for side, subject in (("a", faces.a), ("b", faces.b)):
        fake.fit_colors(*subject.crops(subject.train), side)
    return fake


@pytest.fixture
def batches(faces):
    return faces.batches(CONFIG, 0, 0.0)


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


@pytest.fixture
def batches_shown(monkeypatch):
    """Each (real, fake) batch that a discriminator is trained on."""
    pairs, step = [], adversary.train_discriminator

    def watched(network, optimizer, config, real, fake, k):
        pairs.append((real, fake))
        return step(network, optimizer, config, real, fake, k)

    monkeypatch.setattr(adversary, "train_discriminator", watched)
    return pairs


def test_half_is_reconstructed_and_half_is_swapped(model, batches):
    a, b = batches
    fakes, images = mixed_fake_batch(model, a, b)
    assert fakes.person.tolist() == [-1] * 4 + [1] * 4
    expected = [(a, 0, "a", "a"), (a, 1, "a", "a"), (b, 2, "b", "a"), (b, 3, "b", "a"),
                (b, 0, "b", "b"), (b, 1, "b", "b"), (a, 2, "a", "b"), (a, 3, "a", "b")]
    for face, mask, (batch, row, person, side) in zip(fakes.faces, fakes.mask, expected, strict=True):
        np.testing.assert_allclose(face, model.generate(batch.target[row:row + 1], person, side)[0][0], atol=1e-5)
        np.testing.assert_array_equal(mask, batch.mask[row])
    np.testing.assert_array_equal(images, np.stack([batch.target[row] for batch, row, _, _ in expected]))
    assert type(fakes.faces) is np.ndarray


def test_many_people_are_generated_without_person_labels(batches_shown):
    random = np.random.default_rng(0)
    batch = MultiPersonBatch(random.random((6, 32, 32, 3), np.float32),
                             random.uniform(0.2, 0.8, (6, 2, 1, 1, 3)).astype(np.float32),
                       np.eye(3, dtype=np.float32)[[0, 2, 1, 1, 0, 2]], random.random((6, 32, 32, 3), np.float32),
                       random.random((6, 32, 32, 1), np.float32))
    nn.manual_seed(0)
    multi_person = MultiPersonAutoencoder(32, 4, True, 3)
    generated, trained = multi_person(batch.warped, batch.colors, batch.target_person).numpy()[..., :3], new_adversary()
    trained.train_on_frozen_model(multi_person, [batch], 1e-3, 0, 0, as_judge=False)
    trained.train_on_reconstructions(multi_person.reconstruct(batch), 1e-3, 0, 1)
    for real, fake in batches_shown:
        np.testing.assert_array_equal(real.faces, batch.target)
        np.testing.assert_array_equal(fake.faces, generated)
        np.testing.assert_array_equal(real.mask, batch.mask)
        assert real.person.tolist() == fake.person.tolist() == [0] * 6


def test_load_pretrained_needs_equal_shapes():
    pretrained, trained = new_adversary(seed=5), new_adversary()
    trained.load_pretrained({name: array.astype(np.float16) for name, array in pretrained.network.state_dict().items()})
    for name, array in trained.network.state_dict().items():
        np.testing.assert_allclose(array, pretrained.network.state_dict()[name], atol=1e-3)
        assert array.dtype == np.float32
    for other in (new_adversary(kind="unet"), new_adversary(spectral=True)):
        before = other.network.state_dict()
        other.load_pretrained(pretrained.network.state_dict())
        assert_same(other.network.state_dict(), before)


def test_a_batch_of_one(model, faces):
    batches = faces.batches(new_config(batch=1, seed=4), 0, 0.0)
    fakes, _ = mixed_fake_batch(model, *batches)
    assert fakes.faces.shape == (2, 32, 32, 3) and fakes.person.tolist() == [-1, 1]
    assert new_adversary().train_on_frozen_model(model, batches, 1e-3, 0, 0)["accuracy"] in (0, 0.25, 0.5, 0.75, 1)


class BlurringModel:
    """Generates each face as the input face, blurred by a 5 x 5 mean."""

    def generate_as(self, faces, person, side):
        padded = np.pad(faces, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        return nn.Tensor(np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (1, 2)).mean((-2, -1),
                                                                                               dtype=np.float32))


def fine_detail(faces, mask):
    """Return the mean square difference of pixels from their neighbors' mean, within the mask."""
    inner = faces[:, 1:-1, 1:-1]
    around = (faces[:, :-2, 1:-1] + faces[:, 2:, 1:-1] + faces[:, 1:-1, :-2] + faces[:, 1:-1, 2:]) / 4
    return (((inner - around) ** 2).mean(-1, keepdims=True) * mask[:, 1:-1, 1:-1]).sum() / mask[:, 1:-1, 1:-1].sum()


def test_judge_gets_every_other_real_face_blurred_like_the_fakes(batches, batches_shown):
    new_adversary().train_on_frozen_model(BlurringModel(), batches, 1e-3, 0, 0)
    (real, fake), sharp = batches_shown[0], np.concatenate([batch.target for batch in batches])
    np.testing.assert_array_equal(real.faces[1::2], sharp[1::2])
    soft = fine_detail(fake.faces, fake.mask)
    assert fine_detail(sharp[::2], real.mask[::2]) > 4 * soft
    assert 0.5 * soft < fine_detail(real.faces[::2], real.mask[::2]) < 2 * soft
    np.testing.assert_array_equal(np.concatenate([batch.target for batch in batches]), sharp)  # the input is unchanged


def test_adversary_gets_unchanged_faces(model, batches, batches_shown):
    new_adversary().train_on_frozen_model(model, batches, 1e-3, 0, 0, as_judge=False)
    np.testing.assert_array_equal(batches_shown[0][0].faces, np.concatenate([batch.target for batch in batches]))
    np.testing.assert_array_equal(batches_shown[0][1].faces, mixed_fake_batch(model, *batches)[0].faces)


def test_judge_gets_every_other_fake_as_a_composite(model, batches, batches_shown):
    new_adversary().train_on_frozen_model(model, batches, 1e-3, 0, 0)
    fakes, images = mixed_fake_batch(model, *batches)
    np.testing.assert_array_equal(batches_shown[0][1].faces[::2], fakes.faces[::2])
    composites = composite_batch(fakes.faces[1::2], images[1::2], fakes.mask[1::2])
    np.testing.assert_array_equal(batches_shown[0][1].faces[1::2], composites)


def test_composite_has_the_images_colors_and_background():
    random = np.random.default_rng(0)
    smooth = np.linspace(0, 1, 32, dtype=np.float32)[:, None, None] * np.ones((32, 32, 3), np.float32)
    images = np.stack([0.2 + 0.5 * smooth, 0.6 + 0.3 * smooth]) + random.normal(0, 0.02,
                                                                                (2, 32, 32, 3)).astype(np.float32)
    mask = np.zeros((2, 32, 32, 1), np.float32)
    mask[:, 8:24, 8:24] = 1
    generated = (images - 0.1) * np.array([0.9, 0.7, 1.2], np.float32)  # the same faces in different light
    composites = composite_batch(generated, images, mask)
    assert composites.dtype == np.float32
    expected = images.copy()  # resampled: 3/4 of each pixel and 1/8 of both neighbors, along both axes
    for axis in (1, 2):
        before, after = (np.concatenate(np.split(expected, [edge], axis)[::-1], axis) for edge in (31, 1))
        expected = 0.75 * expected + 0.125 * (before + after)
    np.testing.assert_allclose(composites[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=1e-5)
    flat = composite_batch(np.full_like(generated, 0.5), images, mask)  # a face without detail gets the mean color
    np.testing.assert_allclose(flat[:, 10:22, 10:22], np.broadcast_to(images[:, 8:24, 8:24].mean((1, 2), keepdims=True),
                                                                      (2, 12, 12, 3)), atol=1e-5)


def test_train_on_reconstructions_uses_unchanged_faces(model, batches, batches_shown):
    trained = new_adversary()
    trained.train_on_frozen_model(model, batches, 1e-3, 0, 0)
    reconstructions = model.reconstruct(*batches)
    trained.train_on_reconstructions(reconstructions, 1e-3, 0, 1)
    real, fake = batches_shown[1]
    np.testing.assert_array_equal(real.faces, np.concatenate([batch.target for batch in batches]))
    np.testing.assert_array_equal(fake.faces,
                                  np.concatenate([generated.numpy()[..., :3] for generated, _, _ in reconstructions]))


@pytest.mark.parametrize("kind, spectral", [("patch", False), ("unet", True)])
def test_train_on_frozen_model_leaves_the_autoencoder_bit_for_bit(model, batches, kind, spectral):
    before, trained = model.state_dict(), new_adversary(kind=kind, spectral=spectral)
    network = trained.network.state_dict()
    for k in range(2):
        trained.train_on_frozen_model(model, batches, 1e-3, 0.1, k)
    assert_same(before, model.state_dict())
    assert all(parameter.grad is None for parameter in model.parameters())
    changed = [not np.array_equal(network[name], array) for name, array in trained.network.state_dict().items()]
    assert np.mean(changed) > 0.9


def test_instance_noise_is_on_both_batches_and_differs(model, batches, batches_shown):
    trained = new_adversary()
    trained.train_on_frozen_model(model, batches, 1e-3, 0.2, 3, as_judge=False)
    real, fake = batches_shown[0]
    noise = [real.faces - np.concatenate([batch.target for batch in batches]),
             fake.faces - mixed_fake_batch(model, *batches)[0].faces]
    for each in noise:
        assert each.std() == pytest.approx(0.2, rel=0.05)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_learning_rate_is_the_argument(model, batches):
    """Adam's first steps change a weight by about the learning rate."""
    trained = new_adversary()
    before = trained.network.state_dict()
    trained.train_on_frozen_model(model, batches, 7e-4, 0, 0)
    changed = np.abs(trained.network.state_dict()["downs.0.weight"] - before["downs.0.weight"])
    assert np.median(changed) == pytest.approx(7e-4, rel=0.01)


def test_resuming_from_a_state_is_bit_for_bit(model, batches, tmp_path):
    trained, other = (new_adversary(seed=seed, kind="unet", spectral=True) for seed in (1, 9))
    trained.train_on_frozen_model(model, batches, 1e-3, 0.1, 0)
    nn.save(tmp_path / "state.npz", trained.state_dict())
    other.load_state_dict(nn.load(tmp_path / "state.npz"))
    assert_same(trained.state_dict(), other.state_dict())
    for k in (1, 2):
        assert trained.train_on_frozen_model(model, batches, 1e-3, 0.1,
                                             k) == other.train_on_frozen_model(model, batches, 1e-3, 0.1, k)
    assert_same(trained.state_dict(), other.state_dict())
    assert {"network", "optimizer", "spectra"} == {name.partition(".")[0] for name in trained.state_dict()}


@pytest.mark.parametrize("name", ["network.score.bias", "optimizer.m.0", "spectra.fake"])
def test_state_with_a_missing_array_is_refused(name):
    state = new_adversary().state_dict()
    del state[name]
    with pytest.raises(ValueError, match=name.partition(".")[2]):
        new_adversary().load_state_dict(state)
