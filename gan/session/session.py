"""One session of a run: continue where the last session ended (gan/session/setup.py), train, watch, save.

    configuration, whom to learn, Trainer -> steps -> previews, checkpoints, figures

Training can go wrong: a loss that is not finite, or faces that held-out pictures show to be lost. Then the session goes back to
the last good checkpoint and on from there at half the rate. What is saved is measured first, so that the last checkpoint is a
good one. A checkpoint is also saved as a stage begins: what goes wrong in a stage costs nothing of the one before. The rate
stays lowered until the next stage begins, which has its full rate again: that depends on steps alone, not on when a session
stopped or saved.
"""
import contextlib
import dataclasses
import time

import nn
from data.media.image_io import PictureError
from data.support.progress import duration
from gan import evaluate
from gan.evaluation import held_out
from gan.monitor import metrics_log, plots, preview, report
from gan.monitor.diagnosis import Diagnosis
from gan.monitor.progress_line import ProgressLine
from gan.run.checkpoint import RunFolder
from gan.run.config import precision_of
from gan.run.lock import only_one
from gan.session import setup
from gan.training import schedule
from gan.training.deferred import NotFiniteError
from gan.training.prefetch import BatchMaker
from gan.training.steps import warp_strength

SAVE_SECONDS, SAVE_SHARE = 60, 0.01  # between checkpoints, at the least; of the time, at the most, for writing and checking them
HELD_OUT_EVERY = 100  # steps
PROFILED_STEP = 10  # of a stage in a session: its layers are timed
REPORTED_FROM = 20  # steps: before, there is a sheet at each preview, but neither plots nor a report: it comes every moment
TIMED_STEPS = 20  # the first steps of a session or a stage, from which its speed is told
ROLLBACKS = 5  # in a row, without a new checkpoint between: then the run gives up
SLOWER = 0.5  # the rate after a rollback, of what it was
_SPARE = 0.94  # of --minutes is for steps, the rest for previews and the last figures


def train(request, say=print, stopped=lambda: False, at_once=contextlib.nullcontext):
    """Train until the run's last step, or until stopped() is true. Returns True if the run is finished.

    say: takes lines for the user. at_once: makes a context manager, entered where all is saved and stopped() is not asked any
    more. Raises RunError, FaceSetError, DeviceError or NotFiniteError with one line to show; RunError too where another process
    trains in the run's folder.
    """
    folder = RunFolder(request.run, request.keep)
    with only_one(folder):
        return _train(request, folder, say, stopped, at_once)


def _train(request, folder, say, stopped, at_once):
    began = time.monotonic()
    prepared = setup.ready(request, folder, say)
    if prepared is None:
        return True
    config, source, trainer = prepared
    session = _Session(folder, config, source, trainer, began, say)
    try:
        with nn.kernels.use_precision(precision_of(config)):
            return session.run(stopped, at_once)
    except (OSError, PictureError) as error:
        raise folder.unwritable(error) from error


class _Session:
    """The loop, and what happens beside the steps."""

    def __init__(self, folder, config, source, trainer, began, say):
        self.folder, self.config, self.source, self.trainer, self.say = folder, config, source, trainer, say
        self.diagnosis = Diagnosis()
        self.costs = {}  # stage -> nn.profile of a step
        self.rollbacks = 0
        self.saved, self.saved_step, self.save_took = time.monotonic(), trainer.step, 0.0
        self.began = began  # then of the stage
        self.whole = setup.complete(source)  # before, steps wait for faces and share the cores with those who render them
        self.steps = 0  # of this stage in this session
        self.stepping, self.timed = 0.0, 0  # seconds and number of those taken with all faces there, without what is beside them

    def run(self, stopped, at_once):
        trainer = self.trainer
        self.metrics = metrics_log.Metrics(self.folder.path, trainer.step)
        self.notes = metrics_log.Notes(self.folder.path, trainer.step)
        self.batches = BatchMaker(self.source, trainer.recipe, self.warp, trainer.model.parameters()[0].device)
        self.progress = ProgressLine()
        try:
            self.batches.prepare(trainer.step)
            if trainer.step == 0:
                self.write()  # there is always a good checkpoint to go back to
            while True:
                while self.place() and not stopped():
                    self.next_step()
                self.progress.end()
                if self.save() or stopped():
                    break
            if not self.place():
                with at_once():
                    self.conclude()
        finally:
            self.progress.end()
            self.stop_rendering()  # the batches' thread may wait for it
            self.batches.close()
            self.stop_rendering()  # and may have had it begun anew before it heard
            self.metrics.close()
        return not self.place()

    def stop_rendering(self):
        for faces in self.source.sets():
            faces.stop()

    def place(self, step=None):
        """The gan.training.schedule.Place of the next step, or of a given one; None after the last."""
        return schedule.place(self.config["plan"], self.trainer.step if step is None else step)

    def warp(self, step):
        """How far the inputs of a step are warped."""
        place = self.place(step)
        return warp_strength(self.trainer.recipe, place) if place else 0.0

    def next_step(self):
        """Take a step and do what is due after it; where it cannot be taken, go back."""
        trainer, place = self.trainer, self.place()
        if trainer.enter(place):
            self.begin(place)
        started = time.monotonic()
        made = self.attempt(lambda: self.take(place))
        if made is None:
            return
        self.steps += 1
        if self.whole:
            self.stepping += time.monotonic() - started
            self.timed += 1
        elif setup.complete(self.source):
            self.all_there()
        self.after_step(place, made)

    def take(self, place):
        """Take a step, and read what it measured; on a GPU only now and then, what all steps measured since."""
        with self.profiled(place):
            self.trainer.train_step(place, self.batches)
        return self.trainer.read() if self.trainer.reads_at_once() or self.reading_due(place) else []

    def reading_due(self, place):
        """Whether something is due after the step at this place for which its figures are needed, or the progress line is."""
        step = self.trainer.step
        return (self.timed + 1 == TIMED_STEPS or self.preview_due(place) or place.step == 0 or step % HELD_OUT_EVERY == 0
                or self.progress.due() or self.saving_due())

    def attempt(self, action):
        """What the action gives; None where something in it was not finite: then the session is back at the last checkpoint."""
        try:
            return action()
        except NotFiniteError as error:
            self.roll_back(f"{error} at step {self.trainer.step + 1}")
            return None

    def all_there(self):
        """Faces have been rendered to the last one, or at the end of the run are waited for."""
        self.whole = True
        setup.record(self.config, self.source, self.say)
        self.progress.end()
        self.say(f"all faces are rendered, after {self.trainer.step} steps")
        self.folder.write_config(self.config)

    @contextlib.contextmanager
    def profiled(self, place):
        """Within it one of the stage's steps is timed by layers, once it runs as it will go on."""
        if self.timed + 1 != PROFILED_STEP:
            yield
            return
        with nn.profile() as self.costs[place.stage]:
            yield

    def begin(self, place):
        """Begin another stage: at its full rate, and with a checkpoint to go back to."""
        self.progress.end()
        self.say(f"stage {place.stage}, after {self.trainer.step} steps")
        if self.trainer.rate_scale < 1:
            self.say(f"the learning rate, lowered to {self.trainer.rate_scale:g} times, is the full one again")
            self.trainer.rate_scale = 1.0
        self.write()
        self.began, self.stepping, self.steps, self.timed = time.monotonic(), 0.0, 0, 0

    def after_step(self, place, made):
        """Whatever is due after a step: the total, held-out figures, words on how it goes, a preview, a checkpoint. made: the
        Steps that were read; without them nothing is due."""
        if not made:
            return
        step = self.trainer.step
        if self.timed == TIMED_STEPS:
            self.tell_time(place)
        due, rows = self.preview_due(place), [_row(each) for each in made]
        measured = place.stage != "discriminator" and (due or place.step == 0 or step % HELD_OUT_EVERY == 0)
        if measured:
            held_out = self.trainer.measure(self.source)
            self.trainer.keep_if_best(held_out, place.stage)
            rows[-1] |= {"held_out": held_out.losses.loss, "sharpness": held_out.sharpness, "variety": held_out.variety}
        self.add(rows)
        if due or measured or step % HELD_OUT_EVERY == 0:
            self.tell(self.diagnosis.look(self.metrics.curves))
        if due:
            self.preview()
        if self.saving_due():
            self.save()

    def preview_due(self, place):
        """Whether a preview is made after the step at this place, which was the latest."""
        last = place.total is not None and place.step + 1 == place.total
        return last or preview.preview_due(self.trainer.step, schedule.length(self.config["plan"]))

    def saving_due(self):
        since = time.monotonic() - self.saved
        return since > SAVE_SECONDS and since * SAVE_SHARE >= self.save_took

    def add(self, rows):
        """Write down what was measured, and show it."""
        for row in rows:
            self.metrics.add(row)
        self.progress.show(schedule.length(self.config["plan"]), self.rate(), *rows)

    def tell(self, lines):
        for line in lines:
            self.progress.end()
            self.say(line)
            self.notes.add(self.trainer.step, line)

    def rate(self):
        """Steps a second of this stage in this session, without the previews: these are many at first and rare later. None while
        that cannot be told."""
        return self.timed / self.stepping if self.timed else None

    def tell_time(self, place):
        """Say how long the stage will take; with --minutes, fix the number of steps that fits: at least as many again as were
        taken, so that these were its first half."""
        if place.total is None:
            left = self.minutes_of(place) * 60 * _SPARE - (time.monotonic() - self.began)
            self.config["plan"][place.number][1] = place.step + 1 + max(self.steps, int(left * self.rate()))
            self.batches.renew()  # what was made ahead was made for a stage of open length
            self.folder.write_config(self.config)
        total = self.config["plan"][place.number][1]
        remaining = total - place.step - 1
        self.progress.end()
        self.say(f"{total} steps of stage {place.stage}, expected time {duration(remaining / self.rate())}")

    def minutes_of(self, place):
        """The share of --minutes that is a stage's."""
        shares = [schedule.share(stage) for stage, _ in self.config["plan"][self.config["timed_from"]:]]
        return self.config["minutes"] * schedule.share(place.stage) / sum(shares)

    def preview(self):
        with self.trainer.best_weights():
            sheet = self.source.sheet(self.trainer.model)
        preview.save_preview(self.folder, sheet, self.trainer.step)
        if self.trainer.step >= REPORTED_FROM or not self.place():
            plots.save_plots(self.folder, self.metrics.curves, self.trainer.best_step)
        if self.trainer.step >= REPORTED_FROM and self.place():  # after the last step, conclude writes it
            self.report()

    def report(self):
        """Write report.html."""
        with self.trainer.best_weights():
            report.write_report(self.folder, self.metrics.curves, self.metrics.elapsed(), self.notes.lines, self.costs,
                                self.trainer.model, self.source)

    def save(self):
        """Write a checkpoint, unless a step was not finite or held-out faces show that what was learned is lost: then go back.
        True if all is written."""
        if self.trainer.step == self.saved_step:
            return True
        started = time.monotonic()
        made = self.attempt(self.trainer.read)
        if made is None:
            return False
        if made:  # stopped before a GPU was asked
            self.add([_row(each) for each in made])
        if self.lost():
            self.roll_back("held-out faces are drawn far worse than before")
            return False
        self.write()
        self.save_took = time.monotonic() - started
        return True

    def lost(self):
        """Whether what was learned is lost. Not asked while the discriminator alone learns: the autoencoder stays as it is."""
        if self.config["plan"][self.trainer.stage_number][0] == "discriminator":
            return False
        return self.trainer.collapsed(self.trainer.measure(self.source), self.metrics.curves["loss"])

    def write(self):
        self.metrics.flush()  # first: rows beyond a checkpoint are cut off, but missing ones cannot be made up
        self.folder.save(self.trainer.state_dict())
        self.rollbacks, self.saved, self.saved_step = 0, time.monotonic(), self.trainer.step

    def roll_back(self, reason):
        """Go back to the last good checkpoint, and on from there at half the rate.

        Raises NotFiniteError where that was of no help several times."""
        self.rollbacks += 1
        if self.rollbacks > ROLLBACKS:
            raise NotFiniteError(f"{reason}, and {ROLLBACKS} times at lower rates too; the last checkpoint still stands: try "
                                 "--stage with a lower --critic-rate or --adversarial-weight, or a new run with a lower "
                                 "--learning-rate")
        trainer, scale = self.trainer, self.trainer.rate_scale * SLOWER
        trainer.load_state_dict(self.folder.load())
        trainer.rate_scale = scale
        spent = self.metrics.elapsed()  # the steps that are taken back took their time too
        self.metrics.close()
        self.metrics = metrics_log.Metrics(self.folder.path, trainer.step, spent)
        self.saved, self.saved_step = time.monotonic(), None  # the lowered rate is not
        self.tell([f"{reason}: back to the checkpoint of step {trainer.step}, and on at {scale:g} times the learning rate"])

    def conclude(self):
        """The held-out figures."""
        trainer = self.trainer
        if not self.whole:
            self.all_there()
        self.tell(self.diagnosis.at_the_end(self.metrics.curves))
        if self.config["crowd"] is None:
            with trainer.best_weights():
                found = held_out.figures(trainer.model, self.source, self.source.truth(held_out.TRUTH_FACES))
            self.say("\n".join(evaluate.table(found)))
        if trainer.best_step < trainer.step:
            self.say(f"the held-out faces were drawn best after step {trainer.best_step}: those weights draw the pictures")
        self.report()
        self.say(f"{duration(self.metrics.elapsed())} of training; look at {self.folder.path / 'preview.png'} and "
                 f"{self.folder.path / 'report.html'}")


def _row(made):
    """The figures of a gan.training.trainer.Step as metrics.csv names them."""
    parts = [dataclasses.asdict(part) for part in (made.losses, made.duel) if part is not None]
    return {"step": made.number, "stage": made.stage, "learning_rate": made.learning_rate, "gradient_made": made.gradient_made,
            "weight": made.weight, **{name: value for part in parts for name, value in part.items()}}
