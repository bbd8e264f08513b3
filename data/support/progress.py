"""Progress of a long task: one line that is rewritten on a terminal, or a line every 10 seconds."""

import contextlib
import sys
import time


class Progress:
    """A progress line. unit: what is counted, in the plural."""

    def __init__(self, unit, stream=None):
        self._unit, self._stream = unit, stream or sys.stderr
        self.is_terminal = self._stream.isatty()
        self._began = self._shown = time.monotonic()

    def show(self, done, expected=None, more=""):
        """Print the progress, unless the last line is recent.

        done: units finished, out of `expected` (None: unknown)
        more: text added at the end of the line
        """
        if not self.due():
            return
        rate = done / (time.monotonic() - self._began)
        left = f", {duration((expected - done) / rate)} left" if rate and expected and expected >= done else ""
        self.write(f"{done}/{expected or '?'} {self._unit}, {rate:.1f} a second{left}{'; ' if more else ''}{more}")

    def due(self):
        """Return whether the last line is old enough for another one."""
        return time.monotonic() - self._shown >= (0.2 if self.is_terminal else 10)

    def write(self, line):
        """Print a line: on a terminal in place of the last one."""
        self._shown = time.monotonic()
        with contextlib.suppress(OSError):  # the task goes on without a readable stream
            self._stream.write(f"\r\x1b[K{line}" if self.is_terminal else line + "\n")
            self._stream.flush()

    def end(self):
        """Clear the line, so that the next output takes its place."""
        if self.is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def duration(seconds):
    """Return seconds as text: '45 s', '3 min 20 s', '2 h 5 min'."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
