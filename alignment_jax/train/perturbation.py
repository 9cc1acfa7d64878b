"""FuseMix and noise on a batch of latents, independent of the number of devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from alignment_jax import perturb
from alignment_jax.core.masked_reductions import masked_mean
from alignment_jax.core.types import UNPAIRED_KEYS, Batch
from alignment_jax.train.objective import Perturb, global_rows

Scale = jax.Array | Literal["batch"] | None


def latent_perturbation(
    *, sigma: float = 0.0, scales: tuple[Scale, Scale] = (None, None), fusemix: float = 0.0
) -> Perturb | None:
    """FuseMix, then noise, as in Modest-Align; None if both are off.

    Args:
      sigma: standard deviation of the noise, in units of the latents, or of `scales` if given.
      scales: standard deviations of the latents of a and b; None for absolute noise; "batch" measures them in each
        batch, over all devices, for latents that change in training.
      fusemix: a of Beta(a, a), the distribution of the mixing weight, drawn once per step; 0 for no mixing. Row k of
        the local first half is mixed with row k of the local second half. With `batching.batch_rows(halves=True)` these
        are the halves of the global batch.
    """
    steps: list[Callable] = []
    if fusemix > 0.0:
        steps.append(lambda key, batch, axis_name: _mix(key, batch, fusemix))
    if sigma > 0.0:
        steps.append(lambda key, batch, axis_name: _add_noise(key, batch, sigma, scales, axis_name))
    if not steps:
        return None

    def apply(key: jax.Array, batch: Batch, axis_name: str | None) -> Batch:
        for number, step in enumerate(steps):
            batch = step(jax.random.fold_in(key, number), batch, axis_name)
        return batch

    return apply


def _mix(key: jax.Array, batch: Batch, alpha: float) -> Batch:
    lam = perturb.sample_lambda(key, alpha=alpha)
    a, b = perturb.fusemix(batch["a"], batch["b"], lam=lam)
    n = a.shape[0]
    mixed = {key: value if key in UNPAIRED_KEYS else value[:n] for key, value in batch.items()}
    mixed |= {"a": a, "b": b, "where": batch["where"][:n] & batch["where"][n:]}
    if "stat" in batch:  # the cluster size of a mixed sample is mixed likewise
        mixed["stat"] = lam * batch["stat"][:n] + (1.0 - lam) * batch["stat"][n:]
    for side in ("id_a", "id_b"):
        if side in batch:  # two mixed items are equal if both parts are
            mixed[side] = jnp.stack([batch[side][:n], batch[side][n:]], axis=1)
    return mixed


def _add_noise(key, batch, sigma, scales, axis_name) -> Batch:
    noisy = {**batch, "latents_a": batch["a"], "latents_b": batch["b"]}
    rows = global_rows(batch["where"].shape[0], axis_name)
    for number, (side, scale) in enumerate(zip(("a", "b"), scales, strict=True)):
        keys = perturb.row_keys(jax.random.fold_in(key, number), rows)
        if isinstance(scale, str):
            scale = _deviation(batch[side], batch["where"], axis_name)
        width = sigma if scale is None else sigma * jnp.asarray(scale, jnp.float32)
        noisy[side] = perturb.gaussian(keys, batch[side], sigma=width)
    return noisy


def _deviation(latents: jax.Array, where: jax.Array, axis_name: str | None) -> jax.Array:
    """Over all numbers of the valid rows; without a gradient."""
    latents = jax.lax.stop_gradient(latents.astype(jnp.float32))
    mean = masked_mean(jnp.mean(latents, axis=1), where, axis_name=axis_name)
    return jnp.sqrt(masked_mean(jnp.mean(jnp.square(latents - mean), axis=1), where, axis_name=axis_name))
