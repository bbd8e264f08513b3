"""The progress line of a training run."""
import collections
import contextlib
import math
import sys
import time

from data.support.progress import duration

# What the progress line shows in each stage.
SHOWN = {"autoencoder": "loss {loss:.4f} (mae {mae:.4f}, dssim {dssim:.4f}, mask {mask:.4f})",
         "discriminator": "critic {critic:.4f} (real {score_real:.2f}, made {score_made:.2f}, accuracy {accuracy:.0%})",
         "adversarial": "loss {loss:.4f} (adversarial {adversarial:.3f}, critic {critic:.3f}, accuracy {accuracy:.0%})"}


class ProgressLine:
    """One line that is rewritten on a terminal, or a line every ten seconds elsewhere."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._shown = 0.0
        self._smoothed = collections.defaultdict(lambda: math.nan)  # by figure, over some twenty steps

    def due(self):
        """Whether `show` would show anything now."""
        return time.monotonic() - self._shown >= (0.2 if self._tty else 10)

    def show(self, total, rate, *rows, force=False):
        """total: steps of the run, None: not known yet. rate: steps a second, None: faces are still being rendered. rows: what was
        measured in the newest steps, as for Metrics.add."""
        for name, value in [pair for row in rows for pair in row.items()]:
            if name not in ("step", "stage") and value is not None:
                before = self._smoothed.get(name, value)
                self._smoothed[name] = 0.95 * before + 0.05 * value
        if not force and not self.due():
            return
        self._shown, row = time.monotonic(), rows[-1]
        step = row["step"]
        left = f"  {duration((total - step) / rate)} left" if total and rate else ""
        pace = "rendering faces" if rate is None else f"{rate:.1f} steps/s"
        line = f"step {step}/{total or '?'}  {pace}{left}  {SHOWN[row['stage']].format_map(self._smoothed)}"
        with contextlib.suppress(OSError):  # training goes on where nobody can read it
            self._stream.write(f"\r\x1b[K{line}" if self._tty else line + "\n")
            self._stream.flush()

    def end(self):
        """Leave the line standing; what is written next begins below it."""
        if self._tty and self._shown:
            self._stream.write("\n")
        self._shown = 0.0
