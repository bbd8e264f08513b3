"""The Trainer in all stages: what each step trains, the best averages, saving and resuming."""
import contextlib
import dataclasses
import math

import numpy as np
import pytest

import nn
from gan.networks.autoencoder import FaceAutoencoder
from gan.networks.discriminator import DISCRIMINATORS
from gan.evaluation import metrics
from gan.run import schedule
from gan.run.schedule import StagePosition, adversarial_weight, learning_rate
from gan.training import losses, steps, trainer
from gan.training.adversary import Adversary
from gan.training.prefetch import BatchPrefetcher
from gan.training.trainer import DivergenceError, HeldOut, Trainer, read_metrics
from nn.serialize import subset
from tests.helpers.configs import new_config

PLAN = [["autoencoder", 4], ["discriminator", 4], ["adversarial", 4]]
TOTAL = 12
CONFIG = new_config(batch=2, learning_rate=2e-3, seed=4, adversarial_warmup=0, adversarial_weight=0.1, plan=PLAN)


def new_trainer(config=CONFIG, seed=0, kind="patch", spectral=False):
    def adversary():
        nn.manual_seed(1)
        return Adversary(DISCRIMINATORS[kind](32, 4, spectral), config)

    nn.manual_seed(seed)
    return Trainer(FaceAutoencoder(32, 4, True, person_embedding=True), config, adversary)


@contextlib.contextmanager
def batches(faces, config=CONFIG, plan=PLAN):
    maker = BatchPrefetcher(faces, dataclasses.replace(config, plan=plan), "cpu")
    try:
        yield maker
    finally:
        maker.close()


def take_steps(one, prefetcher, steps, plan=PLAN):
    """Take steps as gan.training.fit does; return the last one's row of metrics."""
    for _ in range(steps):
        position = schedule.position_at(plan, one.step)
        one.enter_stage(position)
        row = one.train_step(position, prefetcher(one.step))
    return row


def held_out(loss, sharpness=1.0):
    return HeldOut(loss, sharpness, 1.0)


def lr_at(peak, step):
    return learning_rate(peak, StagePosition(0, "autoencoder", step, 4))


def arrays(step_batches):
    return [array for pair in step_batches for batch in pair for array in batch]


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], other[name], err_msg=name)


def same(state, other, prefix):
    """Return whether the entries below a prefix are the same bit for bit."""
    mine, others = subset(state, prefix), subset(other, prefix)
    assert mine.keys() == others.keys() and mine
    return all(np.array_equal(mine[name], others[name]) for name in mine)


# The steps of each stage

def test_each_stage_trains_its_own_networks(faces):
    """The autoencoder in its stage, the discriminator in its own, both in the adversarial one."""
    one, states = new_trainer(), []
    with batches(faces) as prefetcher:
        for _ in range(3):
            take_steps(one, prefetcher, 4)
            states.append(one.state_dict())
    alone, discriminator, both = states
    assert not subset(alone, "adversary") and subset(discriminator, "adversary")
    assert same(alone, discriminator, "model") and same(alone, discriminator, "average") and same(alone, discriminator,
                                                                                                  "optimizer")
    assert not same(discriminator, both, "model") and not same(discriminator, both, "adversary.network")
    assert same(discriminator, both, "adversary.spectra")  # no blur against an autoencoder in training
    assert [int(state["step"]) for state in states] == [4, 8, 12]


def test_metrics_of_a_step(faces):
    one = new_trainer(dataclasses.replace(CONFIG, discriminator_learning_rate=5e-4, adversarial_learning_rate=3e-4))
    with batches(faces, one.config) as prefetcher:
        alone, discriminator, both = (take_steps(one, prefetcher, 4) for _ in range(3))
    common, reconstruction = {"step", "stage", "learning_rate"}, {"loss", "mae", "dssim", "mask", "grad_norm"}
    against = {"discriminator_loss", "discriminator_grad_norm", "score_real", "score_fake", "accuracy"}
    assert alone.keys() == common | reconstruction and discriminator.keys() == common | against
    assert both.keys() == common | reconstruction | against | {"adversarial_loss", "adversarial_weight",
                                                               "fake_grad_norm"}
    assert [(row["step"], row["stage"]) for row in (alone, discriminator, both)] == \
        [(4, "autoencoder"), (8, "discriminator"), (12, "adversarial")]
    assert both["adversarial_loss"] > 0 and both["fake_grad_norm"] > 0
    assert [row["learning_rate"] for row in (alone, discriminator, both)] == \
        [lr_at(peak, 3) for peak in (2e-3, 5e-4, 3e-4)]
    assert both["adversarial_weight"] == adversarial_weight(one.config, StagePosition(2, "adversarial", 3, 4))
    assert one.adversary.optimizer.lr == lr_at(5e-4, 3)


def test_read_metrics_makes_plain_numbers():
    rows = [{"step": 1, "stage": "autoencoder", "learning_rate": 0.5, "loss": np.float32(0.25)},
            {"step": 2, "stage": "adversarial", "loss": np.array(0.75, np.float32), "adversarial_loss": np.float32(2)}]
    expected = [{"step": 1, "stage": "autoencoder", "learning_rate": 0.5, "loss": 0.25},
                {"step": 2, "stage": "adversarial", "loss": 0.75, "adversarial_loss": 2.0}]
    found = read_metrics(rows)
    assert found == expected and [list(row) for row in found] == [list(row) for row in expected]
    assert {type(value) for row in found for value in row.values()} == {int, float, str}
    assert read_metrics([]) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_first_metric_that_is_not_finite_is_named_with_its_step(value):
    rows = [{"step": 4, "loss": np.float32(1), "grad_norm": np.float32(2)},
            {"step": 5, "loss": np.float32(1), "grad_norm": np.float32(value)},
            {"step": 6, "loss": np.float32(math.nan), "grad_norm": np.float32(math.nan)}]
    with pytest.raises(DivergenceError, match=f"^grad_norm is {value} at step 5$"):
        read_metrics(rows)


def test_learning_rate_follows_schedule_and_lr_scale(faces):
    one = new_trainer()
    with batches(faces) as prefetcher:
        for step in range(3):
            take_steps(one, prefetcher, 1)
            assert one.optimizer.lr == lr_at(2e-3, step)
        one.lr_scale = 0.25
        take_steps(one, prefetcher, 1)
        assert one.optimizer.lr == 0.25 * lr_at(2e-3, 3)
        row = take_steps(one, prefetcher, 1)
    assert one.adversary.optimizer.lr == row["learning_rate"] == 0.25 * lr_at(1e-3, 0)


def test_betas_and_ema_decay_are_the_hyperparameters(faces):
    """After the first step, Adam's moments are 1 - beta of the gradient and of its square.

    The average keeps `decay` of its old value.
    """
    one = new_trainer(dataclasses.replace(CONFIG, betas=(0.3, 0.8), discriminator_betas=(0.1, 0.6), decay=0.1))
    start, plan = one.state_dict(), [["autoencoder", 1], ["discriminator", 1]]
    with batches(faces, one.config, plan) as prefetcher:
        take_steps(one, prefetcher, 2, plan)
    state = one.state_dict()
    for name, array in subset(state, "average").items():
        np.testing.assert_allclose(array, 0.1 * start[f"model.{name}"] + 0.9 * state[f"model.{name}"], atol=1e-6,
                                   err_msg=name)
    for prefix, network, betas in (("", one.model, (0.3, 0.8)), ("adversary.", one.adversary.network, (0.1, 0.6))):
        for k, parameter in enumerate(network.parameters()):
            for slot, beta, expected_arrays in (("m", betas[0], parameter.grad), ("v", betas[1], parameter.grad ** 2)):
                np.testing.assert_allclose(state[f"{prefix}optimizer.{slot}.{k}"], (1 - beta) * expected_arrays,
                                           rtol=1e-4, atol=1e-12)


def test_discriminator_stage_uses_the_best_averages(faces, monkeypatch):
    one, generated = new_trainer(), []
    generate_as = FaceAutoencoder.generate_as

    def watched(self, shown, person, side):
        generated.append(({name: p.data.copy() for name, p in self.named_parameters()}, person, side))
        return generate_as(self, shown, person, side)

    with batches(faces) as prefetcher:
        take_steps(one, prefetcher, 2)
        one.keep_if_best(held_out(0.1), "autoencoder")
        best = subset(one.state_dict(), "average")
        take_steps(one, prefetcher, 2)
        assert not same(one.state_dict(), {f"average.{name}": array for name, array in best.items()}, "average")
        monkeypatch.setattr(FaceAutoencoder, "generate_as", watched)
        take_steps(one, prefetcher, 1)
    assert {(person, side) for _, person, side in generated} == {("a", "a"), ("b", "a"), ("b", "b"), ("a", "b")}
    for weights, _, _ in generated:
        assert_same(weights, best)


@pytest.mark.parametrize("plan, stage, as_judge", [(PLAN, 1, False), (PLAN[:2], 1, True)])
def test_discriminator_is_a_judge_only_if_no_stage_follows(faces, monkeypatch, plan, stage, as_judge):
    found, train_on_frozen_model = [], Adversary.train_on_frozen_model
    monkeypatch.setattr(Adversary, "train_on_frozen_model", lambda self, *rest: found.append(rest[5])
                        or train_on_frozen_model(self, *rest))
    with batches(faces, plan=plan) as prefetcher:
        take_steps(new_trainer(), prefetcher, 8, plan)
    assert found == [as_judge] * 4


@pytest.mark.parametrize("freeze_encoder, moved",
                         [(0.0, 8 * [True]), (0.5, [False, False, *6 * [True]]), (1.0, 8 * [False])])
def test_encoder_is_frozen_for_its_fraction_of_the_first_stage(faces, freeze_encoder, moved):
    config = dataclasses.replace(CONFIG, freeze_encoder=freeze_encoder)
    one, found, plan = new_trainer(config), [], [PLAN[0], PLAN[2]]
    others = ("encoder.expand", "encoder.up", "decoder_a", "decoder_b", "person_embedding")
    with batches(faces, config, plan) as prefetcher:
        for step in range(8):
            if step == 4:
                one.keep_if_best(held_out(0.1), "autoencoder")  # so that the next stage starts from here
                one.enter_stage(StagePosition(1, "adversarial", 0, 4))
            before = one.model.state_dict()
            take_steps(one, prefetcher, 1, plan)
            changed = {name: not np.array_equal(array, before[name]) for name, array in one.model.state_dict().items()}
            assert all(changed[name] for name in changed if name.startswith(others))
            encoder = {changed[name] for name in changed if name.startswith(("encoder.convs", "encoder.squeeze"))}
            assert len(encoder) == 1
            found += encoder
    assert found == moved


def test_adversarial_stage_starts_from_the_best_averages(faces):
    one = new_trainer()
    with batches(faces) as prefetcher:
        take_steps(one, prefetcher, 2)
        one.keep_if_best(held_out(0.1), "autoencoder")
        best = subset(one.state_dict(), "average")
        take_steps(one, prefetcher, 6)
        assert one.enter_stage(StagePosition(2, "adversarial", 0,
                                             4)) and not one.enter_stage(StagePosition(2, "adversarial", 1, 4))
    state = one.state_dict()
    assert_same(best, subset(state, "average"))
    assert_same(best, {name: p.data for name, p in one.model.named_parameters()})
    assert (one.best_loss, one.best_score) == (math.inf, math.inf)
    one.model.person_embedding_a.data[:] = 7  # weights, averages and best are separate arrays
    one.average.averages[0][:] = 8
    assert same(state, one.state_dict(), "best")


def test_generator_step_uses_the_updated_discriminator(faces, monkeypatch):
    one, seen = new_trainer(), []
    step = steps.train_generator

    def watched(model, optimizer, config, reconstructions, network, weight):
        seen.append((network.state_dict(), weight))
        return step(model, optimizer, config, reconstructions, network, weight)

    with batches(faces) as prefetcher:
        take_steps(one, prefetcher, 8)
        before = one.adversary.network.state_dict()
        monkeypatch.setattr(steps, "train_generator", watched)
        take_steps(one, prefetcher, 2)
    assert len(seen) == 2 and seen[1][1] == pytest.approx(0.1)
    assert_same(seen[1][0], one.adversary.network.state_dict())
    assert not np.array_equal(before["score.weight"], seen[0][0]["score.weight"])
    assert not np.array_equal(seen[0][0]["score.weight"], seen[1][0]["score.weight"])


def test_each_discriminator_step_has_its_own_batch(faces, monkeypatch):
    config, shown = dataclasses.replace(CONFIG, discriminator_steps=3), []
    one = new_trainer(config)
    step = steps.train_discriminator

    def watched(network, optimizer, config, real, fake, k):
        shown.append((real.faces.copy(), fake.faces.copy(), k))
        return step(network, optimizer, config, real, fake, k)

    monkeypatch.setattr("gan.training.adversary.train_discriminator", watched)
    with batches(faces, config) as prefetcher:
        take_steps(one, prefetcher, 8)
        shown.clear()
        take_steps(one, prefetcher, 2)
        usual = prefetcher(10)
    assert len(shown) == 6
    for k, (real, fake, _) in enumerate(shown):
        for other_real, other_fake, _ in shown[:k]:
            assert not np.array_equal(real, other_real) and not np.array_equal(fake, other_fake)
    expected = np.concatenate([batch.target for batch in faces.batches(config, 9, 0.0)])
    np.testing.assert_array_equal(shown[5][0], expected)  # the last step is on the autoencoder's batch
    assert not np.array_equal(expected, usual[0][0].target)


@pytest.mark.parametrize("discriminator_steps, numbers",
                         [(1, {8, 9, 10, 11}), (2, set(range(16, 24))), (3, set(range(24, 36)))])
def test_each_discriminator_step_has_its_own_number(faces, monkeypatch, discriminator_steps, numbers):
    """Its noise, its mix and R1 depend on the number.

    With one discriminator step it is the number of the run's step.
    """
    config, found = dataclasses.replace(CONFIG, discriminator_steps=discriminator_steps, noise=0.1), []
    with_noise = steps.with_noise
    monkeypatch.setattr("gan.training.adversary.with_noise", lambda *key: found.append(key[3:]) or with_noise(*key))
    with batches(faces, config) as prefetcher:
        one = new_trainer(config)
        take_steps(one, prefetcher, 8)
        assert found == [(k, part) for k in (4, 5, 6, 7) for part in (0, 1)]  # in its own stage: one per step
        found.clear()
        take_steps(one, prefetcher, 4)
    assert len(found) == 2 * len(numbers) and set(found) == {(k, part) for k in numbers for part in (0, 1)}


def test_r1_is_computed_every_few_discriminator_steps(faces, monkeypatch):
    config, computed = dataclasses.replace(CONFIG, discriminator_steps=2, r1=1.0, r1_every=4), []
    step = steps.train_discriminator

    def watched(*arguments):
        discriminator_metrics = step(*arguments)
        computed.append("penalty" in discriminator_metrics)
        return discriminator_metrics

    monkeypatch.setattr("gan.training.adversary.train_discriminator", watched)
    with batches(faces, config) as prefetcher:
        one = new_trainer(config)
        take_steps(one, prefetcher, 8)
        computed.clear()
        shown = ["penalty" in take_steps(one, prefetcher, 1) for _ in range(4)]
    assert len(computed) == 8 and np.diff(np.flatnonzero(computed)).tolist() == [4]
    assert shown == [True, False, True, False]  # what metrics.csv contains


def test_instance_noise_fades_over_the_stage(faces, monkeypatch):
    config, strengths = dataclasses.replace(CONFIG, noise=0.4), []
    monkeypatch.setattr("gan.training.adversary.with_noise", lambda shown, strength, *key: strengths.append(strength)
                        or shown)
    with batches(faces, config) as prefetcher:
        take_steps(new_trainer(config), prefetcher, TOTAL)
    assert strengths == pytest.approx(2 * [s for k in range(4) for s in 2 * [0.4 * (1 - k / 4)]])


def test_adversary_changes_nothing_during_its_warmup(faces):
    """The autoencoder is trained as without it, bit for bit, while the discriminator learns."""
    def ended(stage, config):
        plan = [["autoencoder", 2], [stage, 8]]
        one = new_trainer(config)
        with batches(faces, config, plan) as prefetcher:
            take_steps(one, prefetcher, 6, plan)
        return one.state_dict()

    unwarped = dataclasses.replace(CONFIG, warp=0.0, learning_rate=1e-3, adversarial_learning_rate=1e-3)
    plain, against = (ended(stage, dataclasses.replace(unwarped, adversarial_warmup=6))
                      for stage in ("autoencoder", "adversarial"))
    assert same(plain, against, "model") and same(plain, against, "average")
    assert subset(against, "adversary.network") and not subset(plain, "adversary.network")
    assert not same(plain, ended("adversarial", unwarped), "model")  # without warmup


# Batches

def test_batch_k_does_not_depend_on_the_order(faces):
    with batches(faces) as prefetcher:
        expected_arrays = [arrays(prefetcher(k)) for k in range(8)]
    for order in ([5, 0, 7, 2], [3], [6, 5, 4, 3, 2, 1, 0]):
        with batches(faces) as prefetcher:
            for k in order:
                for got, expected in zip(arrays(prefetcher(k)), expected_arrays[k], strict=True):
                    np.testing.assert_array_equal(got, expected)


def test_batches_differ_by_number_side_seed_and_substep(faces):
    config = dataclasses.replace(CONFIG, discriminator_steps=3)
    with batches(faces, config) as prefetcher, batches(faces, dataclasses.replace(config, seed=5)) as other:
        (first,), (second,), (elsewhere,) = prefetcher(0), prefetcher(1), other(0)
        first_of_stage, *extras = prefetcher(8)  # the adversarial stage begins
    assert len(extras) == 2
    for batch in (second[0], first[1], elsewhere[0]):
        assert not np.array_equal(first[0].warped, batch.warped)
    for batch in (*extras[0], *extras[1]):
        assert not np.array_equal(first_of_stage[0].warped, batch.warped)
    assert not np.array_equal(extras[0][0].warped, extras[1][0].warped)
    assert [batch.warped.shape for batch in first] == [(2, 32, 32, 3)] * 2


def test_only_the_adversarial_stage_has_batches_of_further_discriminator_steps(faces):
    with batches(faces, dataclasses.replace(CONFIG, discriminator_steps=2)) as prefetcher:
        assert [len(prefetcher(k)) for k in range(TOTAL + 2)] == 8 * [1] + 4 * [2] + 2 * [1]


def test_discarded_batches_are_made_again_for_the_changed_plan(faces):
    with batches(faces, plan=[["autoencoder", None]]) as prefetcher:
        prefetcher(0)
        prefetcher._futures[2].result()  # made in advance, with full warp
        prefetcher._config.plan[0][1] = 3
        prefetcher.discard()
        found = prefetcher(2)
    with batches(faces, plan=[["autoencoder", 3]]) as prefetcher:
        for got, expected in zip(arrays(found), arrays(prefetcher(2)), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_batches_at_the_end_of_the_first_stage_are_not_warped(faces):
    def displacement(step, config=CONFIG):
        with batches(faces, config, [["autoencoder", 1000]]) as prefetcher:
            batch = prefetcher(step)[0][0]
        return np.abs(batch.warped - batch.target).mean()
    assert displacement(999) < 0.05 * displacement(0)
    assert displacement(999, dataclasses.replace(CONFIG, fading_warp=False)) > 0.005


# Saving and resuming

def test_state_dict_is_a_copy(faces):
    one = new_trainer()
    with batches(faces) as prefetcher:
        take_steps(one, prefetcher, 9)
        state = one.state_dict()
        before = {name: array.copy() for name, array in state.items()}
        two = new_trainer(seed=9)
        two.load_state_dict(state)
        for each in (one, two):
            take_steps(each, prefetcher, 1)
    assert_same(state, before)
    assert_same(one.state_dict(), two.state_dict())


OPTIONS = {"non-saturating": {}, "wasserstein-gp": {"discriminator_steps": 2, "noise": 0.1},
           "hinge": {"r1": 1.0, "r1_every": 3}}


@pytest.mark.slow
@pytest.mark.parametrize("name, kind, spectral", [("non-saturating", "patch", False), ("wasserstein-gp", "patch", True),
                                                  ("hinge", "unet", True)])
def test_resuming_in_any_stage_is_bit_for_bit_like_no_interruption(faces, tmp_path, name, kind, spectral):
    config = dataclasses.replace(CONFIG, objective=name, **OPTIONS[name])

    def session(steps, state):
        """Take steps, keep the best averages at every third, and save."""
        one = new_trainer(config, 0 if state is None else 9, kind, spectral)
        if state is not None:
            one.load_state_dict(nn.load(state))
        with batches(faces, config) as prefetcher:
            for _ in range(steps):
                take_steps(one, prefetcher, 1)
                if one.step % 3 == 0:
                    one.keep_if_best(held_out(1 / one.step), "autoencoder")
        nn.save(tmp_path / "state.npz", one.state_dict())
        return one.state_dict()

    uninterrupted = session(TOTAL, None)
    session(1, None)
    for count in (3, 3, 2, 1, 2):  # stops within each stage and between stages
        resumed = session(count, tmp_path / "state.npz")
    assert_same(uninterrupted, resumed)


@pytest.mark.parametrize("name", ["model.encoder.squeeze.weight", "average.encoder.squeeze.weight",
                                  "best.person_embedding_a",
                                  "optimizer.m.0", "adversary.network.score.weight", "adversary.optimizer.v.1",
                                  "adversary.spectra.real"])
@pytest.mark.parametrize("change", ["missing", "shape"])
def test_state_with_a_missing_or_wrong_array_is_refused(name, change):
    one = new_trainer()
    one.enter_stage(StagePosition(1, "discriminator", 0, 4))
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


@pytest.mark.parametrize("name", ["step", "lr_scale", "best_loss", "stage_number"])
def test_state_without_a_scalar_is_refused(name):
    state = new_trainer().state_dict()
    del state[name]
    with pytest.raises(ValueError, match=name):
        new_trainer().load_state_dict(state)


def test_state_without_an_adversary_removes_it():
    one = new_trainer()
    state = one.state_dict()
    one.enter_stage(StagePosition(1, "discriminator", 0, 4))
    one.load_state_dict(state)
    assert one.adversary is None and one.stage_number == 0


BEFORE_ADVERSARIAL = StagePosition(1, "discriminator", 0, 4, last=False)


@pytest.mark.parametrize("position", [BEFORE_ADVERSARIAL, StagePosition(1, "adversarial", 0, 4)])
def test_pretrained_discriminator_is_kept_until_its_stage(position):
    """It may be used in a later session, and is used once."""
    trained = new_trainer(seed=7)
    trained.enter_stage(StagePosition(1, "discriminator", 0, 4))
    weights = {name: array + 1 for name, array in trained.adversary.network.state_dict().items()}
    one, two = new_trainer(), new_trainer()
    one.pretrained_discriminator = weights
    two.load_state_dict(one.state_dict())
    two.enter_stage(position)
    for name, array in two.adversary.network.state_dict().items():
        np.testing.assert_array_equal(array, weights[name], err_msg=name)
    assert not two.pretrained_discriminator and not any(name.startswith("pretrained_discriminator")
                                                        for name in two.state_dict())
    one.load_state_dict(two.state_dict())
    assert not one.pretrained_discriminator


def test_judge_starts_from_random_weights():
    plain, judge = new_trainer(), new_trainer()
    weights = {name: array + 1 for name, array in judge._new_adversary().network.state_dict().items()}
    for one in (plain, judge):
        one.pretrained_discriminator = weights if one is judge else {}
        one.enter_stage(StagePosition(1, "discriminator", 0, 4))
    for name, array in judge.adversary.network.state_dict().items():
        np.testing.assert_array_equal(array, plain.adversary.network.state_dict()[name], err_msg=name)
    assert not judge.pretrained_discriminator


# Averages and best averages

def test_average_weights_within_the_context_only(faces):
    one = new_trainer()
    with batches(faces) as prefetcher:
        take_steps(one, prefetcher, 3)
    state = one.state_dict()
    with one.average_weights():
        assert_same(subset(state, "average"), {name: p.data for name, p in one.model.named_parameters()})
    assert_same(state, one.state_dict())
    assert any(not np.array_equal(state[f"average.{name}"], state[f"model.{name}"])
               for name in subset(state, "average"))


def test_average_weights_are_restored_after_an_error():
    one = new_trainer()
    before = one.state_dict()
    with pytest.raises(KeyError), one.average_weights():
        raise KeyError
    assert_same(before, one.state_dict())


def test_measure_uses_the_averaged_weights(faces):
    one = new_trainer()
    for average in one.average.averages:
        average *= 0.5
    found = one.measure(faces)
    with one.average_weights():
        expected = []
        for subject, side in ((faces.a, "a"), (faces.b, "b")):
            target, mask = subject.crops(subject.held_out)
            face, generated_mask = one.model.generate(target, side, side)
            loss, _ = losses.reconstruction(np.concatenate([face, generated_mask], axis=-1), target, mask,
                                            CONFIG.loss_weights)
            expected.append((float(loss), metrics.sharpness(face, target, mask), metrics.variety(face, target, mask)))
    assert (found.loss, found.sharpness, found.variety) == pytest.approx(np.mean(expected, axis=0), rel=1e-5)


def test_best_averages_are_kept_and_restored(faces):
    one, averages = new_trainer(), []
    with batches(faces) as prefetcher:
        for loss in (0.5, 0.3, 0.4):
            take_steps(one, prefetcher, 1)
            averages.append(subset(one.state_dict(), "average"))
            one.keep_if_best(held_out(loss), "autoencoder")
    assert (one.best_step, one.best_loss, one.best_score) == (2, 0.3, 0.3)
    with one.best_weights():
        assert_same(averages[1], {name: p.data for name, p in one.model.named_parameters()})
    two = new_trainer(seed=9)
    two.load_state_dict(one.state_dict())
    assert_same(one.state_dict(), two.state_dict())
    assert two.best_loss == 0.3


def test_selection_score_includes_sharpness_in_the_adversarial_stage():
    """Half as sharp, or twice, adds 0.02 to the loss, but not in the autoencoder stage."""
    soft, sharp = held_out(0.10, sharpness=0.25), held_out(0.13, sharpness=1.0)
    assert soft.selection_score("autoencoder") == 0.10
    assert soft.selection_score("adversarial") == pytest.approx(0.10 + 2 * 0.02)
    assert sharp.selection_score("adversarial") == pytest.approx(0.13)
    for sharpness in (2.0, 0.5):
        assert held_out(0.1, sharpness).selection_score("adversarial") == pytest.approx(0.12)
    assert held_out(0.1, math.nan).selection_score("adversarial") == 0.1
    one = new_trainer()
    for step, found in enumerate((soft, sharp), 1):
        one.step = step
        one.keep_if_best(found, "adversarial")
    assert (one.best_step, one.best_loss) == (2, 0.10)


def test_validation_keeps_the_best_averages_and_returns_its_metrics(monkeypatch):
    one = new_trainer()
    for step, (loss, sharpness) in enumerate([(0.5, 1.0), (0.3, 0.5), (0.4, 1.0)], 1):
        one.step = step
        monkeypatch.setattr(Trainer, "measure", lambda self, dataset: held_out(loss, sharpness))
        assert one.validate("faces", "autoencoder") == {"held_out": loss, "sharpness": sharpness, "variety": 1.0}
    assert (one.best_step, one.best_loss) == (2, 0.3)


def test_collapse_needs_high_training_and_held_out_losses(monkeypatch):
    one, measured = new_trainer(), []
    falling = np.full(30, 0.1)
    collapsed = np.r_[falling, np.full(20, 0.9)]

    def has_collapsed(loss, training_losses, stage="autoencoder"):
        monkeypatch.setattr(Trainer, "measure", lambda self, dataset: measured.append(dataset) or held_out(loss))
        try:
            one.check_collapse("faces", stage, training_losses)
        except DivergenceError as error:
            assert str(error) == "the reconstruction of held-out faces collapsed"
            return True
        return False

    assert not has_collapsed(5.0, collapsed)  # nothing measured yet in this stage
    one.keep_if_best(held_out(0.2), "autoencoder")
    assert has_collapsed(0.5, collapsed) and has_collapsed(0.5, collapsed, "adversarial")
    assert not has_collapsed(0.39, collapsed)  # less than twice the best
    assert not has_collapsed(0.5, falling)  # only held-out faces are worse: overfitting
    assert has_collapsed(math.nan, collapsed)
    assert not has_collapsed(0.5, np.full(30, np.nan)) and not has_collapsed(0.5, collapsed[:0])
    assert trainer.LATEST_STEPS == 20 and has_collapsed(0.5, np.r_[collapsed, np.full(3, np.nan)])
    assert set(measured) == {"faces"}
    measured.clear()
    assert not has_collapsed(0.5, collapsed, "discriminator") and not measured  # the autoencoder is frozen
