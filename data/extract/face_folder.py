"""The folder that an extraction leaves: aligned faces by person, a numbered sheet to look at, a list.

    FOLDER/faces.png                  the faces with their numbers (faces_2.png, ... where there are many)
    FOLDER/faces.csv                  number, face, file, frame, left, top, right, bottom, score: a row for each face found
    FOLDER/00017_NAME.png             the faces, where one person is seen; where there are several,
    FOLDER/person_1/00017_NAME.png    the faces of each, the person with most faces first
    FOLDER/sorted_out/REASON/...      faces put aside, by reason (data/extract/quality_filter.py; "dropped": by number)

For other programs the faces are DeepFaceLab's JPEGs instead, or faceswap's alignments.fsa lies beside them.

New faces are gathered in a hidden folder and replace the old ones at the end, so an extraction that fails leaves the one
before as it was. A folder with other things in it is refused, and files that the list does not name are never touched. A
face keeps its number until all are extracted anew; one whose file was deleted counts as gone.
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

from data.geometry.boxes import box_of, overlap
from data.interchange.dfl_faceswap import dfl_face, faceswap_face, write_dfl_jpeg, write_fsa
from data.interchange.face_png import read_face, read_record, write_face
from data.media.contact_sheet import TILE, draw_sheet, pages
from data.media.image_io import read_label, read_picture, save_picture, write_whole
from data.support.cli import undivided
from data.support.threads import in_threads

LIST, SHEET, PUT_ASIDE, DROPPED = "faces.csv", "faces.png", "sorted_out", "dropped"
_STAGING, _ALIGNMENTS = ".extracting", "alignments.fsa"
_SHEETS = re.compile(r"faces(_\d+)?\.png")
_PLACES = re.compile(r"(person_[1-9]\d{0,8}/|sorted_out/[a-z_]+/)?\d{5,9}_[^/\\\0]*", re.ASCII)
_SAME_FACE = 0.5  # overlap of boxes from which on it is the same face


class ExtractError(ValueError):
    """Faces that cannot be extracted or kept. The message is one line: what, where, what to do."""


@dataclass
class Entry:
    """A row of faces.csv."""

    number: int
    face: str  # the face's file, relative to the folder
    file: str  # the picture or clip it was found in, relative to INPUT
    frame: int | None  # of the clip, from 0
    left: float  # the tight box of the landmarks in that picture, pixels
    top: float
    right: float
    bottom: float
    score: float  # the finder's, 0..1

    @property
    def box(self):
        return np.array([self.left, self.top, self.right, self.bottom])

    @property
    def person(self):
        """Number of the person, from 1; None for a face that was put aside."""
        first = pathlib.PurePosixPath(self.face).parts[0]
        if first == PUT_ASIDE:
            return None
        return int(first.removeprefix("person_")) if "/" in self.face else 1


_COLUMNS = [field.name for field in fields(Entry)]


def read_list(folder):
    """The entries of an extraction's faces.csv, None where the folder holds none. Raises ExtractError for a broken list."""
    path = pathlib.Path(folder) / LIST
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            lines = list(csv.reader(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExtractError(f"{path} cannot be read ({error}); remove it, and choose another folder") from error
    if not lines or lines[0] != _COLUMNS:
        raise ExtractError(f"{path} is not the list of an extraction; choose another folder")
    try:
        entries = [
            Entry(int(number), face, file, int(frame) if frame else None, *map(float, rest))
            for number, face, file, frame, *rest in lines[1:]
        ]
        for entry in entries:
            if not _PLACES.fullmatch(entry.face):  # it is to be removed or moved some day: nothing outside the folder may be
                raise ValueError(f"{entry.face!r} is not the place of a face")
        return entries
    except (ValueError, TypeError) as error:
        raise ExtractError(f"{path} is damaged ({error}); remove the folder and extract again") from error


class FaceFolder:
    """The folder of an extraction, which may not exist yet. Raises ExtractError where it cannot be used."""

    def __init__(self, path, format="png"):
        """format: what `finish` writes: "png", our faces; "dfl", DeepFaceLab's; "fsa", ours and faceswap's alignments."""
        self.path, self._format = pathlib.Path(path), format
        self._staging = self.path / _STAGING
        if self.path.exists() and not self.path.is_dir():
            raise ExtractError(f"{self.path} is a file; give a folder for the faces")
        self.entries = read_list(self.path)
        if self.entries is None and self.path.is_dir() and {p.name for p in self.path.iterdir()} - {_STAGING}:
            raise ExtractError(f"the folder {self.path} holds other things; give a new or an empty one")
        self._fresh = []
        self._dropped = [entry for entry in self.entries or () if entry.face.startswith(f"{PUT_ASIDE}/{DROPPED}/")]

    def begin(self):
        """Make room for new faces."""
        self._remove_staging()
        try:
            self._staging.mkdir(parents=True)
        except OSError as error:
            raise ExtractError(f"the folder {self.path} cannot be made ({error.strerror}); choose another place") from error

    def add(self, pixels, record, label=None, reason=None):
        """Keep a face until `finish`.

        pixels: (H, W, 3) uint8, the aligned picture. record: its FaceRecord. label: the DigitalSource of what it was cut
        from, if that is synthetic. reason: why it is put aside, or None.
        """
        number = len(self._fresh) + 1
        frame = "" if record.frame is None else f"_{record.frame:06d}"
        name = f"{number:05d}_{_short(pathlib.PurePath(record.source).stem)}{frame}.png"
        write_face(self._staging / name, pixels, record, label)
        box = [*record.landmarks.min(axis=0).round(1), *record.landmarks.max(axis=0).round(1)]
        face = f"{PUT_ASIDE}/{reason}/{name}" if reason else name
        self._fresh.append(Entry(number, face, record.source, record.frame, *box, round(record.score, 3)))

    @property
    def gathered(self):
        """How many faces were added since `begin`."""
        return len(self._fresh)

    def was_dropped(self, file, frame, landmarks):
        """Whether a face was dropped by its number before: it stays dropped when the same input is extracted again."""
        box = box_of(landmarks)
        return any(e.file == file and e.frame == frame and overlap(box, e.box[None])[0] > _SAME_FACE for e in self._dropped)

    def finish(self, labels):
        """Replace what the folder held by the new faces. labels: (n,) int, the person, from 0, of each not put aside."""
        kept = [entry for entry in self._fresh if not entry.face.startswith(PUT_ASIDE)]
        several = len(set(labels)) > 1
        for entry, label in zip(kept, labels, strict=True):
            if self._format == "dfl":
                entry.face = self._to_dfl(entry.face)
            entry.face = f"person_{label + 1}/{entry.face}" if several else entry.face
        old, self.entries, self._fresh = self.entries or [], self._fresh, []
        with undivided():
            self._write_list()  # first: whatever happens now, the list names every file
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
        self._write_sheets()

    def abandon(self):
        """Forget the new faces; a folder that was made for them goes with them."""
        self._remove_staging()
        if self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def drop(self, numbers):
        """Put faces aside by their numbers. Raises ExtractError, and drops none, where there is no face of a number."""
        kept = {entry.number: entry for entries in self.people().values() for entry in entries}
        unknown = sorted(set(numbers) - set(kept))
        if unknown:
            raise ExtractError(f"{self.path} has no face number {', '.join(map(str, unknown))}; look at {self.path / SHEET}")
        old = [replace(entry) for entry in self.entries]
        place = self.path / PUT_ASIDE / DROPPED
        place.mkdir(parents=True, exist_ok=True)
        for number in set(numbers):
            source = self.path / kept[number].face
            kept[number].face = f"{PUT_ASIDE}/{DROPPED}/{source.name}"
            source.replace(place / source.name)
        self._write_list()
        alignments = self._alignments()
        for path in alignments:
            path.unlink()
        self._remove_empty(old)
        if alignments:
            self._write_alignments()
        self._write_sheets()

    def people(self):
        """{person from 1: [Entry, ...]} of the faces that were kept and are still there."""
        people = {}
        for entry in self.entries or ():
            if entry.person and (self.path / entry.face).is_file():
                people.setdefault(entry.person, []).append(entry)
        return dict(sorted(people.items()))

    def put_aside(self):
        """Counter of the faces put aside, by reason."""
        return Counter(entry.face.split("/")[1] for entry in self.entries or () if not entry.person)

    def _write_list(self):
        text = io.StringIO(newline="")
        csv.writer(text).writerows([_COLUMNS, *map(astuple, self.entries)])
        write_whole(self.path / LIST, text.getvalue().encode(errors="surrogateescape"))

    def _write_sheets(self):
        groups, label = [], None
        for person, entries in self.people().items():
            tiles = in_threads(self._tile, entries)
            label = next((made for _, made in tiles if made), label)
            heading = f"person {person}: {len(entries)} face{'s' if len(entries) > 1 else ''}"
            groups.append((heading, [(entry.number, tile) for entry, (tile, _) in zip(entries, tiles)]))
        names = []
        for k, page in enumerate(pages(groups), start=1):
            names.append(SHEET if k == 1 else f"{SHEET.removesuffix('.png')}_{k}.png")
            save_picture(self.path / names[-1], draw_sheet(page), label)
        for path in self.path.iterdir():
            if _SHEETS.fullmatch(path.name) and path.name not in names:
                path.unlink()

    def _tile(self, entry):
        """(picture (TILE, TILE, 3) uint8, label) of a face."""
        file = self.path / entry.face
        tile = Image.fromarray(read_picture(file).pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
        return np.asarray(tile), read_label(file)

    def _to_dfl(self, name):
        """Turn a gathered face into DeepFaceLab's JPEG. Returns the new name."""
        file = self._staging / name
        picture, record = read_face(file)
        write_dfl_jpeg(file.with_suffix(".jpg"), picture.pixels, dfl_face(record), read_label(file))
        file.unlink()
        return file.with_suffix(".jpg").name

    def _alignments(self):
        return [*self.path.glob(_ALIGNMENTS), *self.path.glob(f"person_*/{_ALIGNMENTS}")]

    def _write_alignments(self):
        """faceswap's alignments of each person, beside their faces."""
        for entries in self.people().values():
            frames = {}
            for entry in entries:
                face = faceswap_face(read_record(self.path / entry.face))
                listed = frames.setdefault(face.source_filename, [])
                listed.append(replace(face, index=len(listed)))
            write_fsa((self.path / entries[0].face).with_name(_ALIGNMENTS), frames)

    def _remove_staging(self):
        shutil.rmtree(self._staging, ignore_errors=True)

    def _remove_empty(self, entries):
        """Remove the folders that these entries' faces have left empty."""
        places = {pathlib.PurePosixPath(entry.face).parent for entry in entries} - {pathlib.PurePosixPath()}
        for place in [*places, PUT_ASIDE]:
            with contextlib.suppress(OSError):  # it is not empty, or not there
                (self.path / place).rmdir()


def _short(name):
    """A file's name, cut to what any file system takes with something added, and without what some system reads as more than that."""
    short = name.encode(errors="surrogateescape")[:150].decode(errors="ignore")
    return re.sub(r'[\x00-\x1f\\/:*?"<>|]', "_", short)
