"""Reads plain NumPy arrays from pickle files without unpickling.

A pickle is a program: unpickling runs the functions that it names. This package never unpickles. Some data is published
only as pickles (the relevancy matrix and the features of EPIC-KITCHENS-100); this file interprets those as data.
`pickletools.genops` of the standard library splits the file into opcodes without running any. A table maps the opcodes
of lists, dicts, tuples, texts, bytes and numbers to actions; the only functions that a pickle may name are those with
which NumPy writes arrays, scalars and dtypes, and they are replaced by `np.frombuffer`. All else raises DataError.
"""

from __future__ import annotations

import os
import pathlib
import pickletools
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from alignment_jax.core.errors import DataError

_NUMPY = {
    f"{module} {name}": meaning
    for package in ("numpy.core", "numpy._core")
    for module, name, meaning in (
        (f"{package}.multiarray", "_reconstruct", "array"),
        (f"{package}.multiarray", "scalar", "scalar"),
        (f"{package}.numeric", "_frombuffer", "buffer"),
    )
} | {
    "numpy ndarray": "type of arrays",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
    "__builtin__ bytes": "no bytes",  # how protocols 0 to 2 write b""
}
# bool, integers, floats, complex, bytes and text of fixed width; not objects, records or dates.
_DTYPE = re.compile(r"^[<>|=]?(b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,6})$")
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE"),
    *("SHORT_BINUNICODE", "BINUNICODE8"),
}


def read_plain_pickle(path: pathlib.Path) -> Any:
    """Reads an array, or lists and dicts of arrays, texts and numbers, from a pickle file without executing it.

    Args:
      path: a pickle of any protocol.

    Returns:
      The pickled value; arrays are read-only.

    Raises:
      DataError: the file is missing, damaged, or holds other objects; the message names the function it would run, and
        the position in the file.

    >>> import pickle, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "relevancy.pkl"
    >>> _ = path.write_bytes(pickle.dumps({"RGB": np.eye(2)}))
    >>> read_plain_pickle(path)["RGB"].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> _ = path.write_bytes(pickle.dumps(print))
    >>> read_plain_pickle(path)
    Traceback (most recent call last):
    ...
    alignment_jax.core.errors.DataError: ...: at byte ...: it names builtins.print; only plain NumPy arrays in lists ...
    """
    try:
        with open(path, "rb") as file:
            return _Reader(path, file).run()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


class _Bounded:
    """A file that refuses to read past its end, so that a forged length allocates no memory."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise ValueError(f"{count} bytes expected, but only {self._size - self._file.tell()} are left")
        return self._file.read(count)


class _Name(str):
    """The meaning in `_NUMPY` of a function that a pickle names; never the function itself."""


class _Dtype:
    def __init__(self, code: str):
        self.code = code
        self.order = "="

    def numpy(self) -> np.dtype:
        dtype = np.dtype(self.code)
        return dtype.newbyteorder("<" if self.order == "<" else ">") if self.order in "<>" else dtype


class _Arguments(tuple):
    """A tuple of names or dtypes: arguments of a function, not a value."""


class _Unfinished:
    """An array without content yet; `value` once it is built."""

    value: np.ndarray | None = None


_NO_VALUE = (_Unfinished, _Name, _Dtype, _Arguments)


class _Refused(Exception):
    """The reason, for the message."""


class _Reader:
    """The stack machine of the pickle format, limited to the opcodes above."""

    def __init__(self, path: pathlib.Path, file: IO[bytes]):
        self._path, self._file = path, file
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        position = 0
        try:
            for opcode, argument, place in pickletools.genops(_Bounded(self._file)):  # type: ignore[arg-type]
                position = place or 0
                if opcode.name == "STOP":
                    value = self._pop()
                    if self._stack:
                        raise _Refused("something is left over at its end")
                    return value
                self._do(opcode.name, argument)
        except _Refused as error:
            raise DataError(
                f"{self._path}: at byte {position}: {error}; only plain NumPy arrays in lists and dicts are read from "
                "pickles, other objects could run code: save it as .npy or .npz instead"
            ) from error
        # Raised by pickletools.genops; UnicodeDecodeError is a ValueError.
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{self._path}: after byte {position}: damaged pickle ({reason})") from error
        raise DataError(f"{self._path}: damaged pickle (it has no end)")

    def _do(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._recalled(argument))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"instruction {name}")

    def _recalled(self, number: int) -> Any:
        value = self._memo[number]
        if isinstance(value, _Unfinished) and value.value is not None:
            value = value.value
        # A list that is used twice could contain itself.
        if value is _MARK or isinstance(value, list | dict | _Unfinished):
            raise _Refused("a list, dict or unfinished array that is used twice")
        return value

    def _pop(self) -> Any:
        return _checked([self._stack.pop()])[0]

    def _pop_mark(self) -> list[Any]:
        values = []
        while self._stack[-1] is not _MARK:
            values.append(self._stack.pop())
        self._stack.pop()
        return values[::-1]

    def _pop_values(self) -> list[Any]:
        return _checked(self._pop_mark())

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise _Refused(f"an instruction for a {kind.__name__}, but there is none")
        return self._stack[-1]

    def _name(self, argument: str) -> None:
        if argument not in _NUMPY:
            raise _Refused(f"it names {argument.replace(' ', '.')[:100]}")
        self._stack.append(_Name(_NUMPY[argument]))

    def _stack_name(self, argument: Any) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise _Refused("a function without a name")
        self._name(f"{module} {name}")

    def _tuple(self, count: int | None) -> None:
        values = self._pop_mark() if count is None else [self._stack.pop() for _ in range(count)][::-1]
        if any(value is _MARK or isinstance(value, _Unfinished) for value in values):
            raise _Refused("a tuple of something unfinished")
        self._stack.append((_Arguments if any(isinstance(value, _NO_VALUE) for value in values) else tuple)(values))

    def _append(self, argument: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _appends(self, argument: Any) -> None:
        values = self._pop_values()
        self._top(list).extend(values)

    def _set(self, argument: Any) -> None:
        value, key = self._pop(), self._pop()
        self._store([key, value])

    def _sets(self, argument: Any) -> None:
        self._store(self._pop_values())

    def _dict(self) -> None:
        items = self._pop_values()
        self._stack.append({})
        self._store(items)

    def _store(self, items: list[Any]) -> None:
        target = self._top(dict)
        if len(items) % 2 or any(not isinstance(key, str | int) for key in items[::2]):
            raise _Refused("a dict whose keys are neither texts nor whole numbers")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _reduce(self, argument: Any) -> None:
        given, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or not isinstance(given, tuple):
            raise _Refused("a call of an unknown function")
        self._stack.append(_call(function, given))

    def _build(self, argument: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, _Dtype) and isinstance(state, tuple) and len(state) >= 8:
            if state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
                raise _Refused("an array type of several fields")
            target.order = state[1]
        elif isinstance(target, _Unfinished) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, content = state
            target.value = self._stack[-1] = _array(content, dtype, shape, "F" if fortran else "C")
        else:
            raise _Refused("a state for an object that is not an array")


_ACTIONS: dict[str, Callable[[_Reader, Any], None]] = {
    "MARK": lambda reader, _: reader._stack.append(_MARK),
    "GLOBAL": _Reader._name,
    "STACK_GLOBAL": _Reader._stack_name,
    "EMPTY_TUPLE": lambda reader, _: reader._tuple(0),
    "TUPLE1": lambda reader, _: reader._tuple(1),
    "TUPLE2": lambda reader, _: reader._tuple(2),
    "TUPLE3": lambda reader, _: reader._tuple(3),
    "TUPLE": lambda reader, _: reader._tuple(None),
    "EMPTY_LIST": lambda reader, _: reader._stack.append([]),
    "LIST": lambda reader, _: reader._stack.append(reader._pop_values()),
    "APPEND": _Reader._append,
    "APPENDS": _Reader._appends,
    "DICT": lambda reader, _: reader._dict(),
    "EMPTY_DICT": lambda reader, _: reader._stack.append({}),
    "SETITEM": _Reader._set,
    "SETITEMS": _Reader._sets,
    "REDUCE": _Reader._reduce,
    "BUILD": _Reader._build,
}


def _checked(values: list[Any]) -> list[Any]:
    if any(value is _MARK or isinstance(value, _NO_VALUE) for value in values):
        raise _Refused("an object that is not a value")
    return values


def _call(function: str, given: tuple[Any, ...]) -> Any:
    """The result of NumPy's function, for the arguments that NumPy writes."""
    match function, given:
        case "encode", (str(text), "latin1" | "latin-1"):  # how protocols 0 to 2 write bytes
            return text.encode("latin-1")
        case "no bytes", ():
            return b""
        case "dtype", (str(code), *_):
            if not _DTYPE.match(code):
                raise _Refused(f"an array of type {code[:20]!r}")
            return _Dtype(code)
        case "array", ("type of arrays", _, _):
            return _Unfinished()
        case "scalar", (_Dtype() as dtype, bytes(content)):
            return _array(content, dtype, (), "C")[()]
        case "buffer", (bytes() | bytearray() as content, _Dtype() as dtype, tuple(shape), "C" | "F" as order):
            return _array(content, dtype, shape, order)
    raise _Refused(f"a call of {function} with other arguments than NumPy's")


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if isinstance(content, str):  # Python 2 had one type for texts and bytes
        content = content.encode("latin-1")
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple):
        raise _Refused("an array of Python objects")
    if len(shape) > 32 or any(not isinstance(size, int) or size < 0 for size in shape):
        raise _Refused("an array of impossible shape")
    kind, count = dtype.numpy(), 1
    for size in shape:
        count *= size
    if count * kind.itemsize != len(content):
        raise _Refused(f"an array of {count} numbers in {len(content)} bytes")
    array = np.frombuffer(content, kind).reshape(shape, order=order)  # type: ignore[call-overload]
    array.flags.writeable = False
    return array
