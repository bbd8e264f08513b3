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

from data.media.image_io import write_atomically
from gan.monitor import chart
from gan.monitor.chart import BLUE, GRAY, ORANGE
from gan.run.checkpoint import RunError

# For each metric, its blocks in the result of gan.evaluation.held_out.measure and its name there.
METRICS = {"swap_psnr": ("swap", "psnr"), "swap_ssim": ("swap", "ssim"),
           "reconstruction_psnr": ("reconstruction", "psnr"), "reconstruction_ssim": ("reconstruction", "ssim"),
           "sharpness": ("swap", "sharpness"), "similarity": ("composite", "similarity"),
           "recognized": ("composite", "recognized")}
NUMBERS = ("minutes", "steps", "parameters", *METRICS)
COLUMNS = ("experiment", "hyperparameter", "value", "default", "people", "seed", *NUMBERS, "failed")
# The columns of numbers in the tables: heading and format.
SHOWN = {"pairs": ("pairs", "d"), "steps": ("steps", ",.0f"), "minutes": ("minutes", ".1f"),
         "parameters": ("parameters", ",.0f"), "swap_psnr": ("swap dB", ".2f"), "swap_ssim": ("SSIM", ".3f"),
         "reconstruction_psnr": ("recon. dB", ".2f"), "reconstruction_ssim": ("SSIM", ".3f"),
         "sharpness": ("sharpness", ".3f"), "similarity": ("similarity", ".3f"), "recognized": ("recognized", ".2f")}
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
        result[column] = _mean(blocks, name)
    return result


def read(file):
    """Read results.csv: a list of dictionaries of COLUMNS, empty if there is no such file.

    Numbers are floats, None for empty cells. Raises RunError if the file cannot be used.
    """
    try:
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            if tuple(reader.fieldnames or ()) != COLUMNS or any(None in row or None in row.values() for row in rows):
                raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
            return [row | {name: float(row[name]) if row[name] else None for name in NUMBERS} for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{file} cannot be read ({error}); restore it, or delete it: finished runs are then "
                       "measured again, not trained again") from error


def write(file, rows):
    """Write results.csv atomically. Raises ImageError if that fails."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows({name: f"{value:.10g}" if isinstance(value, float) else value for name, value in row.items()}
                     for row in rows)
    write_atomically(file, text.getvalue().encode(errors="surrogateescape"))  # file names may be undecodable


def average_over_pairs(rows):
    """Average the rows of each experiment over its pairs of people.

    `runs` are the rows, and `pairs` is their number. If a run of an experiment failed, its metrics
    are None.
    """
    grouped = {}
    for row in rows:
        grouped.setdefault(row["experiment"], []).append(row)
    result = []
    for runs in grouped.values():
        failed = next((run["failed"] for run in runs if run["failed"]), "")
        means = {name: None if name in METRICS and failed else _mean(runs, name) for name in NUMBERS}
        result.append(runs[0] | {"runs": runs, "pairs": len(runs), "failed": failed} | means)
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


def summary_line(row):
    """Summarize a row of results.csv in one line."""
    if row["failed"]:
        return f"failed: {row['failed']}"
    swap = f"swap {_cell(row, 'swap_psnr')} dB, SSIM {_cell(row, 'swap_ssim')}, "
    return (f"{'' if row['swap_psnr'] is None else swap}reconstruction {_cell(row, 'reconstruction_psnr')} dB, "
            f"sharpness {_cell(row, 'sharpness')}, {_cell(row, 'steps')} steps")


def markdown(rows):
    """Format a Markdown table: the default, then each hyperparameter's values, the best in bold."""
    averages = average_over_pairs(rows)
    best = min(averages, key=ranking_key, default=None)
    names = [name for name in SHOWN if name != "minutes"]
    lines = ["| hyperparameter | value | " + " | ".join(SHOWN[name][0] for name in names) + " |",
             "| --- | --- |" + " ---: |" * len(names)]
    order = ["", *(row["hyperparameter"] for row in averages)]  # the default has none
    for row in sorted(averages, key=lambda row: order.index(row["hyperparameter"])):
        name = row["hyperparameter"] and f"{row['hyperparameter']} (default {row['default']})"
        value = f"**{row['value'] or DEFAULT}**" if row is best else row["value"] or DEFAULT
        failed = dict.fromkeys(METRICS, "") | {"swap_psnr": "failed"} if row["failed"] else {}
        lines.append("| " + " | ".join([name, value, *(failed.get(key, _cell(row, key)) for key in names)]) + " |")
    return lines


def plot(rows):
    """Plot PSNR and sharpness of all experiments by hyperparameter: (H, 990, 3) uint8.

    A small dot is a pair of people, a large dot the mean. The default is repeated, in orange, in
    the group of each hyperparameter; a dashed line continues it through all groups.
    """
    averages = average_over_pairs(rows)
    default = next((row for row in averages if row["experiment"] == DEFAULT), None)
    lines = _plot_lines(averages, default)
    height = max((y for y, _, _ in lines), default=0)
    figure = chart.figure(9, 1.4 + 0.22 * (height + 1))
    panels = figure.subplots(1, 2, sharey=True)
    psnr, psnr_label = (("swap_psnr", "PSNR of swaps, dB") if any(row["swap_psnr"] is not None for row in averages) else
                        ("reconstruction_psnr", "PSNR of reconstructions, dB"))
    _plot_metric(panels[0], psnr, lines, default)
    _plot_metric(panels[1], "sharpness", lines, default)
    panels[0].set_xlabel(psnr_label)
    panels[1].set_xlabel("sharpness (1: as sharp as real faces)")
    panels[1].axvspan(*SHARPNESS_RANGE, facecolor="#e9f5ec", zorder=0)
    panels[0].set_yticks([y for y, _, _ in lines], [label for _, label, _ in lines])
    panels[0].set_ylim(height + 0.8, -0.8)
    return chart.pixels(figure)


def _plot_metric(axes, name, lines, default):
    if default is not None and default[name] is not None:
        axes.axvline(default[name], color=GRAY, linewidth=1, linestyle="--", zorder=1)
    for y, _, row in lines:
        color = ORANGE if row is default else BLUE
        if row["failed"]:
            axes.text(0.5, y, "failed", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GRAY)
        elif row[name] is not None:
            values = [run[name] for run in row["runs"]]
            axes.plot(values, [y] * len(values), ".", color=color, alpha=0.4, markersize=5, zorder=2)
            axes.plot(row[name], y, "o", color=color, markersize=7, zorder=3)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.08)
    axes.spines[["top", "right"]].set_visible(False)


def _plot_lines(averages, default):
    """Arrange rows from top to bottom: a list of (y, label, row).

    Each hyperparameter is a group of its values and its default; there is a gap between groups.
    """
    lines, y = [], 0
    for hyperparameter in dict.fromkeys(row["hyperparameter"] for row in averages if row["hyperparameter"]):
        group = [(row["value"], row) for row in averages if row["hyperparameter"] == hyperparameter]
        if default is not None:
            group.append((group[0][1]["default"], default))
        for value, row in sorted(group, key=_by_value):
            lines.append((y, f"{hyperparameter}  {value}" + "  (default)" * (row is default), row))
            y += 1
        y += 0.6
    return lines or [(0, DEFAULT, row) for row in averages]


def _by_value(entry):
    """Return the key that sorts numbers by size, then names alphabetically."""
    try:
        return 0, float(entry[0]), ""
    except ValueError:
        return 1, 0.0, entry[0]


def _mean(rows, name):
    """Return the mean of a column over the rows that have a value, None if none has."""
    values = [row[name] for row in rows if row[name] is not None]
    return sum(values) / len(values) if values else None


def _cell(row, name):
    """Format a number of a row as the tables show it."""
    return "-" if row[name] is None else format(row[name], SHOWN[name][1])
