"""The network: its shapes, its size by the published table, its names, and that every part of it learns."""
import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.presets import PRESETS


def conv(i, o, kernel):
    return kernel * kernel * i * o + o


def published_count(size, width):
    """Parameters of faceswap's Original at a width, without masks, layer by layer as published."""
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


def pictures(n, size, seed=0):
    return np.random.default_rng(seed).random((n, size, size, 3), dtype=np.float32)


def test_classic_has_the_published_number_of_parameters():
    classic = PRESETS["classic"]
    assert count(FaceAutoencoder(classic.size, 32, classic.mask)) == 5_137_190 == published_count(64, 32)
    assert (classic.size, classic.width, classic.mask) == (64, 128, False)
    assert published_count(classic.size, classic.width) == 82_062_470


@pytest.mark.parametrize("size, width", [(16, 2), (32, 4), (48, 6)])
def test_the_count_follows_the_table_at_any_size(size, width):
    assert count(FaceAutoencoder(size, width, False)) == published_count(size, width)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_shapes_of_all_presets(preset):
    model = FaceAutoencoder(preset.size, 4, preset.mask)  # the width is a parameter of its own and costs time
    a, b = pictures(2, preset.size), pictures(3, preset.size)
    with nn.no_grad():
        drawn_a, drawn_b = model(a, b)
        code = model.encoder.code(nn.Tensor(a))
    channels = 4 if preset.mask else 3
    assert drawn_a.shape == (2, preset.size, preset.size, channels)
    assert drawn_b.shape == (3, preset.size, preset.size, channels)
    assert code.shape == (2, 8 * 4)
    assert drawn_a.dtype == np.float32 and 0 <= drawn_a.data.min() and drawn_a.data.max() <= 1


def test_parameter_names():
    parts = ["encoder.convs.0", "encoder.convs.1", "encoder.convs.2", "encoder.convs.3", "encoder.squeeze", "encoder.expand",
             "encoder.up.conv"]
    for side in "ab":
        parts += [f"decoder_{side}.ups.{k}.conv" for k in range(3)] + [f"decoder_{side}.out"]
    parts += ["sight.deepest.conv"] + [f"sight.beside.{k}" for k in range(3)] + [f"sight.ups.{k}.conv" for k in range(3)]
    names = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert {name for name, _ in small().named_parameters()} == names


def test_the_colours_of_each_person_are_in_the_state():
    model = small()
    assert {"colours_a", "colours_b"} == model.state_dict().keys() - dict(model.named_parameters()).keys()
    model.learn_colours(pictures(4, 32), np.ones((4, 32, 32, 1), np.float32), "b")
    other = small()
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.colours_b.numpy(), model.colours_b.numpy())
    np.testing.assert_array_equal(other.colours_a.numpy(), [[0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("side", ["a", "b"])
def test_learned_colours_bring_a_face_to_mean_0_and_spread_1_within_its_mask(side):
    model, random = small(), np.random.default_rng(1)
    mask = (random.random((5, 32, 32, 1)) < 0.4).astype(np.float32)
    faces = random.normal((0.2, 0.5, 0.7), (0.05, 0.1, 0.2), (5, 32, 32, 3)).astype(np.float32)
    faces = np.where(mask > 0, faces, 9).astype(np.float32)  # what lies outside must not count
    model.learn_colours(faces, mask, side)
    mean, spread = (model.colours_a if side == "a" else model.colours_b).numpy()
    inside = (faces[mask[..., 0] > 0] - mean) / spread
    np.testing.assert_allclose(inside.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(inside.std(axis=0) * spread / (spread - 1e-3), 1, rtol=1e-4)  # 1e-3 keeps flat faces finite


def test_each_person_is_normalised_by_their_own_colours():
    """The same face, each person's colours on it, looks the same to the encoder."""
    model, face = small(), pictures(1, 32)
    model.colours_a.data = np.array([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]], np.float32)
    model.colours_b.data = np.array([[0.4, 0.1, 0.2], [0.9, 0.8, 0.3]], np.float32)
    of_a, of_b = (face * c.numpy()[1] + c.numpy()[0] for c in (model.colours_a, model.colours_b))
    np.testing.assert_allclose(model.draw(of_a, "a", "b")[0], model.draw(of_b, "b", "b")[0], atol=1e-5)
    assert np.abs(model.draw(of_a, "a", "b")[0] - model.draw(of_a, "b", "b")[0]).max() > 1e-3


def test_draw_is_forward_without_a_graph():
    model, a, b = small(), pictures(2, 32), pictures(3, 32, seed=1)
    drawn_a, drawn_b = model(a, b)
    face, mask = model.draw(a, "a", "a")
    assert type(face) is np.ndarray and face.shape == (2, 32, 32, 3) and mask.shape == (2, 32, 32, 1)
    np.testing.assert_allclose(np.concatenate([face, mask], -1), drawn_a.numpy(), atol=1e-6)
    np.testing.assert_allclose(model.draw(b, "b", "b")[0], drawn_b.numpy()[..., :3], atol=1e-6)
    assert np.abs(model.draw(a, "a", "b")[0] - face).max() > 1e-3  # another decoder, another face


@pytest.mark.parametrize("side", ["a", "b"])
def test_the_mask_is_the_decoders_where_the_face_is_seen(side):
    """One mask for both people's decoders is left out where Sight says that something hides the face: a product."""
    model, faces = small(), pictures(2, 32)
    with nn.no_grad():
        code, features = model.encoder.read(nn.Tensor(faces))
        decoder = model.decoder_a if side == "a" else model.decoder_b
        drawn, seen = decoder(model.encoder.unfold(code)).numpy(), model.sight(features).numpy()
    assert seen.shape == (2, 32, 32, 1) and 0 < seen.min() and seen.max() < 1 and seen.std() > 1e-4
    face, mask = model.draw(faces, "a", side)
    np.testing.assert_allclose(face, drawn[..., :3], atol=1e-6)
    np.testing.assert_allclose(mask, drawn[..., 3:] * seen, atol=1e-6)


def test_sight_is_as_sharp_as_the_picture():
    """What the first convolution sees at pixel (4, 4), half of the pixels from 2 to 7, is told to pixels 0 to 9."""
    model, faces = small(), pictures(1, 32)
    moved = faces.copy()
    moved[0, 4, 4] = 1 - moved[0, 4, 4]
    with nn.no_grad():
        features, others = (model.encoder.read(nn.Tensor(each))[1] for each in (faces, moved))
        change = np.abs(model.sight(features).numpy() - model.sight([*others[:1], *features[1:]]).numpy())[0, ..., 0]
    assert change[:10, :10].max() > 0
    change[:10, :10] = 0
    assert change.max() == 0


def test_draw_records_nothing(monkeypatch):
    recording = []
    model = small()
    decode = type(model.decoder_b).forward
    monkeypatch.setattr(type(model.decoder_b), "forward", lambda self, x: recording.append(decode(self, x)) or recording[-1])
    model.draw(pictures(1, 32), "a", "b")
    assert not recording[0].requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_draw_without_masks():
    assert small(mask=False).draw(pictures(1, 32), "b", "a")[1] is None


@pytest.mark.parametrize("mask", [True, False])
def test_gradients_reach_every_parameter(mask):
    model = small(mask)
    drawn_a, drawn_b = model(pictures(2, 32), pictures(2, 32, seed=1))
    ((drawn_a * drawn_a).mean() + (drawn_b * drawn_b).mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and np.abs(parameter.grad).max() > 0, name


def test_a_side_does_not_move_the_other_sides_decoder():
    model = small()
    drawn_a, _ = model(pictures(2, 32), pictures(2, 32, seed=1))
    drawn_a.mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.decoder_b.parameters())


@pytest.mark.parametrize("size", [0, 8, 40])
def test_sizes_that_cannot_be_halved_four_times_are_refused(size):
    with pytest.raises(ValueError, match=f"multiple of 16, got {size}"):
        FaceAutoencoder(size, 4, True)
