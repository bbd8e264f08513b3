"""Rollbacks: to the last good checkpoint, at half the learning rate until the next stage begins."""
import csv
import dataclasses
import signal
import types

import numpy as np
import pytest

import gan.people.pair
import gan.training.trainer
from data.media.image_io import read_image
from gan.monitor import metrics_log
from gan.run.checkpoint import RunFolder, load_autoencoder
from gan.training import checkpoints
from gan.training.trainer import Trainer

pytestmark = pytest.mark.slow

STEPS = 12
STAGES = ["autoencoder"] * 7 + ["discriminator"] + ["adversarial"] * 4  # the stage of each of the 12 steps


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def once(action):
    """Return the action for the first call only."""
    calls = iter([action])
    return lambda trainer: next(calls, lambda trainer: None)(trainer)


def lose_a_weight(trainer):
    trainer.model.encoder.squeeze.weight.data[0, 0] = np.nan


def lose_a_weight_of_the_adversary(trainer):
    trainer.adversary.network.score.weight.data[0, 0, 0, 0] = np.nan


def back_lines(outcome):
    return [line for line in outcome.out if "rolled back to the checkpoint" in line]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("step, spoil, name", [
    (1, lose_a_weight, "loss"), (5, lose_a_weight, "loss"),
    (8, lose_a_weight_of_the_adversary, "discriminator_loss"), (9, lose_a_weight, "discriminator_loss"),
    (11, lose_a_weight_of_the_adversary, "discriminator_loss")])
def test_non_finite_step_is_repeated_at_half_the_learning_rate(small_run, train_small, tmp_path, at_step,
                                                               save_each_step, step, spoil, name):
    run = tmp_path / "run"
    at_step(step, once(spoil))
    outcome = train_small(run, "--steps", STEPS)
    assert outcome.code == 0 and len(back_lines(outcome)) == 1
    for words in (f"{name} is nan at step {step}: rolled back", f"the checkpoint of step {step - 1},",
                  "learning rate is now multiplied by 0.5"):
        assert words in back_lines(outcome)[0]
    state = RunFolder(run).load()
    # until the end of the stage
    assert (int(state["step"]), float(state["lr_scale"])) == (STEPS, 1.0 if step < 9 else 0.5)
    assert all(np.isfinite(array).all() for array in state.values())
    metrics, straight = rows(run / "metrics.csv"), rows(small_run[0] / "metrics.csv")
    assert [row["step"] for row in metrics] == [row["step"] for row in straight]
    for row, other in zip(metrics, straight):
        scale = 0.5 if int(row["step"]) >= step and row["stage"] == STAGES[step - 1] else 1.0
        assert float(row["learning_rate"]) == pytest.approx(scale * float(other["learning_rate"]), rel=1e-4)
        if int(row["step"]) < step:
            assert row == other


def test_next_stage_restores_the_learning_rate_and_says_so_once(train_small, tmp_path, at_step, save_each_step):
    at_step(5, once(lose_a_weight))
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    restored = [line for line in outcome.out if "back at its full value" in line]
    assert restored == ["the learning rate, which was multiplied by 0.5, is back at its full value"]
    assert outcome.out.index(restored[0]) == outcome.out.index("stage discriminator, after 7 steps") + 1


@pytest.mark.parametrize("cut", [5, 6, 7, 8])  # before, at and after the border of the stages
def test_interrupting_a_run_after_a_rollback_changes_nothing(train_small, tmp_path, monkeypatch, save_each_step, cut):
    take = Trainer.train_step

    def arrange(run, stop):
        def watched(self, *arguments):
            if self.step + 1 == 4 and self.lr_scale == 1:
                lose_a_weight(self)
            elif self.step + 1 == stop:
                signal.raise_signal(signal.SIGINT)
            return take(self, *arguments)

        monkeypatch.setattr(Trainer, "train_step", watched)
        return train_small(tmp_path / run, "--steps", STEPS).code

    assert arrange("straight", None) == 0
    assert (arrange("stopped", cut), arrange("stopped", None)) == (130, 0)
    stopped, straight = (RunFolder(tmp_path / run).load() for run in ("stopped", "straight"))
    assert stopped.keys() == straight.keys()
    for name in stopped:
        np.testing.assert_array_equal(stopped[name], straight[name], err_msg=name)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("step, spoil, back", [(8, lose_a_weight_of_the_adversary, 7), (9, lose_a_weight, 8),
                                               (11, lose_a_weight_of_the_adversary, 8), (6, lose_a_weight, 0)])
def test_rollback_goes_no_further_than_the_start_of_the_stage(train_small, tmp_path, at_step, step, spoil, back):
    """Without a checkpoint within the stage it goes back to the start of the stage."""
    at_step(step, once(spoil))
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 0 and len(back_lines(outcome)) == 1
    assert f"the checkpoint of step {back}," in back_lines(outcome)[0]
    begun = [line for line in outcome.out if line.startswith("stage ")]
    assert begun == ["stage discriminator, after 7 steps", "stage adversarial, after 8 steps"]  # none begins twice


def test_undone_steps_count_in_the_elapsed_time(train_small, tmp_path, monkeypatch):
    """Each step takes 10 s; step 11 fails once and goes back to step 8: 15 steps in all."""
    clock, take, failing = [0.0], Trainer.train_step, iter([11])

    def slow(self, *arguments):
        clock[0] += 10
        if self.step + 1 == 11 and next(failing, None):
            lose_a_weight(self)
        return take(self, *arguments)

    monkeypatch.setattr(metrics_log, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(Trainer, "train_step", slow)
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 0 and "back to the checkpoint of step 8," in back_lines(outcome)[0]
    timing = rows(tmp_path / "run" / "timing.csv")
    assert [int(row["step"]) for row in timing] == list(range(1, STEPS + 1))
    seconds = [float(row["seconds"]) for row in timing]
    assert seconds == [*range(10, 90, 10), 120, 130, 140, 150]
    assert any(line.startswith("2 min 30 s of training") for line in outcome.out)


def test_held_out_faces_are_not_measured_in_the_discriminator_stage(train_small, tmp_path, monkeypatch,
                                                                                            save_each_step):
    measured, measure = [], Trainer.measure
    monkeypatch.setattr(Trainer, "measure", lambda self, source: measured.append(self.step) or measure(self, source))
    assert train_small(tmp_path / "run", "--steps", STEPS).code == 0
    assert set(measured) == set(range(1, STEPS + 1)) - {8}


def test_rollbacks_with_a_checkpoint_in_between_are_not_counted(train_small, tmp_path, monkeypatch, save_each_step):
    """Each step fails once: twelve rollbacks, but never two without a checkpoint in between."""
    take, failed = Trainer.train_step, set()

    def failing(self, *arguments):
        if self.step not in failed:
            failed.add(self.step)
            lose_a_weight(self) if self.stage_number != 1 else lose_a_weight_of_the_adversary(self)
        return take(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", failing)
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 0 and len(back_lines(outcome)) == STEPS > checkpoints.MAX_ROLLBACKS


def generate_white(trainer):
    """Make the network generate white faces and no mask, by its weights and their averages."""
    for decoder in (trainer.model.decoder_a, trainer.model.decoder_b):
        decoder.out.bias.data[:] = (50, 50, 50, -50)
    for parameter, average in zip(trainer.model.parameters(), trainer.average.averages):
        average[...] = parameter.data


@pytest.fixture
def soon_lost(monkeypatch):
    """12 steps learn little, so here a loss a fifth above the best counts as a collapse."""
    monkeypatch.setattr(gan.training.trainer, "COLLAPSE_FACTOR", 1.2)
    monkeypatch.setattr(gan.training.trainer, "LATEST_STEPS", 1)


@pytest.mark.parametrize("step", [5, 11])
def test_collapse_rolls_back(train_small, tmp_path, at_step, save_each_step, soon_lost, step):
    at_step(step, once(generate_white))
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 0 and len(back_lines(outcome)) == 1
    for words in ("held-out faces collapsed", f"the checkpoint of step {step - 1},", "multiplied by 0.5"):
        assert words in back_lines(outcome)[0]
    metrics = rows(tmp_path / "run" / "metrics.csv")
    assert [int(row["step"]) for row in metrics] == list(range(1, STEPS + 1))
    assert all(float(row["loss"]) < 0.8 for row in metrics if row["loss"])  # white faces cost about 1


def test_signal_does_not_save_a_collapsed_network(train_small, tmp_path, at_step, save_each_step, soon_lost):
    def both(trainer):
        generate_white(trainer)
        signal.raise_signal(signal.SIGINT)

    at_step(5, once(both))
    assert train_small(tmp_path / "run", "--steps", STEPS).code == 130
    assert int(RunFolder(tmp_path / "run").load()["step"]) == 4


def test_overfitting_does_not_roll_back(faces, train_small, tmp_path, monkeypatch, save_each_step):
    """The held-out loss rises while the training loss falls."""
    measure = Trainer.measure

    def worse(self, source):
        measured = measure(self, source)
        return dataclasses.replace(measured, loss=measured.loss * 3 ** self.step)

    monkeypatch.setattr(Trainer, "measure", worse)
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 0 and back_lines(outcome) == []
    state = RunFolder(tmp_path / "run").load()
    assert int(state["step"]) == STEPS and int(state["best_step"]) == 9  # the first of the last stage
    assert any("weights of step 9 had the best result" in line for line in outcome.out)
    best, last = (faces.preview(load_autoencoder(tmp_path / "run", which)[0]) for which in ("best", "last"))
    np.testing.assert_array_equal(read_image(tmp_path / "run" / "preview.png").pixels, best)
    assert not np.array_equal(best, last)


def test_loss_that_is_never_finite_ends_in_one_line_and_keeps_the_checkpoint(run_copy, train_small, monkeypatch):
    make = gan.people.pair.make_batch

    def spoiled(faces, count, seed, side, k, **options):
        batch = make(faces, count, seed, side, k, **options)
        if k == STEPS + 3:
            batch.warped[:] = np.nan
        return batch

    monkeypatch.setattr(gan.people.pair, "make_batch", spoiled)
    before = (run_copy / "checkpoint.npz").read_bytes()
    outcome = train_small(run_copy, "--steps", STEPS + 10)
    assert outcome.code == 1
    assert f"at step {STEPS + 4}" in outcome.err[-1] and "checkpoint" in outcome.err[-1]
    assert "Traceback" not in str(outcome)
    assert (run_copy / "checkpoint.npz").read_bytes() == before
    scales = [line.split("multiplied by ")[1] for line in back_lines(outcome)]
    assert scales == ["0.5", "0.25", "0.125", "0.0625", "0.03125"]
    steps = [int(row["step"]) for row in rows(run_copy / "metrics.csv")]
    assert steps == list(range(1, STEPS + 4))
    monkeypatch.undo()
    assert train_small(run_copy, "--steps", STEPS + 5).code == 0
    assert [int(row["step"]) for row in rows(run_copy / "metrics.csv")] == list(range(1, STEPS + 6))
