"""Sizes from which "auto" changes the implementation, and sides of tiles, for every backend, with their origin.

A new measurement changes one line here. `benchmarks/gpu.py` measures them on a GPU: its parts "tile" and "crossover".
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """The choices of "auto" on one backend.

    Args:
      dense_elements: similarities per device up to which they are computed dense, which is simpler.
      tile: rows and columns of a tile; in a ring half of it, for a quarter of the memory.
      origin: the table, or "not measured".
    """

    dense_elements: int
    tile: int
    origin: str


# Dense takes 0.92 of the time of tiled at 512 x 512, and 1.05 at 2,048 x 2,048. In tiles of 1,024 InfoNCE takes 1.04 to
# 1.18 times its four products.
CPU = Thresholds(512 * 512, 1024, "benchmarks/results/loss_cpu.md")
# An accelerator holds a larger block in one product before its memory's bandwidth matters.
ACCELERATOR = Thresholds(2048 * 2048, 4096, "not measured: no accelerator has run benchmarks/gpu.py")
BY_BACKEND = {"cpu": CPU}
# From this size on (bytes, float32) the other side of the whole batch travels around a ring instead of being gathered.
# A limit on memory, not on time: docs/tpu.md compares the times.
GATHER_BYTES = 32 * 2**20
# Two tiles of embeddings, one of their gradient and a few of S must fit into the vector memory of a TPU core.
KERNEL_TILE = 256


def thresholds(backend: str) -> Thresholds:
    """Those of a JAX backend.

    >>> thresholds("cpu").tile, thresholds("tpu").tile
    (1024, 4096)
    """
    return BY_BACKEND.get(backend, ACCELERATOR)
