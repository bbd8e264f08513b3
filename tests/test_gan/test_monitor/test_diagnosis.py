"""Runs made by hand, each with one trouble: it is told, once, and alone; a healthy run is left in peace."""
import numpy as np
import pytest

from gan.monitor.diagnosis import FORGOTTEN, Diagnosis
from gan.monitor.metrics_log import Curves

AUTOENCODER, DISCRIMINATOR, ADVERSARIAL = 1000, 300, 1500  # steps of the three stages
EVERY = 100  # steps between measurements


def healthy(k):
    """The row of step k of a run in which nothing goes wrong, without noise."""
    alone = k - AUTOENCODER
    under = alone - DISCRIMINATOR
    measured = k % EVERY == 0
    if alone <= 0:
        row = {"stage": "autoencoder", "loss": 0.06 + 0.4 * np.exp(-k / 100)}
        figures = {"held_out": 0.08 + 0.4 * np.exp(-k / 100), "sharpness": 0.4, "variety": 0.9}
    elif under <= 0:
        row = {"stage": "discriminator", "critic": 0.7, "score_real": alone / 100, "score_made": -alone / 100,
               "accuracy": min(0.97, 0.5 + alone / 300), "gradient_critic": 1.0}
        figures = {}
    else:
        row = {"stage": "adversarial", "loss": 0.065, "critic": 0.5, "score_real": 1.5, "score_made": -1.5, "accuracy": 0.85,
               "gradient_critic": 1.0, "gradient_made": 0.01, "adversarial": 1.5, "weight": min(0.02, under / 5000)}
        figures = {"held_out": 0.08 + 0.006 * under / ADVERSARIAL, "sharpness": min(0.9, 0.4 + under / 1000),
                   "variety": 0.9}
    return {"step": k, **row, **(figures if measured else {})}


def run(change=lambda row, under: {}, steps=AUTOENCODER + DISCRIMINATOR + ADVERSARIAL, seed=0):
    """(curves, the lines said step by step with their steps, those said at the end) of a run in which change(row, steps
    under the adversary) says what is otherwise. Batches differ by a tenth, scores by 0.2, measurements by 0.5 %."""
    random = np.random.default_rng(seed)
    curves, diagnosis, said = Curves(), Diagnosis(), []
    for k in range(1, steps + 1):
        row = healthy(k)
        row |= change(row, k - AUTOENCODER - DISCRIMINATOR)
        for name, value in row.items():
            if name in ("loss", "gradient_made", "gradient_critic"):
                row[name] = value * np.exp(0.1 * random.standard_normal())
            elif name in ("score_real", "score_made"):
                row[name] = value + 0.2 * random.standard_normal()
            elif name in ("held_out", "sharpness", "variety") and value is not None:
                row[name] = value * (1 + 0.005 * random.standard_normal())
        curves.add(row)
        if k % EVERY == 0:
            said += [(k, line) for line in diagnosis.look(curves)]
    return curves, said, diagnosis.at_the_end(curves)


def under_adversary(figures):
    """A change of the adversarial stage alone; figures(row, steps under it) -> what is otherwise."""
    return lambda row, under: figures(row, under) if under > 0 else {}


def measured(row, **figures):
    """The figures, in rows in which held-out faces are measured."""
    return {name: value for name, value in figures.items() if row["step"] % EVERY == 0}


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_left_in_peace(seed):
    assert run(seed=seed)[1:] == ([], [])


TROUBLES = {
    "push fades": (under_adversary(lambda row, under: {"accuracy": 0.99, "gradient_made": 0.01 * np.exp(-under / 200)}),
                   "the discriminator has won", "its push on the drawn faces fell", "--critic-rate"),
    "scores part": (under_adversary(lambda row, under: {"accuracy": 0.99, "score_real": 1.5 + under / 100}),
                    "the discriminator has won", "scores of real and drawn faces part", "--critic-rate"),
    "collapse": (under_adversary(lambda row, under: measured(row, variety=0.9 - 0.4 * under / ADVERSARIAL)),
                 "the drawn faces collapse", "before the adversary", "--adversarial-weight"),
    "coin": (under_adversary(lambda row, under: {"accuracy": 0.51, **measured(row, held_out=0.08 + under / 150_000)}),
             "no more than a coin", "51 %", "--critic-rate"),
    "decay": (under_adversary(lambda row, under: measured(row, held_out=0.08 + 0.08 * under / ADVERSARIAL)),
              "it does not converge", "held-out loss rose", "--adversarial-weight"),
    "swing": (under_adversary(lambda row, under: {"score_made": -1.5 + 0.1 * np.exp(under / 150) * np.sin(under / 5)}),
              "it does not converge", "swing around each other", "--critic-rate"),
    "grain": (under_adversary(lambda row, under: measured(row, sharpness=0.4 + 2 * under / ADVERSARIAL)),
              "grainy", "fine detail", "--adversarial-weight"),
    "no foothold": (lambda row, under: {"accuracy": 0.52} if row["stage"] == "discriminator" else {},
                    "no foothold", "52 %", "--critic-rate"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_trouble_is_told_once_and_alone(name):
    change, *parts = TROUBLES[name]
    _, said, end = run(change)
    assert len(said) == 1 and end == [], said
    for part in parts:
        assert part in said[0][1]


def test_a_discriminator_that_is_nearly_always_right_but_heard_has_not_won():
    """Accuracy alone is no trouble: with the non-saturating loss the push then is at its strongest."""
    assert run(under_adversary(lambda row, under: {"accuracy": 0.99}))[1:] == ([], [])


def test_a_push_that_fades_because_the_autoencoder_learned_is_no_trouble():
    change = under_adversary(lambda row, under: {"accuracy": 0.7, "gradient_made": 0.01 * np.exp(-under / 200)})
    assert run(change)[1:] == ([], [])


def test_a_coin_while_the_faces_stay_good_is_the_aim():
    assert run(under_adversary(lambda row, under: {"accuracy": 0.5, **measured(row, held_out=0.08)}))[1:] == ([], [])


@pytest.mark.parametrize("scores", [
    lambda under: (1.5, 1.2 + 4 * np.exp(-under / 800) * np.sin(under / 5)),  # a swing that dies down
    lambda under: (5000, -1.5 + 0.1 * np.exp(under / 150) * np.sin(under / 5)),  # one that leaves the lead where it is
    lambda under: (1.5, -1.5 + 0.1 * np.exp(under / 150) * (-1) ** under),  # not a swing: batches that differ
    lambda under: (0.1 * np.exp(under / 150) - 70, 0),  # a lead that is won back, faster and faster
    lambda under: (1.5, -1.5 * np.exp(under / 150)),  # a lead that grows
])
def test_scores_that_do_not_swing_wider(scores):
    change = under_adversary(lambda row, under: dict(zip(("score_real", "score_made"), scores(under))))
    assert run(change)[1:] == ([], [])


def test_a_coin_that_ruins_the_faces_is_told_as_a_coin_alone():
    change = under_adversary(lambda row, under: {"accuracy": 0.5, **measured(row, held_out=0.08 + 5e-5 * under)})
    _, said, end = run(change)
    assert len(said) == 1 and end == [] and "coin" in said[0][1]


def test_a_held_out_loss_that_rose_once_and_stays_decays_no_longer():
    """Whoever goes on with such a run is not told of what is over."""
    curves, said, _ = run(under_adversary(lambda row, under: measured(row, held_out=0.08 + (under > 500) * 0.04)))
    assert len(said) == 1 and "does not converge" in said[0][1]
    assert Diagnosis().look(curves) == []


def test_the_adversary_is_not_judged_before_it_has_been_heard():
    def change(row, under):
        return {"accuracy": 0.99, "score_real": 1.5 + under / 10, **measured(row, sharpness=0.41)} if under > 0 else {}

    before, after = (run(change, steps=AUTOENCODER + DISCRIMINATOR + under) for under in (199, 300))
    assert before[1:] == ([], [])
    assert "has won" in after[1][0][1] and "changed little" in after[2][0]


def test_an_adversary_that_is_still_in_its_warm_up_has_no_effect_to_miss():
    change = under_adversary(lambda row, under: {"weight": 0.0, **measured(row, sharpness=0.41)})
    assert run(change)[1:] == ([], [])


def test_a_stage_that_is_over_is_not_judged_again():
    """The discriminator starts anew after a collapse: what went wrong was told before."""
    curves = run(TROUBLES["collapse"][0])[0]
    for k in range(1, 101):
        curves.add(healthy(AUTOENCODER + k) | {"step": len(curves) + 1})
    assert Diagnosis().look(curves) == []


def test_one_odd_measurement_says_nothing():
    odd = {"variety": 0.3, "sharpness": 3.0, "held_out": 0.2}
    change = under_adversary(lambda row, under: odd if under == 700 else {})
    assert run(change)[1:] == ([], [])


def test_an_adversary_that_leaves_sharp_faces_sharp_is_in_order():
    assert run(lambda row, under: measured(row, sharpness=1.05))[1:] == ([], [])


def autoencoder_alone(loss, held_out):
    """A change for a run of the autoencoder alone: its losses as functions of the step."""
    return lambda row, under: {"loss": loss(row["step"]), **measured(row, held_out=held_out(row["step"]))}


def best_at_400(k):
    """A held-out loss that is 0.1 at step 400 and 1 % more each hundred steps later."""
    return 0.1 + 1e-5 * abs(k - 400) + (k < 400) * 0.02


def test_over_training_names_the_step_whose_weights_are_used():
    change = autoencoder_alone(lambda k: 0.2 * np.exp(-k / 500), best_at_400)
    _, said, end = run(change, steps=AUTOENCODER)
    assert len(said) == 1 and end == []
    assert "over-trains since step 400" in said[0][1] and "weights of step 400 are kept" in said[0][1]


def test_a_held_out_loss_that_wavers_is_no_over_training():
    """From step 500 on it lies 0.7 % above its best."""
    change = autoencoder_alone(lambda k: 0.2 * np.exp(-k / 500), lambda k: 0.1 + (k < 400) * 0.02 + (k > 400) * 0.0007)
    assert run(change, steps=AUTOENCODER)[1:] == ([], [])


def test_a_best_that_is_not_long_ago_is_no_over_training():
    """It lies 500 of 3000 steps back."""
    def change(row, under):
        k = row["step"]
        return {"stage": "autoencoder", "loss": 0.2 * np.exp(-k / 500), **measured(row, held_out=0.1 + 2e-5 * abs(k - 2500))}

    assert run(change, steps=3000)[1:] == ([], [])


def test_both_losses_rising_is_no_over_training():
    """Faces are learned by heart only where the training loss falls; here the inputs became harder for both."""
    change = autoencoder_alone(lambda k: 0.1 + k / 4000, best_at_400)
    assert run(change, steps=AUTOENCODER)[1:] == ([], [])


def test_under_training_is_told_at_the_end_alone():
    """From 0.12 at step 800 to 0.09 at step 1000: a quarter."""
    change = autoencoder_alone(lambda k: 0.25 - k / 10000, lambda k: 0.24 - 0.00015 * k)
    _, said, end = run(change, steps=AUTOENCODER)
    assert said == [] and len(end) == 1
    assert "under-trained" in end[0] and "fell by 25 %" in end[0] and "--steps" in end[0]


def test_a_fall_that_has_ended_is_no_under_training():
    """0.12 at step 800, 0.09 at 900, 0.1 at 1000."""
    change = autoencoder_alone(lambda k: 0.25 - k / 10000, lambda k: {900: 0.09, 1000: 0.1}.get(k, 0.24 - 0.00015 * k))
    assert run(change, steps=AUTOENCODER)[1:] == ([], [])


def test_under_training_is_told_when_the_next_stage_begins():
    def change(row, under):
        return measured(row, held_out=0.24 - 0.00015 * row["step"]) if row["stage"] == "autoencoder" else {}

    _, said, end = run(change)
    ((step, line),) = said
    assert step == AUTOENCODER + EVERY and "fell by 25 %" in line and end == []


def test_a_foothold_is_looked_for_when_the_discriminator_has_had_its_steps():
    """Half of the time right up to step 250 of its stage but not at its end: no trouble. Else it is told at the end."""
    def late(row, under):
        return {"accuracy": 0.5 if row["step"] < AUTOENCODER + 250 else 0.9} if row["stage"] == "discriminator" else {}

    assert run(late)[1:] == ([], [])
    change = TROUBLES["no foothold"][0]
    assert [step for step, _ in run(change)[1]] == [AUTOENCODER + DISCRIMINATOR + EVERY]
    _, said, end = run(change, steps=AUTOENCODER + DISCRIMINATOR)
    assert said == [] and "no foothold" in end[0]


def test_an_adversary_without_effect_is_told_at_the_end():
    _, said, end = run(under_adversary(lambda row, under: measured(row, sharpness=0.41)))
    assert said == [] and len(end) == 1
    assert "the adversary changed little" in end[0] and "0.4" in end[0] and "--adversarial-weight" in end[0]


def test_a_trouble_that_went_away_and_came_back_is_told_again():
    """The faces collapse from step 300 to 700 of the stage, and from step 1500 on; a look at 800 to 1500 finds nothing."""
    def variety(row, under):
        return measured(row, variety=0.5 if 300 < under <= 700 or under > 1500 else 0.9)

    total = AUTOENCODER + DISCRIMINATOR + ADVERSARIAL + 600
    _, said, _ = run(under_adversary(variety), steps=total)
    assert len(said) == 2 and all("collapse" in line for _, line in said)


def test_a_trouble_about_at_its_limit_does_not_chatter():
    """Found in every third look: fewer misses in between than make it forgotten."""
    assert FORGOTTEN > 3
    diagnosis, said = Diagnosis(), []
    healthy_run = run()[0]
    ill = run(TROUBLES["collapse"][0])[0]
    for k in range(12):
        said += diagnosis.look(ill if k % 3 == 0 else healthy_run)
    assert len(said) == 1


def test_a_session_that_goes_on_with_an_ill_run_says_so_once():
    """Whoever starts it again is told again: curves read from the disk count as those just measured."""
    curves = run(TROUBLES["collapse"][0])[0]
    later = Diagnosis()
    (line,) = later.look(curves)
    assert "collapse" in line
    assert later.look(curves) == [] and later.at_the_end(curves) == []


@pytest.mark.parametrize("steps", [0, 1, 2, 10, AUTOENCODER + 1, AUTOENCODER + DISCRIMINATOR + 1,
                                   AUTOENCODER + DISCRIMINATOR + 150])
def test_few_rows_say_nothing(steps):
    curves = Curves()
    for k in range(1, steps + 1):
        curves.add(healthy(k))
    diagnosis = Diagnosis()
    assert diagnosis.look(curves) == [] and diagnosis.at_the_end(curves) == []


@pytest.mark.parametrize("stage", ["autoencoder", "discriminator", "adversarial"])
def test_rows_without_figures_say_nothing(stage):
    curves = Curves()
    for k in range(1, 1001):
        curves.add({"step": k, "stage": stage})
    diagnosis = Diagnosis()
    assert diagnosis.look(curves) == [] and diagnosis.at_the_end(curves) == []


def test_a_run_that_began_with_the_adversary_is_judged_without_a_before():
    """Continued from elsewhere: nothing was measured before the adversary, so nothing is said of what became of it."""
    curves = Curves()
    for k in range(AUTOENCODER + DISCRIMINATOR + 1, AUTOENCODER + DISCRIMINATOR + ADVERSARIAL):
        curves.add(healthy(k) | measured({"step": k}, variety=0.3))
    assert Diagnosis().at_the_end(curves) == []
