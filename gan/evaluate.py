"""Measure a run on its held-out faces, or compare several runs.

    python -m gan.evaluate RUN [--json] [--checkpoint best|last] [--sheet FILE]
    python -m gan.evaluate --compare RUN RUN... [--json] [--checkpoint best|last] [--sheet FILE]

gan/evaluation/held_out.py lists the metrics.
"""
import json
import pathlib
import sys

from data.media.image_io import IMAGE_SUFFIXES, ImageError, save_image
from data.media.provenance import DigitalSource
from data.support.cli import Parser, run_command
from data.support.process_pool import use_workers
from gan.evaluation import comparison, held_out
from gan.evaluation.table import metrics_table
from gan.people.pair import load_pair
from gan.plugins import load_plugins
from gan.run.checkpoint import CHECKPOINT_KINDS, RunFolder, load_autoencoder


def parse(arguments=None):
    """Parse the command line into a namespace. Exits with code 2 if it is invalid."""
    parser = Parser(prog="python -m gan.evaluate",
                    description="Measure runs on their held-out faces. docs/metrics.md defines the metrics.")
    load_plugins(parser, arguments)
    parser.add_argument("run", metavar="RUN", nargs="?", help="the run folder that train.py wrote")
    parser.add_argument("--compare", metavar="RUN", nargs="+", help="compare two or more runs of the same people")
    parser.add_argument("--json", action="store_true",
                        help="print JSON instead of a table (with --compare: one object per run)")
    parser.add_argument("--checkpoint", choices=CHECKPOINT_KINDS, default=CHECKPOINT_KINDS[0],
                        help="weights to use: those with the lowest validation error, or the last "
                        "(default: %(default)s)")
    parser.add_argument("--sheet", metavar="FILE", type=pathlib.Path, help="write a contact sheet of reconstructions "
                        "and swaps (default: with --compare, compare.png in the first run's folder; else none)")
    options = parser.parse_args(arguments)
    if (options.run is None) == (options.compare is None):
        parser.error("give one RUN, or --compare with two or more runs")
    if options.compare and len(set(options.compare)) < max(2, len(options.compare)):
        parser.error("--compare needs two or more different runs")
    options.runs = options.compare or [options.run]
    if options.compare and options.sheet is None:
        options.sheet = pathlib.Path(options.compare[0]) / "compare.png"
    return options


def _measure_runs(runs, loaded):
    """Return ([held_out.measure], [comparison.generated_faces]) of loaded runs.

    Raises FaceSetError if images are missing, DetectionError.
    """
    metrics, generated, cache = [], [], {}
    for run, (model, config) in zip(runs, loaded):
        # Rendered people take longest, so runs of the same size share them.
        key = (config.size, config.faces) if config.people else run
        if key not in cache:
            face_pair = load_pair(config, RunFolder(run))
            cache[key] = face_pair, face_pair.ground_truth(held_out.GROUND_TRUTH_FACES)
        metrics.append(held_out.measure(model, *cache[key]))
        generated.append(comparison.generated_faces(model, *cache[key]))
    return metrics, generated


def _check_sheet(file):
    """Check that an image can be written to file, before the long work. Raises ImageError."""
    if file.suffix.lower() not in IMAGE_SUFFIXES:
        raise ImageError(f"{file} is not an image file name; --sheet should end in .png or .jpg")
    if not file.parent.is_dir():
        raise ImageError(f"the folder {file.parent} does not exist; create it first, or name another --sheet")


def main(arguments=None):
    """Run the command line. Returns the exit code: 0 done, 1 failed, 130 or 143 interrupted."""
    options = parse(arguments)
    return run_command("evaluate", lambda: _evaluate(options))


def _evaluate(options):
    """Measure the runs and print the metrics. Returns the exit code."""
    loaded = [load_autoencoder(folder, options.checkpoint) for folder in options.runs]
    comparison.check_same_people(options.runs, [config for _, config in loaded])
    if options.sheet:
        _check_sheet(options.sheet)
    with use_workers():
        metrics, generated = _measure_runs(options.runs, loaded)
    if options.sheet:
        save_image(options.sheet, comparison.contact_sheet(options.runs, generated), DigitalSource.TRAINED)
    if options.json:
        print(json.dumps(dict(zip(options.runs, metrics)) if options.compare else metrics[0]))
        return 0
    lines = comparison.comparison_table(options.runs, metrics) if options.compare else metrics_table(metrics[0])
    print("\n".join(lines))
    if options.sheet:
        print(f"contact sheet saved as {options.sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
