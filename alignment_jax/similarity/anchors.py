"""What the softmax of each anchor is made of, and what is made of it: losses and statistics.

`Found` holds arrays [n], one value an anchor: `positive`, S_ii, and for each direction (_ab, _ba) `top`, the largest S,
and `total`, Σ exp((S - top) / τ). Where asked for, `tilt`, Σ exp((S - top) / τ)(S - top), of which the temperature's
gradient and the entropy are made, and `low`, the smallest S, and `square`, the sum of squares of S about its mean.

Where pairs have ids (`duplicates`), `count` and `mean`: how many S the anchor's group holds, and their mean. The group
is the anchor's candidates where duplicates are masked, and its own partner with its duplicates where those are
positives.

An anchor whose temperature is negative prefers the smallest similarity: with S turned into -S for it, and its
temperature into |τ|, everything above holds, and so its `top`, `tilt` and `low` are those of -S.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core.masked_reductions import masked_count
from alignment_jax.similarity.duplicates import MASK, POSITIVE, Mode

Found = dict[str, jax.Array]


def sign_and_size(inverse: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse temperatures as what S is multiplied by, 1 or -1, and what the result is scaled by."""
    return jnp.where(inverse < 0, -1.0, 1.0), jnp.abs(inverse)


def softmax_losses_of(found: Found, inverse: jax.Array, mode: Mode | None = None) -> tuple[jax.Array, jax.Array]:
    """Cross-entropies (ab [n], ba [n]) of each sample's own pair, or of its positives in equal shares."""
    sign, size = sign_and_size(inverse)
    own_ab, own_ba = (target * sign for target in targets_of(found, mode))
    # Similarities are subtracted before they are divided by the temperature, here and wherever a `total` is made: the
    # difference of two close ones is exact, while that of two logits near 1/τ has the rounding of a number that large.
    loss_ab = jnp.log(found["total_ab"]) + (found["top_ab"] - own_ab) * size
    loss_ba = jnp.log(found["total_ba"]) + (found["top_ba"] - own_ba) * size
    return loss_ab, loss_ba


def targets_of(found: Found, mode: Mode | None) -> tuple[jax.Array, jax.Array]:
    """The similarity that each anchor's target asks for (ab [n], ba [n]): its pair's, or its positives' mean."""
    return (found["mean_ab"], found["mean_ba"]) if mode == POSITIVE else (found["positive"], found["positive"])


def anchor_statistics(
    found: Found, inverse: jax.Array, where: jax.Array | None, axis_name: str | None, mode: Mode | None = None
) -> Found:
    """Population variance and entropy (nats) over candidates, and largest minus smallest S, of each anchor [n]."""
    count = jnp.maximum(masked_count(found["positive"], where, axis_name=axis_name), 1.0)
    _, size = sign_and_size(inverse)
    statistics = {}
    for direction in ("ab", "ba"):
        total = found[f"total_{direction}"]
        if mode == MASK:
            count = jnp.maximum(found[f"count_{direction}"], 1.0)
        statistics[f"variance_{direction}"] = found[f"square_{direction}"] / count
        # -Σ p log p with log p = (S - top) / τ - log total.
        scaled = found[f"tilt_{direction}"] * size
        statistics[f"entropy_{direction}"] = jnp.log(total) - scaled / total
        statistics[f"spread_{direction}"] = found[f"top_{direction}"] - found[f"low_{direction}"]
    return statistics
