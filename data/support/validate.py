"""Plain data that somebody else wrote, taken out field by field: what has the wrong type, shape or size is refused by name.

Each function takes a dictionary and the name of a field in it, and raises ValueError with a part of a line, such as
"landmarks must be 68 x 2 finite numbers".
"""

import re
import unicodedata

import numpy as np

_LARGEST = 1e9  # of any number


def text(fields, name, most=1000):
    """A str of at most `most` characters."""
    value = _value(fields, name)
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{name} must be a short text")
    return value


def file_name(fields, name):
    """The name of a file without its folder, of any system: it is compared with names that are there, and never opened."""
    value = re.split(r"[\\/]", text(fields, name))[-1]
    if not value or value != printable(value):
        raise ValueError(f"{name} must be the name of a file")
    return value


def printable(value):
    """A text with a mark in the place of what cannot be shown or stored: control characters, and bytes that are no UTF-8, which
    Python keeps in the names of files."""
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in value)


def number(fields, name):
    """A finite number as float."""
    value = _value(fields, name)
    if not _is_number(value):
        raise ValueError(f"{name} must be a finite number")
    return float(value)


def whole(fields, name):
    """An int of 0 or more."""
    value = _value(fields, name)
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return value


def numbers(fields, name, shape):
    """Lists, tuples or arrays of finite numbers as float64 of this shape of one or two sides; the first may be None, any."""
    value = _rows(_value(fields, name))
    rows = [value] if len(shape) == 1 else value
    long_enough = isinstance(rows, (list, tuple)) and (len(shape) == 1 or shape[0] in (None, len(rows)))
    if not long_enough or not all(_is_row(row, shape[-1]) for row in map(_rows, rows)):
        wanted = " x ".join("any number" if side is None else str(side) for side in shape)
        raise ValueError(f"{name} must be {wanted} finite numbers")
    return np.array([_rows(row) for row in rows], np.float64).reshape([-1 if side is None else side for side in shape])


def _value(fields, name):
    if name not in fields:
        raise ValueError(f"{name} is missing")
    return fields[name]


def _is_number(value):
    """A finite number of reasonable size; a truth value is none."""
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _rows(value):
    """An array as lists."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _is_row(row, length):
    return isinstance(row, (list, tuple)) and len(row) == length and all(map(_is_number, row))
