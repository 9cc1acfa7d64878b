"""LoRA: trainable low-rank updates of frozen kernels."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.nested import flatten, unflatten
from alignment_jax.models.tuning.names import LAYERS, LORA_A, LORA_B

TARGETS = ("attention/*", "mlp/*")


def add_lora(params: Mapping[str, Any], *, rank: int, key: Array, targets: Sequence[str] = TARGETS) -> dict[str, Any]:
    """Adds `lora_a` [in, rank] and `lora_b` [rank, out] beside kernels: y = x W + (x A) B + bias.

    A is drawn from N(0, 1 / in), B is zero, so the outputs do not change at first. In a stack both have a leading axis
    of layers. The modules of `models.pretrained` use adapters wherever parameters hold them. Adapters are float32,
    because small updates vanish in bfloat16.

    Source: Hu et al. 2022, LoRA, section 4.1. We leave out their factor alpha / rank: with Adam it acts as a learning
    rate, and without it a tree of parameters is complete.

    Args:
      params: of a tower or of a checkpoint with both.
      rank: of the updates.
      key: random key of A.
      targets: patterns (`fnmatch`) of the ends of paths of dense layers, as in "attention/query", "layers/mlp/*",
        "image/*", "projection".

    Returns:
      The tree with adapters; `split_parameters(tree, "lora")` separates them, `merge_parameters` adds them to the
      kernels.

    Raises:
      ConfigError: a rank below 1, a pattern that matches no dense layer (the message lists them), or a kernel that has
        an adapter already.

    >>> params = {"layers": {"attention": {"query": {"kernel": jnp.ones((6, 8, 4))}}}}
    >>> adapted = add_lora(params, rank=2, key=jax.random.key(0), targets=["attention/*"])
    >>> {name: leaf.shape for name, leaf in adapted["layers"]["attention"]["query"].items()}
    {'kernel': (6, 8, 4), 'lora_a': (6, 8, 2), 'lora_b': (6, 2, 4)}
    """
    if rank < 1:
        raise ConfigError(f"the rank of LoRA must be at least 1, got {rank}")
    leaves = dict(flatten(params))
    dense = {path.removesuffix("/kernel"): leaf for path, leaf in sorted(leaves.items()) if _is_dense(path, leaf)}
    chosen: set[str] = set()
    for pattern in targets:
        found = {path for path in dense if fnmatch.fnmatchcase(f"/{path}", f"*/{pattern}")}
        if not found:
            raise ConfigError(f"the LoRA target {pattern!r} matches no dense layer; there are {', '.join(dense)}")
        chosen |= found
    for number, path in enumerate(sorted(chosen)):
        if f"{path}/{LORA_A}" in leaves:
            raise ConfigError(f"{path} has a LoRA adapter already; merge it first")
        *stack, width, out = dense[path].shape
        drawn = jax.random.normal(jax.random.fold_in(key, number), (*stack, width, rank))
        leaves[f"{path}/{LORA_A}"] = drawn / jnp.sqrt(width)
        leaves[f"{path}/{LORA_B}"] = jnp.zeros((*stack, rank, out))
    return unflatten(leaves)


def _is_dense(path: str, leaf: Array) -> bool:
    *parents, name = path.split("/")
    return bool(parents) and name == "kernel" and leaf.ndim == 2 + (LAYERS in parents)  # a convolution has 4 axes
