"""The results of a sweep: results.csv, the tables and the plot.

A row of results.csv is a run: one value of one hyperparameter, trained on one pair of people.

    experiment                      its name; "default" for the run with all default values
    hyperparameter, value           what was changed and to what; empty for the default run
    default                         the value of that hyperparameter in all other experiments
    people, seed                    the people it was trained on, and the random seed
    minutes, steps, parameters      training time, steps taken in it, parameters of the autoencoder
    swap_psnr, swap_ssim            swaps against ground truth; empty for photographs
    reconstruction_psnr, reconstruction_ssim    reconstructions of held-out faces
    sharpness                       of the swaps; 1: as sharp as the real faces
    similarity, recognized          composites: similarity to the person they should show, and the
                                    fraction that is more similar to that person than to the other
    failed                          why there are no metrics, if training diverged

Each metric is the mean over both people; docs/metrics.md defines it.
"""
import csv
import io
import math

import numpy as np

from data.media.image_io import save_image, write_atomically
from data.media.provenance import DigitalSource
from gan.monitor import chart
from gan.monitor.chart import BLUE, GRAY, ORANGE

# For each metric, its blocks in the result of gan.evaluation.held_out.measure and its name there.
METRICS = {"swap_psnr": ("swap", "psnr"), "swap_ssim": ("swap", "ssim"),
           "reconstruction_psnr": ("reconstruction", "psnr"), "reconstruction_ssim": ("reconstruction", "ssim"),
           "sharpness": ("swap", "sharpness"), "similarity": ("composite", "similarity"),
           "recognized": ("composite", "recognized")}
HEADINGS = {"swap_psnr": "swap dB", "swap_ssim": "SSIM", "reconstruction_psnr": "recon. dB",
            "reconstruction_ssim": "SSIM", "sharpness": "sharpness", "similarity": "similarity",
            "recognized": "recognized"}
DIGITS = {"swap_psnr": 2, "reconstruction_psnr": 2, "recognized": 2}  # the others have 3
NUMBERS = ("minutes", "steps", "parameters", *METRICS)
COLUMNS = ("experiment", "hyperparameter", "value", "default", "people", "seed", *NUMBERS, "failed")
SHARPNESS_RANGE = (0.8, 1.2)  # the desired sharpness
DB_PER_OCTAVE = 1.0  # penalty in dB for each factor of two outside SHARPNESS_RANGE
DEFAULT = "default"


def summarize(metrics):
    """Convert a run's held-out metrics (held_out.measure) to columns of results.csv."""
    result = {}
    for column, (prefix, name) in METRICS.items():
        blocks = [block for key, block in metrics.items() if key.startswith(prefix + "_")]
        if not blocks and name == "sharpness":  # photographs
            blocks = [metrics["generated_ab"], metrics["generated_ba"]]
        result[column] = _mean([block[name] for block in blocks])
    return result


def read(file):
    """Read results.csv: a list of dictionaries of COLUMNS, empty if there is no such file.

    Numbers are floats, None for empty cells. Raises OSError, or ValueError for another kind of
    file.
    """
    try:
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            columns = tuple(reader.fieldnames or ())
    except FileNotFoundError:
        return []
    except csv.Error as error:
        raise ValueError(f"it is not a CSV table ({error})") from error
    if columns != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
    return [row | {name: float(row[name]) if row[name] else None for name in NUMBERS} for row in rows]


def write(file, rows):
    """Write results.csv atomically. Raises ImageError if that fails."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *([_csv_cell(row[name]) for name in COLUMNS] for row in rows)])
    write_atomically(file, text.getvalue().encode(errors="surrogateescape"))  # file names may be undecodable


def average_over_pairs(rows):
    """Average the rows of each experiment over its pairs of people; `pairs` is their number.

    If a run of an experiment failed, its metrics are None.
    """
    grouped = {}
    for row in rows:
        grouped.setdefault(row["experiment"], []).append(row)
    result = []
    for runs in grouped.values():
        failed = next((run["failed"] for run in runs if run["failed"]), "")
        means = {name: None if name in METRICS and failed else _mean([run[name] for run in runs]) for name in NUMBERS}
        result.append(runs[0] | {"pairs": len(runs), "failed": failed} | means)
    return result


def ranking_key(row):
    """Return the key that sorts rows from best to worst, failed ones last.

    It is the PSNR of swaps (photographs: of reconstructions), less DB_PER_OCTAVE for each factor of
    two by which the sharpness misses SHARPNESS_RANGE.
    """
    psnr = row["swap_psnr"] if row["swap_psnr"] is not None else row["reconstruction_psnr"]
    if psnr is None or not row["sharpness"]:
        return math.inf
    nearest = min(max(row["sharpness"], SHARPNESS_RANGE[0]), SHARPNESS_RANGE[1])
    return DB_PER_OCTAVE * abs(math.log2(row["sharpness"] / nearest)) - psnr


def results_table(rows):
    """Format the experiments as lines of text, the best first."""
    chosen = sorted(average_over_pairs(rows), key=ranking_key)
    width = max([len("experiment"), *(len(row["experiment"]) for row in chosen)])
    lines = [f"{'experiment':{width}}{'pairs':>7}{'steps':>7}{'minutes':>9}{'parameters':>12}"
             + "".join(f"{head:>11}" for head in HEADINGS.values())]
    for row in chosen:
        lines.append(f"{row['experiment']:{width}}{row['pairs']:>7}" + "".join(
            f"{_formatted(row, name):>{space}}" for name, space in (("steps", 7), ("minutes", 9), ("parameters", 12)))
            + ("  " + row["failed"] if row["failed"] else "".join(f"{_formatted(row, name):>11}" for name in METRICS)))
    return lines


def summary_line(row):
    """Summarize a row of results.csv in one line."""
    if row["failed"]:
        return f"failed: {row['failed']}"
    swap = f"swap {_formatted(row, 'swap_psnr')} dB, SSIM {_formatted(row, 'swap_ssim')}, "
    return (f"{'' if row['swap_psnr'] is None else swap}reconstruction {_formatted(row, 'reconstruction_psnr')} dB, "
            f"sharpness {_formatted(row, 'sharpness')}, {_formatted(row, 'steps')} steps")


def markdown(rows):
    """Format a Markdown table: the default, then each hyperparameter's values, the best in bold."""
    chosen = average_over_pairs(rows)
    best = min(chosen, key=ranking_key)["experiment"] if chosen else None
    lines = ["| hyperparameter | value | pairs | steps | parameters | " + " | ".join(HEADINGS.values()) + " |",
             "| --- | --- |" + " ---: |" * (3 + len(METRICS))]
    for _, name, row in _grouped_rows(chosen):
        value = f"**{row['value'] or DEFAULT}**" if row["experiment"] == best else row["value"] or DEFAULT
        cells = ["failed", *[""] * (len(METRICS) - 1)] if row["failed"] else [_formatted(row, key) for key in METRICS]
        lines.append("| " + " | ".join([name, value, str(row["pairs"]), _formatted(row, "steps"),
                                        _formatted(row, "parameters"), *cells]) + " |")
    return lines


def plot(rows):
    """Plot PSNR and sharpness of all experiments by hyperparameter: (H, 990, 3) uint8.

    A small dot is a pair of people, a large dot the mean. The default is repeated, in orange, in
    the group of each hyperparameter; a dashed line continues it through all groups.
    """
    averages = average_over_pairs(rows)
    lines = _plot_lines(averages)
    height = max((y for y, _, _ in lines), default=0)
    figure = chart.figure(9, 1.4 + 0.22 * (height + 1))
    panels = figure.subplots(1, 2, sharey=True)
    if any(row["swap_psnr"] is not None for row in averages):
        names = [("swap_psnr", "PSNR of swaps, dB")]
    else:
        names = [("reconstruction_psnr", "PSNR of reconstructions, dB")]
    names.append(("sharpness", "sharpness (1: as sharp as real faces)"))
    for axes, (name, label) in zip(panels, names):
        _plot_metric(axes, name, lines, rows)
        axes.set_xlabel(label)
    panels[1].axvspan(*SHARPNESS_RANGE, facecolor="#e9f5ec", zorder=0)
    panels[0].set_yticks([y for y, _, _ in lines], [label for _, label, _ in lines])
    panels[0].set_ylim(height + 0.8, -0.8)
    return chart.pixels(figure)


def save_plot(file, rows):
    """Write results.png. Raises ImageError."""
    save_image(file, plot(rows), DigitalSource.ALGORITHMIC)


def _plot_metric(axes, name, lines, rows):
    by_experiment = {}
    for row in rows:
        if row[name] is not None:
            by_experiment.setdefault(row["experiment"], []).append(row[name])
    if DEFAULT in by_experiment:
        axes.axvline(np.mean(by_experiment[DEFAULT]), color=GRAY, linewidth=1, linestyle="--", zorder=1)
    for y, _, row in lines:
        values = by_experiment.get(row["experiment"], [])
        color = ORANGE if row["experiment"] == DEFAULT else BLUE
        if row["failed"]:
            axes.text(0.5, y, "failed", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GRAY)
        elif values:
            axes.plot(values, [y] * len(values), ".", color=color, alpha=0.4, markersize=5, zorder=2)
            axes.plot(np.mean(values), y, "o", color=color, markersize=7, zorder=3)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _grouped_rows(chosen):
    """Group rows by hyperparameter, the default first: a list of (hyperparameter, label, row)."""
    default_first = sorted(chosen, key=lambda row: row["experiment"] != DEFAULT)
    hyperparameters = list(dict.fromkeys(row["hyperparameter"] for row in default_first))
    return [(hyperparameter, f"{hyperparameter} (default {row['default']})" if hyperparameter else "", row)
            for hyperparameter in hyperparameters for row in chosen if row["hyperparameter"] == hyperparameter]


def _plot_lines(chosen):
    """Arrange rows from top to bottom: a list of (y, label, row).

    Each hyperparameter is a group of its values and its default; there is a gap between groups.
    """
    default = next((row for row in chosen if row["experiment"] == DEFAULT), None)
    lines, y = [], 0
    for hyperparameter in dict.fromkeys(row["hyperparameter"] for row in chosen if row["hyperparameter"]):
        group = [(row["value"], row) for row in chosen if row["hyperparameter"] == hyperparameter]
        if default is not None:
            group.append((group[0][1]["default"], default))
        for value, row in sorted(group, key=_by_value):
            lines.append((y, f"{hyperparameter}  {value}" + "  (default)" * (row is default), row))
            y += 1
        y += 0.6
    if not lines and default is not None:
        lines = [(0, DEFAULT, default)]
    return lines


def _by_value(entry):
    """Return the key that sorts numbers by size, then names alphabetically."""
    try:
        return 0, float(entry[0]), ""
    except ValueError:
        return 1, 0.0, entry[0]


def _mean(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def _csv_cell(value):
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else value


def _formatted(row, name):
    value = row[name]
    if value is None:
        return "-"
    if name in ("steps", "parameters"):
        return f"{value:,.0f}"
    return f"{value:.{1 if name == 'minutes' else DIGITS.get(name, 3)}f}"
