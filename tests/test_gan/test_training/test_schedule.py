"""Plans of stages and positions in them, against values by hand."""
import pytest

from gan.training.schedule import (STAGES, STAGE_FRACTIONS, StagePosition, completed_part, length, position_at,
    stage_fraction, three_stage_plan)

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
