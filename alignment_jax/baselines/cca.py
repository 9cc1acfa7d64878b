"""Canonical correlation analysis in closed form: the linear baseline."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.baselines.moments import Moments, paired_moments
from alignment_jax.core import Array, ConfigError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Projection:
    """A linear map into the shared space: z -> (z - mean) @ matrix.

    Attributes:
      mean: [d] float32, mean of the training latents.
      matrix: [d, dim] float32, columns by falling canonical correlation.
      correlations: [dim] float32, regularised canonical correlations; in [0, 1] without shrinkage; with
        shrinkage they may exceed 1, because it lowers the variance of strong directions.
    """

    mean: Array
    matrix: Array
    correlations: Array

    @property
    def bias(self) -> jax.Array:
        """[dim]: the same map is z @ matrix + bias, as in a linear adapter."""
        return -jnp.asarray(self.mean) @ jnp.asarray(self.matrix)

    def __call__(self, z: Array) -> jax.Array:
        """[..., d] latents to [..., dim] float32, not normalised; retrieval compares them by cosine."""
        return (jnp.asarray(z, jnp.float32) - self.mean) @ self.matrix


def fit_cca(
    za: Array,
    zb: Array,
    *,
    dim: int,
    shrinkage: float | tuple[float, float],
    power: float = 0.5,
    weights: Array | None = None,
    b_to_a: Array | None = None,
) -> tuple[Projection, Projection]:
    """The two linear maps whose outputs correlate most, regularised, in closed form.

    C_aa <- (1 - g) C_aa + g (tr C_aa / d_a) I with g = `shrinkage`, C_bb alike
    C_aa^-1/2 C_ab C_bb^-1/2 = U diag(r) V'
    matrix_a = C_aa^-1/2 U_dim diag(r)^power, matrix_b = C_bb^-1/2 V_dim diag(r)^power

    Runs on the host, in NumPy and float64, not inside `jit`; the returned projections work under `jit`. Compare
    projected latents by cosine: normalise them (`losses.l2_normalize`) before `metrics.retrieval_recall`.

    Pass several views of an item (an image and its mirror image, five captions) as [v, n, d]: every view of an a-item
    is paired with every view of its b-item. Where items have different numbers of captions, pass
    `b_to_a`: `fit_cca(np.stack([za, za_flip]), zb, b_to_a=b_to_a, ...)`.

    Args:
      za: [n, d_a], or [v_a, n, d_a] views of n items; any unit.
      zb: [m, d_b], or [v_b, m, d_b].
      dim: dimensions to keep, at most min(d_a, d_b).
      shrinkage: in [0, 1], for both sides or one each (a, b): 0 is plain CCA, 1 ignores the covariance within a side
        (partial least squares). With few pairs for the number of features use 0.5 to 0.9.
      power: exponent on the canonical correlations, >= 0: 0 weighs all kept dimensions alike, larger values
        reduce uncertain ones.
      weights: [m] non-negative weight of every pair; None weighs all alike.
      b_to_a: [m] int, the row of `za` that each row of `zb` belongs to; None when row i belongs to row i (n = m).

    Returns:
      (project_a, project_b).

    Raises:
      ConfigError: dim, shrinkage, power or weights out of range, or a covariance that cannot be inverted without
        shrinkage.
      ValueError: za or zb of another shape, with other numbers of rows, or not finite.

    Source: Hotelling, Relations between two sets of variates (Biometrika 28, 1936); shrinkage towards a scaled identity
    as in Ledoit and Wolf (2004), but chosen on validation; weighting by powers of the correlations as in Gong et al. (A
    multi-view embedding space, IJCV 2014).

    >>> rng = np.random.default_rng(0)
    >>> za = rng.normal(size=(200, 3))
    >>> project_a, project_b = fit_cca(za, 2.0 * za + 1.0, dim=2, shrinkage=0.0)
    >>> project_a.correlations.round(4).tolist()
    [1.0, 1.0]
    >>> bool(np.allclose(project_a(za), project_b(2.0 * za + 1.0), atol=1e-5))
    True
    """
    moments = paired_moments(za, zb, b_to_a=b_to_a, weights=weights)
    return fit_cca_to_moments(moments, dim=dim, shrinkage=shrinkage, power=power)


def fit_cca_to_moments(
    moments: Moments, *, dim: int, shrinkage: float | tuple[float, float], power: float = 0.5
) -> tuple[Projection, Projection]:
    """`fit_cca` of the pairs that have these moments, see `chunk_moments`."""
    _check(moments, dim, power)
    return decompose(moments).solve(_pair(shrinkage)).projections(dim, power)


@dataclasses.dataclass(frozen=True)
class CcaChoice:
    """The choice of `tune_cca`: three settings, their score, and the number of candidates."""

    shrinkage: tuple[float, float]
    dim: int
    power: float
    score: float
    candidates: int


def tune_cca(
    za: Array,
    zb: Array,
    score: Callable[[Projection, Projection], float],
    *,
    shrinkages: Sequence[float | tuple[float, float]],
    dims: Sequence[int],
    powers: Sequence[float],
    b_to_a: Array | None = None,
) -> tuple[Projection, Projection, CcaChoice]:
    """`fit_cca` for every combination of settings; keeps the best by a score on other data.

    The covariances are summed and decomposed once. Of equal scores the first wins.

    Args:
      za, zb, b_to_a: as for `fit_cca`.
      score: (project_a, project_b) -> number, larger is better; on validation data. Settings that score NaN are left
        out.
      shrinkages, dims, powers: the candidates, at least one of each.

    Returns:
      (project_a, project_b, choice).

    Raises:
      ConfigError: as `fit_cca`, nothing to try, or every score is NaN.

    >>> rng = np.random.default_rng(0)
    >>> za = rng.normal(size=(200, 3))
    >>> agreement = lambda a, b: -float(np.abs(a(za) - b(-za)).mean())
    >>> tune_cca(za, -za, agreement, shrinkages=(0.0, 0.5), dims=(1, 2), powers=(0.5,))[2].candidates
    4
    """
    moments = paired_moments(za, zb, b_to_a=b_to_a)
    return tune_cca_to_moments(moments, score, shrinkages=shrinkages, dims=dims, powers=powers)


def tune_cca_to_moments(
    moments: Moments,
    score: Callable[[Projection, Projection], float],
    *,
    shrinkages: Sequence[float | tuple[float, float]],
    dims: Sequence[int],
    powers: Sequence[float],
) -> tuple[Projection, Projection, CcaChoice]:
    """`tune_cca` of the pairs that have these moments, see `chunk_moments`."""
    best: tuple[Projection, Projection, CcaChoice] | None = None
    candidates = len(shrinkages) * len(dims) * len(powers)
    for dim, power in itertools.product(dims, powers):
        _check(moments, dim, power)
    problem = decompose(moments)
    for shrinkage in map(_pair, shrinkages):
        solution = problem.solve(shrinkage)
        for dim, power in itertools.product(dims, powers):
            a, b = solution.projections(dim, power)
            found = score(a, b)
            # Every comparison with NaN is false: as the first score it would never be replaced.
            if not math.isnan(found) and (best is None or found > best[2].score):
                best = a, b, CcaChoice(shrinkage, dim, power, found, candidates)
    if best is None and candidates:
        raise ConfigError(f"score is NaN for all {candidates} settings: check the validation data it is computed on")
    if best is None:
        raise ConfigError("shrinkages, dims and powers must hold at least one candidate each")
    return best


def _pair(shrinkage: float | tuple[float, float]) -> tuple[float, float]:
    return shrinkage if isinstance(shrinkage, tuple) else (shrinkage, shrinkage)


def _check(moments: Moments, dim: int, power: float) -> None:
    most = min(moments.c_ab.shape)
    if not 1 <= dim <= most:
        raise ConfigError(f"dim must be between 1 and {most}, the smaller number of features, got {dim}")
    if not power >= 0:
        raise ConfigError(f"power must not be negative, got {power}")
    for name, mean, square in (("za", moments.mean_a, moments.c_aa), ("zb", moments.mean_b, moments.c_bb)):
        if np.trace(square) <= np.square(np.finfo(moments.dtype).eps * np.linalg.norm(mean)):
            raise ValueError(f"{name} must vary between rows, but all rows are equal")


def decompose(moments: Moments) -> Problem:
    """The problem in the eigenvectors of both covariances, where shrinkage is one factor per direction."""
    a, b = np.linalg.eigh(moments.c_aa), np.linalg.eigh(moments.c_bb)
    return Problem(moments, (a[0], a[1]), (b[0], b[1]), a[1].T @ moments.c_ab @ b[1])


@dataclasses.dataclass(frozen=True)
class Problem:
    """`eigen_a`, `eigen_b`: eigenvalues and eigenvectors of the covariances; `c_ab` in those vectors."""

    moments: Moments
    eigen_a: tuple[np.ndarray, np.ndarray]
    eigen_b: tuple[np.ndarray, np.ndarray]
    c_ab: np.ndarray

    def solve(self, shrinkage: tuple[float, float], *, squared: bool = False) -> Solution:
        """All canonical directions with this shrinkage of both sides.

        Args:
          shrinkage: of a and b.
          squared: decompose the smaller of M'M and MM' in float32, in place of M in float64. Many times faster;
            directions with a correlation below 1e-3 of the largest are inaccurate.
        """
        root_a = _inverse_root("za", self.eigen_a[0], shrinkage[0], self.moments)
        root_b = _inverse_root("zb", self.eigen_b[0], shrinkage[1], self.moments)
        whitened = root_a[:, None] * self.c_ab * root_b
        u, r, v = _squared_svd(whitened.astype(np.float32)) if squared else _svd(whitened)
        a = self.eigen_a[1].astype(u.dtype) @ (root_a[:, None].astype(u.dtype) * u)
        b = self.eigen_b[1].astype(v.dtype) @ (root_b[:, None].astype(v.dtype) * v)
        # A singular pair is determined up to a common sign; fix it, so that every machine writes the same numbers.
        sign = np.sign(a[np.argmax(np.abs(a), axis=0), np.arange(len(r))])
        return Solution(self.moments, a * sign, b * sign, r)


def _svd(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, r, vt = np.linalg.svd(m, full_matrices=False)
    return u, r, vt.T


def _squared_svd(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if len(m) < m.shape[1]:
        v, r, u = _squared_svd(m.T)
        return u, r, v
    squares, v = np.linalg.eigh(m.T @ m)
    v, squares = v[:, ::-1], squares[::-1]
    r = np.sqrt(np.maximum(squares, np.finfo(m.dtype).eps * squares[0]))
    return (m @ v) / r, r, v


@dataclasses.dataclass(frozen=True)
class Solution:
    """Canonical directions `a` [d_a, k] and `b` [d_b, k], by falling correlation `r` [k]."""

    moments: Moments
    a: np.ndarray
    b: np.ndarray
    r: np.ndarray

    def projections(self, dim: int, power: float) -> tuple[Projection, Projection]:
        weight, correlations = self.r[:dim] ** power, self.r[:dim].astype(np.float32)
        return (
            Projection(
                self.moments.mean_a.astype(np.float32), (self.a[:, :dim] * weight).astype(np.float32), correlations
            ),
            Projection(
                self.moments.mean_b.astype(np.float32), (self.b[:, :dim] * weight).astype(np.float32), correlations
            ),
        )


def _inverse_root(name: str, values: np.ndarray, shrinkage: float, moments: Moments) -> np.ndarray:
    if not 0.0 <= shrinkage <= 1.0:
        raise ConfigError(f"shrinkage must be in [0, 1], got {shrinkage}")
    shrunk = (1.0 - shrinkage) * values + shrinkage * values.mean()
    if shrunk[0] <= moments.resolution(len(values)) * shrunk[-1]:
        raise ConfigError(
            f"shrinkage must be larger than {shrinkage}: the covariance of {name} ({len(values)} features) cannot be "
            f"inverted, as when there are fewer rows than features"
        )
    return 1.0 / np.sqrt(shrunk)
