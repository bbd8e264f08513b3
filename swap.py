"""Put the other person's face on pictures.

    python swap.py RUN PHOTO OUT --landmarks CSV        a picture of A gets B's face
    python swap.py RUN FOLDER OUT_FOLDER --landmarks CSV --direction ba

RUN is the folder that train.py wrote. The CSV has a row for each face: file,width,height,x0,y0,...,x67,y67, files relative to
the CSV. Pictures of a folder without a row pass unchanged and are counted.
"""
import argparse
import logging
import pathlib
import sys

from data.cli import Parser
from data.faceset import FaceSetError, landmark_fault, read_landmarks
from data.image_io import PICTURE_SUFFIXES, DigitalSource, PictureError, list_pictures, read_picture, save_picture, write_whole
from gan.checkpoint import RunError
from gan.swapper import SwapError, Swapper

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


def parse(arguments=None):
    """The command line as a namespace; ends with code 2 for one that makes no sense."""
    parser = Parser(prog="swap.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the folder of a trained run")
    parser.add_argument("input", metavar="INPUT", type=pathlib.Path, help="a picture, or a folder of pictures")
    parser.add_argument("output", metavar="OUTPUT", type=pathlib.Path, help="a picture, or a folder, which is made")
    parser.add_argument("--direction", choices=("ab", "ba"), default="ab", help="ab: pictures of A get B's face (default)")
    parser.add_argument("--landmarks", metavar="CSV", type=pathlib.Path, required=True, help="where the faces are")
    options = parser.parse_args(arguments)
    if options.input.resolve() == options.output.resolve():
        parser.error(f"INPUT and OUTPUT are both {options.input}; choose another OUTPUT, the original is not overwritten")
    return options


def faces_by_picture(table, folder):
    """{resolved path: [(stated size, landmarks), ...]} of the CSV's rows for pictures in the folder."""
    rows, skipped = read_landmarks(table, folder)
    for file, reason in skipped:
        print(f"swap: {file}: {reason}", file=sys.stderr)
    faces = {}
    for file, width, height, landmarks in rows:
        faces.setdefault((table.parent / file).resolve(), []).append(((width, height), landmarks))
    return faces


def swap_picture(swapper, source, target, faces, direction):
    """Swap all listed faces of one picture file. Returns notes for the user. Raises PictureError or SwapError."""
    picture = read_picture(source)
    pixels, notes = picture.pixels, list(picture.notes)
    for stated, landmarks in faces:
        fault = landmark_fault(landmarks, stated, pixels.shape[:2])
        if fault:
            raise SwapError(f"its row in the CSV cannot be used: {fault}")
        pixels = swapper.swap(pixels, landmarks, direction)
    return notes + save_picture(target, pixels, DigitalSource.COMPOSITE, alpha=picture.alpha)


def swap_one(swapper, options):
    """One picture. Returns the exit code."""
    if options.output.suffix.lower() not in PICTURE_SUFFIXES:
        raise PictureError(f"{options.output} is not a picture's name; OUTPUT should end like {options.input.name}")
    faces = faces_by_picture(options.landmarks, options.input.parent).get(options.input.resolve())
    if not faces:
        raise SwapError(f"{options.landmarks} has no row for {options.input}; add its 68 landmarks")
    for note in swap_picture(swapper, options.input, options.output, faces, options.direction):
        print(f"{options.output}: {note}")
    print(f"{options.output}: {len(faces)} face{'s' if len(faces) > 1 else ''} swapped")
    return 0


def swap_folder(swapper, options):
    """All pictures of a folder. Returns the exit code: 1 if there is nothing to show for it."""
    pictures = list_pictures(options.input)
    if not pictures:
        raise PictureError(f"the folder {options.input} holds no pictures")
    faces = faces_by_picture(options.landmarks, options.input)
    if options.output.exists() and not options.output.is_dir():
        raise PictureError(f"{options.output} is a file; for a folder as INPUT, OUTPUT should be a folder")
    options.output.mkdir(exist_ok=True)
    swapped = unchanged = failed = 0
    for source in pictures:
        target = options.output / source.name
        found = faces.get(source.resolve())
        try:
            if found:
                for note in swap_picture(swapper, source, target, found, options.direction):
                    print(f"{target}: {note}")
                swapped += 1
            else:
                write_whole(target, source.read_bytes())
                unchanged += 1
        except (PictureError, SwapError) as error:
            print(f"swap: {source}: {error}", file=sys.stderr)
            failed += 1
    print(f"{options.output}: {swapped} swapped, {unchanged} without a face in the CSV passed unchanged, {failed} failed")
    return 0 if swapped else 1


def main(arguments=None):
    """Command line. Returns the exit code: 0 done, 1 it could not be done."""
    options = parse(arguments)
    logging.basicConfig(format="swap: %(message)s", level=logging.WARNING)
    try:
        if not options.input.exists():
            raise PictureError(f"{options.input} does not exist; check the path")
        if options.input.suffix.lower() in VIDEO_SUFFIXES:
            raise PictureError(f"{options.input} is a video; take it apart into pictures first, and list their landmarks")
        if not options.output.parent.is_dir():
            raise PictureError(f"the folder {options.output.parent} does not exist; create it first")
        swapper = Swapper.load(options.run)
        return (swap_folder if options.input.is_dir() else swap_one)(swapper, options)
    except SwapError as error:
        print(f"swap: {options.input}: {error}", file=sys.stderr)
        return 1
    except (RunError, FaceSetError, PictureError, OSError) as error:
        print(f"swap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("swap: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
