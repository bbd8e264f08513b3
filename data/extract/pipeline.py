"""Extract aligned faces from photos or videos into a folder: the first step of every face swap.

    image --detect, landmarks--> quality filter --align--> face PNG --embedding--> folder per person

An extracted face is by default an image of 256 pixels that shows everything training needs. It
carries the name of its source, the landmarks and the transform from the source
(data/interchange/face_png.py). So it trains as well as the source itself, and can be pasted back.
"""

import pathlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from data.detection.embedding import SAME_PERSON_THRESHOLD, FaceEmbedder, group
from data.detection.face_analyzer import FaceAnalyzer
from data.extract.corrections import corrected_landmarks
from data.extract.face_folder import DROPPED, SORTED_OUT, ExtractError, FaceFolder
from data.extract.quality_filter import (DUPLICATE_THRESHOLD, MIN_SIZE, NOISE_THRESHOLD, Duplicates, features,
                                         reject_reason, sharpness, spread_sample)
from data.geometry.alignment import warp
from data.geometry.face import Face
from data.geometry.padded_crop import padded_crop_transform
from data.interchange.face_png import FaceRecord
from data.media.frame_source import FRAMES_SEARCHED, FrameSource, passed_over
from data.support.cli import printable

SIZE = 256  # pixels, side of a face image
MAX_FACES = 600  # faces taken from videos, at most: those that differ most
FORMATS = ("png", "dfl", "fsa")
_DUPLICATE = "duplicate"
_MAX_CLUSTERED = 600  # faces clustered at a time by their pairwise similarities
_MANY_FACES = 1000  # grouping this number of faces by person takes seconds


@dataclass(frozen=True)
class ExtractionSettings:
    """How faces are extracted."""

    size: int = SIZE  # pixels, side of a face image
    every: int | None = None  # search every N-th frame of a video; None: about FRAMES_SEARCHED of them
    max_faces: int = MAX_FACES  # of the faces in videos, take those that differ most
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
    failed: list = field(default_factory=list)  # (file, reason)
    notes: list = field(default_factory=list)  # (file, note)
    passed_over: str | None = None  # see data.media.frame_source.passed_over

    def lines(self, folder):
        """Return the summary as lines of text. folder: the output folder."""
        lines = [f"{count_noun(self.searched, 'image')} searched, {self.without_face} without a face"]
        for listed, more in ((self.failed, "files that failed"), (self.notes, "notes")):
            lines += [f"  {file}: {text}" for file, text in listed[:10]]
            if len(listed) > 10:
                lines.append(f"  and {len(listed) - 10} more {more}")
        if self.passed_over:
            lines.append(self.passed_over)
        if len(self.people) > 1:
            shown = [f"person_{k} with {count_noun(faces, 'face')}" for k, faces in enumerate(self.people[:8], start=1)]
            more = f" and {len(self.people) - 8} more" if len(self.people) > 8 else ""
            lines.append(f"found {len(self.people)} people: {', '.join(shown)}{more}")
        if self.sorted_out:
            lines.append(f"rejected {self.reasons()}; see {folder / SORTED_OUT}")
        if self.duplicates:
            lines.append(f"skipped {count_noun(self.duplicates, 'near duplicate')}")
        return [printable(line) for line in lines]

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
    summary, duplicates, accepted = Summary(), Duplicates(), []
    # A short video has few frames, and all that differ by more than noise are wanted.
    threshold = max(NOISE_THRESHOLD, DUPLICATE_THRESHOLD * min(1, frames.video_frames / FRAMES_SEARCHED))
    faces.begin()
    try:
        try:
            for frame in frames:
                try:
                    found = _detect(frame, analyzer, settings.corrections)
                    summary.searched += 1
                    summary.without_face += not found
                    for face in found:
                        limit = DUPLICATE_THRESHOLD if frame.frame is None else threshold
                        reason = _reject_reason(faces, duplicates, frame, face, settings.min_size, limit)
                        if reason == _DUPLICATE:
                            summary.duplicates += 1
                            continue
                        entry = _save(faces, frame, face, reason, settings.size)
                        if reason is None:
                            embedding = embedder.embed(face)
                            accepted.append((entry, embedding, features(face, embedding)))
                except MemoryError as error:
                    frames.skip(frame.path, error)
                progress(summary.searched, frames.expected, len(accepted))
        except KeyboardInterrupt:
            if settings.keep_partial and faces.added:
                if faces.added >= _MANY_FACES:
                    say(f"interrupted; saving the {faces.added} faces found so far (Ctrl-C again quits without them)")
                faces.finish(_group_by_person([embedding for _, embedding, _ in accepted]))
            raise
        summary.failed, summary.notes = frames.failed, frames.notes
        summary.passed_over = passed_over(source) if pathlib.Path(source).is_dir() else None
        embeddings = _thin_out(faces, accepted, settings.max_faces)
        summary.duplicates += len(accepted) - len(embeddings)
        _finish(faces, embeddings, summary, source)
    except BaseException:
        faces.abandon()
        raise
    return faces, summary


def _detect(frame, analyzer, corrections):
    """Return the Faces of a Frame: those given by hand, or all that are detected, the largest first."""
    by_hand = corrections.get((frame.file, frame.frame))
    if by_hand is None:
        return analyzer.detect(frame.pixels)
    return [Face(frame.pixels, corrected_landmarks(shape, frame.pixels, analyzer)) for shape in by_hand]


def _thin_out(faces, accepted, count):
    """Remove all but `count` of the faces of videos, and return the embeddings of the faces that are left.

    accepted: [(Entry, embedding, features), ...]
    """
    videos = [k for k, (entry, _, _) in enumerate(accepted) if entry.frame is not None]
    if len(videos) > count:
        chosen = {videos[k] for k in spread_sample([accepted[k][2] for k in videos], count)}
        for k in set(videos) - chosen:
            faces.remove(accepted[k][0])
        accepted = [face for k, face in enumerate(accepted) if k in chosen or face[0].frame is None]
    return [embedding for _, embedding, _ in accepted]


def _reject_reason(faces, duplicates, frame, face, min_size, threshold):
    """Return why a face is rejected, or None.

    A face given by hand is always accepted, even if it was dropped before.
    """
    if face.score is None:
        duplicates.check_and_add(face)
        return None
    if faces.was_dropped(frame.file, frame.frame, face.box):
        return DROPPED
    reason = reject_reason(face, min_size)
    return _DUPLICATE if reason is None and duplicates.check_and_add(face, threshold) else reason


def _save(faces, frame, face, reason, size):
    """Align a face and add it to the folder. Returns its Entry."""
    transform, score = padded_crop_transform(face, size), 1.0 if face.score is None else face.score
    aligned = np.rint(warp(face.image, transform, size) * 255).astype(np.uint8)
    record = FaceRecord(frame.file, face.image.shape[1::-1], transform, face.landmarks, score, sharpness(face),
                        frame.digest, frame.frame, frame.time)
    return faces.add(aligned, record, frame.label, reason)


def _finish(faces, embeddings, summary, source):
    """Group the faces by person and write the folder.

    Raises ExtractError if there is no good face.
    """
    searched = count_noun(summary.searched, "image") + " searched" + _failed_phrase(summary.failed)
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


def _failed_phrase(failed):
    """Return the number of files that failed and the first of them, for the end of a message."""
    return f"; {len(failed)} failed, first {failed[0][0]}: {failed[0][1]}" if failed else ""


def count_noun(number, word):
    """Return a number with its noun: '1 face', '2 faces'."""
    return f"{number} {word}{'' if number == 1 else 's'}"
