"""Recognize whose photo is about to be replaced, by comparing it with the faces that a run learned from."""
import json
import pathlib

import numpy as np

from data.datasets.face_set import evenly_spaced
from data.detection.embedding import FaceEmbedder, mean_similarity
from data.extract.face_folder import FaceFolder
from data.geometry.face import Face
from data.interchange.face_png import read_face

REFERENCE_FACES = 24  # faces of each person that are compared
MARGIN = 0.2  # how much more similar to the other person a face must be before the user is asked


def direction_hint(run, direction, faces):
    """Return a line if faces that were replaced show the person who replaced them; otherwise None.

    run: the run folder
    direction: 'ab' or 'ba'
    faces: list of Faces, as they were found

    Without extracted faces of both people in the run folder, or where --a and --b said, nothing is
    compared. The embedding is weak, so this is a hint and never a refusal.
    """
    people = [_embeddings(pathlib.Path(run), side) for side in direction]
    found = [FaceEmbedder.load().embed(face) for face in faces]
    if not found or not all(people):
        return None
    replaced, replacing = (mean_similarity(found, embeddings) for embeddings in people)
    if replacing < replaced + MARGIN:
        return None
    side, other = direction.upper()
    return (f"the input looks like {other}, whose face replaces that of {side}; to put {side}'s face on {other}, "
            f"use --direction {direction[::-1]}")


def _embeddings(run, side):
    """Return the embeddings [(D,), ...] of faces of a person that a run learned from."""
    try:
        given = json.loads((run / "config.json").read_text(encoding="utf-8")).get(side)
        folders = [FaceFolder(path) for path in (run / "faces" / side, given) if path and pathlib.Path(path).is_dir()]
        folder, entries = next(((folder, entries) for folder in folders for entries in folder.people().values()),
                               (None, []))
        faces = [read_face(folder.path / entries[k].face)
                 for k in evenly_spaced(np.arange(len(entries)), REFERENCE_FACES)]
    except (OSError, ValueError):  # among them ExtractError and ImageError
        return []  # a hint is not worth an error
    return [FaceEmbedder.load().embed(Face(image.pixels, record.face_landmarks)) for image, record in faces]
