"""Named arrays in one file: NumPy's .npz format, an uncompressed zip archive with a checksum for every array.

A file is written beside its place and renamed over it when it is complete and on the disk: whatever happens, there is
either the old file or the new one. Nothing is ever unpickled.
"""
import os
import secrets
import zipfile
import zlib

import numpy

from nn.backend import as_array, to_numpy
from nn.tensor import Tensor


class FileFormatError(ValueError):
    """The file is not one that `save` wrote, or it was damaged; the message names it."""


def save(path, arrays):
    """Write {name: array or Tensor} to `path`, replacing what is there only once everything is written."""
    path = os.fspath(path)
    partial = f"{path}.{secrets.token_hex(4)}.part"
    file = open(partial, "xb")
    try:
        with file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.comment = _summary(arrays)
                for name, value in arrays.items():
                    array = to_numpy(value.data if isinstance(value, Tensor) else as_array(value))
                    with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                        numpy.lib.format.write_array(member, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def load(path):
    """{name: array} of a file that `save` wrote. Raises FileNotFoundError, or FileFormatError if it is damaged."""
    return dict(_arrays(path))


def check(path):
    """Read a file that `save` wrote as `load` does and raise as it does, but keep no more than one array at a time."""
    for _ in _arrays(path):
        pass


def _arrays(path):
    """Yield (name, array)."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                if archive.comment != _summary(name.removesuffix(".npy") for name in names):
                    raise zipfile.BadZipFile("its list of arrays is not as save writes it")
                for name in names:
                    with archive.open(name) as member:
                        array = numpy.lib.format.read_array(member, allow_pickle=False)
                        member.read()  # to the end: there the checksum is compared
                    yield name.removesuffix(".npy"), array
        # A damaged archive may send zipfile anywhere, before the beginning of the file too: that is an OSError; or its array may
        # claim more than there is memory.
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, RuntimeError, OSError, MemoryError) as error:
            raise FileFormatError(f"{path}: not a complete file of named arrays ({error})") from error


def _summary(names):
    """What the archive says of its list of arrays, which its own checksums do not cover."""
    return f"names, crc32 {zlib.crc32('/'.join(names).encode()):08x}".encode()
