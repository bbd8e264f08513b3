"""A restricted unpickler: it reads a pickle as plain data, importing nothing and calling nothing.

A pickle is a program for a small stack machine. Two of its instructions import a name and call it,
so to unpickle an untrusted file is to run its code. Here pickletools splits the pickle into
instructions, and they can build only dictionaries with str keys, lists, tuples, str, bytes,
numbers, bool, None and plain numpy arrays. The few names that numpy needs to pickle arrays are
placeholders on the stack. Any other name is rejected, and the error states it.

A small file may also expand to gigabytes through references. So there are limits on the bytes, the
values, the nesting depth and the expanded size, in which a value counts as often as it occurs.
"""

import io
import math
import pickletools
import re
import struct

import numpy as np

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 256 << 20, 1_000_000, 32
_SCALARS, _GROUPS = {str, bytes, int, float, bool, type(None)}, {dict, list, tuple}
_DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_NAMES = {"numpy": "ndarray dtype", "_codecs": "encode", "__builtin__": "bytes",
          "numpy.core.multiarray": "_reconstruct scalar", "numpy.core.numeric": "_frombuffer",  # before numpy 2
          "numpy._core.multiarray": "_reconstruct scalar", "numpy._core.numeric": "_frombuffer"}
_NUMBERS = re.compile(rb"(?P<B>(?:K.)+)|(?P<d>(?:G.{8})+)", re.DOTALL)  # a run of BININT1 or of BINFLOAT


class UnpicklerError(Exception):
    """The pickle is damaged, too large or no plain data. The message is a phrase."""


def read_plain(data, max_values=MAX_VALUES):
    """Return the value of a pickle of plain data. Raises UnpicklerError.

    data: bytes, protocol 2 to 5
    max_values: limit on the number of values, each counted as often as it occurs
    """
    _require(len(data) <= MAX_BYTES, f"a pickle of {len(data):,} bytes, more than the limit of {MAX_BYTES:,}")
    machine, stream = _Machine(len(data), max_values), io.BytesIO(data)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return _checked(machine.take(1), max_values)
            if opcode.name not in _HANDLERS:
                raise UnpicklerError(f"a pickle with {opcode.name}, which plain data does not need")
            _HANDLERS[opcode.name](machine, argument)
            if run := _NUMBERS.match(data, stream.tell()):  # ten times faster than one number at a time
                machine.extend([number for (number,) in struct.iter_unpack(f">x{run.lastgroup}", run.group())])
                stream.seek(run.end())
    except (ValueError, MemoryError, Warning) as error:  # pickletools warns of invalid escapes
        place = "it is cut short" if stream.tell() == len(data) else f"at byte {stream.tell():,}"
        raise UnpicklerError(f"a damaged pickle ({place})") from error


def _require(condition, message):
    if not condition:
        raise UnpicklerError(message)


def _checked(values, max_values):
    """Return the only value unless it is unfinished, nested too deep or too large when expanded."""
    level, count = values, 0
    for _ in range(MAX_DEPTH):
        _require(set(map(type, level)) <= {*_SCALARS, *_GROUPS, np.ndarray}, "a pickle with an unfinished value")
        groups = [item for item in level if type(item) in _GROUPS]
        count += sum(map(len, groups))
        _require(count <= max_values, f"a pickle that expands to more than {max_values:,} values")
        level = [item for group in groups for item in (group.values() if type(group) is dict else group)]
    _require(not level, f"values nested deeper than {MAX_DEPTH}")
    return values[0]


class _Placeholder:
    """A name; or an array or a dtype such as f4, which is its own value until BUILD sets that."""

    def __init__(self, name):
        self.name, self.value = name, self


class _Machine:
    """The stack machine. stack: the values; marks: where groups start in it; memo: {number: value}."""

    def __init__(self, size, max_values):
        self.stack, self.marks, self.memo = [], [0], {}
        self.limits = {"values": max_values, "remembered values": max_values // 2, "bytes of numpy arrays": 2 * size,
                       "lists and dictionaries": max_values // 4}  # each takes a byte in the file, 60 in memory
        self.spent = dict.fromkeys(self.limits, 0)

    def spend(self, kind, amount=1):
        self.spent[kind] += amount
        if self.spent[kind] > self.limits[kind]:
            raise UnpicklerError(f"a pickle of more than {self.limits[kind]:,} {kind}")

    def extend(self, values):
        self.spend("values", len(values))
        self.stack += values

    def push(self, value):
        if type(value) not in _SCALARS:
            self.spend("lists and dictionaries")
        self.spend("values")
        self.stack.append(value)

    def take(self, count=None):
        """Remove and return the `count` values on top of the stack, or else the last mark and those above it."""
        _require(count or len(self.marks) > 1, "a damaged pickle (a mark is missing)")
        start = len(self.stack) - count if count else self.marks.pop()
        _require(start >= self.marks[-1], "a damaged pickle (a value is missing)")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def fill(self, kind, items):
        """Add items to the list on top of the stack, or keys and values in turn to the dict."""
        (target,) = self.take(1)
        _require(type(target) is kind, "a damaged pickle (it adds items to something else than a list or a dict)")
        if kind is list:
            target += items
        else:
            _require(len(items) % 2 == 0, "a damaged pickle (a key without a value)")
            # Hashes of integers can be chosen to collide, so that a dictionary takes hours; those of str are random.
            _require(all(type(key) is str for key in items[::2]), "a dictionary key that is not a str")
            target.update(zip(items[::2], items[1::2]))
        self.stack.append(target)

    def remember(self, number):
        self.spend("remembered values")
        (self.memo[number],) = value = self.take(1)
        self.stack += value

    def recall(self, number):
        _require(number in self.memo, "a damaged pickle (it refers to an unknown value)")
        value = self.memo[number]
        self.extend([value.value if isinstance(value, _Placeholder) else value])

    def push_name(self, module, name, names=_NAMES):
        _require(type(module) is type(name) is str, "a damaged pickle (a name that is not a str)")
        shown = ascii(f"{module}.{name}"[:80])[1:-1]
        _require(name in names.get(module, "").split(), f"a pickle that asks for {shown}, which is not plain data")
        self.push(_Placeholder(name))

    def apply(self, instruction):
        """Return the result of REDUCE, which calls a name, or of BUILD, which completes an array or a dtype."""
        target, state = self.take(2)
        _require(isinstance(target, _Placeholder) and isinstance(state, tuple),
                 "a pickle that calls something else than an allowed name or sets the state of plain data")
        match instruction, target.name, state:
            case "REDUCE", "_reconstruct", (_Placeholder(name="ndarray"), _, _):
                return _Placeholder("array")
            case "BUILD", "array", (_, tuple(shape), np.dtype() as dtype, is_fortran, bytes(raw)):
                target.value = self.array(raw, dtype, shape, "F" if is_fortran is True else "C")
                return target.value
            case "REDUCE", "_frombuffer", (bytes(raw), np.dtype() as dtype, tuple(shape), "C" | "F" as order):
                return self.array(raw, dtype, shape, order)
            case "REDUCE", "scalar", (np.dtype() as dtype, bytes(raw)):
                return self.array(raw, dtype, (), "C").item()
            case "REDUCE", "dtype", (str(kind), *_):
                _require(kind in _DTYPES, f"numpy values of the type {kind[:80]!a}")
                return _Placeholder(kind)
            case "BUILD", kind, (_, "<" | ">" | "|" | "=" as order, None, None, None, *_) if kind in _DTYPES:
                target.value = np.dtype(kind).newbyteorder(order)
                return target.value
            case "REDUCE", "encode", (str(text), "latin1" | "latin-1"):  # bytes in protocol 2
                self.spend("bytes of numpy arrays", len(text))
                return text.encode("latin-1")
            case "REDUCE", "bytes", ():
                return b""
        raise UnpicklerError("a numpy array, dtype or number of an unknown form")

    def array(self, raw, dtype, shape, order):
        _require(len(shape) <= 8, "a numpy array of an unknown form")
        valid = all(type(side) is int and 0 <= side < 1 << 31 for side in shape)
        _require(valid and math.prod(shape) * dtype.itemsize == len(raw), "an array whose size does not fit its bytes")
        self.spend("bytes of numpy arrays", len(raw))
        array = np.frombuffer(raw, np.uint8 if dtype == bool else dtype).reshape(shape, order=order)
        return array != 0 if dtype == bool else array


# _require and spend return None: what follows their `or` is done as well.
_HANDLERS = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
                     "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), _Machine.push),
    "PROTO": lambda m, version: _require(2 <= version <= 5, f"a pickle of protocol {version}, not of 2 to 5"),
    "FRAME": lambda m, size: None, "MARK": lambda m, _: m.spend("values") or m.marks.append(len(m.stack)),
    "LONG1": lambda m, n: _require(-1 << 63 <= n < 1 << 64, "a pickle with an int of more than 64 bits") or m.push(n),
    "NONE": lambda m, _: m.push(None), "NEWTRUE": lambda m, _: m.push(True), "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]), "EMPTY_DICT": lambda m, _: m.push({}),
    "BYTEARRAY8": lambda m, value: m.push(bytes(value)), "TUPLE": lambda m, _: m.push(tuple(m.take())),
    "EMPTY_TUPLE": lambda m, _: m.push(()), "TUPLE1": lambda m, _: m.push(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.take(2))), "TUPLE3": lambda m, _: m.push(tuple(m.take(3))),
    "APPEND": lambda m, _: m.fill(list, m.take(1)), "APPENDS": lambda m, _: m.fill(list, m.take()),
    "SETITEM": lambda m, _: m.fill(dict, m.take(2)), "SETITEMS": lambda m, _: m.fill(dict, m.take()),
    "BINPUT": _Machine.remember, "LONG_BINPUT": _Machine.remember, "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "GLOBAL": lambda m, names: m.push_name(*names.split(" ", 1)), "STACK_GLOBAL": lambda m, _: m.push_name(*m.take(2)),
    "INST": lambda m, names: m.push_name(*names.split(" ", 1), names={}),
    "REDUCE": lambda m, _: m.push(m.apply("REDUCE")), "BUILD": lambda m, _: m.stack.append(m.apply("BUILD")),
}  # fmt: skip
