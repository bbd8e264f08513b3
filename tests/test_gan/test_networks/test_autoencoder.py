"""The autoencoder: shapes, parameter count by the published table, names, gradients."""
import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.multi_person import MultiPersonAutoencoder
from gan.networks.presets import PRESETS


def conv(i, o, kernel):
    return kernel * kernel * i * o + o


def published_count(size, width):
    """Return the parameters of faceswap's Original at a width, without masks, layer by layer."""
    w, features = width, (size // 16) ** 2 * 8 * width
    encoder = conv(3, w, 5) + conv(w, 2 * w, 5) + conv(2 * w, 4 * w, 5) + conv(4 * w, 8 * w, 5)
    encoder += features * 8 * w + 8 * w + 8 * w * features + features + conv(8 * w, 16 * w, 3)
    decoder = conv(4 * w, 8 * w, 3) + conv(2 * w, 4 * w, 3) + conv(w, 2 * w, 3) + conv(w // 2, 3, 5)
    return encoder + 2 * decoder


def count(model):
    return sum(p.size for p in model.parameters())


def small(mask=True, size=32, width=4):
    nn.manual_seed(3)
    return FaceAutoencoder(size, width, mask)


def count_by_table(size, width, depth, kernel_size, upsampling):
    """Return the parameters without masks, layer by layer: channels double up to 8W, the side halves."""
    channels = [min(2 ** k, 8) * width for k in range(depth)]
    features, factor = (size // 2 ** depth) ** 2 * channels[-1], 4 if upsampling == "shuffle" else 1
    encoder = sum(conv(i, o, kernel_size) for i, o in zip([3, *channels], channels))
    encoder += features * 8 * width + 8 * width + 8 * width * features + features
    encoder += conv(channels[-1], factor * channels[-2], 3)
    inputs = channels[-2::-1]  # of the decoder's layers that double the side
    decoder = sum(conv(i, factor * o, 3) for i, o in zip(inputs, [*inputs[1:], width // 2])) + conv(width // 2, 3, 5)
    return encoder + 2 * decoder


def images(n, size, seed=0):
    return np.random.default_rng(seed).random((n, size, size, 3), dtype=np.float32)


def test_classic_has_the_published_number_of_parameters():
    classic = PRESETS["classic"]
    assert count(FaceAutoencoder(classic.size, 32, classic.mask)) == 5_137_190 == published_count(64, 32)
    assert (classic.size, classic.width, classic.mask) == (64, 128, False)
    assert published_count(classic.size, classic.width) == 82_062_470


@pytest.mark.parametrize("size, width", [(16, 2), (32, 4), (48, 6)])
def test_parameter_count_at_any_size(size, width):
    assert count(FaceAutoencoder(size, width, False)) == published_count(size, width)


@pytest.mark.parametrize("size, depth, kernel_size, upsampling", [
    (32, 4, 5, "shuffle"), (32, 2, 3, "shuffle"), (32, 3, 4, "nearest"), (64, 6, 5, "bilinear"), (32, 5, 2, "shuffle"),
    (16, 4, 9, "nearest"), (48, 3, 3, "bilinear"), (256, 8, 2, "shuffle")])
@pytest.mark.parametrize("mask, residual", [(False, False), (True, True)])
def test_depth_kernel_size_and_upsampling(size, depth, kernel_size, upsampling, mask, residual):
    shape = {"depth": depth, "kernel_size": kernel_size, "upsampling": upsampling}
    model = FaceAutoencoder(size, 4, mask, residual=residual, **shape)
    a, b = images(1, size), images(2, size)
    generated_a, generated_b = model(a, b)
    assert [face.shape for face in (generated_a, generated_b)] == [(n, size, size, 3 + mask) for n in (1, 2)]
    latents, features = model.encoder.encode(nn.Tensor(a))
    channels = [4 * min(2 ** k, 8) for k in range(depth)]
    assert latents.shape == (1, 32)
    assert [each.shape for each in features] == [(1, size >> k, size >> k, c) for k, c in enumerate(channels, 1)]
    (generated_a.sum() + generated_b.sum()).backward()
    assert all(np.abs(p.grad).sum() > 0 for name, p in model.named_parameters() if name.endswith("weight"))
    assert mask or count(model) == count_by_table(size, 4, **shape)
    many = MultiPersonAutoencoder(size, 4, mask, 3, residual=residual, **shape)
    batch = np.zeros((2, 2, 1, 1, 3), np.float32) + np.float32([[[[0.5]]], [[[0.25]]]])
    assert many(b, batch, np.eye(3, dtype=np.float32)[:2]).shape == (2, size, size, 3 + mask)


@pytest.mark.parametrize("size, depth", [(40, 4), (32, 6), (8, 2)])
def test_size_that_cannot_be_halved_as_often_as_the_depth_is_refused(size, depth):
    for build in (FaceAutoencoder, lambda *shape, **more: MultiPersonAutoencoder(*shape, 3, **more)):
        with pytest.raises(ValueError, match=f"multiple of {2 ** depth} for a depth of {depth}, got {size}"):
            build(size, 4, False, depth=depth)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_shapes_of_all_presets(preset):
    model = FaceAutoencoder(preset.size, 4, preset.mask)  # small width to save time
    a, b = images(2, preset.size), images(3, preset.size)
    with nn.no_grad():
        generated_a, generated_b = model(a, b)
        latents = model.encoder.latents(nn.Tensor(a))
    channels = 4 if preset.mask else 3
    assert generated_a.shape == (2, preset.size, preset.size, channels)
    assert generated_b.shape == (3, preset.size, preset.size, channels)
    assert latents.shape == (2, 8 * 4)
    assert generated_a.dtype == np.float32 and 0 <= generated_a.data.min() and generated_a.data.max() <= 1


def test_parameter_names():
    parts = ["encoder.convs.0", "encoder.convs.1", "encoder.convs.2", "encoder.convs.3", "encoder.squeeze",
             "encoder.expand",
             "encoder.up.conv"]
    for side in "ab":
        parts += [f"decoder_{side}.ups.{k}.conv" for k in range(3)] + [f"decoder_{side}.out"]
    parts += ["occlusion.deepest.conv"] + [f"occlusion.skips.{k}" for k in range(3)] + [f"occlusion.ups.{k}.conv"
                                                                                        for k in range(3)]
    names = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert {name for name, _ in small().named_parameters()} == names


def test_color_statistics_are_in_the_state():
    model = small()
    assert {"colors_a", "colors_b"} == model.state_dict().keys() - dict(model.named_parameters()).keys()
    model.fit_colors(images(4, 32), np.ones((4, 32, 32, 1), np.float32), "b")
    other = small()
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.colors_b.numpy(), model.colors_b.numpy())
    np.testing.assert_array_equal(other.colors_a.numpy(), [[0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("side", ["a", "b"])
def test_fitted_colors_normalize_faces_to_mean_0_and_deviation_1(side):
    model, random = small(), np.random.default_rng(1)
    mask = (random.random((5, 32, 32, 1)) < 0.4).astype(np.float32)
    faces = random.normal((0.2, 0.5, 0.7), (0.05, 0.1, 0.2), (5, 32, 32, 3)).astype(np.float32)
    faces = np.where(mask > 0, faces, 9).astype(np.float32)  # pixels outside must not count
    model.fit_colors(faces, mask, side)
    mean, deviation = (model.colors_a if side == "a" else model.colors_b).numpy()
    inside = (faces[mask[..., 0] > 0] - mean) / deviation
    np.testing.assert_allclose(inside.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(inside.std(axis=0) * deviation / (deviation - 1e-3), 1,
                               rtol=1e-4)  # 1e-3 keeps flat faces finite


def test_each_person_is_normalized_by_their_own_colors():
    """The same face in each person's colors is the same to the encoder."""
    model, face = small(), images(1, 32)
    model.colors_a.data = np.array([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]], np.float32)
    model.colors_b.data = np.array([[0.4, 0.1, 0.2], [0.9, 0.8, 0.3]], np.float32)
    of_a, of_b = (face * c.numpy()[1] + c.numpy()[0] for c in (model.colors_a, model.colors_b))
    np.testing.assert_allclose(model.generate(of_a, "a", "b")[0], model.generate(of_b, "b", "b")[0], atol=1e-5)
    assert np.abs(model.generate(of_a, "a", "b")[0] - model.generate(of_a, "b", "b")[0]).max() > 1e-3


def test_generate_equals_forward():
    model, a, b = small(), images(2, 32), images(3, 32, seed=1)
    generated_a, generated_b = model(a, b)
    face, mask = model.generate(a, "a", "a")
    assert type(face) is np.ndarray and face.shape == (2, 32, 32, 3) and mask.shape == (2, 32, 32, 1)
    np.testing.assert_allclose(np.concatenate([face, mask], -1), generated_a.numpy(), atol=1e-6)
    np.testing.assert_allclose(model.generate(b, "b", "b")[0], generated_b.numpy()[..., :3], atol=1e-6)
    assert np.abs(model.generate(a, "a", "b")[0] - face).max() > 1e-3  # another decoder, another face


@pytest.mark.parametrize("side", ["a", "b"])
def test_mask_is_the_product_of_decoder_mask_and_visibility(side):
    """Both decoders' masks are multiplied by the visibility of the OcclusionBranch."""
    model, faces = small(), images(2, 32)
    with nn.no_grad():
        latents, features = model.encoder.encode(nn.Tensor(faces))
        decoder = model.decoder_a if side == "a" else model.decoder_b
        generated = decoder(model.encoder.expand_latents(latents)).numpy()
        visibility = model.occlusion(features).numpy()
    assert visibility.shape == (2, 32, 32,
                                1) and 0 < visibility.min() and visibility.max() < 1 and visibility.std() > 1e-4
    face, mask = model.generate(faces, "a", side)
    np.testing.assert_allclose(face, generated[..., :3], atol=1e-6)
    np.testing.assert_allclose(mask, generated[..., 3:] * visibility, atol=1e-6)


def test_visibility_has_the_resolution_of_the_image():
    """Through the first convolution, pixel (4, 4) of the image affects only pixels 0 to 9."""
    model, faces = small(), images(1, 32)
    moved = faces.copy()
    moved[0, 4, 4] = 1 - moved[0, 4, 4]
    with nn.no_grad():
        features, others = (model.encoder.encode(nn.Tensor(each))[1] for each in (faces, moved))
        change = np.abs(model.occlusion(features).numpy() - model.occlusion([*others[:1],
                                                                             *features[1:]]).numpy())[0, ..., 0]
    assert change[:10, :10].max() > 0
    change[:10, :10] = 0
    assert change.max() == 0


def test_generate_records_no_graph(monkeypatch):
    recording = []
    model = small()
    decode = type(model.decoder_b).forward
    monkeypatch.setattr(type(model.decoder_b), "forward", lambda self, x: recording.append(decode(self, x))
                        or recording[-1])
    model.generate(images(1, 32), "a", "b")
    assert not recording[0].requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_generate_without_masks():
    assert small(mask=False).generate(images(1, 32), "b", "a")[1] is None


@pytest.mark.parametrize("mask", [True, False])
def test_gradients_reach_every_parameter(mask):
    model = small(mask)
    generated_a, generated_b = model(images(2, 32), images(2, 32, seed=1))
    ((generated_a * generated_a).mean() + (generated_b * generated_b).mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and np.abs(parameter.grad).max() > 0, name


def test_one_side_has_no_gradient_in_the_other_sides_decoder():
    model = small()
    generated_a, _ = model(images(2, 32), images(2, 32, seed=1))
    generated_a.mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.decoder_b.parameters())


@pytest.mark.parametrize("size", [0, 8, 40])
def test_sizes_that_are_no_multiple_of_16_are_refused(size):
    with pytest.raises(ValueError, match=f"multiple of 16 for a depth of 4, got {size}"):
        FaceAutoencoder(size, 4, True)
