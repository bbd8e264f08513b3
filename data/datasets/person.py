"""A person, however given, becomes a face set: photographs with a CSV of landmarks, photographs or clips as they are, or
faces that some program has cut out before.

Faces are cut out of photographs and clips once, and kept (data/extract/face_folder.py) with a note beside them of what they were cut
out of: names, sizes and times. As long as that is the same, the kept faces are taken.
"""

import contextlib
import json
import pathlib

from data.datasets.aligned_reader import AlignedReader, aligned_files
from data.datasets.face_set import load_aligned, load_faces
from data.extract.face_folder import ExtractError, FaceFolder, read_list
from data.extract.pipeline import SIZE, Settings, extract
from data.geometry.padded_crop import COVERAGE, DENSITY
from data.media.frame_source import SourceError, SourceFault, files_of
from data.media.image_io import write_whole
from data.support.errors import FaceSetError
from data.support.progress import Progress

_VERSION = 1  # raised whenever other faces would be cut out of the same pictures


def faces_of(given, landmarks, size, seed, kept, say=None):
    """The face set of one person.

    given:     folder of photographs, of clips or of faces that were cut out before, or a clip.
    landmarks: CSV of the photographs' landmarks (faceset.load_faces), or None: faces are looked for.
    size, seed: as in load_faces. kept: folder for the faces that are cut out here.
    say:       takes lines for the user; None: kept faces are taken without a look at what they were cut out of.
    Raises FaceSetError, or FinderError where the finder's weights are missing.
    """
    given = pathlib.Path(given)
    if landmarks is not None:
        return load_faces(given, landmarks, size, seed)
    try:
        entries = read_list(given)
        if entries is not None:
            return _largest(given, FaceFolder(given), size, seed, say)
        aligned, others = aligned_files(given) if given.is_dir() else ([], [])
        if aligned and len(aligned) >= len(others):  # else faces have strayed into a folder of photographs
            skipped = [(path.name, "not a face that was cut out, as the others of the folder are") for path in others]
            reader = AlignedReader(kept.with_name(f"{kept.name}_places.json"))
            faces = load_aligned(given, aligned, reader, size, seed, skipped)
            reader.remember()
            return faces
        return _largest(given, _kept_faces(given, kept, size, say), size, seed, say)
    except (ExtractError, SourceError, *SourceFault, OSError) as error:
        raise FaceSetError(str(error)) from error


def _largest(given, faces, size, seed, say):
    """The set of the person with most faces in a FaceFolder."""
    people = faces.people()
    if not people:
        raise FaceSetError(f"{given} has no good face; look at {faces.path}, and give sharper or larger pictures")
    first, *others = people.values()
    if others and say is not None:
        left_out = f"{sum(map(len, others))} faces of others are left out: see {faces.path / 'faces.png'}"
        say(f"  of the {len(people)} people of {given} the one with most faces ({len(first)}) is learned; {left_out}")
    aside = (entry for entry in faces.entries if not entry.person)
    skipped = [(e.file if e.frame is None else f"{e.file} frame {e.frame}", e.face.split("/")[1]) for e in aside]
    return load_aligned(given, [faces.path / entry.face for entry in first], AlignedReader(), size, seed, skipped)


def _kept_faces(given, kept, size, say):
    """The FaceFolder of the faces cut out of `given`: the kept one, or a new one where that is of something else."""
    note = kept.with_suffix(".json")
    before = _read_note(note) if read_list(kept) is not None else None
    if before and not given.exists():
        if say is not None:
            say(f"  {given} is not there any more: the faces cut out of it before are taken ({kept})")
        return FaceFolder(kept)
    if before and say is None:
        return FaceFolder(kept)
    side = max(SIZE, 2 * round(DENSITY * COVERAGE * size / 2))  # no fewer pixels than the canvas
    now = {"version": _VERSION, "side": side, "files": _described(given)}
    if before == now:
        say(f"  the faces cut out of {given} before are taken: {kept}")
        return FaceFolder(kept)
    if say is None:
        say = _nobody
    say(f"  {'its pictures have changed: ' if before else ''}cutting the faces of {given} out, into {kept}")
    line = Progress("pictures")
    try:
        faces, summary = extract(given, kept, Settings(size=side), lambda *state: line.show(*state[:2], f"{state[2]} faces"))
    finally:
        line.end()
        for parent in (kept.parent, kept.parent.parent):  # a run that could not begin leaves nothing behind
            with contextlib.suppress(OSError):
                parent.rmdir()
    write_whole(note, json.dumps(now).encode())
    for words in summary.lines(kept):
        say(f"  {words}")
    return faces


def _nobody(line):
    """Takes lines for a user who does not want them."""


def _described(given):
    """[[name, bytes, time of the last change], ...] of the files that `given` stands for."""
    states = ((path.name, path.stat()) for path in files_of(given))
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]


def _read_note(note):
    """What faces were cut out of, or None where that is not known."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
