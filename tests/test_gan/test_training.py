"""The training step, the schedule, the batches made ahead, and a run that stops and goes on bit for bit."""
import contextlib
import math

import numpy as np
import pytest

import nn
from gan import objectives
from gan.autoencoder import FaceAutoencoder
from gan.training import (WARM_UP, BatchMaker, Losses, NotFiniteError, Recipe, Trainer, learning_rate, part, train_autoencoder,
                          warp_strength)

TOTAL = 8
RECIPE = Recipe(batch=2, learning_rate=2e-3, seed=4)


def model(seed=0, mask=True):
    nn.manual_seed(seed)
    return FaceAutoencoder(32, 4, mask)


def trainer(seed=0):
    return Trainer(model(seed), RECIPE)


@contextlib.contextmanager
def batches(faces, recipe=RECIPE):
    maker = BatchMaker(faces, recipe, "cpu")
    try:
        yield maker
    finally:
        maker.close()


def arrays(pair):
    return [array for batch in pair for array in batch]


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


def test_the_rate_rises_stays_and_falls_to_0():
    total = 10 * WARM_UP
    rates = [learning_rate(3.0, step, total) for step in range(total)]
    np.testing.assert_allclose(rates[:WARM_UP], [3.0 * (k + 1) / WARM_UP for k in range(WARM_UP)])
    assert set(rates[WARM_UP:total // 2]) == {3.0}
    later = [3.0 * (1 + math.cos(math.pi * (2 * k / total - 1))) / 2 for k in range(total // 2, total)]
    np.testing.assert_allclose(rates[total // 2:], later)
    assert np.all(np.diff(rates[total // 2:]) <= 0) and learning_rate(3.0, total, total) == pytest.approx(0, abs=1e-12)


def test_the_first_half_does_not_depend_on_the_total():
    for step in range(200):
        assert learning_rate(1.0, step, 400) == learning_rate(1.0, step, 100_000) == learning_rate(1.0, step, None)


def test_the_schedule_reaches_the_optimizer(faces):
    one = trainer()
    with batches(faces) as make:
        for step in range(6):
            one.train_step(make, TOTAL)
            assert one.optimizer.lr == learning_rate(RECIPE.learning_rate, step, TOTAL)


def test_one_step_moves_every_weight(faces):
    net = model()
    optimizer = nn.optim.Adam(net.parameters(), 1e-3)
    before = {name: p.data.copy() for name, p in net.named_parameters()}
    with batches(faces) as make:
        train_autoencoder(net, optimizer, *make(0, TOTAL))
    for name, parameter in net.named_parameters():
        assert not np.array_equal(parameter.data, before[name]), name


@pytest.mark.parametrize("mask", [True, False])
def test_steps_on_one_batch_lower_its_loss(faces, mask):
    net = model(mask=mask)
    optimizer = nn.optim.Adam(net.parameters(), 2e-3)
    with batches(faces) as make:
        pair = make(0, TOTAL)
    losses = [train_autoencoder(net, optimizer, *pair) for _ in range(40)]
    assert losses[-1].loss < 0.6 * losses[0].loss
    assert losses[-1].mae < losses[0].mae and losses[-1].dssim < losses[0].dssim
    assert losses[-1].mask < losses[0].mask if mask else losses[0].mask == 0


def spoil_batch(net, pair):
    pair[1].warped[0, 3, 4, 1] = np.nan


def spoil_target(net, pair):
    pair[0].target[0, 3, 4, 1] = np.inf


def spoil_weight(net, pair):
    net.decoder_b.out.weight.data[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("spoil", [spoil_batch, spoil_target, spoil_weight])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_not_finite_stops_before_any_weight_has_changed(faces, spoil):
    one = trainer()
    with batches(faces) as make:
        for _ in range(2):
            one.train_step(make, TOTAL)
        pair = make(2, TOTAL)
    spoil(one.model, pair)
    before = one.state_dict()
    with pytest.raises(NotFiniteError, match="the loss is (nan|inf)"):
        one.train_step(lambda step, total: pair, TOTAL)
    after = one.state_dict()
    del before["optimizer.lr"], after["optimizer.lr"]  # set for the step that was not taken
    assert_same(before, after)


def test_not_finite_gradients_are_noticed_too(faces, monkeypatch):
    """A finite loss whose slope is not: the weights would be lost all the same."""
    one = trainer()
    with batches(faces) as make:
        pair = make(0, TOTAL)
    backward = nn.Tensor.backward

    def overflowing(self, *arguments, **options):
        backward(self, *arguments, **options)
        one.model.decoder_a.out.bias.grad[0] = np.inf

    monkeypatch.setattr(nn.Tensor, "backward", overflowing)
    before = {name: p.data.copy() for name, p in one.model.named_parameters()}
    with pytest.raises(NotFiniteError, match="gradient"):
        train_autoencoder(one.model, one.optimizer, *pair)
    assert_same(before, {name: p.data for name, p in one.model.named_parameters()})


def test_batch_k_is_the_same_in_whatever_order(faces):
    with batches(faces) as make:
        wanted = [arrays(make(k, TOTAL)) for k in range(8)]
    for order in ([5, 0, 7, 2], [3], [6, 5, 4, 3, 2, 1, 0]):
        with batches(faces) as make:
            for k in order:
                for got, expected in zip(arrays(make(k, TOTAL)), wanted[k], strict=True):
                    np.testing.assert_array_equal(got, expected)


def test_batches_differ_by_number_side_and_seed(faces):
    with batches(faces) as make, batches(faces, Recipe(batch=2, seed=5)) as other:
        first, second, elsewhere = make(0, TOTAL), make(1, TOTAL), other(0, TOTAL)
    for batch in (second[0], first[1], elsewhere[0]):
        assert not np.array_equal(first[0].warped, batch.warped)
    assert [batch.warped.shape for batch in first] == [(2, 32, 32, 3)] * 2


def test_the_state_is_a_copy(faces):
    one = trainer()
    with batches(faces) as make:
        one.train_step(make, TOTAL)
        state = one.state_dict()
        kept = {name: array.copy() for name, array in state.items()}
        two = trainer(seed=9)
        two.load_state_dict(state)
        for each in (one, two):
            each.train_step(make, TOTAL)
    assert_same(state, kept)


def test_a_state_goes_through_a_file(faces, tmp_path):
    one, two = trainer(), trainer(seed=9)
    with batches(faces) as make:
        one.train_step(make, TOTAL)
    nn.save(tmp_path / "state.npz", one.state_dict())
    two.load_state_dict(nn.load(tmp_path / "state.npz"))
    assert_same(one.state_dict(), two.state_dict())
    assert two.step == 1


@pytest.mark.parametrize("cut", [1, 3, TOTAL - 1])
def test_stopping_and_going_on_ends_bit_for_bit_as_going_straight(faces, tmp_path, cut):
    straight = trainer()
    with batches(faces) as make:
        for _ in range(TOTAL):
            straight.train_step(make, TOTAL)
    first, second = trainer(), trainer(seed=9)
    with batches(faces) as make:
        for _ in range(cut):
            first.train_step(make, TOTAL)
    nn.save(tmp_path / "state.npz", first.state_dict())
    second.load_state_dict(nn.load(tmp_path / "state.npz"))
    with batches(faces) as make:
        for _ in range(TOTAL - cut):
            second.train_step(make, TOTAL)
    assert_same(straight.state_dict(), second.state_dict())


@pytest.mark.parametrize("name", ["model.encoder.squeeze.weight", "average.encoder.squeeze.weight", "optimizer.m.0"])
@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(name, change):
    state, one = trainer().state_dict(), trainer(seed=9)
    before = one.state_dict()
    if change == "missing":
        del state[name]
    else:
        state[name] = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match=name.partition(".")[2]):
        one.load_state_dict(state)
    if name.startswith("model"):
        assert_same(before, one.state_dict())


def test_averaged_weights_within_and_the_weights_after(faces):
    one = trainer()
    with batches(faces) as make:
        for _ in range(3):
            one.train_step(make, TOTAL)
    state = one.state_dict()
    with one.average_weights():
        assert_same(part(state, "average"), {name: p.data for name, p in one.model.named_parameters()})
    assert_same(state, one.state_dict())
    assert any(not np.array_equal(state[f"average.{name}"], state[f"model.{name}"]) for name in part(state, "average"))


def test_an_error_within_averaged_weights_gives_the_weights_back():
    one = trainer()
    before = one.state_dict()
    with pytest.raises(KeyError), one.average_weights():
        raise KeyError
    assert_same(before, one.state_dict())


def test_held_out_losses_are_those_of_the_averaged_weights(faces):
    one = trainer()
    for average in one.average.averages:
        average *= 0.5
    losses = one.held_out_losses(faces)
    with one.average_weights():
        expected = []
        for subject, side in ((faces.a, "a"), (faces.b, "b")):
            target, mask = subject.crops(subject.held_out)
            drawn = np.concatenate(one.model.draw(target, side, side), axis=-1)
            expected.append(float(objectives.reconstruction(drawn, target, mask).total))
    assert losses.loss == pytest.approx(np.mean(expected), rel=1e-6)


def test_the_warp_is_full_in_the_first_half_and_gone_at_the_end():
    strengths = [warp_strength(step, TOTAL) for step in range(TOTAL + 1)]
    assert strengths[: TOTAL // 2 + 1] == [1.0] * (TOTAL // 2 + 1) and strengths[-1] == 0
    assert all(a > b for a, b in zip(strengths[TOTAL // 2:], strengths[TOTAL // 2 + 1:]))
    assert warp_strength(7, None) == 1


def test_batches_near_the_end_are_not_warped(faces):
    def push(step):
        with batches(faces) as make:
            return np.abs(make(step, 1000)[0].warped - make(step, 1000)[0].target).mean()
    assert push(999) < 0.05 * push(0)


def test_the_best_averages_are_kept_and_draw(faces, monkeypatch):
    one = trainer()
    losses = iter([0.5, 0.3, 0.4])
    monkeypatch.setattr(Trainer, "held_out_losses", lambda self, subjects: Losses(next(losses), 0, 0, 0))
    averages = []
    with batches(faces) as make:
        for _ in range(3):
            one.train_step(make, TOTAL)
            averages.append(part(one.state_dict(), "average"))
            one.measure(faces)
    assert (one.best_step, one.best_loss) == (2, 0.3)
    with one.best_weights():
        assert_same(averages[1], {name: p.data for name, p in one.model.named_parameters()})
    two = trainer(seed=9)
    two.load_state_dict(one.state_dict())
    assert_same(one.state_dict(), two.state_dict())
    assert two.best_loss == 0.3


def test_a_warp_that_does_not_fade(faces):
    recipe = Recipe(batch=2, seed=4, fading_warp=False)
    with batches(faces, recipe) as make:
        last = make(999, 1000)[0]
    assert np.abs(last.warped - last.target).mean() > 0.005
