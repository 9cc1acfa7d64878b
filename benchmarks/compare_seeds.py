"""What training the seeds of a method together saves against training them one after another, on frozen latents.

    python benchmarks/compare_seeds.py --out benchmarks/results/compare_seeds_cpu.md

Both do the same runs: compiling, training and evaluating on val. CPU seconds of all threads are what other programs
on the machine do not change; on an accelerator look at the wall time.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from alignment_jax import config as configs
from alignment_jax.assembly.build import Built, build, with_seed
from alignment_jax.report import table, to_markdown
from alignment_jax.train.loop import fit, placement_of
from alignment_jax.train.vmapped_seeds import fit_seeds

# name -> (pairs, batch, width of the latents, shared width, steps)
CASES = {
    "small: 64 of 256 pairs, 64 to 32": (256, 64, 64, 32, 400),
    "middle: 128 of 512 pairs, 256 to 128": (512, 128, 256, 128, 200),
    "large: all of 600 pairs, 1024 to 512": (600, 600, 1024, 512, 40),
}


def make_latents(path: pathlib.Path, pairs: int, width: int) -> pathlib.Path:
    rng = np.random.default_rng(0)
    n = pairs + 2 * 50
    code = rng.normal(size=(n, 16))
    image, text = (code @ rng.normal(size=(16, d)) + rng.normal(size=(n, d)) for d in (width, width // 2))
    split = np.array(["train"] * pairs + ["val"] * 50 + ["test"] * 50)
    np.savez(path, image=image.astype(np.float16), text=text.astype(np.float16), split=split)
    return path


def built_case(folder: pathlib.Path, case: tuple[int, int, int, int, int]) -> Built:
    pairs, batch, width, dim, steps = case
    config = configs.default()
    config.data = f"embeddings:{make_latents(folder / 'latents.npz', pairs, width)}"
    config.model.blocks_a = config.model.blocks_b = 0
    config.model.dim, config.input.batch_size, config.train.devices = dim, batch, 1
    config.train.duration, config.eval.interval = f"{steps} steps", "25 percent"
    config.eval.interval = f"{max(1, steps // 4)} steps"
    config.checkpoint.interval = f"{steps} steps"
    return build(config)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds of all threads, wall seconds), nothing compiled before."""
    jax.clear_caches()
    cpu, wall = time.process_time(), time.monotonic()
    work()
    return time.process_time() - cpu, time.monotonic() - wall


def measure(case: tuple[int, int, int, int, int], seeds: int) -> dict[str, tuple[float, float]]:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        built = built_case(folder, case)
        each: Sequence[Built] = [with_seed(built, seed) for seed in range(seeds)]

        def one_by_one(shared: bool) -> None:
            placement = placement_of(built.experiment)
            for k, one in enumerate(each):
                own = placement if shared else placement_of(one.experiment)
                with tempfile.TemporaryDirectory() as run:
                    fit(one.experiment, pathlib.Path(run) / str(k), quiet=True, tensorboard=False, placement=own)

        return {
            "one by one, each compiled": timed(lambda: one_by_one(False)),
            "one by one, compiled once": timed(lambda: one_by_one(True)),
            "together": timed(lambda: fit_seeds([one.experiment for one in each])),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # a warm cache would hide the compilation
    rows = []
    for name, case in list(CASES.items())[: arguments.cases]:
        found = measure(case, arguments.seeds)
        base = found["one by one, each compiled"]
        for way, (cpu, wall) in found.items():
            rows.append([name, way, f"{cpu:.1f}", f"{wall:.1f}", f"{base[0] / cpu:.2f}", f"{base[1] / wall:.2f}"])
            print(rows[-1], flush=True)
    device = jax.devices()[0].device_kind
    columns = ["case", "way", "CPU seconds", "wall seconds", "CPU time saved, factor", "wall time saved, factor"]
    text = f"{arguments.seeds} seeds on {device}, compiling included.\n\n{to_markdown(table(columns, rows))}\n"
    print(text)
    if arguments.out:
        command = "python benchmarks/compare_seeds.py"
        arguments.out.write_text(f"# Seeds trained together\n\nMade by `{command}`. {text}", encoding="utf-8")


if __name__ == "__main__":
    main()
