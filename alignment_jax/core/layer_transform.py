"""A hook for stacks of layers: a function of one layer's parameters that is applied just before the layer.

A training step with sharded parameters gathers the parameters of one layer at a time by it. A stack is named by its
path in the parameters, as ("encoder_a", "layers"); outside `layer_transforms` nothing is transformed.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from alignment_jax.core.types import PyTree

Transform = Callable[[PyTree], PyTree]
_FIND: contextvars.ContextVar[Callable[[tuple[str, ...]], Transform | None]] = contextvars.ContextVar(
    "layer_transform", default=lambda path: None
)


def layer_transform(path: tuple[str, ...]) -> Transform | None:
    """The function of one layer's parameters, of the stack at `path`; None: they are used as they are."""
    return _FIND.get()(path)


@contextlib.contextmanager
def layer_transforms(find: Callable[[tuple[str, ...]], Transform | None]) -> Iterator[None]:
    """Within the block, `layer_transform(path)` is `find(path)`.

    >>> with layer_transforms(lambda path: len if path == ("layers",) else None):
    ...     layer_transform(("layers",)), layer_transform(("text", "layers"))
    (<built-in function len>, None)
    """
    token = _FIND.set(find)
    try:
        yield
    finally:
        _FIND.reset(token)
