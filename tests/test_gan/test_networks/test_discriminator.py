"""The discriminators: inputs, scores, cost, derivatives, and each network's step through them."""
import numpy as np
import pytest

import nn
import nn.functional as F
from gan.networks import discriminator as d
from gan.register import OBJECTIVES
from gan.training.objectives import discriminator_loss, generator_loss, r1_penalty
from nn import backend
from tests.helpers.fake_cupy import FakeArray, FakeCupy

KINDS = [(kind, spectral) for kind in d.DISCRIMINATORS for spectral in (False, True)]


def new_discriminator(kind, size=32, width=8, spectral=False):
    nn.manual_seed(3)
    return d.DISCRIMINATORS[kind](size, width, spectral)


def batch(size=32, count=2, dtype=np.float32):
    """Return faces, masks (a disc with a soft border) and persons."""
    random = np.random.default_rng(6)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    disc = np.clip(0.4 * size - np.hypot(x, y), 0, 3) / 3
    mask = np.repeat(disc[None, :, :, None], count, 0)
    person = np.where(np.arange(count) % 2, 1.0, -1.0)
    return random.random((count, size, size, 3)).astype(dtype), mask.astype(dtype), person


def in_float64(model):
    for _, tensor in model.named_tensors():
        tensor.data = tensor.data.astype(np.float64)
    return model


@pytest.mark.parametrize("spectral", [False, True])
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_score_maps(size, spectral):
    faces, mask, person = batch(size, 1)
    shapes = {"patch": [(1, size // 8, size // 8, 1)], "unet": [(1, 1, 1, 1), (1, size, size, 1)]}
    for kind, expected in shapes.items():
        with nn.no_grad():
            maps = new_discriminator(kind, size, 4, spectral)(faces, mask, person)
        assert [scores.shape for scores in maps] == expected
        assert {scores.dtype for scores in maps} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind, limit", [("patch", 21e6), ("unet", 60e6)])
def test_cost(kind, limit, monkeypatch):
    """Count multiply-adds per face of 64 px at each convolution, as the module documents them."""
    count = []

    def counted(function, side):
        def call(x, w, *args):
            y = function(x, w, *args)
            count.append(np.prod({"out": y, "in": x}[side].shape) * np.prod(w.shape[:3]))
            return y
        return call

    monkeypatch.setattr(F, "conv2d", counted(F.conv2d, "out"))
    monkeypatch.setattr(F, "conv_transpose2d", counted(F.conv_transpose2d, "in"))
    new_discriminator(kind, 64, 32)(*batch(64, 1))
    documented = {"patch": 20.5e6, "unet": 54.5e6}[kind]
    assert sum(count) == pytest.approx(documented, rel=0.005) and sum(count) < limit


@pytest.mark.parametrize("kind, spectral", KINDS)
def test_pixels_outside_the_mask_do_not_change_a_score(kind, spectral):
    model = new_discriminator(kind, spectral=spectral).eval()
    faces, mask, person = batch()
    other = np.where(mask > 0, faces, 1 - faces)
    assert (other != faces).any()
    for scores, expected in zip(model(other, mask, person), model(faces, mask, person)):
        np.testing.assert_array_equal(scores.data, expected.data)
    inside = np.where(mask > 0.5, 1 - faces, faces)
    assert all((a.data != b.data).any() for a, b in zip(model(inside, mask, person), model(faces, mask, person)))


@pytest.mark.parametrize("kind", d.DISCRIMINATORS)
def test_scores_depend_on_the_person(kind):
    model = new_discriminator(kind)
    faces, mask, person = batch()
    for scores, others in zip(model(faces, mask, person), model(faces, mask, -person)):
        assert abs(scores.data - others.data).max(axis=(1, 2, 3)).min() > 1e-3


def test_input_channels_are_color_detail_and_person(monkeypatch):
    """Detail is 4 times the difference from the 3 x 3 mean; 0 on a flat face."""
    inputs = []
    monkeypatch.setattr(d.PatchDiscriminator, "scores", lambda self, x: inputs.append(x))
    faces, mask, person = batch(32, 1, np.float64)
    new_discriminator("patch")(faces, mask, person)
    new_discriminator("patch")(faces * 0 + 0.8, mask * 0 + 1, person)
    face = (2 * faces - 1) * mask
    np.testing.assert_allclose(inputs[0][..., :3], face)
    mean = face[0, 9:12, 19:22].mean((0, 1))
    np.testing.assert_allclose(inputs[0][0, 10, 20, 3:6], 4 * (face[0, 10, 20] - mean))
    np.testing.assert_allclose(inputs[0][..., 6], -1)
    np.testing.assert_allclose(inputs[1][:, 1:-1, 1:-1, 3:6], 0, atol=1e-12)


@pytest.mark.parametrize("kind, spectral", KINDS)
def test_an_images_score_does_not_depend_on_its_batch(kind, spectral):
    model = new_discriminator(kind, spectral=spectral).eval()
    faces, mask, person = batch(count=4)
    together = model(faces, mask, person)
    alone = model(faces[2:3], mask[2:3], person[2:3])
    for scores, expected in zip(alone, together):
        np.testing.assert_allclose(scores.data, expected.data[2:3], rtol=1e-4, atol=1e-6)


def test_receptive_field_of_the_patch_discriminator_is_40_by_40_pixels():
    model = in_float64(new_discriminator("patch", 128, 4))
    random = np.random.default_rng(0)
    faces = nn.Tensor(random.random((1, 128, 128, 3)), requires_grad=True)
    (scores,) = model(faces, np.ones((1, 128, 128, 1)), np.ones(1))
    (gradient,) = nn.grad(F.sum(scores[:, 7:8, 5:6]), [faces])
    rows, columns = abs(gradient.data).sum((0, 2, 3)).nonzero()[0], abs(gradient.data).sum((0, 1, 3)).nonzero()[0]
    # Its own 8 x 8 pixels are in the center, with 16 on each side.
    assert rows.tolist() == list(range(7 * 8 - 16, 7 * 8 + 24))
    assert columns.tolist() == list(range(5 * 8 - 16, 5 * 8 + 24))


def test_unet_scores_depend_on_the_neighborhood_and_the_whole_face():
    model = in_float64(new_discriminator("unet", 32, 8))
    faces, mask, person = batch(32, 1, np.float64)
    faces = nn.Tensor(faces, requires_grad=True)
    overall, pixels = model(faces, np.ones_like(mask), person)
    assert (abs(nn.grad(F.sum(overall), [faces], retain_graph=True)[0].data).sum(3) > 0).all()
    gradient = abs(nn.grad(F.sum(pixels[:, 12:13, 20:21]), [faces])[0].data).sum((0, 3))
    # The last 3 x 3 convolution also gets the input, so the pixel's neighbors weigh the most.
    y, x = np.unravel_index(gradient.argmax(), gradient.shape)
    assert abs(y - 12) <= 1 and abs(x - 20) <= 1 and (gradient > 0).sum() > 32 * 32 / 2


@pytest.mark.parametrize("kind, spectral", KINDS)
def test_spectral_normalization_is_on_every_layer_or_none(kind, spectral):
    inner = [module.layer for module in new_discriminator(kind, spectral=spectral).modules()
             if isinstance(module, nn.SpectralNorm)]
    layers = [m for m in new_discriminator(kind, spectral=spectral).modules()
              if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(inner) == (len(layers) if spectral else 0)


@pytest.mark.parametrize("kind", d.DISCRIMINATORS)
def test_initial_weights_preserve_the_variance(kind):
    nn.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((4, 64, 64, d.CHANNELS)).astype(np.float32)
    model = d.DISCRIMINATORS[kind](64, 32)
    y = model.downs(x).data
    assert 0.5 < (y * y).mean() < 2
    assert all(0.05 < float(abs(scores.data).mean()) < 2 for scores in model.scores(x))
    assert all((p.data == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_face_score_by_definition():
    random = np.random.default_rng(4)
    mask = random.random((2, 16, 16, 1))
    overall, regions, pixels = (random.standard_normal((2, side, side, 1)) for side in (1, 2, 16))
    expected = []
    for n in range(2):
        weights = [[mask[n, 8 * i:8 * i + 8, 8 * j:8 * j + 8].mean() for j in range(2)] for i in range(2)]
        region_score = sum(weights[i][j] * regions[n, i, j, 0] for i in range(2) for j in range(2)) / np.sum(weights)
        pixel_score = np.average(pixels[n], weights=mask[n])
        expected.append((overall[n, 0, 0, 0] + region_score + pixel_score) / 3)
    got = d.face_score([nn.Tensor(m) for m in (overall, regions, pixels)], mask)
    assert got.shape == (2,)
    np.testing.assert_allclose(got.data, expected, rtol=1e-6)


def test_face_score_of_an_empty_mask():
    scores = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
    np.testing.assert_allclose(d.face_score([scores], np.zeros((2, 16, 16, 1), np.float32)), [1.5, 5.5])


def test_add_instance_noise():
    images = np.full((4, 32, 32, 3), 0.5, np.float32)
    with_noise = d.add_instance_noise(images, 0.25, np.random.default_rng(1))
    assert with_noise.dtype == np.float32 and with_noise.std() == pytest.approx(0.25, rel=0.02)
    assert with_noise.mean() == pytest.approx(0.5, abs=0.01) and with_noise.max() > 1
    np.testing.assert_array_equal(with_noise, d.add_instance_noise(images, 0.25, np.random.default_rng(1)))
    generated = nn.Tensor(images, requires_grad=True)
    F.sum(d.add_instance_noise(generated, 0.25, np.random.default_rng(1))).backward()
    assert (generated.grad == 1).all()


@pytest.mark.parametrize("kind, spectral", KINDS)
def test_state_dict_round_trip(kind, spectral):
    model, inputs = new_discriminator(kind, spectral=spectral), batch()
    model(*inputs)
    state, expected = model.state_dict(), [scores.data for scores in model.eval()(*inputs)]
    nn.manual_seed(99)
    other = d.DISCRIMINATORS[kind](32, 8, spectral).eval()
    assert (other(*inputs)[0].data != expected[0]).any()
    other.load_state_dict(state)
    for scores, array in zip(other(*inputs), expected):
        np.testing.assert_array_equal(scores.data, array)


@pytest.mark.parametrize("kind, spectral", KINDS)
def test_second_derivatives(kind, spectral):
    """Of every score by the image, which the penalties need; float64, no kink within the steps."""
    model = in_float64(new_discriminator(kind, 16, 4, spectral)).eval()
    faces, mask, person = batch(16, 2, np.float64)
    nn.gradcheck(lambda x: model(x, mask, person), [faces], eps=1e-7, order=2, elements=False)


def move(model, direction, length):
    for parameter, along in zip(model.parameters(), direction):
        parameter.data = parameter.data + length * along


@pytest.mark.parametrize("kind, spectral", KINDS)
def test_gradient_of_r1_by_the_weights(kind, spectral):
    model = in_float64(new_discriminator(kind, 16, 4, spectral)).eval()
    faces, mask, person = batch(16, 2, np.float64)

    def penalty():
        return r1_penalty(lambda x: model(x, mask, person), faces) * 1000

    penalty().backward()
    random = np.random.default_rng(2)
    direction = [random.standard_normal(p.shape) for p in model.parameters()]
    # The last layer's bias shifts scores but not their gradients, so it has no gradient.
    got = sum((p.grad * along).sum() for p, along in zip(model.parameters(), direction) if p.grad is not None)
    values = []
    for length in (1e-7, -2e-7):
        move(model, direction, length)
        values.append(penalty().item())
    assert got == pytest.approx((values[0] - values[1]) / 2e-7, rel=1e-4) and abs(got) > 1e-2


def steps(kind, device):
    """Take a discriminator and a generator step; return the states after each and the gradient."""
    model = new_discriminator(kind, spectral=True).to(device)
    faces, mask, person = batch()
    real, mask = nn.backend.to_device(faces, device), nn.backend.to_device(mask, device)
    generated = nn.Tensor(nn.backend.to_device(1 - faces, device), requires_grad=True)
    optimizer, objective = nn.optim.Adam(model.parameters(), 1e-2), OBJECTIVES["non-saturating"]
    random = np.random.default_rng(5)
    loss = discriminator_loss(objective, model(d.add_instance_noise(real, 0.1, random), mask, person),
                              model(generated.detach(), mask, person))
    (loss + r1_penalty(lambda x: model(x, mask, person), real)).backward()
    optimizer.step()
    trained = model.state_dict()
    model.eval()
    scores = model(generated, mask, person)
    (generator_loss(objective, scores) + F.mean(d.face_score(scores, mask))).backward()
    return trained, model.state_dict(), generated.grad


@pytest.mark.parametrize("kind", d.DISCRIMINATORS)
def test_generator_step_leaves_the_discriminator_bit_for_bit(kind):
    before = new_discriminator(kind, spectral=True).state_dict()
    trained, after, gradient = steps(kind, "cpu")
    # All has changed but the u of the last layers, which have only one direction.
    assert all((trained[name] != array).any() for name, array in before.items() if array.shape != (1,))
    for name, array in trained.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    assert abs(gradient).max() > 0


@pytest.mark.parametrize("kind", d.DISCRIMINATORS)
def test_both_steps_on_a_device_equal_the_cpu(kind, monkeypatch):
    module = FakeCupy()
    monkeypatch.setitem(backend.ARRAY_MODULES, FakeArray, module)
    monkeypatch.setattr(backend, "load_cupy", lambda: module)
    with nn.use_kernels("plain"):
        _, expected, expected_gradient = steps(kind, "cpu")
        _, state, gradient = steps(kind, "cuda")
    assert isinstance(gradient, FakeArray)
    np.testing.assert_array_equal(gradient.get(), expected_gradient)
    for name, array in expected.items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)


@pytest.mark.parametrize("size", [8, 40])
def test_sizes_that_are_no_multiple_of_16_are_refused(size):
    with pytest.raises(ValueError, match=f"multiple of 16, got {size}"):
        d.PatchDiscriminator(size)


@pytest.mark.parametrize("wrong", ["faces", "mask", "person"])
def test_wrong_shapes_are_refused(wrong):
    faces, mask, person = batch()
    inputs = {"faces": (faces[:, :16, :16], mask[:, :16, :16], person), "mask": (faces, mask[:1], person),
              "person": (faces, mask, person[:1])}
    with pytest.raises(ValueError, match=r"discriminator: expected faces \(N, 32, 32, 3\)"):
        new_discriminator("patch")(*inputs[wrong])
