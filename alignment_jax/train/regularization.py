"""Regularizers of the contrastive objective: a weight times a function of inputs and embeddings."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from alignment_jax import regularizers
from alignment_jax.core.masked_reductions import masked_mean
from alignment_jax.core.types import UNPAIRED_KEYS, Array
from alignment_jax.train.objective import Regularizer


def structure_regularizer(weight: Callable[[jax.Array], Array], *, temperature: float) -> Regularizer:
    """`regularizers.structure` of both sides: λ / 2 · (mean over a + mean over b).

    The original latents are the model's inputs before `perturb` adds noise: noise disturbs a sample, and its neighbours
    are still those of the frozen encoder. FuseMix makes new samples, so their latents are the mixed ones.

    Args:
      weight: step -> λ.
      temperature: of the softmaxes.
    """

    def regularize(outputs, batch, step, axis_name, encode):
        del encode
        where, scale = batch["where"], jnp.asarray(weight(step), jnp.float32)
        sides = [
            regularizers.structure(
                batch.get(f"latents_{side}", batch[side]),
                outputs[side],
                temperature=temperature,
                where=where,
                axis_name=axis_name,
            )
            for side in ("a", "b")
        ]
        value = 0.5 * sum(masked_mean(side, where, axis_name=axis_name) for side in sides)
        return scale * value, {"structure": value, "structure_weight": scale}

    return regularize


def transport_regularizer(
    weight: float,
    *,
    teacher: Callable[[str, Array], jax.Array],
    epsilon: float,
    teacher_epsilon: float,
    iterations: int,
) -> Regularizer:
    """`regularizers.transport` on the batch's unpaired latents.

    Args:
      weight: of the divergence.
      teacher: (side, latents [k, d]) -> their embeddings [k, dim] of length one by the linear teacher.
      epsilon, teacher_epsilon, iterations: see `regularizers.transport`.
    """

    def regularize(outputs, batch, step, axis_name, encode):
        del outputs, step
        a, b = (batch[key] for key in UNPAIRED_KEYS)
        student = encode(a, b)
        value = regularizers.transport(
            student["a"],
            student["b"],
            teacher_a=teacher("a", a),
            teacher_b=teacher("b", b),
            epsilon=epsilon,
            teacher_epsilon=teacher_epsilon,
            iterations=iterations,
            axis_name=axis_name,
        )
        return weight * value, {"transport": value}

    return regularize
