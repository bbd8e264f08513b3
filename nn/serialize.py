"""Named arrays in one file: NumPy's .npz format, an uncompressed zip archive with a checksum for every array.

A file is written beside its place and renamed over it when it is complete and on the disk: whatever happens, there is
either the old file or the new one. Nothing is ever unpickled.
"""
import math
import os
import re
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
                _check_sizes(archive, os.fstat(file.fileno()).st_size)
                for name in names:
                    yield name.removesuffix(".npy"), _array(name, archive.read(name))
        # A damaged archive may send zipfile anywhere, before the beginning of the file too: that is an OSError; or its array may
        # claim more than there is memory.
        except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, KeyError, RuntimeError, OSError, MemoryError) as error:
            raise FileFormatError(f"{path}: not a complete file of named arrays ({error})") from error


def _check_sizes(archive, size):
    """A small file may claim much: packed arrays that come to gigabytes, or one that is listed a thousand times."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size for member in members):
        raise zipfile.BadZipFile("its arrays are packed, which save never does")
    if sum(member.file_size for member in members) > size:
        raise zipfile.BadZipFile("its arrays claim more bytes than there are")


# How numpy writes the head of an array of numbers or text: https://numpy.org/neps/nep-0001-npy-format.html. numpy reads it as
# Python text, which bad text can send anywhere.
_HEAD = re.compile(rb"\x93NUMPY\x01\x00..\{'descr': '([<>|]\w{1,9})', 'fortran_order': (True|False), "
                   rb"'shape': \(((?:\d{1,18},? ?)*)\), \} *\n", re.DOTALL)


def _array(name, content):
    """The array in the bytes of a member; they must be as many as it claims."""
    head = _HEAD.match(content)
    if head is None:
        raise ValueError(f"{name} does not begin as an array does")
    kind, shape = numpy.dtype(head[1].decode()), [int(side) for side in re.findall(rb"\d+", head[3])]
    if kind.hasobject:
        raise ValueError(f"{name} holds Python objects, and nothing is unpickled")
    if math.prod(shape) * kind.itemsize != len(content) - head.end():
        raise ValueError(f"{name} claims to be {shape} of {kind} in {len(content)} bytes")
    flat = numpy.frombuffer(content, kind, offset=head.end()) if math.prod(shape) else numpy.empty(0, kind)
    return flat.reshape(shape, order="F" if head[2] == b"True" else "C").copy(order="K")  # a copy may be written to


def _summary(names):
    """What the archive says of its list of arrays, which its own checksums do not cover."""
    return f"names, crc32 {zlib.crc32('/'.join(names).encode()):08x}".encode()


def subset(state, prefix):
    """The entries of a flat dictionary below `prefix.`, without it."""
    return {name[len(prefix) + 1:]: array for name, array in state.items() if name.startswith(prefix + ".")}
