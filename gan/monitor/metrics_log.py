"""Watching a run: a progress line, metrics.csv, notes, sheets of faces. gan/monitor/plots.py draws the curves."""
import csv
import io
import math
import os
import time

import numpy as np

from data.media.image_io import write_whole
from gan.run.checkpoint import RunError
from gan.training.schedule import STAGES

COLUMNS = ["step", "stage", "loss", "mae", "dssim", "mask", "held_out", "sharpness", "variety", "learning_rate",
           "adversarial", "critic", "penalty", "score_real", "score_made", "accuracy", "gradient_critic", "gradient_made",
           "weight"]
TIMES = ["step", "seconds"]  # the columns of timing.csv


class Curves:
    """What was measured in a run, a column a figure: curves["loss"] is float64 (n,), NaN where the figure was not taken.

    The columns "step" and "stage" have no gaps; a stage is its place in STAGES. A step takes 152 bytes, however few of its
    figures were taken: 15 MiB for 100,000 steps. The columns are views, and good until the next row is added."""

    def __init__(self):
        self._table = np.empty((len(COLUMNS), 1024))
        self._count = 0

    def __len__(self):
        return self._count

    def __getitem__(self, name):
        return self._table[COLUMNS.index(name), :self._count]

    def taken(self, name, rows=slice(None)):
        """(steps, values) of those of the rows, a slice, in which the figure was taken."""
        values = self[name][rows]
        where = np.isfinite(values)
        return self["step"][rows][where], values[where]

    def spans(self):
        """Stretches of one stage each, in order: [(the stage's name, its rows, a slice)]."""
        stage = self["stage"]
        borders = [0, *(np.flatnonzero(np.diff(stage)) + 1).tolist(), len(stage)]
        return [(STAGES[int(stage[a])], slice(a, b)) for a, b in zip(borders, borders[1:]) if b > a]

    def add(self, row):
        """Append a row {column: figure}; a figure that is None or left out was not taken."""
        unknown = row.keys() - set(COLUMNS)
        if unknown:
            raise ValueError(f"Curves.add: expected figures among {', '.join(COLUMNS)}, got {', '.join(sorted(unknown))}")
        if self._count == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.empty_like(self._table)], axis=1)
        values = [row["step"], STAGES.index(row["stage"]), *map(row.get, COLUMNS[2:])]
        self._table[:, self._count] = [np.nan if value is None else value for value in values]
        self._count += 1

    def cells(self, index):
        """A row as metrics.csv has it: text with six digits, empty where a figure was not taken."""
        step, stage, *figures = self._table[:, :self._count][:, index].tolist()
        return [str(int(step)), STAGES[int(stage)], *("" if math.isnan(figure) else f"{figure:.6g}" for figure in figures)]


class Metrics:
    """metrics.csv: one row a step, and timing.csv beside it: times would differ from run to run, metrics must not.

        step             steps of the run, all stages counted together
        stage            autoencoder, discriminator (it alone learns), adversarial (both, in turns)
        loss             the reconstruction loss of a batch, and its terms: mae, dssim, mask
        held_out         the same loss on faces that are not trained on, from time to time
        sharpness        of held-out faces as drawn, 1: as sharp as the real ones
        variety          how much the drawn held-out faces differ from one another, 1: as much as the real ones do
        learning_rate    of the autoencoder; of the discriminator while it alone learns
        adversarial      what the autoencoder is to make small in order to deceive, before it is weighted
        critic           what the discriminator is to make small; penalty: of its gradient, where taken
        score_real       mean score of real faces, and score_made: of drawn ones
        accuracy         share of the batch that the discriminator tells rightly, 0 to 1
        gradient_critic  norm of the gradient of the discriminator's weights
        gradient_made    norm of the adversarial loss's gradient in a drawn picture: all that the autoencoder learns from it
        weight           of the adversarial loss in this step

    Rows are kept in memory and on disk; what was written after `step`, the step to continue from, is cut off, and so is a last
    line that was not written to its end. seconds: spent on the run before; None: as many as timing.csv has at that step.
    Raises RunError for a file that is damaged up to that step."""

    def __init__(self, folder, step, seconds=None):
        self.curves = Curves()
        for row in _read_rows(folder / "metrics.csv", COLUMNS, step):
            self.curves.add(row)
        times = list(_read_rows(folder / "timing.csv", TIMES, step))
        self.seconds = (times[-1]["seconds"] if times else 0.0) if seconds is None else seconds
        rows = [self.curves.cells(k) for k in range(len(self.curves))]
        self._metrics = _rewritten(folder / "metrics.csv", COLUMNS, rows)
        self._timing = _rewritten(folder / "timing.csv", TIMES, [(row["step"], f"{row['seconds']:.3f}") for row in times])
        self._began = time.monotonic()

    def add(self, row):
        """Append a step's row {column: figure}; "step" and "stage" (by name) always, the others where they were taken."""
        self.curves.add(row)
        csv.writer(self._metrics).writerow(self.curves.cells(-1))
        csv.writer(self._timing).writerow([row["step"], f"{self.elapsed():.3f}"])

    def elapsed(self):
        """Seconds spent on this run, earlier sessions included."""
        return self.seconds + time.monotonic() - self._began

    def flush(self):
        """Hand everything to the disk."""
        for file in (self._metrics, self._timing):
            file.flush()
            os.fsync(file.fileno())

    def close(self):
        with self._timing, self._metrics:  # both, even if the disk is full
            pass


class Notes:
    """notes.txt: what a run had to say about how it goes, a line each: the step, a tab, the words. Kept in `lines`, pairs of
    (step, words), and on disk; what was said after `step`, the step to continue from, is cut off."""

    def __init__(self, folder, step):
        self._file = folder / "notes.txt"
        self.lines = [(at, words) for at, words in _read_notes(self._file) if at <= step]

    def add(self, step, words):
        """Append a line, and write the file whole."""
        self.lines.append((step, words))
        write_whole(self._file, "".join(f"{at}\t{said}\n" for at, said in self.lines).encode())


def _read_notes(path):
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    parts = [line.partition("\t") for line in lines]
    return [(int(step), words) for step, _, words in parts if step.isascii() and step.isdigit() and len(step) < 16]


def _read_rows(path, columns, step):
    """The rows {column: figure} of metrics.csv or timing.csv up to a step. Behind it nothing is looked at, nor in a last line
    without an end: where the power fails, that is what is left. RunError for anything else that is no row."""
    last = 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file):
                if last >= step or not line.endswith(b"\n"):
                    return
                cells = line.decode("ascii", "replace").rstrip("\r\n").split(",")
                if number == 0:
                    _demand(cells == list(columns), "its columns are others")
                    continue
                row = _row(cells, columns)
                _demand(row["step"] > last, f"step {row['step']} comes after step {last}")
                last = row["step"]
                if last <= step:
                    yield row
    except FileNotFoundError:
        return
    except (ValueError, OSError) as error:
        where = f" in line {number + 1}" if isinstance(error, ValueError) else ""
        raise RunError(f"{path} is damaged{where} ({error}); restore it, or move it away: then the run goes on without "
                       "what it says of the steps before") from error


def _row(cells, columns):
    """A line as figures; what is empty was not taken. ValueError for one that is no row."""
    _demand(len(cells) == len(columns), f"it has {len(cells)} columns, not {len(columns)}")
    row = dict(zip(columns, cells))
    step, stage = row.pop("step"), {name: row.pop(name) for name in row.keys() & {"stage"}}
    _demand(step.isdigit() and len(step) < 16, f"its step is {step[:20]!r}")
    _demand(set(stage.values()) <= set(STAGES), "there is no such stage")
    figures = {name: _figure(name, text) for name, text in row.items() if text}
    _demand(columns != TIMES or math.isfinite(figures.get("seconds", math.nan)), "its seconds are no number")
    return {"step": int(step)} | stage | figures


def _figure(name, text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"its {name} is {text[:20]!r}") from None


def _demand(condition, otherwise):
    if not condition:
        raise ValueError(otherwise)


def _rewritten(path, columns, rows):
    """The file, rewritten with these rows as a whole, and open to append to."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    write_whole(path, text.getvalue().encode())
    return open(path, "a", newline="", encoding="utf-8")
