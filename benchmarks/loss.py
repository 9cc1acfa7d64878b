"""Time and memory of the contrastive losses against the usual ways to write them, and against PyTorch if installed.

    python benchmarks/loss.py            # ten minutes on two cores; writes benchmarks/results/loss_cpu.md
    python benchmarks/loss.py --quick    # under a minute; prints only

An interrupted run resumes: benchmarks/results/loss_cpu.json keeps what was measured. The same as
`alignment-jax benchmark [--quick] --output=benchmarks/results/loss_cpu.md`.
"""

from __future__ import annotations

import pathlib
import sys

from alignment_jax.cli.main import main

RESULTS = pathlib.Path(__file__).resolve().parent / "results"

if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(["benchmark", *(arguments or [f"--output={RESULTS / 'loss_cpu.md'}"])]))
