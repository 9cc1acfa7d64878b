"""FuseMix: mixing pairs of latents with one weight for both modalities."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.core.checks import check_number


def fusemix(za: Array, zb: Array, *, lam: Array | float) -> tuple[jax.Array, jax.Array]:
    """Mixes row k of the first half of a batch with row k of the second half, alike in both modalities.

    za'_k = lam za_k + (1 - lam) za_{k + n/2}, zb' the same with the same lam, k = 0 .. n/2 - 1

    The mixed half is the batch: row k of za' and row k of zb' are a positive pair. Latents are mixed raw, not
    normalised. The sum is formed in float32 and has the dtype of its input. Of other per-sample arrays, a mixed row
    counts where both of its parts do: `where[: n // 2] & where[n // 2 :]`.

    Args:
      za: [n, ...] floating point, n even.
      zb: [n, ...] floating point; its other axes may differ from those of `za`.
      lam: scalar in [0, 1], see `sample_lambda`; may be traced.

    Returns:
      za' [n/2, ...] and zb' [n/2, ...].

    Raises:
      ValueError: za or zb is not floating point, the numbers of rows differ or are odd, or lam is not a scalar in
        [0, 1].

    Source: Vouitsis et al., FuseMix (CVPR 2024, arXiv 2312.10144).

    >>> za, zb = fusemix(jnp.array([[0.0], [4.0]]), jnp.array([[1.0, 1.0], [3.0, 5.0]]), lam=0.75)
    >>> za.tolist(), zb.tolist()
    ([[1.0]], [[1.5, 2.0]])
    """
    za, zb = jnp.asarray(za), jnp.asarray(zb)
    for name, z in (("za", za), ("zb", zb)):
        if z.ndim < 1 or not jnp.issubdtype(z.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating point of shape [n, ...], got {z.dtype} of shape {z.shape}")
    if za.shape[0] != zb.shape[0]:
        raise ValueError(f"za and zb must have the same number of rows, got {za.shape[0]} and {zb.shape[0]}")
    if za.shape[0] % 2:
        raise ValueError(f"za and zb must have an even number of rows to be mixed in halves, got {za.shape[0]}")
    if jnp.shape(lam) != ():
        raise ValueError(f"lam must be a scalar, shared by all rows, got shape {jnp.shape(lam)}")
    check_number("lam", lam, lambda weight: 0 <= weight <= 1, "in [0, 1]")
    return _mix_halves(za, lam), _mix_halves(zb, lam)


def sample_lambda(key: jax.Array, *, alpha: Array | float) -> jax.Array:
    """One mixing weight for a step: lam ~ Beta(alpha, alpha).

    Args:
      key: one key.
      alpha: concentration, > 0; 1 is uniform, smaller values mix less. May be traced, as from a schedule.

    Returns:
      float32 scalar in [0, 1].

    Raises:
      ValueError: alpha is known and not positive.

    Source: FuseMix (arXiv 2312.10144), alpha = 1.

    >>> 0.0 <= float(sample_lambda(jax.random.key(0), alpha=1.0)) <= 1.0
    True
    """
    check_number("alpha", alpha, lambda a: a > 0, "positive")
    alpha = jnp.asarray(alpha, jnp.float32)
    return jax.random.beta(key, alpha, alpha, shape=(), dtype=jnp.float32)


def _mix_halves(z: jax.Array, lam: Array | float) -> jax.Array:
    dtype = jnp.promote_types(z.dtype, jnp.float32)
    first, second = jnp.split(z.astype(dtype), 2)
    lam = jnp.asarray(lam, dtype)
    return (lam * first + (1.0 - lam) * second).astype(z.dtype)
