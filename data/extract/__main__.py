"""Photographs or a clip in, a folder of aligned faces out: the first step of every swap.

    picture --finder--> points --> good enough? new? --align--> face PNG --likeness--> a folder a person

    python -m data.extract INPUT FOLDER                  INPUT: a picture, a folder of pictures and clips, or a clip
    python -m data.extract INPUT FOLDER --drop 3,17      put faces aside by their numbers on the sheet FOLDER/faces.png
    python -m data.extract INPUT FOLDER --correct CSV    anew, with boxes or points given by hand (data/extract/corrections.py)

A face is kept as a picture of 256 pixels that shows all that training will look at, with the source's name, its points and
the transform that led there (data/interchange/face_png.py), so that it trains as well as the source itself and can be put back. What
FOLDER holds afterwards is said in data/extract/face_folder.py. The same command replaces what it wrote before; faces dropped by
number stay dropped.
"""
import argparse
import pathlib
import sys

from data.detection.face_analyzer import FinderError
from data.extract.corrections import CorrectionError, read_corrections
from data.extract.face_folder import SHEET, ExtractError, FaceFolder
from data.extract.pipeline import EVERY, FORMATS, SIZE, Settings, count_noun, extract
from data.extract.quality_filter import SMALLEST
from data.media.frame_source import SourceError, SourceFault
from data.support.cli import Parser, exit_code, interruptible, number
from data.support.progress import Progress


def parse(arguments=None):
    """The command line as a namespace; ends with code 2 for one that makes no sense."""
    parser = Parser(prog="python -m data.extract", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    # fmt: off
    add("input", metavar="INPUT", type=pathlib.Path, help="a picture, a folder of pictures and clips, or a clip")
    add("folder", metavar="FOLDER", type=pathlib.Path, help="gets the faces; made if need be")
    add("--size", metavar="PX", type=number(int, 64, 2048), default=SIZE, help="side of a face's picture (default: "
        "%(default)s)")
    add("--every", metavar="K", type=number(int, 1), default=EVERY, help="look at every K-th frame of a clip (default: "
        "%(default)s)")
    add("--smallest", metavar="PX", type=number(float, 12), default=SMALLEST, help="the smallest face that is kept, brow to "
        "chin in pixels (default: %(default)g)")
    add("--correct", metavar="CSV", type=pathlib.Path, help="boxes or points by hand: file[,frame],left,top,right,bottom or "
        "file[,frame],x0,y0,...,x67,y67")
    add("--drop", metavar="N,N", type=_numbers, help="put the faces with these numbers on the sheet aside")
    add("--format", choices=FORMATS, default="png", help="png: our own (default); dfl: DeepFaceLab's aligned JPEGs; fsa: "
        "faceswap's alignments file beside our own")
    # fmt: on
    options = parser.parse_args(arguments)
    if options.input.resolve() == options.folder.resolve():
        parser.error(f"INPUT and FOLDER are both {options.input}; choose another FOLDER, nothing is mixed with the pictures")
    return options


def _numbers(text):
    """An argparse type: '3,17' -> {3, 17}"""
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"expected numbers such as 3,17, got {text!r}")
    return {int(part) for part in text.split(",")}


def main(arguments=None):
    """Command line. Returns the exit code: 0 done, 1 it could not be done, 130 or 143 interrupted."""
    options = parse(arguments)
    try:
        with interruptible():
            if options.drop and not drop(options):
                return 0
            run(options)
    except (ExtractError, SourceError, CorrectionError, FinderError, *SourceFault, OSError) as error:
        print(f"extract: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        print(f"extract: interrupted; what was found until then is in {options.folder}", file=sys.stderr)
        return exit_code(interruption)
    return 0


def drop(options):
    """Put faces aside by their numbers. Returns whether there is more to do: with corrections everything is extracted
    anew."""
    faces = FaceFolder(options.folder)
    if faces.entries is None:
        raise ExtractError(f"{options.folder} holds no faces yet; extract first, look at its {SHEET}, then drop by number")
    faces.drop(options.drop)
    print(f"{options.folder}: {count_noun(len(options.drop), 'face')} dropped")
    return options.correct is not None


def run(options):
    """Extract, and say how it went."""
    corrections = read_corrections(options.correct) if options.correct else {}
    settings = Settings(options.size, options.every, options.smallest, options.format, corrections, keep_part=True)
    line = Progress("pictures")
    try:
        faces, summary = extract(
            options.input,
            options.folder,
            settings,
            lambda done, expected, kept: line.show(done, expected, count_noun(kept, "face")),
            lambda words: (line.end(), print(f"extract: {words}", file=sys.stderr, flush=True)),
        )
    finally:
        line.end()
    for words in summary.lines(faces.path):
        print(words)
    print(f"{faces.path}: {count_noun(sum(summary.people), 'face')}; look at {faces.path / SHEET}")


if __name__ == "__main__":
    sys.exit(main())
