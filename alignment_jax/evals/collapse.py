"""Collapse of embeddings: variance, participation ratio, effective rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.evals.retrieval_results import SplitEmbeddings

# Far below trained models, above the rounding of equal rows.
MIN_VARIANCE = 1e-4
# A line gives 1. Two directions with singular values 1 and 0.16, which have an effective rank of 1.5, give 1.05.
MIN_PARTICIPATION = 1.05
_MOST_ROWS = 1024
_MOST_ROWS_DECOMPOSED = 4096


@jax.jit
def variance_and_participation(rows: Array) -> tuple[jax.Array, jax.Array]:
    """Variance and participation ratio (number of directions that share the variance), without a decomposition.

    variance = tr C,  participation ratio = (tr C)^2 / ||C||_F^2,  C the covariance of the rows

    Args:
      rows: [n, d]. The ratio uses at most 1024 evenly spaced rows.

    Returns:
      float32 scalars: variance in [0, 1] for rows of length one, 0 where all rows are equal; the ratio between 1 (a
      line) and min(n - 1, d), 0 where all rows are equal.

    >>> variance, ratio = variance_and_participation(jnp.eye(3))
    >>> round(float(variance), 3), round(float(ratio), 3)
    (0.667, 2.0)

    Source: participation ratio of the covariance's eigenvalues: Gao et al., "A theory of multineuronal dimensionality,
    dynamics and measurement" (2017).
    """
    rows = jnp.asarray(rows, jnp.float32)
    centred = rows - rows.mean(axis=0)
    # Rounding moves equal rows about one unit in the last place away from their mean.
    equal = jnp.max(jnp.ptp(rows, axis=0)) == 0
    variance = jnp.where(equal, 0.0, jnp.sum(jnp.square(centred)) / len(rows))
    some = rows[:: -(-len(rows) // _MOST_ROWS)]
    some = some - some.mean(axis=0)
    total = jnp.sum(jnp.square(some))
    # Scaled to trace 1 first: the squares of small variances underflow.
    some = some * jax.lax.rsqrt(jnp.maximum(total, jnp.finfo(jnp.float32).tiny))
    # The smaller of the two products has the same eigenvalues.
    product = some.T @ some if some.shape[0] >= some.shape[1] else some @ some.T
    ratio = 1.0 / jnp.maximum(jnp.sum(jnp.square(product)), jnp.finfo(jnp.float32).tiny)
    return variance, jnp.where(equal | (total == 0), 0.0, ratio)


def collapse_metrics(embedded: SplitEmbeddings) -> dict[str, float]:
    """`variance_and_participation` of both sides; logged at every evaluation of a run.

    >>> rows = np.eye(3, dtype=np.float32)
    >>> {
    ...     name: round(value, 3)
    ...     for name, value in collapse_metrics(SplitEmbeddings(rows, rows[:1], np.zeros(1, int))).items()
    ... }
    {'variance_a': 0.667, 'participation_a': 2.0, 'variance_b': 0.0, 'participation_b': 0.0}
    """
    return named_by_side({side: variance_and_participation(getattr(embedded, side)) for side in ("a", "b")})


def named_by_side(values: Mapping[str, tuple[Array, Array]]) -> dict[str, float]:
    """Side -> (variance, participation ratio), as one level of names."""
    found: dict[str, float] = {}
    for side, (variance, ratio) in values.items():
        found |= {f"variance_{side}": float(variance), f"participation_{side}": float(ratio)}
    return found


def effective_rank(rows: Array) -> float:
    """exp of the entropy of the normalised singular values of the centred rows.

    Args:
      rows: [n, d]. At most 4096 evenly spaced rows are used.

    Returns:
      Between 1 (a line) and the number of dimensions; 0 where all rows are equal. It decomposes a matrix: use it at
      the end of a run.

    >>> round(effective_rank(np.eye(3)), 3), effective_rank(np.ones((2, 3)))
    (2.0, 0.0)

    Source: Roy and Vetterli, "The effective rank: a measure of effective dimensionality" (2007).
    """
    rows = np.asarray(rows)
    centred = np.asarray(rows[:: -(-len(rows) // _MOST_ROWS_DECOMPOSED)], np.float64)
    centred = centred - centred.mean(axis=0)
    product = centred.T @ centred if centred.shape[0] >= centred.shape[1] else centred @ centred.T
    if np.trace(product) <= 0:
        return 0.0
    values = np.sqrt(np.clip(np.linalg.eigvalsh(product), 0.0, None))
    # Rounded zeros would count as directions.
    values = values[values > values.max() * 1e-6]
    share = values / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def collapsed_sides(found: Mapping[str, float]) -> tuple[str, ...]:
    """The sides whose embeddings are all alike.

    Args:
      found: result of `collapse_metrics`.

    >>> collapsed_sides({"variance_a": 0.4, "participation_a": 9.0, "variance_b": 1e-9, "participation_b": 1.0})
    ('b',)
    """
    return tuple(
        side
        for side in ("a", "b")
        if found.get(f"variance_{side}", 1.0) < MIN_VARIANCE
        or found.get(f"participation_{side}", np.inf) < MIN_PARTICIPATION
    )


def collapse_warning(found: Mapping[str, float], *, names: Sequence[str] = ("a", "b")) -> str:
    """A warning in one line when a side has collapsed; "" otherwise.

    Args:
      found: as for `collapsed_sides`.
      names: of the modalities.

    >>> found = {"variance_a": 0.4, "participation_a": 9.0, "variance_b": 1e-9, "participation_b": 1.0}
    >>> collapse_warning(found, names=("image", "text"))
    'the embeddings of text have collapsed (variance 1e-09, participation ratio 1.0): ...'
    """
    called = dict(zip("ab", names, strict=False))
    sides = [
        f"{called[side]} have collapsed (variance {found[f'variance_{side}']:.2g}, participation ratio "
        f"{found[f'participation_{side}']:.1f})"
        for side in collapsed_sides(found)
    ]
    if not sides:
        return ""
    return (
        f"the embeddings of {' and of '.join(sides)}: all items look alike to the model; lower "
        "optimizer.learning_rate, raise temperature.min, or check that the input differs from item to item"
    )
