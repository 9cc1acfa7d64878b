"""Steps on a CPU with glibc's allocator as it is, and told to keep the memory that a step frees.

    python benchmarks/kept_memory.py --write        # about three minutes on two cores

XLA allocates the arrays of every step anew. glibc returns large ones to the operating system, which clears every page
that it hands out again. Each side is a process of its own; they take turns, and the median turn is shown.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
from typing import Any

from turns import Side, alternate, serve

RECORD = pathlib.Path(__file__).resolve().parent / "results" / "kept_memory.md"
KEPT = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.arena_max=1"
CASES = {
    "latents sent to the device for each step, one block a side, 128 pairs": ("latents", {"input.resident": "off"}),
    "latents on the device, one block a side, 128 pairs": ("latents", {"input.resident": "on"}),
    "pixels 32 x 32, convnet and transformer, 64 pairs": ("pixels", {"input.batch_size": 64}),
}


def work(case: str) -> None:
    """One side."""
    from train_step import Training, experiment_of, latents

    from alignment_jax import config

    kind, changes = CASES[case]
    source = latents(6_000) if kind == "latents" else None
    if source is None:
        changes = {**changes, "model": config.two_tower("convnet", "transformer")}
    training = Training(experiment_of(source, **changes))
    training.run(10)
    serve({}, training.run)


def compare(case: str, *, turns: int, steps: int) -> list[str]:
    """A row of the table."""
    command = [__file__, "--case", case]
    sides = [Side(command), Side(command, {"GLIBC_TUNABLES": KEPT})]
    alternate(sides, rounds=turns + 1, steps=steps)
    for side in sides:
        side.close()
        del side.turns[0]  # warm-up
    before, kept = sides

    def ratio(key: str) -> str:
        return f"{kept.median(key) / before.median(key):.2f}"

    times = [f"{1e3 * side.median(key):.1f}" for key in ("cpu", "wall") for side in sides]
    peaks = [f"{max(turn['peak'] for turn in side.turns) / 2**20:,.0f}" for side in sides]
    return [case, *times[:2], ratio("cpu"), *times[2:], ratio("wall"), *peaks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/kept_memory.md")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="of one turn")
    arguments = parser.parse_args()
    if arguments.case:
        work(arguments.case)
        return
    from train_step import machine

    from alignment_jax.report import table, to_markdown

    rows: list[list[Any]] = [compare(case, turns=arguments.turns, steps=arguments.steps) for case in CASES]
    names = ["step", "CPU ms", "kept", "ratio", "wall ms", "kept", "ratio", "peak MiB", "kept"]
    page = f"""# Memory that is kept between steps

`python benchmarks/kept_memory.py --write`. {machine()}, glibc {platform.libc_ver()[1]}. Steps as they are, and with

    GLIBC_TUNABLES={KEPT}

{to_markdown(table(names, rows))}
"""
    print(page)
    if arguments.write:
        RECORD.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
