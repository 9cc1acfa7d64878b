"""The choice of how S = za zbᵀ is computed: dense, tiled, gathered, ring or pallas, and the size of a tile."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import ConfigError
from alignment_jax.similarity.products import PrecisionName, check_precision
from alignment_jax.similarity.thresholds import GATHER_BYTES, KERNEL_TILE, thresholds

ImplementationName = Literal["auto", "dense", "tiled", "gathered", "ring", "pallas"]


@dataclasses.dataclass(frozen=True)
class Implementation:
    """How similarities are computed; functions take the string "name" or "name:tile" as well.

    Args:
      name: "dense" keeps this device's block of S in memory; "tiled" one tile at a time; "gathered" fetches the other
        side with one all-gather; "ring" passes it from neighbour to neighbour; "auto" chooses from the sizes, the
        device and the axis. With an axis "dense" and "tiled" gather as well; without one "gathered" and "ring" use the
        local rows alone. "pallas" is "tiled" with the softmax in a TPU kernel; on CPU it is interpreted and slow, and
        "auto" never chooses it.
      tile: rows and columns of a tile; None chooses. Also as a string: "tiled:512", "gathered:512", "ring:512". It is
        an upper bound: rows are cut evenly. Without it "gathered" keeps a small block in memory.
      precision: of products of float32 embeddings, whose sums and softmax are float32 in all. "float32"; "bfloat16_3x",
        three bfloat16 products in place of six, off by at most 3·2^-16 for unit vectors; "bfloat16", one, by 2^-7, and
        embeddings are held and sent as bfloat16. A CPU gains nothing from the last two. "pallas" has no "bfloat16_3x".

    >>> Implementation.parse("ring:512")
    Implementation(name='ring', tile=512, precision='float32')
    """

    name: ImplementationName = "auto"
    tile: int | None = None
    precision: PrecisionName = "float32"

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.name not in get_args(ImplementationName):
            raise ConfigError(f"similarity must be one of {', '.join(get_args(ImplementationName))}, got {self.name!r}")
        if self.tile is not None and self.tile < 1:
            raise ConfigError(f"similarity tile must be a positive number of rows, got {self.tile}")

    @classmethod
    def parse(cls, similarity: str | Implementation) -> Implementation:
        """Reads "name" or "name:tile"; returns an `Implementation` unchanged. Raises ConfigError for anything else."""
        if isinstance(similarity, Implementation):
            return similarity
        name, _, tile = str(similarity).partition(":")
        if tile and not tile.isdecimal():
            raise ConfigError(f"similarity tile must be a whole number, as in 'tiled:512', got {similarity!r}")
        return cls(name, int(tile) if tile else None)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class ResolvedImplementation:
    """An `Implementation` without "auto".

    Args:
      exchange: of the other side between devices; None on one device.
      tile: rows of a tile at most; None for dense.
      kernel: the softmax runs in Pallas.
      precision: of products of float32 embeddings.
    """

    axis_name: str | None
    exchange: Literal["gather", "ring"] | None
    tile: int | None
    kernel: bool = False
    precision: PrecisionName = "float32"


def resolve(similarity: str | Implementation, *, rows: int, dim: int, axis_name: str | None) -> ResolvedImplementation:
    """The implementation for `rows` local rows of `dim` numbers each, on the default device."""
    requested = Implementation.parse(similarity)
    backend, kernel = jax.default_backend(), requested.name == "pallas"
    if kernel and backend not in ("tpu", "cpu"):
        raise ConfigError(f"similarity='pallas' is a kernel for TPU, and the default device is {backend}; use 'tiled'")
    if kernel and requested.precision == "bfloat16_3x":
        raise ConfigError("similarity='pallas' multiplies in float32 or bfloat16; for bfloat16_3x use 'tiled'")
    if axis_name is None:
        exchange: Literal["gather", "ring"] | None = None
        columns = rows
    else:
        columns = rows * jax.lax.axis_size(axis_name)
        ring = requested.name == "ring" or (requested.name == "auto" and 4 * columns * dim > GATHER_BYTES)
        exchange = "ring" if ring else "gather"
    # A ring saves memory; half the tile needs a quarter of it and costs a few percent of time.
    limits = thresholds(backend)
    usual = limits.tile // (2 if exchange == "ring" else 1)
    tile = requested.tile or (KERNEL_TILE if kernel else usual)
    small = rows * columns <= limits.dense_elements
    # A requested tile and a ring are always tiled; otherwise a small block is dense.
    tiled = requested.name in ("tiled", "pallas") or requested.tile is not None or exchange == "ring" or not small
    whole = requested.name == "dense" or not tiled
    return ResolvedImplementation(axis_name, exchange, None if whole else min(tile, rows), kernel, requested.precision)


__getattr__ = renamed_names(__name__, {"Form": "Implementation"})
