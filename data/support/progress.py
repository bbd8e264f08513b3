"""How far a long piece of work has come: one line that is rewritten on a terminal, or a line every ten seconds elsewhere."""

import sys
import time


class Progress:
    """The line. unit: what is counted, in the plural."""

    def __init__(self, unit, stream=None):
        self._unit, self._stream = unit, stream or sys.stderr
        self._tty = self._stream.isatty()
        self._began = self._shown = time.monotonic()

    def show(self, done, expected=None, more=""):
        """done: units so far, of `expected` (None: not known). more: words to add at the end of the line."""
        now = time.monotonic()
        if now - self._shown < (0.2 if self._tty else 10):
            return
        self._shown, rate = now, done / (now - self._began)
        left = f", {duration((expected - done) / rate)} left" if rate and expected and expected >= done else ""
        line = f"{done}/{expected or '?'} {self._unit}, {rate:.1f} a second{left}{'; ' if more else ''}{more}"
        self._stream.write(f"\r\x1b[K{line}" if self._tty else line + "\n")
        self._stream.flush()

    def end(self):
        """Clear the line: what is written next stands in its place."""
        if self._tty:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def duration(seconds):
    """'45 s', '3 min 20 s', '2 h 5 min'"""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
