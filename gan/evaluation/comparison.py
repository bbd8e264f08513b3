"""Runs side by side: their figures in one table, and the same held-out faces as each of them draws these.

Runs can be compared that learned the same people from the same faces; networks and their sizes may differ. The sheet's rows:

    A, each run's A drawn as A, each run's A drawn as B, the truth of that swap where there is one; the same for B

in poses that no run learned from. Faces of different sizes are brought to the largest one.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.geometry.alignment import warp
from data.support.validate import printable
from gan.people.preview_sheet import label_rows
from gan.run.checkpoint import RunError

SHEET_FACES = 6  # columns
FACE_PIXELS = 256  # side of a face on the sheet: a 64 pixel one is enlarged four times
_STRIP = 24  # pixels, height of the line with a run's name

# Figures as the table names them, in its order, and what is better.
LABELS = {"psnr": "PSNR, dB (higher)", "ssim": "SSIM (higher)", "ms_ssim": "MS-SSIM (higher)", "sharpness": "sharpness (1)",
          "variety": "variety (1)", "colour_error": "colour error (lower)", "frechet": "Frechet distance (lower)",
          "likeness": "likeness to whom it should be (higher)", "likeness_other": "likeness to the other (lower)",
          "recognised": "more like whom it should be (higher)", "seam_error": "seam error (lower)",
          "yaw_error": "yaw error, degrees (lower)", "pitch_error": "pitch error, degrees (lower)",
          "roll_error": "roll error, degrees (lower)", "eyes_error": "opening of the eyes, error in % (lower)",
          "mouth_error": "opening of the mouth, error in % (lower)", "width_error": "width of the mouth, error in % (lower)",
          "hole_iou": "holes of the masks, IoU (higher)"}
# Both directions of a figure are averaged.
BLOCKS = {"drawn as themselves": ("reconstruction_a", "reconstruction_b"),
          "swapped, against the truth": ("swap_ab", "swap_ba"),
          "drawn as the other": ("drawn_ab", "drawn_ba"), "the finished pictures": ("pasted_ab", "pasted_ba"),
          "with something held before the face": ("covered_a", "covered_b")}


class Faces(NamedTuple):
    """Held-out faces of a person as one run draws them: each (n, S, S, 3); truth: None for photographs."""

    real: np.ndarray
    own: np.ndarray
    swapped: np.ndarray
    truth: np.ndarray | None


def check_same_people(runs, configs):
    """Raises RunError unless all runs (names, with their configurations) learned the same people and held out the same
    faces."""
    for run, config in zip(runs[1:], configs[1:]):
        if _whom(config) != _whom(configs[0]):
            raise RunError(f"{runs[0]} and {run} did not learn the same people from the same faces; compare runs of the "
                           "same people and the same --seed")


def _whom(config):
    """What is equal for runs of the same people and held-out faces. Renders depend on their size, so their hashes do not
    tell."""
    return config["seed"], config["people"] or config.get("learned_from")


def drawn_faces(model, subjects, truth):
    """{"a": Faces, "b": Faces}: the first faces of a gan.people.pair.Truth, or of those that are held out."""
    found = {}
    for side, other, faces in (("a", "b", subjects.a), ("b", "a", subjects.b)):
        if truth is None:
            real, wanted = faces.crops(faces.held_out[:SHEET_FACES])[0], None
        else:
            real, wanted = getattr(truth, side)[:SHEET_FACES], getattr(truth, other)[:SHEET_FACES]
        found[side] = Faces(real, model.draw(real, side, side)[0], model.draw(real, side, other)[0], wanted)
    return found


def sheet(runs, drawn):
    """The sheet (H, W, 3) uint8 of runs (names) and what each of them drew (drawn_faces)."""
    size = max(faces["a"].real.shape[1] for faces in drawn)
    largest = next(faces for faces in drawn if faces["a"].real.shape[1] == size)
    numbers = [f"{k} " for k in range(1, len(runs) + 1)] if len(runs) > 1 else [""]
    rows = []
    for side, other in (("A", "B"), ("B", "A")):
        each = [faces[side.lower()] for faces in drawn]
        rows.append((side, largest[side.lower()].real))
        rows += [(f"{number}{side} as {side}", at_size(faces.own, size)) for number, faces in zip(numbers, each)]
        rows += [(f"{number}{side} as {other}", at_size(faces.swapped, size)) for number, faces in zip(numbers, each)]
        if largest[side.lower()].truth is not None:
            rows.append(("truth", largest[side.lower()].truth))
    names = [number + str(run) for number, run in zip(numbers, runs)]
    return _under_names(label_rows(rows, max(1, round(FACE_PIXELS / size))), names)


def _under_names(pixels, names):
    """A picture (H, W, 3) uint8 below lines of text."""
    head = Image.new("RGB", (pixels.shape[1], _STRIP * len(names)), (24, 24, 28))
    draw, font = ImageDraw.Draw(head), ImageFont.load_default(size=16)
    for k, name in enumerate(names):
        draw.text((6, _STRIP * k + _STRIP // 2), printable(name), fill=(230, 230, 230), font=font, anchor="lm")
    return np.concatenate([np.asarray(head), pixels])


def at_size(crops, size):
    """Crops (n, S, S, C) that show the same in another number of pixels: (n, size, size, C)."""
    if crops.shape[1] == size:
        return crops
    scale = size / crops.shape[1]
    transform = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
    return np.stack([warp(crop, transform, size) for crop in crops])


def table(runs, found):
    """Lines of text: a figure a row, a run a column. runs: names; found: gan.evaluation.held_out.figures of each."""
    lines = [f"{k}: {run}" for k, run in enumerate(runs, start=1)]
    lines.append(f"{'mean of both people':48}" + "".join(f"{k:>9}" for k in range(1, len(runs) + 1)))
    for heading, blocks in BLOCKS.items():
        keys = [key for key in LABELS if any(key in each.get(blocks[0], {}) for each in found)]
        if keys:
            lines.append(heading)
            lines += [f"    {LABELS[key]:44}" + "".join(f"{_mean(each, blocks, key):>9}" for each in found) for key in keys]
    return lines


def _mean(found, blocks, key):
    """The mean of a figure over blocks, as text; "-" where the run has none."""
    values = [found[block][key] for block in blocks if found.get(block, {}).get(key) is not None]
    if not values:
        return "-"
    return f"{sum(values) / len(values):{'.0%' if key == 'recognised' else '.2f' if key == 'psnr' else '.3f'}}"
