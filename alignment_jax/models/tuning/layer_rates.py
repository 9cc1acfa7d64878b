"""Learning rates that fall with the distance from the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from alignment_jax.models.tuning.names import ABOVE, BELOW, EMBEDDINGS, LAYERS


def layer_rates(params: Mapping[str, Any], *, decay: float) -> dict[str, Any]:
    """Factors of the learning rate: 1 after the layers, decay^k in the k-th layer from the top, decay^(L + 1) below.

    Source: layer-wise learning-rate decay, Clark et al. 2020 (ELECTRA), appendix B, in the form of Bao et al. 2022
    (BEiT). Multiply the optimizer's updates by the factors; gradients do not do with Adam, which divides by their size.

    Args:
      params: a tree with stacks of layers, such as towers side by side; the trainable part of `split_parameters`, too.
      decay: above 0, at most 1.

    Returns:
      A tree like `params` of NumPy's float32: [L, 1, ..] for the leaves of a stack, [] for the others.

    Raises:
      ValueError: a decay out of range.

    >>> params = {"words": np.ones((9, 4)), "layers": {"bias": np.ones((3, 4))}, "norm": {"scale": np.ones(4)}}
    >>> rates = layer_rates(params, decay=0.5)
    >>> float(rates["words"]), rates["layers"]["bias"].tolist(), float(rates["norm"]["scale"])
    (0.0625, [[0.125], [0.25], [0.5]], 1.0)
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay must be above 0 and at most 1, got {decay}")
    return _rates(params, decay)


def stack_depth(params: Mapping[str, Any]) -> int:
    """Number of layers of the deepest stack in a tree, 0 without one.

    >>> stack_depth({"encoder_a": {"layers": {"bias": np.ones((3, 4))}}, "encoder_b": {"bias": np.ones(4)}})
    3
    """
    depths = [0]
    for name, value in params.items():
        if name == LAYERS and isinstance(value, Mapping):
            parts = [value[part] for part in (BELOW, ABOVE) if part in value] or [value]
            depths.append(sum(jax.tree.leaves(part)[0].shape[0] for part in parts))
        elif isinstance(value, Mapping):
            depths.append(stack_depth(value))
    return max(depths)


def _rates(tree: Mapping[str, Any], decay: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    depth = stack_depth(tree)
    for name, value in tree.items():
        if name == LAYERS and isinstance(value, Mapping):
            found[name] = _of_stack(value, decay)
        elif name in EMBEDDINGS and depth:
            found[name] = _filled(value, decay ** (depth + 1))
        else:
            found[name] = _rates(value, decay) if isinstance(value, Mapping) else np.float32(1.0)
    return found


def _of_stack(stack: Mapping[str, Any], decay: float, above: int = 0) -> dict[str, Any]:
    if ABOVE in stack or BELOW in stack:
        upper = jax.tree.leaves(stack.get(ABOVE, {}))
        counts = {ABOVE: 0, BELOW: upper[0].shape[0] if upper else 0}
        return {part: _of_stack(value, decay, counts[part]) for part, value in stack.items()}

    def factors(leaf: Any) -> np.ndarray:
        depth = leaf.shape[0]
        distance = np.arange(depth + above, above, -1)
        return (decay**distance).astype(np.float32).reshape(depth, *[1] * (leaf.ndim - 1))

    return jax.tree.map(factors, dict(stack))


def _filled(value: Any, factor: float) -> Any:
    return jax.tree.map(lambda _: np.float32(factor), value)
