"""Items that are fields of records in a random-access data source (TFDS), read on demand."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class RecordField:
    """One field of one record.

    Attributes:
      source: `source[index]` is the record, a dict; images come as the bytes of their files.
      index: number of the record.
      field: its name; slashes for nested fields.
      name: of the source, for messages.
      size: bytes of the value, as a cheap key for comparisons.
    """

    source: Any = dataclasses.field(repr=False)
    index: int
    field: str
    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.name}, record {self.index}"

    def value(self) -> Any:
        return pick(self.source[self.index], self.field)

    def read_bytes(self) -> bytes:
        value = self.value()
        return value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes()

    def open(self) -> io.BytesIO:
        """The bytes of an encoded image as a file."""
        return io.BytesIO(self.read_bytes())


def pick(record: Any, field: str) -> Any:
    """The value at `a/b/c` of nested dicts.

    >>> pick({"a": {"b": 3}}, "a/b")
    3
    """
    for name in field.split("/"):
        record = record[name]
    return record
