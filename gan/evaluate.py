"""Evaluate a run on its held-out faces, or compare several runs.

    python -m gan.evaluate RUN [--json] [--checkpoint best|last] [--sheet FILE]
    python -m gan.evaluate --compare RUN RUN... [--json] [--checkpoint best|last] [--sheet FILE]

gan/evaluation/held_out.py lists what is measured.
"""
import json
import pathlib
import sys


from data.detection.face_analyzer import FinderError
from data.media.image_io import PICTURE_SUFFIXES, PictureError, save_picture
from data.media.provenance import DigitalSource
from data.support.cli import Parser
from data.support.errors import FaceSetError
from gan.evaluation import comparison
from gan.evaluation.held_out import DIGITS, TRUTH_FACES, figures
from gan.people.pair import load_pair
from gan.run.checkpoint import WHICH, RunError, RunFolder, load_drawing_model


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
    comparison.check_same_people(runs, [config for _, config in loaded])
    return loaded


def _measured(runs, loaded):
    """([figures], [compare.drawn_faces]) of loaded runs. Raises FaceSetError where pictures are gone, FinderError."""
    found, drawn, known = [], [], {}
    for run, (model, config) in zip(runs, loaded):
        key = (config["size"], config["faces"]) if config["people"] else run  # equal for rendered people, who take longest
        if key not in known:
            subjects = load_pair(config, RunFolder(run))
            known[key] = subjects, subjects.truth(TRUTH_FACES)
        found.append(figures(model, *known[key]))
        drawn.append(comparison.drawn_faces(model, *known[key]))
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
            save_picture(options.sheet, comparison.sheet(options.runs, drawn), DigitalSource.TRAINED)
    except (RunError, FaceSetError, FinderError, PictureError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(dict(zip(options.runs, found)) if options.compare else found[0]))
    else:
        print("\n".join(comparison.table(options.runs, found) if options.compare else table(found[0])))
        if options.sheet:
            print(f"look at {options.sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
