"""The progress line of training."""
import collections
import math

from data.support.progress import Progress, duration

# The metrics of the progress line in each stage.
SHOWN = {
    "autoencoder": "loss {loss:.4f} ({terms})",
    "discriminator": "D loss {discriminator_loss:.4f} (real {score_real:.2f}, fake {score_fake:.2f}, "
                     "accuracy {accuracy:.0%})",
    "adversarial": "loss {loss:.4f} (adversarial {adversarial_loss:.3f}, D loss {discriminator_loss:.3f}, "
                   "D accuracy {accuracy:.0%})"}


class ProgressLine(Progress):
    """One line that is rewritten on a terminal; elsewhere a new line every ten seconds.

    terms: names of the terms of the reconstruction loss
    """

    def __init__(self, terms, stream=None):
        super().__init__("steps", stream)
        self._terms, self._shown = terms, 0.0
        self._smoothed = collections.defaultdict(lambda: math.nan)  # metric -> average over about twenty steps

    def show(self, total, speed, *rows, force=False):
        """Update the line.

        total: number of steps of the run; None: not known yet
        speed: steps per second
        rows: metrics of the newest steps, as for Metrics.add
        force: print even if the last line is recent
        """
        for name, value in [pair for row in rows for pair in row.items()]:
            if name not in ("step", "stage") and value is not None:
                before = self._smoothed.get(name, value)
                self._smoothed[name] = 0.95 * before + 0.05 * value
        if not force and not self.due():
            return
        row = rows[-1]
        step = row["step"]
        left = f"  {duration((total - step) / speed)} left" if total and speed else ""
        terms = ", ".join(f"{term} {self._smoothed[term]:.4f}" for term in self._terms if term in self._smoothed)
        shown = SHOWN[row["stage"]].format_map(self._smoothed | {"terms": terms})
        self.write(f"step {step}/{total or '?'}  {speed:.1f} steps/s{left}  {shown}")

    def end(self):
        """End the line, so that the next output begins below it."""
        if self.is_terminal and self._shown:
            self._stream.write("\n")
        self._shown = 0.0
