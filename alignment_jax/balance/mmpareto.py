"""MMPareto: one direction for the gradients of the fused loss and of a modality's own loss on its encoder."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.balance.method import BalanceMethod
from alignment_jax.core import PyTree
from alignment_jax.core.checks import check_number


def pareto_gradient(multimodal: PyTree, unimodal: PyTree, *, rescale: float = 1.5) -> tuple[PyTree, jax.Array]:
    """The gradient of an encoder from those of two losses, g_m and g_u.

    h = 2 (alpha g_m + (1 - alpha) g_u), with alpha = 1/2 where g_m · g_u >= 0, else the alpha in [0, 1] of the smallest
    |alpha g_m + (1 - alpha) g_u|; result = rescale max(1, |g_m + g_u| / |h|) h

    A conflict shortens h; the last factor gives it the length of the sum.

    Args:
      multimodal, unimodal: trees of arrays of the same shapes; products and norms are those of all entries together.
      rescale: factor, above 0; 1 keeps the length of the sum.

    Returns:
      (tree of arrays, cosine of g_m and g_u).

    >>> g, cosine = pareto_gradient(jnp.array([1.0, 0.0]), jnp.array([-1.0, 2.0]), rescale=1.0)
    >>> g.round(3).tolist(), round(float(cosine), 3)  # at right angles to g_m - g_u
    ([1.414..., 1.414...], -0.447)

    Source: MMPareto (Wei and Hu, ICML 2024), equations 7 to 10, and the factor 1.5 of the authors' code. They rescale
    each array by itself; here the whole encoder has one factor, so that the direction is that of the paper.
    """
    check_number("rescale", rescale, lambda x: x > 0, "above 0")
    mm, uu, mu = _dot(multimodal, multimodal), _dot(unimodal, unimodal), _dot(multimodal, unimodal)
    distance = mm + uu - 2.0 * mu  # |g_m - g_u|^2, above 0 in a conflict
    smallest = jnp.clip((uu - mu) / jnp.where(distance > 0, distance, 1.0), 0.0, 1.0)
    alpha = jnp.where(mu < 0, smallest, 0.5)
    length = 2.0 * jnp.sqrt(jnp.maximum(alpha**2 * mm + (1 - alpha) ** 2 * uu + 2 * alpha * (1 - alpha) * mu, 0.0))
    whole = jnp.sqrt(jnp.maximum(mm + uu + 2.0 * mu, 0.0))
    factor = rescale * jnp.maximum(1.0, whole / jnp.where(length > 0, length, jnp.inf))
    weight_m, weight_u = 2.0 * factor * alpha, 2.0 * factor * (1.0 - alpha)
    cosine = mu / jnp.maximum(jnp.sqrt(mm) * jnp.sqrt(uu), jnp.finfo(jnp.float32).tiny)
    return jax.tree.map(
        lambda m, u: weight_m.astype(m.dtype) * m + weight_u.astype(u.dtype) * u, multimodal, unimodal
    ), cosine


def _dot(x: PyTree, y: PyTree) -> jax.Array:
    parts = [
        jnp.sum(jnp.asarray(a, jnp.float32) * jnp.asarray(b, jnp.float32))
        for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    ]
    return functools.reduce(jnp.add, parts, jnp.float32(0.0))


def mmpareto(*, rescale: float = 1.5) -> BalanceMethod:
    """MMPareto as a `BalanceMethod`: `pareto_gradient` for the encoder of every modality.

    The fused head's loss and the sum of the modalities' losses are differentiated one by one: a second backward pass.

    Args:
      rescale: factor of the encoders' gradients, above 0.

    >>> mmpareto().separate
    True
    """
    check_number("rescale", rescale, lambda x: x > 0, "above 0")

    def gradients(own, modulation, key):
        del modulation, key
        multimodal, unimodal = own
        found = {m: pareto_gradient(multimodal[m], unimodal[m], rescale=rescale) for m in multimodal}
        return {m: g for m, (g, _) in found.items()}, {f"cosine_{m}": cosine for m, (_, cosine) in found.items()}

    return BalanceMethod(separate=True, gradients=gradients)
