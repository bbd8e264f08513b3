"""Extract aligned faces from photos or videos into a folder: the first step of every face swap.

    image --detect, landmarks--> quality filter --align--> face PNG --embedding--> folder per person

An extracted face is by default an image of 256 pixels that shows everything training needs. It
carries the name of its source, the landmarks and the transform from the source
(data/interchange/face_png.py). So it trains as well as the source itself, and can be pasted back.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data.detection.embedding import SAME_PERSON_THRESHOLD, FaceEmbedder, group
from data.detection.face_analyzer import FaceAnalyzer
from data.extract.corrections import corrected_landmarks
from data.extract.face_folder import DROPPED, SORTED_OUT, ExtractError, FaceFolder
from data.extract.quality_filter import MIN_SIZE, Duplicates, reject_reason, sharpness
from data.geometry.alignment import warp
from data.geometry.padded_crop import PADDED_CROP_EXTENT, padded_crop_transform
from data.interchange.face_png import FaceRecord
from data.media.frame_source import FrameSource

SIZE = 256  # pixels, side of a face image
EVERY = 5  # every 5th frame of a video is searched
FORMATS = ("png", "dfl", "fsa")
_DUPLICATE = "duplicate"
_MAX_CLUSTERED = 600  # faces clustered at a time by their pairwise similarities
_MANY_FACES = 1000  # grouping this number of faces by person takes seconds


@dataclass(frozen=True)
class ExtractionSettings:
    """How faces are extracted."""

    size: int = SIZE  # pixels, side of a face image
    every: int = EVERY  # search every N-th frame of a video
    min_size: float = MIN_SIZE  # pixels; smaller faces are rejected
    format: str = "png"  # one of FORMATS
    corrections: dict = field(default_factory=dict)  # see read_corrections
    keep_partial: bool = False  # after an interruption, keep the faces found so far


@dataclass
class Summary:
    """The result of an extraction, in numbers."""

    searched: int = 0  # number of images and frames
    without_face: int = 0  # how many of them show no face
    duplicates: int = 0
    sorted_out: Counter = field(default_factory=Counter)  # rejected faces by reason
    people: list = field(default_factory=list)  # number of faces of each person, the highest first
    unreadable: list = field(default_factory=list)  # (file, reason)

    def lines(self, folder):
        """Return the summary as lines of text. folder: the output folder."""
        lines = [f"{count_noun(self.searched, 'image')} searched, {self.without_face} without a face"]
        lines += [f"  {file}: {reason}" for file, reason in self.unreadable[:10]]
        if len(self.unreadable) > 10:
            lines.append(f"  and {len(self.unreadable) - 10} more files that cannot be read")
        if len(self.people) > 1:
            shown = [f"person_{k} with {count_noun(faces, 'face')}" for k, faces in enumerate(self.people[:8], start=1)]
            more = f" and {len(self.people) - 8} more" if len(self.people) > 8 else ""
            lines.append(f"found {len(self.people)} people: {', '.join(shown)}{more}")
        if self.sorted_out:
            lines.append(f"rejected {self.reasons()}; see {folder / SORTED_OUT}")
        if self.duplicates:
            lines.append(f"skipped {count_noun(self.duplicates, 'near duplicate')}")
        return lines

    def reasons(self):
        """Return the rejected faces by reason, as text: '3 blurred, 1 tiny'."""
        return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in self.sorted_out.most_common())


def extract(source, folder, settings=ExtractionSettings(), progress=lambda *state: None, say=lambda line: None):
    """Extract the faces of images or videos into a folder.

    source: path of an image, a video, or a folder of these
    folder: see FaceFolder
    progress: called with the number of images searched, about how many there are, and the number of
              accepted faces
    say: called with a line for the user if an interruption takes time to finish
    Returns (FaceFolder, Summary). Raises ExtractError if no good face is found; then the folder is
    unchanged, or holds the rejected faces. Any other error leaves the folder unchanged, and so does
    an interruption without settings.keep_partial.
    """
    frames = FrameSource(source, settings.every, settings.corrections)
    analyzer, embedder, faces = FaceAnalyzer.load(), FaceEmbedder.load(), FaceFolder(folder, settings.format)
    summary, duplicates, embeddings = Summary(), Duplicates(), []
    faces.begin()
    try:
        try:
            for frame in frames:
                found = _detect(frame, analyzer, settings.corrections)
                summary.searched += 1
                summary.without_face += not found
                for landmarks, score in found:
                    reason = _reject_reason(faces, duplicates, frame, landmarks, score, settings.min_size)
                    if reason == _DUPLICATE:
                        summary.duplicates += 1
                        continue
                    _save(faces, frame, landmarks, score, reason, settings)
                    if reason is None:
                        embeddings.append(embedder.embed(frame.pixels, landmarks))
                progress(summary.searched, frames.expected, len(embeddings))
        except KeyboardInterrupt:
            if settings.keep_partial and faces.added:
                if faces.added >= _MANY_FACES:
                    say(f"interrupted; saving the {faces.added} faces found so far (Ctrl-C again quits without them)")
                faces.finish(_group_by_person(embeddings))
            raise
        summary.unreadable = frames.unreadable
        _finish(faces, embeddings, summary, source)
    except BaseException:
        faces.abandon()
        raise
    return faces, summary


def _detect(frame, analyzer, corrections):
    """Return [(landmarks (68, 2), score), ...] of a Frame, the largest face first.

    A face given by hand has score None.
    """
    by_hand = corrections.get((frame.file, frame.frame))
    if by_hand is not None:
        return [(corrected_landmarks(shape, frame.pixels, analyzer), None) for shape in by_hand]
    return [(face.landmarks, face.score) for face in analyzer.detect(frame.pixels)]


def _reject_reason(faces, duplicates, frame, landmarks, score, min_size):
    """Return why a face is rejected, or None.

    A face given by hand is always accepted, even if it was dropped before.
    """
    if score is None:
        duplicates.check_and_add(frame.pixels, landmarks)
        return None
    if faces.was_dropped(frame.file, frame.frame, landmarks):
        return DROPPED
    reason = reject_reason(frame.pixels, landmarks, score, min_size)
    return _DUPLICATE if reason is None and duplicates.check_and_add(frame.pixels, landmarks) else reason


def _save(faces, frame, landmarks, score, reason, settings):
    """Align a face and add it to the folder."""
    transform = padded_crop_transform(landmarks, settings.size / PADDED_CROP_EXTENT, settings.size)
    aligned = np.rint(warp(frame.pixels, transform, settings.size) * 255).astype(np.uint8)
    height, width = frame.pixels.shape[:2]
    score, sharp = 1.0 if score is None else score, sharpness(frame.pixels, landmarks)
    record = FaceRecord(
        frame.file, (width, height), transform, landmarks, score, sharp, frame.digest, frame.frame, frame.time
    )  # fmt: skip
    faces.add(aligned, record, frame.label, reason)


def _finish(faces, embeddings, summary, source):
    """Group the faces by person and write the folder.

    Raises ExtractError if there is no good face.
    """
    searched = count_noun(summary.searched, "image") + " searched" + _unreadable_phrase(summary.unreadable)
    if not faces.added:
        raise ExtractError(
            f"no face found in {source} ({searched}); use images with an upright face of at least {MIN_SIZE:.0f} "
            "pixels, or mark the faces by hand (python -m data.extract --corrections CSV)"
        )
    labels = _group_by_person(embeddings)
    faces.finish(labels)
    summary.people, summary.sorted_out = np.bincount(labels).tolist(), faces.count_sorted_out()
    if not embeddings:
        raise ExtractError(
            f"no good face found in {source} ({searched}; rejected {summary.reasons()}); "
            f"see {faces.path / SORTED_OUT}, and use sharper or larger images"
        )


def _group_by_person(embeddings):
    """Cluster embeddings [(D,), ...] by person. Returns the people's numbers (n,) int.

    Number 0 is the person with the most faces.

    The time of clustering grows at least with the square of the number of faces. So of many faces,
    an evenly spaced sample is clustered, the others join the most similar person, and those similar
    to no person are clustered among themselves.
    """
    embeddings = np.stack(embeddings) if embeddings else np.zeros((0, 1), np.float32)
    labels, left, people = np.full(len(embeddings), -1), np.arange(len(embeddings)), 0
    while len(left):
        chosen = left[np.unique(np.linspace(0, len(left) - 1, min(len(left), _MAX_CLUSTERED)).round().astype(int))]
        labels[chosen] = group(embeddings[chosen]) + people
        left = np.flatnonzero(labels < 0)
        found = range(people, labels.max() + 1)
        people = labels.max() + 1
        if len(left):
            means = np.stack([embeddings[chosen][labels[chosen] == person].mean(axis=0) for person in found])
            similarity = embeddings[left] @ means.T  # (faces left, people found)
            best = similarity.argmax(axis=1) + found.start
            labels[left] = np.where(similarity.max(axis=1) >= SAME_PERSON_THRESHOLD, best, -1)
            left = np.flatnonzero(labels < 0)
    order = np.argsort(-np.bincount(labels, minlength=people), kind="stable")
    return np.argsort(order)[labels]


def _unreadable_phrase(unreadable):
    """Return the number of unreadable files and the first of them, for the end of a message."""
    return f"; {len(unreadable)} cannot be read, first {unreadable[0][0]}: {unreadable[0][1]}" if unreadable else ""


def count_noun(number, word):
    """Return a number with its noun: '1 face', '2 faces'."""
    return f"{number} {word}{'' if number == 1 else 's'}"
