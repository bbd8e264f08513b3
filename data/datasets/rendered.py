"""Face sets of rendered people, rendered once and kept in a file."""
import contextlib
import hashlib

import numpy as np

import nn
from data.datasets.face_set import COLUMNS, assemble, face_of_render, files_of_renders
from data.geometry.alignment import ALIGNMENT_VERSION
from data.support.process_pool import compute, useful_workers
from data.support.progress import Progress
from data.synthetic import render
from data.synthetic.renderer import RENDERER_VERSION, SECONDS_PER_RENDER


def render_sets(sets, size, side, cache=None, say=None):
    """Return a FaceSet for each of several lists of faces, bit for bit that of from_renders.

    sets: [(name, [(data.synthetic.Person, Pose) of each face, at least 4])]
    size: side of the crops in pixels
    side: side of the renders in pixels
    cache: file for the rendered faces; it is read if it holds the same ones, else written
    say: takes messages for the user; None: no progress line either
    """
    files = [files_of_renders(name, len(faces)) for name, faces in sets]
    items = [(person, pose, side, size) for _, faces in sets for person, pose in faces]
    content = [(person.seed, *rest) for person, *rest in items]
    key = hashlib.sha256(repr((RENDERER_VERSION, ALIGNMENT_VERSION, content)).encode()).hexdigest()
    columns = _read(cache, key)
    if columns is None:
        columns = _render(items, say is not None)
        if cache is not None:
            with contextlib.suppress(OSError):  # a full disk is reported by the first checkpoint
                nn.save(cache, columns | {"key": np.array(key)})
    elif say is not None:
        say(f"  using the faces rendered before: {cache}")
    found, start = [], 0
    for (name, _), listed in zip(sets, files):
        rows = slice(start, start := start + len(listed))
        found.append(assemble(name, size, listed, {column: columns[column][rows] for column in COLUMNS},
                              np.arange(len(listed))))
    return found


def _render(items, has_progress):
    """Render each item (person, pose, side, size) and return the arrays of all faces by column."""
    columns, line = {}, Progress("faces rendered") if has_progress else None
    rendered = compute(_render_face, items, useful_workers(len(items), SECONDS_PER_RENDER))
    try:
        for done, (index, face) in enumerate(rendered, 1):
            for name in COLUMNS:
                value = np.asarray(face[name])
                if name not in columns:
                    columns[name] = np.empty((len(items), *value.shape), value.dtype)
                columns[name][index] = value
            if line:
                line.show(done, len(items))
    finally:
        if line:
            line.end()
    return columns


def _render_face(item):
    person, pose, side, size = item
    return face_of_render(render(person, pose, side), size)


def _read(cache, key):
    """Return the columns in a file, or None if it does not hold the faces of this key."""
    if cache is None:
        return None
    try:
        columns = nn.load(cache)
    except (OSError, nn.serialize.FileFormatError):
        return None
    return columns if str(columns.pop("key", None)) == key else None
