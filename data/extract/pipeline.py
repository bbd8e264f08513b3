"""Photos or a video in, a folder of aligned faces out: the first step of every swap.

    image --detector, landmarks--> quality filter --align--> face PNG --embedding--> a folder for each person
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data.detection.embedding import SAME, Identity, group
from data.detection.face_analyzer import Finder
from data.extract.corrections import points_of
from data.extract.face_folder import DROPPED, PUT_ASIDE, ExtractError, FaceFolder
from data.extract.quality_filter import SMALLEST, Duplicates, fault, sharpness
from data.geometry.alignment import warp
from data.geometry.padded_crop import COVERAGE, canvas_transform
from data.interchange.face_png import FaceRecord
from data.media.frame_source import Source

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
        lines = [f"{count_noun(self.looked_at, 'picture')} looked at, {self.without} without a face"]
        lines += [f"  {file}: {reason}" for file, reason in self.unreadable[:10]]
        if len(self.unreadable) > 10:
            lines.append(f"  and {len(self.unreadable) - 10} more that cannot be read")
        if len(self.people) > 1:
            shown = [f"person_{k} with {count_noun(faces, 'face')}" for k, faces in enumerate(self.people[:8], start=1)]
            more = f" and {len(self.people) - 8} more" if len(self.people) > 8 else ""
            lines.append(f"{len(self.people)} people seem to be seen: {', '.join(shown)}{more}")
        if self.put_aside:
            lines.append(f"put aside into {folder / PUT_ASIDE}: {self.reasons()}")
        if self.duplicates:
            lines.append(f"{count_noun(self.duplicates, 'near duplicate')} left out")
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
    looked = count_noun(summary.looked_at, "picture") + " looked at" + _first(summary.unreadable)
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


def count_noun(number, word):
    return f"{number} {word}{'' if number == 1 else 's'}"
