"""From the command to the first training step on ten million pairs of latents, the first time and the second.

    python benchmarks/start_time.py --out benchmarks/results/start_time.md

The first command hashes every row: for the random cut into train, val and test, and for the records by which a run
recognizes its data. The results are kept in ~/.cache/alignment_jax by content; this script starts with an empty home.
Latents have 16 dimensions: rows cost time, not their width.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from alignment_jax.report import environment, table, to_markdown

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIM, BLOCK = 16, 1_000_000
SETTINGS = {
    "init.name": "random",
    "init.selection": "val",
    "init.training": "always",
    "train.duration": "2 steps",
    "log.interval": "1 steps",
    "eval.interval": "1 epochs",
    "input.batch_size": "4096",
}


def make(folder: pathlib.Path, rows: int) -> None:
    """Writes image.npy and text.npy."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name in ("image", "text"):
        latents = np.lib.format.open_memmap(str(folder / f"{name}.npy"), "w+", np.float16, (rows, DIM))
        for start in range(0, rows, BLOCK):
            part = latents[start : start + BLOCK]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)


def seconds_to_first_step(data: pathlib.Path, workdir: pathlib.Path, home: pathlib.Path) -> tuple[float, float]:
    """(wall seconds until the line of the first step, CPU seconds until then)."""
    changes = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    config = f"--config={ROOT / 'configs' / 'flickr8k_frozen.py'}:data=embeddings:{data}"
    command = [sys.executable, "-m", "alignment_jax", "train", config, *changes, f"--workdir={workdir}"]
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(home)}) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("step 1/"):
                took = time.perf_counter() - start
                used = pathlib.Path(f"/proc/{run.pid}/stat").read_text().rpartition(")")[2].split()
                run.kill()
                return took, (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError("the command ended before its first step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make(folder / "latents", arguments.rows)
        rows = []
        for which in ("first", "second", "third"):
            wall, cpu = seconds_to_first_step(folder / "latents", folder / which, folder)
            rows.append([which, f"{wall:.0f}", f"{cpu:.0f}"])
            print(rows[-1], flush=True)
    about = environment(packages=("jax", "numpy"))
    versions = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    head = f"`python benchmarks/start_time.py`, {arguments.rows:,} pairs, {about['cpus']} cores, {versions}."
    shown = to_markdown(table(["time", "seconds to the first step", "CPU seconds"], rows))
    text = f"# Start of a run on ten million pairs\n\n{head}\n\n{shown}\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
