"""Synthetic curves with one failure each give one warning; a healthy run gives none."""
import numpy as np
import pytest

from gan.monitor.diagnosis import FORGET_AFTER, Diagnosis
from gan.monitor.metrics_log import Curves

AUTOENCODER, DISCRIMINATOR, ADVERSARIAL = 1000, 300, 1500  # steps of the three stages
EVERY = 100  # steps between measurements


def healthy(k):
    """Return the row of step k of a healthy run, without noise."""
    alone = k - AUTOENCODER
    under = alone - DISCRIMINATOR
    measured = k % EVERY == 0
    if alone <= 0:
        row = {"stage": "autoencoder", "loss": 0.06 + 0.4 * np.exp(-k / 100)}
        held_out = {"held_out": 0.08 + 0.4 * np.exp(-k / 100), "sharpness": 0.4, "variety": 0.9}
    elif under <= 0:
        row = {"stage": "discriminator", "discriminator_loss": 0.7, "score_real": alone / 100,
               "score_fake": -alone / 100, "accuracy": min(0.97, 0.5 + alone / 300), "discriminator_grad_norm": 1.0}
        held_out = {}
    else:
        row = {"stage": "adversarial", "loss": 0.065, "discriminator_loss": 0.5, "score_real": 1.5, "score_fake": -1.5,
               "accuracy": 0.85, "discriminator_grad_norm": 1.0, "fake_grad_norm": 0.01, "adversarial_loss": 1.5,
               "adversarial_weight": min(0.02, under / 5000)}
        held_out = {"held_out": 0.08 + 0.006 * under / ADVERSARIAL, "sharpness": min(0.9, 0.4 + under / 1000),
                   "variety": 0.9}
    return {"step": k, **row, **(held_out if measured else {})}


def run(change=lambda row, under: {}, steps=AUTOENCODER + DISCRIMINATOR + ADVERSARIAL, seed=0):
    """Simulate a run: return (curves, [(step, warning)], warnings at the end).

    change(row, steps under the adversary) returns what differs from a healthy run. The noise of
    batches is a tenth, that of scores 0.2, that of held-out metrics 0.5 %.
    """
    random = np.random.default_rng(seed)
    curves, diagnosis, said = Curves(), Diagnosis(), []
    for k in range(1, steps + 1):
        row = healthy(k)
        row |= change(row, k - AUTOENCODER - DISCRIMINATOR)
        for name, value in row.items():
            if name in ("loss", "fake_grad_norm", "discriminator_grad_norm"):
                row[name] = value * np.exp(0.1 * random.standard_normal())
            elif name in ("score_real", "score_fake"):
                row[name] = value + 0.2 * random.standard_normal()
            elif name in ("held_out", "sharpness", "variety") and value is not None:
                row[name] = value * (1 + 0.005 * random.standard_normal())
        curves.add(row)
        if k % EVERY == 0:
            said += [(k, line) for line in diagnosis.look(curves)]
    return curves, said, diagnosis.at_the_end(curves)


def under_adversary(change):
    """Restrict change(row, steps under the adversary) to the adversarial stage."""
    return lambda row, under: change(row, under) if under > 0 else {}


def measured(row, **metrics):
    """Return the metrics in rows with held-out metrics, else {}."""
    return {name: value for name, value in metrics.items() if row["step"] % EVERY == 0}


@pytest.mark.parametrize("seed", range(5))
def test_healthy_run_has_no_warnings(seed):
    assert run(seed=seed)[1:] == ([], [])


FAILURES = {  # name -> (change of a healthy run, parts of the warning)
    "gradient fades": (
        under_adversary(lambda row, under: {"accuracy": 0.99, "fake_grad_norm": 0.01 * np.exp(-under / 200)}),
        "the discriminator wins", "its gradient with respect to the generated faces fell",
        "--discriminator-learning-rate"),
    "score gap grows": (
        under_adversary(lambda row, under: {"accuracy": 0.99, "score_real": 1.5 + under / 100}),
        "the discriminator wins", "the gap between the scores of real and generated faces grew",
        "--discriminator-learning-rate"),
    "collapse": (
        under_adversary(lambda row, under: measured(row, variety=0.9 - 0.4 * under / ADVERSARIAL)),
        "mode collapse", "before the adversarial stage", "--adversarial-weight"),
    "at chance": (
        under_adversary(lambda row, under: {"accuracy": 0.51, **measured(row, held_out=0.08 + under / 150_000)}),
        "the discriminator is at chance", "51 %", "--discriminator-learning-rate"),
    "divergence": (
        under_adversary(lambda row, under: measured(row, held_out=0.08 + 0.08 * under / ADVERSARIAL)),
        "divergence", "held-out loss rose", "--adversarial-weight"),
    "oscillation": (
        under_adversary(lambda row, under: {"score_fake": -1.5 + 0.1 * np.exp(under / 150) * np.sin(under / 5)}),
        "oscillation", "times as strongly", "--discriminator-learning-rate"),
    "over-sharpening": (
        under_adversary(lambda row, under: measured(row, sharpness=0.4 + 2 * under / ADVERSARIAL)),
        "over-sharpening", "fine detail", "--adversarial-weight"),
    "too weak": (
        lambda row, under: {"accuracy": 0.52} if row["stage"] == "discriminator" else {},
        "too weak", "52 %", "--discriminator-learning-rate"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_gives_exactly_one_warning(name):
    change, *parts = FAILURES[name]
    _, said, end = run(change)
    assert len(said) == 1 and end == [], said
    for part in parts:
        assert part in said[0][1]


def test_high_accuracy_with_a_strong_gradient_is_no_win():
    """With the non-saturating loss the gradient is strongest when the accuracy is high."""
    assert run(under_adversary(lambda row, under: {"accuracy": 0.99}))[1:] == ([], [])


def test_fading_gradient_with_moderate_accuracy_is_no_win():
    change = under_adversary(lambda row, under: {"accuracy": 0.7, "fake_grad_norm": 0.01 * np.exp(-under / 200)})
    assert run(change)[1:] == ([], [])


def test_chance_with_good_faces_is_no_failure():
    assert run(under_adversary(lambda row, under: {"accuracy": 0.5, **measured(row, held_out=0.08)}))[1:] == ([], [])


@pytest.mark.parametrize("scores", [
    lambda under: (1.5, 1.2 + 4 * np.exp(-under / 800) * np.sin(under / 5)),  # a decaying oscillation
    lambda under: (5000, -1.5 + 0.1 * np.exp(under / 150) * np.sin(under / 5)),  # one too small to change the lead
    lambda under: (1.5, -1.5 + 0.1 * np.exp(under / 150) * (-1) ** under),  # noise between batches
    lambda under: (0.1 * np.exp(under / 150) - 70, 0),  # a lead that shrinks faster and faster
    lambda under: (1.5, -1.5 * np.exp(under / 150)),  # a lead that grows
])
def test_scores_without_a_growing_oscillation(scores):
    change = under_adversary(lambda row, under: dict(zip(("score_real", "score_fake"), scores(under))))
    assert run(change)[1:] == ([], [])


def test_chance_with_bad_faces_is_not_also_divergence():
    change = under_adversary(lambda row, under: {"accuracy": 0.5, **measured(row, held_out=0.08 + 5e-5 * under)})
    _, said, end = run(change)
    assert len(said) == 1 and end == [] and "at chance" in said[0][1]


def test_held_out_loss_that_has_stopped_rising_is_no_divergence():
    """A resumed run does not warn about the past."""
    curves, said, _ = run(under_adversary(lambda row, under: measured(row, held_out=0.08 + (under > 500) * 0.04)))
    assert len(said) == 1 and "divergence" in said[0][1]
    assert Diagnosis().look(curves) == []


def test_adversary_is_judged_only_after_enough_steps():
    def change(row, under):
        return {"accuracy": 0.99, "score_real": 1.5 + under / 10, **measured(row, sharpness=0.41)} if under > 0 else {}

    before, after = (run(change, steps=AUTOENCODER + DISCRIMINATOR + under) for under in (199, 300))
    assert before[1:] == ([], [])
    assert "discriminator wins" in after[1][0][1] and "little effect" in after[2][0]


def test_no_effect_is_not_reported_during_the_warmup():
    change = under_adversary(lambda row, under: {"adversarial_weight": 0.0, **measured(row, sharpness=0.41)})
    assert run(change)[1:] == ([], [])


def test_finished_stage_is_not_judged_again():
    """After a collapse the autoencoder stage follows: the collapse was reported before."""
    curves = run(FAILURES["collapse"][0])[0]
    for k in range(1, 101):
        curves.add(healthy(AUTOENCODER + k) | {"step": len(curves) + 1})
    assert Diagnosis().look(curves) == []


def test_one_outlier_gives_no_warning():
    odd = {"variety": 0.3, "sharpness": 3.0, "held_out": 0.2}
    change = under_adversary(lambda row, under: odd if under == 700 else {})
    assert run(change)[1:] == ([], [])


def test_faces_that_were_sharp_before_give_no_warning():
    assert run(lambda row, under: measured(row, sharpness=1.05))[1:] == ([], [])


def autoencoder_alone(loss, held_out):
    """A change for a run of the autoencoder alone: its losses as functions of the step."""
    return lambda row, under: {"loss": loss(row["step"]), **measured(row, held_out=held_out(row["step"]))}


def best_at_400(k):
    """A held-out loss that is 0.1 at step 400 and 1 % more each hundred steps later."""
    return 0.1 + 1e-5 * abs(k - 400) + (k < 400) * 0.02


def test_overfitting_names_the_step_whose_weights_are_used():
    change = autoencoder_alone(lambda k: 0.2 * np.exp(-k / 500), best_at_400)
    _, said, end = run(change, steps=AUTOENCODER)
    assert len(said) == 1 and end == []
    assert "overfitting since step 400" in said[0][1] and "weights of step 400 are kept" in said[0][1]


def test_fluctuating_held_out_loss_is_no_overfitting():
    """From step 500 on it is 0.7 % above its best."""
    change = autoencoder_alone(lambda k: 0.2 * np.exp(-k / 500), lambda k: 0.1 + (k < 400) * 0.02 + (k > 400) * 0.0007)
    assert run(change, steps=AUTOENCODER)[1:] == ([], [])


def test_recent_best_is_no_overfitting():
    """It was 500 of 3000 steps ago."""
    def change(row, under):
        k = row["step"]
        return {"stage": "autoencoder", "loss": 0.2 * np.exp(-k / 500),
                **measured(row, held_out=0.1 + 2e-5 * abs(k - 2500))}

    assert run(change, steps=3000)[1:] == ([], [])


def test_both_losses_rising_is_no_overfitting():
    """In overfitting the training loss falls. Here the inputs become harder for both."""
    change = autoencoder_alone(lambda k: 0.1 + k / 4000, best_at_400)
    assert run(change, steps=AUTOENCODER)[1:] == ([], [])


def test_underfitting_is_reported_only_at_the_end():
    """From 0.12 at step 800 to 0.09 at step 1000: a quarter."""
    change = autoencoder_alone(lambda k: 0.25 - k / 10000, lambda k: 0.24 - 0.00015 * k)
    _, said, end = run(change, steps=AUTOENCODER)
    assert said == [] and len(end) == 1
    assert "underfitting" in end[0] and "fell by 25 %" in end[0] and "--steps" in end[0]


def test_fall_that_has_ended_is_no_underfitting():
    """0.12 at step 800, 0.09 at 900, 0.1 at 1000."""
    change = autoencoder_alone(lambda k: 0.25 - k / 10000, lambda k: {900: 0.09, 1000: 0.1}.get(k, 0.24 - 0.00015 * k))
    assert run(change, steps=AUTOENCODER)[1:] == ([], [])


def test_underfitting_is_reported_when_the_next_stage_begins():
    def change(row, under):
        return measured(row, held_out=0.24 - 0.00015 * row["step"]) if row["stage"] == "autoencoder" else {}

    _, said, end = run(change)
    ((step, line),) = said
    assert step == AUTOENCODER + EVERY and "fell by 25 %" in line and end == []


def test_weak_discriminator_is_judged_at_the_end_of_its_stage():
    """At chance up to step 250 of its stage but not at its end: no warning."""
    def late(row, under):
        return {"accuracy": 0.5 if row["step"] < AUTOENCODER + 250 else 0.9} if row["stage"] == "discriminator" else {}

    assert run(late)[1:] == ([], [])
    change = FAILURES["too weak"][0]
    assert [step for step, _ in run(change)[1]] == [AUTOENCODER + DISCRIMINATOR + EVERY]
    _, said, end = run(change, steps=AUTOENCODER + DISCRIMINATOR)
    assert said == [] and "too weak" in end[0]


def test_no_effect_is_reported_at_the_end():
    _, said, end = run(under_adversary(lambda row, under: measured(row, sharpness=0.41)))
    assert said == [] and len(end) == 1
    assert "the adversarial stage had little effect" in end[0] and "0.4" in end[0] and "--adversarial-weight" in end[0]


def test_failure_that_comes_back_is_reported_again():
    """Collapse from step 300 to 700 of the stage and from step 1500 on, nothing in between."""
    def variety(row, under):
        return measured(row, variety=0.5 if 300 < under <= 700 or under > 1500 else 0.9)

    total = AUTOENCODER + DISCRIMINATOR + ADVERSARIAL + 600
    _, said, _ = run(under_adversary(variety), steps=total)
    assert len(said) == 2 and all("collapse" in line for _, line in said)


def test_failure_near_its_limit_is_not_repeated():
    """It is found in every third look, which is too often to forget it."""
    assert FORGET_AFTER > 3
    diagnosis, said = Diagnosis(), []
    healthy_run = run()[0]
    failing_run = run(FAILURES["collapse"][0])[0]
    for k in range(12):
        said += diagnosis.look(failing_run if k % 3 == 0 else healthy_run)
    assert len(said) == 1


def test_resumed_session_reports_a_failure_once():
    """After a restart it is reported again: curves read from the disk count."""
    curves = run(FAILURES["collapse"][0])[0]
    later = Diagnosis()
    (line,) = later.look(curves)
    assert "collapse" in line
    assert later.look(curves) == [] and later.at_the_end(curves) == []


@pytest.mark.parametrize("steps", [0, 1, 2, 10, AUTOENCODER + 1, AUTOENCODER + DISCRIMINATOR + 1,
                                   AUTOENCODER + DISCRIMINATOR + 150])
def test_few_rows_give_no_warning(steps):
    curves = Curves()
    for k in range(1, steps + 1):
        curves.add(healthy(k))
    diagnosis = Diagnosis()
    assert diagnosis.look(curves) == [] and diagnosis.at_the_end(curves) == []


@pytest.mark.parametrize("stage", ["autoencoder", "discriminator", "adversarial"])
def test_rows_without_metrics_give_no_warning(stage):
    curves = Curves()
    for k in range(1, 1001):
        curves.add({"step": k, "stage": stage})
    diagnosis = Diagnosis()
    assert diagnosis.look(curves) == [] and diagnosis.at_the_end(curves) == []


def test_run_without_metrics_before_the_adversary():
    """Without metrics before the adversary there is nothing to compare with."""
    curves = Curves()
    for k in range(AUTOENCODER + DISCRIMINATOR + 1, AUTOENCODER + DISCRIMINATOR + ADVERSARIAL):
        curves.add(healthy(k) | measured({"step": k}, variety=0.3))
    assert Diagnosis().at_the_end(curves) == []
