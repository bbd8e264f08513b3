"""Pickles read as plain data: nothing is imported, nothing is called.

A pickle is a program for a small stack machine, and two of its instructions import a name and call it: to unpickle what a
stranger sent is to run his code. Here the same instructions, split into words by pickletools, build only dictionaries with
text as keys, lists, tuples, text, bytes, numbers, truth values, None and plain numpy arrays. The few names by which numpy
writes arrays are marks on the stack, looked up in a table below; every other name is refused and told.

A file may also try to be large: a few bytes that refer to one another can stand for gigabytes. So there are limits on its
bytes, on the values built, on how deep they lie in one another, and on what they come to when each counts as often as it
occurs.

`dump_plain` writes the other way: a pickle that imports no name at all, which every program reads.
"""

import io
import math
import pickletools
import re
import struct

import numpy as np

MOST_BYTES = 256 << 20
MOST_VALUES = 1_000_000
DEEPEST = 32

_KINDS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}  # of numpy arrays
_LEAVES = {str, bytes, int, float, bool, type(None), np.ndarray}


class InertError(ValueError):
    """A pickle that is damaged, too large or more than plain data. The message, part of a line, says what it is instead."""


class _Name:
    """A name that a pickle imports, as a mark on the stack. build: makes data of a call's arguments, or None."""

    def __init__(self, build=None):
        self.build = build


class _DType:
    """A numpy dtype in the making: its kind, such as f4, and then its byte order."""

    def __init__(self, kind):
        self.kind, self.dtype = kind, None

    def set_state(self, machine, state):
        known = isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", ">", "|", "=")
        _demand(known and state[2:5] == (None, None, None), "a numpy dtype of an unknown form")
        self.dtype = np.dtype(self.kind).newbyteorder(state[1])


class _Array:
    """A numpy array in the making: empty when it is first referred to, then filled."""

    def __init__(self):
        self.array = None

    def set_state(self, machine, state):
        _demand(isinstance(state, tuple) and len(state) == 5, "a numpy array of an unknown form")
        _version, shape, dtype, by_columns, raw = state
        self.array = machine.array(raw, dtype, shape, "F" if by_columns is True else "C")


def read_plain(data, most_values=MOST_VALUES):
    """The value that a pickle stands for, if it is plain data.

    data: bytes, of protocol 2 to 5. most_values: how many values there may be in it, each counted as often as it occurs.
    Returns dict, list, tuple, str, bytes, int (64 bits), float, bool, None and numpy arrays of numbers, in any nesting.
    Raises InertError.
    """
    if len(data) > MOST_BYTES:
        raise InertError(f"a pickle of {len(data):,} bytes, more than the {MOST_BYTES:,} that are read")
    value = _Machine(data, most_values).run()
    _check_extent(value, most_values)
    return value


class _Machine:
    """The stack machine: `stack` of values, `marks`, places in it that begin a group, and `memo`, values by number."""

    def __init__(self, data, most_values):
        self.data, self.most_values = data, most_values
        self.stack, self.marks, self.memo = [], [], {}
        self.values = self.containers = self.array_bytes = 0

    def run(self):
        stream = io.BytesIO(self.data)
        words = pickletools.genops(stream)
        while True:
            place = stream.tell()
            handler = _HANDLERS.get(self.data[place : place + 1])  # looked at before pickletools makes anything of it
            if handler is None:
                raise InertError(self._unknown(place))
            if run := _RUN.match(self.data, place):
                self.push_run(run.group())
                stream.seek(run.end())
                continue
            try:
                _, argument, _ = next(words)
                if handler is _stop:
                    return self.pop()
                handler(self, argument)
            except InertError:
                raise
            # Warning: pickletools warns of odd escapes, which raises where warnings are errors.
            except (ValueError, MemoryError, Warning) as error:
                raise InertError(f"a damaged pickle (at byte {place:,})") from error

    def _unknown(self, place):
        if place >= len(self.data):
            return "a pickle that is cut short"
        name = next((name for name, code in _CODES.items() if code == self.data[place : place + 1]), None)
        return f"a pickle with {name}, which plain data has no use for" if name else f"a damaged pickle (at byte {place:,})"

    def count(self, values):
        self.values += values
        if self.values > self.most_values:
            raise InertError(f"a pickle of more than {self.most_values:,} values")

    def push(self, value):
        self.count(1)
        self.stack.append(value)

    def push_run(self, run):
        """Numbers come in long runs, 512 of a likeness, thousands of a picture: a whole one at once is ten times as fast."""
        numbers = run[1::2] if run[:1] == _CODES["BININT1"] else [number for (number,) in struct.iter_unpack(">xd", run)]
        self.count(len(numbers))
        self.stack.extend(numbers)

    def push_container(self, value):
        self.containers += 1  # an empty one takes one byte to write and sixty to hold
        if self.containers > self.most_values // 4:
            raise InertError(f"a pickle of more than {self.most_values // 4:,} lists and dictionaries")
        self.push(value)

    def top(self):
        """The value on top of the stack, above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise InertError("a damaged pickle (a value is missing)")
        return self.stack[-1]

    def pop(self):
        value = self.top()
        del self.stack[-1]
        return value

    def mark(self, _):
        self.count(1)
        self.marks.append(len(self.stack))

    def pop_to_mark(self):
        """The values above the last mark, which is taken away too."""
        _demand(self.marks, "a damaged pickle (a mark is missing)")
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values

    def to_fill(self, kind):
        """The value on top of the stack, which must be a list or a dict (kind)."""
        value = self.top()
        _demand(type(value) is kind, "a damaged pickle (it fills what cannot be filled)")
        return value

    def remember(self, number):
        _demand(len(self.memo) < self.most_values // 2, "a pickle that remembers too much")
        self.memo[number] = self.top()

    def recall(self, number):
        _demand(number in self.memo, "a damaged pickle (a value that it never made)")
        value = self.memo[number]
        self.push(value.array if isinstance(value, _Array) and value.array is not None else value)

    def array(self, raw, dtype, shape, order):
        """A plain array of raw bytes. dtype: a finished _DType; shape: tuple of int; order: C or F."""
        _demand(isinstance(dtype, _DType) and dtype.dtype is not None, "a numpy array without a plain dtype")
        _demand(isinstance(raw, bytes) and order in ("C", "F"), "a numpy array of an unknown form")
        _demand(isinstance(shape, tuple) and len(shape) <= 8, "a numpy array of an unknown form")
        whole = all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
        size = math.prod(shape) * dtype.dtype.itemsize if whole else None
        _demand(size == len(raw), "a numpy array whose size does not fit its bytes")
        self.array_bytes += len(raw)
        _demand(self.array_bytes <= 2 * len(self.data), "numpy arrays larger than the pickle itself")
        if dtype.kind == "b1":
            return (np.frombuffer(raw, np.uint8) != 0).reshape(shape, order=order)
        return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _check_extent(value, most_values):
    """Refuse what is too deep, too large (each part is counted as often as it occurs) or was never finished."""
    level, count = [value], 0
    for _ in range(DEEPEST):
        below = []
        for item in level:
            kind = type(item)
            if kind is dict:
                below.extend(item.values())
            elif kind is list or kind is tuple:
                below.extend(item)
            elif kind not in _LEAVES:
                raise InertError("a pickle with an unfinished value")
            if count + len(below) > most_values:
                raise InertError(f"a pickle that comes to more than {most_values:,} values")
        if not below:
            return
        level, count = below, count + len(below)
    raise InertError(f"values nested deeper than {DEEPEST}")


def _demand(condition, otherwise):
    if not condition:
        raise InertError(otherwise)


# The names that are known, and what their calls make. Each takes (machine, arguments).


def _reconstruct(machine, arguments):
    _demand(len(arguments) == 3 and arguments[0] is _NDARRAY, "a numpy array of an unknown form")
    return _Array()


def _dtype(machine, arguments):
    kind = arguments[0] if arguments else None
    _demand(isinstance(kind, str), "a numpy dtype of an unknown form")
    _demand(kind in _KINDS, f"numpy values of the type '{_shown(kind)}'")
    return _DType(kind)


def _scalar(machine, arguments):
    _demand(len(arguments) == 2, "a numpy number of an unknown form")
    return machine.array(arguments[1], arguments[0], (), "C").item()


def _from_buffer(machine, arguments):
    _demand(len(arguments) == 4, "a numpy array of an unknown form")
    return machine.array(*arguments)


def _encode(machine, arguments):
    """bytes as protocol 2 writes them: text of the characters 0 to 255."""
    known = len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1")
    _demand(known, "bytes of an unknown form")
    machine.array_bytes += len(arguments[0])
    _demand(machine.array_bytes <= 2 * len(machine.data), "bytes larger than the pickle itself")
    return arguments[0].encode("latin-1")


def _no_bytes(machine, arguments):
    """Empty bytes as protocol 2 writes them."""
    _demand(arguments == (), "bytes of an unknown form")
    return b""


_NDARRAY = _Name()
_CORES = ("numpy.core", "numpy._core")  # its name before and after numpy 2
_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Name(_dtype),
    ("_codecs", "encode"): _Name(_encode),
    ("__builtin__", "bytes"): _Name(_no_bytes),
    **{(f"{core}.multiarray", "_reconstruct"): _Name(_reconstruct) for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Name(_scalar) for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _Name(_from_buffer) for core in _CORES},
}


def _name(machine, module, name):
    if (module, name) not in _NAMES:
        raise InertError(f"a pickle that asks for {_shown(module)}.{_shown(name)}, which is not plain data")
    machine.push(_NAMES[module, name])


def _shown(text):
    """Any text, short and printable."""
    return ascii(text)[1:-1][:80]


# The instructions. Each takes (machine, argument); the names are those of pickletools.


def _ignore(machine, argument):
    """FRAME: only says how much to read at once."""


def _stop(machine, argument):
    """STOP: the value on top is the result."""


def _proto(machine, version):
    _demand(2 <= version <= 5, f"a pickle of protocol {version}; 2 to 5 are read")


def _whole(machine, value):
    _demand(-(1 << 63) <= value < 1 << 64, "a pickle with a whole number of more than 64 bits")
    machine.push(value)


def _constant(value):
    return lambda machine, _: machine.push(value)


def _tuple_of(count):
    def handler(machine, _):
        values = [machine.pop() for _ in range(count)]
        machine.push_container(tuple(values[::-1]))

    return handler


def _set_items(target, items):
    keys, values = items[::2], items[1::2]
    _demand(len(keys) == len(values), "a damaged pickle (a key without a value)")
    # Numbers can be chosen so that a dictionary of them takes hours; text cannot.
    _demand(all(type(key) is str for key in keys), "a dictionary key that is not text")
    target.update(zip(keys, values))


def _append(machine, _):
    value = machine.pop()
    machine.to_fill(list).append(value)


def _appends(machine, _):
    values = machine.pop_to_mark()
    machine.to_fill(list).extend(values)


def _set_item(machine, _):
    value, key = machine.pop(), machine.pop()
    _set_items(machine.to_fill(dict), [key, value])


def _set_many(machine, _):
    items = machine.pop_to_mark()
    _set_items(machine.to_fill(dict), items)


def _global(machine, names):
    _name(machine, *names.split(" ", 1))


def _inst(machine, names):
    raise InertError(f"a pickle that asks for {_shown(names.replace(' ', '.'))}, which is not plain data")


def _stack_global(machine, _):
    name, module = machine.pop(), machine.pop()
    _demand(isinstance(name, str) and isinstance(module, str), "a damaged pickle (a name that is not text)")
    _name(machine, module, name)


def _reduce(machine, _):
    arguments, called = machine.pop(), machine.pop()
    known = isinstance(called, _Name) and called.build and isinstance(arguments, tuple)
    _demand(known, "a pickle that calls what cannot be called")
    machine.push_container(called.build(machine, arguments))


def _build(machine, _):
    state, target = machine.pop(), machine.pop()
    _demand(isinstance(target, (_DType, _Array)), "a pickle that sets the state of plain data")
    target.set_state(machine, state)
    machine.stack.append(target.array if isinstance(target, _Array) else target)


_INSTRUCTIONS = {
    "PROTO": _proto, "FRAME": _ignore, "STOP": _stop,
    "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False), "MARK": _Machine.mark,
    "BININT": _Machine.push, "BININT1": _Machine.push, "BININT2": _Machine.push, "LONG1": _whole, "BINFLOAT": _Machine.push,
    "BINUNICODE": _Machine.push, "SHORT_BINUNICODE": _Machine.push, "BINUNICODE8": _Machine.push,
    "BINBYTES": _Machine.push, "SHORT_BINBYTES": _Machine.push, "BINBYTES8": _Machine.push,
    "BYTEARRAY8": lambda machine, value: machine.push(bytes(value)),
    "EMPTY_LIST": lambda machine, _: machine.push_container([]), "EMPTY_DICT": lambda machine, _: machine.push_container({}),
    "EMPTY_TUPLE": _tuple_of(0), "TUPLE1": _tuple_of(1), "TUPLE2": _tuple_of(2), "TUPLE3": _tuple_of(3),
    "TUPLE": lambda machine, _: machine.push_container(tuple(machine.pop_to_mark())),
    "APPEND": _append, "APPENDS": _appends, "SETITEM": _set_item, "SETITEMS": _set_many,
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "BINPUT": _Machine.remember, "LONG_BINPUT": _Machine.remember, "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "GLOBAL": _global, "INST": _inst, "STACK_GLOBAL": _stack_global, "REDUCE": _reduce, "BUILD": _build,
}  # fmt: skip
_CODES = {word.name: word.code.encode("latin-1") for word in pickletools.opcodes}
_RUN = re.compile(rb"(?:K.)+|(?:G.{8})+", re.DOTALL)  # of BININT1, a byte, or of BINFLOAT, eight bytes
_HANDLERS = {_CODES[name]: handler for name, handler in _INSTRUCTIONS.items()}


def dump_plain(value):
    """A pickle (protocol 3, bytes) of dict, list, str, int, float and bool, without a single name in it.

    Raises TypeError for anything else, and for an int of more than 32 bits.
    """
    return b"\x80\x03" + b"".join(_dumped(value)) + b"."


def _dumped(value):
    if isinstance(value, bool):
        yield b"\x88" if value else b"\x89"
    elif isinstance(value, int) and -(1 << 31) <= value < 1 << 31:
        yield b"J" + struct.pack("<i", value)
    elif isinstance(value, float):
        yield b"G" + struct.pack(">d", value)
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")  # file names that are not UTF-8, as Python holds them
        yield b"X" + struct.pack("<I", len(text)) + text
    elif isinstance(value, list):
        yield b"]("
        for item in value:
            yield from _dumped(item)
        yield b"e"
    elif isinstance(value, dict):
        yield b"}("
        for key, item in value.items():
            yield from _dumped(key)
            yield from _dumped(item)
        yield b"u"
    else:
        raise TypeError(f"dump_plain: expected dict, list, str, int of 32 bits, float or bool, got {type(value).__name__}")
