"""Watching a run: a progress line, metrics.csv, notes, sheets of faces. gan/plots.py draws the curves."""
import collections
import contextlib
import csv
import io
import math
import os
import sys
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.image_io import DigitalSource, save_picture, write_whole
from data.progress import duration
from gan.checkpoint import RunError
from gan.stages import STAGES

COLUMNS = ["step", "stage", "loss", "mae", "dssim", "mask", "held_out", "sharpness", "variety", "learning_rate",
           "adversarial", "critic", "penalty", "score_real", "score_made", "accuracy", "gradient_critic", "gradient_made",
           "weight"]
TIMES = ["step", "seconds"]  # the columns of timing.csv
# What the progress line shows in each stage.
SHOWN = {"autoencoder": "loss {loss:.4f} (mae {mae:.4f}, dssim {dssim:.4f}, mask {mask:.4f})",
         "discriminator": "critic {critic:.4f} (real {score_real:.2f}, made {score_made:.2f}, accuracy {accuracy:.0%})",
         "adversarial": "loss {loss:.4f} (adversarial {adversarial:.3f}, critic {critic:.3f}, accuracy {accuracy:.0%})"}
PREVIEW_FACES = 8


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


class Progress:
    """One line that is rewritten on a terminal, or a line every ten seconds elsewhere."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._shown = 0.0
        self._smoothed = collections.defaultdict(lambda: math.nan)  # by figure, over some twenty steps

    def due(self):
        """Whether `show` would show anything now."""
        return time.monotonic() - self._shown >= (0.2 if self._tty else 10)

    def show(self, total, rate, *rows, force=False):
        """total: steps of the run, None: not known yet. rate: steps a second, None: faces are still being rendered. rows: what was
        measured in the newest steps, as for Metrics.add."""
        for name, value in [pair for row in rows for pair in row.items()]:
            if name not in ("step", "stage") and value is not None:
                before = self._smoothed.get(name, value)
                self._smoothed[name] = 0.95 * before + 0.05 * value
        if not force and not self.due():
            return
        self._shown, row = time.monotonic(), rows[-1]
        step = row["step"]
        left = f"  {duration((total - step) / rate)} left" if total and rate else ""
        pace = "rendering faces" if rate is None else f"{rate:.1f} steps/s"
        line = f"step {step}/{total or '?'}  {pace}{left}  {SHOWN[row['stage']].format_map(self._smoothed)}"
        with contextlib.suppress(OSError):  # training goes on where nobody can read it
            self._stream.write(f"\r\x1b[K{line}" if self._tty else line + "\n")
            self._stream.flush()

    def end(self):
        """Leave the line standing; what is written next begins below it."""
        if self._tty and self._shown:
            self._stream.write("\n")
        self._shown = 0.0


def preview_due(step, total):
    """Whether a preview is made after a step: at growing intervals, 1, 2, 5, 10, 20, 50, ..., and after the last."""
    power = 10 ** (len(str(step)) - 1)
    return step in (power, 2 * power, 5 * power, total)


def preview_sheet(model, subjects, truth):
    """A sheet (H, W, 3) uint8 of held-out faces, one face a column. Rows: A, A through A, A through B and, for rendered
    people, the truth of that swap; the same for B."""
    rows = []
    for side, other in (("a", "b"), ("b", "a")):
        if truth is None:
            faces = subjects.a if side == "a" else subjects.b
            pictures, wanted = faces.crops(faces.held_out[:PREVIEW_FACES])[0], None
        else:
            pictures, wanted = (x[:PREVIEW_FACES] for x in ((truth.a, truth.b) if side == "a" else (truth.b, truth.a)))
        name, other_name = side.upper(), other.upper()
        rows += [(name, pictures), (f"{name} as {name}", model.draw(pictures, side, side)[0]),
                 (f"{name} as {other_name}", model.draw(pictures, side, other)[0])]
        if wanted is not None:
            rows.append(("truth", wanted))
    return label_rows(rows)


def label_rows(rows, scale=None):
    """Rows of (name, faces (n, S, S, 3) float 0..1) as one sheet (H, W, 3) uint8, names on the left; small faces are
    enlarged to about 96 pixels."""
    size = rows[0][1].shape[1]
    scale = scale or max(1, round(96 / size))
    side, margin = size * scale, 64
    columns = max(len(faces) for _, faces in rows)
    sheet = Image.new("RGB", (margin + columns * side, len(rows) * side), (24, 24, 28))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for y, (name, faces) in enumerate(rows):
        draw.text((6, y * side + side // 2), name, fill=(230, 230, 230), font=font, anchor="lm")
        for x, face in enumerate(faces):
            pixels = Image.fromarray(np.rint(np.clip(face, 0, 1) * 255).astype(np.uint8))
            sheet.paste(pixels.resize((side, side), Image.Resampling.BICUBIC), (margin + x * side, y * side))
    return np.asarray(sheet)


def save_preview(run, sheet, step):
    """preview.png, and a copy of it in history/."""
    save_picture(run.path / "preview.png", sheet, DigitalSource.TRAINED)
    write_whole(run.history / f"{step:07d}.png", (run.path / "preview.png").read_bytes())
