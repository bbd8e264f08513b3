"""Read a CSV of landmarks: file,width,height,x0,y0,...,x67,y67."""
import csv
import pathlib

import numpy as np

from data.support.errors import FaceSetError

_COLUMNS = ["file", "width", "height"] + [f"{axis}{i}" for i in range(68) for axis in "xy"]


def read_landmarks(table, folder):
    """Return the rows of a landmarks CSV whose files are in `folder`.

    Returns (rows, skipped). Rows are (file, width, height, landmarks (68, 2)) with the file as
    written, relative to the CSV; skipped are (file, reason) for incomplete lines. Raises
    FaceSetError if the CSV is missing, unreadable or lacks columns.
    """
    table, folder = pathlib.Path(table), pathlib.Path(folder)
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError as error:
        raise FaceSetError(f"the landmarks file {table} does not exist; check the path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FaceSetError(f"the landmarks file {table} cannot be read ({error}); it must be a CSV in UTF-8") from error
    header = [name.strip() for name in lines[0]] if lines else []
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise FaceSetError(f"{table} lacks the columns {shown}; "
                           "the first line must be file,width,height,x0,y0,...,x67,y67")
    columns = [header.index(name) for name in _COLUMNS]
    rows, skipped, allowed = [], [], folder.resolve()
    for number, line in enumerate(lines[1:], start=2):
        name = line[columns[0]].strip() if len(line) > columns[0] else ""
        if not name or "\0" in name or not (table.parent / name).resolve().is_relative_to(allowed):
            continue
        try:
            width, height, *values = (float(line[column]) for column in columns[1:])
            rows.append((name, width, height, np.array(values).reshape(68, 2)))
        except (ValueError, IndexError):
            skipped.append((name, f"line {number} of {table.name} is incomplete or has a value that is not a number"))
    return rows, skipped
