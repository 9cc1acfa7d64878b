"""Encoders with their parameters as one program that runs without this package."""

from __future__ import annotations

import jax
from jax import export

from alignment_jax.inference.exported_encoders import SideEncoder

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_stablehlo(encoder: SideEncoder) -> bytes:
    """An encoder for any batch size on CPU, GPU and TPU, serialized by `jax.export`.

    `jax.export.deserialize(bytearray(these)).call(items)` runs it; JAX keeps such files readable for six months at
    least (its compatibility guarantees).
    """
    (n,) = export.symbolic_shape("n")
    items = jax.ShapeDtypeStruct((n, *encoder.shape), encoder.dtype)
    return bytes(export.export(jax.jit(encoder.embed), platforms=PLATFORMS)(items).serialize())
