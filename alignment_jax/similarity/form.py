"""Which way of holding the similarities S = za zbᵀ is used, and with which tile."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax

from alignment_jax.core.errors import ConfigError

FormName = Literal["auto", "dense", "tiled", "gathered", "ring"]
Kernel = Literal["xla", "pallas"]

# Up to this many similarities a device the dense form is as fast and simpler: the tile loop has nothing to save.
# 512 x 512 was measured on CPU; an accelerator holds a larger block in one matmul before memory traffic matters.
_DENSE_ELEMENTS = {"cpu": 512 * 512}
_DENSE_ELEMENTS_ACCELERATOR = 2048 * 2048
# From this size on (bytes, float32) the other side of the whole batch is passed around rather than gathered.
_GATHER_BYTES = 32 * 2**20
_TILE = {"cpu": 1024}
_TILE_ACCELERATOR = 4096


@dataclasses.dataclass(frozen=True)
class Form:
    """A way of holding the similarities; a plain string stands for `Form(string)`.

    Args:
      name: "dense" holds the block of this device whole; "tiled" one tile at a time; "gathered" brings the other side
        here with one all-gather; "ring" passes it from neighbour to neighbour; "auto" chooses from the sizes, the
        device and the axis. With an axis "dense" and "tiled" gather as well; without one "gathered" and "ring" hold
        what one device holds.
      tile: rows and columns of a tile; None chooses. The string "tiled:512" sets it, and so do "gathered:512" and
        "ring:512". With "gathered" and "ring" a tile asks for tiles also where the block would be small enough to be
        held whole.
      kernel: "xla" (default) or "pallas" for the tile kernel written in Pallas (TPU and GPU; elsewhere it is
        interpreted, which is for tests only).

    >>> Form.parse("ring:512")
    Form(name='ring', tile=512, kernel='xla')
    """

    name: FormName = "auto"
    tile: int | None = None
    kernel: Kernel = "xla"

    def __post_init__(self) -> None:
        if self.name not in get_args(FormName):
            raise ConfigError(f"similarity must be one of {', '.join(get_args(FormName))}, got {self.name!r}")
        if self.tile is not None and self.tile < 1:
            raise ConfigError(f"similarity tile must be a positive number of rows, got {self.tile}")
        if self.kernel not in get_args(Kernel):
            raise ConfigError(f"similarity kernel must be one of {', '.join(get_args(Kernel))}, got {self.kernel!r}")

    @classmethod
    def parse(cls, similarity: str | Form) -> Form:
        """Reads "name" or "name:tile"; a `Form` is returned as it is. Raises ConfigError for anything else."""
        if isinstance(similarity, Form):
            return similarity
        name, _, tile = str(similarity).partition(":")
        if tile and not tile.isdecimal():
            raise ConfigError(f"similarity tile must be a whole number, as in 'tiled:512', got {similarity!r}")
        return cls(name, int(tile) if tile else None)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A form made definite: `exchange` none, "gather" or "ring"; `tile` None holds the block of this device whole."""

    axis_name: str | None
    exchange: Literal["gather", "ring"] | None
    tile: int | None
    kernel: Kernel = "xla"


def choose(similarity: str | Form, *, rows: int, dim: int, axis_name: str | None) -> Layout:
    """The layout for `rows` local rows of `dim` numbers each, on the default device."""
    form = Form.parse(similarity)
    backend = jax.default_backend()
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    columns = rows * devices
    name = form.name
    if name == "auto" and axis_name is not None:
        name = "ring" if 4 * columns * dim > _GATHER_BYTES else "gathered"
    exchange: Literal["gather", "ring"] | None = None
    if axis_name is not None:
        exchange = "ring" if name == "ring" else "gather"
    block = rows * (rows if exchange == "ring" else columns)
    small = block <= _DENSE_ELEMENTS.get(backend, _DENSE_ELEMENTS_ACCELERATOR)
    whole = name == "dense" or (name != "tiled" and form.tile is None and form.kernel == "xla" and small)
    if exchange == "ring" and whole:
        # One block of the ring is one tile: passing it around is the saving.
        return Layout(axis_name, exchange, rows, form.kernel)
    tile = None if whole else (form.tile or _TILE.get(backend, _TILE_ACCELERATOR))
    return Layout(axis_name, exchange, tile, form.kernel)
