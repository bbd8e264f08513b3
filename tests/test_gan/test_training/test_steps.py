"""One step of each network: what it changes, what it does not, its gradient and its metrics."""
import math

import numpy as np
import pytest

import nn
import nn.functional as F
from gan import register
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.register import OBJECTIVES
from gan.training import losses, objectives
from gan.training.steps import (DiscriminatorBatch, accuracy, fake_batch, frozen, person_labels, real_batch,
    reconstruction_loss, train_autoencoder, train_discriminator, train_generator, with_noise)
from gan.training.trainer import DivergenceError, read_metrics
from tests.helpers.configs import new_config

CONFIG = new_config(batch=2, seed=4)
KINDS = pytest.mark.parametrize("kind, spectral", [("patch", False), ("patch", True), ("unet", False), ("unet", True)])


def model(seed=0, mask=True):
    nn.manual_seed(seed)
    return FaceAutoencoder(32, 4, mask, person_embedding=True)


def network(kind="patch", spectral=False):
    nn.manual_seed(1)
    return DISCRIMINATORS[kind](32, 4, spectral)


def adam(module, lr=2e-3):
    return nn.optim.Adam(module.parameters(), lr)


@pytest.fixture
def pair(faces):
    """A batch of A and one of B."""
    return faces.batches(CONFIG, 0, 1.0)


def bits(module):
    """Copies of all parameters and buffers."""
    return {name: tensor.data.copy() for name, tensor in module.named_tensors()}


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


def assert_all_changed(module, before):
    for name, parameter in module.named_parameters():
        assert not np.array_equal(parameter.data, before[name]), name


# The autoencoder

def test_one_step_changes_every_weight(pair):
    net = model()
    before = bits(net)
    train_autoencoder(net, adam(net), CONFIG, pair)
    assert_all_changed(net, before)


@pytest.mark.parametrize("mask", [True, False])
def test_steps_on_one_batch_lower_its_loss(pair, mask):
    net = model(mask=mask)
    optimizer = adam(net)
    found = [train_autoencoder(net, optimizer, CONFIG, pair) for _ in range(40)]
    terms = ["mae", "dssim", "mask"] if mask else ["mae", "dssim"]
    assert list(found[0]) == ["loss", *terms, "grad_norm"]
    assert found[-1]["loss"] < 0.6 * found[0]["loss"]
    assert all(found[-1][name] < found[0][name] for name in terms)


def test_grad_norm_is_the_norm_of_the_whole_gradient_before_the_step(pair):
    net = model()
    found = train_autoencoder(net, adam(net), CONFIG, pair)["grad_norm"]
    assert found == pytest.approx(np.sqrt(sum((p.grad ** 2).sum() for p in net.parameters())), rel=1e-5)
    assert found.dtype == np.float32


def test_losses_are_means_and_the_total_is_the_sum_over_people(pair):
    reconstructions = model().reconstruct(*pair)
    total, measured = reconstruction_loss(reconstructions, CONFIG.loss_weights)
    each = [losses.reconstruction(generated.numpy(), target, mask, CONFIG.loss_weights)
            for generated, target, mask in reconstructions]
    assert total.item() == pytest.approx(sum(float(one) for one, _ in each), rel=1e-6)
    assert list(measured) == ["loss", "mae", "dssim", "mask"]
    for name, got in measured.items():
        assert got == pytest.approx(np.mean([float(one if name == "loss" else terms[name]) for one, terms in each]),
                                    rel=1e-5)


def test_a_registered_term_is_measured_under_its_own_name_and_added_with_its_weight(pair, monkeypatch):
    reconstructions = model().reconstruct(*pair)
    total, expected = reconstruction_loss(reconstructions, CONFIG.loss_weights)
    monkeypatch.setitem(register.LOSSES, "edges", (lambda *given: nn.Tensor(np.float32(7.0)), 0.5))
    config = new_config()
    assert config.loss_weights == CONFIG.loss_weights | {"edges": 0.5}
    more, measured = reconstruction_loss(reconstructions, config.loss_weights)
    assert measured == expected | {"loss": measured["loss"], "edges": 7.0}
    assert measured["loss"] == pytest.approx(expected["loss"] + 3.5) and more.item() == pytest.approx(total.item() + 7)


def nan_in_input(net, pair):
    pair[1].warped[0, 3, 4, 1] = np.nan


def infinity_in_target(net, pair):
    pair[0].target[0, 3, 4, 1] = np.inf


def nan_in_weight(net, pair):
    net.decoder_b.out.weight.data[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("corrupt", [nan_in_input, infinity_in_target, nan_in_weight])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_loss_that_is_not_finite_is_noticed(pair, corrupt):
    net = model()
    corrupt(net, pair)
    row = {"step": 5} | train_autoencoder(net, adam(net), CONFIG, pair)
    with pytest.raises(DivergenceError, match="^loss is (nan|inf) at step 5$"):
        read_metrics([row])


@pytest.fixture
def overflowing(monkeypatch):
    """overflowing(parameter): each backward leaves an infinite gradient in it."""
    backward = nn.Tensor.backward

    def arrange(parameter):
        def infinite(self, *arguments, **options):
            backward(self, *arguments, **options)
            parameter.grad[0] = np.inf

        monkeypatch.setattr(nn.Tensor, "backward", infinite)
    return arrange


@pytest.mark.parametrize("step", ["autoencoder", "generator", "discriminator"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_gradient_that_is_not_finite_is_noticed(pair, overflowing, step):
    """The loss is finite, but its gradient is not."""
    net, critic = model(), network()
    overflowing((critic.score if step == "discriminator" else net.decoder_a.out).bias)
    reconstructions = net.reconstruct(*pair)
    if step == "autoencoder":
        row = train_autoencoder(net, adam(net), CONFIG, pair)
    elif step == "generator":
        row = train_generator(net, adam(net), CONFIG, reconstructions, critic, 0.1)
    else:
        row = train_discriminator(critic, adam(critic), CONFIG, real_batch(*pair), fake_batch(reconstructions), 0)
    name = "discriminator_grad_norm" if step == "discriminator" else "grad_norm"
    with pytest.raises(DivergenceError, match=f"^{name} is inf at step 7$"):
        read_metrics([{"step": 7} | row])


# The generator's step: the autoencoder against a frozen discriminator

@KINDS
def test_generator_step_leaves_the_discriminator_bit_for_bit(pair, kind, spectral):
    net, critic = model(), network(kind, spectral)
    before, critic_before = bits(net), bits(critic)
    train_generator(net, adam(net), CONFIG, net.reconstruct(*pair), critic, 0.5)
    assert_same(critic_before, bits(critic))
    assert all(tensor.grad is None for _, tensor in critic.named_tensors())
    assert all(module.training for module in critic.modules())
    assert_all_changed(net, before)


def test_frozen_restores_the_mode_after_an_error():
    critic = network(spectral=True)
    with pytest.raises(KeyError), frozen(critic):
        assert not any(module.training for module in critic.modules())
        raise KeyError
    assert all(module.training for module in critic.modules())
    with frozen(critic.eval()):
        pass
    assert not any(module.training for module in critic.modules())


def plain_loss(net, critic, pair, objective, weight):
    """Return the generator's whole loss as one expression, with one graph through both networks."""
    generated = net(pair[0].warped, pair[1].warped)
    terms = [losses.reconstruction(each, batch.target, batch.mask, CONFIG.loss_weights)[0]
             for each, batch in zip(generated, pair)]
    shown = F.concatenate([each[..., :3] for each in generated])
    person = np.array([-1] * len(generated[0]) + [1] * len(generated[1]), np.float32)
    maps = critic(shown, np.concatenate([pair[0].mask, pair[1].mask]), person)
    return terms[0] + terms[1] + weight * objectives.generator_loss(OBJECTIVES[objective], maps)


@KINDS
@pytest.mark.parametrize("objective", ["non-saturating", "hinge"])
def test_generator_gradient_uses_the_updated_discriminator(pair, kind, spectral, objective):
    """Compare with one plain backward through both networks.

    With the weights from before the discriminator's step the gradient is different.
    """
    net, critic, config = model(), network(kind, spectral), new_config(objective=objective)

    def plain_gradients():
        critic.eval()
        for parameter in net.parameters():
            parameter.grad = None
        plain_loss(net, critic, pair, objective, 3.0).backward()
        critic.train()
        return {name: p.grad.copy() for name, p in net.named_parameters()}

    earlier = plain_gradients()
    reconstructions = net.reconstruct(*pair)
    train_discriminator(critic, adam(critic, 0.02), config, real_batch(*pair), fake_batch(reconstructions), 0)
    expected = plain_gradients()
    train_generator(net, nn.optim.SGD(net.parameters(), 0.0), config, reconstructions, critic, 3.0)
    for name, parameter in net.named_parameters():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(parameter.grad, expected[name], rtol=1e-3, atol=1e-4 * scale, err_msg=name)
    assert any(np.abs(earlier[name] - expected[name]).max() > 0.05 * np.abs(expected[name]).max() for name in expected)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_generator_gradient_by_finite_differences(pair, kind):
    net, critic = model(), network(kind)
    for tensor in (*dict(net.named_tensors()).values(), *dict(critic.named_tensors()).values()):
        tensor.data = tensor.data.astype(np.float64)
    pair = [type(batch)(*(array.astype(np.float64) for array in batch)) for batch in pair]
    train_generator(net, nn.optim.SGD(net.parameters(), 0.0), CONFIG, net.reconstruct(*pair), critic, 3.0)
    random, step = np.random.default_rng(0), 1e-6
    for name in ("encoder.convs.0.weight", "encoder.squeeze.weight", "person_embedding_b",
                 "decoder_a.ups.1.conv.weight",
                 "decoder_b.out.weight"):
        parameter = dict(net.named_parameters())[name]
        start, direction = parameter.data, random.standard_normal(parameter.shape)
        values = []
        for sign in (1, -1):
            parameter.data = start + sign * step * direction
            with nn.no_grad():
                values.append(plain_loss(net, critic, pair, CONFIG.objective, 3.0).item())
        parameter.data = start
        gradient = (values[0] - values[1]) / (2 * step)
        assert (parameter.grad * direction).sum() == pytest.approx(gradient, rel=1e-4, abs=1e-6), name


def test_generator_step_with_weight_0_is_the_autoencoder_step_bit_for_bit(pair):
    alone, against, critic = model(), model(), network()
    first, second = adam(alone), adam(against)
    for _ in range(3):
        expected = train_autoencoder(alone, first, CONFIG, pair)
        both = train_generator(against, second, CONFIG, against.reconstruct(*pair), critic, 0.0)
        assert {name: both[name] for name in expected} == expected
    assert_same(bits(alone), bits(against))


def test_generated_faces_are_concatenated_once(pair, monkeypatch):
    """The discriminator gets the array that the graph continues from."""
    net, critic, concatenated, seen = model(), network(), [], []
    reconstructions, concatenate, forward = net.reconstruct(*pair), F.concatenate, type(critic).forward
    monkeypatch.setattr(F, "concatenate", lambda *arguments: concatenated.append(concatenate(*arguments))
                        or concatenated[-1])
    monkeypatch.setattr(type(critic), "forward", lambda self, faces, *rest: seen.append(faces)
                        or forward(self, faces, *rest))
    train_generator(net, adam(net), CONFIG, reconstructions, critic, 0.5)
    assert len(seen) == 1 and any(seen[0].data is each.data for each in concatenated)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_fake_grad_norm_is_the_mean_of_single_faces(pair, kind):
    net, critic = model(), network(kind)
    reconstructions = net.reconstruct(*pair)
    found = train_generator(net, adam(net), CONFIG, reconstructions, critic, 0.5)
    norms, values = [], []
    for (generated, _, masks), person in zip(reconstructions, (-1.0, 1.0)):
        for face, mask in zip(generated.numpy()[..., :3], masks):
            seen = nn.Tensor(face[None], requires_grad=True)
            value = F.mean(sum(F.mean(F.softplus(-scores))
                               for scores in critic(seen, mask[None], np.float32([person]))))
            (gradient,) = nn.grad(value, [seen])
            maps = 2 if kind == "unet" else 1
            norms.append(np.linalg.norm(gradient.numpy()) / maps)
            values.append(value.item() / maps)
    assert found["fake_grad_norm"] == pytest.approx(np.mean(norms), rel=1e-4)
    assert found["adversarial_loss"] == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_discriminator_that_is_not_finite_is_noticed(pair):
    net, critic = model(), network()
    critic.score.weight.data[0, 0, 0, 0] = np.nan
    row = train_generator(net, adam(net), CONFIG, net.reconstruct(*pair), critic, 0.5)
    with pytest.raises(DivergenceError, match="^adversarial_loss is nan at step 3$"):
        read_metrics([{"step": 3} | row])


# The discriminator's step

def players(pair):
    """Return a model, its reconstructions with their graph, a real batch and a fake batch."""
    net = model()
    reconstructions = net.reconstruct(*pair)
    return net, reconstructions, real_batch(*pair), fake_batch(reconstructions)


@KINDS
def test_discriminator_step_leaves_the_autoencoder_bit_for_bit(pair, kind, spectral, monkeypatch):
    net, reconstructions, real, fake = players(pair)
    critic = network(kind, spectral)
    before, critic_before = bits(net), bits(critic)
    backward, dependent = nn.Tensor.backward, []

    def watched(loss, *arguments, **options):
        paths = nn.grad(loss, net.parameters() + critic.parameters(), retain_graph=True, allow_unused=True)
        dependent.extend(path is not None for path in paths)
        backward(loss, *arguments, **options)

    monkeypatch.setattr(nn.Tensor, "backward", watched)
    train_discriminator(critic, adam(critic), CONFIG, real, fake, 0)
    assert dependent == [False] * len(net.parameters()) + [True] * len(critic.parameters())
    assert_same(before, bits(net))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert_all_changed(critic, critic_before)
    assert type(fake.faces) is np.ndarray and all(generated.requires_grad for generated, _, _ in reconstructions)


def test_person_labels_masks_and_faces_of_the_batches(pair):
    _, reconstructions, real, fake = players(pair)
    for shown in (real, fake):
        assert shown.person.tolist() == [-1, -1, 1, 1] and shown.person.dtype == np.float32
        np.testing.assert_array_equal(shown.mask, np.concatenate([batch.mask for batch in pair]))
    np.testing.assert_array_equal(real.faces, np.concatenate([batch.target for batch in pair]))
    np.testing.assert_array_equal(fake.faces,
                                  np.concatenate([generated.numpy()[..., :3] for generated, _, _ in reconstructions]))
    assert person_labels(1, 3).tolist() == [-1, 1, 1, 1]


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_discriminator_metrics_are_measured_before_the_step(pair, kind):
    _, _, real, fake = players(pair)
    critic = network(kind)

    def means(shown):
        """Return the mean over maps of each face's mask-weighted mean score, by the definition."""
        found = []
        with nn.no_grad():
            for scores in critic(*shown):
                scores, side = scores.numpy()[..., 0], scores.shape[1]
                weight = shown.mask[..., 0].reshape(4, side, 32 // side, side, 32 // side).mean(axis=(2, 4))
                found.append((scores * weight).sum(axis=(1, 2)) / weight.sum(axis=(1, 2)))
        return np.mean(found, axis=0)

    real_scores, fake_scores = means(real), means(fake)
    found = train_discriminator(critic, adam(critic), CONFIG, real, fake, 0)
    assert found["score_real"] == pytest.approx(real_scores.mean(), rel=1e-4)
    assert found["score_fake"] == pytest.approx(fake_scores.mean(), rel=1e-4)
    assert found["accuracy"] == ((real_scores > 0).sum() + (fake_scores <= 0).sum()) / 8
    assert found["discriminator_grad_norm"] == pytest.approx(np.sqrt(sum((p.grad ** 2).sum()
                                                                      for p in critic.parameters())), rel=1e-5)


def test_accuracy_by_hand():
    real, fake = np.float32([1.0, 3.0, -1.0, 2.0]), np.float32([-2.0, 0.5])
    assert accuracy(real, fake, 0.0) == (3 / 4 + 1 / 2) / 2
    assert accuracy(real, fake, 0.5) == (3 / 4 + 1) / 2  # a score at the threshold is not above it
    assert accuracy(real, fake) == (3 / 4 + 1 / 2) / 2  # halfway between 1.25 and -0.75 is 0.25
    assert accuracy(real + 100, fake + 100) == (3 / 4 + 1 / 2) / 2
    assert accuracy(np.float32([0.5, 1.0]), fake, 0.5) == (1 / 2 + 1) / 2  # nor is a real one
    assert accuracy(np.float32([4, 0]), np.float32([-2, 1])) == 1 / 2  # halfway between 2 and -0.5 is 0.75
    assert accuracy(real, fake).dtype == np.float32


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_trains(pair, name, kind):
    net, critic, config = model(), network(kind), new_config(seed=4, objective=name)
    optimizers = adam(net), adam(critic)
    for k in range(2):
        before, critic_before = bits(net), bits(critic)
        reconstructions = net.reconstruct(*pair)
        found = train_discriminator(critic, optimizers[1], config, real_batch(*pair), fake_batch(reconstructions), k)
        found |= train_generator(net, optimizers[0], config, reconstructions, critic, 0.1)
        assert_all_changed(net, before)
        for layer, parameter in critic.named_parameters():  # the score's bias cancels in a critic's difference of means
            assert layer.endswith("bias") or not np.array_equal(parameter.data, critic_before[layer]), layer
        assert all(math.isfinite(found[each]) for each in ("discriminator_loss", "discriminator_grad_norm", "loss",
                                                           "adversarial_loss", "fake_grad_norm", "grad_norm"))
        assert found["fake_grad_norm"] > 0 and 0 <= found["accuracy"] <= 1
        assert ("penalty" in found) == (name == "wasserstein-gp")
        largest = max(np.abs(p.data).max() for p in critic.parameters())
        assert largest <= 0.01 if name == "wasserstein-clip" else largest > 0.01


def test_discriminator_learns_to_classify_faces(pair):
    _, _, real, fake = players(pair)
    critic = network()
    optimizer = adam(critic)
    found = [train_discriminator(critic, optimizer, CONFIG, real, fake, k) for k in range(40)]
    assert found[-1]["discriminator_loss"] < 0.5 * found[0]["discriminator_loss"] and found[-1]["accuracy"] == 1
    assert found[-1]["score_real"] > 0 > found[-1]["score_fake"]


def gradient_norms(critic, faces, shown):
    """Return the norm of each score's gradient by its face; a score is the sum of map means."""
    norms = []
    for k in range(len(faces)):
        face = nn.Tensor(faces[k:k + 1], requires_grad=True)
        score = sum(F.mean(scores) for scores in critic(face, shown.mask[k:k + 1], shown.person[k:k + 1]))
        norms.append(float(np.linalg.norm(nn.grad(score, [face])[0].numpy())))
    return np.array(norms)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_r1_is_computed_every_few_steps_and_weighted_up(pair, kind):
    _, _, real, fake = players(pair)
    critic, config = network(kind), new_config(r1=0.7, r1_every=3)
    optimizer = adam(critic)
    for k in range(5):
        expected = 0.7 / 2 * 3 * (gradient_norms(critic, real.faces, real) ** 2).mean()
        without = objectives.discriminator_loss(OBJECTIVES["non-saturating"], critic(*real), critic(*fake)).item()
        found = train_discriminator(critic, optimizer, config, real, fake, k)
        if k % 3:
            assert "penalty" not in found and found["discriminator_loss"] == pytest.approx(without, rel=1e-4)
        else:
            assert found["penalty"] == pytest.approx(expected, rel=1e-3)
            assert found["discriminator_loss"] == pytest.approx(without + expected, rel=1e-4)


def test_gradient_penalty_is_computed_between_real_and_fake(pair, monkeypatch):
    """The critic also gets random mixes of real and fake faces, new ones in each step."""
    _, _, real, fake = players(pair)
    critic, config = network(), new_config(objective="wasserstein-gp", seed=4)
    shown, mixes = [], []
    forward = type(critic).forward
    monkeypatch.setattr(type(critic), "forward", lambda self, faces, *rest: shown.append(faces)
                        or forward(self, faces, *rest))
    for k in range(2):
        shown.clear()
        before = bits(critic)
        found = train_discriminator(critic, adam(critic), config, real, fake, k)
        between = shown[1].numpy()
        difference = real.faces - fake.faces
        mix = ((between - fake.faces) * difference).sum((1, 2, 3)) / (difference ** 2).sum((1, 2, 3))
        assert np.all((mix >= 0) & (mix <= 1)) and len(set(mix.tolist())) == 4
        mix = mix[:, None, None, None]
        np.testing.assert_allclose(between, mix * real.faces + (1 - mix) * fake.faces, atol=1e-5)
        mixes.append(mix)
        critic.load_state_dict(before)
        expected = 10 * ((gradient_norms(critic, between, real) - 1) ** 2).mean()
        assert found["penalty"] == pytest.approx(expected, rel=1e-3)
    assert not np.allclose(*mixes)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_faces_that_are_not_finite_are_noticed(pair):
    _, _, real, fake = players(pair)
    critic = network()
    real.faces[0, 16, 16, 0] = np.nan
    row = train_discriminator(critic, adam(critic), CONFIG, real, fake, 0)
    with pytest.raises(DivergenceError, match="^discriminator_loss is nan at step 3$"):
        read_metrics([{"step": 3} | row])


def test_instance_noise_depends_only_on_seed_part_and_step():
    shown = DiscriminatorBatch(np.full((64, 32, 32, 3), 0.5, np.float32), np.ones((64, 32, 32, 1), np.float32),
                               person_labels(32, 32))
    assert with_noise(shown, 0, 4, 7, 0) is shown
    first = with_noise(shown, 0.2, 4, 7, 0).faces
    np.testing.assert_array_equal(first, with_noise(shown, 0.2, 4, 7, 0).faces)
    for other in (with_noise(shown, 0.2, 5, 7, 0), with_noise(shown, 0.2, 4, 8, 0), with_noise(shown, 0.2, 4, 7, 1)):
        assert abs(np.corrcoef((first - 0.5).ravel(), (other.faces - 0.5).ravel())[0, 1]) < 0.02
        assert other.mask is shown.mask and other.person is shown.person
    assert first.mean() == pytest.approx(0.5, abs=0.005) and first.std() == pytest.approx(0.2, rel=0.02)
    assert (shown.faces == 0.5).all() and first.dtype == np.float32
