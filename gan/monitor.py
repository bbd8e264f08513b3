"""Watching a run: a progress line, metrics.csv, sheets of faces, curves of the losses."""
import csv
import io
import sys
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.image_io import DigitalSource, save_picture, write_whole
from data.progress import duration

COLUMNS = ["step", "loss", "mae", "dssim", "mask", "held_out"]
PREVIEW_FACES = 8


class Metrics:
    """metrics.csv: one row a step, and timing.csv beside it: times would differ from run to run, metrics must not.

    Rows are kept in memory and on disk; what was written after `step`, the step to continue from, is cut off."""

    def __init__(self, folder, step):
        self.rows = [row for row in _read_rows(folder / "metrics.csv") if int(row["step"]) <= step]
        times = [row for row in _read_rows(folder / "timing.csv") if int(row["step"]) <= step]
        self.seconds = float(times[-1]["seconds"]) if times else 0.0  # spent in earlier sessions
        self._metrics = _rewritten(folder / "metrics.csv", COLUMNS, self.rows)
        self._timing = _rewritten(folder / "timing.csv", ["step", "seconds"], times)
        self._began = time.monotonic()

    def add(self, step, losses, held_out=None):
        """Append a step's losses (gan.training.Losses), and the held-out loss where it was measured."""
        values = [f"{value:.6g}" for value in (losses.loss, losses.mae, losses.dssim, losses.mask)]
        row = dict(zip(COLUMNS, [str(step), *values, "" if held_out is None else f"{held_out:.6g}"]))
        self.rows.append(row)
        csv.writer(self._metrics).writerow(row.values())
        csv.writer(self._timing).writerow([step, f"{self.elapsed():.3f}"])

    def elapsed(self):
        """Seconds spent on this run, earlier sessions included."""
        return self.seconds + time.monotonic() - self._began

    def flush(self):
        """Hand everything to the disk."""
        self._metrics.flush()
        self._timing.flush()

    def close(self):
        with self._timing, self._metrics:  # both, even if the disk is full
            pass


def _read_rows(path):
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit() and None not in row.values()]
    except FileNotFoundError:
        return []


def _rewritten(path, columns, rows):
    """The file, rewritten with these rows as a whole, and open to append to."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
    return open(path, "a", newline="", encoding="utf-8")


class Progress:
    """One line that is rewritten on a terminal, or a line every ten seconds elsewhere."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._shown = 0.0
        self._smoothed = None

    def show(self, step, total, rate, losses, force=False):
        """step of total; rate: steps a second; losses of the newest step."""
        self._smoothed = losses.loss if self._smoothed is None else 0.95 * self._smoothed + 0.05 * losses.loss
        now = time.monotonic()
        if not force and now - self._shown < (0.2 if self._tty else 10):
            return
        self._shown = now
        left = f"{duration((total - step) / rate)} left" if total and rate else ""
        line = (f"step {step}/{total or '?'}  {rate:.1f} steps/s  {left}  loss {self._smoothed:.4f}  "
                f"(mae {losses.mae:.4f}, dssim {losses.dssim:.4f}, mask {losses.mask:.4f})")
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


def save_loss_plot(run, rows):
    """loss.png: the loss in training, smoothed and raw, and on held-out faces."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = np.array([int(row["step"]) for row in rows])
    losses = np.array([float(row["loss"]) for row in rows])
    held = [(int(row["step"]), float(row["held_out"])) for row in rows if row["held_out"]]
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.8)
    axes.plot(steps, _smooth(losses), color="tab:blue", label="training (warped faces), smoothed")
    if held:
        axes.plot(*zip(*held), "o-", color="tab:orange", markersize=4, label="held out (averaged weights)")
    axes.set(xlabel="step", ylabel="loss: masked MAE + DSSIM + mask", yscale="log" if len(steps) > 1 else "linear")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.canvas.draw()
    save_picture(run.path / "loss.png", np.asarray(figure.canvas.buffer_rgba())[..., :3], DigitalSource.ALGORITHMIC)


def _smooth(values, window=25):
    """The mean over a window around each value, narrower at the ends."""
    window = np.ones(min(window, len(values)))
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
