"""Compare runs: their metrics in one table, and a contact sheet of the same held-out faces.

Runs are comparable if they were trained on the same faces of the same people. Networks and their
sizes may differ. The contact sheet shows held-out poses in these rows:

    A, each run's reconstruction of A, each run's swap of A to B, the target (ground truth) of that
    swap (rendered people only); the same for B

Faces of different sizes are scaled to the largest one.
"""
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.support.validate import printable
from gan.evaluation.held_out import resize_crops
from gan.evaluation.table import cell
from gan.people.preview_sheet import labeled_grid
from gan.run.checkpoint import RunError

SHEET_FACES = 6  # columns of the contact sheet
FACE_PIXELS = 256  # side of a face on the contact sheet: 64-pixel faces are enlarged four times
_STRIP = 24  # pixels, height of the line with a run's name

# Labels of the metrics, in the order of the table; in parentheses, the better values.
LABELS = {"psnr": "PSNR, dB (higher)", "ssim": "SSIM (higher)", "ms_ssim": "MS-SSIM (higher)",
          "sharpness": "sharpness (1)", "variety": "variety (1)", "color_error": "color error (lower)",
          "frechet": "Frechet distance (lower)", "similarity": "similarity to the target person (higher)",
          "similarity_other": "similarity to the other person (lower)",
          "recognized": "recognized as the target person (higher)", "seam_error": "seam error (lower)",
          "yaw_error": "yaw error, degrees (lower)", "pitch_error": "pitch error, degrees (lower)",
          "roll_error": "roll error, degrees (lower)", "eyes_error": "eye opening, error in % (lower)",
          "mouth_error": "mouth opening, error in % (lower)", "width_error": "mouth width, error in % (lower)",
          "hole_iou": "occluders left out of the mask, IoU (higher)"}
# Metrics are averaged over both people.
BLOCKS = {"reconstructions": ("reconstruction_a", "reconstruction_b"),
          "swaps, against ground truth": ("swap_ab", "swap_ba"),
          "swaps, crops": ("generated_ab", "generated_ba"), "swaps, composites": ("composite_ab", "composite_ba"),
          "reconstructions with an occluder": ("occluded_a", "occluded_b")}


class Faces(NamedTuple):
    """A person's held-out faces and what one run generates from them, (n, S, S, 3) each."""

    real: np.ndarray
    reconstructed: np.ndarray
    swapped: np.ndarray
    ground_truth: np.ndarray | None  # None for photographs


def check_same_people(runs, configs):
    """Check that all runs were trained on the same people and held out the same faces.

    runs: names; configs: their configurations
    Raises RunError if not.
    """
    # For rendered people, hashes of the images would not do: renders depend on their size.
    faces = [(config.seed, config.people or config.learned_from) for config in configs]
    for run, others in zip(runs[1:], faces[1:]):
        if others != faces[0]:
            raise RunError(f"{runs[0]} and {run} were not trained on the same people from the same faces; compare runs "
                           "of the same people and the same --seed")


def generated_faces(model, face_pair, ground_truth):
    """Generate the faces of one run on the contact sheet: {"a": Faces, "b": Faces}.

    ground_truth: gan.people.pair.GroundTruth with the inputs; None: use the first held-out faces
    """
    generated = {}
    for side, other, faces in (("a", "b", face_pair.a), ("b", "a", face_pair.b)):
        if ground_truth is None:
            real, target = faces.crops(faces.held_out[:SHEET_FACES])[0], None
        else:
            real, target = getattr(ground_truth, side)[:SHEET_FACES], getattr(ground_truth, other)[:SHEET_FACES]
        generated[side] = Faces(real, model.generate(real, side, side)[0], model.generate(real, side, other)[0], target)
    return generated


def contact_sheet(runs, generated):
    """Return the contact sheet (H, W, 3) uint8 of runs (names) and their generated_faces."""
    largest = max(generated, key=lambda faces: faces["a"].real.shape[1])
    size = largest["a"].real.shape[1]
    numbers = [f"{k} " for k in range(1, len(runs) + 1)] if len(runs) > 1 else [""]
    rows = []
    for side, other in ("ab", "ba"):
        rows.append((side.upper(), largest[side].real))
        for person, name in ((side, "reconstructed"), (other, "swapped")):
            rows += [(f"{number}{side.upper()} as {person.upper()}", resize_crops(getattr(faces[side], name), size))
                     for number, faces in zip(numbers, generated)]
        if largest[side].ground_truth is not None:
            rows.append(("target", largest[side].ground_truth))
    grid = labeled_grid(rows, max(1, round(FACE_PIXELS / size)))
    head = Image.new("RGB", (grid.shape[1], _STRIP * len(runs)), (24, 24, 28))
    draw, font = ImageDraw.Draw(head), ImageFont.load_default(size=16)
    for k, (number, run) in enumerate(zip(numbers, runs)):
        draw.text((6, _STRIP * k + _STRIP // 2), printable(f"{number}{run}"), fill=(230, 230, 230), font=font,
                  anchor="lm")
    return np.concatenate([np.asarray(head), grid])


def comparison_table(runs, metrics):
    """Format the metrics of several runs as lines of text: a metric per row, a run per column.

    runs: names; metrics: gan.evaluation.held_out.measure of each run
    """
    lines = [f"{k}: {run}" for k, run in enumerate(runs, start=1)]
    lines.append(f"{'mean of both people':48}" + "".join(f"{k:>9}" for k in range(1, len(runs) + 1)))
    for heading, blocks in BLOCKS.items():
        keys = [key for key in LABELS if any(key in each.get(blocks[0], {}) for each in metrics)]
        if keys:
            lines.append(heading)
            lines += [f"    {LABELS[key]:44}" + "".join(f"{_mean(each, blocks, key):>9}" for each in metrics)
                      for key in keys]
    return lines


def _mean(metrics, blocks, key):
    """Format the mean of a metric over blocks; "-" if the run has none."""
    values = [metrics[block][key] for block in blocks if metrics.get(block, {}).get(key) is not None]
    return cell(key, sum(values) / len(values) if values else None)
