"""What the command lines share: errors of one line, and numbers within limits."""
import argparse
import io
import sys


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
