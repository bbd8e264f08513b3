"""What the command lines share: errors of one line, numbers within limits, and signals that end a program in good order."""
import argparse
import contextlib
import io
import signal
import sys
import threading

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Parser(argparse.ArgumentParser):
    """argparse that ends with code 2 and one line, without repeating the usage, for arguments that make no sense. Names of files
    may be no text at all: from here on what cannot be printed is spelt out."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does of itself

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def number(kind, low, high=float("inf")):
    """An argparse type: an int or float (`kind`) from low to high."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or value == float("inf"):
            limit = f"from {low} to {high}" if high < float("inf") else f"of at least {low}"
            raise argparse.ArgumentTypeError(f"expected a {'whole ' if kind is int else ''}number {limit}, got {text!r}")
        return value
    return parse


@contextlib.contextmanager
def interruptible():
    """Context manager: within it SIGINT and SIGTERM raise KeyboardInterrupt, also in a program that a shell has started in
    the background, where SIGINT would be ignored."""
    before = {number: signal.signal(number, _interrupt) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number, frame):
    raise KeyboardInterrupt(number)


def exit_code(interruption):
    """The exit code for a KeyboardInterrupt: 143 if SIGTERM raised it, else 130."""
    return 128 + (signal.SIGTERM if signal.SIGTERM in interruption.args else signal.SIGINT)


@contextlib.contextmanager
def undivided():
    """Context manager: within it SIGINT and SIGTERM wait. For what takes a moment and should be done whole or not at all."""
    if threading.current_thread() is not threading.main_thread():  # others get no signals, and cannot hold them back
        yield
        return
    came = []
    before = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
