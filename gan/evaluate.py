"""Held-out figures of a run: how well faces that were not trained on are drawn, and what becomes of a swap.

    real_a              A's held-out faces themselves: what the figures below can reach
    reconstruction_a    A's held-out faces drawn as A, against themselves
    swap_ab             rendered people only: A's render drawn as B, against B rendered in the same pose, expression and
                        light, within the mask of B's crop
    left_ab             rendered people only: A's render as it is, against the same
    drawn_ab            A's held-out faces drawn as B
    pasted_ab           the finished pictures: those faces with matched colours, put back into A's pictures
    covered_a           A's held-out faces with something held before each: the masks of A drawn as A

and the same for B. Each figure is a function in gan/figures.py, described in docs/figures.md. All are taken at the network's
size, but for those of finished pictures.

    python -m gan.evaluate RUN [--json] [--checkpoint best|last] [--sheet FILE]
    python -m gan.evaluate --compare RUN RUN... [--json] [--checkpoint best|last] [--sheet FILE]
"""
import json
import math
import pathlib
import sys

import numpy as np

from data.align import crop_transform, warp
from data.augment import make_batch
from data.cli import Parser
from data.faceset import DENSITY, FaceSetError, evenly
from data.finder import Finder, FinderError
from data.identity import CROP, Identity
from data.image_io import PICTURE_SUFFIXES, DigitalSource, PictureError, save_picture
from gan import compare
from gan import subjects as people
from gan.checkpoint import WHICH, RunError, RunFolder, load_drawing_model
from gan.compare import at_size
from gan.figures import (colour_error, expression_errors, frechet, hole_iou, likeness, main_direction, masked_ssim,
                         ms_ssim, pose_errors, psnr, seam_error, sharpness, variety)
from gan.swapper import Swapper

TRUTH_FACES = 64
KNOWN_FACES = 64  # training faces from which a person's direction is taken

DIGITS = {"psnr": 2, "ssim": 4, "ms_ssim": 4, "sharpness": 3, "variety": 3, "colour_error": 2, "seam_error": 3, "frechet": 4,
          "likeness": 3, "likeness_other": 3, "recognised": 3, "yaw_error": 2, "pitch_error": 2, "roll_error": 2,
          "eyes_error": 2, "mouth_error": 2, "width_error": 2, "hole_iou": 3}


def figures(model, subjects, truth):
    """All figures as a dictionary {name: {figure: number}}, as listed above; None for what so few faces cannot tell.

    model: a FaceAutoencoder; subjects: gan.subjects.Subjects; truth: gan.subjects.Truth, or None for photographs."""
    a, b = _Person(subjects.a), _Person(subjects.b)
    found = {}
    for side, own, other in (("a", a, b), ("b", b, a)):
        found[f"reconstruction_{side}"] = _reconstruction(model, side, own, other)
    if truth is not None:
        found["swap_ab"] = _against(model.draw(truth.a, "a", "b")[0], truth.b, truth.mask_b)
        found["left_ab"] = _against(truth.a, truth.b, truth.mask_b)
        found["swap_ba"] = _against(model.draw(truth.b, "b", "a")[0], truth.a, truth.mask_a)
        found["left_ba"] = _against(truth.b, truth.a, truth.mask_a)
    for direction, own, other in (("ab", a, b), ("ba", b, a)):
        found[f"drawn_{direction}"] = _drawn(model, direction, own, other)
        found[f"pasted_{direction}"] = _pasted(model, direction, own, other)
    for side, own, other in (("a", a, b), ("b", b, a)):
        found[f"real_{side}"] = {"frechet": frechet(own.real, own.known[:len(own.real)]),
                                 **_likenesses(own.real, own, other)}
    if model.mask:
        found |= {f"covered_{side}": _covered(model, side, own) for side, own in (("a", a), ("b", b))}
    return {name: {key: _rounded(value, DIGITS[key]) for key, value in block.items()} for name, block in found.items()}


class _Person:
    """What the figures need of a face set.

    indices: of its held-out faces; crops, masks: of these. real: their features (n, D), known: those of training faces;
    direction: the person's own (D,)."""

    def __init__(self, faces):
        self.faces = faces
        self.indices = evenly(faces.held_out, people.HELD_OUT_FACES)
        self.crops, self.masks = faces.crops(self.indices)
        self.landmarks = faces.arrays(self.indices)[1][self.indices].astype(np.float64)
        self.real = features(self.crops, self.masks)
        self.known = features(*faces.crops(evenly(faces.train, KNOWN_FACES)))
        self.direction = main_direction(self.known)


def _against(drawn, target, mask):
    """The figures of faces for which the right picture is known."""
    return {"psnr": psnr(drawn, target, mask).mean(), "ssim": masked_ssim(drawn, target, mask).mean(),
            "ms_ssim": ms_ssim(drawn, target, mask).mean(), "sharpness": sharpness(drawn, target, mask),
            "variety": variety(drawn, target, mask), "colour_error": colour_error(drawn, target, mask).mean()}


def _reconstruction(model, side, own, other):
    drawn = model.draw(own.crops, side, side)[0]
    directions = features(drawn, own.masks)
    mixed = own.crops + own.masks * (drawn - own.crops)  # with the real surroundings, which landmarks are found by too
    found, wanted = (_landmarks(_pixels(faces), own.landmarks) for faces in (mixed, own.crops))
    return {**_against(drawn, own.crops, own.masks), "frechet": frechet(directions, own.real),
            **_likenesses(directions, own, other), **pose_errors(found, wanted), **expression_errors(found, wanted)}


def _drawn(model, direction, own, other):
    """own's faces drawn as other: no truth is needed for these figures."""
    drawn = model.draw(own.crops, *direction)[0]
    directions = features(drawn, own.masks)
    return {"sharpness": sharpness(drawn, own.crops, own.masks), "frechet": frechet(directions, other.real),
            **_likenesses(directions, other, own)}


def _pasted(model, direction, own, other):
    """own's pictures with other's face, as swap.py leaves them."""
    pictures, landmarks = own.faces.pictures(own.indices)
    swapped = Swapper(model).swap_many(pictures, [[points] for points in landmarks], direction, return_mask=True)
    pasted, share = (np.stack(layers) for layers in zip(*swapped))
    seam = seam_error(pasted / np.float32(255), pictures / np.float32(255), share, DENSITY * own.faces.size)
    crops = np.stack([warp(picture, crop_transform(points, CROP), CROP) for picture, points in zip(pasted, landmarks)])
    found, wanted = _landmarks(pasted, landmarks), _landmarks(pictures, landmarks)
    return {"seam_error": seam.mean(), **_likenesses(features(crops, own.masks), other, own), **pose_errors(found, wanted),
            **expression_errors(found, wanted)}


def _covered(model, side, own):
    """own's faces, turned and shifted a little, with something held before each (data/occluders.py)."""
    whole, covered = (make_batch(own.faces, len(own.indices), 0, 0, 0, own.indices, in_order=True, flip=False, warp=0.0,
                                 light=0.0, occluded=share) for share in (0.0, 1.0))
    return {"hole_iou": hole_iou(model.draw(covered.warped, side, side)[1], covered.mask, whole.mask)}


def features(faces, masks):
    """Directions (n, D) of faces (n, S, S, 3), with all but the face made grey: hair and surroundings tell people apart as
    well, and a swap leaves them as they are."""
    masks = at_size(masks, faces.shape[1])
    return Identity.load().embed_crops(at_size(masks * (faces - np.float32(0.5)) + np.float32(0.5), CROP))


def _likenesses(directions, own, other):
    """How like the faces are to whom they should show, and to the other of the two."""
    right, wrong = likeness(directions, own.direction), likeness(directions, other.direction)
    return {"likeness": right.mean(), "likeness_other": wrong.mean(), "recognised": (right > wrong).mean()}


def _landmarks(pictures, landmarks):
    """Where the landmark network finds the points in pictures (n, H, W, 3) uint8, looking where they are known to be."""
    finder = Finder.load()
    return np.stack([finder.follow(picture, points).landmarks for picture, points in zip(pictures, landmarks)])


def _pixels(faces):
    return np.rint(np.clip(faces, 0, 1) * 255).astype(np.uint8)


def _rounded(value, digits):
    """For JSON: a plain number, or None for NaN."""
    return None if math.isnan(value) else round(float(value), digits)


NAMES = {"reconstruction_a": "A drawn as A", "reconstruction_b": "B drawn as B",
         "swap_ab": "A swapped to B, against the truth", "left_ab": "    A left as it is",
         "swap_ba": "B swapped to A, against the truth", "left_ba": "    B left as it is",
         "drawn_ab": "A drawn as B", "drawn_ba": "B drawn as A", "pasted_ab": "A's pictures with B's face",
         "pasted_ba": "B's pictures with A's face", "real_a": "    A, the real faces", "real_b": "    B, the real faces",
         "covered_a": "A with something held before", "covered_b": "B with something held before"}
HEADS = {"psnr": "PSNR dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "sharpness": "sharp", "variety": "variety",
         "colour_error": "colour", "seam_error": "seam", "frechet": "Frechet", "likeness": "like", "likeness_other": "other",
         "recognised": "right", "yaw_error": "yaw", "pitch_error": "pitch", "roll_error": "roll", "eyes_error": "eyes",
         "mouth_error": "mouth", "width_error": "width", "hole_iou": "IoU"}
# The parts of the table: a heading, which rows, which figures.
PARTS = (("held-out faces", ("reconstruction_", "swap_", "left_", "drawn_"),
          ("psnr", "ssim", "ms_ssim", "sharpness", "variety", "colour_error")),
         ("who is it?", ("reconstruction_", "drawn_", "pasted_", "real_"),
          ("likeness", "likeness_other", "recognised", "frechet", "seam_error")),
         ("pose, degrees; expression, % of eyes", ("reconstruction_", "pasted_"),
          ("yaw_error", "pitch_error", "roll_error", "eyes_error", "mouth_error", "width_error")),
         ("holes of the masks", ("covered_",), ("hole_iou",)))


def table(found):
    """The figures as lines of text, at most 100 columns wide; docs/figures.md explains them."""
    lines = []
    for heading, prefixes, columns in PARTS:
        if not any(name.startswith(prefixes) for name in found):
            continue
        lines.append(f"{heading:38}" + "".join(f"{HEADS[key]:>9}" for key in columns))
        for name, block in found.items():
            if name.startswith(prefixes):
                lines.append(f"{NAMES[name]:38}" + "".join(f"{_cell(block, key):>9}" for key in columns))
    return lines


def _cell(block, key):
    """A figure as text: "" where it is not taken, "-" where it cannot be told."""
    if key not in block:
        return ""
    if block[key] is None:
        return "-"
    return f"{block[key]:.0%}" if key == "recognised" else f"{block[key]:.{min(DIGITS[key], 3)}f}"


def subjects_of(config, folder, say=None):
    """The subjects that a run's configuration names. folder: the RunFolder. say: takes lines for the user; None: faces that
    the run cut out of pictures or clips are taken as they are. Raises FaceSetError where pictures are gone."""
    if config["people"] is not None:
        return people.rendered(config["people"], config["faces"], config["size"], config["seed"])
    return people.photographed(config["a"], config["b"], config["landmarks"], config["size"], config["seed"], folder.faces,
                               say)


def parse(arguments=None):
    """The command line as a namespace; ends with code 2 for one that makes no sense."""
    parser = Parser(prog="python -m gan.evaluate", description="Held-out figures of runs; docs/figures.md explains them.")
    parser.add_argument("run", metavar="RUN", nargs="?", help="the run folder that train.py wrote")
    parser.add_argument("--compare", metavar="RUN", nargs="+", help="two runs or more of the same people, side by side")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table (--compare: one object a run)")
    parser.add_argument("--checkpoint", choices=WHICH, default=WHICH[0], help="the weights that drew held-out faces best, "
                        "or the last ones (default: %(default)s)")
    parser.add_argument("--sheet", metavar="FILE", type=pathlib.Path, help="write a sheet of held-out faces as they are "
                        "drawn (default: with --compare, compare.png in the first run's folder; else none)")
    options = parser.parse_args(arguments)
    if (options.run is None) == (options.compare is None):
        parser.error("give one RUN, or --compare and two runs or more")
    if options.compare and len(set(options.compare)) < max(2, len(options.compare)):
        parser.error("--compare needs two runs or more, each once")
    options.runs = options.compare or [options.run]
    if options.compare and options.sheet is None:
        options.sheet = pathlib.Path(options.compare[0]) / "compare.png"
    return options


def _loaded(runs, which):
    """[(model, configuration)] of runs, given by their folders. Raises RunError where one cannot be used, or where they
    did not learn the same people."""
    loaded = [load_drawing_model(run, which) for run in runs]
    compare.check_same_people(runs, [config for _, config in loaded])
    return loaded


def _measured(runs, loaded):
    """([figures], [compare.drawn_faces]) of loaded runs. Raises FaceSetError where pictures are gone, FinderError."""
    found, drawn, known = [], [], {}
    for run, (model, config) in zip(runs, loaded):
        key = (config["size"], config["faces"]) if config["people"] else run  # equal for rendered people, who take longest
        if key not in known:
            subjects = subjects_of(config, RunFolder(run))
            known[key] = subjects, subjects.truth(TRUTH_FACES)
        found.append(figures(model, *known[key]))
        drawn.append(compare.drawn_faces(model, *known[key]))
    return found, drawn


def _check_sheet(file):
    """Before the work rather than after it: raises PictureError for a file that cannot become a picture."""
    if file.suffix.lower() not in PICTURE_SUFFIXES:
        raise PictureError(f"{file} is not a picture's name; --sheet should end in .png or .jpg")
    if not file.parent.is_dir():
        raise PictureError(f"the folder {file.parent} does not exist; create it first, or name another --sheet")


def main(arguments=None):
    """Command line. Returns the exit code."""
    options = parse(arguments)
    try:
        loaded = _loaded(options.runs, options.checkpoint)
        if options.sheet:
            _check_sheet(options.sheet)
        found, drawn = _measured(options.runs, loaded)
        if options.sheet:
            save_picture(options.sheet, compare.sheet(options.runs, drawn), DigitalSource.TRAINED)
    except (RunError, FaceSetError, FinderError, PictureError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(dict(zip(options.runs, found)) if options.compare else found[0]))
    else:
        print("\n".join(compare.table(options.runs, found) if options.compare else table(found[0])))
        if options.sheet:
            print(f"look at {options.sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
