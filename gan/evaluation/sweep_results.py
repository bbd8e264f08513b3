"""What a sweep found: results.csv, the tables made from it, and the plot.

A row of results.csv is a run: one setting of one knob, learned on one pair of people.

    experiment, knob, value     what was changed, and to what; for the run that changes nothing: "default" and twice nothing
    default                     the value of that knob in all the other experiments
    people, seed                whom it learned
    minutes, steps, parameters  time of training, the steps that fitted, numbers in the autoencoder
    swap_psnr, swap_ssim        swaps against the exact truth; empty for photographs, which have none
    drawn_psnr, drawn_ssim      held-out faces drawn as their own person
    sharpness                   of the swaps, 1: as sharp as the real faces
    likeness, recognised        of the finished pictures to whom they should show; share in which the other is less alike
    failed                      why there are no figures, where training broke down

Each figure is the mean of both people; docs/figures.md defines them.
"""
import csv
import io
import math

import numpy as np

from data.media.image_io import save_picture, write_whole
from data.media.provenance import DigitalSource
from gan.monitor import chart
from gan.monitor.chart import BLUE, GREY, ORANGE

# Of which blocks of gan.evaluation.held_out.figures a figure is taken, and its name there.
SOURCES = {"swap_psnr": ("swap", "psnr"), "swap_ssim": ("swap", "ssim"), "drawn_psnr": ("reconstruction", "psnr"),
           "drawn_ssim": ("reconstruction", "ssim"), "sharpness": ("swap", "sharpness"), "likeness": ("pasted", "likeness"),
           "recognised": ("pasted", "recognised")}
HEADS = {"swap_psnr": "swap dB", "swap_ssim": "SSIM", "drawn_psnr": "drawn dB", "drawn_ssim": "SSIM",
         "sharpness": "sharpness", "likeness": "likeness", "recognised": "recognised"}
DIGITS = {"swap_psnr": 2, "drawn_psnr": 2, "recognised": 2}  # of the others: 3
NUMBERS = ("minutes", "steps", "parameters", *SOURCES)
COLUMNS = ("experiment", "knob", "value", "default", "people", "seed", *NUMBERS, "failed")
SHARP = (0.8, 1.2)  # the sharpness that is wanted
OCTAVE = 1.0  # dB: what it may cost to bring faces half as sharp as wanted into that range
DEFAULT = "default"


def summary(found):
    """A run's gan.evaluation.held_out.figures as the columns of results.csv: {figure: number or None}."""
    result = {}
    for figure, (block, name) in SOURCES.items():
        blocks = [each for key, each in found.items() if key.startswith(block + "_")]
        if not blocks and name == "sharpness":  # photographs
            blocks = [found["drawn_ab"], found["drawn_ba"]]
        result[figure] = _mean([each[name] for each in blocks])
    return result


def read(file):
    """The rows of results.csv, dictionaries of COLUMNS; none where there is no such file. Numbers are floats, None where
    empty. Raises ValueError for a file that is no results.csv, OSError."""
    try:
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            columns = tuple(reader.fieldnames or ())
    except FileNotFoundError:
        return []
    except csv.Error as error:
        raise ValueError(f"it is no table ({error})") from error
    if columns != COLUMNS or any(None in row or None in row.values() for row in rows):
        raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
    return [row | {name: float(row[name]) if row[name] else None for name in NUMBERS} for row in rows]


def write(file, rows):
    """Write results.csv whole. Raises PictureError in one line where that fails."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([COLUMNS, *([_cell(row[name]) for name in COLUMNS] for row in rows)])
    write_whole(file, text.getvalue().encode(errors="surrogateescape"))  # names of files may be no text


def settings(rows):
    """The rows of each experiment made one, in their order: figures are means over its pairs of people; `pairs`: how many.
    Of an experiment of which a run broke down, there are no figures."""
    together = {}
    for row in rows:
        together.setdefault(row["experiment"], []).append(row)
    return [runs[0] | {"pairs": len(runs), "failed": next((run["failed"] for run in runs if run["failed"]), "")}
            | {name: None if name in SOURCES and any(run["failed"] for run in runs) else _mean([run[name] for run in runs])
               for name in NUMBERS} for runs in together.values()]


def ranking(row):
    """Key to sort settings by, the best first: the PSNR of the swap (of photographs: of the faces drawn as themselves), less
    OCTAVE for each factor of two by which the sharpness misses SHARP; what failed last."""
    psnr = row["swap_psnr"] if row["swap_psnr"] is not None else row["drawn_psnr"]
    if psnr is None or not row["sharpness"]:
        return math.inf
    nearest = min(max(row["sharpness"], SHARP[0]), SHARP[1])
    return OCTAVE * abs(math.log2(row["sharpness"] / nearest)) - psnr


def table(rows):
    """Lines of text: the settings, the best first."""
    chosen = sorted(settings(rows), key=ranking)
    width = max([len("experiment"), *(len(row["experiment"]) for row in chosen)])
    lines = [f"{'experiment':{width}}{'pairs':>7}{'steps':>7}{'minutes':>9}{'parameters':>12}"
             + "".join(f"{head:>11}" for head in HEADS.values())]
    for row in chosen:
        lines.append(f"{row['experiment']:{width}}{row['pairs']:>7}" + "".join(
            f"{_shown(row, name):>{space}}" for name, space in (("steps", 7), ("minutes", 9), ("parameters", 12)))
            + ("  " + row["failed"] if row["failed"] else "".join(f"{_shown(row, name):>11}" for name in SOURCES)))
    return lines


def sentence(row):
    """A row of results.csv in words."""
    if row["failed"]:
        return f"failed: {row['failed']}"
    swap = "" if row["swap_psnr"] is None else f"swap {_shown(row, 'swap_psnr')} dB, SSIM {_shown(row, 'swap_ssim')}, "
    return f"{swap}drawn {_shown(row, 'drawn_psnr')} dB, sharpness {_shown(row, 'sharpness')}, {_shown(row, 'steps')} steps"


def markdown(rows):
    """The lines of a Markdown table: the default, then each knob's settings. In bold: the best one of all (ranking)."""
    chosen = settings(rows)
    best = min(chosen, key=ranking)["experiment"] if chosen else None
    lines = ["| knob | value | pairs | steps | parameters | " + " | ".join(HEADS.values()) + " |",
             "| --- | --- |" + " ---: |" * (3 + len(SOURCES))]
    for _, name, row in _grouped(chosen):
        value = f"**{row['value'] or DEFAULT}**" if row["experiment"] == best else row["value"] or DEFAULT
        cells = ["failed", *[""] * (len(SOURCES) - 1)] if row["failed"] else [_shown(row, figure) for figure in SOURCES]
        lines.append("| " + " | ".join([name, value, str(row["pairs"]), _shown(row, "steps"), _shown(row, "parameters"),
                                        *cells]) + " |")
    return lines


def plot(rows):
    """PSNR and sharpness of all settings by knob, as pixels (H, 990, 3) uint8: a small dot a pair of people, a large one the
    mean. In each knob's group the default stands too, marked, and a line leads from it through all groups."""
    places, chosen = _places(settings(rows))
    height = max((place for place, _, _ in places), default=0)
    figure = chart.figure(9, 1.4 + 0.22 * (height + 1))
    against_truth = any(row["swap_psnr"] is not None for row in chosen)
    panels = figure.subplots(1, 2, sharey=True)
    names = (("swap_psnr", "PSNR of the swap, dB") if against_truth else ("drawn_psnr", "PSNR of drawn faces, dB"),
             ("sharpness", "sharpness, 1: as real faces"))
    for axes, (name, label) in zip(panels, names):
        _draw(axes, name, places, rows)
        axes.set_xlabel(label)
    panels[1].axvspan(*SHARP, facecolor="#e9f5ec", zorder=0)
    panels[0].set_yticks([place for place, _, _ in places], [text for _, text, _ in places])
    panels[0].set_ylim(height + 0.8, -0.8)
    return chart.pixels(figure)


def save_plot(file, rows):
    """Write results.png. Raises PictureError."""
    save_picture(file, plot(rows), DigitalSource.ALGORITHMIC)


def _draw(axes, name, places, rows):
    by_experiment = {}
    for row in rows:
        if row[name] is not None:
            by_experiment.setdefault(row["experiment"], []).append(row[name])
    if DEFAULT in by_experiment:
        axes.axvline(np.mean(by_experiment[DEFAULT]), color=GREY, linewidth=1, linestyle="--", zorder=1)
    for place, _, row in places:
        values = by_experiment.get(row["experiment"], [])
        colour = ORANGE if row["experiment"] == DEFAULT else BLUE
        if row["failed"]:
            axes.text(0.5, place, "failed", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GREY)
        elif values:
            axes.plot(values, [place] * len(values), ".", color=colour, alpha=0.4, markersize=5, zorder=2)
            axes.plot(np.mean(values), place, "o", color=colour, markersize=7, zorder=3)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _grouped(chosen):
    """(knob, what to call it, row) of each setting: the default, then the knobs, in the order in which they first come."""
    knobs = list(dict.fromkeys(row["knob"] for row in sorted(chosen, key=lambda row: row["experiment"] != DEFAULT)))
    return [(knob, f"{knob} (default {row['default']})" if knob else "", row)
            for knob in knobs for row in chosen if row["knob"] == knob]


def _places(chosen):
    """([(place from above, label, row)], settings): a group a knob with its default among the values, and gaps between."""
    default = next((row for row in chosen if row["experiment"] == DEFAULT), None)
    places, place = [], 0
    for knob in dict.fromkeys(row["knob"] for row in chosen if row["knob"]):
        group = [(row["value"], row) for row in chosen if row["knob"] == knob]
        if default is not None:
            group.append((group[0][1]["default"], default))
        for value, row in sorted(group, key=_by_value):
            places.append((place, f"{knob}  {value}" + "  (default)" * (row is default), row))
            place += 1
        place += 0.6
    if not places and default is not None:
        places = [(0, DEFAULT, default)]
    return places, chosen


def _by_value(entry):
    """Numbers by size, then names by the alphabet."""
    try:
        return 0, float(entry[0]), ""
    except ValueError:
        return 1, 0.0, entry[0]


def _mean(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def _cell(value):
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else value


def _shown(row, name):
    value = row[name]
    if value is None:
        return "-"
    if name in ("steps", "parameters"):
        return f"{value:,.0f}"
    return f"{value:.{1 if name == 'minutes' else DIGITS.get(name, 3)}f}"
