"""One session of a run: resume where the last one ended, train, save, report.

    config, dataset, Trainer (gan/session/setup.py) -> steps -> previews, checkpoints, metrics

Training can go wrong: a loss is not finite, or held-out faces show a collapse. Then the session
rolls back to the last good checkpoint and continues at half the learning rate. Held-out faces are
measured before a checkpoint is saved, so that the last checkpoint is a good one. A checkpoint is
also saved when a stage begins, so that a failure in one stage costs nothing of the stage before.
The learning rate stays lowered until the next stage begins at its full rate. This depends on steps
alone, not on when a session stopped or saved.
"""
import contextlib
import dataclasses
import time

import nn
from data.media.image_io import ImageError
from data.support.progress import duration
from gan.evaluation import held_out
from gan.evaluation.table import metrics_table
from gan.monitor import metrics_log, plots, preview, report
from gan.monitor.diagnosis import Diagnosis
from gan.monitor.progress_line import ProgressLine
from gan.run.checkpoint import RunFolder
from gan.run.config import precision_of
from gan.run.lock import exclusive_lock
from gan.session import setup
from gan.training import schedule
from gan.training.deferred import NotFiniteError
from gan.training.prefetch import BatchPrefetcher
from gan.training.steps import warp_strength

SAVE_SECONDS = 60  # least time between checkpoints
SAVE_FRACTION = 0.01  # largest fraction of the time that goes into writing and checking checkpoints
HELD_OUT_EVERY = 100  # steps
PROFILED_STEP = 10  # number of the step whose layers are timed, in each stage and session
FIRST_REPORT_STEP = 20  # before, previews are so frequent that plots and report are left out
TIMED_STEPS = 20  # first steps of a session or stage, from which its speed is estimated
MAX_ROLLBACKS = 5  # in a row, without a new checkpoint in between
ROLLBACK_LR_FACTOR = 0.5
_STEPS_FRACTION = 0.94  # part of --minutes that is for steps; the rest is for previews and the last metrics


def train(run_options, say=print, stopped=lambda: False, interrupt_immediately=contextlib.nullcontext):
    """Train until the last step of the run, or until stopped() is true. Return whether it finished.

    run_options: gan.run.config.RunOptions
    say: function that prints a line for the user
    interrupt_immediately: context manager for the last metrics, when all is saved and stopped() is
        not called any more
    Raises RunError, FaceSetError, DeviceError or NotFiniteError with a message of one line.
    A RunError is also raised if another process trains in the run folder.
    """
    folder = RunFolder(run_options.run, run_options.keep_checkpoints)
    with exclusive_lock(folder):
        return _train(run_options, folder, say, stopped, interrupt_immediately)


def _train(run_options, folder, say, stopped, interrupt_immediately):
    began = time.monotonic()
    prepared = setup.prepare(run_options, folder, say)
    if prepared is None:
        return True
    config, dataset, trainer = prepared
    session = _Session(folder, config, dataset, trainer, began, say)
    try:
        with nn.kernels.use_precision(precision_of(config)):
            return session.run(stopped, interrupt_immediately)
    except (OSError, ImageError) as error:
        raise folder.write_error(error) from error


class _Session:
    """The training loop, and everything that is due between steps."""

    def __init__(self, folder, config, dataset, trainer, began, say):
        self.folder, self.config, self.dataset, self.trainer, self.say = folder, config, dataset, trainer, say
        self.diagnosis = Diagnosis()
        self.layer_times = {}  # stage -> nn.profile of a step
        self.rollbacks = 0
        self.saved_at, self.saved_step, self.save_seconds = time.monotonic(), trainer.step, 0.0
        self.began = began  # when the session began, later the stage
        # While faces are still being rendered, steps wait for them and share the cores.
        self.all_rendered = setup.is_complete(dataset)
        self.steps = 0  # steps of this stage in this session
        self.timed_steps, self.timed_seconds = 0, 0.0  # steps with all faces rendered, and their time alone

    def run(self, stopped, interrupt_immediately):
        """Run the training loop until its end or until stopped(); return whether it finished."""
        trainer = self.trainer
        self.metrics = metrics_log.Metrics(self.folder.path, trainer.step)
        self.notes = metrics_log.Notes(self.folder.path, trainer.step)
        self.batches = BatchPrefetcher(self.dataset, trainer.hparams, self.warp, trainer.model.parameters()[0].device)
        self.progress = ProgressLine()
        try:
            self.batches.prefetch(trainer.step)
            if trainer.step == 0:
                self.write_checkpoint()  # so that a rollback is always possible
            while True:
                while self.position() and not stopped():
                    self.next_step()
                self.progress.end()
                if self.save() or stopped():
                    break
            if not self.position():
                with interrupt_immediately():
                    self.finish()
        finally:
            self.progress.end()
            self.stop_rendering()  # the prefetch thread may wait for it
            self.batches.close()
            self.stop_rendering()  # the thread may have started it again before it closed
            self.metrics.close()
        return not self.position()

    def stop_rendering(self):
        for faces in self.dataset.sets():
            faces.stop()

    def position(self, step=None):
        """Return the StagePosition of a step (None: the next one), or None after the last step."""
        return schedule.position_at(self.config["plan"], self.trainer.step if step is None else step)

    def warp(self, step):
        """Return the warp strength of a step."""
        position = self.position(step)
        return warp_strength(self.trainer.hparams, position) if position else 0.0

    def next_step(self):
        """Take a step and do what is due after it. If the step is not finite, roll back."""
        trainer, position = self.trainer, self.position()
        if trainer.enter_stage(position):
            self.begin_stage(position)
        started = time.monotonic()
        records = self.run_or_roll_back(lambda: self.train_step(position))
        if records is None:
            return
        self.steps += 1
        if self.all_rendered:
            self.timed_seconds += time.monotonic() - started
            self.timed_steps += 1
        elif setup.is_complete(self.dataset):
            self.finish_rendering()
        self.after_step(position, records)

    def train_step(self, position):
        """Take a step and return the metrics read back; on a GPU not at every step."""
        with self.profile_layers(position):
            self.trainer.train_step(position, self.batches)
        return self.trainer.fetch_metrics() if self.trainer.reads_immediately() or self.metrics_due(position) else []

    def metrics_due(self, position):
        """Return whether anything is due after the step at this position that needs its metrics."""
        step = self.trainer.step
        return (self.timed_steps + 1 == TIMED_STEPS or self.preview_due(position) or position.step == 0
                or step % HELD_OUT_EVERY == 0 or self.progress.due() or self.save_due())

    def run_or_roll_back(self, action):
        """Return what the action returns. On a NotFiniteError, roll back and return None."""
        try:
            return action()
        except NotFiniteError as error:
            self.roll_back(f"{error} at step {self.trainer.step + 1}")
            return None

    def finish_rendering(self):
        """Record the dataset once all faces are rendered; after the last step, wait for them."""
        self.all_rendered = True
        setup.record_dataset(self.config, self.dataset, self.say)
        self.progress.end()
        self.say(f"all faces are rendered, after {self.trainer.step} steps")
        self.folder.write_config(self.config)

    @contextlib.contextmanager
    def profile_layers(self, position):
        """Context manager: time the layers of one step in each stage."""
        if self.timed_steps + 1 != PROFILED_STEP:
            yield
            return
        with nn.profile() as self.layer_times[position.stage]:
            yield

    def begin_stage(self, position):
        """Begin the next stage at its full learning rate, and save a checkpoint to roll back to."""
        self.progress.end()
        self.say(f"stage {position.stage}, after {self.trainer.step} steps")
        if self.trainer.lr_scale < 1:
            self.say(f"the learning rate, which was multiplied by {self.trainer.lr_scale:g}, is back at its full value")
            self.trainer.lr_scale = 1.0
        self.write_checkpoint()
        self.began, self.timed_seconds, self.steps, self.timed_steps = time.monotonic(), 0.0, 0, 0

    def after_step(self, position, records):
        """Do what is due after a step: held-out metrics, warnings, a preview, a checkpoint.

        records: the metrics of the steps that were read back; if there are none, nothing is due
        """
        if not records:
            return
        step = self.trainer.step
        if self.timed_steps == TIMED_STEPS:
            self.announce_time(position)
        due, rows = self.preview_due(position), [_row(record) for record in records]
        measured = position.stage != "discriminator" and (due or position.step == 0 or step % HELD_OUT_EVERY == 0)
        if measured:
            held_out = self.trainer.measure(self.dataset)
            self.trainer.keep_if_best(held_out, position.stage)
            rows[-1] |= {"held_out": held_out.losses.loss, "sharpness": held_out.sharpness, "variety": held_out.variety}
        self.add(rows)
        if due or measured or step % HELD_OUT_EVERY == 0:
            self.note(self.diagnosis.look(self.metrics.curves))
        if due:
            self.save_preview()
        if self.save_due():
            self.save()

    def preview_due(self, position):
        """Return whether a preview is due after the latest step, which was at this position."""
        last = position.total is not None and position.step + 1 == position.total
        return last or preview.preview_due(self.trainer.step, schedule.length(self.config["plan"]))

    def save_due(self):
        """Return whether it is time for a checkpoint."""
        since = time.monotonic() - self.saved_at
        return since > SAVE_SECONDS and since * SAVE_FRACTION >= self.save_seconds

    def add(self, rows):
        """Write rows of metrics and update the progress line."""
        for row in rows:
            self.metrics.add(row)
        self.progress.show(schedule.length(self.config["plan"]), self.steps_per_second(), *rows)

    def note(self, lines):
        """Print warnings and add them to notes.txt."""
        for line in lines:
            self.progress.end()
            self.say(line)
            self.notes.add(self.trainer.step, line)

    def steps_per_second(self):
        """Return the speed of this stage in this session, or None if nothing was timed yet.

        Previews do not count: they are frequent at first and rare later.
        """
        return self.timed_steps / self.timed_seconds if self.timed_steps else None

    def announce_time(self, position):
        """Print how long the stage will take. With --minutes, first fix its number of steps.

        That number is at least twice the steps taken. So these are in the first half of the stage,
        where the learning rate does not depend on its length.
        """
        if position.total is None:
            left = self.minutes_for(position) * 60 * _STEPS_FRACTION - (time.monotonic() - self.began)
            following = max(self.steps, int(left * self.steps_per_second()))
            self.config["plan"][position.number][1] = position.step + 1 + following
            self.batches.discard()  # prefetched batches are for a stage of open length
            self.folder.write_config(self.config)
        total = self.config["plan"][position.number][1]
        remaining = total - position.step - 1
        self.progress.end()
        expected = duration(remaining / self.steps_per_second())
        self.say(f"{total} steps of stage {position.stage}, expected time {expected}")

    def minutes_for(self, position):
        """Return the part of --minutes that is for the current stage."""
        # timed_from: index of the first stage in the plan that --minutes applies to
        fractions = [schedule.stage_fraction(stage) for stage, _ in self.config["plan"][self.config["timed_from"]:]]
        return self.config["minutes"] * schedule.stage_fraction(position.stage) / sum(fractions)

    def save_preview(self):
        with self.trainer.best_weights():
            image = self.dataset.preview(self.trainer.model)
        preview.save_preview(self.folder, image, self.trainer.step)
        if self.trainer.step >= FIRST_REPORT_STEP or not self.position():
            plots.save_plots(self.folder, self.metrics.curves, self.trainer.best_step)
        if self.trainer.step >= FIRST_REPORT_STEP and self.position():  # after the last step, finish() writes it
            self.write_report()

    def write_report(self):
        with self.trainer.best_weights():
            report.write_report(self.folder, self.metrics.curves, self.metrics.elapsed(), self.notes.lines,
                                self.layer_times, self.trainer.model, self.dataset)

    def save(self):
        """Save a checkpoint and return True. If training went wrong, roll back and return False."""
        if self.trainer.step == self.saved_step:
            return True
        started = time.monotonic()
        records = self.run_or_roll_back(self.trainer.fetch_metrics)
        if records is None:
            return False
        if records:  # stopped before the GPU's metrics were read back
            self.add([_row(record) for record in records])
        if self.has_collapsed():
            self.roll_back("the reconstruction of held-out faces collapsed")
            return False
        self.write_checkpoint()
        self.save_seconds = time.monotonic() - started
        return True

    def has_collapsed(self):
        """Return whether the autoencoder has collapsed. In the discriminator stage it is frozen."""
        if self.config["plan"][self.trainer.stage_number][0] == "discriminator":
            return False
        return self.trainer.has_collapsed(self.trainer.measure(self.dataset), self.metrics.curves["loss"])

    def write_checkpoint(self):
        self.metrics.flush()  # first: rows after the checkpoint are cut off on resume, missing ones are lost
        self.folder.save(self.trainer.state_dict())
        self.rollbacks, self.saved_at, self.saved_step = 0, time.monotonic(), self.trainer.step

    def roll_back(self, reason):
        """Return to the last good checkpoint and halve the learning rate.

        Raises NotFiniteError if several rollbacks in a row did not help.
        """
        self.rollbacks += 1
        if self.rollbacks > MAX_ROLLBACKS:
            raise NotFiniteError(f"{reason}, and again after {MAX_ROLLBACKS} rollbacks to lower learning rates; the "
                                 "last checkpoint is unchanged: resume with --stage and a lower "
                                 "--discriminator-learning-rate or --adversarial-weight, or start a new --run with a "
                                 "lower --learning-rate")
        trainer, scale = self.trainer, self.trainer.lr_scale * ROLLBACK_LR_FACTOR
        trainer.load_state_dict(self.folder.load())
        trainer.lr_scale = scale
        spent = self.metrics.elapsed()  # the undone steps took their time too
        self.metrics.close()
        self.metrics = metrics_log.Metrics(self.folder.path, trainer.step, spent)
        self.saved_at, self.saved_step = time.monotonic(), None  # the lowered learning rate is not saved yet
        self.note([f"{reason}: rolled back to the checkpoint of step {trainer.step}, the learning rate is now "
                   f"multiplied by {scale:g}"])

    def finish(self):
        """Print the metrics of held-out faces and write the report."""
        trainer = self.trainer
        if not self.all_rendered:
            self.finish_rendering()
        self.note(self.diagnosis.at_the_end(self.metrics.curves))
        if self.config["many_people"] is None:
            with trainer.best_weights():
                ground_truth = self.dataset.ground_truth(held_out.GROUND_TRUTH_FACES)
                measured = held_out.measure(trainer.model, self.dataset, ground_truth)
            self.say("\n".join(metrics_table(measured)))
        if trainer.best_step < trainer.step:
            self.say(f"the weights of step {trainer.best_step} had the best result on held-out faces; "
                     "previews and swaps use them")
        self.write_report()
        self.say(f"{duration(self.metrics.elapsed())} of training; see {self.folder.path / 'preview.png'} and "
                 f"{self.folder.path / 'report.html'}")


def _row(record):
    """Return the metrics of a step record as a row {column: value} of metrics.csv."""
    row = {"step": record.number, "stage": record.stage, "learning_rate": record.learning_rate,
           "fake_grad_norm": record.fake_grad_norm, "adversarial_weight": record.adversarial_weight}
    for part in (record.losses, record.discriminator_metrics):
        row |= dataclasses.asdict(part) if part is not None else {}
    return row | row.pop("terms", {})
