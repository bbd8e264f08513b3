"""Swap faces in photos and videos with a trained run.

    python swap.py RUN PHOTO OUT            a photo of A gets B's face
    python swap.py RUN VIDEO OUT            a video (with its sound), or an animated GIF, WebP, PNG
    python swap.py RUN FOLDER OUT_FOLDER    all images and videos of a folder

RUN is the folder that train.py wrote. Faces are detected automatically. If you have landmarks, pass
them with --landmarks: a CSV (file,width,height,x0,y0,...,x67,y67), a folder of extracted faces, or
faceswap's alignments. Files without a face are copied unchanged and counted.
"""
import argparse
import logging
import pathlib
import sys
import time

import nn
from data.blending.paste import Blending
from data.geometry.color import TRANSFERS
from data.media.animation import ANIMATION_SUFFIXES, Animation
from data.media.frame_source import failure, list_source_files, open_media, passed_over
from data.media.image_io import IMAGE_SUFFIXES, DecodedImage, ImageError
from data.media.video import VIDEO_SUFFIXES
from data.support.cli import Parser, number, print_line, run_command
from data.support.errors import UserError
from data.support.progress import duration
from gan.plugins import load_plugins
from gan.run.checkpoint import CHECKPOINT_KINDS
from gan.swapper import SwapError, Swapper
from gan.swapping.recognition import direction_hint
from gan.swapping.files import SwapSettings, copy_unchanged, swap_file, writable_name

FACES_COMPARED = 16  # faces of a folder that are compared with those that the run learned from


def parse(arguments=None):
    """Parse the command line into a namespace. Exits with code 2 if it is invalid."""
    parser = Parser(prog="swap.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    load_plugins(parser, arguments)
    parser.add_argument("run", metavar="RUN", help="the run folder that train.py wrote")
    parser.add_argument("input", metavar="INPUT", type=pathlib.Path,
                        help="an image, a video, an animated image, or a folder")
    parser.add_argument("output", metavar="OUTPUT", type=pathlib.Path,
                        help="a file of the same kind, or a folder, which is created")
    parser.add_argument("--direction", choices=("ab", "ba"), default="ab",
                        help="ab: put B's face on images of A; ba: A's face on images of B (default: %(default)s)")
    parser.add_argument("--faces", type=_faces, metavar="largest|all|N",
                        help="faces to swap in each image: the largest, all, or the N largest "
                        "(default: largest; with --landmarks: all that are listed)")
    parser.add_argument("--preview", action="store_true",
                        help="also write OUTPUT.preview.png: input, swapped region, result")
    parser.add_argument("--watermark", action="store_true", help="put a visible watermark, 'synthetic media', "
                        "into a corner of each swapped image and of every frame of a video")
    parser.add_argument("--landmarks", metavar="FILE", type=pathlib.Path, help="use these landmarks: a CSV, a folder "
                        "of extracted faces, or .fsa alignments (default: detect the faces)")
    parser.add_argument("--checkpoint", choices=CHECKPOINT_KINDS, default="best", help="weights to use: those with "
                        "the lowest validation error, or the last (default: %(default)s)")
    blending = parser.add_argument_group("blending")
    blending.add_argument("--color", choices=TRANSFERS, default=Blending.color,
                          help="color transfer to the image: lab matches mean and spread of the colors, mkl also "
                          "their correlations (default: %(default)s)")
    blending.add_argument("--seamless", action="store_true",
                          help="blend the colors of the image at the border into the face (Poisson blending)")
    for name, low, high, what in (
            ("sharpen", 0, 3, "amount of sharpening of the generated face"),
            ("erode", -0.3, 0.3, "shrink the mask by this fraction of the face's size; below 0: grow it"),
            ("feather", 0, 0.5, "width of the feathered mask border, as a fraction of the face's size"),
            ("grain", 0, 2, "amount of the image's grain to add to the face")):
        blending.add_argument(f"--{name}", type=number(float, low, high), default=getattr(Blending, name),
                              metavar="X", help=f"{what}, {low} to {high} (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=number(int, 1, 1024),
                        help="number of CPU threads (default: all cores)")
    options = parser.parse_args(arguments)
    if options.input.resolve() == options.output.resolve():
        parser.error(f"INPUT and OUTPUT are both {options.input}; choose another OUTPUT: "
                     "the original is never overwritten")
    options.faces = options.faces or ("all" if options.landmarks else 1)
    return options


def _faces(text):
    named = {"largest": 1, "all": "all"}
    return named[text] if text in named else number(int, 1, 1000)(text)


def open_input(source, target):
    """Open INPUT and check that OUTPUT is of the same kind.

    Returns the file as data.media.frame_source.open_media does, or None for a folder. Raises ImageError
    or VideoError.
    """
    if not source.exists():
        raise ImageError(f"{source} does not exist; check the path")
    if not target.parent.is_dir():
        raise ImageError(f"the folder {target.parent} does not exist; create it first")
    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise ImageError(f"{target} is a file; if INPUT is a folder, OUTPUT should be a folder")
        return None
    if source.suffix.lower() not in VIDEO_SUFFIXES + IMAGE_SUFFIXES:
        raise ImageError(f"{source} is not an image or a video by its suffix ('{source.suffix}'); "
                         "convert it, for example to .png or .mp4")
    media = open_media(source)
    kinds, what = ((IMAGE_SUFFIXES, "an image") if isinstance(media, DecodedImage)
                   else (ANIMATION_SUFFIXES, "an animated image") if isinstance(media, Animation)
                   else (VIDEO_SUFFIXES, "a video"))
    if target.suffix.lower() not in kinds:
        suffix = pathlib.Path(writable_name(media)).suffix
        raise ImageError(f"{target} is not {what} file name; give OUTPUT the suffix {suffix}")
    return media


def swap_single(settings, media, target, shown):
    """Swap one file and print the result. Returns the exit code. shown: list that receives a swapped Face."""
    if settings.landmarks and isinstance(media, DecodedImage) and not settings.known_landmarks(media.path):
        raise SwapError(f"{settings.landmarks} has no row for it; add its 68 landmarks, or omit --landmarks")
    started = time.monotonic()
    result = swap_file(settings, media, target)
    seconds = time.monotonic() - started
    shown.append(result.first)
    for note in result.notes:
        print_line(f"{target}: {note}")
    if result.frames > 1:
        print_line(f"{target}: {result.with_faces} of {result.frames} frames swapped, "
                   f"{result.frames - result.with_faces} without a face copied unchanged; {duration(seconds)}, "
                   f"{result.frames / seconds:.1f} frames per second")
    elif result.faces:
        print_line(f"{target}: {result.faces} face{'s' if result.faces > 1 else ''} swapped")
    if not result.faces:
        copy_unchanged(media.path, target)
        print_line(f"{target}: no face found; {media.path} was copied unchanged")
    return 0


def swap_folder(settings, folder, target, shown):
    """Swap all images and videos of a folder. shown: list that receives a swapped Face of each.

    Returns the exit code: 1 if all files failed, or nothing was swapped although --landmarks was given;
    3 if some files failed; else 0.
    """
    sources = list_source_files(folder)
    target.mkdir(exist_ok=True)
    swapped = unchanged = failed = 0
    for source in sources:
        try:
            media = open_media(source)
            output = target / writable_name(media)
            result = swap_file(settings, media, output)
            if not result.faces:
                copy_unchanged(source, target / source.name)
        except (UserError, OSError, MemoryError) as error:
            print_line(f"swap: {source}: {failure(source, error)}", file=sys.stderr)
            failed += 1
            continue
        if result.faces and output.name != source.name:
            result.notes.append(f"written as {output.suffix}, because {source.suffix} files can only be read")
        for note in result.notes:
            print_line(f"{output}: {note}")
        if len(shown) < FACES_COMPARED:
            shown.append(result.first)
        swapped += bool(result.faces)
        unchanged += not result.faces
    if line := passed_over(folder):
        print_line(f"{folder}: {line}")
    print_line(f"{target}: {swapped} swapped, {unchanged} without a face copied unchanged, {failed} failed")
    if failed:
        return 3 if swapped or unchanged else 1
    return 1 if settings.landmarks and not swapped else 0


def main(arguments=None):
    """Run the command line.

    Returns the exit code: 0 done, 1 failed, 3 some files of a folder failed, 130 or 143 interrupted.
    """
    options = parse(arguments)
    logging.basicConfig(format="swap: %(message)s", level=logging.WARNING)
    if options.threads:
        nn.set_threads(options.threads)
    return run_command("swap", lambda: _swap(options), "interrupted; no incomplete file was left behind")


def _swap(options):
    """Swap the input and print a hint on the direction. Returns the exit code."""
    shown = []
    try:
        media = open_input(options.input, options.output)
        blending = Blending(options.color, options.seamless, options.sharpen, options.erode, options.feather,
                            options.grain)
        swapper = Swapper.load(options.run, blending, options.checkpoint)
        settings = SwapSettings(swapper, options.direction, options.faces, options.landmarks, options.preview,
                                options.watermark)
        if media is None:
            code = swap_folder(settings, options.input, options.output, shown)
        else:
            code = swap_single(settings, media, options.output, shown)
    except (SwapError, MemoryError) as error:
        print_line(f"swap: {options.input}: {failure(options.input, error)}", file=sys.stderr)
        return 1
    hint = direction_hint(options.run, options.direction, [face for face in shown if face is not None])
    if hint:
        print_line(f"swap: {hint}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
