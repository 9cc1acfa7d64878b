"""Time and memory of exact recall at K on large galleries, against the plain form with the whole similarity matrix.

    python benchmarks/recall.py            # 2,000 x 10,000 and 20,000 x 100,000 pairs, under a minute
    python benchmarks/recall.py --full     # and 100,000 x 500,000, some minutes on two cores

Prints a Markdown table. Each case runs in its own process, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from alignment_jax import metrics

CASES = [(2_000, 10_000, 64), (2_000, 10_000, 512), (20_000, 100_000, 64)]
FULL = [(100_000, 500_000, 64)]
# The plain form holds the matrix, its comparison and a sort key: beyond this many entries it is not tried.
LARGEST_PLAIN = 100_000_000


def embeddings(n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors, m / n noisy copies of each a-item."""
    rng = np.random.default_rng(0)
    za = rng.standard_normal((n, d), dtype=np.float32)
    za /= np.linalg.norm(za, axis=1, keepdims=True)
    owner = np.arange(m, dtype=np.int32) % n
    owner.sort()
    zb = rng.standard_normal((m, d), dtype=np.float32)
    zb *= 2.5 / np.sqrt(d)
    zb += za[owner]
    zb /= np.linalg.norm(zb, axis=1, keepdims=True)
    return za, zb, owner


def plain(za: np.ndarray, zb: np.ndarray, owner: np.ndarray) -> float:
    """rsum of the usual form: the whole matrix, sorted both ways."""
    s = za @ zb.T
    place_ba = np.argsort(np.argsort(-s, axis=0), axis=0)[owner, np.arange(len(zb))]
    own = np.where(owner[None, :] == np.arange(len(za))[:, None], s, -np.inf).max(axis=1)
    place_ab = (s > own[:, None]).sum(axis=1)
    return sum(100.0 * np.mean(place < k) for place in (place_ab, place_ba) for k in (1, 5, 10))


def measure(form: str, n: int, m: int, d: int) -> dict[str, float]:
    """Seconds of one call (compilation included), peak resident memory and rsum of one form."""
    za, zb, owner = embeddings(n, m, d)
    if form == "tiled":
        small = slice(0, 64)
        metrics.retrieval_recall(za[small], zb[small], np.zeros(64, np.int32))  # starts JAX
        start = time.perf_counter()
        rsum = metrics.retrieval_recall(za, zb, owner)["rsum"]
    else:
        start = time.perf_counter()
        rsum = plain(za, zb, owner)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_gb": peak / 2**20, "rsum": rsum}


def main() -> None:
    """Runs every case in its own process and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also 100,000 x 500,000 pairs")
    parser.add_argument("--one", nargs=4, metavar=("FORM", "N", "M", "D"), help="one case, as JSON")
    options = parser.parse_args()
    if options.one:
        form, *sizes = options.one
        print(json.dumps(measure(form, *map(int, sizes))))
        return
    print("| a x b, width | form | seconds | peak memory, GB | rsum |")
    print("|---|---|---|---|---|")
    for n, m, d in CASES + (FULL if options.full else []):
        for form in ("plain", "tiled"):
            if form == "plain" and n * m > LARGEST_PLAIN:
                print(f"| {n:,} x {m:,}, {d} | plain | - | {4 * n * m / 2**30:.0f} for the matrix alone | - |")
                continue
            command = [sys.executable, __file__, "--one", form, str(n), str(m), str(d)]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
            got = json.loads(lines[-1])
            print(
                f"| {n:,} x {m:,}, {d} | {form} | {got['seconds']:.1f} | {got['peak_gb']:.2f} | {got['rsum']:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
