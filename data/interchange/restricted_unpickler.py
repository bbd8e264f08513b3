"""A restricted unpickler: it reads a pickle as plain data, importing nothing and calling nothing.

A pickle is a program for a small stack machine. Two of its instructions import a name and call it,
so to unpickle an untrusted file is to run its code. Here pickletools splits the pickle into
instructions, and they can build only dictionaries with str keys, lists, tuples, str, bytes,
numbers, bool, None and plain numpy arrays. The few names that numpy needs to pickle arrays are
placeholders on the stack, looked up in a table below. Any other name is rejected, and the error
states it.

A small file may also expand to gigabytes through references. So there are limits on the bytes, on
the number of values, on the nesting depth, and on the expanded size, in which a value counts as
often as it occurs.

`dump_plain` writes plain data as a pickle that imports no name and that every program can read.
"""

import io
import math
import pickletools
import re
import struct

import numpy as np

MAX_BYTES = 256 << 20
MAX_VALUES = 1_000_000
MAX_DEPTH = 32

_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}  # allowed in numpy arrays
_LEAF_TYPES = {str, bytes, int, float, bool, type(None), np.ndarray}


class UnpicklerError(ValueError):
    """The pickle is damaged, too large or no plain data. The message is a phrase."""


class _Name:
    """A placeholder for an imported name. build(machine, arguments) replaces its call, if any."""

    def __init__(self, build=None):
        self.build = build


class _DType:
    """An unfinished numpy dtype: its kind, such as f4, before its byte order is set."""

    def __init__(self, kind):
        self.kind, self.dtype = kind, None

    def set_state(self, machine, state):
        known = isinstance(state, tuple) and len(state) >= 5 and state[1] in ("<", ">", "|", "=")
        _require(known and state[2:5] == (None, None, None), "a numpy dtype of an unknown form")
        self.dtype = np.dtype(self.kind).newbyteorder(state[1])


class _Array:
    """An unfinished numpy array: it is first referred to and then filled."""

    def __init__(self):
        self.array = None

    def set_state(self, machine, state):
        _require(isinstance(state, tuple) and len(state) == 5, "a numpy array of an unknown form")
        _version, shape, dtype, is_fortran, raw = state
        self.array = machine.array(raw, dtype, shape, "F" if is_fortran is True else "C")


def read_plain(data, max_values=MAX_VALUES):
    """Return the value of a pickle of plain data.

    data: bytes, protocol 2 to 5
    max_values: limit on the number of values, each counted as often as it occurs
    Returns dict, list, tuple, str, bytes, int (64 bits), float, bool, None and numpy arrays of
    numbers, in any nesting. Raises UnpicklerError.
    """
    if len(data) > MAX_BYTES:
        raise UnpicklerError(f"a pickle of {len(data):,} bytes, more than the limit of {MAX_BYTES:,}")
    value = _Machine(data, max_values).run()
    _check_size(value, max_values)
    return value


class _Machine:
    """The stack machine.

    stack: the values
    marks: indices in the stack at which a group starts
    memo: {number: value}
    """

    def __init__(self, data, max_values):
        self.data, self.max_values = data, max_values
        self.stack, self.marks, self.memo = [], [], {}
        self.values = self.containers = self.array_bytes = 0

    def run(self):
        stream = io.BytesIO(self.data)
        instructions = pickletools.genops(stream)
        while True:
            offset = stream.tell()
            handler = _HANDLERS.get(self.data[offset : offset + 1])  # checked before pickletools decodes the argument
            if handler is None:
                raise UnpicklerError(self._unknown(offset))
            if match := _NUMBERS.match(self.data, offset):
                self.push_numbers(match.group())
                stream.seek(match.end())
                continue
            try:
                _, argument, _ = next(instructions)
                if handler is _stop:
                    return self.pop()
                handler(self, argument)
            except UnpicklerError:
                raise
            # pickletools warns of invalid escapes; Warning is raised if warnings are errors.
            except (ValueError, MemoryError, Warning) as error:
                raise UnpicklerError(f"a damaged pickle (at byte {offset:,})") from error

    def _unknown(self, offset):
        if offset >= len(self.data):
            return "a pickle that is cut short"
        name = next((name for name, code in _CODES.items() if code == self.data[offset : offset + 1]), None)
        if name is None:
            return f"a damaged pickle (at byte {offset:,})"
        return f"a pickle with {name}, which plain data does not need"

    def count(self, values):
        self.values += values
        if self.values > self.max_values:
            raise UnpicklerError(f"a pickle of more than {self.max_values:,} values")

    def push(self, value):
        self.count(1)
        self.stack.append(value)

    def push_numbers(self, instructions):
        """Push a run of numbers at once, which is ten times faster.

        instructions: bytes that _NUMBERS matches, such as 512 numbers of a face embedding
        """
        if instructions[:1] == _CODES["BININT1"]:
            numbers = instructions[1::2]
        else:
            numbers = [number for (number,) in struct.iter_unpack(">xd", instructions)]
        self.count(len(numbers))
        self.stack.extend(numbers)

    def push_container(self, value):
        self.containers += 1  # an empty one takes one byte in the file and sixty in memory
        if self.containers > self.max_values // 4:
            raise UnpicklerError(f"a pickle of more than {self.max_values // 4:,} lists and dictionaries")
        self.push(value)

    def top(self):
        """Return the value on top of the stack, above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise UnpicklerError("a damaged pickle (a value is missing)")
        return self.stack[-1]

    def pop(self):
        value = self.top()
        del self.stack[-1]
        return value

    def mark(self, _):
        self.count(1)
        self.marks.append(len(self.stack))

    def pop_to_mark(self):
        """Remove the last mark and the values above it, and return the values."""
        _require(self.marks, "a damaged pickle (a mark is missing)")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def to_fill(self, kind):
        """Return the value on top of the stack, which must be of type `kind`, list or dict."""
        value = self.top()
        _require(type(value) is kind, "a damaged pickle (it adds items to something else than a list or a dict)")
        return value

    def remember(self, number):
        _require(len(self.memo) < self.max_values // 2, "a pickle with too many remembered values")
        self.memo[number] = self.top()

    def recall(self, number):
        _require(number in self.memo, "a damaged pickle (it refers to an unknown value)")
        value = self.memo[number]
        self.push(value.array if isinstance(value, _Array) and value.array is not None else value)

    def array(self, raw, dtype, shape, order):
        """Return the array that raw bytes hold.

        raw: bytes
        dtype: a finished _DType
        shape: tuple
        order: 'C' or 'F'
        """
        _require(isinstance(dtype, _DType) and dtype.dtype is not None, "a numpy array without a plain dtype")
        _require(isinstance(raw, bytes) and order in ("C", "F"), "a numpy array of an unknown form")
        _require(isinstance(shape, tuple) and len(shape) <= 8, "a numpy array of an unknown form")
        valid = all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
        size = math.prod(shape) * dtype.dtype.itemsize if valid else None
        _require(size == len(raw), "a numpy array whose size does not fit its bytes")
        self.array_bytes += len(raw)
        _require(self.array_bytes <= 2 * len(self.data), "numpy arrays larger than the pickle itself")
        if dtype.kind == "b1":
            return (np.frombuffer(raw, np.uint8) != 0).reshape(shape, order=order)
        return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _check_size(value, max_values):
    """Reject a value that is nested too deep, too large when expanded, or unfinished."""
    level, count = [value], 0
    for _ in range(MAX_DEPTH):
        below = []
        for item in level:
            kind = type(item)
            if kind is dict:
                below.extend(item.values())
            elif kind is list or kind is tuple:
                below.extend(item)
            elif kind not in _LEAF_TYPES:
                raise UnpicklerError("a pickle with an unfinished value")
            if count + len(below) > max_values:
                raise UnpicklerError(f"a pickle that expands to more than {max_values:,} values")
        if not below:
            return
        level, count = below, count + len(below)
    raise UnpicklerError(f"values nested deeper than {MAX_DEPTH}")


def _require(condition, message):
    if not condition:
        raise UnpicklerError(message)


# The calls of the allowed names. Each function takes (machine, arguments) and returns the result.


def _reconstruct(machine, arguments):
    _require(len(arguments) == 3 and arguments[0] is _NDARRAY, "a numpy array of an unknown form")
    return _Array()


def _dtype(machine, arguments):
    kind = arguments[0] if arguments else None
    _require(isinstance(kind, str), "a numpy dtype of an unknown form")
    _require(kind in _DTYPES, f"numpy values of the type '{_shown(kind)}'")
    return _DType(kind)


def _scalar(machine, arguments):
    _require(len(arguments) == 2, "a numpy number of an unknown form")
    return machine.array(arguments[1], arguments[0], (), "C").item()


def _from_buffer(machine, arguments):
    _require(len(arguments) == 4, "a numpy array of an unknown form")
    return machine.array(*arguments)


def _encode(machine, arguments):
    """Return bytes as protocol 2 writes them: text of the characters 0 to 255."""
    known = len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1")
    _require(known, "bytes of an unknown form")
    machine.array_bytes += len(arguments[0])
    _require(machine.array_bytes <= 2 * len(machine.data), "bytes larger than the pickle itself")
    return arguments[0].encode("latin-1")


def _empty_bytes(machine, arguments):
    """Return empty bytes as protocol 2 writes them."""
    _require(arguments == (), "bytes of an unknown form")
    return b""


_NDARRAY = _Name()
_CORES = ("numpy.core", "numpy._core")  # before and since numpy 2
_NAMES = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Name(_dtype),
    ("_codecs", "encode"): _Name(_encode),
    ("__builtin__", "bytes"): _Name(_empty_bytes),
    **{(f"{core}.multiarray", "_reconstruct"): _Name(_reconstruct) for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _Name(_scalar) for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _Name(_from_buffer) for core in _CORES},
}


def _push_name(machine, module, name):
    if (module, name) not in _NAMES:
        raise UnpicklerError(f"a pickle that asks for {_shown(module)}.{_shown(name)}, which is not plain data")
    machine.push(_NAMES[module, name])


def _shown(text):
    """Return any text, shortened and printable."""
    return ascii(text)[1:-1][:80]


# The instructions. Each function takes (machine, argument). The names are those of pickletools.


def _ignore(machine, argument):
    """Ignore FRAME: it only states how many bytes to read at once."""


def _stop(machine, argument):
    """Do nothing: at STOP, _Machine.run returns the value on top of the stack."""


def _proto(machine, version):
    _require(2 <= version <= 5, f"a pickle of protocol {version}, not of 2 to 5")


def _long(machine, value):
    _require(-(1 << 63) <= value < 1 << 64, "a pickle with an integer of more than 64 bits")
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
    _require(len(keys) == len(values), "a damaged pickle (a key without a value)")
    # Integer keys can be chosen so that their hashes collide and a dictionary takes hours; str
    # hashes are random.
    _require(all(type(key) is str for key in keys), "a dictionary key that is not a str")
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
    _push_name(machine, *names.split(" ", 1))


def _inst(machine, names):
    raise UnpicklerError(f"a pickle that asks for {_shown(names.replace(' ', '.'))}, which is not plain data")


def _stack_global(machine, _):
    name, module = machine.pop(), machine.pop()
    _require(isinstance(name, str) and isinstance(module, str), "a damaged pickle (a name that is not a str)")
    _push_name(machine, module, name)


def _reduce(machine, _):
    arguments, function = machine.pop(), machine.pop()
    known = isinstance(function, _Name) and function.build and isinstance(arguments, tuple)
    _require(known, "a pickle that calls something else than an allowed name")
    machine.push_container(function.build(machine, arguments))


def _build(machine, _):
    state, target = machine.pop(), machine.pop()
    _require(isinstance(target, (_DType, _Array)), "a pickle that sets the state of plain data")
    target.set_state(machine, state)
    machine.stack.append(target.array if isinstance(target, _Array) else target)


_INSTRUCTIONS = {
    "PROTO": _proto, "FRAME": _ignore, "STOP": _stop,
    "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False), "MARK": _Machine.mark,
    "BININT": _Machine.push, "BININT1": _Machine.push, "BININT2": _Machine.push, "LONG1": _long,
    "BINFLOAT": _Machine.push,
    "BINUNICODE": _Machine.push, "SHORT_BINUNICODE": _Machine.push, "BINUNICODE8": _Machine.push,
    "BINBYTES": _Machine.push, "SHORT_BINBYTES": _Machine.push, "BINBYTES8": _Machine.push,
    "BYTEARRAY8": lambda machine, value: machine.push(bytes(value)),
    "EMPTY_LIST": lambda machine, _: machine.push_container([]),
    "EMPTY_DICT": lambda machine, _: machine.push_container({}),
    "EMPTY_TUPLE": _tuple_of(0), "TUPLE1": _tuple_of(1), "TUPLE2": _tuple_of(2), "TUPLE3": _tuple_of(3),
    "TUPLE": lambda machine, _: machine.push_container(tuple(machine.pop_to_mark())),
    "APPEND": _append, "APPENDS": _appends, "SETITEM": _set_item, "SETITEMS": _set_many,
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "BINPUT": _Machine.remember, "LONG_BINPUT": _Machine.remember,
    "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "GLOBAL": _global, "INST": _inst, "STACK_GLOBAL": _stack_global, "REDUCE": _reduce, "BUILD": _build,
}  # fmt: skip
_CODES = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}
_NUMBERS = re.compile(rb"(?:K.)+|(?:G.{8})+", re.DOTALL)  # a run of BININT1 (one byte) or of BINFLOAT (eight bytes)
_HANDLERS = {_CODES[name]: handler for name, handler in _INSTRUCTIONS.items()}


def dump_plain(value):
    """Return dict, list, str, int, float or bool as a pickle (protocol 3) that imports no name.

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
        text = value.encode("utf-8", "surrogatepass")  # surrogates: file names that are not UTF-8
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
        got = type(value).__name__
        raise TypeError(f"dump_plain: expected dict, list, str, int of 32 bits, float or bool, got {got}")
