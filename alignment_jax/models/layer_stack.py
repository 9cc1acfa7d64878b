"""The layer of a stack that `nn.scan` repeats, with the transformation of `core.layer_transform`."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

from alignment_jax.core.layer_transform import layer_transform


def with_transform(layer: type[nn.Module], path: tuple[str, ...]) -> Any:
    """The class of a layer whose parameters are transformed before use; `layer` itself where no transform is set.

    Args:
      layer: in the form that `nn.scan` takes.
      path: of the stack in the parameters.
    """
    transform = layer_transform(path)
    if transform is None:
        return layer
    return nn.map_variables(layer, "params", trans_in_fn=lambda found: {**found, "params": transform(found["params"])})
