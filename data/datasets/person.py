"""Load the faces of one person as a FaceSet, from photos with a CSV of landmarks, from plain photos
or videos, or from faces that some program extracted before.

Faces are extracted from photos and videos once and saved (data/extract/face_folder.py), with a note
of the source files: their names, sizes and times. As long as these are unchanged, the saved faces
are used.
"""

import contextlib
import json
import pathlib

from data.datasets.aligned_reader import AlignedReader, aligned_files
from data.datasets.face_set import load_aligned, load_faces
from data.extract.face_folder import CONTACT_SHEET, ExtractError, FaceFolder, read_list
from data.extract.pipeline import SIZE, ExtractionSettings, extract
from data.geometry.padded_crop import PADDED_CROP_DENSITY, PADDED_CROP_EXTENT
from data.media.frame_source import SOURCE_ERRORS, SourceError, list_source_files
from data.media.image_io import write_atomically
from data.support.errors import FaceSetError
from data.support.progress import Progress

_VERSION = 1  # increased whenever extraction would give other faces from the same images


def load_person(source, landmarks, size, seed, cache, say=None):
    """Load the face set of one person.

    source: folder of photos, of videos or of extracted faces, or a video
    landmarks: CSV with the landmarks of the photos (see load_faces), or None to detect faces
    size, seed: as in load_faces
    cache: folder for the faces extracted here
    say: called with lines for the user; None: use cached faces without checking for changes
    Raises FaceSetError, or DetectionError if the weights of the face networks are missing.
    """
    source = pathlib.Path(source)
    if landmarks is not None:
        return load_faces(source, landmarks, size, seed)
    try:
        entries = read_list(source)
        if entries is not None:
            return _most_frequent_person(source, FaceFolder(source), size, seed, say)
        aligned, others = aligned_files(source) if source.is_dir() else ([], [])
        if aligned and len(aligned) >= len(others):  # else a folder of photos with some extracted faces
            skipped = [(path.name, "not an extracted face like the other files of the folder") for path in others]
            reader = AlignedReader(cache.with_name(f"{cache.name}_places.json"))
            faces = load_aligned(source, aligned, reader, size, seed, skipped)
            reader.write_cache()
            return faces
        return _most_frequent_person(source, _extracted_faces(source, cache, size, say), size, seed, say)
    except (ExtractError, SourceError, *SOURCE_ERRORS, OSError) as error:
        raise FaceSetError(str(error)) from error


def _most_frequent_person(source, faces, size, seed, say):
    """Load the person with the most faces in a FaceFolder."""
    people = faces.people()
    if not people:
        raise FaceSetError(f"{source} has no good face; see {faces.path}, and use sharper or larger images")
    first, *others = people.values()
    if others and say is not None:
        say(f"  {source} shows {len(people)} people; using the one with the most faces ({len(first)}) and ignoring "
            f"{sum(map(len, others))} faces of others: see {faces.path / CONTACT_SHEET}")
    rejected = (entry for entry in faces.entries if not entry.person)
    skipped = [(e.file if e.frame is None else f"{e.file} frame {e.frame}", e.face.split("/")[1]) for e in rejected]
    return load_aligned(source, [faces.path / entry.face for entry in first], AlignedReader(), size, seed, skipped)


def _extracted_faces(source, cache, size, say):
    """Return the FaceFolder of a source's faces: the cached one, or a new one if the source has
    changed."""
    note = cache.with_suffix(".json")
    before = _read_note(note) if read_list(cache) is not None else None
    if before and not source.exists():
        if say is not None:
            say(f"  {source} no longer exists; using the faces extracted from it before: {cache}")
        return FaceFolder(cache)
    if before and say is None:
        return FaceFolder(cache)
    side = max(SIZE, 2 * round(PADDED_CROP_DENSITY * PADDED_CROP_EXTENT * size / 2))  # at least that of a padded crop
    now = {"version": _VERSION, "side": side, "files": _file_states(source)}
    if before == now:
        say(f"  using the faces extracted from {source} before: {cache}")
        return FaceFolder(cache)
    if say is None:
        say = _ignore
    say(f"  the images of {source} have changed; extracting its faces again into {cache}" if before else
        f"  extracting the faces of {source} into {cache}")
    line = Progress("images")
    try:
        faces, summary = extract(source, cache, ExtractionSettings(size=side),
                                 lambda done, expected, kept: line.show(done, expected, f"{kept} faces"))
    finally:
        line.end()
        for parent in (cache.parent, cache.parent.parent):  # if nothing was extracted, leave no empty folders
            with contextlib.suppress(OSError):
                parent.rmdir()
    write_atomically(note, json.dumps(now).encode())
    for text in summary.lines(cache):
        say(f"  {text}")
    return faces


def _ignore(line):
    """Ignore a line for the user."""


def _file_states(source):
    """Return [[name, bytes, time of the last change], ...] of the files of a source."""
    states = ((path.name, path.stat()) for path in list_source_files(source))
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]


def has_same_files(source, cache):
    """Return whether a source has files of the names and sizes that faces were extracted from before.

    cache: as for load_person; True if nothing was extracted there
    """
    note, source = _read_note(cache.with_suffix(".json")), pathlib.Path(source)
    if note is None or not source.exists():
        return True
    return [state[:2] for state in note["files"]] == [state[:2] for state in _file_states(source)]


def _read_note(note):
    """Return the state of the source that faces were extracted from, or None if it is unknown."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
