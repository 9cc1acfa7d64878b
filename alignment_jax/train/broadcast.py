"""Broadcasts from process 0 and gathers from all: JSON with arrays, errors and bytes.

JAX compiles a program for every length of a broadcast, so messages are padded to powers of two.
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

LEAST, MOST = 1 << 10, 1 << 26  # bytes of one broadcast
_LENGTH = 8  # bytes of a length field
_ARRAY = "__array__"  # key of an array in the JSON text


def pack(message: dict[str, Any]) -> bytes:
    """Bytes: the length of the JSON text, the text, and the arrays that it mentions.

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
    """The inverse of `pack`."""
    size = _LENGTH + int.from_bytes(message[:_LENGTH], "little")
    arrays = memoryview(message)[size:]

    def found(value: dict[str, Any]) -> Any:
        if value.keys() != {_ARRAY}:
            return value
        dtype, shape, start, end = value[_ARRAY]
        return np.frombuffer(bytearray(arrays[start:end]), dtype).reshape(shape)

    return json.loads(message[_LENGTH:size], object_hook=found)


def broadcast_bytes(message: bytes) -> bytes:
    """Process 0's message, of any length, on every process; the first broadcast holds its length."""
    space = LEAST - _LENGTH
    start = len(message).to_bytes(_LENGTH, "little") + message[:space]
    first = broadcast_array(np.frombuffer(start.ljust(LEAST, b"\0"), np.uint8)).tobytes()
    size = int.from_bytes(first[:_LENGTH], "little")
    start = first[_LENGTH : _LENGTH + size]
    if size <= space:
        return start
    own = np.frombuffer(message[space:], np.uint8) if jax.process_index() == 0 else np.zeros(size - space, np.uint8)
    return start + broadcast_array(own).tobytes()


def gather_bytes(own: bytes) -> list[bytes]:
    """The messages of all processes, of any lengths, in the order of the processes."""
    lengths = [int.from_bytes(bytes_.tobytes(), "little") for bytes_ in _gather(len(own).to_bytes(_LENGTH, "little"))]
    parts: list[list[bytes]] = [[] for _ in lengths]
    for start in range(0, max(lengths), MOST):
        longest = min(MOST, max(lengths) - start)
        piece = own[start : start + longest].ljust(max(LEAST, 1 << (longest - 1).bit_length()), b"\0")
        for part, found in zip(parts, _gather(piece), strict=True):
            part.append(found[:longest].tobytes())
    return [b"".join(part)[:length] for part, length in zip(parts, lengths, strict=True)]


def _gather(own: bytes) -> np.ndarray:
    """uint8 [processes, bytes]."""
    found = multihost_utils.process_allgather(np.frombuffer(own, np.uint8))
    return np.asarray(found).reshape(jax.process_count(), len(own))


def broadcast_array(own: np.ndarray) -> np.ndarray:
    """Process 0's bytes on every process: uint8 [n], with the same n on all."""
    found = np.empty_like(own)
    for start in range(0, len(own), MOST):
        part = own[start : start + MOST]
        padded = np.zeros(max(LEAST, 1 << (len(part) - 1).bit_length()), np.uint8)
        padded[: len(part)] = part
        # As bytes: a broadcast adds zeros, and -0.0 + 0.0 is 0.0.
        found[start : start + len(part)] = multihost_utils.broadcast_one_to_all(padded)[: len(part)]
    return found


def bytes_of(array: Any) -> np.ndarray:
    """uint8 [bytes]; a view of a contiguous array.

    >>> bytes_of(np.float32(1.0)).tolist()
    [0, 0, 128, 63]
    """
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def error_class(names: Sequence[str]) -> type[AlignmentError]:
    """The first of these error classes that exists in this process.

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
