"""Put the other person's face on photos and clips.

    python swap.py RUN PHOTO OUT            a picture of A gets B's face
    python swap.py RUN CLIP OUT             a video, or an animated GIF, WebP or PNG; the sound stays
    python swap.py RUN FOLDER OUT_FOLDER    all pictures and clips of a folder

RUN is the folder that train.py wrote. Faces are found; where you know better, --landmarks names a CSV (file,width,height,
x0,y0,...,x67,y67), a folder of extracted faces, or faceswap's alignments. What holds no face passes unchanged and is counted.
"""
import argparse
import logging
import pathlib
import sys
import time

import nn
from data.blending.paste import Blending
from data.detection.face_analyzer import FinderError
from data.geometry.color import TRANSFERS
from data.media.animation import ANIMATION_SUFFIXES
from data.media.ffmpeg import VideoError
from data.media.frame_source import SourceError, files_of
from data.media.image_io import PICTURE_SUFFIXES, PictureError
from data.media.video import VIDEO_SUFFIXES
from data.support.cli import Parser, exit_code, interruptible, number
from data.support.errors import FaceSetError
from data.support.progress import duration
from gan.run.checkpoint import WHICH, RunError
from gan.swapper import SwapError, Swapper
from gan.swapping.files import Task, is_clip, swap_file

TROUBLES = (RunError, FaceSetError, PictureError, SourceError, VideoError, FinderError, OSError)


def parse(arguments=None):
    """The command line as a namespace; ends with code 2 for one that makes no sense."""
    parser = Parser(prog="swap.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the folder of a trained run")
    parser.add_argument("input", metavar="INPUT", type=pathlib.Path, help="a picture, a video, an animated picture, or a folder")
    parser.add_argument("output", metavar="OUTPUT", type=pathlib.Path, help="of the same kind; a folder is made")
    parser.add_argument("--direction", choices=("ab", "ba"), default="ab", help="ab: pictures of A get B's face (default)")
    parser.add_argument("--faces", type=_faces, metavar="largest|all|N", help="which faces of each picture (default: largest; "
                        "all that are listed with --landmarks)")
    parser.add_argument("--landmarks", metavar="FILE", type=pathlib.Path, help="where the faces are: a CSV, a folder of "
                        "extracted faces, or .fsa alignments (default: they are found)")
    parser.add_argument("--preview", action="store_true", help="write OUTPUT.preview.png: input, what is replaced, result")
    parser.add_argument("--mark", action="store_true", help="put a small mark, 'synthetic media', into a corner of what is swapped, on "
                        "every frame of a clip")
    parser.add_argument("--checkpoint", choices=WHICH, default="best", help="whose weights draw: those that drew held-out faces "
                        "best, or the last ones (default: %(default)s)")
    look = parser.add_argument_group("how the face is put back")
    look.add_argument("--colour", choices=TRANSFERS, default=Blending.colour, help="colour transfer (default: %(default)s)")
    look.add_argument("--seamless", action="store_true", help="carry the colours at the border into the face (Poisson)")
    for name, low, high, what in (("sharpen", 0, 3, "show more of the finest detail"),
                                  ("erode", -0.3, 0.3, "move the outline inwards, in sizes of the face"),
                                  ("feather", 0, 0.5, "width of the soft border, in sizes of the face"),
                                  ("grain", 0, 2, "add the picture's grain to the face")):
        look.add_argument(f"--{name}", type=number(float, low, high), default=getattr(Blending, name), metavar="X",
                          help=f"{what}, {low} to {high} (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=number(int, 1, 1024), help="CPU threads (default: all cores)")
    options = parser.parse_args(arguments)
    if options.input.resolve() == options.output.resolve():
        parser.error(f"INPUT and OUTPUT are both {options.input}; choose another OUTPUT, the original is not overwritten")
    options.faces = options.faces or ("all" if options.landmarks else 1)
    return options


def _faces(text):
    named = {"largest": 1, "all": "all"}
    return named[text] if text in named else number(int, 1, 1000)(text)


def check_kinds(source, target):
    """INPUT and OUTPUT must be of one kind. Raises PictureError."""
    if not source.exists():
        raise PictureError(f"{source} does not exist; check the path")
    if not target.parent.is_dir():
        raise PictureError(f"the folder {target.parent} does not exist; create it first")
    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise PictureError(f"{target} is a file; for a folder as INPUT, OUTPUT should be a folder")
        return
    suffix = source.suffix.lower()
    if suffix not in VIDEO_SUFFIXES + PICTURE_SUFFIXES:
        raise PictureError(f"{source} is neither a picture nor a video by its name ('{source.suffix}')")
    kinds = VIDEO_SUFFIXES if suffix in VIDEO_SUFFIXES else ANIMATION_SUFFIXES if is_clip(source) else PICTURE_SUFFIXES
    if target.suffix.lower() not in kinds:
        what = "video" if kinds == VIDEO_SUFFIXES else "animated picture" if kinds == ANIMATION_SUFFIXES else "picture"
        raise PictureError(f"{target} is not {'an' if what[0] == 'a' else 'a'} {what}'s name; OUTPUT should end like {source.name}")


def swap_one(task, source, target):
    """One file. Returns the exit code."""
    if task.landmarks and not is_clip(source) and not task.known(source):
        raise SwapError(f"{task.landmarks} has no row for it; add its 68 landmarks, or leave --landmarks out")
    began = time.monotonic()
    outcome = swap_file(task, source, target)
    seconds = time.monotonic() - began
    for note in outcome.notes:
        print(f"{target}: {note}")
    if outcome.frames > 1:
        print(f"{target}: {outcome.with_faces} of {outcome.frames} frames swapped, {outcome.frames - outcome.with_faces} without a "
              f"face passed unchanged; {duration(seconds)}, {outcome.frames / seconds:.1f} frames a second")
    elif outcome.faces:
        print(f"{target}: {outcome.faces} face{'s' if outcome.faces > 1 else ''} swapped")
    if not outcome.faces:
        print(f"{target}: no face found, so it is the same as {source}")
    return 0


def swap_folder(task, folder, target):
    """All pictures and clips of a folder. Returns the exit code: 1 if there is nothing to show for it."""
    sources = files_of(folder)
    target.mkdir(exist_ok=True)
    swapped = unchanged = failed = 0
    for source in sources:
        try:
            outcome = swap_file(task, source, target / source.name)
        except (SwapError, *TROUBLES) as error:
            print(f"swap: {source}: {error}", file=sys.stderr)
            failed += 1
            continue
        for note in outcome.notes:
            print(f"{target / source.name}: {note}")
        swapped += bool(outcome.faces)
        unchanged += not outcome.faces
    print(f"{target}: {swapped} swapped, {unchanged} without a face passed unchanged, {failed} failed")
    return 0 if swapped or not (failed or task.landmarks) else 1


def main(arguments=None):
    """Command line. Returns the exit code: 0 done, 1 it could not be done, 130 or 143 interrupted."""
    options = parse(arguments)
    logging.basicConfig(format="swap: %(message)s", level=logging.WARNING)
    if options.threads:
        nn.kernels.cpu.parallel.set_threads(options.threads)
    try:
        with interruptible():
            check_kinds(options.input, options.output)
            blending = Blending(options.colour, options.seamless, options.sharpen, options.erode, options.feather, options.grain)
            swapper = Swapper.load(options.run, blending, options.checkpoint)
            task = Task(swapper, options.direction, options.faces, options.landmarks, options.preview, options.mark)
            return (swap_folder if options.input.is_dir() else swap_one)(task, options.input, options.output)
    except SwapError as error:
        print(f"swap: {options.input}: {error}", file=sys.stderr)
        return 1
    except TROUBLES as error:
        print(f"swap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        print("swap: interrupted; nothing half-written is left", file=sys.stderr)
        return exit_code(interruption)


if __name__ == "__main__":
    sys.exit(main())
