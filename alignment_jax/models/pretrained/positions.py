"""Position tables of images for other image sizes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel (1981), with parameter `a`."""
    x = np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def bicubic_matrix(size: int, new: int, *, antialias: bool) -> np.ndarray:
    """The matrix that resizes one axis, as `torch.nn.functional.interpolate(mode="bicubic")` does.

    Pixel centres at half-integers (`align_corners=False`). Without antialiasing: a = -0.75, and pixels beyond the edge
    repeat the edge. With it: a = -0.5, the kernel is stretched when shrinking and cut off at the edge.

    Args:
      size: old number of pixels.
      new: new number of pixels.
      antialias: see above.

    Returns:
      [new, size] float64; its rows sum to one.

    >>> bicubic_matrix(4, 4, antialias=False).round(6).tolist() == np.eye(4).tolist()
    True
    """
    centers = (np.arange(new) + 0.5) * (size / new)  # in old pixels from the edge
    matrix = np.zeros((new, size))
    if antialias:
        stretch = max(size / new, 1.0)
        weights = _cubic((np.arange(size) + 0.5 - centers[:, None]) / stretch, -0.5)
        return weights / weights.sum(1, keepdims=True)
    first = np.floor(centers - 0.5).astype(int)
    for tap in range(-1, 3):
        at = first + tap
        weight = _cubic(at + 0.5 - centers, -0.75)
        np.add.at(matrix, (np.arange(new), np.clip(at, 0, size - 1)), weight)
    return matrix


def resize_positions(
    table: jax.Array, *, grid: tuple[int, int], new: tuple[int, int], antialias: bool = False
) -> jax.Array:
    """Position embeddings of a grid of patches for a grid of another size.

    Args:
      table: [rows * columns, width], row by row.
      grid: its (rows, columns).
      new: the (rows, columns) wanted.
      antialias: DINOv2 with registers resizes with antialiasing, the other families without.

    Returns:
      [new rows * new columns, width] in the dtype of `table`; computed in float32.

    >>> table = jnp.arange(4.0)[:, None] * jnp.ones((1, 3))
    >>> resize_positions(table, grid=(2, 2), new=(4, 6)).shape
    (24, 3)
    """
    if grid == new:
        return table
    rows, columns = (
        jnp.asarray(bicubic_matrix(size, wanted, antialias=antialias), jnp.float32)
        for size, wanted in zip(grid, new, strict=True)
    )
    image = table.reshape(*grid, -1).astype(jnp.float32)
    resized = jnp.einsum("hr,rcd,wc->hwd", rows, image, columns, precision=jax.lax.Precision.HIGHEST)
    return resized.reshape(new[0] * new[1], -1).astype(table.dtype)
