"""Back to the form of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.models.tuning.names import ABOVE, BELOW, LAYERS, LORA_A, LORA_B


def merge_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """Adds adapters to their kernels, and stacks the layers that "last:K" has cut.

    The result has the leaves that `pretrained.load` gave. Outputs are the same up to rounding: W + A B in float32.

    >>> dense = {"kernel": jnp.ones((2, 2)), "lora_a": jnp.ones((2, 1)), "lora_b": jnp.ones((1, 2))}
    >>> merge_parameters({"query": dense})["query"]["kernel"].tolist()
    [[2.0, 2.0], [2.0, 2.0]]
    """
    found: dict[str, Any] = {
        name: merge_parameters(value) if isinstance(value, Mapping) else value for name, value in params.items()
    }
    if LORA_A in found:
        kernel, a, b = found["kernel"], found.pop(LORA_A), found.pop(LORA_B)
        update = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        found["kernel"] = (kernel.astype(jnp.float32) + update).astype(kernel.dtype)
    layers = found.get(LAYERS)
    if isinstance(layers, Mapping) and ABOVE in layers:
        above, below = layers[ABOVE], layers.get(BELOW)
        found[LAYERS] = above if below is None else jax.tree.map(lambda *parts: jnp.concatenate(parts), below, above)
    return found
