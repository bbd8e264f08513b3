"""When a checkpoint is saved, and the rollback to the last one.

Training can go wrong: a loss is not finite, or held-out faces show a collapse. Then the run rolls
back to the last good checkpoint and continues at half the learning rate. Held-out faces are
measured before a checkpoint is saved, so that the last checkpoint is a good one. A checkpoint is
also saved when a stage begins, so that a failure in one stage costs nothing of the stage before.
The learning rate stays lowered until the next stage begins at its full rate. This depends on steps
alone, not on when a session stopped or saved.
"""
import time

from gan.training.trainer import DivergenceError

SAVE_SECONDS = 60  # least time between checkpoints
SAVE_FRACTION = 0.01  # largest fraction of the time that goes into writing and checking checkpoints
MAX_ROLLBACKS = 5  # in a row, without a new checkpoint in between
ROLLBACK_LR_FACTOR = 0.5


class Checkpoints:
    """The checkpoints of a run in training.

    folder: the RunFolder
    trainer: gan.training.trainer.Trainer
    log: gan.monitor.run_log.RunLog
    """

    def __init__(self, folder, trainer, log):
        self._folder, self._trainer, self._log = folder, trainer, log
        self._rollbacks = 0
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def due(self):
        """Return whether it is time for a checkpoint."""
        since = time.monotonic() - self._saved_at
        return since > SAVE_SECONDS and since * SAVE_FRACTION >= self._save_seconds

    def write(self):
        """Write a checkpoint."""
        started = time.monotonic()
        self._log.metrics.flush()  # first: rows after the checkpoint are cut off on resume, missing ones are lost
        self._folder.save(self._trainer.state_dict())
        self._rollbacks, self._saved_at = 0, time.monotonic()
        self._save_seconds = self._saved_at - started

    def roll_back(self, reason):
        """Return to the last good checkpoint and halve the learning rate.

        Raises DivergenceError if several rollbacks in a row did not help.
        """
        self._rollbacks += 1
        if self._rollbacks > MAX_ROLLBACKS:
            raise DivergenceError(f"{reason}, and again after {MAX_ROLLBACKS} rollbacks to lower learning rates; the "
                                 "last checkpoint is unchanged: resume with --stage and a lower "
                                 "--discriminator-learning-rate or --adversarial-weight, or start a new --run with a "
                                 "lower --learning-rate")
        scale = self._trainer.lr_scale * ROLLBACK_LR_FACTOR
        self._trainer.load_state_dict(self._folder.load())
        self._trainer.lr_scale = scale
        self._log.rewind(self._trainer.step)
        self._saved_at = time.monotonic()
        self._log.note([f"{reason}: rolled back to the checkpoint of step {self._trainer.step}, the learning rate is "
                        f"now multiplied by {scale:g}"])
