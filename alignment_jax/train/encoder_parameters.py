"""The parameters of each modality's encoder, found by the path of its module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree

Path = tuple[str, ...]


def encoder_paths(params: PyTree, modalities: Iterable[str]) -> dict[str, Path]:
    """The path of the module `encoder_M` of each modality M in a tree of parameters; the shortest of several.

    Args:
      params: nested mappings, as flax makes them; shapes are enough.
      modalities: names.

    Raises:
      ConfigError: a modality's encoder has no parameters, or there are two at one depth.

    >>> encoder_paths({"net": {"encoder_a": {"w": 1}, "encoder_b": {"w": 2}}, "head": {"w": 3}}, ("a", "b"))
    {'a': ('net', 'encoder_a'), 'b': ('net', 'encoder_b')}
    """
    found: dict[str, Path] = {}
    level: list[tuple[Path, Any]] = [((), params)]
    names = {f"encoder_{m}": m for m in modalities}
    while level:
        deeper: list[tuple[Path, Any]] = []
        for path, tree in level:
            if path and path[-1] in names and isinstance(tree, Mapping) and tree:
                first = found.setdefault(names[path[-1]], path)
                if first != path and len(first) == len(path):
                    raise ConfigError(
                        f"balance.name: the model has two modules {path[-1]}, {first} and {path}; rename one of them"
                    )
            if isinstance(tree, Mapping):
                deeper += [((*path, str(key)), value) for key, value in tree.items()]
        level = deeper
    for name, m in names.items():
        if m not in found:
            raise ConfigError(
                f"balance.name changes the gradients of each modality's encoder, but the model trains no parameters "
                f"under {name}; set balance.name=none, or train this encoder"
            )
    return found


def take(tree: PyTree, path: Path) -> PyTree:
    """The subtree at a path.

    >>> take({"net": {"encoder_a": 1}}, ("net", "encoder_a"))
    1
    """
    for key in path:
        tree = tree[key]
    return tree


def put(tree: PyTree, path: Path, value: PyTree) -> PyTree:
    """The tree with another subtree at a path; the given tree is not changed.

    >>> put({"net": {"encoder_a": 1}, "head": 2}, ("net", "encoder_a"), 3)
    {'net': {'encoder_a': 3}, 'head': 2}
    """
    if not path:
        return value
    return {**tree, path[0]: put(tree[path[0]], path[1:], value)}
