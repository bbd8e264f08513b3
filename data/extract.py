"""Photographs or a clip in, a folder of aligned faces out: the first step of every swap.

    picture --finder--> points --> good enough? new? --align--> face PNG --likeness--> a folder a person

    python -m data.extract INPUT FOLDER                  INPUT: a picture, a folder of pictures and clips, or a clip
    python -m data.extract INPUT FOLDER --drop 3,17      put faces aside by their numbers on the sheet FOLDER/faces.png
    python -m data.extract INPUT FOLDER --correct CSV    anew, with boxes or points given by hand (data/corrections.py)

A face is kept as a picture of 256 pixels that shows all that training will look at, with the source's name, its points and
the transform that led there (data/facefile.py), so that it trains as well as the source itself and can be put back. What
FOLDER holds afterwards is said in data/facefolder.py. The same command replaces what it wrote before; faces dropped by
number stay dropped.
"""

import argparse
import pathlib
import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data.align import warp
from data.cli import Parser, exit_code, interruptible, number
from data.corrections import CorrectionError, points_of, read_corrections
from data.facefile import FaceRecord
from data.facefolder import DROPPED, PUT_ASIDE, SHEET, ExtractError, FaceFolder
from data.faceset import COVERAGE, canvas_transform
from data.finder import Finder, FinderError
from data.identity import SAME, Identity, group
from data.progress import Progress
from data.sorting import SMALLEST, Duplicates, fault, sharpness
from data.sources import Source, SourceError, SourceFault

SIZE = 256  # pixels, side of an aligned picture
EVERY = 5  # frames of a clip
FORMATS = ("png", "dfl", "fsa")
_DUPLICATE = "duplicate"
_GROUPED = 600  # faces that are grouped by all their likenesses
_MANY = 1000  # faces: to arrange so many takes seconds


@dataclass(frozen=True)
class Settings:
    """How faces are extracted. corrections: of read_corrections; keep_part: what was found before an interruption stays."""

    size: int = SIZE
    every: int = EVERY
    smallest: float = SMALLEST
    format: str = "png"
    corrections: dict = field(default_factory=dict)
    keep_part: bool = False


@dataclass
class Summary:
    """How an extraction went."""

    looked_at: int = 0  # pictures and frames
    without: int = 0  # of these, without a face
    duplicates: int = 0
    put_aside: Counter = field(default_factory=Counter)  # by reason
    people: list = field(default_factory=list)  # number of faces of each, most first
    unreadable: list = field(default_factory=list)  # (file, reason)

    def lines(self, folder):
        """It in words. folder: where the faces are."""
        lines = [f"{_count(self.looked_at, 'picture')} looked at, {self.without} without a face"]
        lines += [f"  {file}: {reason}" for file, reason in self.unreadable[:10]]
        if len(self.unreadable) > 10:
            lines.append(f"  and {len(self.unreadable) - 10} more that cannot be read")
        if len(self.people) > 1:
            shown = [f"person_{k} with {_count(faces, 'face')}" for k, faces in enumerate(self.people[:8], start=1)]
            more = f" and {len(self.people) - 8} more" if len(self.people) > 8 else ""
            lines.append(f"{len(self.people)} people seem to be seen: {', '.join(shown)}{more}")
        if self.put_aside:
            lines.append(f"put aside into {folder / PUT_ASIDE}: {self.reasons()}")
        if self.duplicates:
            lines.append(f"{_count(self.duplicates, 'near duplicate')} left out")
        return lines

    def reasons(self):
        """'3 blurred, 1 tiny'"""
        return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in self.put_aside.most_common())


def extract(given, folder, settings=Settings(), progress=lambda *state: None, say=lambda line: None):
    """Cut the faces of pictures or clips out into a folder.

    given:    path of a picture, a folder or a clip. folder: see FaceFolder.
    progress: called with the number of pictures looked at, about how many there are, and the number of faces kept.
    say:      takes a line, where an interruption cannot end it at once.
    Returns (FaceFolder, Summary). Raises ExtractError where no good face is found: the folder then is as it was, or holds
    what was put aside. Whatever else is raised, and an interruption without settings.keep_part, leaves the folder as it was.
    """
    source = Source(given, settings.every, settings.corrections)
    finder, identity, faces = Finder.load(), Identity.load(), FaceFolder(folder, settings.format)
    summary, duplicates, likenesses = Summary(), Duplicates(), []
    faces.begin()
    try:
        try:
            for shot in source:
                found = _faces_of(shot, finder, settings.corrections)
                summary.looked_at += 1
                summary.without += not found
                for landmarks, score in found:
                    reason = _reason(faces, duplicates, shot, landmarks, score, settings.smallest)
                    if reason == _DUPLICATE:
                        summary.duplicates += 1
                        continue
                    _keep(faces, shot, landmarks, score, reason, settings)
                    if reason is None:
                        likenesses.append(identity.embed(shot.pixels, landmarks))
                progress(summary.looked_at, source.expected, len(likenesses))
        except KeyboardInterrupt:
            if settings.keep_part and faces.gathered:
                if faces.gathered >= _MANY:
                    say(f"interrupted; arranges the {faces.gathered} faces found so far; once more: ends at once")
                faces.finish(_people(likenesses))
            raise
        summary.unreadable = source.unreadable
        _conclude(faces, likenesses, summary, given)
    except BaseException:
        faces.abandon()
        raise
    return faces, summary


def _faces_of(shot, finder, corrections):
    """[(landmarks (68, 2), score), ...] of a picture, largest first; the score of a face given by hand is None."""
    by_hand = corrections.get((shot.file, shot.frame))
    if by_hand is not None:
        return [(points_of(shape, shot.pixels, finder), None) for shape in by_hand]
    return [(face.landmarks, face.score) for face in finder.find(shot.pixels)]


def _reason(faces, duplicates, shot, landmarks, score, smallest):
    """Why a face is not kept, or None. One given by hand is kept, whatever it is like and whatever was dropped before."""
    if score is None:
        duplicates.seen(shot.pixels, landmarks)
        return None
    if faces.was_dropped(shot.file, shot.frame, landmarks):
        return DROPPED
    reason = fault(shot.pixels, landmarks, score, smallest)
    return _DUPLICATE if reason is None and duplicates.seen(shot.pixels, landmarks) else reason


def _keep(faces, shot, landmarks, score, reason, settings):
    """Cut a face out and write it into the folder."""
    transform = canvas_transform(landmarks, settings.size / COVERAGE, settings.size)
    aligned = np.rint(warp(shot.pixels, transform, settings.size) * 255).astype(np.uint8)
    height, width = shot.pixels.shape[:2]
    sure, sharp = 1.0 if score is None else score, sharpness(shot.pixels, landmarks)
    record = FaceRecord(
        shot.file, (width, height), transform, landmarks, sure, sharp, shot.digest, shot.frame, shot.time
    )  # fmt: skip
    faces.add(aligned, record, shot.label, reason)


def _conclude(faces, likenesses, summary, given):
    """Arrange what was found by person. Raises ExtractError where there is nothing to arrange."""
    looked = _count(summary.looked_at, "picture") + " looked at" + _first(summary.unreadable)
    if not faces.gathered:
        raise ExtractError(
            f"no face found in {given} ({looked}); give pictures that show a face of {SMALLEST:.0f} pixels or more, "
            "upright, or say where it is (python -m data.extract --correct CSV)"
        )
    labels = _people(likenesses)
    faces.finish(labels)
    summary.people, summary.put_aside = np.bincount(labels).tolist(), faces.put_aside()
    if not likenesses:
        raise ExtractError(
            f"no good face found in {given} ({looked}; {summary.reasons()}): see {faces.path / PUT_ASIDE}, and give "
            "sharper or larger pictures"
        )


def _people(likenesses):
    """Who is who: [(D,), ...] -> labels (n,) int, 0 for the person with most faces.

    Grouping takes time with the square of the number and more, so of many faces an even share is grouped, the others go to
    the person whom they are most like, and those who are like none are grouped among themselves.
    """
    directions = np.stack(likenesses) if likenesses else np.zeros((0, 1), np.float32)
    labels, left, people = np.full(len(directions), -1), np.arange(len(directions)), 0
    while len(left):
        chosen = left[np.unique(np.linspace(0, len(left) - 1, min(len(left), _GROUPED)).round().astype(int))]
        labels[chosen] = group(directions[chosen]) + people
        left = np.flatnonzero(labels < 0)
        found = range(people, labels.max() + 1)
        people = labels.max() + 1
        if len(left):
            means = np.stack([directions[chosen][labels[chosen] == person].mean(axis=0) for person in found])
            alike = directions[left] @ means.T  # (faces left, people found)
            labels[left] = np.where(alike.max(axis=1) >= SAME, alike.argmax(axis=1) + found.start, -1)
            left = np.flatnonzero(labels < 0)
    order = np.argsort(-np.bincount(labels, minlength=people), kind="stable")
    return np.argsort(order)[labels]


def _first(unreadable):
    return f"; {len(unreadable)} cannot be read, first {unreadable[0][0]}: {unreadable[0][1]}" if unreadable else ""


def _count(number, word):
    return f"{number} {word}{'' if number == 1 else 's'}"


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
    print(f"{options.folder}: {_count(len(options.drop), 'face')} dropped")
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
            lambda done, expected, kept: line.show(done, expected, _count(kept, "face")),
            lambda words: (line.end(), print(f"extract: {words}", file=sys.stderr, flush=True)),
        )
    finally:
        line.end()
    for words in summary.lines(faces.path):
        print(words)
    print(f"{faces.path}: {_count(sum(summary.people), 'face')}; look at {faces.path / SHEET}")


if __name__ == "__main__":
    sys.exit(main())
