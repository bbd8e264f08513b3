"""Plans of stages, by hand."""
import pytest

from gan.training.schedule import SHARES, STAGES, Place, cut, length, place, share, whole_run

PLAN = [["autoencoder", 3], ["discriminator", 2], ["adversarial", 4]]


def test_the_stages_in_their_order_and_their_shares():
    assert STAGES == ("autoencoder", "discriminator", "adversarial")
    assert sum(SHARES) == pytest.approx(1) and [share(stage) for stage in STAGES] == [0.6, 0.08, 0.32]


@pytest.mark.parametrize("steps, lengths", [(1000, [600, 80, 320]), (12, [7, 1, 4]), (20_000, [12_000, 1600, 6400]),
                                            (5, [2, 1, 2]), (3, [1, 1, 1])])
def test_a_whole_run(steps, lengths):
    plan = whole_run(steps)
    assert plan == [list(entry) for entry in zip(STAGES, lengths)] and length(plan) == steps


def test_each_stage_has_a_step_at_least():
    assert whole_run(1) == whole_run(2) == [[stage, 1] for stage in STAGES]
    for steps in range(3, 200):
        assert length(whole_run(steps)) == steps


def test_a_run_of_open_length():
    plan = whole_run(None)
    assert plan == [[stage, None] for stage in STAGES] and length(plan) is None
    assert length([["autoencoder", 4], ["discriminator", None]]) is None
    assert place(plan, 10_000) == Place(0, "autoencoder", 10_000, None, last=False)
    assert place(plan, 10_000).progress() == 0
    assert cut(plan, 7) == [["autoencoder", 7]]


def test_where_in_its_plan_a_run_is():
    expected = [(0, "autoencoder", 0, 3), (0, "autoencoder", 1, 3), (0, "autoencoder", 2, 3), (1, "discriminator", 0, 2),
                (1, "discriminator", 1, 2), (2, "adversarial", 0, 4), (2, "adversarial", 1, 4), (2, "adversarial", 2, 4),
                (2, "adversarial", 3, 4)]
    places = [place(PLAN, step) for step in range(9)]
    assert [(p.number, p.stage, p.step, p.total) for p in places] == expected
    assert [p.last for p in places] == [False] * 5 + [True] * 4
    assert place(PLAN, 9) is None and place(PLAN, 99) is None
    assert [p.progress() for p in places[5:]] == [0, 0.25, 0.5, 0.75]
    assert place([*PLAN[:2], ["adversarial", None]], 50) == Place(2, "adversarial", 45, None)


def test_a_plan_is_cut_where_it_has_been_run_to():
    assert [cut(PLAN, step) for step in (0, 2, 3, 4, 9, 12)] == [
        [], [["autoencoder", 2]], PLAN[:1], [PLAN[0], ["discriminator", 1]], PLAN, PLAN]
    assert PLAN == [["autoencoder", 3], ["discriminator", 2], ["adversarial", 4]]
