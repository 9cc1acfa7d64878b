"""What process 0 says to the others: JSON with arrays in it, errors and bytes, in broadcasts of few lengths.

JAX compiles a program for every length that it broadcasts, so messages are padded to powers of two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import AlignmentError

# Bytes of one broadcast: powers of two between these.
LEAST, MOST = 1 << 10, 1 << 26
_LENGTH = 8  # bytes of a number that says how long something is
_ARRAY = "__array__"  # stands for an array in the JSON of a message


def pack(message: dict[str, Any]) -> bytes:
    """The length of the JSON text, the text, and the bytes of the arrays that it mentions.

    >>> unpack(pack({"a": [0.1, np.float32([-0.0])]}))
    {'a': [0.1, array([-0.], dtype=float32)]}
    """
    parts: list[bytes] = []

    def mention(value: Any) -> dict[str, Any]:
        array = np.asarray(value)
        if array.dtype == object:
            raise TypeError(f"message: a {type(value).__name__} is neither JSON nor an array")
        start = sum(map(len, parts))
        parts.append(bytes_of(array).tobytes())
        return {_ARRAY: [array.dtype.name, list(array.shape), start, start + len(parts[-1])]}

    text = json.dumps(message, default=mention).encode()
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *parts])


def unpack(message: bytes) -> dict[str, Any]:
    """What `pack` made a message of."""
    size = _LENGTH + int.from_bytes(message[:_LENGTH], "little")
    arrays = memoryview(message)[size:]

    def found(value: dict[str, Any]) -> Any:
        if value.keys() != {_ARRAY}:
            return value
        dtype, shape, start, end = value[_ARRAY]
        return np.frombuffer(bytearray(arrays[start:end]), dtype).reshape(shape)

    return json.loads(message[_LENGTH:size], object_hook=found)


def broadcast_bytes(message: bytes) -> bytes:
    """Process 0's message, of any length, on every process; the first broadcast says how long it is."""
    room = LEAST - _LENGTH
    begun = len(message).to_bytes(_LENGTH, "little") + message[:room]
    first = broadcast_array(np.frombuffer(begun.ljust(LEAST, b"\0"), np.uint8)).tobytes()
    size = int.from_bytes(first[:_LENGTH], "little")
    begun = first[_LENGTH : _LENGTH + size]
    if size <= room:
        return begun
    own = np.frombuffer(message[room:], np.uint8) if jax.process_index() == 0 else np.zeros(size - room, np.uint8)
    return begun + broadcast_array(own).tobytes()


def broadcast_array(own: np.ndarray) -> np.ndarray:
    """Process 0's bytes on every process: uint8 [n], of the same n everywhere."""
    found = np.empty_like(own)
    for start in range(0, len(own), MOST):
        part = own[start : start + MOST]
        padded = np.zeros(max(LEAST, 1 << (len(part) - 1).bit_length()), np.uint8)
        padded[: len(part)] = part
        # Bytes, because a broadcast adds zeros: to numbers that would turn -0.0 into 0.0.
        found[start : start + len(part)] = multihost_utils.broadcast_one_to_all(padded)[: len(part)]
    return found


def bytes_of(array: Any) -> np.ndarray:
    """uint8 [bytes], a view where the array is in one piece.

    >>> bytes_of(np.float32(1.0)).tolist()
    [0, 0, 128, 63]
    """
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def error_class(names: Sequence[str]) -> type[AlignmentError]:
    """The first of these classes of errors that this process has.

    >>> error_class(["SomethingNew", "DataError", "UserError"]).__name__
    'DataError'
    """
    known: dict[str, type[AlignmentError]] = {}
    left: list[type[AlignmentError]] = [AlignmentError]
    while left:
        kind = left.pop()
        known[kind.__name__] = kind
        left += kind.__subclasses__()
    return next(known[name] for name in names if name in known)


__getattr__ = renamed_names(
    __name__,
    {
        "packed": "pack",
        "unpacked": "unpack",
        "sent": "broadcast_bytes",
        "exchanged": "broadcast_array",
        "class_of": "error_class",
    },
)
