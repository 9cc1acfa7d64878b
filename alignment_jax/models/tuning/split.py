"""Which parameters are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.nested import flatten, unflatten
from alignment_jax.models.tuning.names import ABOVE, BELOW, LAYERS, LOGITS, LORA_A, LORA_B, stage


def _is_norm(path: str) -> bool:
    return any(part.startswith("norm") or part.endswith("_norm") for part in path.split("/"))


# Word -> whether the parameter at a path is trained. Another word is another line.
TUNINGS: dict[str, Callable[[str], bool]] = {
    "none": lambda path: False,
    "head": lambda path: stage(path) == "head",
    "last": lambda path: stage(path) == "head" or ABOVE in path.split("/"),
    "lora": lambda path: path.endswith((LORA_A, LORA_B)) or path.endswith(LOGITS),
    "norms": lambda path: _is_norm(path) or path.endswith(LOGITS),
    "all": lambda path: True,
}


def split_parameters(params: Mapping[str, Any], tune: str | Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(trainable, frozen): two trees of disjoint leaves. Only the first needs gradients, optimizer state, an average.

    | `tune` | trained |
    |---|---|
    | "none" | nothing |
    | "head" | what follows the layers: norm, pooling, projection |
    | "last:K" | the last K layers and the head |
    | "lora" | the adapters that `add_lora` has added |
    | "norms" | scales and biases of all norms |
    | "all" | everything |

    Every word but "none" also trains `logit_scale` and `logit_bias` of a checkpoint with both towers.

    "last:K" cuts each stack in two: `layers/below` and `layers/above`, which the modules of `models.pretrained` read
    as they are. No gradient passes through the lower part, and none of its activations are kept.

    Args:
      params: of a tower or of a checkpoint with both.
      tune: one word, or one for each subtree, as in {"image": "none", "text": "all"}; leaves beside these subtrees are
        trained unless all words are "none".

    Raises:
      ConfigError: an unknown word, more layers than there are, "lora" without adapters, or an unknown subtree.

    >>> import jax.numpy as jnp
    >>> params = {"norm": {"scale": jnp.ones(8)}, "projection": {"kernel": jnp.ones((8, 4))}, "positions": jnp.ones(8)}
    >>> trainable, frozen = split_parameters(params, "head")
    >>> sorted(trainable), sorted(frozen)
    (['norm', 'projection'], ['positions'])
    """
    if not isinstance(tune, str):
        return _split_each(params, tune)
    word, _, number = tune.partition(":")
    fits = number.isdecimal() and int(number) > 0 if word == "last" else tune in TUNINGS
    if not fits:
        known = ", ".join(name + ":K" * (name == "last") for name in TUNINGS)
        raise ConfigError(f"tune must be one of {known}, got {tune!r}{suggest(word, TUNINGS)}")
    leaves = dict(flatten(_cut(params, int(number)) if number else params))
    if word == "lora" and not any(path.endswith(LORA_A) for path in leaves):
        raise ConfigError("tune is lora, but there are no adapters; add them with add_lora")
    trained = TUNINGS[word]
    return (
        unflatten({path: leaf for path, leaf in leaves.items() if trained(path)}),
        unflatten({path: leaf for path, leaf in leaves.items() if not trained(path)}),
    )


def join_parameters(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """One tree of the leaves of all: the inverse of `split_parameters`, except for the cut of "last:K".

    Call it inside the loss, so that the frozen leaves get no gradient; `merge_parameters` undoes the cut.

    Raises:
      ValueError: a leaf is in two trees.

    >>> join_parameters({"norm": {"scale": 1}}, {"norm": {"bias": 0}, "words": 2})
    {'norm': {'scale': 1, 'bias': 0}, 'words': 2}
    """
    leaves: dict[str, Any] = {}
    for tree in trees:
        for path, leaf in flatten(tree):
            if path in leaves:
                raise ValueError(f"the parameter {path} is in two trees")
            leaves[path] = leaf
    return unflatten(leaves)


def _split_each(params: Mapping[str, Any], words: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    unknown = [name for name in words if not isinstance(params.get(name), Mapping)]
    if unknown:
        raise ConfigError(f"tune: the parameters have no part {unknown[0]!r}{suggest(unknown[0], params)}")
    parts = {name: split_parameters(params[name], word) for name, word in words.items()}
    rest = {name: value for name, value in params.items() if name not in words}
    frozen_rest = all(word == "none" for word in words.values())
    trainable = {name: part[0] for name, part in parts.items() if part[0]}
    frozen = {name: part[1] for name, part in parts.items() if part[1]}
    return ({**trainable, **({} if frozen_rest else rest)}, {**frozen, **(rest if frozen_rest else {})})


def _cut(tree: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The same tree, each stack in two parts, the upper one of `count` layers."""
    found: dict[str, Any] = {}
    stacks = 0
    for name, value in tree.items():
        if name != LAYERS or not isinstance(value, Mapping):
            found[name] = _cut(value, count) if isinstance(value, Mapping) and _has_stack(value) else value
            continue
        stacks += 1
        depth = jax.tree.leaves(value)[0].shape[0]
        if count > depth:
            raise ConfigError(f"tune is last:{count}, but there are {depth} layers; set last:{depth} or all")
        parts = {ABOVE: jax.tree.map(lambda leaf: leaf[-count:], value)}
        if count < depth:
            parts[BELOW] = jax.tree.map(lambda leaf: leaf[:-count], value)
        found[name] = parts
    return found


def _has_stack(tree: Mapping[str, Any]) -> bool:
    return LAYERS in tree or any(isinstance(value, Mapping) and _has_stack(value) for value in tree.values())
