"""One step of each network: what it changes, what it does not, its gradient and its schedules."""
import math
from typing import NamedTuple

import numpy as np
import pytest

import nn
import nn.functional as F
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.training import losses
from gan.training.deferred import NotFiniteError
from gan.training.losses import OBJECTIVES
from gan.training.schedule import StagePosition
from gan.training.steps import (WARMUP_STEPS, DiscriminatorBatch, Hyperparameters, count_correct, fake_batch, frozen,
    learning_rate, person_labels, real_batch, reconstruction, train_autoencoder, train_discriminator, train_generator,
    warp_strength, with_noise)

HPARAMS = Hyperparameters(batch=2, learning_rate=2e-3, seed=4)
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
    return faces.batches(HPARAMS, 0, 1.0)


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


# Schedules

def test_learning_rate_warms_up_stays_and_decays_to_0():
    total = 10 * WARMUP_STEPS
    lrs = [learning_rate(3.0, step, step / total) for step in range(total)]
    np.testing.assert_allclose(lrs[:WARMUP_STEPS], [3.0 * (k + 1) / WARMUP_STEPS for k in range(WARMUP_STEPS)])
    assert set(lrs[WARMUP_STEPS:total // 2]) == {3.0}
    later = [3.0 * (1 + math.cos(math.pi * (2 * k / total - 1))) / 2 for k in range(total // 2, total)]
    np.testing.assert_allclose(lrs[total // 2:], later)
    assert np.all(np.diff(lrs[total // 2:]) <= 0) and learning_rate(3.0, total, 1.0) == pytest.approx(0, abs=1e-12)
    assert learning_rate(3.0, 10_000, 0.75) == pytest.approx(1.5)  # halfway down


def test_first_half_of_the_learning_rate_does_not_depend_on_the_length():
    for step in range(200):
        assert learning_rate(1.0, step, step / 400) == learning_rate(1.0, step,
                                                                     step / 100_000) == learning_rate(1.0, step, 0)


def test_warp_fades_out_in_the_second_half_of_the_first_stage():
    positions = [StagePosition(0, "autoencoder", step, 8) for step in range(9)]
    assert [warp_strength(HPARAMS, position) for position in positions] == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert warp_strength(HPARAMS, StagePosition(0, "autoencoder", 7, None)) == 1
    assert warp_strength(Hyperparameters(warp=0.4), StagePosition(0, "autoencoder", 6, 8)) == pytest.approx(0.2)


@pytest.mark.parametrize("stage", ["discriminator", "adversarial"])
def test_later_stages_have_no_warp(stage):
    assert warp_strength(HPARAMS, StagePosition(1, stage, 0, 8)) == 0
    assert warp_strength(Hyperparameters(fading_warp=False), StagePosition(1, stage, 7, 8)) == 1


# The autoencoder

def test_one_step_changes_every_weight(pair):
    net = model()
    before = bits(net)
    train_autoencoder(net, adam(net), pair)
    assert_all_changed(net, before)


@pytest.mark.parametrize("mask", [True, False])
def test_steps_on_one_batch_lower_its_loss(pair, mask):
    net = model(mask=mask)
    optimizer = adam(net)
    losses = [train_autoencoder(net, optimizer, pair) for _ in range(40)]
    assert losses[-1].loss < 0.6 * losses[0].loss
    assert all(losses[-1].terms[name] < losses[0].terms[name] for name in ("mae", "dssim"))
    assert losses[-1].terms["mask"] < losses[0].terms["mask"] if mask else losses[0].terms["mask"] == 0
    assert losses[0].adversarial_loss is None


def test_losses_are_means_and_the_total_is_the_sum_over_people(pair):
    reconstructions = model().reconstruct(*pair)
    total, measured = reconstruction(reconstructions)
    each = [losses.reconstruction(generated.numpy(), target, mask) for generated, target, mask in reconstructions]
    assert total.item() == pytest.approx(sum(float(one.total) for one in each), rel=1e-6)
    assert list(measured.terms) == ["mae", "dssim", "mask"]
    for name, got in {"total": measured.loss, **measured.terms}.items():
        assert got == pytest.approx(np.mean([float(getattr(one, name)) for one in each]), rel=1e-5)


class WithEdges(NamedTuple):
    """A reconstruction loss with one more term, in the midst of the others."""

    total: nn.Tensor
    mae: nn.Tensor
    edges: nn.Tensor
    dssim: nn.Tensor
    mask: nn.Tensor


def test_a_further_term_of_the_loss_is_measured_under_its_own_name(pair, monkeypatch):
    usual, reconstructions = losses.reconstruction, model().reconstruct(*pair)
    expected = reconstruction(reconstructions)[1].terms
    monkeypatch.setattr(losses, "reconstruction",
                        lambda *given: WithEdges(edges=nn.Tensor(7.0), **usual(*given)._asdict()))
    assert reconstruction(reconstructions)[1].terms == expected | {"edges": 7.0}


def nan_in_input(net, pair):
    pair[1].warped[0, 3, 4, 1] = np.nan


def infinity_in_target(net, pair):
    pair[0].target[0, 3, 4, 1] = np.inf


def nan_in_weight(net, pair):
    net.decoder_b.out.weight.data[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("corrupt", [nan_in_input, infinity_in_target, nan_in_weight])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_loss_that_is_not_finite_changes_no_weight(pair, corrupt):
    net = model()
    optimizer = adam(net)
    corrupt(net, pair)
    before, optimizer_state = bits(net), optimizer.state_dict()
    with pytest.raises(NotFiniteError, match="the loss is (nan|inf)"):
        train_autoencoder(net, optimizer, pair)
    assert_same(before, bits(net))
    assert_same(optimizer_state, optimizer.state_dict())


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
def test_a_gradient_that_is_not_finite_changes_no_weight(pair, overflowing, step):
    """The loss is finite, but its gradient is not."""
    net, critic = model(), network()
    overflowing((critic.score if step == "discriminator" else net.decoder_a.out).bias)
    before, critic_before, reconstructions = bits(net), bits(critic), net.reconstruct(*pair)
    with pytest.raises(NotFiniteError, match="gradient"):
        if step == "autoencoder":
            train_autoencoder(net, adam(net), pair)
        elif step == "generator":
            train_generator(net, adam(net), HPARAMS, reconstructions, critic, 0.1)
        else:
            train_discriminator(critic, adam(critic), HPARAMS, real_batch(*pair), fake_batch(reconstructions), 0)
    assert_same(before, bits(net))
    assert_same(critic_before, bits(critic))


# The generator's step: the autoencoder against a frozen discriminator

@KINDS
def test_generator_step_leaves_the_discriminator_bit_for_bit(pair, kind, spectral):
    net, critic = model(), network(kind, spectral)
    before, critic_before = bits(net), bits(critic)
    train_generator(net, adam(net), HPARAMS, net.reconstruct(*pair), critic, 0.5)
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
    terms = [losses.reconstruction(each, batch.target, batch.mask).total for each, batch in zip(generated, pair)]
    shown = F.concatenate([each[..., :3] for each in generated])
    person = np.array([-1] * len(generated[0]) + [1] * len(generated[1]), np.float32)
    maps = critic(shown, np.concatenate([pair[0].mask, pair[1].mask]), person)
    return terms[0] + terms[1] + weight * OBJECTIVES[objective].generator(maps)


@KINDS
@pytest.mark.parametrize("objective", ["non-saturating", "hinge"])
def test_generator_gradient_uses_the_updated_discriminator(pair, kind, spectral, objective):
    """Compare with one plain backward through both networks.

    With the weights from before the discriminator's step the gradient is different.
    """
    net, critic, hparams = model(), network(kind, spectral), Hyperparameters(objective=objective)

    def plain_gradients():
        critic.eval()
        for parameter in net.parameters():
            parameter.grad = None
        plain_loss(net, critic, pair, objective, 3.0).backward()
        critic.train()
        return {name: p.grad.copy() for name, p in net.named_parameters()}

    earlier = plain_gradients()
    reconstructions = net.reconstruct(*pair)
    train_discriminator(critic, adam(critic, 0.02), hparams, real_batch(*pair), fake_batch(reconstructions), 0)
    expected = plain_gradients()
    train_generator(net, nn.optim.SGD(net.parameters(), 0.0), hparams, reconstructions, critic, 3.0)
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
    train_generator(net, nn.optim.SGD(net.parameters(), 0.0), HPARAMS, net.reconstruct(*pair), critic, 3.0)
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
                values.append(plain_loss(net, critic, pair, HPARAMS.objective, 3.0).item())
        parameter.data = start
        gradient = (values[0] - values[1]) / (2 * step)
        assert (parameter.grad * direction).sum() == pytest.approx(gradient, rel=1e-4, abs=1e-6), name


def test_generator_step_with_weight_0_is_the_autoencoder_step_bit_for_bit(pair):
    alone, against, critic = model(), model(), network()
    first, second = adam(alone), adam(against)
    for _ in range(3):
        losses = train_autoencoder(alone, first, pair)
        both, _ = train_generator(against, second, HPARAMS, against.reconstruct(*pair), critic, 0.0)
        assert (both.loss, both.terms) == (losses.loss, losses.terms)
    assert_same(bits(alone), bits(against))


def test_generated_faces_are_concatenated_once(pair, monkeypatch):
    """The discriminator gets the array that the graph continues from."""
    net, critic, concatenated, seen = model(), network(), [], []
    reconstructions, concatenate, forward = net.reconstruct(*pair), F.concatenate, type(critic).forward
    monkeypatch.setattr(F, "concatenate", lambda *arguments: concatenated.append(concatenate(*arguments))
                        or concatenated[-1])
    monkeypatch.setattr(type(critic), "forward", lambda self, faces, *rest: seen.append(faces)
                        or forward(self, faces, *rest))
    train_generator(net, adam(net), HPARAMS, reconstructions, critic, 0.5)
    assert len(seen) == 1 and any(seen[0].data is each.data for each in concatenated)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_fake_grad_norm_is_the_mean_of_single_faces(pair, kind):
    net, critic = model(), network(kind)
    reconstructions = net.reconstruct(*pair)
    losses, fake_grad_norm = train_generator(net, adam(net), HPARAMS, reconstructions, critic, 0.5)
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
    assert fake_grad_norm == pytest.approx(np.mean(norms), rel=1e-4)
    assert losses.adversarial_loss == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_discriminator_that_is_not_finite_changes_no_weight(pair):
    net, critic = model(), network()
    critic.score.weight.data[0, 0, 0, 0] = np.nan
    before = bits(net)
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        train_generator(net, adam(net), HPARAMS, net.reconstruct(*pair), critic, 0.5)
    assert_same(before, bits(net))


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
    train_discriminator(critic, adam(critic), HPARAMS, real, fake, 0)
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
    found = train_discriminator(critic, adam(critic), HPARAMS, real, fake, 0)
    assert found.score_real == pytest.approx(real_scores.mean(), rel=1e-4)
    assert found.score_fake == pytest.approx(fake_scores.mean(), rel=1e-4)
    assert found.accuracy == ((real_scores > 0).sum() + (fake_scores <= 0).sum()) / 8
    assert found.discriminator_grad_norm == pytest.approx(np.sqrt(sum((p.grad ** 2).sum()
                                                                      for p in critic.parameters())), rel=1e-5)


def test_count_correct_by_hand():
    real, fake = np.array([1.0, 3.0, -1.0, 2.0]), np.array([-2.0, 0.5])
    assert count_correct(real, fake, 0.0) == (3, 1)
    assert count_correct(real, fake, 0.5) == (3, 2)  # a score at the threshold is not above it
    assert count_correct(real, fake) == (3, 1)  # halfway between 1.25 and -0.75 is 0.25
    assert count_correct(real + 100, fake + 100) == (3, 1)
    assert count_correct(np.array([0.5, 1.0]), fake, 0.5) == (1, 2)  # nor is a real one
    assert count_correct(np.array([4.0, 0.0]), np.array([-2.0, 1.0])) == (1, 1)  # halfway between 2 and -0.5 is 0.75


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_trains(pair, name, kind):
    net, critic, hparams = model(), network(kind), Hyperparameters(seed=4, objective=name)
    optimizers = adam(net), adam(critic)
    for k in range(2):
        before, critic_before = bits(net), bits(critic)
        reconstructions = net.reconstruct(*pair)
        found = train_discriminator(critic, optimizers[1], hparams, real_batch(*pair), fake_batch(reconstructions), k)
        losses, fake_grad_norm = train_generator(net, optimizers[0], hparams, reconstructions, critic, 0.1)
        assert_all_changed(net, before)
        for layer, parameter in critic.named_parameters():  # the score's bias cancels in a critic's difference of means
            assert layer.endswith("bias") or not np.array_equal(parameter.data, critic_before[layer]), layer
        assert all(math.isfinite(x) for x in (found.discriminator_loss, found.discriminator_grad_norm, losses.loss,
                                              losses.adversarial_loss, fake_grad_norm))
        assert fake_grad_norm > 0 and 0 <= found.accuracy <= 1
        assert (found.penalty is not None) == (name == "wasserstein-gp")
        largest = max(np.abs(p.data).max() for p in critic.parameters())
        assert largest <= 0.01 if name == "wasserstein-clip" else largest > 0.01


def test_discriminator_learns_to_classify_faces(pair):
    _, _, real, fake = players(pair)
    critic = network()
    optimizer = adam(critic)
    found = [train_discriminator(critic, optimizer, HPARAMS, real, fake, k) for k in range(40)]
    assert found[-1].discriminator_loss < 0.5 * found[0].discriminator_loss and found[-1].accuracy == 1
    assert found[-1].score_real > 0 > found[-1].score_fake


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
    critic, hparams = network(kind), Hyperparameters(r1=0.7, r1_every=3)
    optimizer = adam(critic)
    for k in range(5):
        expected = 0.7 / 2 * 3 * (gradient_norms(critic, real.faces, real) ** 2).mean()
        without = OBJECTIVES["non-saturating"].discriminator(critic(*real), critic(*fake)).item()
        found = train_discriminator(critic, optimizer, hparams, real, fake, k)
        if k % 3:
            assert found.penalty is None and found.discriminator_loss == pytest.approx(without, rel=1e-4)
        else:
            assert found.penalty == pytest.approx(expected, rel=1e-3)
            assert found.discriminator_loss == pytest.approx(without + expected, rel=1e-4)


def test_gradient_penalty_is_computed_between_real_and_fake(pair, monkeypatch):
    """The critic also gets random mixes of real and fake faces, new ones in each step."""
    _, _, real, fake = players(pair)
    critic, hparams = network(), Hyperparameters(objective="wasserstein-gp", seed=4)
    shown, mixes = [], []
    forward = type(critic).forward
    monkeypatch.setattr(type(critic), "forward", lambda self, faces, *rest: shown.append(faces)
                        or forward(self, faces, *rest))
    for k in range(2):
        shown.clear()
        before = bits(critic)
        found = train_discriminator(critic, adam(critic), hparams, real, fake, k)
        between = shown[1].numpy()
        difference = real.faces - fake.faces
        mix = ((between - fake.faces) * difference).sum((1, 2, 3)) / (difference ** 2).sum((1, 2, 3))
        assert np.all((mix >= 0) & (mix <= 1)) and len(set(mix.tolist())) == 4
        mix = mix[:, None, None, None]
        np.testing.assert_allclose(between, mix * real.faces + (1 - mix) * fake.faces, atol=1e-5)
        mixes.append(mix)
        critic.load_state_dict(before)
        assert found.penalty == pytest.approx(10 * ((gradient_norms(critic, between, real) - 1) ** 2).mean(), rel=1e-3)
    assert not np.allclose(*mixes)


def test_faces_that_are_not_finite_change_no_weight_of_the_discriminator(pair):
    _, _, real, fake = players(pair)
    critic = network()
    real.faces[0, 16, 16, 0] = np.nan
    before = bits(critic)
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        train_discriminator(critic, adam(critic), HPARAMS, real, fake, 0)
    assert_same(before, bits(critic))


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
