"""The loop of a run: fit() from its first step to its last.

    train.py -> train() -> prepare (setup.py) -> fit -> finish

Everything that happens in a run is a call in fit, in this order: the batch, the step, its metrics,
validation, warnings, preview, checkpoint; and the rollback if a step went wrong.
"""
import contextlib
import time
from dataclasses import dataclass, field

import nn
from data.media.image_io import ImageError
from data.support.progress import duration
from gan.evaluation import held_out
from gan.evaluation.table import metrics_table
from gan.monitor import plots, preview, report
from gan.monitor.run_log import RunLog
from gan.run import schedule
from gan.run.checkpoint import RunFolder
from gan.run.config import Config
from gan.run.lock import exclusive_lock
from gan.training import setup
from gan.training.checkpoints import Checkpoints
from gan.training.prefetch import BatchPrefetcher
from gan.training.trainer import DivergenceError, Trainer, read_metrics

READ_EVERY = 10  # steps on a GPU after which their metrics are read back
VALIDATE_EVERY = 100  # steps
PROFILED_STEP = 10  # number of the step whose layers are timed, in each stage and session
FIRST_REPORT_STEP = 20  # before, previews are so frequent that plots and report are left out
TIMED_STEPS = 20  # first steps of a session or stage, from which its speed is estimated
_STEPS_FRACTION = 0.94  # part of --minutes that is for steps; the rest is for previews and the last metrics


def train(run_options, say=print, stopped=lambda: False, interrupt_immediately=contextlib.nullcontext):
    """Train until the last step of the run, or until stopped() is true. Return whether it finished.

    run_options: gan.run.configure.RunOptions
    say: function that prints a line for the user
    interrupt_immediately: context manager for the last metrics, when all is saved and stopped() is
        not called any more
    Raises RunError, FaceSetError, DeviceError or DivergenceError with a message of one line.
    A RunError is also raised if another process trains in the run folder.
    """
    began, folder = time.monotonic(), RunFolder(run_options.run, run_options.keep_checkpoints)
    with exclusive_lock(folder):
        prepared = setup.prepare(run_options, folder, say)
        if prepared is None:
            return True
        config, dataset, trainer = prepared
        try:
            log = RunLog(folder, config.loss_weights, trainer.step, say)
            session = Session(folder, config, dataset, trainer, log, began)
            with contextlib.closing(log), nn.kernels.use_precision(config.precision):
                is_finished = fit(session, stopped)
                if is_finished:
                    with interrupt_immediately():
                        finish(session)
            return is_finished
        except (OSError, ImageError) as error:
            raise folder.write_error(error) from error


@dataclass(frozen=True)
class Session:
    """What one call of train() works on."""

    folder: RunFolder
    config: Config
    dataset: object  # gan.people.pair.FacePair or gan.people.many.MultiPersonDataset
    trainer: Trainer
    log: RunLog
    began: float  # time.monotonic() when the session began
    layer_times: dict = field(default_factory=dict)  # {stage: nn.profile of one of its steps}


def fit(session, stopped):
    """Take the steps of the plan until its end or until stopped(). Return whether it ended."""
    config, dataset, trainer, log = session.config, session.dataset, session.trainer, session.log
    checkpoints, clock, unread = Checkpoints(session.folder, trainer, log), Clock(session.began), []
    device = trainer.model.parameters()[0].device
    if trainer.step == 0:
        checkpoints.write()  # so that a rollback is always possible
    if stopped():  # asked before the first step too: from here on, a signal ends the run after its step
        return False
    with contextlib.closing(BatchPrefetcher(dataset, config, device)) as batches:
        while position := schedule.position_at(config.plan, trainer.step):
            if trainer.enter_stage(position):
                begin_stage(position, trainer, log)
                checkpoints.write()
                clock = Clock()

            batch = batches(trainer.step)
            with clock.step(), profiled(session.layer_times, position.stage, clock):
                unread.append(trainer.train_step(position, batch))

            is_stopping, total = stopped(), schedule.length(config.plan)
            show = position.is_last_step() or preview.preview_due(trainer.step, total)
            check = show or position.step == 0 or trainer.step % VALIDATE_EVERY == 0
            save = is_stopping or position.last and position.is_last_step() or checkpoints.due()
            if not (device == "cpu" or trainer.step % READ_EVERY == 0 or clock.steps == TIMED_STEPS or check or save):
                continue  # a GPU is not made to wait for the numbers of every step
            try:
                rows, unread = read_metrics(unread), []
                if clock.steps == TIMED_STEPS:
                    announce_time(session, position, clock, batches)
                if check and position.stage != "discriminator":  # in that stage the autoencoder is frozen
                    rows[-1] |= trainer.validate(dataset, position.stage)
                log.add(rows, schedule.length(config.plan), clock.steps_per_second())
                if check:
                    log.warn()
                if show:
                    save_preview(session)
                if save:
                    trainer.check_collapse(dataset, position.stage, log.curves["loss"])
                    checkpoints.write()
            except DivergenceError as error:
                checkpoints.roll_back(error)
                clock, unread = Clock(clock.began), []
            if is_stopping:
                return False
    return True


class Clock:
    """The speed of a stage in this session: the time of its steps alone, without previews.

    began: when the stage began, with what came before it in this session; None: now
    """

    def __init__(self, began=None):
        self.began = time.monotonic() if began is None else began
        self.steps, self._seconds = 0, 0.0

    @contextlib.contextmanager
    def step(self):
        """Context manager: time a step."""
        started = time.monotonic()
        yield
        self.steps += 1
        self._seconds += time.monotonic() - started

    def steps_per_second(self):
        return self.steps / self._seconds


@contextlib.contextmanager
def profiled(layer_times, stage, clock):
    """Context manager: time the layers of one step in each stage."""
    if clock.steps + 1 != PROFILED_STEP:
        yield
        return
    with nn.profile() as layer_times[stage]:
        yield


def begin_stage(position, trainer, log):
    """Say which stage begins, and restore the full learning rate."""
    log.say(f"stage {position.stage}, after {trainer.step} steps")
    if trainer.lr_scale < 1:
        log.say(f"the learning rate, which was multiplied by {trainer.lr_scale:g}, is back at its full value")
        trainer.lr_scale = 1.0


def announce_time(session, position, clock, batches):
    """Say how long the stage will take. With --minutes, first fix its number of steps.

    That number is at least twice the steps taken. So these are in the first half of the stage,
    where the learning rate does not depend on its length.
    """
    config = session.config
    if position.total is None:
        left = _minutes_for(config, position) * 60 * _STEPS_FRACTION - (time.monotonic() - clock.began)
        following = max(clock.steps, int(left * clock.steps_per_second()))
        config.plan[position.number][1] = position.step + 1 + following
        batches.discard()  # prefetched batches are for a stage of open length
        session.folder.write_config(config)
    total = config.plan[position.number][1]
    expected = duration((total - position.step - 1) / clock.steps_per_second())
    session.log.say(f"{total} steps of stage {position.stage}, expected time {expected}")


def _minutes_for(config, position):
    """Return the part of --minutes that is for the current stage."""
    fractions = [schedule.stage_fraction(stage) for stage, _ in config.plan[config.timed_from:]]
    return config.minutes * schedule.stage_fraction(position.stage) / sum(fractions)


def save_preview(session):
    """Write preview.png, the plots and the report."""
    folder, trainer = session.folder, session.trainer
    with trainer.best_weights():
        preview.save_preview(folder, session.dataset.preview(trainer.model), trainer.step)
    is_finished = schedule.position_at(session.config.plan, trainer.step) is None
    if trainer.step >= FIRST_REPORT_STEP or is_finished:
        plots.save_plots(folder, session.log.curves, trainer.best_step)
    if trainer.step >= FIRST_REPORT_STEP and not is_finished:  # after the last step, finish() writes it
        write_report(session)


def write_report(session):
    """Write report.html."""
    log, trainer = session.log, session.trainer
    with trainer.best_weights():
        report.write_report(session.folder, log.curves, log.metrics.elapsed(), log.notes.lines, session.layer_times,
                            trainer.model, session.dataset)


def finish(session):
    """Print the metrics of held-out faces and write the report."""
    log, trainer, dataset = session.log, session.trainer, session.dataset
    log.warn(at_the_end=True)
    if session.config.many_people is None:
        with trainer.best_weights():
            ground_truth = dataset.ground_truth(held_out.GROUND_TRUTH_FACES)
            measured = held_out.measure(trainer.model, dataset, ground_truth)
        log.say("\n".join(metrics_table(measured)))
    if trainer.best_step < trainer.step:
        log.say(f"the weights of step {trainer.best_step} had the best result on held-out faces; previews and swaps "
                "use them")
    write_report(session)
    log.say(f"{duration(log.metrics.elapsed())} of training; see {session.folder.path / 'preview.png'} and "
            f"{session.folder.path / 'report.html'}")
