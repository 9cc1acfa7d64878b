"""Metrics under increasing noise on one side of a split at test time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.types import Array
from alignment_jax.evals.retrieval_results import SplitEmbeddings, recall_metrics

CLEAN = "clean"


@dataclasses.dataclass(frozen=True)
class Noise:
    """One kind of noise on one side.

    Attributes:
      kind: its name, such as "latent_noise".
      side: "a" or "b".
      strengths: increasing, without 0.
      embed: (strength, seed) -> embeddings of that side under the noise, [k, d].
    """

    kind: str
    side: str
    strengths: tuple[float, ...]
    embed: Callable[[float, int], Any]


def stress_test(
    embedded: SplitEmbeddings,
    noises: Iterable[Noise],
    *,
    seed: int = 0,
    repeats: int = 1,
    measure: Callable[[SplitEmbeddings], Mapping[str, float]] = recall_metrics,
) -> list[dict[str, Any]]:
    """The metrics of a split without noise and under every strength of every noise.

    Args:
      embedded: both sides without noise.
      noises: the kinds of noise.
      seed: of the noise; equal seeds give equal noise for every model.
      repeats: draws of the noise whose metrics are averaged.
      measure: split -> metrics.

    Returns:
      Rows {"kind", "side", "strength", "metrics"}; the first is {"kind": "clean", "side": "", "strength": 0.0, ...}.

    >>> eye = np.eye(3, dtype=np.float32)
    >>> turned = Noise("turn", "a", (1.0,), lambda strength, seed: eye[[1, 2, 0]])
    >>> rows = stress_test(
    ...     SplitEmbeddings(eye, eye, np.arange(3)), [turned], measure=lambda e: recall_metrics(e, ks=(1,))
    ... )
    >>> [(row["kind"], row["metrics"]["rsum"]) for row in rows]
    [('clean', 200.0), ('turn', 0.0)]

    Source: the stress test of VALS (Pillai 2025): noise in captions or images at growing strength.
    """

    def alone(noise: Noise) -> Noise:
        return dataclasses.replace(noise, embed=lambda strength, seed: [noise.embed(strength, seed)])

    return stress_test_models([embedded], map(alone, noises), seed=seed, repeats=repeats, measure=measure)[0]


def stress_test_models(
    embedded: Sequence[SplitEmbeddings],
    noises: Iterable[Noise],
    *,
    seed: int = 0,
    repeats: int = 1,
    measure: Callable[[SplitEmbeddings], Mapping[str, float]] = recall_metrics,
) -> list[list[dict[str, Any]]]:
    """`stress_test` for several models on one split with the same noise.

    Args:
      embedded: of every model, without noise.
      noises: as for `stress_test`, but `embed` gives a sequence: the embeddings of every model.
      seed, repeats, measure: as for `stress_test`.

    Returns:
      The rows of every model.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    rows = [[{"kind": CLEAN, "side": "", "strength": 0.0, "metrics": dict(measure(one))}] for one in embedded]
    for noise in noises:
        if noise.side not in ("a", "b"):
            raise ValueError(f"side must be 'a' or 'b', got {noise.side!r}")
        for strength in noise.strengths:
            draws: list[list[Mapping[str, float]]] = [[] for _ in embedded]
            for repeat in range(repeats):
                disturbed = noise.embed(strength, seed + repeat)
                for found, one, side in zip(draws, embedded, disturbed, strict=True):
                    found.append(measure(dataclasses.replace(one, **{noise.side: side})))
            for own, found in zip(rows, draws, strict=True):
                mean = {key: float(np.mean([metrics[key] for metrics in found])) for key in found[0]}
                own.append({"kind": noise.kind, "side": noise.side, "strength": float(strength), "metrics": mean})
    return rows


def retained_share(rows: Sequence[Mapping[str, Any]], *, metric: str = "rsum") -> dict[str, float]:
    """The share of a metric that remains under each noise, averaged over the strengths.

    area under the curve of the metric over strength / (largest strength * value without noise)

    Args:
      rows: result of `stress_test`.
      metric: its key.

    Returns:
      "kind, side" -> share: 1 without any effect of the noise; NaN for a metric that is 0 without noise.

    >>> clean = {"kind": "clean", "side": "", "strength": 0.0, "metrics": {"rsum": 100.0}}
    >>> retained_share([clean, {"kind": "blur", "side": "a", "strength": 0.1, "metrics": {"rsum": 50.0}}])
    {'blur, a': 0.75}
    """
    clean = next(float(row["metrics"][metric]) for row in rows if row["kind"] == CLEAN)
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["kind"] != CLEAN:
            point = (float(row["strength"]), float(row["metrics"][metric]))
            curves.setdefault(f"{row['kind']}, {row['side']}", [(0.0, clean)]).append(point)
    shares = {}
    for name, points in curves.items():
        x, y = np.array(sorted(points)).T
        shares[name] = float(np.trapezoid(y, x) / (x[-1] * clean)) if clean else float("nan")
    return shares


def latent_noise(z: Array, strength: float, seed: int, *, scale: float) -> np.ndarray:
    """Latents with Gaussian noise, float32: z + strength * scale * e, e ~ N(0, 1).

    Args:
      z: [n, d].
      strength: noise in units of `scale`.
      seed: equal seeds give the same noise, scaled by the strength.
      scale: standard deviation over all latents of the training split.

    >>> z = np.zeros((2, 3), np.float32)
    >>> bool(np.allclose(latent_noise(z, 2.0, 0, scale=1.0), 2 * latent_noise(z, 1.0, 0, scale=1.0)))
    True
    """
    z = np.asarray(z, np.float32)
    return z + np.float32(strength * scale) * np.random.default_rng(seed).standard_normal(z.shape, np.float32)
