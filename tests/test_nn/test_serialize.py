"""Files of named arrays: round trips, failed writes, damaged and malicious files."""
import os
import stat
import tracemalloc
import zipfile
from zipfile import ZIP_DEFLATED, ZIP_STORED

import numpy as np
import pytest

import nn
from nn import serialize
from nn.serialize import FileFormatError

ARRAYS = {
    "encoder.convs.0.weight": np.random.default_rng(0).standard_normal((3, 3, 2, 4)).astype(np.float32),
    "half": np.array([0.5, np.inf], np.float16), "double": np.array([[1e300], [np.nan]]), "steps": np.array(12),
    "empty": np.zeros((0, 3), np.float32), "bytes": np.arange(256, dtype=np.uint8), "flags": np.array([True, False]),
    "file": np.ones(2), "arrays": np.ones(1), "a/b.npy": np.ones(3), "naïve ★": np.ones(1), "path": np.zeros(1),
    "": np.ones(1),
}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_round_trip(tmp_path):
    nn.save(tmp_path / "weights", ARRAYS)
    loaded = nn.load(tmp_path / "weights")
    assert list(loaded) == list(ARRAYS) and all(same(loaded[name], a) for name, a in ARRAYS.items())
    assert os.listdir(tmp_path) == ["weights"]


def test_any_memory_layout_and_type_of_value(tmp_path):
    image = np.arange(24.0).reshape(2, 3, 4)
    values = {"transposed": image.transpose(2, 0, 1), "gaps": image[:, ::2, ::-1], "tensor": nn.Tensor(image),
              "parameter": nn.Parameter(np.ones(2, np.float32)), "number": 2, "list": [1, 2], "scalar": np.float64(0.1)}
    nn.save(str(tmp_path / "values.npz"), values)
    loaded = nn.load(str(tmp_path / "values.npz"))
    for name, value in values.items():
        expected = value.data if isinstance(value, nn.Tensor) else np.asarray(value)
        np.testing.assert_array_equal(loaded[name], expected.astype(loaded[name].dtype))
    assert loaded["number"].dtype == loaded["list"].dtype == np.float32 and loaded["scalar"] == 0.1
    loaded["transposed"][0] = 7  # loaded arrays are writable


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        nn.save(tmp_path / name, ARRAYS)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_empty_dictionary_and_a_module(tmp_path):
    nn.save(tmp_path / "empty", {})
    assert nn.load(tmp_path / "empty") == {}
    layer, other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    layer(np.random.default_rng(0).standard_normal((4, 2, 2, 3)).astype(np.float32))
    nn.save(tmp_path / "layer", layer.state_dict())
    other.load_state_dict(nn.load(tmp_path / "layer"))
    assert all(same(a, other.state_dict()[name]) for name, a in layer.state_dict().items())


def fail_while_writing(monkeypatch):
    def write(*args, **settings):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(np.lib.format, "write_array", write)


def fail_while_flushing(monkeypatch):
    def flush(handle):
        raise OSError(5, "Input/output error")
    monkeypatch.setattr(serialize.os, "fsync", flush)


def fail_while_renaming(monkeypatch):
    def rename(source, target):
        raise KeyboardInterrupt
    monkeypatch.setattr(serialize.os, "replace", rename)


@pytest.mark.parametrize("fail", [fail_while_writing, fail_while_flushing, fail_while_renaming])
def test_a_failed_write_does_not_change_the_old_file(tmp_path, monkeypatch, fail):
    nn.save(tmp_path / "weights", {"old": np.ones(3)})
    before = (tmp_path / "weights").read_bytes()
    fail(monkeypatch)
    with pytest.raises((OSError, KeyboardInterrupt)):
        nn.save(tmp_path / "weights", ARRAYS)
    assert (tmp_path / "weights").read_bytes() == before and os.listdir(tmp_path) == ["weights"]


@pytest.mark.parametrize("value", [np.array([None, 1]), "text", {"a": 1}, [np.ones(2), np.ones(3)]])
def test_values_that_are_not_arrays_of_numbers_are_refused(tmp_path, value):
    with pytest.raises((TypeError, ValueError)):
        nn.save(tmp_path / "weights", {"good": np.ones(3), "bad": value})
    assert os.listdir(tmp_path) == []


def test_a_file_with_pickled_objects_is_refused(tmp_path, monkeypatch):
    write = np.lib.format.write_array
    monkeypatch.setattr(np.lib.format, "write_array", lambda file, array, allow_pickle: write(file, array))
    nn.save(tmp_path / "objects", {"a": np.array([{"code": 1}], dtype=object)})
    with pytest.raises(FileFormatError, match="objects: .*never unpickled"):
        nn.load(tmp_path / "objects")


def test_an_archive_that_save_did_not_write_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(FileFormatError, match="other.npz: .*was not written by save"):
        nn.load(tmp_path / "other.npz")


def archive_of(path, members):
    """Write an archive as save does. members: [(name, content, compression)]."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = serialize._names_checksum([name for name, *_ in members])
        for name, content, compression in members:
            archive.writestr(name + ".npy", content, compression)
    return path


def npy_header(header):
    """Return the start of an .npy file with any text as its header."""
    text = header.encode("latin-1").ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


DOUBLES = "{{'descr': '<f8', 'fortran_order': False, 'shape': ({},), }}"


@pytest.mark.parametrize("members, message", [
    ([("a", npy_header(DOUBLES.format(1 << 18)) + bytes(8 << 18), ZIP_DEFLATED)], "compressed"),
    ([("a", npy_header(DOUBLES.format(10 << 27)) + bytes(99), ZIP_STORED)], r"claims to be .1342177280. of float64 in"),
    ([("a", npy_header("{'descr': '|S0', 'fortran_order': False, 'shape': (10000000000,), }"), ZIP_STORED)], ""),
    ([("a", npy_header(DOUBLES.format("-1")), ZIP_STORED)], ""), ([("a", npy_header("[" * 99), ZIP_STORED)], ""),
    ([("a", npy_header("(" * 99), ZIP_STORED)], ""), ([("a", npy_header("{'descr': 1" + "+1" * 40), ZIP_STORED)], ""),
    ([("a", b"\x93NUMPY\2\0" + bytes(99), ZIP_STORED)], "has no header of an array")])
def test_a_too_large_claimed_size_allocates_no_memory(tmp_path, members, message):
    path = archive_of(tmp_path / "bomb.npz", members)
    tracemalloc.start()
    with pytest.raises(FileFormatError, match=f"bomb.npz: .*{message}"):
        nn.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_one_array_listed_many_times_is_refused(tmp_path):
    """The entries of the archive's list all point to the same bytes."""
    content = npy_header(DOUBLES.format(1000)) + bytes(8000)
    members = [(name, content if name == "a" else b"", ZIP_STORED) for name in "abc"]
    path = archive_of(tmp_path / "bomb.npz", members)
    whole = path.read_bytes()
    entries = [offset for offset in range(len(whole)) if whole.startswith(b"PK\1\2", offset)]
    listed = bytearray(whole)
    for entry in entries[1:]:
        listed[entry + 16:entry + 28] = whole[entries[0] + 16:entries[0] + 28]  # checksum and sizes
    path.write_bytes(listed)
    with pytest.raises(FileFormatError, match="bomb.npz: .*claim more bytes than the file has"):
        nn.load(path)


def test_a_shortened_array_is_refused(tmp_path):
    nn.save(tmp_path / "weights", {"a": np.arange(2000.0)})
    content = (tmp_path / "weights").read_bytes()
    (tmp_path / "weights").write_bytes(content.replace(b"(2000,)", b"(1000,)"))
    with pytest.raises(FileFormatError, match="weights: .*CRC"):
        nn.load(tmp_path / "weights")


def test_a_missing_file_or_folder_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        nn.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        nn.save(tmp_path / "missing" / "weights", ARRAYS)


def written(tmp_path):
    nn.save(tmp_path / "weights", {"a": np.arange(5, dtype=np.float32), "b": np.ones((2, 2))})
    return (tmp_path / "weights").read_bytes()


def test_a_truncated_file_is_an_error_that_names_it(tmp_path):
    content = written(tmp_path)
    for length in range(0, len(content)):
        (tmp_path / "weights").write_bytes(content[:length])
        with pytest.raises(FileFormatError, match="weights: "):
            nn.load(tmp_path / "weights")


@pytest.mark.parametrize("flip", [0x01, 0x10, 0x80, 0xFF])
def test_flipped_bits_are_detected(tmp_path, flip):
    """For each byte, either the file is refused by name, or all arrays are unchanged."""
    content, expected, refused = written(tmp_path), nn.load(tmp_path / "weights"), set()
    for offset in range(len(content)):
        damaged = bytearray(content)
        damaged[offset] ^= flip
        (tmp_path / "weights").write_bytes(damaged)
        try:
            loaded = nn.load(tmp_path / "weights")
        except FileFormatError as error:
            assert "weights" in str(error)
            refused.add(offset)
        else:
            assert list(loaded) == list(expected) and all(same(loaded[name], a) for name, a in expected.items())
    for array in expected.values():
        start = content.index(array.tobytes())
        assert refused.issuperset(range(start, start + array.nbytes))


@pytest.mark.parametrize("content", [b"not an archive", b"PK\x03\x04" + bytes(100), b"\x93NUMPY" + bytes(50)])
def test_a_file_of_another_format_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(FileFormatError, match="weights: not a complete file of named arrays"):
        nn.load(tmp_path / "weights")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path):
    nn.save(tmp_path / "weights", {})
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
