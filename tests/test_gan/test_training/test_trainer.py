"""Networks in training through all three stages: which step is taken, what is kept, and a run that stops and goes on bit for bit."""
import contextlib
import dataclasses
import math

import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.training import losses, metrics, schedule, steps, trainer
from gan.training.adversary import Adversary
from gan.training.prefetch import BatchMaker
from gan.training.schedule import Place
from gan.training.steps import Losses, Recipe, learning_rate, warp_strength
from gan.training.trainer import HeldOut, Trainer, adversarial_weight
from nn.serialize import subset

PLAN = [["autoencoder", 4], ["discriminator", 4], ["adversarial", 4]]
TOTAL = 12
RECIPE = Recipe(batch=2, learning_rate=2e-3, seed=4, warmup=0, weight=0.1)


def new_trainer(recipe=RECIPE, seed=0, kind="patch", spectral=False):
    def adversary():
        nn.manual_seed(1)
        return Adversary(DISCRIMINATORS[kind](32, 4, spectral), recipe)

    nn.manual_seed(seed)
    return Trainer(FaceAutoencoder(32, 4, True, identity=True), recipe, adversary)


def warp_of(recipe, plan):
    def warp(step):
        place = schedule.place(plan, step)
        return warp_strength(recipe, place) if place else 0.0
    return warp


@contextlib.contextmanager
def batches(faces, recipe=RECIPE, plan=PLAN):
    maker = BatchMaker(faces, recipe, warp_of(recipe, plan), "cpu")
    try:
        yield maker
    finally:
        maker.close()


def take(one, make, steps, plan=PLAN):
    """Take steps as a session does; returns the last gan.training.trainer.Step."""
    for _ in range(steps):
        place = schedule.place(plan, one.step)
        one.enter(place)
        made = one.train_step(place, make)
    return made


def held_out(loss, sharpness=1.0):
    return HeldOut(Losses(loss, loss, 0.0, 0.0), sharpness, 1.0)


def arrays(pair):
    return [array for batch in pair for array in batch]


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


def same(state, other, prefix):
    """Whether the entries below a prefix are the same bit for bit."""
    mine, others = subset(state, prefix), subset(other, prefix)
    assert mine.keys() == others.keys() and mine
    return all(np.array_equal(mine[name], others[name]) for name in mine)


# Which step is taken

def test_each_stage_moves_its_own_networks(faces):
    """autoencoder: it alone; discriminator: it alone, the autoencoder stays bit for bit; adversarial: both."""
    one, states = new_trainer(), []
    with batches(faces) as make:
        for _ in range(3):
            take(one, make, 4)
            states.append(one.state_dict())
    alone, judged, both = states
    assert not subset(alone, "adversary") and subset(judged, "adversary")
    assert same(alone, judged, "model") and same(alone, judged, "average") and same(alone, judged, "optimizer")
    assert not same(judged, both, "model") and not same(judged, both, "adversary.network")
    assert same(judged, both, "adversary.spectra")  # against an autoencoder that learns, nothing is blurred
    assert [int(state["step"]) for state in states] == [4, 8, 12]


def test_what_a_step_measures(faces):
    one = new_trainer(Recipe(batch=2, seed=4, warmup=0, weight=0.1, critic_rate=5e-4, adversarial_rate=3e-4))
    with batches(faces, one.recipe) as make:
        alone, judged, both = (take(one, make, 4) for _ in range(3))
    assert alone.losses and not (alone.duel or alone.gradient_made or alone.weight)
    assert judged.duel and judged.losses is None and judged.gradient_made is None and judged.weight is None
    assert both.losses.adversarial > 0 and both.duel and both.gradient_made > 0
    assert [made.learning_rate for made in (alone, judged, both)] == \
        [learning_rate(peak, 3, 3 / 4) for peak in (2e-3, 5e-4, 3e-4)]
    assert both.weight == adversarial_weight(one.recipe, Place(2, "adversarial", 3, 4))
    assert one.adversary.optimizer.lr == learning_rate(5e-4, 3, 3 / 4)


def test_the_schedule_reaches_the_optimizer_and_a_rollback_slows_it(faces):
    one = new_trainer()
    with batches(faces) as make:
        for step in range(3):
            take(one, make, 1)
            assert one.optimizer.lr == learning_rate(2e-3, step, step / 4)
        one.rate_scale = 0.25
        take(one, make, 1)
        assert one.optimizer.lr == 0.25 * learning_rate(2e-3, 3, 3 / 4)
        made = take(one, make, 1)
    assert one.adversary.optimizer.lr == made.learning_rate == 0.25 * learning_rate(1e-3, 0, 0)


def test_each_optimizer_and_the_average_remember_as_the_recipe_says(faces):
    """After a first step Adam's means are 1 - beta of the gradient and of its square, the average decay of what it was."""
    one = new_trainer(dataclasses.replace(RECIPE, betas=(0.3, 0.8), critic_betas=(0.1, 0.6), decay=0.1))
    start, plan = one.state_dict(), [["autoencoder", 1], ["discriminator", 1]]
    with batches(faces, one.recipe, plan) as make:
        take(one, make, 2, plan)
    state = one.state_dict()
    for name, array in subset(state, "average").items():
        np.testing.assert_allclose(array, 0.1 * start[f"model.{name}"] + 0.9 * state[f"model.{name}"], atol=1e-6, err_msg=name)
    for prefix, network, betas in (("", one.model, (0.3, 0.8)), ("adversary.", one.adversary.network, (0.1, 0.6))):
        for k, parameter in enumerate(network.parameters()):
            for slot, beta, wanted in (("m", betas[0], parameter.grad), ("v", betas[1], parameter.grad ** 2)):
                np.testing.assert_allclose(state[f"{prefix}optimizer.{slot}.{k}"], (1 - beta) * wanted, rtol=1e-4, atol=1e-12)


def test_the_discriminator_alone_learns_against_the_best_averages(faces, monkeypatch):
    one, drawn = new_trainer(), []
    draw_as = FaceAutoencoder.draw_as

    def watched(self, shown, person, side):
        drawn.append(({name: p.data.copy() for name, p in self.named_parameters()}, person, side))
        return draw_as(self, shown, person, side)

    with batches(faces) as make:
        take(one, make, 2)
        one.keep_if_best(held_out(0.1), "autoencoder")
        best = subset(one.state_dict(), "average")
        take(one, make, 2)
        assert not same(one.state_dict(), {f"average.{name}": array for name, array in best.items()}, "average")
        monkeypatch.setattr(FaceAutoencoder, "draw_as", watched)
        take(one, make, 1)
    assert {(person, side) for _, person, side in drawn} == {("a", "a"), ("b", "a"), ("b", "b"), ("a", "b")}
    for weights, _, _ in drawn:
        assert_same(weights, best)


@pytest.mark.parametrize("plan, stage, judging", [(PLAN, 1, False), (PLAN[:2], 1, True)])
def test_only_one_that_no_stage_follows_is_to_judge(faces, monkeypatch, plan, stage, judging):
    told, learn_alone = [], Adversary.learn_alone
    monkeypatch.setattr(Adversary, "learn_alone", lambda self, *rest: told.append(rest[5]) or learn_alone(self, *rest))
    with batches(faces, plan=plan) as make:
        take(new_trainer(), make, 8, plan)
    assert told == [judging] * 4


@pytest.mark.parametrize("rest, moved", [(0.0, 8 * [True]), (0.5, [False, False, *6 * [True]]), (1.0, 8 * [False])])
def test_the_layers_that_read_faces_rest_for_their_share_of_the_first_stage(faces, rest, moved):
    recipe = dataclasses.replace(RECIPE, rest=rest)
    one, found, plan = new_trainer(recipe), [], [PLAN[0], PLAN[2]]
    others = ("encoder.expand", "encoder.up", "decoder_a", "decoder_b", "identity")
    with batches(faces, recipe, plan) as make:
        for step in range(8):
            if step == 4:
                one.keep_if_best(held_out(0.1), "autoencoder")  # so that the next stage starts from here
                one.enter(Place(1, "adversarial", 0, 4))
            before = one.model.state_dict()
            take(one, make, 1, plan)
            changed = {name: not np.array_equal(array, before[name]) for name, array in one.model.state_dict().items()}
            assert all(changed[name] for name in changed if name.startswith(others))
            reading = {changed[name] for name in changed if name.startswith(("encoder.convs", "encoder.squeeze"))}
            assert len(reading) == 1
            found += reading
    assert found == moved


def test_the_adversarial_stage_starts_from_the_best_averages(faces):
    one = new_trainer()
    with batches(faces) as make:
        take(one, make, 2)
        one.keep_if_best(held_out(0.1), "autoencoder")
        best = subset(one.state_dict(), "average")
        take(one, make, 6)
        assert one.enter(Place(2, "adversarial", 0, 4)) and not one.enter(Place(2, "adversarial", 1, 4))
    state = one.state_dict()
    assert_same(best, subset(state, "average"))
    assert_same(best, {name: p.data for name, p in one.model.named_parameters()})
    assert (one.best_loss, one.best_fault) == (math.inf, math.inf)
    one.model.identity_a.data[:] = 7  # the weights, the averages and the best are three
    one.average.averages[0][:] = 8
    assert same(state, one.state_dict(), "best")


def test_the_generator_faces_the_discriminator_as_it_is_after_its_step(faces, monkeypatch):
    one, seen = new_trainer(), []
    step = steps.train_generator

    def watched(model, optimizer, recipe, redrawn, network, weight, watch):
        seen.append((network.state_dict(), weight))
        return step(model, optimizer, recipe, redrawn, network, weight, watch)

    with batches(faces) as make:
        take(one, make, 8)
        before = one.adversary.network.state_dict()
        monkeypatch.setattr(steps, "train_generator", watched)
        take(one, make, 2)
    assert len(seen) == 2 and seen[1][1] == pytest.approx(0.1)
    assert_same(seen[1][0], one.adversary.network.state_dict())
    assert not np.array_equal(before["score.weight"], seen[0][0]["score.weight"])
    assert not np.array_equal(seen[0][0]["score.weight"], seen[1][0]["score.weight"])


def test_the_critics_turns_are_on_batches_of_their_own(faces, monkeypatch):
    recipe, shown = dataclasses.replace(RECIPE, critic_turns=3), []
    one = new_trainer(recipe)
    step = steps.train_discriminator

    def watched(network, optimizer, recipe, real, made, k, *watch):
        shown.append((real.faces.copy(), made.faces.copy(), k))
        return step(network, optimizer, recipe, real, made, k, *watch)

    monkeypatch.setattr("gan.training.adversary.train_discriminator", watched)
    with batches(faces, recipe) as make:
        take(one, make, 8)
        shown.clear()
        take(one, make, 2)
        usual = make(10)
    assert len(shown) == 6
    for k, (real, made, _) in enumerate(shown):
        for other_real, other_made, _ in shown[:k]:
            assert not np.array_equal(real, other_real) and not np.array_equal(made, other_made)
    expected = np.concatenate([batch.target for batch in faces.batches(recipe, 9, 0.0)])
    np.testing.assert_array_equal(shown[5][0], expected)  # the last turn is on the batch that the autoencoder learns from
    assert not np.array_equal(expected, usual[0].target)


@pytest.mark.parametrize("turns, numbers", [(1, {8, 9, 10, 11}), (2, set(range(16, 24))), (3, set(range(24, 36)))])
def test_each_of_the_discriminators_steps_has_a_number_of_its_own(faces, monkeypatch, turns, numbers):
    """To which its noise, its mix and R1 belong; with one turn it is the run's own."""
    recipe, found = dataclasses.replace(RECIPE, critic_turns=turns, noise=0.1), []
    noisy = steps.noisy
    monkeypatch.setattr("gan.training.adversary.noisy", lambda *key: found.append(key[3:]) or noisy(*key))
    with batches(faces, recipe) as make:
        one = new_trainer(recipe)
        take(one, make, 8)
        assert found == [(k, part) for k in (4, 5, 6, 7) for part in (0, 1)]  # alone: one step a step
        found.clear()
        take(one, make, 4)
    assert len(found) == 2 * len(numbers) and set(found) == {(k, part) for k in numbers for part in (0, 1)}


def test_r1_is_taken_every_so_many_of_the_discriminators_own_steps(faces, monkeypatch):
    recipe, taken = dataclasses.replace(RECIPE, critic_turns=2, r1=1.0, r1_every=4), []
    step = steps.train_discriminator

    def watched(*arguments):
        duel = step(*arguments)
        taken.append(duel.penalty is not None)
        return duel

    monkeypatch.setattr("gan.training.adversary.train_discriminator", watched)
    with batches(faces, recipe) as make:
        one = new_trainer(recipe)
        take(one, make, 8)
        taken.clear()
        shown = [take(one, make, 1).duel.penalty is not None for _ in range(4)]
    assert len(taken) == 8 and np.diff(np.flatnonzero(taken)).tolist() == [4]
    assert shown == [True, False, True, False]  # where metrics.csv has it


def test_the_noise_fades_over_the_stage(faces, monkeypatch):
    recipe, strengths = dataclasses.replace(RECIPE, noise=0.4), []
    monkeypatch.setattr("gan.training.adversary.noisy", lambda shown, strength, *key: strengths.append(strength) or shown)
    with batches(faces, recipe) as make:
        take(new_trainer(recipe), make, TOTAL)
    assert strengths == pytest.approx(2 * [s for k in range(4) for s in 2 * [0.4 * (1 - k / 4)]])


def test_the_adversarys_weight_by_hand():
    def weights(recipe, total):
        return [adversarial_weight(recipe, Place(2, "adversarial", step, total)) for step in (0, 10, 20, 30, 40, 50, 60, 199)]
    by_hand = [0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4]  # nothing for 10 steps, then in a line over 40
    assert weights(Recipe(weight=0.4, warmup=10), 1000) == pytest.approx(by_hand)
    assert weights(Recipe(weight=0.4), 200) == pytest.approx(by_hand)  # a twentieth of the stage
    assert weights(Recipe(weight=0.4, warmup=10), None) == pytest.approx(by_hand)
    assert adversarial_weight(Recipe(weight=0.4), Place(2, "adversarial", 50, None)) == 0  # 50 of 1000
    assert adversarial_weight(Recipe(weight=0.4, warmup=0), Place(2, "adversarial", 0, 10)) == 0
    assert adversarial_weight(Recipe(weight=0.4, warmup=0), Place(2, "adversarial", 1, 10)) == 0.4


def test_while_it_is_not_listened_to_the_adversary_changes_nothing(faces):
    """Warm-up: the autoencoder goes on as it would alone, bit for bit, while the discriminator learns."""
    def ended(stage, recipe):
        plan = [["autoencoder", 2], [stage, 8]]
        one = new_trainer(recipe)
        with batches(faces, recipe, plan) as make:
            take(one, make, 6, plan)
        return one.state_dict()

    unwarped = dataclasses.replace(RECIPE, warp=0.0, learning_rate=1e-3, adversarial_rate=1e-3)
    plain, against = (ended(stage, dataclasses.replace(unwarped, warmup=6)) for stage in ("autoencoder", "adversarial"))
    assert same(plain, against, "model") and same(plain, against, "average")
    assert subset(against, "adversary.network") and not subset(plain, "adversary.network")
    assert not same(plain, ended("adversarial", unwarped), "model")  # listened to from the first step on


# Batches

def test_batch_k_is_the_same_in_whatever_order(faces):
    with batches(faces) as make:
        wanted = [arrays(make(k)) for k in range(8)]
    for order in ([5, 0, 7, 2], [3], [6, 5, 4, 3, 2, 1, 0]):
        with batches(faces) as make:
            for k in order:
                for got, expected in zip(arrays(make(k)), wanted[k], strict=True):
                    np.testing.assert_array_equal(got, expected)


def test_batches_differ_by_number_side_seed_and_turn(faces):
    with batches(faces) as make, batches(faces, Recipe(batch=2, seed=5)) as other:
        first, second, elsewhere = make(0), make(1), other(0)
        turns = [make.extra(0, turn) for turn in (1, 2)]
        np.testing.assert_array_equal(turns[0][0].warped, make.extra(0, 1)[0].warped)
    for batch in (second[0], first[1], elsewhere[0], *turns[0], *turns[1]):
        assert not np.array_equal(first[0].warped, batch.warped)
    assert not np.array_equal(turns[0][0].warped, turns[1][0].warped)
    assert [batch.warped.shape for batch in first] == [(2, 32, 32, 3)] * 2


def test_batches_near_the_end_of_the_first_stage_are_not_warped(faces):
    def push(step, recipe=RECIPE):
        with batches(faces, recipe, [["autoencoder", 1000]]) as make:
            batch = make(step)[0]
        return np.abs(batch.warped - batch.target).mean()
    assert push(999) < 0.05 * push(0)
    assert push(999, dataclasses.replace(RECIPE, fading_warp=False)) > 0.005


# States

def test_the_state_is_a_copy(faces):
    one = new_trainer()
    with batches(faces) as make:
        take(one, make, 9)
        state = one.state_dict()
        kept = {name: array.copy() for name, array in state.items()}
        two = new_trainer(seed=9)
        two.load_state_dict(state)
        for each in (one, two):
            take(each, make, 1)
    assert_same(state, kept)
    assert_same(one.state_dict(), two.state_dict())


RECIPES = {"non-saturating": {}, "wasserstein-gp": {"critic_turns": 2, "noise": 0.1}, "hinge": {"r1": 1.0, "r1_every": 3}}


@pytest.mark.parametrize("name, kind, spectral", [("non-saturating", "patch", False), ("wasserstein-gp", "patch", True),
                                                  ("hinge", "unet", True)])
def test_stopping_in_any_stage_and_going_on_ends_bit_for_bit_as_going_straight(faces, tmp_path, name, kind, spectral):
    recipe = dataclasses.replace(RECIPE, objective=name, **RECIPES[name])

    def session(steps, state):
        """A session that takes steps, measures after each third of the run's, and saves."""
        one = new_trainer(recipe, 0 if state is None else 9, kind, spectral)
        if state is not None:
            one.load_state_dict(nn.load(state))
        with batches(faces, recipe) as make:
            for _ in range(steps):
                take(one, make, 1)
                if one.step % 3 == 0:
                    one.keep_if_best(held_out(1 / one.step), "autoencoder")
        nn.save(tmp_path / "state.npz", one.state_dict())
        return one.state_dict()

    straight = session(TOTAL, None)
    session(1, None)
    for steps in (3, 3, 2, 1, 2):  # stops in each stage, and where one ends
        again = session(steps, tmp_path / "state.npz")
    assert_same(straight, again)


@pytest.mark.parametrize("name", ["model.encoder.squeeze.weight", "average.encoder.squeeze.weight", "best.identity_a",
                                  "optimizer.m.0", "adversary.network.score.weight", "adversary.optimizer.v.1",
                                  "adversary.spectra.real"])
@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_state_that_does_not_fit_is_refused(name, change):
    one = new_trainer()
    one.enter(Place(1, "discriminator", 0, 4))
    state, other = one.state_dict(), new_trainer(seed=9)
    before = other.state_dict()
    if change == "missing":
        del state[name]
    else:
        state[name] = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match=name.split("adversary.")[-1].partition(".")[2]):
        other.load_state_dict(state)
    if name.startswith(("model", "average", "best")):
        assert_same(before, other.state_dict())


@pytest.mark.parametrize("name", ["step", "rate_scale", "best_loss", "stage_number"])
def test_a_state_without_a_number_is_refused(name):
    state = new_trainer().state_dict()
    del state[name]
    with pytest.raises(ValueError, match=name):
        new_trainer().load_state_dict(state)


def test_a_state_without_an_adversary_takes_it_away():
    one = new_trainer()
    state = one.state_dict()
    one.enter(Place(1, "discriminator", 0, 4))
    one.load_state_dict(state)
    assert one.adversary is None and one.stage_number == 0


TEACHING = Place(1, "discriminator", 0, 4, last=False)


@pytest.mark.parametrize("place", [TEACHING, Place(1, "adversarial", 0, 4)])
def test_what_was_inherited_is_kept_until_there_is_an_adversary(place):
    """In whichever session its stage begins; it is used once."""
    learned = new_trainer(seed=7)
    learned.enter(Place(1, "discriminator", 0, 4))
    weights = {name: array + 1 for name, array in learned.adversary.network.state_dict().items()}
    one, two = new_trainer(), new_trainer()
    one.inherited = weights
    two.load_state_dict(one.state_dict())
    two.enter(place)
    for name, array in two.adversary.network.state_dict().items():
        np.testing.assert_array_equal(array, weights[name], err_msg=name)
    assert not two.inherited and not any(name.startswith("inherited") for name in two.state_dict())
    one.load_state_dict(two.state_dict())
    assert not one.inherited


def test_a_judge_begins_from_nothing():
    plain, judge = new_trainer(), new_trainer()
    for trainer in (plain, judge):
        trainer.inherited = {name: array + 1 for name, array in trainer._new_adversary().network.state_dict().items()} if trainer is judge else {}
        trainer.enter(Place(1, "discriminator", 0, 4))
    for name, array in judge.adversary.network.state_dict().items():
        np.testing.assert_array_equal(array, plain.adversary.network.state_dict()[name], err_msg=name)
    assert not judge.inherited


# Averages, and the best of them

def test_averaged_weights_within_and_the_weights_after(faces):
    one = new_trainer()
    with batches(faces) as make:
        take(one, make, 3)
    state = one.state_dict()
    with one.average_weights():
        assert_same(subset(state, "average"), {name: p.data for name, p in one.model.named_parameters()})
    assert_same(state, one.state_dict())
    assert any(not np.array_equal(state[f"average.{name}"], state[f"model.{name}"]) for name in subset(state, "average"))


def test_an_error_within_averaged_weights_gives_the_weights_back():
    one = new_trainer()
    before = one.state_dict()
    with pytest.raises(KeyError), one.average_weights():
        raise KeyError
    assert_same(before, one.state_dict())


def test_what_is_measured_is_of_the_averaged_weights(faces):
    one = new_trainer()
    for average in one.average.averages:
        average *= 0.5
    measured = one.measure(faces)
    with one.average_weights():
        expected = []
        for subject, side in ((faces.a, "a"), (faces.b, "b")):
            target, mask = subject.crops(subject.held_out)
            face, drawn_mask = one.model.draw(target, side, side)
            loss = losses.reconstruction(np.concatenate([face, drawn_mask], axis=-1), target, mask).total
            expected.append((float(loss), metrics.sharpness(face, target, mask), metrics.variety(face, target, mask)))
    assert (measured.losses.loss, measured.sharpness, measured.variety) == pytest.approx(np.mean(expected, axis=0), rel=1e-5)


def test_the_best_averages_are_kept_and_draw(faces):
    one, averages = new_trainer(), []
    with batches(faces) as make:
        for loss in (0.5, 0.3, 0.4):
            take(one, make, 1)
            averages.append(subset(one.state_dict(), "average"))
            one.keep_if_best(held_out(loss), "autoencoder")
    assert (one.best_step, one.best_loss, one.best_fault) == (2, 0.3, 0.3)
    with one.best_weights():
        assert_same(averages[1], {name: p.data for name, p in one.model.named_parameters()})
    two = new_trainer(seed=9)
    two.load_state_dict(one.state_dict())
    assert_same(one.state_dict(), two.state_dict())
    assert two.best_loss == 0.3


def test_under_the_adversary_the_best_are_sharp_as_well():
    """Half as sharp, or twice, counts as 0.02 of the loss; the autoencoder alone is not asked for it."""
    soft, sharp = held_out(0.10, sharpness=0.25), held_out(0.13, sharpness=1.0)
    assert soft.fault("autoencoder") == 0.10 and soft.fault("adversarial") == pytest.approx(0.10 + 2 * 0.02)
    assert sharp.fault("adversarial") == pytest.approx(0.13)
    assert held_out(0.1, 2.0).fault("adversarial") == pytest.approx(0.12) == held_out(0.1, 0.5).fault("adversarial")
    assert held_out(0.1, math.nan).fault("adversarial") == 0.1
    one = new_trainer()
    for step, measured in enumerate((soft, sharp), 1):
        one.step = step
        one.keep_if_best(measured, "adversarial")
    assert (one.best_step, one.best_loss) == (2, 0.10)


def test_a_collapse_is_where_training_and_held_out_faces_are_lost():
    one = new_trainer()
    falling = np.full(30, 0.1)
    lost = np.r_[falling, np.full(20, 0.9)]
    assert not one.collapsed(held_out(5.0), lost)  # nothing measured yet in this stage
    one.keep_if_best(held_out(0.2), "autoencoder")
    assert one.collapsed(held_out(0.5), lost)
    assert not one.collapsed(held_out(0.39), lost)  # less than twice the best
    assert not one.collapsed(held_out(0.5), falling)  # only held-out faces are worse: they are learned by heart
    assert one.collapsed(held_out(math.nan), lost)
    assert not one.collapsed(held_out(0.5), np.full(30, np.nan)) and not one.collapsed(held_out(0.5), lost[:0])
    assert trainer.LATEST == 20 and one.collapsed(held_out(0.5), np.r_[lost, np.full(3, np.nan)])
