"""The files of a run, and resuming it: bit for bit the same as without an interruption."""
import csv
import hashlib
import json
import signal
import types

import numpy as np
import pytest

import nn
import train
from data.media.image_io import IMAGE_SUFFIXES, read_image, read_label
from data.media.provenance import DigitalSource
from gan.monitor.metrics_log import columns
from gan.networks.discriminator import UNetDiscriminator
from gan.people import preview_sheet
from gan.people.pair import FacePair
from gan.register import OBJECTIVES
from gan.run.checkpoint import RunFolder, load_discriminator
from gan.training import checkpoints, fit, setup
from gan.training.checkpoints import Checkpoints
from gan.training.prefetch import BatchPrefetcher

pytestmark = pytest.mark.slow

STEPS = 12  # steps of the small run
COLUMNS = columns(["mae", "dssim", "mask"])
PLAN = [["autoencoder", 7], ["discriminator", 1], ["adversarial", 4]]  # 12 steps in the shares 0.6, 0.08 and 0.32


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(run):
    """Return all files but the lock, which names its last holder."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "run.lock"}


def config_of(run):
    return json.loads((run / "config.json").read_text())


def assert_same_end(run, other):
    """Check that two runs have the same checkpoint and the same metrics."""
    state, expected = RunFolder(run).load(), RunFolder(other).load()
    assert state.keys() == expected.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], expected[name], err_msg=name)
    assert (run / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()


def test_files_of_a_finished_run(small_run):
    run, outcome = small_run
    assert outcome.code == 0
    names = {"checkpoint.npz", "config.json", "metrics.csv", "timing.csv", "preview.png", "loss.png", "players.png",
             "history", "report.html", "run.lock"}
    assert {p.name for p in run.iterdir()} - {"checkpoint.previous.npz", "notes.txt"} == names
    assert int(RunFolder(run).load()["step"]) == STEPS
    assert [p.name for p in sorted((run / "history").iterdir())] == [f"{k:07d}.png" for k in (1, 2, 5, 7, 8, 10, 12)]


def test_config_of_a_finished_run(small_run):
    config = config_of(small_run[0])
    assert {"preset": "tiny", "size": 32, "width": 4, "batch": 2, "faces": 12, "people": [0, 1], "seed": 0,
            "plan": PLAN}.items() <= config.items()
    for side in "ab":
        learned = config["learned_from"][side]
        assert learned["train"] + learned["held_out"] == 12 and len(learned["sha256"]) == 64


def test_multi_person_run_holds_out_whole_poses(program, small_options, tmp_path):
    """Ten people in ten poses, four people in each: one pose, four faces, is held out."""
    options = (*small_options[:4], "--batch", 2, "--people", 10, "--steps", 1)
    assert program(train.main, *options, "--run", tmp_path / "run").code == 0
    learned = config_of(tmp_path / "run")["learned_from"]["many_people"]
    assert (learned["train"], learned["held_out"]) == (36, 4)


@pytest.mark.parametrize("pretrained, word", [("nowhere", "not a run folder"), ("shipped", "another shape")])
def test_unusable_pretrained_model_is_refused_before_faces_are_loaded(train_small, tmp_path, monkeypatch, pretrained,
                                                                      word):
    monkeypatch.setattr(setup, "_load_dataset", lambda *arguments: pytest.fail("faces were loaded"))
    outcome = train_small(tmp_path / "run", "--pretrained", pretrained, "--steps", 1)
    assert (outcome.code, len(outcome.err)) == (1, 1) and pretrained in outcome.err[0] and word in outcome.err[0]
    assert not (tmp_path / "run").exists()


def test_metrics_have_a_row_a_step_and_no_times(small_run):
    metrics, timing = rows(small_run[0] / "metrics.csv"), rows(small_run[0] / "timing.csv")
    assert list(metrics[0]) == COLUMNS
    assert list(timing[0]) == ["step", "seconds"]
    assert [int(row["step"]) for row in metrics] == list(range(1, STEPS + 1)) == [int(row["step"]) for row in timing]
    assert [row["stage"] for row in metrics] == [stage for stage, steps in PLAN for _ in range(steps)]
    for row in metrics:
        assert bool(row["loss"]) == bool(row["grad_norm"]) == (row["stage"] != "discriminator")
        assert bool(row["discriminator_loss"]) == bool(row["accuracy"]) == (row["stage"] != "autoencoder")
        assert bool(row["adversarial_loss"]) == bool(row["adversarial_weight"]) == (row["stage"] == "adversarial")
        if row["loss"]:
            loss, mae, dssim, mask = (float(row[name]) for name in ("loss", "mae", "dssim", "mask"))
            assert loss == pytest.approx(mae + dssim + mask, rel=1e-4)
    for name in ("held_out", "sharpness", "variety"):
        assert [int(row["step"]) for row in metrics if row[name]] == [1, 2, 5, 7, 9, 10, 12]
    seconds = [float(row["seconds"]) for row in timing]
    assert seconds == sorted(seconds)


def test_the_preview_shows_every_row_and_is_labeled(small_run):
    preview = small_run[0] / "preview.png"
    scale = 3  # from 32 pixels to about 96
    assert read_image(preview).pixels.shape == (2 * 4 * 32 * scale, 64 + preview_sheet.PREVIEW_FACES * 32 * scale, 3)
    assert read_label(preview) == DigitalSource.TRAINED
    assert read_label(small_run[0] / "loss.png") == DigitalSource.ALGORITHMIC
    images = [file for file in small_run[0].rglob("*") if file.suffix in IMAGE_SUFFIXES]
    assert len(images) > 5 and all(map(read_label, images))  # also those of history/
    np.testing.assert_array_equal(read_image(preview).pixels,
                                  read_image(small_run[0] / "history" / f"{STEPS:07d}.png").pixels)


def test_printed_output(small_run):
    lines = small_run[1].out
    text = "\n".join(lines)
    for part in ("rendering 12 faces", "32 px, width 4", "parameters", "MiB", "on cpu", "PSNR dB", "preview.png"):
        assert part in text, part
    for name in ("A reconstructed", "B reconstructed", "A swapped to B, against ground truth",
                 "B swapped to A, against ground truth", "baseline: A unchanged", "baseline: B unchanged"):
        assert any(line.lstrip().startswith(name) for line in lines), name


def test_colors_are_measured_once_for_all_sessions(run_copy, train_small, monkeypatch):
    monkeypatch.setattr(FacePair, "fit_colors", lambda *arguments: pytest.fail("measured again"))
    assert train_small(run_copy, "--steps", STEPS + 1).code == 0


def test_finished_run_says_so_and_is_not_changed(run_copy, train_small):
    before = contents(run_copy)
    for arguments in ([], ["--steps", STEPS], ["--steps", STEPS - 1], ["--steps", 1], ["--stage", "adversarial"]):
        outcome = train_small(run_copy, *arguments)
        assert outcome.code == 0 and outcome.err == [] and len(outcome.out) == 1
        assert "finished" in outcome.out[0] and "--steps" in outcome.out[0] and "--stage" in outcome.out[0]
    assert contents(run_copy) == before


def test_more_steps_resume_a_finished_run(run_copy, train_small):
    outcome = train_small(run_copy, "--steps", "15")
    assert outcome.code == 0 and f"resuming after step {STEPS}" in outcome.out
    assert [int(row["step"]) for row in rows(run_copy / "metrics.csv")] == list(range(1, 16))
    assert int(RunFolder(run_copy).load()["step"]) == 15
    assert config_of(run_copy)["plan"] == [*PLAN[:2], ["adversarial", 7]]


# in each stage, and at a border
@pytest.mark.parametrize("number, code, cut", [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 7),
                                               (signal.SIGINT, 130, 8), (signal.SIGTERM, 143, 10)])
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(small_run, train_small, tmp_path, at_step, number,
                                                                 code, cut):
    at_step(cut, lambda trainer: signal.raise_signal(number))
    stopped = train_small(tmp_path / "run", "--steps", STEPS)
    assert stopped.code == code and "saved" in stopped.err[-1]
    assert int(RunFolder(tmp_path / "run").load()["step"]) == cut
    assert len(rows(tmp_path / "run" / "metrics.csv")) == cut
    at_step(-1, None)
    resumed = train_small(tmp_path / "run")  # the config has its number of steps
    assert resumed.code == 0 and f"resuming after step {cut}" in resumed.out
    assert_same_end(tmp_path / "run", small_run[0])


# Further options with state from step to step, for some of the objectives.
MORE_OPTIONS = {"non-saturating": ("--r1", 1), "hinge": ("--discriminator", "unet", "--r1", 1, "--adversarial-warmup",
                                                         0, "--occlusion-prob", 0.5),
                "wasserstein-gp": ("--discriminator-steps", 2, "--noise", 0.1, "--spectral")}


@pytest.fixture
def batches_seen(monkeypatch):
    """[(k, hash of the batch), ...] of the batches of the steps taken."""
    seen, make = [], BatchPrefetcher.__call__

    def watched(self, k):
        batches = make(self, k)
        content = b"".join(array.tobytes() for item in batches for batch in item for array in batch)
        seen.append((k, hashlib.sha256(content).hexdigest()))
        return batches

    monkeypatch.setattr(BatchPrefetcher, "__call__", watched)
    return seen


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_run_interrupted_in_each_stage_equals_an_uninterrupted_one(train_small, tmp_path, at_step, batches_seen,
                                                                   monkeypatch, objective):
    """The whole checkpoint, metrics.csv and every batch are the same."""
    monkeypatch.setattr(fit, "save_preview", lambda session: None)  # images and metrics take long
    monkeypatch.setattr(fit, "finish", lambda session: None)
    options = ("--size", 16, "--objective", objective, *MORE_OPTIONS.get(objective, ()), "--steps", STEPS)
    assert train_small(tmp_path / "uninterrupted", *options).code == 0
    for cut in (3, 8, 10):  # within a stage, where one begins, and within another
        at_step(cut, lambda trainer: signal.raise_signal(signal.SIGINT))
        assert train_small(tmp_path / "run", *(options if cut == 3 else ())).code == 130
        assert int(RunFolder(tmp_path / "run").load()["step"]) == cut
        at_step(cut, lambda trainer: None)
    assert train_small(tmp_path / "run").code == 0
    assert_same_end(tmp_path / "run", tmp_path / "uninterrupted")
    assert batches_seen[:STEPS] == batches_seen[STEPS:] and [k for k, _ in batches_seen[STEPS:]] == list(range(STEPS))


def test_second_signal_quits_immediately(train_small, tmp_path, at_step):
    def twice(trainer):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(5, twice)
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 130 and "interrupted" in outcome.err[-1]
    assert int(RunFolder(tmp_path / "run").load()["step"]) == 0  # the checkpoint before the first step


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_quits_immediately_when_all_is_saved(train_small, tmp_path, monkeypatch, number, code):
    """The metrics at the end take a while, and nothing is lost without them."""
    monkeypatch.setattr(fit.held_out, "measure",
                        lambda *arguments: signal.raise_signal(number) or pytest.fail("training continued"))
    outcome = train_small(tmp_path / "run", "--stage", "autoencoder", "--steps", 2)
    assert outcome.code == code and "interrupted" in outcome.err[-1]
    assert int(RunFolder(tmp_path / "run").load()["step"]) == 2


def test_signal_in_the_last_step_saves_and_skips_the_metrics(train_small, tmp_path, at_step, monkeypatch):
    monkeypatch.setattr(fit.held_out, "measure", lambda *arguments: pytest.fail("training continued"))
    at_step(2, lambda trainer: signal.raise_signal(signal.SIGTERM))
    assert train_small(tmp_path / "run", "--stage", "autoencoder", "--steps", 2).code == 143
    assert int(RunFolder(tmp_path / "run").load()["step"]) == 2


@pytest.mark.parametrize("since, took, due", [(59, 0.1, False), (61, 0.1, True), (61, 0.7, False), (149, 1.5, False),
                                              (151, 1.5, True)])
def test_saving_takes_at_most_one_percent_of_the_time(monkeypatch, since, took, due):
    clock = [1000.0 - took]

    class Folder:
        def save(self, state):
            clock[0] += took

    monkeypatch.setattr(checkpoints, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    nothing = types.SimpleNamespace(flush=lambda: None, state_dict=lambda: {})
    kept = Checkpoints(Folder(), nothing, types.SimpleNamespace(metrics=nothing))
    kept.write()
    assert clock == [1000.0]
    clock[0] += since
    assert kept.due() == due


def test_signal_during_a_save_does_not_save_twice(train_small, tmp_path, save_each_step, monkeypatch):
    """The signal is acknowledged immediately, and the run stops after the next step."""
    save, saved = RunFolder.save, []

    def interrupted(self, state):
        saved.append(int(state["step"]))
        if saved[-1] == 3:
            signal.raise_signal(signal.SIGINT)
        save(self, state)

    monkeypatch.setattr(RunFolder, "save", interrupted)
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 130 and saved == [0, 1, 2, 3, 4]
    assert any("again to quit immediately" in line for line in outcome.err)


def test_metrics_are_written_before_the_checkpoint(train_small, tmp_path, save_each_step, monkeypatch):
    """A run killed in between has too many rows, which are cut off, never too few."""
    save, found = RunFolder.save, []

    def watched(self, state):
        found.append((int(state["step"]), *(len(rows(self.path / name)) for name in ("metrics.csv", "timing.csv"))))
        save(self, state)

    monkeypatch.setattr(RunFolder, "save", watched)
    assert train_small(tmp_path / "run", "--stage", "autoencoder", "--steps", 3).code == 0
    assert found == [(step, step, step) for step in range(4)]


@pytest.mark.parametrize("moment", ["write", "replace"])
def test_second_signal_during_a_save_leaves_a_whole_checkpoint(train_small, tmp_path, at_step, monkeypatch, moment):
    """An unfinished file is discarded; a rename is finished first."""
    owner = {"write": np.lib.format, "replace": RunFolder}[moment]
    name = {"write": "write_array", "replace": "_rotate_previous"}[moment]
    really = getattr(owner, name)

    def again(*arguments, **options):
        if at_step.begun:
            signal.raise_signal(signal.SIGINT)
        return really(*arguments, **options)

    at_step.begun = False
    monkeypatch.setattr(owner, name, again)

    def first(trainer):
        at_step.begun = True
        signal.raise_signal(signal.SIGINT)

    at_step(5, first)
    outcome = train_small(tmp_path / "run", "--steps", STEPS)
    assert outcome.code == 130 and "interrupted" in outcome.err[-1]
    assert int(RunFolder(tmp_path / "run").load()["step"]) == (0 if moment == "write" else 5)
    assert (tmp_path / "run" / "checkpoint.npz").exists()
    assert not [p for p in (tmp_path / "run").iterdir() if "new" in p.name]


def test_signal_handlers_are_restored(small_run, train_small):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train_small(small_run[0])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_stages_follow_each_other(small_run):
    lines = [line for line in small_run[1].out if line.startswith("stage ")]
    assert lines == ["stage discriminator, after 7 steps", "stage adversarial, after 8 steps"]


def test_each_stage_by_its_own_command(train_small, tmp_path):
    run = tmp_path / "run"

    def state():
        return RunFolder(run).load()

    assert train_small(run, "--stage", "autoencoder", "--steps", 4).code == 0
    assert config_of(run)["plan"] == [["autoencoder", 4]]
    alone = state()
    assert not any(name.startswith("adversary.") for name in alone) and not (run / "players.png").exists()
    outcome = train_small(run, "--stage", "discriminator", "--steps", 3)
    assert outcome.code == 0 and "stage discriminator, after 4 steps" in outcome.out
    judged = state()
    for name in alone:
        if name.startswith(("model.", "average.", "best.", "optimizer.")):
            np.testing.assert_array_equal(alone[name], judged[name], err_msg=name)
    assert "adversary.network.score.weight" in judged and (run / "players.png").exists()
    finished = train_small(run, "--stage", "discriminator")
    assert finished.code == 0 and len(finished.out) == 1 and "finished: 7 steps" in finished.out[0]
    assert train_small(run, "--stage", "adversarial", "--steps", 2).code == 0
    assert config_of(run)["plan"] == [["autoencoder", 4], ["discriminator", 3], ["adversarial", 2]]
    both = state()
    assert not np.array_equal(judged["model.encoder.squeeze.weight"], both["model.encoder.squeeze.weight"])
    assert not np.array_equal(judged["adversary.network.score.weight"], both["adversary.network.score.weight"])
    assert [row["stage"]
            for row in rows(run / "metrics.csv")] == 4 * ["autoencoder"] + 3 * ["discriminator"] + 2 * ["adversarial"]


@pytest.mark.parametrize("stage", ["discriminator", "adversarial"])
def test_adversary_without_an_autoencoder(train_small, tmp_path, stage):
    outcome = train_small(tmp_path / "run", "--stage", stage)
    assert (outcome.code, len(outcome.err)) == (1, 1) and "no autoencoder" in outcome.err[0]
    assert "--stage autoencoder" in outcome.err[0] and not (tmp_path / "run").exists()


def test_another_stage_cuts_the_plan(train_small, tmp_path, at_step):
    at_step(3, lambda trainer: signal.raise_signal(signal.SIGINT))
    assert train_small(tmp_path / "run", "--steps", STEPS).code == 130
    at_step(-1, None)
    assert train_small(tmp_path / "run", "--stage", "adversarial", "--steps", 2, "--objective", "hinge").code == 0
    config = config_of(tmp_path / "run")
    assert config["plan"] == [["autoencoder", 3], ["adversarial", 2]] and config["objective"] == "hinge"
    assert [row["stage"] for row in rows(tmp_path / "run" / "metrics.csv")] == 3 * ["autoencoder"] + 2 * ["adversarial"]


def test_minutes_for_one_more_stage(run_copy, train_small, monkeypatch):
    monkeypatch.setattr(fit, "TIMED_STEPS", 3)
    monkeypatch.setattr(fit.Clock, "steps_per_second", lambda self: 4e-4)
    assert train_small(run_copy, "--stage", "discriminator", "--minutes", "1000").code == 0
    assert config_of(run_copy)["plan"] == [*PLAN, ["discriminator", 3 + 22]]  # 0.94 * 60,000 s * 0.0004 steps a second


def test_rows_after_the_checkpoint_are_cut_off(small_run, train_small, tmp_path, at_step):
    """A killed session leaves rows after its checkpoint, the last one perhaps incomplete."""
    run = tmp_path / "run"
    at_step(6, lambda trainer: signal.raise_signal(signal.SIGINT))
    train_small(run, "--steps", STEPS)
    at_step(-1, None)
    with open(run / "metrics.csv", "a") as file:
        file.write("".join(f"{step},autoencoder{',9' * (len(COLUMNS) - 2)}\n" for step in (7, 8)) + "9,9")
    with open(run / "timing.csv", "a") as file:
        file.write("7,99999\n8")
    assert train_small(run).code == 0
    assert_same_end(run, small_run[0])
    assert max(float(row["seconds"]) for row in rows(run / "timing.csv")) < 9999


@pytest.mark.parametrize("options, word", [
    (["--size", "48"], "--size 32"), (["--width", "6"], "--width 4"), (["--preset", "small"], "--preset tiny"),
    (["--people", "0", "2"], "--people 0 1"), (["--seed", "1"], "--seed 0"), (["--batch", "3"], "--batch 2"),
    (["--faces", "13"], "--faces 12"),
])
def test_run_is_not_resumed_with_other_options(run_copy, program, options, word):
    before = contents(run_copy)
    outcome = program(train.main, "--run", run_copy, "--steps", STEPS + 1, *options)
    assert (outcome.code, len(outcome.err)) == (1, 1)
    assert word in outcome.err[0] and str(run_copy) in outcome.err[0] and "--run" in outcome.err[0]
    assert contents(run_copy) == before


def test_run_of_rendered_people_is_not_resumed_with_photos(run_copy, program, photographs):
    outcome = program(train.main, "--run", run_copy, "--steps", STEPS + 1, *photographs[1][6:])
    assert (outcome.code, len(outcome.err)) == (1, 1) and "without --a" in outcome.err[0]


def test_run_of_photos_is_not_resumed_with_rendered_people(program, photographs, tmp_path):
    assert program(train.main, *photographs[1], "--run", tmp_path / "run", "--steps", 1).code == 0
    outcome = program(train.main, "--run", tmp_path / "run", "--people", 0, 1, "--steps", 2)
    assert (outcome.code, len(outcome.err)) == (1, 1) and "without --people" in outcome.err[0]


def test_checkpoint_that_does_not_fit_its_config(run_copy, train_small):
    state = RunFolder(run_copy).load()
    del state["average.decoder_a.out.bias"]
    nn.save(run_copy / "checkpoint.npz", state)
    outcome = train_small(run_copy, "--steps", STEPS + 1)
    assert (outcome.code, len(outcome.err)) == (1, 1) and "decoder_a.out.bias" in outcome.err[0]


def test_minutes_fix_and_record_the_number_of_steps(train_small, tmp_path, monkeypatch):
    """1000 minutes at a speed so low that the seconds of this test do not count."""
    monkeypatch.setattr(fit, "TIMED_STEPS", 3)
    monkeypatch.setattr(fit.Clock, "steps_per_second", lambda self: 6e-4)  # steps a second
    outcome = train_small(tmp_path / "run", "--minutes", "1000")
    # 0.94 of the minutes are for steps, in shares of 0.6, 0.08 and 0.32. Three steps of each stage
    # were timed before. A stage has at least 6, so that those three are in its first half.
    plan = [["autoencoder", 3 + 20], ["discriminator", 6], ["adversarial", 3 + 10]]
    assert outcome.code == 0
    assert config_of(tmp_path / "run")["plan"] == plan
    assert int(RunFolder(tmp_path / "run").load()["step"]) == sum(steps for _, steps in plan)
    for stage, steps in plan:
        assert any(line.startswith(f"{steps} steps of stage {stage}, expected time") for line in outcome.out)
    again = train_small(tmp_path / "run", "--minutes", "1000")
    assert again.code == 0 and "finished" in again.out[0]


def test_run_of_minutes_interrupted_before_its_length_was_known(train_small, tmp_path, at_step, monkeypatch):
    monkeypatch.setattr(fit, "TIMED_STEPS", 4)
    monkeypatch.setattr(fit.Clock, "steps_per_second", lambda self: 0.001)
    at_step(2, lambda trainer: signal.raise_signal(signal.SIGINT))
    assert train_small(tmp_path / "run", "--minutes", "0.2").code == 130
    assert config_of(tmp_path / "run")["plan"] == [[stage, None] for stage, _ in PLAN]
    assert train_small(tmp_path / "run").code == 0
    assert config_of(tmp_path / "run")["plan"][0] == ["autoencoder", 2 + 4 + 4]  # two steps, four timed ones, four more


def test_run_of_minutes_equals_the_run_of_its_steps(train_small, tmp_path, monkeypatch):
    """Batches prefetched before the length was known are discarded: bit for bit the same."""
    assert train_small(tmp_path / "steps", "--stage", "autoencoder", "--steps", 8).code == 0
    monkeypatch.setattr(fit, "TIMED_STEPS", 4)
    monkeypatch.setattr(fit.Clock, "steps_per_second", lambda self: 1e-9)
    assert train_small(tmp_path / "minutes", "--stage", "autoencoder", "--minutes", 1).code == 0
    assert config_of(tmp_path / "minutes")["plan"] == [["autoencoder", 8]]
    assert_same_end(tmp_path / "minutes", tmp_path / "steps")


@pytest.mark.parametrize("cut, plan",
                         [(3, [["autoencoder", 3 + 3 + 20], ["discriminator", 6], ["adversarial", 3 + 10]]),
                          (7, [PLAN[0], ["discriminator", 3 + 6], ["adversarial", 3 + 27]]),
                          (9, [*PLAN[:2], ["adversarial", 1 + 3 + 33]])])
def test_minutes_for_an_interrupted_run_are_shared_by_its_remaining_stages(train_small, tmp_path, at_step, monkeypatch,
                                                                           cut, plan):
    """1000 minutes at 0.0006 steps a second are 33.84 steps; they go to the stages in shares of 0.6
    to 0.08 to 0.32."""
    at_step(cut, lambda trainer: signal.raise_signal(signal.SIGINT))
    assert train_small(tmp_path / "run", "--steps", STEPS).code == 130
    at_step(-1, None)
    monkeypatch.setattr(fit, "TIMED_STEPS", 3)
    monkeypatch.setattr(fit.Clock, "steps_per_second", lambda self: 6e-4)
    assert train_small(tmp_path / "run", "--minutes", "1000").code == 0
    assert config_of(tmp_path / "run")["plan"] == plan
    assert int(RunFolder(tmp_path / "run").load()["step"]) == sum(steps for _, steps in plan)


def test_discriminator_can_be_chosen_until_one_exists(train_small, tmp_path):
    assert train_small(tmp_path / "run", "--stage", "autoencoder", "--steps", 3).code == 0
    options = ("--stage", "discriminator", "--discriminator", "unet", "--spectral")
    assert train_small(tmp_path / "run", *options, "--steps", 1).code == 0
    assert {"discriminator": "unet", "spectral": True}.items() <= config_of(tmp_path / "run").items()
    assert type(load_discriminator(tmp_path / "run")) is UNetDiscriminator
    outcome = train_small(tmp_path / "run", "--stage", "discriminator", "--discriminator", "patch", "--steps", 2)
    assert (outcome.code, len(outcome.err)) == (1, 1) and "with --discriminator unet, not patch" in outcome.err[0]


def test_previews_before_the_length_is_known(train_small, tmp_path, at_step):
    at_step(9, lambda trainer: signal.raise_signal(signal.SIGINT))
    train_small(tmp_path / "run", "--minutes", "5")
    history = sorted((tmp_path / "run" / "history").iterdir())
    assert [p.name for p in history] == ["0000001.png", "0000002.png", "0000005.png"]


def test_same_command_gives_the_same_run(small_run, train_small, tmp_path):
    train_small(tmp_path / "run", "--steps", STEPS)
    assert_same_end(tmp_path / "run", small_run[0])


def test_same_number_of_threads_gives_the_same_bits(train_small, tmp_path, monkeypatch):
    shared, run = [], nn.kernels.cpu.parallel.run
    monkeypatch.setattr(nn.kernels.cpu.parallel, "run",
                        lambda work, parts: shared.append(len(parts) > 1) or run(work, parts))
    for name in ("first", "second"):
        assert train_small(tmp_path / name, "--steps", 3, "--threads", 3, "--width", 16, "--batch", 8).code == 0
    assert nn.thread_count() == 3 and sum(shared) > 100
    assert_same_end(tmp_path / "first", tmp_path / "second")


def test_plain_kernels_train(small_run, train_small, tmp_path):
    assert train_small(tmp_path / "run", "--steps", 3, "--kernels", "plain").code == 0
    plain, fast = rows(tmp_path / "run" / "metrics.csv"), rows(small_run[0] / "metrics.csv")
    assert float(plain[0]["loss"]) == pytest.approx(float(fast[0]["loss"]), rel=1e-3)
