"""The output folder of an extraction: aligned faces by person, a contact sheet of numbered faces, a
list.

    FOLDER/faces.png                the contact sheet (continued on faces_2.png, ... if necessary)
    FOLDER/faces.csv                number, face, file, frame, left, top, right, bottom, score
    FOLDER/00017_NAME.png           the faces, if there is only one person
    FOLDER/person_1/00017_NAME.png  the faces of each person, if there are several; most faces first
    FOLDER/sorted_out/REASON/...    rejected faces by reason (see quality_filter.py), or "dropped"

For other programs, the faces are DeepFaceLab's JPEGs instead, or faceswap's alignments.fsa is
written next to them.

New faces are collected in a hidden folder and replace the old ones at the end, so an extraction
that fails leaves the previous one unchanged. A folder with other files in it is refused, and files
that the list does not name are never touched. A face keeps its number until the next extraction. A
face whose file the user deleted counts as gone.
"""

import contextlib
import csv
import io
import pathlib
import re
import shutil
from collections import Counter
from dataclasses import astuple, dataclass, fields, replace

import numpy as np
from PIL import Image

from data.geometry.boxes import iou
from data.interchange.dfl_faceswap import to_dfl_face, to_faceswap_face, write_dfl_jpeg, write_fsa
from data.interchange.face_png import read_face, read_record, write_face
from data.extract.contact_sheet import TILE, draw_contact_sheet, paginate
from data.media.image_io import read_image, read_label, save_image, write_atomically
from data.support.cli import defer_signals
from data.support.threads import map_threads

LIST, CONTACT_SHEET, SORTED_OUT, DROPPED = "faces.csv", "faces.png", "sorted_out", "dropped"
_STAGING, _ALIGNMENTS = ".extracting", "alignments.fsa"
_CONTACT_SHEETS = re.compile(r"faces(_\d+)?\.png")
_FACE_PATH = re.compile(r"(person_[1-9]\d{0,8}/|sorted_out/[a-z_]+/)?\d{5,9}_[^/\\\0]*", re.ASCII)
_SAME_FACE_IOU = 0.5  # overlap from which two boxes are of the same face


class ExtractError(ValueError):
    """Faces that cannot be extracted or saved. The message is one line: what, where, what to do."""


@dataclass
class Entry:
    """A row of faces.csv."""

    number: int
    face: str  # the face's file, relative to the folder
    file: str  # the image or video that shows the face, relative to INPUT
    frame: int | None  # its number in the video, from 0
    left: float  # the tight box of the landmarks in that image, pixels
    top: float
    right: float
    bottom: float
    score: float  # the detection score, 0..1

    @property
    def box(self):
        return np.array([self.left, self.top, self.right, self.bottom])

    @property
    def person(self):
        """Number of the person, from 1; None for a rejected face."""
        first = pathlib.PurePosixPath(self.face).parts[0]
        if first == SORTED_OUT:
            return None
        return int(first.removeprefix("person_")) if "/" in self.face else 1


_COLUMNS = [field.name for field in fields(Entry)]


def read_list(folder):
    """Read the entries of faces.csv, or None if the folder has no such file. Raises ExtractError if
    it is invalid."""
    path = pathlib.Path(folder) / LIST
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = list(csv.reader(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExtractError(f"{path} cannot be read ({error}); choose another folder") from error
    if not lines or lines[0] != _COLUMNS:
        raise ExtractError(f"{path} was not written by an extraction; choose another folder")
    try:
        entries = [
            Entry(int(number), face, file, int(frame) if frame else None, *map(float, rest))
            for number, face, file, frame, *rest in lines[1:]
        ]
        for entry in entries:
            if not _FACE_PATH.fullmatch(entry.face):  # entries may be moved or removed: none outside the folder
                raise ValueError(f"{entry.face!r} is not the path of a face")
        return entries
    except (ValueError, TypeError) as error:
        raise ExtractError(f"{path} is damaged ({error}); remove the folder and extract again") from error


class FaceFolder:
    """The output folder of an extraction, which need not exist yet. Raises ExtractError if it
    cannot be used."""

    def __init__(self, path, format="png"):
        """Open a folder.

        format: what `finish` writes: "png", our faces; "dfl", DeepFaceLab's;
                "fsa", ours and faceswap's alignments
        """
        self.path, self._format = pathlib.Path(path), format
        self._staging = self.path / _STAGING
        if self.path.exists() and not self.path.is_dir():
            raise ExtractError(f"{self.path} is a file; choose a folder for the faces")
        self.entries = read_list(self.path)
        if self.entries is None and self.path.is_dir() and {p.name for p in self.path.iterdir()} - {_STAGING}:
            raise ExtractError(f"the folder {self.path} contains other files; choose a new or an empty folder")
        self._new_entries = []
        self._dropped = [entry for entry in self.entries or () if entry.face.startswith(f"{SORTED_OUT}/{DROPPED}/")]

    def begin(self):
        """Create the hidden folder for new faces."""
        self._remove_staging()
        try:
            self._staging.mkdir(parents=True)
        except OSError as error:
            reason = error.strerror
            raise ExtractError(f"the folder {self.path} cannot be created ({reason}); choose another one") from error

    def add(self, pixels, record, label=None, reason=None):
        """Add a face to the new ones, which `finish` moves into the folder.

        pixels: the aligned image, (H, W, 3) uint8
        record: its FaceRecord
        label: the DigitalSource of the image it comes from, if that is synthetic
        reason: why it is rejected, or None
        Returns its Entry.
        """
        number = len(self._new_entries) + 1
        frame = "" if record.frame is None else f"_{record.frame:06d}"
        name = f"{number:05d}_{_short(pathlib.PurePath(record.source).stem)}{frame}.png"
        write_face(self._staging / name, pixels, record, label)
        box = [*record.landmarks.min(axis=0).round(1), *record.landmarks.max(axis=0).round(1)]
        face = f"{SORTED_OUT}/{reason}/{name}" if reason else name
        self._new_entries.append(Entry(number, face, record.source, record.frame, *box, round(record.score, 3)))
        return self._new_entries[-1]

    def remove(self, entry):
        """Remove a face that was added since `begin`, and not rejected."""
        self._new_entries.remove(entry)
        (self._staging / entry.face).unlink()

    @property
    def added(self):
        """Number of faces added since `begin`."""
        return len(self._new_entries)

    def was_dropped(self, file, frame, box):
        """Return whether the user dropped this face before. It stays dropped if the same input is
        extracted again."""
        return any(e.file == file and e.frame == frame and iou(box, e.box[None])[0] > _SAME_FACE_IOU
                   for e in self._dropped)

    def finish(self, labels):
        """Replace the folder's faces with the new ones. labels: (n,) int, the person, from 0, of
        each accepted face."""
        kept = [entry for entry in self._new_entries if not entry.face.startswith(SORTED_OUT)]
        several = len(set(labels)) > 1
        for entry, label in zip(kept, labels, strict=True):
            if self._format == "dfl":
                entry.face = self._to_dfl(entry.face)
            entry.face = f"person_{label + 1}/{entry.face}" if several else entry.face
        old, self.entries, self._new_entries = self.entries or [], self._new_entries, []
        with defer_signals():
            self._write_list()  # first, so that the list names every file even if a later step fails
            for path in [*(self.path / entry.face for entry in old), *self._alignments()]:
                path.unlink(missing_ok=True)
            for entry in self.entries:
                target = self.path / entry.face
                target.parent.mkdir(parents=True, exist_ok=True)
                (self._staging / target.name).replace(target)
            self._remove_staging()
        self._remove_empty(old)
        if self._format == "fsa":
            self._write_alignments()
        self._write_contact_sheets()

    def abandon(self):
        """Remove the new faces, and the folder if it is empty."""
        self._remove_staging()
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def drop(self, numbers):
        """Sort out faces by their numbers. If a number does not exist, raises ExtractError and
        drops none."""
        kept = {entry.number: entry for entries in self.people().values() for entry in entries}
        unknown = sorted(set(numbers) - set(kept))
        if unknown:
            raise ExtractError(f"{self.path} has no face number {', '.join(map(str, unknown))}; "
                               f"see the contact sheet {self.path / CONTACT_SHEET}")
        old = [replace(entry) for entry in self.entries]
        dropped = self.path / SORTED_OUT / DROPPED
        dropped.mkdir(parents=True, exist_ok=True)
        for number in set(numbers):
            source = self.path / kept[number].face
            kept[number].face = f"{SORTED_OUT}/{DROPPED}/{source.name}"
            source.replace(dropped / source.name)
        self._write_list()
        alignments = self._alignments()
        for path in alignments:
            path.unlink()
        self._remove_empty(old)
        if alignments:
            self._write_alignments()
        self._write_contact_sheets()

    def people(self):
        """Return {person from 1: [Entry, ...]} of the accepted faces whose files still exist."""
        people = {}
        for entry in self.entries or ():
            if entry.person and (self.path / entry.face).is_file():
                people.setdefault(entry.person, []).append(entry)
        return dict(sorted(people.items()))

    def count_sorted_out(self):
        """Count the rejected faces by reason, as a Counter."""
        return Counter(entry.face.split("/")[1] for entry in self.entries or () if not entry.person)

    def _write_list(self):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([_COLUMNS, *map(astuple, self.entries)])
        write_atomically(self.path / LIST, text.getvalue().encode(errors="surrogateescape"))

    def _write_contact_sheets(self):
        groups, label = [], None
        for person, entries in self.people().items():
            tiles = map_threads(self._tile, entries)
            label = next((one for _, one in tiles if one), label)
            heading = f"person {person}: {len(entries)} face{'s' if len(entries) > 1 else ''}"
            groups.append((heading, [(entry.number, tile) for entry, (tile, _) in zip(entries, tiles)]))
        names = []
        for k, page in enumerate(paginate(groups), start=1):
            names.append(CONTACT_SHEET if k == 1 else f"{CONTACT_SHEET.removesuffix('.png')}_{k}.png")
            save_image(self.path / names[-1], draw_contact_sheet(page), label)
        for path in self.path.iterdir():
            if _CONTACT_SHEETS.fullmatch(path.name) and path.name not in names:
                path.unlink()

    def _tile(self, entry):
        """Return (image (TILE, TILE, 3) uint8, label) of a face."""
        file = self.path / entry.face
        tile = Image.fromarray(read_image(file).pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
        return np.asarray(tile), read_label(file)

    def _to_dfl(self, name):
        """Convert a new face to DeepFaceLab's JPEG. Returns the new name."""
        file = self._staging / name
        image, record = read_face(file)
        write_dfl_jpeg(file.with_suffix(".jpg"), image.pixels, to_dfl_face(record), read_label(file))
        file.unlink()
        return file.with_suffix(".jpg").name

    def _alignments(self):
        return [*self.path.glob(_ALIGNMENTS), *self.path.glob(f"person_*/{_ALIGNMENTS}")]

    def _write_alignments(self):
        """Write faceswap's alignments of each person, next to the faces."""
        for entries in self.people().values():
            frames = {}
            for entry in entries:
                face = to_faceswap_face(read_record(self.path / entry.face))
                listed = frames.setdefault(face.source_filename, [])
                listed.append(replace(face, index=len(listed)))
            write_fsa((self.path / entries[0].face).with_name(_ALIGNMENTS), frames)

    def _remove_staging(self):
        shutil.rmtree(self._staging, ignore_errors=True)

    def _remove_empty(self, entries):
        """Remove the folders of these entries' faces that are empty now."""
        folders = {pathlib.PurePosixPath(entry.face).parent for entry in entries} - {pathlib.PurePosixPath()}
        for folder in [*folders, SORTED_OUT]:
            with contextlib.suppress(OSError):  # it is not empty, or does not exist
                (self.path / folder).rmdir()


def _short(name):
    """Shorten a file name so that any file system accepts it with a prefix and a suffix, without
    special characters."""
    short = name.encode(errors="surrogateescape")[:150].decode(errors="ignore")
    return re.sub(r'[\x00-\x1f\\/:*?"<>|]', "_", short)
