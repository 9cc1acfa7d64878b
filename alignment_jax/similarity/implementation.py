"""Which way of holding the similarities S = za zbᵀ is used, and with which tile."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import ConfigError

ImplementationName = Literal["auto", "dense", "tiled", "gathered", "ring", "pallas"]

# Up to this many similarities a device the dense form is as fast and simpler: the tile loop has nothing to save.
# 512 x 512 was measured on CPU; an accelerator holds a larger block in one matmul before memory traffic matters.
_DENSE_ELEMENTS = {"cpu": 512 * 512}
_DENSE_ELEMENTS_ACCELERATOR = 2048 * 2048
# From this size on (bytes, float32) the other side of the whole batch is passed around rather than gathered.
_GATHER_BYTES = 32 * 2**20
_TILE = {"cpu": 1024}
_TILE_ACCELERATOR = 4096
# Two tiles of embeddings, one of their gradient and a few of S must fit into the vector memory of a TPU core.
_TILE_KERNEL = 256


@dataclasses.dataclass(frozen=True)
class Implementation:
    """A way of holding the similarities; a plain string stands for `Implementation(string)`.

    Args:
      name: "dense" holds the block of this device whole; "tiled" one tile at a time; "gathered" brings the other side
        here with one all-gather; "ring" passes it from neighbour to neighbour; "auto" chooses from the sizes, the
        device and the axis. With an axis "dense" and "tiled" gather as well; without one "gathered" and "ring" hold
        what one device holds. "pallas" is "tiled" with the softmax in a kernel for TPU, which is interpreted, slowly,
        on CPU; nothing chooses it by itself.
      tile: rows and columns of a tile; None chooses. The string "tiled:512" sets it, and so do "gathered:512" and
        "ring:512". It is an upper bound: rows are cut evenly. Without it "gathered" holds a small block whole.

    >>> Implementation.parse("ring:512")
    Implementation(name='ring', tile=512)
    """

    name: ImplementationName = "auto"
    tile: int | None = None

    def __post_init__(self) -> None:
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
    """A form made definite: `exchange` none, "gather" or "ring"; `tile` rows at most, None holds this device's block
    of S whole; `kernel` the softmax by Pallas."""

    axis_name: str | None
    exchange: Literal["gather", "ring"] | None
    tile: int | None
    kernel: bool = False


def choose(similarity: str | Implementation, *, rows: int, dim: int, axis_name: str | None) -> ResolvedImplementation:
    """The layout for `rows` local rows of `dim` numbers each, on the default device."""
    form = Implementation.parse(similarity)
    backend, kernel = jax.default_backend(), form.name == "pallas"
    if kernel and backend not in ("tpu", "cpu"):
        raise ConfigError(f"similarity='pallas' is a kernel for TPU, this is {backend}; use 'tiled'")
    if axis_name is None:
        exchange: Literal["gather", "ring"] | None = None
        columns = rows
    else:
        columns = rows * jax.lax.axis_size(axis_name)
        ring = form.name == "ring" or (form.name == "auto" and 4 * columns * dim > _GATHER_BYTES)
        exchange = "ring" if ring else "gather"
    # A ring is chosen for its memory, and half the tile is a quarter of a tile's; it costs a few percent of time.
    usual = _TILE.get(backend, _TILE_ACCELERATOR) // (2 if exchange == "ring" else 1)
    tile = form.tile or (_TILE_KERNEL if kernel else usual)
    small = rows * columns <= _DENSE_ELEMENTS.get(backend, _DENSE_ELEMENTS_ACCELERATOR)
    # A tile that was asked for, and a ring, are tiles whatever their size; otherwise a small block is held whole.
    tiled = form.name in ("tiled", "pallas") or form.tile is not None or exchange == "ring" or not small
    whole = form.name == "dense" or not tiled
    return ResolvedImplementation(axis_name, exchange, None if whole else min(tile, rows), kernel)


__getattr__ = renamed_names(__name__, {"Form": "Implementation"})
