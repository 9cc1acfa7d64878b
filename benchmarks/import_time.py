"""What importing the package costs beyond JAX: both in fresh interpreters, by turns.

    python benchmarks/import_time.py --out benchmarks/results/import_time.md

Seconds of the processor, which other programs on the machine change little. The core knows nothing of the packages for
data, reports and the command line; a test keeps it so (tests/test_import_rules.py).
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys

from alignment_jax.report import environment, table, to_markdown

CORE = "losses, metrics, perturb, sampling, schedules, weighting"
# `import alignment_jax` alone loads nothing: a subpackage is imported on first use.
STATEMENTS = {"jax": "import jax, jax.numpy", "the core": f"from alignment_jax import {CORE}"}


def cpu_seconds(statement: str) -> float:
    """User and system time of an interpreter that runs one statement."""
    before = os.times()
    subprocess.run([sys.executable, "-c", statement], check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for number in range(options.rounds + 1):
        for name, statement in STATEMENTS.items():
            seconds = cpu_seconds(statement)
            if number:  # the first round fills the caches of files
                found[name].append(seconds)
    beyond = [ours - jax for ours, jax in zip(found["the core"], found["jax"], strict=True)]
    rows = [[name, *_shown(values)] for name, values in (*found.items(), ("beyond jax", beyond))]
    described = table(["import", "median [CPU s]", "least", "most"], rows)
    versions = environment([])["packages"]
    text = (
        f"# Importing the package\n\n`python benchmarks/import_time.py`, {options.rounds} rounds by turns, Python "
        f"{sys.version.split()[0]}, jax {versions['jax']}. The core: {CORE}.\n\n{to_markdown(described)}\n"
    )
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def _shown(values: list[float]) -> list[str]:
    return [f"{value:.2f}" for value in (statistics.median(values), min(values), max(values))]


if __name__ == "__main__":
    main()
