"""The files in which a run logs its metrics and warnings: metrics.csv, timing.csv and notes.txt."""
import csv
import io
import math
import os
import time

import numpy as np

from data.media.image_io import write_atomically
from gan.run.checkpoint import RunError
from gan.training.losses import TERMS
from gan.training.schedule import STAGES

COLUMNS = ["step", "stage", "loss", *TERMS, "held_out", "sharpness", "variety", "learning_rate",
           "adversarial_loss", "discriminator_loss", "penalty", "score_real", "score_fake", "accuracy",
           "discriminator_grad_norm", "fake_grad_norm", "adversarial_weight"]
TIMES = ["step", "seconds"]  # the columns of timing.csv


class Curves:
    """The metrics of a run as columns: curves["loss"] is float64 (n,), NaN for missing values.

    The columns "step" and "stage" have no gaps; a stage is its index in STAGES. A step takes 152
    bytes: 15 MiB for 100,000 steps. The columns are views, valid until the next row is added.
    """

    def __init__(self):
        self._table = np.empty((len(COLUMNS), 1024))
        self._count = 0

    def __len__(self):
        return self._count

    def __getitem__(self, name):
        return self._table[COLUMNS.index(name), :self._count]

    def recorded(self, name, rows=slice(None)):
        """Return (steps, values) of those rows, a slice, that have a value of a metric."""
        values = self[name][rows]
        where = np.isfinite(values)
        return self["step"][rows][where], values[where]

    def spans(self):
        """Return consecutive rows of one stage each: [(name of the stage, slice of its rows)]."""
        stage = self["stage"]
        borders = [0, *(np.flatnonzero(np.diff(stage)) + 1).tolist(), len(stage)]
        return [(STAGES[int(stage[a])], slice(a, b)) for a, b in zip(borders, borders[1:]) if b > a]

    def add(self, row):
        """Append a row {column: value}. A value that is None or missing was not recorded."""
        unknown = row.keys() - set(COLUMNS)
        if unknown:
            raise ValueError(f"Curves.add: expected columns among {', '.join(COLUMNS)}, got "
                             f"{', '.join(sorted(unknown))}")
        if self._count == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.empty_like(self._table)], axis=1)
        values = [row["step"], STAGES.index(row["stage"]), *map(row.get, COLUMNS[2:])]
        self._table[:, self._count] = [np.nan if value is None else value for value in values]
        self._count += 1

    def cells(self, index):
        """Return a row as metrics.csv has it: text with six digits, "" for missing values."""
        step, stage, *values = self._table[:, :self._count][:, index].tolist()
        return [str(int(step)), STAGES[int(stage)], *("" if math.isnan(value) else f"{value:.6g}" for value in values)]


class Metrics:
    """metrics.csv with one row a step, and timing.csv with its time.

    Times differ from run to run; the metrics of the same command must not, so they have files of
    their own. The columns of metrics.csv:

        step                    steps of the run, all stages together
        stage                   autoencoder, discriminator (alone) or adversarial (both in turns)
        loss                    reconstruction loss of a batch; its terms: mae, dssim, mask
        held_out                the same loss on held-out faces, measured from time to time
        sharpness               sharpness of generated held-out faces; 1: as sharp as the real ones
        variety                 variety of generated held-out faces; 1: as varied as the real ones
        learning_rate           of the autoencoder; in the discriminator stage of the discriminator
        adversarial_loss        the autoencoder's adversarial loss, before its weight
        discriminator_loss      the discriminator's loss
        penalty                 its gradient penalty, in the steps that have one
        score_real, score_fake  mean score of real and of generated faces
        accuracy                fraction of the batch that it classifies correctly, 0..1
        discriminator_grad_norm norm of the gradient of its weights
        fake_grad_norm          norm of the gradient of the adversarial loss in a generated image:
                                all that the autoencoder learns from the discriminator
        adversarial_weight      weight of the adversarial loss in this step

    folder: the run folder
    step: the step to resume from; later rows and an incomplete last line are cut off
    seconds: time spent on the run so far; None: what timing.csv says at that step
    Raises RunError if a file is damaged before that step.
    """

    def __init__(self, folder, step, seconds=None):
        self.curves = Curves()
        for row in _read_rows(folder / "metrics.csv", COLUMNS, step):
            self.curves.add(row)
        times = list(_read_rows(folder / "timing.csv", TIMES, step))
        self.seconds = (times[-1]["seconds"] if times else 0.0) if seconds is None else seconds
        rows = [self.curves.cells(k) for k in range(len(self.curves))]
        self._metrics = _rewrite(folder / "metrics.csv", COLUMNS, rows)
        self._timing = _rewrite(folder / "timing.csv", TIMES, [(row["step"], f"{row['seconds']:.3f}") for row in times])
        self._began = time.monotonic()

    def add(self, row):
        """Append the row {column: value} of a step. "step" and "stage", a name, are required."""
        self.curves.add(row)
        csv.writer(self._metrics).writerow(self.curves.cells(-1))
        csv.writer(self._timing).writerow([row["step"], f"{self.elapsed():.3f}"])

    def elapsed(self):
        """Return the seconds spent on this run, earlier sessions included."""
        return self.seconds + time.monotonic() - self._began

    def flush(self):
        """Write everything to the disk."""
        for file in (self._metrics, self._timing):
            file.flush()
            os.fsync(file.fileno())

    def close(self):
        with self._timing, self._metrics:  # closes both, even if the disk is full
            pass


class Notes:
    """notes.txt: the warnings of a run, one a line: the step, a tab, the text.

    folder: the run folder
    step: the step to resume from; later notes are cut off
    lines: [(step, text)]
    """

    def __init__(self, folder, step):
        self._file = folder / "notes.txt"
        self.lines = [(at, text) for at, text in _read_notes(self._file) if at <= step]

    def add(self, step, text):
        """Append a line, and rewrite the file."""
        self.lines.append((step, text))
        write_atomically(self._file, "".join(f"{at}\t{note}\n" for at, note in self.lines).encode())


def _read_notes(path):
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    parts = [line.partition("\t") for line in lines]
    return [(int(step), text) for step, _, text in parts if step.isascii() and step.isdigit() and len(step) < 16]


def _read_rows(path, columns, step):
    """Yield the rows {column: value} of metrics.csv or timing.csv up to a step.

    Later rows are not read, nor is a last line without a line end: a power failure leaves one.
    Raises RunError for any other damage.
    """
    last = 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file):
                if last >= step or not line.endswith(b"\n"):
                    return
                cells = line.decode("ascii", "replace").rstrip("\r\n").split(",")
                if number == 0:
                    _check(cells == list(columns), "its columns are not those of this version")
                    continue
                row = _parse_row(cells, columns)
                _check(row["step"] > last, f"step {row['step']} comes after step {last}")
                last = row["step"]
                if last <= step:
                    yield row
    except FileNotFoundError:
        return
    except (ValueError, OSError) as error:
        where = f" in line {number + 1}" if isinstance(error, ValueError) else ""
        raise RunError(f"{path} is damaged{where} ({error}); restore it, or move it away to resume without the "
                       "metrics of earlier steps") from error


def _parse_row(cells, columns):
    """Parse a line into {column: value}, without empty cells. Raises ValueError if it is no row."""
    _check(len(cells) == len(columns), f"it has {len(cells)} columns, not {len(columns)}")
    row = dict(zip(columns, cells))
    step, stage = row.pop("step"), {name: row.pop(name) for name in row.keys() & {"stage"}}
    _check(step.isdigit() and len(step) < 16, f"its step is {step[:20]!r}")
    _check(set(stage.values()) <= set(STAGES), "there is no such stage")
    values = {name: _number(name, text) for name, text in row.items() if text}
    _check(columns != TIMES or math.isfinite(values.get("seconds", math.nan)), "its seconds are not a number")
    return {"step": int(step)} | stage | values


def _number(name, text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"its {name} is {text[:20]!r}") from None


def _check(condition, message):
    if not condition:
        raise ValueError(message)


def _rewrite(path, columns, rows):
    """Rewrite a CSV file with these rows and return it, open for appending."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    write_atomically(path, text.getvalue().encode())
    return open(path, "a", newline="", encoding="utf-8")
