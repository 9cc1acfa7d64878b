"""The places of a classifier's training step at which a balancing method may act."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core import Array, PyTree

FUSED = "fused"  # the head on all modalities; every other head is that of a modality
Subsets = Mapping[tuple[str, ...], Array]


@dataclasses.dataclass(frozen=True)
class ForwardPass:
    """One training step after the forward pass: arrays of this device's rows.

    logits: head -> [n, c]; the heads are the modalities and "fused".
    features: modality -> [n, width].
    losses: head -> [n] cross-entropies.
    label: [n] int32.
    index: [n] int32, the samples' numbers in the training set.
    where: [n] bool, rows that are no padding.
    present: modality -> bool [n], rows of `where` that have it.
    trained: [n] bool, rows of `where` that the loss counts.
    subsets: set of modalities -> [n, c] fused logits from these alone; {} unless the method asks for them.
    step: int32, steps taken before.
    """

    logits: Mapping[str, Array]
    features: Mapping[str, Array]
    losses: Mapping[str, Array]
    label: Array
    index: Array
    where: Array
    present: Mapping[str, Array]
    trained: Array
    subsets: Subsets
    step: Array


@dataclasses.dataclass(frozen=True)
class BalanceTerms:
    """What a method makes of a forward pass; global under an axis.

    state: of the method, after the step.
    loss: added to the loss.
    modulation: read by `BalanceMethod.gradients`.
    metrics: scalars to log.
    """

    state: PyTree
    loss: Array | float = 0.0
    modulation: PyTree = ()
    metrics: Mapping[str, Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BalanceMethod:
    """A balancing method; each part is optional. Without any it is plain training.

    init: () -> the state that is carried from step to step, arrays only.
    keep: (key, positions of the rows in the global batch, modality -> bool [n]) -> the same mapping: the modalities
      that each sample is trained with.
    subsets: the forward pass also gives the fused logits of every smaller set of modalities.
    trained: (index) -> bool [n], the samples that the loss counts.
    head_weights: (head -> weight, step, state) -> head -> weight of its cross-entropy in this step.
    terms: (forward pass, state, axis_name) -> `BalanceTerms`.
    separate: the gradient of the fused head's loss and that of the modalities' are taken one by one, in a second
      backward pass.
    gradients: (for each such loss a mapping modality -> gradients of its encoder, modulation, key) -> (modality ->
      gradients of its encoder, metrics). All other parameters get the sum.
    """

    init: Callable[[], PyTree] = tuple
    keep: Callable[[jax.Array, Array, Mapping[str, Array]], Mapping[str, Array]] | None = None
    subsets: bool = False
    trained: Callable[[Array], Array] | None = None
    head_weights: Callable[[Mapping[str, float], Array, PyTree], Mapping[str, Any]] | None = None
    terms: Callable[[ForwardPass, PyTree, str | None], BalanceTerms] | None = None
    separate: bool = False
    gradients: (
        Callable[
            [tuple[Mapping[str, PyTree], ...], PyTree, jax.Array],
            tuple[Mapping[str, PyTree], Mapping[str, jax.Array]],
        ]
        | None
    ) = None


def scaled_gradients(
    gradients: tuple[Mapping[str, PyTree], ...], modulation: Mapping[str, Array], key: jax.Array
) -> tuple[dict[str, PyTree], dict[str, jax.Array]]:
    """`BalanceMethod.gradients` of a method with one coefficient for each modality.

    >>> scaled, _ = scaled_gradients(({"a": [jnp.float32(2.0)]},), {"a": jnp.float32(0.5)}, jax.random.key(0))
    >>> float(scaled["a"][0])
    1.0
    """
    del key
    (own,) = gradients
    return {m: jax.tree.map(lambda g, k=modulation[m]: k.astype(g.dtype) * g, tree) for m, tree in own.items()}, {}


def mask_of(present: Mapping[str, Array] | None, modality: str) -> Array | None:
    """The rows that count for a modality; None for all."""
    return None if present is None else present.get(modality)


def true_class_probability(logits: Array, label: Array) -> jax.Array:
    """Softmax probability of the true class [n].

    >>> true_class_probability(jnp.zeros((1, 4)), jnp.array([2])).tolist()
    [0.25]
    """
    probabilities = jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1)
    return jnp.take_along_axis(probabilities, jnp.asarray(label)[:, None], axis=-1)[:, 0]


def ratios_to_others(scores: Mapping[str, Array], counts: Mapping[str, Array]) -> dict[str, jax.Array]:
    """s_m / mean of the other modalities' s; 1 where one of both has no row or the others' mean is 0.

    >>> ratios = ratios_to_others({"a": jnp.float32(0.6), "b": jnp.float32(0.2)}, dict.fromkeys("ab", jnp.float32(4)))
    >>> {m: round(float(value), 3) for m, value in ratios.items()}
    {'a': 3.0, 'b': 0.333}
    """
    found = {}
    for m, own in scores.items():
        others = [(jnp.where(counts[o] > 0, s, 0.0), counts[o] > 0) for o, s in scores.items() if o != m]
        total = sum((score for score, _ in others), start=jnp.zeros_like(own))
        count = sum((there.astype(jnp.float32) for _, there in others), start=jnp.zeros_like(own))
        usable = (total > 0) & (counts[m] > 0)
        found[m] = jnp.where(usable, own * count / jnp.where(usable, total, 1.0), 1.0)
    return found
