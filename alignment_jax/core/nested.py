"""Nested mappings by dotted names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten_config(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf by its dotted name.

    >>> flatten_config({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    found: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            found |= flatten_config(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
