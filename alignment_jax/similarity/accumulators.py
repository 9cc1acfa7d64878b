"""The sums over candidates that each anchor's softmax consists of, and the losses and statistics computed from them.

`AnchorAccumulators` holds arrays [n], one value per anchor: `positive`, S_ii, and for each direction (_ab, _ba) `max`,
the largest S, and `sum_exp`, Σ exp((S - max) / τ). On request also `weighted_sum`, Σ exp((S - max) / τ)(S - max), for
the temperature's gradient and the entropy; `min`, the smallest S; `squares`, the sum of squares of S about its mean.

Where pairs have ids (`duplicates`), `count` and `mean`: size and mean of S of the anchor's group. With masked
duplicates the group is the anchor's candidates; with positive duplicates it is its own partner and the duplicates.

A negative temperature prefers the smallest similarity: S becomes -S for that anchor and its temperature |τ|. Its `max`,
`weighted_sum` and `min` are then those of -S.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.masked_reductions import masked_count
from alignment_jax.similarity.duplicates import MASK, POSITIVE, Mode

AnchorAccumulators = dict[str, jax.Array]


def sign_and_magnitude(inverse: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sign, 1 or -1, and the absolute value of inverse temperatures."""
    return jnp.where(inverse < 0, -1.0, 1.0), jnp.abs(inverse)


def cross_entropies(
    accumulators: AnchorAccumulators, inverse: jax.Array, mode: Mode | None = None
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropies (ab [n], ba [n]) of each sample's own pair, or of its positives in equal shares."""
    sign, magnitude = sign_and_magnitude(inverse)
    own_ab, own_ba = (target * sign for target in target_similarities(accumulators, mode))
    # Similarities are subtracted before they are divided by the temperature, here and in every `sum_exp`: the
    # difference of two close ones is exact, while that of two logits near 1/τ has the rounding of a number that large.
    loss_ab = jnp.log(accumulators["sum_exp_ab"]) + (accumulators["max_ab"] - own_ab) * magnitude
    loss_ba = jnp.log(accumulators["sum_exp_ba"]) + (accumulators["max_ba"] - own_ba) * magnitude
    return loss_ab, loss_ba


def target_similarities(accumulators: AnchorAccumulators, mode: Mode | None) -> tuple[jax.Array, jax.Array]:
    """Similarity of each anchor to its target (ab [n], ba [n]): its own partner, or the mean of its positives."""
    if mode == POSITIVE:
        return accumulators["mean_ab"], accumulators["mean_ba"]
    return accumulators["positive"], accumulators["positive"]


def anchor_statistics(
    accumulators: AnchorAccumulators,
    inverse: jax.Array,
    where: jax.Array | None,
    axis_name: str | None,
    mode: Mode | None = None,
) -> dict[str, jax.Array]:
    """Population variance and entropy (nats) over candidates, and largest minus smallest S, of each anchor [n]."""
    count = jnp.maximum(masked_count(accumulators["positive"], where, axis_name=axis_name), 1.0)
    _, magnitude = sign_and_magnitude(inverse)
    statistics = {}
    for direction in ("ab", "ba"):
        sum_exp = accumulators[f"sum_exp_{direction}"]
        if mode == MASK:
            count = jnp.maximum(accumulators[f"count_{direction}"], 1.0)
        statistics[f"variance_{direction}"] = accumulators[f"squares_{direction}"] / count
        # -Σ p log p with log p = (S - max) / τ - log sum_exp.
        scaled = accumulators[f"weighted_sum_{direction}"] * magnitude
        statistics[f"entropy_{direction}"] = jnp.log(sum_exp) - scaled / sum_exp
        statistics[f"spread_{direction}"] = accumulators[f"max_{direction}"] - accumulators[f"min_{direction}"]
    return statistics
