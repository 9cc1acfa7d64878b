"""Writes an embeddings file with few pairs and many latents without partners, from a file with many pairs.

    python benchmarks/unpaired_latents.py multi30k_text/features.npz runs/results/unpaired.npz --pairs 1000

The pairs are the first of train in a random order. Of the other a-items of train one half gives its a-latents, the
other half its b-latents, so no unpaired latent has its partner in the file. val and test stay as they are.
"""

from __future__ import annotations

import argparse
import os
import pathlib

import numpy as np


def write(source: pathlib.Path, out: pathlib.Path, pairs: int) -> None:
    """Args: source, a file with a, b, b_to_a and split; out, the file to write; pairs, a-items that keep partners."""
    with np.load(source) as arrays:
        a, b, b_to_a, split = (arrays[name] for name in ("a", "b", "b_to_a", "split"))
    train = np.random.default_rng(0).permutation(np.flatnonzero(split == "train"))
    alone = train[pairs:]
    left, right = alone[: len(alone) // 2], alone[len(alone) // 2 :]
    kept = np.setdiff1d(np.arange(len(a)), alone)
    rows = np.isin(b_to_a, kept)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f"{os.getpid()}-{out.name}")  # another comparison may read or write the file
    np.savez(
        draft,
        a=a[kept],
        b=b[rows],
        b_to_a=np.searchsorted(kept, b_to_a[rows]).astype(np.int32),
        split=split[kept],
        a_unpaired=a[np.sort(left)],
        b_unpaired=b[np.isin(b_to_a, right)],
    )
    os.replace(draft, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, default=1000)
    arguments = parser.parse_args()
    write(arguments.source, arguments.out, arguments.pairs)


if __name__ == "__main__":
    main()
