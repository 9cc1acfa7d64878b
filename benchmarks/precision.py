"""Errors of InfoNCE and its gradient against float64, for every `loss.precision`: the table behind its `auto`.

    python benchmarks/precision.py --write            # about 10 minutes on two cores

A CPU has no bfloat16 products. `similarity.products` computes the same ones from rounded parts, so the errors are those
of any processor; only the order of sums differs. Relative error of a gradient: the norm of the difference over the norm
of the gradient of float64, the larger of both sides. Of the losses: the largest difference.

Two kinds of batches, neither of which is solved, because the gradient of a solved batch is rounding alone: unrelated
pairs; and groups of 16 nearly equal pairs whose cosines differ by about the temperature.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import get_args

import jax
import numpy as np
from sections import write_section

from alignment_jax import losses
from alignment_jax.report import table, to_markdown
from alignment_jax.similarity import Implementation
from alignment_jax.similarity.products import PrecisionName

PAGE = pathlib.Path(__file__).resolve().parent / "results" / "precision.md"
TEMPERATURES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
SIZES = {1024: TEMPERATURES, 8192: (0.005, 0.05, 0.2), 32_768: (0.005, 0.2)}
D, GROUP, BLOCK = 128, 16, 1024
KINDS = ("unrelated", "groups")


def embeddings(kind: str, n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind == "unrelated":
        a, b = rng.normal(size=(2, n, D))
    else:
        center = np.repeat(unit(rng.normal(size=(n // GROUP, D))), GROUP, axis=0)
        # Noise of length s moves a cosine by about s times the other's.
        a, b = (center + temperature**0.5 * unit(rng.normal(size=(n, D))) for _ in "ab")
    return unit(a).astype(np.float32), unit(b).astype(np.float32)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def reference(a: np.ndarray, b: np.ndarray, temperature: float) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """float64 losses [2, n] and the gradients of the mean over both directions, block by block."""
    a, b, n = a.astype(np.float64), b.astype(np.float64), len(a)
    blocks = [slice(k, k + BLOCK) for k in range(0, n, BLOCK)]
    own = np.sum(a * b, axis=1) / temperature
    largest, total = np.full(n, -np.inf), np.zeros(n)
    log_rows = np.empty(n)
    for rows in blocks:
        logits = a[rows] @ b.T / temperature
        top = logits.max(axis=1, keepdims=True)
        log_rows[rows] = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
        new = np.maximum(largest, logits.max(axis=0))
        total = total * np.exp(largest - new) + np.exp(logits - new).sum(axis=0)
        largest = new
    log_columns = largest + np.log(total)
    da, db = np.zeros_like(a), np.zeros_like(b)
    for rows in blocks:
        logits = a[rows] @ b.T / temperature
        weight = np.exp(logits - log_rows[rows, None]) + np.exp(logits - log_columns)
        weight[np.arange(len(weight)), np.arange(rows.start, rows.start + len(weight))] -= 2
        da[rows] = weight @ b
        db += weight.T @ a[rows]
    scale = 1 / (2 * n * temperature)
    return np.stack([log_rows - own, log_columns - own]), (scale * da, scale * db)


def errors(a: np.ndarray, b: np.ndarray, temperature: float) -> dict[str, tuple[float, float]]:
    """Precision -> (relative error of the gradient, largest error of a loss)."""
    expected, gradients = reference(a, b, temperature)
    found = {}
    for precision in get_args(PrecisionName):
        similarity = Implementation("tiled", precision=precision)

        def mean(a, b, similarity=similarity):
            pair = losses.infonce(a, b, temperature=temperature, similarity=similarity)
            return sum(one.mean() for one in pair) / 2, pair

        (_, pair), ours = jax.jit(jax.value_and_grad(mean, (0, 1), has_aux=True))(a, b)
        relative = max(np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in zip(ours, gradients, strict=True))
        found[precision] = float(relative), float(np.abs(np.stack(pair) - expected).max())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite the table of the page")
    arguments = parser.parse_args()
    rows = []
    for n, temperatures in SIZES.items():
        for kind in KINDS:
            for temperature in temperatures:
                found = errors(*embeddings(kind, n, temperature), temperature)
                cells = [f"{gradient:.1e} ({loss:.0e})" for gradient, loss in found.values()]
                rows.append([f"{n:,}", kind, f"{temperature:g}", *cells])
                print(*rows[-1], flush=True)
    names = ["pairs", "batch", "temperature", *(f"`{name}`" for name in get_args(PrecisionName))]
    shown = f"`python benchmarks/precision.py --write`, {D} dimensions, tiled.\n\n{to_markdown(table(names, rows))}"
    if arguments.write:
        write_section("errors", shown, page=PAGE)
    print(shown)


if __name__ == "__main__":
    main()
