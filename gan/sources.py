"""A hash of the program's sources and the loaded plug-ins: which code gave a result."""
import functools
import hashlib
import pathlib

from gan import register


def digest():
    """Return a SHA-256 of the sources of nn/, data/ and gan/ and of the plug-ins that are loaded."""
    return hashlib.sha256("".join([_program(), *sorted(register.PLUGINS.values())]).encode()).hexdigest()


@functools.cache
def _program():
    root = pathlib.Path(__file__).resolve().parents[1]
    files = sorted(file for part in ("nn", "data", "gan") for kind in ("*.py", "*.cu")
                   for file in (root / part).rglob(kind))
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
