"""Plans of stages, positions in them, and what depends on these, against values by hand."""
import math

import numpy as np
import pytest

from gan.run.config import Config
from gan.run.schedule import (STAGES, STAGE_FRACTIONS, WARMUP_STEPS, StagePosition, adversarial_weight, completed_part,
    is_encoder_frozen, learning_rate, length, noise_strength, position_at, stage_fraction, three_stage_plan,
    warp_strength)

PLAN = [["autoencoder", 3], ["discriminator", 2], ["adversarial", 4]]


def test_stages_and_their_fractions():
    assert STAGES == ("autoencoder", "discriminator", "adversarial")
    assert sum(STAGE_FRACTIONS) == pytest.approx(1) and [stage_fraction(stage) for stage in STAGES] == [0.6, 0.08, 0.32]


@pytest.mark.parametrize("steps, lengths", [(1000, [600, 80, 320]), (12, [7, 1, 4]), (20_000, [12_000, 1600, 6400]),
                                            (5, [2, 1, 2]), (3, [1, 1, 1])])
def test_lengths_of_a_three_stage_plan(steps, lengths):
    plan = three_stage_plan(steps)
    assert plan == [list(entry) for entry in zip(STAGES, lengths)] and length(plan) == steps


def test_each_stage_has_at_least_one_step():
    assert three_stage_plan(1) == three_stage_plan(2) == [[stage, 1] for stage in STAGES]
    for steps in range(3, 200):
        assert length(three_stage_plan(steps)) == steps


def test_plan_of_open_length():
    plan = three_stage_plan(None)
    assert plan == [[stage, None] for stage in STAGES] and length(plan) is None
    assert length([["autoencoder", 4], ["discriminator", None]]) is None
    assert position_at(plan, 10_000) == StagePosition(0, "autoencoder", 10_000, None, last=False)
    assert position_at(plan, 10_000).progress() == 0
    assert completed_part(plan, 7) == [["autoencoder", 7]]


def test_position_at_each_step():
    expected = [(0, "autoencoder", 0, 3), (0, "autoencoder", 1, 3), (0, "autoencoder", 2, 3),
                (1, "discriminator", 0, 2),
                (1, "discriminator", 1, 2), (2, "adversarial", 0, 4), (2, "adversarial", 1, 4),
                (2, "adversarial", 2, 4),
                (2, "adversarial", 3, 4)]
    positions = [position_at(PLAN, step) for step in range(9)]
    assert [(p.number, p.stage, p.step, p.total) for p in positions] == expected
    assert [p.last for p in positions] == [False] * 5 + [True] * 4
    assert position_at(PLAN, 9) is None and position_at(PLAN, 99) is None
    assert [p.progress() for p in positions[5:]] == [0, 0.25, 0.5, 0.75]
    assert position_at([*PLAN[:2], ["adversarial", None]], 50) == StagePosition(2, "adversarial", 45, None)


def test_completed_part_of_a_plan():
    assert [completed_part(PLAN, step) for step in (0, 2, 3, 4, 9, 12)] == [
        [], [["autoencoder", 2]], PLAN[:1], [PLAN[0], ["discriminator", 1]], PLAN, PLAN]
    assert PLAN == [["autoencoder", 3], ["discriminator", 2], ["adversarial", 4]]


def lr_at(peak, step, total):
    return learning_rate(peak, StagePosition(0, "autoencoder", step, total))


def test_learning_rate_warms_up_stays_and_decays_to_0():
    total = 10 * WARMUP_STEPS
    lrs = [lr_at(3.0, step, total) for step in range(total)]
    np.testing.assert_allclose(lrs[:WARMUP_STEPS], [3.0 * (k + 1) / WARMUP_STEPS for k in range(WARMUP_STEPS)])
    assert set(lrs[WARMUP_STEPS:total // 2]) == {3.0}
    later = [3.0 * (1 + math.cos(math.pi * (2 * k / total - 1))) / 2 for k in range(total // 2, total)]
    np.testing.assert_allclose(lrs[total // 2:], later)
    assert np.all(np.diff(lrs[total // 2:]) <= 0) and lr_at(3.0, total, total) == pytest.approx(0, abs=1e-12)
    assert lr_at(3.0, 7500, 10_000) == pytest.approx(1.5)  # halfway down


def test_first_half_of_the_learning_rate_does_not_depend_on_the_length():
    for step in range(200):
        assert lr_at(1.0, step, 400) == lr_at(1.0, step, 100_000) == lr_at(1.0, step, None)


def test_warp_fades_out_in_the_second_half_of_the_first_stage():
    positions = [StagePosition(0, "autoencoder", step, 8) for step in range(9)]
    assert [warp_strength(Config(), position) for position in positions] == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0]
    assert warp_strength(Config(), StagePosition(0, "autoencoder", 7, None)) == 1
    assert warp_strength(Config(warp=0.4), StagePosition(0, "autoencoder", 6, 8)) == pytest.approx(0.2)
    assert warp_strength(Config(), None) == warp_strength(Config(fading_warp=False), None) == 0  # beyond the last step


@pytest.mark.parametrize("stage", ["discriminator", "adversarial"])
def test_later_stages_have_no_warp(stage):
    assert warp_strength(Config(), StagePosition(1, stage, 0, 8)) == 0
    assert warp_strength(Config(fading_warp=False), StagePosition(1, stage, 7, 8)) == 1


def test_adversarial_weight_by_hand():
    def weights(config, total):
        return [adversarial_weight(config, StagePosition(2, "adversarial", step, total))
                for step in (0, 10, 20, 30, 40, 50, 60, 199)]
    by_hand = [0, 0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.4]  # 0 for 10 steps, then a linear ramp over 40
    assert weights(Config(adversarial_weight=0.4, adversarial_warmup=10), 1000) == pytest.approx(by_hand)
    assert weights(Config(adversarial_weight=0.4), 200) == pytest.approx(by_hand)  # warmup: a twentieth of the stage
    assert weights(Config(adversarial_weight=0.4, adversarial_warmup=10), None) == pytest.approx(by_hand)
    open_stage = StagePosition(2, "adversarial", 50, None)
    assert adversarial_weight(Config(adversarial_weight=0.4), open_stage) == 0  # 50 of 1000
    without = Config(adversarial_weight=0.4, adversarial_warmup=0)
    assert [adversarial_weight(without, StagePosition(2, "adversarial", step, 10)) for step in (0, 1)] == [0, 0.4]


def test_noise_fades_over_the_stage():
    strengths = [noise_strength(Config(noise=0.4), StagePosition(1, "discriminator", step, 4)) for step in range(4)]
    assert strengths == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert noise_strength(Config(noise=0.4), StagePosition(1, "discriminator", 3, None)) == 0.4


@pytest.mark.parametrize("fraction, frozen", [(0.0, []), (0.5, [0, 1]), (1.0, [0, 1, 2, 3, "adversarial"])])
def test_encoder_is_frozen_for_a_fraction_of_the_first_stage(fraction, frozen):
    positions = {step: StagePosition(0, "autoencoder", step, 4) for step in range(4)}
    positions["adversarial"] = StagePosition(1, "adversarial", 0, 4)
    config = Config(freeze_encoder=fraction)
    assert [name for name, position in positions.items() if is_encoder_frozen(config, position)] == frozen


def test_last_step_and_what_follows():
    positions = [position_at(PLAN, step) for step in range(9)]
    assert [p.is_last_step() for p in positions] == [False, False, True, False, True, False, False, False, True]
    assert not StagePosition(0, "autoencoder", 5, None).is_last_step()
    assert [p.leads_to_adversarial() for p in positions] == [True] * 9  # also the last stage is adversarial
    assert not position_at(PLAN[:2], 3).leads_to_adversarial() and position_at(PLAN[:2], 2).leads_to_adversarial()
