"""Save and load named arrays: NumPy's .npz format, an uncompressed zip archive with checksums.

A file is written under a temporary name, flushed to disk, and renamed over the old one. After a
crash there is either the old file or the new one, never half a file. Nothing is ever unpickled.
"""
import contextlib
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
    """The file was not written by `save`, or it is damaged; the message names it."""


def temporary_path(path):
    """Return the path of a new file beside `path`, to be renamed to it once it is written.

    The name is short, whatever the name of `path`: file systems allow 255 bytes.
    """
    return os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.part")


@contextlib.contextmanager
def written_whole(path):
    """Context manager: yield a new file that replaces `path` once all is written and on the disk.

    After an error the old file is unchanged.
    """
    partial = temporary_path(path)
    file = open(partial, "xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def save(path, arrays):
    """Write {name: array or Tensor} to `path`; an old file is replaced once all is written."""
    with written_whole(os.fspath(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = _names_checksum(arrays)
        for name, value in arrays.items():
            array = to_numpy(value.data if isinstance(value, Tensor) else as_array(value))
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as member:
                numpy.lib.format.write_array(member, array, allow_pickle=False)


def load(path):
    """Return {name: array} of a file written by `save`.

    Raises FileNotFoundError, or FileFormatError if the file is damaged.
    """
    return dict(_read_arrays(path))


def check_file(path):
    """Read a file as `load` does and raise the same errors, but hold only one array in memory."""
    for _ in _read_arrays(path):
        pass


def _read_arrays(path):
    """Yield (name, array) for each array of the file."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                if archive.comment != _names_checksum(name.removesuffix(".npy") for name in names):
                    raise zipfile.BadZipFile("its list of arrays was not written by save")
                _check_sizes(archive, os.fstat(file.fileno()).st_size)
                for name in names:
                    yield name.removesuffix(".npy"), _parse_array(name, archive.read(name))
        # In a damaged archive zipfile may seek to before the start of the file (OSError), or an
        # array may claim more than the available memory.
        except (zipfile.BadZipFile, zlib.error, ValueError, TypeError, EOFError, KeyError, RuntimeError, OSError,
                MemoryError) as error:
            raise FileFormatError(f"{path}: not a complete file of named arrays ({error})") from error


def _check_sizes(archive, size):
    """Refuse small files that expand to large arrays: compressed ones, or one listed many times."""
    members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size
           for member in members):
        raise zipfile.BadZipFile("its arrays are compressed, which save never does")
    if sum(member.file_size for member in members) > size:
        raise zipfile.BadZipFile("its arrays claim more bytes than the file has")


# The header that NumPy writes for an array of numbers or text
# (https://numpy.org/neps/nep-0001-npy-format.html). NumPy itself parses it as Python source, which
# is not safe for a header from an unknown file.
_HEADER = re.compile(rb"\x93NUMPY\x01\x00..\{'descr': '([<>|]\w{1,9})', 'fortran_order': (True|False), "
                     rb"'shape': \(((?:\d{1,18},? ?)*)\), \} *\n", re.DOTALL)


def _parse_array(name, content):
    """Return the array of an archive member; its size must agree with its header."""
    header = _HEADER.match(content)
    if header is None:
        raise ValueError(f"{name} has no header of an array")
    dtype, shape = numpy.dtype(header[1].decode()), [int(side) for side in re.findall(rb"\d+", header[3])]
    if dtype.hasobject:
        raise ValueError(f"{name} contains Python objects, which are never unpickled")
    if math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise ValueError(f"{name} claims to be {shape} of {dtype} in {len(content)} bytes")
    flat = numpy.frombuffer(content, dtype, offset=header.end()) if math.prod(shape) else numpy.empty(0, dtype)
    array = flat.reshape(shape, order="F" if header[2] == b"True" else "C")
    return array.copy(order="K")  # a copy is writable


def _names_checksum(names):
    """Return the archive comment: a checksum of the list of names, which zip's own do not cover."""
    return f"names, crc32 {zlib.crc32('/'.join(names).encode()):08x}".encode()


def subset(state, prefix):
    """Return the entries whose keys begin with `prefix.`, with the prefix removed from the keys."""
    return {name[len(prefix) + 1:]: array for name, array in state.items() if name.startswith(prefix + ".")}
