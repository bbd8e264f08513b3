"""Helpers of the command lines: one-line errors, bounded numbers, and clean exits on signals."""
import argparse
import contextlib
import io
import signal
import sys
import threading

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    before = {number: signal.signal(number, _interrupt) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number, frame):
    raise KeyboardInterrupt(number)


def exit_code(interruption):
    """Return the exit code for a KeyboardInterrupt: 143 if SIGTERM raised it, else 130."""
    return 128 + (signal.SIGTERM if signal.SIGTERM in interruption.args else signal.SIGINT)


@contextlib.contextmanager
def defer_signals():
    """Context manager: SIGINT and SIGTERM are delivered at its end. For short work that must not be
    left half done."""
    if threading.current_thread() is not threading.main_thread():  # other threads receive no signals
        yield
        return
    received = []
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)
