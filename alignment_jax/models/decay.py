"""The mask of weight decay."""

from __future__ import annotations

from typing import Any

import jax


def decay_mask(params: Any) -> Any:
    """True for the kernels of dense, convolutional, recurrent and attention layers, false for everything else.

    Biases, norms, embedding and position tables, the temperature and the bias of the loss are not decayed. The rule
    uses names, not ranks: layers in an `nn.scan` are stacked, so that their biases are matrices too.

    Args:
      params: the tree from `model.init(...)["params"]`.

    Returns:
      A tree of bool like `params`, for `optax.adamw(mask=...)`, which also accepts the function itself.

    >>> decay_mask({"dense": {"kernel": 1.0, "bias": 0.0}, "logit_scale": {"log_temperature": -2.7}})
    {'dense': {'bias': False, 'kernel': True}, 'logit_scale': {'log_temperature': False}}
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: getattr(path[-1], "key", None) == "kernel", params)
