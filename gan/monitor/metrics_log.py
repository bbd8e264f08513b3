"""The files in which a run logs its metrics and warnings: metrics.csv, timing.csv and notes.txt."""
import csv
import io
import math
import os
import time

import numpy as np

from data.media.image_io import write_atomically
from gan.run.checkpoint import RunError
from gan.run.schedule import STAGES

TIMES = ["step", "seconds"]  # the columns of timing.csv


def columns(terms):
    """Return the columns of metrics.csv.

    terms: names of the terms of the reconstruction loss
    Raises RunError if a term has the name of another column.
    """
    names = ["step", "stage", "loss", *terms, "held_out", "sharpness", "variety", "learning_rate", "grad_norm",
             "adversarial_loss", "discriminator_loss", "penalty", "score_real", "score_fake", "accuracy",
             "discriminator_grad_norm", "fake_grad_norm", "adversarial_weight"]
    for term in terms:
        if names.count(term) > 1:
            raise RunError(f"the loss term {term!r} has the name of a column of metrics.csv; give it another name")
    return names


class Curves:
    """The metrics of a run as columns: curves["loss"] is float64 (n,), NaN for missing values.

    The columns "step" and "stage" have no gaps; a stage is its index in STAGES. A step takes 160
    bytes: 15 MiB for 100,000 steps. The columns are views, valid until the next row is added.

    terms: names of the terms of the reconstruction loss
    """

    def __init__(self, terms=()):
        self.terms, self.columns = tuple(terms), columns(terms)
        self._table = np.empty((len(self.columns), 1024))
        self._count = 0

    def __len__(self):
        return self._count

    def __getitem__(self, name):
        return self._table[self.columns.index(name), :self._count]

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
        unknown = row.keys() - set(self.columns)
        if unknown:
            raise ValueError(f"Curves.add: expected columns among {', '.join(self.columns)}, got "
                             f"{', '.join(sorted(unknown))}")
        if self._count == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.empty_like(self._table)], axis=1)
        values = [row["step"], STAGES.index(row["stage"]), *map(row.get, self.columns[2:])]
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
        loss                    reconstruction loss of a batch; then each of its terms before its
                                weight: mae, dssim, mask, and those of plug-ins
        held_out                the same loss on held-out faces, measured from time to time
        sharpness               sharpness of generated held-out faces; 1: as sharp as the real ones
        variety                 variety of generated held-out faces; 1: as varied as the real ones
        learning_rate           of the autoencoder; in the discriminator stage of the discriminator
        grad_norm               norm of the gradient of the autoencoder's weights
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
    terms: names of the terms of the reconstruction loss
    seconds: time spent on the run so far; None: what timing.csv says at that step
    Raises RunError if a file is damaged before that step.
    """

    def __init__(self, folder, step, terms, seconds=None):
        self.curves = Curves(terms)
        for row in _read_rows(folder / "metrics.csv", self.curves.columns, step, self.curves.terms):
            self.curves.add(row)
        times = _read_rows(folder / "timing.csv", TIMES, step)
        self.seconds = (times[-1]["seconds"] if times else 0.0) if seconds is None else seconds
        rows = [self.curves.cells(k) for k in range(len(self.curves))]
        self._metrics = _rewrite(folder / "metrics.csv", self.curves.columns, rows)
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


def _read_rows(path, columns, step, optional=()):
    """Return the rows {column: value} of metrics.csv or timing.csv up to a step.

    optional: columns that the file may lack: a resumed run may have further terms of the loss
    Later rows are not read, nor is a last line without a line end: a power failure leaves one.
    Raises RunError for any other damage.
    """
    rows, last = [], 0
    try:
        for number, line in enumerate(path.read_bytes().decode("ascii", "replace").split("\n")[:-1], start=1):
            if last >= step:
                break
            cells = line.rstrip("\r").split(",")
            if number == 1:
                header = cells
                if len(set(cells)) < len(cells) or not set(columns) - set(optional) <= set(cells) <= set(columns):
                    raise ValueError("its columns are not those of this version")
                continue
            if len(cells) != len(header):
                raise ValueError(f"it has {len(cells)} columns, not {len(header)}")
            row = {name: _parse(name, text) for name, text in zip(header, cells)}
            if row["step"] <= last:
                raise ValueError(f"step {row['step']} comes after step {last}")
            last = row["step"]
            rows.append(row)
        return rows[:-1] if last > step else rows
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        where = f" in line {number}" if isinstance(error, ValueError) else ""
        raise RunError(f"{path} is damaged{where} ({error}); restore it, or move it away to resume without the "
                       "metrics of earlier steps") from error


def _parse(name, text):
    """Return the value of a cell: a step, the name of a stage, or a number, NaN if it is empty."""
    try:
        if name == "stage":
            return STAGES[STAGES.index(text)]
        value = int(text) if name == "step" else float(text or "nan")
        if name == "seconds" and not math.isfinite(value):
            raise ValueError
        return value
    except ValueError:
        raise ValueError(f"its {name} is {text[:20]!r}") from None


def _rewrite(path, columns, rows):
    """Rewrite a CSV file with these rows and return it, open for appending."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *rows])
    write_atomically(path, text.getvalue().encode())
    return open(path, "a", newline="", encoding="utf-8")
