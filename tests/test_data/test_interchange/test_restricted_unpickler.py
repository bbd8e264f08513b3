"""The restricted unpickler reads plain data like pickle; anything else is rejected and named."""

import base64
import os
import pickletools
import struct
import tracemalloc

import numpy as np
import pytest

from data.interchange import restricted_unpickler
from data.interchange.dfl_faceswap import dump_plain
from data.interchange.restricted_unpickler import UnpicklerError, read_plain

# EXPECTED as pickled in each protocol by Python 3.11 and numpy 2.4.
PICKLED = {
    2: """
        gAJ9cQAoWAYAAABwb2ludHNxAWNudW1weS5fY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxAmNudW1weQpuZGFycmF5CnEDSwCFcQRjX2
        NvZGVjcwplbmNvZGUKcQVYAQAAAGJxBlgGAAAAbGF0aW4xcQeGcQhScQmHcQpScQsoSwFLAksChnEMY251bXB5CmR0eXBlCnENWAIAAABmNHEO
        iYiHcQ9ScRAoSwNYAQAAADxxEU5OTkr/////Sv////9LAHRxEmKJaAVYEgAAAAAAAAAAAAA/AADCgD8AAMOAP3ETaAeGcRRScRV0cRZiWAYAAA
        B0dXJuZWRxF2gCaANLAIVxGGgJh3EZUnEaKEsBSwNLAoZxG2gNWAIAAABpMnEciYiHcR1ScR4oSwNYAQAAAD5xH05OTkr/////Sv////9LAHRx
        IGKIaAVYDAAAAAAAAAEAAgADAAQABXEhaAeGcSJScSN0cSRiWAMAAAB5ZXNxJWgCaANLAIVxJmgJh3EnUnEoKEsBSwKFcSloDVgCAAAAYjFxKo
        mIh3ErUnEsKEsDWAEAAAB8cS1OTk5K/////0r/////SwB0cS5iiWgFWAIAAAABAHEvaAeGcTBScTF0cTJiWAUAAABzY29yZXEzY251bXB5Ll9j
        b3JlLm11bHRpYXJyYXkKc2NhbGFyCnE0aA1YAgAAAGY4cTWJiIdxNlJxNyhLA2gRTk5OSv////9K/////0sAdHE4YmgFWAkAAAAAAAAAAADDoD
        9xOWgHhnE6UnE7hnE8UnE9WAMAAAByYXdxPmgFWAMAAADDvwBxP2gHhnFAUnFBWAQAAABub25lcUJjX19idWlsdGluX18KYnl0ZXMKcUMpUnFE
        WAQAAABwYWlycUVLAUr+////hnFGWAMAAABiaWdxR4oGAAAAAAABWAYAAABzaGFyZWRxSGgLdS4=
    """,
    3: """
        gAN9cQAoWAYAAABwb2ludHNxAWNudW1weS5fY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxAmNudW1weQpuZGFycmF5CnEDSwCFcQRDAW
        JxBYdxBlJxByhLAUsCSwKGcQhjbnVtcHkKZHR5cGUKcQlYAgAAAGY0cQqJiIdxC1JxDChLA1gBAAAAPHENTk5OSv////9K/////0sAdHEOYolD
        EAAAAAAAAAA/AACAPwAAwD9xD3RxEGJYBgAAAHR1cm5lZHERaAJoA0sAhXESaAWHcRNScRQoSwFLA0sChnEVaAlYAgAAAGkycRaJiIdxF1JxGC
        hLA1gBAAAAPnEZTk5OSv////9K/////0sAdHEaYohDDAAAAAEAAgADAAQABXEbdHEcYlgDAAAAeWVzcR1oAmgDSwCFcR5oBYdxH1JxIChLAUsC
        hXEhaAlYAgAAAGIxcSKJiIdxI1JxJChLA1gBAAAAfHElTk5OSv////9K/////0sAdHEmYolDAgEAcSd0cShiWAUAAABzY29yZXEpY251bXB5Ll
        9jb3JlLm11bHRpYXJyYXkKc2NhbGFyCnEqaAlYAgAAAGY4cSuJiIdxLFJxLShLA2gNTk5OSv////9K/////0sAdHEuYkMIAAAAAAAA4D9xL4Zx
        MFJxMVgDAAAAcmF3cTJDAv8AcTNYBAAAAG5vbmVxNEMAcTVYBAAAAHBhaXJxNksBSv7///+GcTdYAwAAAGJpZ3E4igYAAAAAAAFYBgAAAHNoYX
        JlZHE5aAd1Lg==
    """,
    4: """
        gASV0QEAAAAAAAB9lCiMBnBvaW50c5SMFm51bXB5Ll9jb3JlLm11bHRpYXJyYXmUjAxfcmVjb25zdHJ1Y3SUk5SMBW51bXB5lIwHbmRhcnJheZ
        STlEsAhZRDAWKUh5RSlChLAUsCSwKGlGgFjAVkdHlwZZSTlIwCZjSUiYiHlFKUKEsDjAE8lE5OTkr/////Sv////9LAHSUYolDEAAAAAAAAAA/
        AACAPwAAwD+UdJRijAZ0dXJuZWSUaARoB0sAhZRoCYeUUpQoSwFLA0sChpRoDowCaTKUiYiHlFKUKEsDjAE+lE5OTkr/////Sv////9LAHSUYo
        hDDAAAAAEAAgADAAQABZR0lGKMA3llc5RoBGgHSwCFlGgJh5RSlChLAUsChZRoDowCYjGUiYiHlFKUKEsDjAF8lE5OTkr/////Sv////9LAHSU
        YolDAgEAlHSUYowFc2NvcmWUaAKMBnNjYWxhcpSTlGgOjAJmOJSJiIeUUpQoSwNoEk5OTkr/////Sv////9LAHSUYkMIAAAAAAAA4D+UhpRSlI
        wDcmF3lEMC/wCUjARub25llEMAlIwEcGFpcpRLAUr+////hpSMA2JpZ5SKBgAAAAAAAYwGc2hhcmVklGgLdS4=
    """,
    5: """
        gAWVywEAAAAAAAB9lCiMBnBvaW50c5SME251bXB5Ll9jb3JlLm51bWVyaWOUjAtfZnJvbWJ1ZmZlcpSTlCiWEAAAAAAAAAAAAAAAAAAAPwAAgD
        8AAMA/lIwFbnVtcHmUjAVkdHlwZZSTlIwCZjSUiYiHlFKUKEsDjAE8lE5OTkr/////Sv////9LAHSUYksCSwKGlIwBQ5R0lFKUjAZ0dXJuZWSU
        aAQolgwAAAAAAAAAAAAAAQACAAMABAAFlGgIjAJpMpSJiIeUUpQoSwOMAT6UTk5OSv////9K/////0sAdJRiSwNLAoaUjAFGlHSUUpSMA3llc5
        RoBCiWAgAAAAAAAAABAJRoCIwCYjGUiYiHlFKUKEsDjAF8lE5OTkr/////Sv////9LAHSUYksChZRoD3SUUpSMBXNjb3JllIwWbnVtcHkuX2Nv
        cmUubXVsdGlhcnJheZSMBnNjYWxhcpSTlGgIjAJmOJSJiIeUUpQoSwNoDE5OTkr/////Sv////9LAHSUYkMIAAAAAAAA4D+UhpRSlIwDcmF3lE
        MC/wCUjARub25llEMAlIwEcGFpcpRLAUr+////hpSMA2JpZ5SKBgAAAAAAAYwGc2hhcmVklGgRdS4=
    """,
}
POINTS = np.array([[0, 0.5], [1, 1.5]], "<f4")
EXPECTED = {
    "points": POINTS,
    "turned": np.array([[0, 3], [1, 4], [2, 5]], ">i2"),  # kept by columns, most significant byte first
    "yes": np.array([True, False]),
    "score": 0.5,  # was a NumPy number
    "raw": b"\xff\x00",
    "none": b"",
    "pair": (1, -2),
    "big": 1 << 40,
    "shared": POINTS,  # the same array a second time
}


def pickled(protocol):
    return base64.b64decode(PICKLED[protocol])


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert type(got[name]) is type(value), name
        if isinstance(value, np.ndarray):
            assert got[name].dtype == value.dtype
            np.testing.assert_array_equal(got[name], value)
        else:
            assert got[name] == value


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.mark.parametrize("protocol", PICKLED)
def test_pickles_of_numpy_are_read_in_every_protocol(protocol):
    assert_same(read_plain(pickled(protocol)), EXPECTED)


def test_numpys_names_before_version_2_are_known():
    old = pickled(3).replace(b"numpy._core.", b"numpy.core.")
    assert old != pickled(3)
    assert_same(read_plain(old), EXPECTED)


@pytest.mark.parametrize("value", [
    {}, [], "", "two words, \u00e9 and \U0001f600", "\udc80", 0, 255, -(1 << 31), (1 << 31) - 1, 0.1,
    float("inf"), True, False,
    {"a": [1, 2.5, {"b": [[], {}, "c"]}], "d": True}, list(range(300)), [0.25] * 300, [[0.5, -1.0]] * 68,
])  # fmt: skip
def test_plain_values_survive_the_round_trip(value):
    got = read_plain(dump_plain(value))
    assert got == value and type(got) is type(value)


def test_dumped_pickles_hold_no_name_and_no_call():
    dumped = dump_plain({"a": [1, 2.5, "b", True], "c": {}})
    assert dumped == b"\x80\x03}(X\x01\0\0\0a](J\x01\0\0\0G@\x04\0\0\0\0\0\0X\x01\0\0\0b\x88eX\x01\0\0\0c}(uu."
    words = [word.name for word, _, _ in pickletools.genops(dumped)]
    assert not set(words) & {"GLOBAL", "STACK_GLOBAL", "INST", "REDUCE", "BUILD", "NEWOBJ"}


@pytest.mark.parametrize("value", [None, b"bytes", (1, 2), {1, 2}, 1 << 31, np.zeros(2), [np.float32(1)],
                                   {"a": object()}])
def test_only_plain_values_are_dumped(value):
    with pytest.raises(TypeError, match="dump_plain: expected"):
        dump_plain(value)


MALICIOUS = {
    b"cos\nsystem\n(S'echo'\ntR.": "os.system",
    b"\x80\x02cos\nsystem\n" + text("echo") + b"\x85R.": "os.system",
    b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.": "builtins.eval",
    b"\x80\x02(ios\nsystem\n.": "os.system",
    b"\x80\x02}" + text("a") + b"cnumpy\nload\ns.": "numpy.load",
    b"\x80\x02cnumpy.core.multiarray\nfromstring\n.": "numpy.core.multiarray.fromstring",
    b"\x80\x04\x8c\x05numpy\x8c\x06\xd0\xbe\xd1\x81\n\n\x93.": r"numpy.\u043e\u0441\n\n",
    b"\x80\x02cnumpy\nndarray\n)\x81.": "NEWOBJ",
    b"\x80\x02X\x01\0\0\0aQ.": "BINPERSID",
    b"\x80\x02\x82\x01.": "EXT1",
    b"\x80\x04\x8f.": "EMPTY_SET",
    b"\x80\x05\x97.": "NEXT_BUFFER",
}


@pytest.mark.parametrize("data, name", MALICIOUS.items())
def test_anything_else_is_rejected_and_named(data, name, monkeypatch):
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("it was called"))
    with pytest.raises(UnpicklerError) as caught:
        read_plain(data)
    assert name in str(caught.value) and str(caught.value).isprintable()


def array(shape=b"K\x02\x85", kind=b"f4", order=b"<", raw=b"\0" * 8):
    """Build the pickle of an array by hand. shape: the instructions that build the shape."""
    dtype = b"cnumpy\ndtype\nX\x02\0\0\0" + kind + b"\x89\x88\x87R"
    dtype += b"(K\x03X\x01\0\0\0" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"
    return b"\x80\x03" + empty + b"(K\x01" + shape + dtype + b"\x89B" + struct.pack("<I", len(raw)) + raw + b"tb."


def test_an_array_put_together_by_hand():
    got = read_plain(array(raw=struct.pack("<2f", 1.5, -2)))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [1.5, -2])


@pytest.mark.parametrize("changes, reason", [
    (dict(kind=b"O8"), "type 'O8'"), (dict(kind=b"V8"), "type 'V8'"), (dict(kind=b"M8"), "type 'M8'"),
    (dict(order=b"!"), "dtype"),
    (dict(shape=b"K\x03\x85"), "size does not fit"), (dict(shape=b"J\xfe\xff\xff\xff\x85"), "size does not fit"),
    (dict(shape=b"K\0J\xff\xff\xff\x7f\x86"), "size does not fit"),
    (dict(shape=b"\x8a\x09" + b"\0" * 8 + b"\x01\x85"), "64 bits"),
    (dict(shape=b"K\x02"), "unknown form"), (dict(shape=b"(" + b"K\x01" * 9 + b"t"), "unknown form"),
    (dict(shape=b"\x88\x85"), "size does not fit"),
])  # fmt: skip
def test_arrays_that_are_not_plain_are_rejected(changes, reason):
    with pytest.raises(UnpicklerError, match=reason):
        read_plain(array(**changes))


def test_an_unfinished_array_is_rejected():
    with pytest.raises(UnpicklerError, match="unfinished"):
        read_plain(b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R.")
    with pytest.raises(UnpicklerError, match="unfinished"):
        read_plain(b"\x80\x03cnumpy\nndarray\n.")


@pytest.mark.parametrize("data, reason", [
    (b"", "cut short"), (b"\x80\x04]", "cut short"), (b"\x80\x04.", "value is missing"),
    (b"\x80\x04e.", "mark is missing"),
    (b"\x80\x06N.", "protocol 6"), (b"\x80\x04](K\x01", "cut short"), (b"\x80\x04K", "damaged"),
    (b"\x80\x04G123", "damaged"),
    (b"\x80\x04(.", "value is missing"), (b"\x80\x04]K\x01(a.", "value is missing"),
    (b"\x80\x04h\x05.", "unknown value"), (b"\x80\x04K\x01K\x02a.", "something else than a list"),
    (b"\x80\x04}K\x01K\x02s.", "key that is not a str"), (b"\x80\x04}(X\x01\0\0\0au.", "without a value"),
    (b"\x80\x04K\x01K\x02b.", "state of plain data"), (b"\x80\x04K\x01)R.", "something else than an allowed"),
    (b"\x80\x04X\x01\0\0\0\xff.", "damaged"),
    (b"\x80\x04\x8a\x09" + b"\x7f" * 9 + b".", "64 bits"), (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "damaged"),
    (b"\xff", "damaged"),
])  # fmt: skip
def test_damaged_pickles_are_rejected_with_a_reason(data, reason):
    with pytest.raises(UnpicklerError, match=reason):
        read_plain(data)


def test_limits(monkeypatch):
    with pytest.raises(UnpicklerError, match="more than 50 values"):
        read_plain(dump_plain([0.5] * 60), max_values=50)
    with pytest.raises(UnpicklerError, match="more than 50 values"):
        read_plain(b"\x80\x04" + b"(" * 60 + b"N.", max_values=50)
    with pytest.raises(UnpicklerError, match="more than 25 lists"):
        read_plain(b"\x80\x04" + b"]" * 40 + b".", max_values=100)
    with pytest.raises(UnpicklerError, match="more than 50 remembered values"):
        read_plain(b"\x80\x04N" + b"\x94" * 60 + b".", max_values=100)
    with pytest.raises(UnpicklerError, match="deeper than 32"):
        read_plain(b"\x80\x04" + b"]" * 40 + b"a" * 39 + b".")
    monkeypatch.setattr(restricted_unpickler, "MAX_BYTES", 100)
    with pytest.raises(UnpicklerError, match="101 bytes"):
        read_plain(b"N" * 101)


def test_a_recursive_list_is_rejected():
    with pytest.raises(UnpicklerError, match="deeper than 32"):
        read_plain(b"\x80\x04]q\0h\0a.")


def test_a_small_pickle_that_expands_to_gigabytes_is_rejected():
    """Ten lists, each with ten references to the previous one: 10^10 values when expanded."""
    doubling = b"\x80\x04K\x01q\0" + b"".join(b"](" + b"h%c" % k * 10 + b"eq%c" % (k + 1) for k in range(10)) + b"."
    with pytest.raises(UnpicklerError, match="expands to more than 1,000,000 values"):
        read_plain(doubling)


def test_many_arrays_of_the_same_bytes_are_rejected():
    """The dtype and the bytes are remembered once, and each array refers to them."""
    dtype = b"cnumpy\ndtype\nX\x02\0\0\0u1\x89\x88\x87R(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbq\0"
    raw = b"B" + struct.pack("<I", 10_000) + b"\1" * 10_000 + b"q\1"
    one = b"cnumpy.core.numeric\n_frombuffer\n(h\1h\0M\x10\x27\x85X\x01\0\0\0CtR"
    assert read_plain(b"\x80\x03" + dtype + raw + one + b".").sum() == 10_000
    with pytest.raises(UnpicklerError, match="more than 29,930 bytes of numpy arrays"):
        read_plain(b"\x80\x03" + dtype + raw + b"](" + one * 100 + b"e.")


def test_every_instruction_is_read_or_rejected_whatever_its_argument():
    """Lengths of up to 2^64 in a few bytes allocate nothing; 10^6 digits take no time."""
    rng = np.random.default_rng(0)
    arguments = [b"", b"\n", b"'\n", b"\xff\n\n", b"9" * 1_000_000 + b"L\n.", b"\xff" * 9, b"\xff\xff\xff\x7f\0\0\0\0.",
                 b"\\u12\n.", *(rng.bytes(20) + b"\n.\n." for _ in range(20))]
    tracemalloc.start()
    for opcode in pickletools.opcodes:
        for argument in arguments:
            try:
                read_plain(b"\x80\x02NN" + opcode.code.encode("latin-1") + argument)
            except UnpicklerError as error:
                assert str(error).isprintable() and len(str(error)) < 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("protocol", PICKLED)
def test_mutations_are_read_or_rejected(protocol):
    rng = np.random.default_rng(protocol)
    for _ in range(200):
        data = bytearray(pickled(protocol))
        for place in rng.integers(len(data), size=rng.integers(1, 5)):
            data[place] = rng.integers(256)
        if rng.random() < 0.2:
            del data[rng.integers(len(data)) :]
        try:
            read_plain(bytes(data))
        except UnpicklerError as error:
            assert str(error).isprintable()
