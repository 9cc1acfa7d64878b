"""Images and spectrograms as input of a convolution."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core import Array


def channels_last(x: Array, *, dtype: Any = jnp.float32) -> jax.Array:
    """Images or spectrograms as floating [n, H, W, channels].

    uint8 is scaled to [-1, 1] on the device, because bytes are a quarter of the traffic; floating values are unchanged.
    Spectrograms [n, frames, bands] get one channel.

    >>> channels_last(jnp.array([[[0, 255]]], jnp.uint8)).tolist()
    [[[[-1.0], [1.0]]]]
    """
    x = jnp.asarray(x)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise ValueError(f"images must have shape [n, H, W, channels] or [n, frames, bands], got {x.shape}")
    if x.dtype == jnp.uint8:
        return (x.astype(jnp.float32) / 127.5 - 1.0).astype(dtype)
    return x.astype(dtype)
