"""Validate untrusted plain data field by field.

Each function takes a dictionary and the name of a field, and returns the field's value. If its
type, shape or size is wrong, it raises ValueError with a phrase that names the field, such as
"landmarks must be 68 x 2 finite numbers".
"""

import re
import unicodedata

import numpy as np

_LARGEST = 1e9  # limit on the absolute value of every number


def text(fields, name, max_length=1000):
    """Return a str of at most `max_length` characters."""
    value = _value(fields, name)
    if not isinstance(value, str) or len(value) > max_length:
        raise ValueError(f"{name} must be a short text")
    return value


def file_name(fields, name):
    """Return a file name without its folder (of any system). It is only compared with existing
    names, never opened."""
    value = re.split(r"[\\/]", text(fields, name))[-1]
    if not value or value != printable(value):
        raise ValueError(f"{name} must be the name of a file")
    return value


def printable(value):
    """Return the text with U+FFFD in place of characters that cannot be shown or stored.

    These are control characters, and the surrogates by which Python represents bytes of a file name
    that are not UTF-8.
    """
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in value)


def number(fields, name):
    """Return a finite number as float."""
    value = _value(fields, name)
    if not _is_number(value):
        raise ValueError(f"{name} must be a finite number")
    return float(value)


def natural(fields, name):
    """Return an int of 0 or more."""
    value = _value(fields, name)
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return value


def numbers(fields, name, shape):
    """Return finite numbers, stored as lists, tuples or arrays, as a float64 array.

    shape: one or two sides; the first may be None, for any length
    """
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
    """Return whether value is a finite number of reasonable size; a bool is not."""
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _rows(value):
    """Return an array as lists, anything else unchanged."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _is_row(row, length):
    return isinstance(row, (list, tuple)) and len(row) == length and all(map(_is_number, row))
