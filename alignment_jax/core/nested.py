"""Nested mappings as flat ones: settings by dotted names, parameters by paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def flatten(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """("a/b/c", leaf) of every leaf.

    >>> list(flatten({"a": {"b": 1}, "c": 2}))
    [('a/b', 1), ('c', 2)]
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{path}{key}/")
        else:
            yield f"{path}{key}", value


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`.

    >>> unflatten({"a/b": 1, "c": 2})
    {'a': {'b': 1}, 'c': 2}
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree
