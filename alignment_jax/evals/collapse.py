"""Whether embeddings still tell items apart: their variance and effective rank, and a line when they have collapsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from alignment_jax.evals.retrieval import Embedded

# Far below what any trained model has, and above what rounding leaves of equal rows.
LEAST_VARIANCE = 1e-4
LEAST_RANK = 1.5
_MOST_ROWS = 4096


def spread(embedded: Embedded) -> dict[str, float]:
    """Variance and effective rank of both sides.

    variance: mean squared distance to the mean embedding; of rows of length one it is in [0, 1], 0 where all are equal.
    effective_rank: exp of the entropy of the normalised singular values of the centred rows, between 1 (a line) and the
    number of dimensions; 0 where all rows are equal. Of more than 4096 items, that many evenly spaced ones are taken.

    >>> rows = np.eye(3, dtype=np.float32)
    >>> {name: round(value, 3) for name, value in spread(Embedded(rows, rows[:1], np.zeros(1, int))).items()}
    {'variance_a': 0.667, 'effective_rank_a': 2.0, 'variance_b': 0.0, 'effective_rank_b': 0.0}

    Source: effective rank: Roy and Vetterli, "The effective rank: a measure of effective dimensionality" (2007).
    """
    found = {}
    for side, rows in (("a", embedded.a), ("b", embedded.b)):
        step = -(-len(rows) // _MOST_ROWS)
        centred = np.asarray(rows[::step], np.float64)
        centred = centred - centred.mean(axis=0)
        # The smaller of the two products has the same eigenvalues.
        product = centred.T @ centred if centred.shape[0] >= centred.shape[1] else centred @ centred.T
        total = float(np.trace(product))
        found[f"variance_{side}"] = total / len(centred)
        found[f"effective_rank_{side}"] = _effective_rank(product) if total > 0 else 0.0
    return found


def collapsed_sides(found: Mapping[str, float]) -> tuple[str, ...]:
    """The sides whose items all look alike to the model.

    Args:
      found: variance_a, effective_rank_a and so on, as `spread` gives them.

    >>> collapsed_sides({"variance_a": 0.4, "effective_rank_a": 9.0, "variance_b": 1e-9, "effective_rank_b": 1.0})
    ('b',)
    """
    return tuple(
        side
        for side in ("a", "b")
        if found.get(f"variance_{side}", 1.0) < LEAST_VARIANCE
        or found.get(f"effective_rank_{side}", np.inf) < LEAST_RANK
    )


def collapse_warning(found: Mapping[str, float], *, names: Sequence[str] = ("a", "b")) -> str:
    """One line for a person when a side has collapsed; "" while both are well.

    Args:
      found: as for `collapsed_sides`.
      names: what the modalities are called.

    >>> found = {"variance_a": 0.4, "effective_rank_a": 9.0, "variance_b": 1e-9, "effective_rank_b": 1.0}
    >>> collapse_warning(found, names=("image", "text"))
    'the embeddings of text have collapsed (variance 1e-09, effective rank 1.0): ...'
    """
    called = dict(zip("ab", names, strict=False))
    sides = [
        f"{called[side]} have collapsed (variance {found[f'variance_{side}']:.2g}, effective rank "
        f"{found[f'effective_rank_{side}']:.1f})"
        for side in collapsed_sides(found)
    ]
    if not sides:
        return ""
    return (
        f"the embeddings of {' and of '.join(sides)}: all items look alike to the model; lower "
        "optimizer.learning_rate, raise temperature.min, or check that the input differs from item to item"
    )


def _effective_rank(product: np.ndarray) -> float:
    values = np.sqrt(np.clip(np.linalg.eigvalsh(product), 0.0, None))
    # What rounding makes of a zero would count as directions of its own.
    values = values[values > values.max() * 1e-6]
    share = values / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
