"""Extract aligned faces from photos or videos into a folder: the first step of every face swap.

    python -m data.extract INPUT FOLDER                    extract the faces of an image, a video,
                                                           or a folder of images and videos
    python -m data.extract INPUT FOLDER --drop 3,17        sort out faces by their numbers on the
                                                           contact sheet FOLDER/faces.png
    python -m data.extract INPUT FOLDER --corrections CSV  extract again, with boxes or landmarks
                                                           that you give by hand

FOLDER then holds the faces, in a folder for each person if there are several; faces.png, a contact
sheet of numbered faces; faces.csv, a list of all faces; and sorted_out/REASON/, the faces not to be
trained on (blurred, tiny, cut off, doubtful). Running the same command again replaces these files.
Dropped faces stay dropped.
"""
import argparse
import pathlib
import sys

from data.detection.face_analyzer import DetectionError
from data.extract.corrections import CorrectionError, read_corrections
from data.extract.face_folder import CONTACT_SHEET, ExtractError, FaceFolder
from data.extract.pipeline import FORMATS, MAX_FACES, SIZE, ExtractionSettings, count_noun, extract
from data.extract.quality_filter import MIN_SIZE
from data.media.frame_source import SOURCE_ERRORS, SourceError
from data.support.cli import Parser, exit_code, interruptible, number, print_line
from data.support.progress import Progress


def parse(arguments=None):
    """Parse the command line into a namespace. Exits with code 2 if it is invalid."""
    parser = Parser(prog="python -m data.extract", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    # fmt: off
    add("input", metavar="INPUT", type=pathlib.Path, help="an image, a video or animated image, or a folder of these")
    add("folder", metavar="FOLDER", type=pathlib.Path, help="output folder for the faces; created if needed")
    add("--every", metavar="N", type=number(int, 1), help="extract faces from every N-th frame "
        "of a video (default: all of a short video, about 1200 of a long one)")
    add("--max-faces", metavar="N", type=number(int, 1), default=MAX_FACES, help="of the faces in videos, take the N "
        "that differ most in pose, expression and light (default: %(default)s)")
    add("--size", metavar="PX", type=number(int, 64, 2048), default=SIZE, help="side of an extracted face image in "
        "pixels (default: %(default)s)")
    add("--min-size", metavar="PX", type=number(float, 12), default=MIN_SIZE, help="sort out faces smaller than this, "
        "measured from brows to chin in pixels of the input (default: %(default)g)")
    add("--drop", metavar="N,N", type=_numbers, help="sort out the faces with these numbers on the contact sheet, "
        "for example 3,17")
    add("--corrections", metavar="CSV", type=pathlib.Path, help="boxes or landmarks given by hand, which replace "
        "detection on these images; columns: file[,frame],left,top,right,bottom or file[,frame],x0,y0,...,x67,y67")
    add("--format", choices=FORMATS, default="png", help="file format of the faces: png, our PNG with landmarks "
        "(default); dfl, DeepFaceLab's aligned JPEG; fsa, our PNG and faceswap's alignments.fsa")
    # fmt: on
    options = parser.parse_args(arguments)
    if options.input.resolve() == options.folder.resolve():
        parser.error(f"INPUT and FOLDER are both {options.input}; choose another FOLDER")
    return options


def _numbers(text):
    """Parse a list of numbers, as an argparse type: '3,17' -> {3, 17}."""
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"expected numbers such as 3,17, got {text!r}")
    return {int(part) for part in text.split(",")}


def main(arguments=None):
    """Run the command line.

    Returns the exit code: 0 done, 1 failed, 3 some files failed, 130 or 143 interrupted.
    """
    options = parse(arguments)
    try:
        with interruptible():
            if options.drop and not drop(options):
                return 0
            summary = run(options)
    except (ExtractError, SourceError, CorrectionError, DetectionError, *SOURCE_ERRORS, OSError) as error:
        print_line(f"extract: {error}", file=sys.stderr)
        return 1
    except MemoryError:
        print_line(f"extract: {options.input} needs more memory than is free; scale it down first", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        print_line(f"extract: interrupted; the faces found so far are in {options.folder}", file=sys.stderr)
        return exit_code(interruption)
    return 3 if summary.failed else 0


def drop(options):
    """Sort out faces by their numbers. Returns whether to extract again, which corrections
    require."""
    faces = FaceFolder(options.folder)
    if faces.entries is None:
        raise ExtractError(f"{options.folder} holds no faces yet; extract first, then drop faces by their numbers on "
                           f"{CONTACT_SHEET}")
    faces.drop(options.drop)
    print_line(f"{options.folder}: {count_noun(len(options.drop), 'face')} dropped")
    return options.corrections is not None


def run(options):
    """Extract the faces, and print and return the Summary."""
    corrections = read_corrections(options.corrections) if options.corrections else {}
    settings = ExtractionSettings(options.size, options.every, options.max_faces, options.min_size, options.format,
                                  corrections, keep_partial=True)
    line = Progress("images")
    try:
        faces, summary = extract(
            options.input,
            options.folder,
            settings,
            lambda done, expected, kept: line.show(done, expected, count_noun(kept, "face")),
            lambda text: (line.end(), print_line(f"extract: {text}", file=sys.stderr)),
        )
    finally:
        line.end()
    for text in summary.lines(faces.path):
        print_line(text)
    print_line(f"{count_noun(sum(summary.people), 'face')} in {faces.path}; check them on the contact sheet "
               f"{faces.path / CONTACT_SHEET}, and drop wrong ones with --drop NUMBERS")
    return summary


if __name__ == "__main__":
    sys.exit(main())
