"""One step of each player: what it moves, what it leaves bit for bit, its slope against one worked out otherwise, the schedules."""
import math

import numpy as np
import pytest

import nn
import nn.functional as F
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.training import losses
from gan.training.deferred import NotFiniteError
from gan.training.losses import OBJECTIVES
from gan.training.schedule import Place
from gan.training.steps import (WARM_UP, Recipe, Shown, learning_rate, noisy, persons, reconstruction, shown_as_drawn,
    shown_as_real, still, told_right, train_autoencoder, train_discriminator, train_generator, warp_strength)

RECIPE = Recipe(batch=2, learning_rate=2e-3, seed=4)
KINDS = pytest.mark.parametrize("kind, spectral", [("patch", False), ("patch", True), ("unet", False), ("unet", True)])


def model(seed=0, mask=True):
    nn.manual_seed(seed)
    return FaceAutoencoder(32, 4, mask, identity=True)


def network(kind="patch", spectral=False):
    nn.manual_seed(1)
    return DISCRIMINATORS[kind](32, 4, spectral)


def adam(module, rate=2e-3):
    return nn.optim.Adam(module.parameters(), rate)


@pytest.fixture
def pair(faces):
    """A batch of A and one of B."""
    return faces.batches(RECIPE, 0, 1.0)


def bits(module):
    """Copies of all parameters and buffers."""
    return {name: tensor.data.copy() for name, tensor in module.named_tensors()}


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


def assert_all_moved(module, before):
    for name, parameter in module.named_parameters():
        assert not np.array_equal(parameter.data, before[name]), name


# Schedules

def test_the_rate_rises_stays_and_falls_to_0():
    total = 10 * WARM_UP
    rates = [learning_rate(3.0, step, step / total) for step in range(total)]
    np.testing.assert_allclose(rates[:WARM_UP], [3.0 * (k + 1) / WARM_UP for k in range(WARM_UP)])
    assert set(rates[WARM_UP:total // 2]) == {3.0}
    later = [3.0 * (1 + math.cos(math.pi * (2 * k / total - 1))) / 2 for k in range(total // 2, total)]
    np.testing.assert_allclose(rates[total // 2:], later)
    assert np.all(np.diff(rates[total // 2:]) <= 0) and learning_rate(3.0, total, 1.0) == pytest.approx(0, abs=1e-12)
    assert learning_rate(3.0, 10_000, 0.75) == pytest.approx(1.5)  # halfway down


def test_the_first_half_does_not_depend_on_the_length():
    for step in range(200):
        assert learning_rate(1.0, step, step / 400) == learning_rate(1.0, step, step / 100_000) == learning_rate(1.0, step, 0)


def test_the_warp_is_full_in_the_first_half_of_the_first_stage_and_gone_at_its_end():
    places = [Place(0, "autoencoder", step, 8) for step in range(9)]
    assert [warp_strength(RECIPE, place) for place in places] == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert warp_strength(RECIPE, Place(0, "autoencoder", 7, None)) == 1
    assert warp_strength(Recipe(warp=0.4), Place(0, "autoencoder", 6, 8)) == pytest.approx(0.2)


@pytest.mark.parametrize("stage", ["discriminator", "adversarial"])
def test_the_stages_after_it_are_without_warp(stage):
    assert warp_strength(RECIPE, Place(1, stage, 0, 8)) == 0
    assert warp_strength(Recipe(fading_warp=False), Place(1, stage, 7, 8)) == 1


# The autoencoder

def test_one_step_moves_every_weight(pair):
    net = model()
    before = bits(net)
    train_autoencoder(net, adam(net), pair)
    assert_all_moved(net, before)


@pytest.mark.parametrize("mask", [True, False])
def test_steps_on_one_batch_lower_its_loss(pair, mask):
    net = model(mask=mask)
    optimizer = adam(net)
    losses = [train_autoencoder(net, optimizer, pair) for _ in range(40)]
    assert losses[-1].loss < 0.6 * losses[0].loss
    assert losses[-1].mae < losses[0].mae and losses[-1].dssim < losses[0].dssim
    assert losses[-1].mask < losses[0].mask if mask else losses[0].mask == 0
    assert losses[0].adversarial is None


def test_losses_are_means_over_both_people_and_the_slope_is_that_of_their_sum(pair):
    redrawn = model().redraw(*pair)
    total, losses = reconstruction(redrawn)
    each = [losses.reconstruction(drawn.numpy(), target, mask) for drawn, target, mask in redrawn]
    assert total.item() == pytest.approx(sum(float(one.total) for one in each), rel=1e-6)
    for got, name in ((losses.loss, "total"), (losses.mae, "mae"), (losses.dssim, "dssim"), (losses.mask, "mask")):
        assert got == pytest.approx(np.mean([float(getattr(one, name)) for one in each]), rel=1e-5)


def spoil_batch(net, pair):
    pair[1].warped[0, 3, 4, 1] = np.nan


def spoil_target(net, pair):
    pair[0].target[0, 3, 4, 1] = np.inf


def spoil_weight(net, pair):
    net.decoder_b.out.weight.data[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("spoil", [spoil_batch, spoil_target, spoil_weight])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_not_finite_stops_before_any_weight_has_changed(pair, spoil):
    net = model()
    optimizer = adam(net)
    spoil(net, pair)
    before, memory = bits(net), optimizer.state_dict()
    with pytest.raises(NotFiniteError, match="the loss is (nan|inf)"):
        train_autoencoder(net, optimizer, pair)
    assert_same(before, bits(net))
    assert_same(memory, optimizer.state_dict())


@pytest.fixture
def overflowing(monkeypatch):
    """overflowing(parameter): each backward leaves an infinite slope in it."""
    backward = nn.Tensor.backward

    def arrange(parameter):
        def infinite(self, *arguments, **options):
            backward(self, *arguments, **options)
            parameter.grad[0] = np.inf

        monkeypatch.setattr(nn.Tensor, "backward", infinite)
    return arrange


@pytest.mark.parametrize("step", ["autoencoder", "generator", "discriminator"])
def test_not_finite_gradients_are_noticed_too(pair, overflowing, step):
    """A finite loss whose slope is not: the weights would be lost all the same."""
    net, critic = model(), network()
    overflowing((critic.score if step == "discriminator" else net.decoder_a.out).bias)
    before, critic_before, redrawn = bits(net), bits(critic), net.redraw(*pair)
    with pytest.raises(NotFiniteError, match="gradient"):
        if step == "autoencoder":
            train_autoencoder(net, adam(net), pair)
        elif step == "generator":
            train_generator(net, adam(net), RECIPE, redrawn, critic, 0.1)
        else:
            train_discriminator(critic, adam(critic), RECIPE, shown_as_real(*pair), shown_as_drawn(redrawn), 0)
    assert_same(before, bits(net))
    assert_same(critic_before, bits(critic))


# The generator's step: the autoencoder against a discriminator that is held still

@KINDS
def test_the_generators_step_leaves_the_discriminator_bit_for_bit(pair, kind, spectral):
    net, critic = model(), network(kind, spectral)
    before, critic_before = bits(net), bits(critic)
    train_generator(net, adam(net), RECIPE, net.redraw(*pair), critic, 0.5)
    assert_same(critic_before, bits(critic))
    assert all(tensor.grad is None for _, tensor in critic.named_tensors())
    assert all(module.training for module in critic.modules())
    assert_all_moved(net, before)


def test_an_error_while_a_network_is_still_gives_its_mode_back():
    critic = network(spectral=True)
    with pytest.raises(KeyError), still(critic):
        assert not any(module.training for module in critic.modules())
        raise KeyError
    assert all(module.training for module in critic.modules())
    with still(critic.eval()):
        pass
    assert not any(module.training for module in critic.modules())


def plain_loss(net, critic, pair, objective, weight):
    """The generator's whole loss as one expression, with one graph through both networks."""
    drawn = net(pair[0].warped, pair[1].warped)
    terms = [losses.reconstruction(each, batch.target, batch.mask).total for each, batch in zip(drawn, pair)]
    shown = F.concatenate([each[..., :3] for each in drawn])
    person = np.array([-1] * len(drawn[0]) + [1] * len(drawn[1]), np.float32)
    maps = critic(shown, np.concatenate([pair[0].mask, pair[1].mask]), person)
    return terms[0] + terms[1] + weight * OBJECTIVES[objective].generator(maps)


@KINDS
@pytest.mark.parametrize("objective", ["non-saturating", "hinge"])
def test_the_generators_slope_goes_through_the_discriminator_as_it_is_now(pair, kind, spectral, objective):
    """Against one plain backward through everything; with the weights from before the discriminator's step it is another."""
    net, critic, recipe = model(), network(kind, spectral), Recipe(objective=objective)

    def plain_slope():
        critic.eval()
        for parameter in net.parameters():
            parameter.grad = None
        plain_loss(net, critic, pair, objective, 3.0).backward()
        critic.train()
        return {name: p.grad.copy() for name, p in net.named_parameters()}

    earlier = plain_slope()
    redrawn = net.redraw(*pair)
    train_discriminator(critic, adam(critic, 0.02), recipe, shown_as_real(*pair), shown_as_drawn(redrawn), 0)
    expected = plain_slope()
    train_generator(net, nn.optim.SGD(net.parameters(), 0.0), recipe, redrawn, critic, 3.0)
    for name, parameter in net.named_parameters():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(parameter.grad, expected[name], rtol=1e-3, atol=1e-4 * scale, err_msg=name)
    assert any(np.abs(earlier[name] - expected[name]).max() > 0.05 * np.abs(expected[name]).max() for name in expected)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_the_generators_slope_by_finite_differences(pair, kind):
    net, critic = model(), network(kind)
    for tensor in (*dict(net.named_tensors()).values(), *dict(critic.named_tensors()).values()):
        tensor.data = tensor.data.astype(np.float64)
    pair = [type(batch)(*(array.astype(np.float64) for array in batch)) for batch in pair]
    train_generator(net, nn.optim.SGD(net.parameters(), 0.0), RECIPE, net.redraw(*pair), critic, 3.0)
    random, step = np.random.default_rng(0), 1e-6
    for name in ("encoder.convs.0.weight", "encoder.squeeze.weight", "identity_b", "decoder_a.ups.1.conv.weight",
                 "decoder_b.out.weight"):
        parameter = dict(net.named_parameters())[name]
        start, direction = parameter.data, random.standard_normal(parameter.shape)
        values = []
        for sign in (1, -1):
            parameter.data = start + sign * step * direction
            with nn.no_grad():
                values.append(plain_loss(net, critic, pair, RECIPE.objective, 3.0).item())
        parameter.data = start
        slope = (values[0] - values[1]) / (2 * step)
        assert (parameter.grad * direction).sum() == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def test_without_weight_the_generators_step_is_the_autoencoders_bit_for_bit(pair):
    alone, against, critic = model(), model(), network()
    first, second = adam(alone), adam(against)
    for _ in range(3):
        losses = train_autoencoder(alone, first, pair)
        both, _ = train_generator(against, second, RECIPE, against.redraw(*pair), critic, 0.0)
        assert (both.loss, both.mae, both.dssim, both.mask) == (losses.loss, losses.mae, losses.dssim, losses.mask)
    assert_same(bits(alone), bits(against))


def test_drawn_faces_are_brought_together_once(pair, monkeypatch):
    """The discriminator is shown the very array that the graph goes on from."""
    net, critic, joined, seen = model(), network(), [], []
    redrawn, concatenate, forward = net.redraw(*pair), F.concatenate, type(critic).forward
    monkeypatch.setattr(F, "concatenate", lambda *arguments: joined.append(concatenate(*arguments)) or joined[-1])
    monkeypatch.setattr(type(critic), "forward", lambda self, faces, *rest: seen.append(faces) or forward(self, faces, *rest))
    train_generator(net, adam(net), RECIPE, redrawn, critic, 0.5)
    assert len(seen) == 1 and any(seen[0].data is each.data for each in joined)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_the_push_is_what_one_face_alone_would_be_pushed_by(pair, kind):
    net, critic = model(), network(kind)
    redrawn = net.redraw(*pair)
    losses, push = train_generator(net, adam(net), RECIPE, redrawn, critic, 0.5)
    norms, values = [], []
    for (drawn, _, masks), who in zip(redrawn, (-1.0, 1.0)):
        for face, mask in zip(drawn.numpy()[..., :3], masks):
            seen = nn.Tensor(face[None], requires_grad=True)
            value = F.mean(sum(F.mean(F.softplus(-scores)) for scores in critic(seen, mask[None], np.float32([who]))))
            (slope,) = nn.grad(value, [seen])
            maps = 2 if kind == "unet" else 1
            norms.append(np.linalg.norm(slope.numpy()) / maps)
            values.append(value.item() / maps)
    assert push == pytest.approx(np.mean(norms), rel=1e-4)
    assert losses.adversarial == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_discriminator_that_is_not_finite_moves_no_weight(pair):
    net, critic = model(), network()
    critic.score.weight.data[0, 0, 0, 0] = np.nan
    before = bits(net)
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        train_generator(net, adam(net), RECIPE, net.redraw(*pair), critic, 0.5)
    assert_same(before, bits(net))


# The discriminator's step

def players(pair):
    """A model that has just drawn, with its graph, and what a discriminator is shown as real and as made."""
    net = model()
    redrawn = net.redraw(*pair)
    return net, redrawn, shown_as_real(*pair), shown_as_drawn(redrawn)


@KINDS
def test_the_discriminators_step_leaves_the_autoencoder_bit_for_bit(pair, kind, spectral, monkeypatch):
    net, redrawn, real, made = players(pair)
    critic = network(kind, spectral)
    before, critic_before = bits(net), bits(critic)
    backward, dependent = nn.Tensor.backward, []

    def watched(loss, *arguments, **options):
        paths = nn.grad(loss, net.parameters() + critic.parameters(), retain_graph=True, allow_unused=True)
        dependent.extend(path is not None for path in paths)
        backward(loss, *arguments, **options)

    monkeypatch.setattr(nn.Tensor, "backward", watched)
    train_discriminator(critic, adam(critic), RECIPE, real, made, 0)
    assert dependent == [False] * len(net.parameters()) + [True] * len(critic.parameters())
    assert_same(before, bits(net))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert_all_moved(critic, critic_before)
    assert type(made.faces) is np.ndarray and all(drawn.requires_grad for drawn, _, _ in redrawn)


def test_what_is_shown_is_whose_it_ought_to_be(pair):
    _, redrawn, real, made = players(pair)
    for shown in (real, made):
        assert shown.person.tolist() == [-1, -1, 1, 1] and shown.person.dtype == np.float32
        np.testing.assert_array_equal(shown.mask, np.concatenate([batch.mask for batch in pair]))
    np.testing.assert_array_equal(real.faces, np.concatenate([batch.target for batch in pair]))
    np.testing.assert_array_equal(made.faces, np.concatenate([drawn.numpy()[..., :3] for drawn, _, _ in redrawn]))
    assert persons(1, 3).tolist() == [-1, 1, 1, 1]


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_a_duel_is_measured_before_the_step(pair, kind):
    _, _, real, made = players(pair)
    critic = network(kind)

    def means(shown):
        """The mean of the scores where the face is, for each face and map, by the definition."""
        found = []
        with nn.no_grad():
            for scores in critic(*shown):
                scores, side = scores.numpy()[..., 0], scores.shape[1]
                weight = shown.mask[..., 0].reshape(4, side, 32 // side, side, 32 // side).mean(axis=(2, 4))
                found.append((scores * weight).sum(axis=(1, 2)) / weight.sum(axis=(1, 2)))
        return np.mean(found, axis=0)

    real_scores, made_scores = means(real), means(made)
    duel = train_discriminator(critic, adam(critic), RECIPE, real, made, 0)
    assert duel.score_real == pytest.approx(real_scores.mean(), rel=1e-4)
    assert duel.score_made == pytest.approx(made_scores.mean(), rel=1e-4)
    assert duel.accuracy == ((real_scores > 0).sum() + (made_scores <= 0).sum()) / 8
    assert duel.gradient_critic == pytest.approx(np.sqrt(sum((p.grad ** 2).sum() for p in critic.parameters())), rel=1e-5)


def test_what_is_told_rightly_by_hand():
    real, made = np.array([1.0, 3.0, -1.0, 2.0]), np.array([-2.0, 0.5])
    assert told_right(real, made, 0.0) == (3, 1)
    assert told_right(real, made, 0.5) == (3, 2)  # a score at the threshold is none above it
    assert told_right(real, made) == (3, 1)  # halfway between 1.25 and -0.75 is 0.25
    assert told_right(real + 100, made + 100) == (3, 1)
    assert told_right(np.array([0.5, 1.0]), made, 0.5) == (1, 2)  # a real one at the threshold neither
    assert told_right(np.array([4.0, 0.0]), np.array([-2.0, 1.0])) == (1, 1)  # halfway between 2 and -0.5 is 0.75


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_trains(pair, name, kind):
    net, critic, recipe = model(), network(kind), Recipe(seed=4, objective=name)
    optimizers = adam(net), adam(critic)
    for k in range(2):
        before, critic_before = bits(net), bits(critic)
        redrawn = net.redraw(*pair)
        duel = train_discriminator(critic, optimizers[1], recipe, shown_as_real(*pair), shown_as_drawn(redrawn), k)
        losses, push = train_generator(net, optimizers[0], recipe, redrawn, critic, 0.1)
        assert_all_moved(net, before)
        for layer, parameter in critic.named_parameters():  # a bias of the score cancels in a critic's two means
            assert layer.endswith("bias") or not np.array_equal(parameter.data, critic_before[layer]), layer
        assert all(math.isfinite(x) for x in (duel.critic, duel.gradient_critic, losses.loss, losses.adversarial, push))
        assert push > 0 and 0 <= duel.accuracy <= 1
        assert (duel.penalty is not None) == (name == "wasserstein-gp")
        largest = max(np.abs(p.data).max() for p in critic.parameters())
        assert largest <= 0.01 if name == "wasserstein-clip" else largest > 0.01


def test_a_discriminator_learns_to_tell_faces_from_others(pair):
    _, _, real, made = players(pair)
    critic = network()
    optimizer = adam(critic)
    duels = [train_discriminator(critic, optimizer, RECIPE, real, made, k) for k in range(40)]
    assert duels[-1].critic < 0.5 * duels[0].critic and duels[-1].accuracy == 1
    assert duels[-1].score_real > 0 > duels[-1].score_made


def slopes(critic, faces, shown):
    """The norm of the slope of each face's score (the sum of its maps' means) with respect to its pixels, one by one."""
    norms = []
    for k in range(len(faces)):
        face = nn.Tensor(faces[k:k + 1], requires_grad=True)
        score = sum(F.mean(scores) for scores in critic(face, shown.mask[k:k + 1], shown.person[k:k + 1]))
        norms.append(float(np.linalg.norm(nn.grad(score, [face])[0].numpy())))
    return np.array(norms)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_r1_is_taken_every_so_many_steps_and_weighted_for_it(pair, kind):
    _, _, real, made = players(pair)
    critic, recipe = network(kind), Recipe(r1=0.7, r1_every=3)
    optimizer = adam(critic)
    for k in range(5):
        expected = 0.7 / 2 * 3 * (slopes(critic, real.faces, real) ** 2).mean()
        without = OBJECTIVES["non-saturating"].discriminator(critic(*real), critic(*made)).item()
        duel = train_discriminator(critic, optimizer, recipe, real, made, k)
        if k % 3:
            assert duel.penalty is None and duel.critic == pytest.approx(without, rel=1e-4)
        else:
            assert duel.penalty == pytest.approx(expected, rel=1e-3)
            assert duel.critic == pytest.approx(without + expected, rel=1e-4)


def test_the_gradient_penalty_is_taken_between_the_real_and_the_made(pair, monkeypatch):
    """At the very places: what the critic is shown besides is a mix of the two, another one in each step."""
    _, _, real, made = players(pair)
    critic, recipe = network(), Recipe(objective="wasserstein-gp", seed=4)
    shown, mixes = [], []
    forward = type(critic).forward
    monkeypatch.setattr(type(critic), "forward", lambda self, faces, *rest: shown.append(faces) or forward(self, faces, *rest))
    for k in range(2):
        shown.clear()
        before = bits(critic)
        duel = train_discriminator(critic, adam(critic), recipe, real, made, k)
        between = shown[1].numpy()
        mix = ((between - made.faces) * (real.faces - made.faces)).sum((1, 2, 3)) / ((real.faces - made.faces) ** 2).sum((1, 2, 3))
        assert np.all((mix >= 0) & (mix <= 1)) and len(set(mix.tolist())) == 4
        mix = mix[:, None, None, None]
        np.testing.assert_allclose(between, mix * real.faces + (1 - mix) * made.faces, atol=1e-5)
        mixes.append(mix)
        critic.load_state_dict(before)
        assert duel.penalty == pytest.approx(10 * ((slopes(critic, between, real) - 1) ** 2).mean(), rel=1e-3)
    assert not np.allclose(*mixes)


def test_faces_that_are_not_finite_move_no_weight_of_the_discriminator(pair):
    _, _, real, made = players(pair)
    critic = network()
    real.faces[0, 16, 16, 0] = np.nan
    before = bits(critic)
    with pytest.raises(NotFiniteError, match="the loss is nan"):
        train_discriminator(critic, adam(critic), RECIPE, real, made, 0)
    assert_same(before, bits(critic))


def test_noise_depends_on_seed_part_and_step_alone():
    shown = Shown(np.full((64, 32, 32, 3), 0.5, np.float32), np.ones((64, 32, 32, 1), np.float32), persons(32, 32))
    assert noisy(shown, 0, 4, 7, 0) is shown
    first = noisy(shown, 0.2, 4, 7, 0).faces
    np.testing.assert_array_equal(first, noisy(shown, 0.2, 4, 7, 0).faces)
    for other in (noisy(shown, 0.2, 5, 7, 0), noisy(shown, 0.2, 4, 8, 0), noisy(shown, 0.2, 4, 7, 1)):
        assert abs(np.corrcoef((first - 0.5).ravel(), (other.faces - 0.5).ravel())[0, 1]) < 0.02
        assert other.mask is shown.mask and other.person is shown.person
    assert first.mean() == pytest.approx(0.5, abs=0.005) and first.std() == pytest.approx(0.2, rel=0.02)
    assert (shown.faces == 0.5).all() and first.dtype == np.float32
