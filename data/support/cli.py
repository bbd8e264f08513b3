"""Helpers of the command lines: one-line errors, bounded numbers, and clean exits on signals."""
import argparse
import contextlib
import io
import signal
import sys
import threading
import unicodedata

import nn
from data.support.errors import UserError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of characters that printable escapes


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports wrong arguments in one line and exits with code 2.

    It also makes stdout escape characters that it cannot encode: file names need not be valid text.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # stderr does so by default

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def printable(text):
    """Escape the control characters of a text. File names may hold them; they break a line or clear the screen."""
    return "".join(c if unicodedata.category(c) not in _CONTROL else ascii(c)[1:-1] for c in text)


def print_line(text, file=None):
    """Print a text as one line to `file` (default: stdout)."""
    print(printable(text), file=file)


def number(kind, low, high=float("inf")):
    """Return an argparse type for a number from low to high. kind: int or float."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or value == float("inf"):
            limit = f"from {low} to {high}" if high < float("inf") else f"of at least {low}"
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"expected a {what} {limit}, got {text!r}")
        return value
    return parse


@contextlib.contextmanager
def interruptible():
    """Context manager: SIGINT and SIGTERM raise KeyboardInterrupt.

    This includes programs that a shell started in the background, which ignore SIGINT otherwise.
    """
    with _handlers(_interrupt):
        yield


@contextlib.contextmanager
def _handlers(handle):
    """Context manager: handle(number, frame) handles SIGINT and SIGTERM."""
    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number, frame):
    raise KeyboardInterrupt(number)


class Interruption:
    """Handlers for SIGINT and SIGTERM: the first signal ends the training loop after its step.

    It raises KeyboardInterrupt if the loop has not called requested() yet, or within
    interrupt_immediately(). A second signal always does.

    program: its name, for the message
    """

    def __init__(self, program):
        self.signal = None
        self._program, self._is_polled = program, False

    def requested(self):
        self._is_polled = True
        return self.signal is not None

    @contextlib.contextmanager
    def interrupt_immediately(self):
        """Context manager: nothing is left to save, so the first signal raises KeyboardInterrupt."""
        self._is_polled = False
        if self.signal is not None:
            raise KeyboardInterrupt(self.signal)
        yield

    def _handle(self, number, frame):
        is_second = self.signal is not None
        self.signal = number
        if is_second or not self._is_polled:
            raise KeyboardInterrupt(number)
        with contextlib.suppress(RuntimeError, OSError):  # the signal may interrupt another print to stderr
            print(f"\n{self._program}: stopping after this step and saving; press Ctrl-C again to quit immediately",
                  file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def installed(self):
        """Context manager: within it the handlers are installed."""
        with _handlers(self._handle):
            yield self


def exit_code(interruption):
    """Return the exit code for a KeyboardInterrupt: 143 if SIGTERM raised it, else 130."""
    return 128 + (signal.SIGTERM if signal.SIGTERM in interruption.args else signal.SIGINT)


def run_command(program, work, interrupted="interrupted"):
    """Return the exit code of a command line: that of work(), 1 after an error, 130 or 143 after an
    interruption.

    program, interrupted: for the line that is printed then
    """
    try:
        with interruptible():
            return work()
    except (UserError, nn.DeviceError, OSError) as error:
        print_line(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        print(f"{program}: {interrupted}", file=sys.stderr)
        return exit_code(interruption)


@contextlib.contextmanager
def defer_signals():
    """Context manager: SIGINT and SIGTERM are delivered at its end. For short work that must not be
    left half done."""
    if threading.current_thread() is not threading.main_thread():  # other threads receive no signals
        yield
        return
    received = []
    try:
        with _handlers(lambda number, frame: received.append(number)):
            yield
    finally:
        for number in received:
            signal.raise_signal(number)
