"""Time of a search: a whole command, and further queries of one process.

    python benchmarks/search.py --workdir RUN [--text_encoder st:DIR] [--items 10000] [--write]

The run reads texts, or latents of a text encoder. The items are random vectors of its width in an .npz file, as
`embed` writes them. The command runs in a new process without a compilation cache; queries of one process have other
words each time. Seconds of the clock and of the processor: on a busy machine the second says what it costs.

Prints Markdown; `--write` also writes benchmarks/results/search.md.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from alignment_jax.core.storage import write_text_atomic
from alignment_jax.report.tables import table, to_markdown

HERE = pathlib.Path(__file__).resolve().parent
PHRASES = ("a dog on the beach", "two children play football in a park", "red car", "a man climbs a steep rock wall")
LONG = "two children in yellow rain coats jump into a deep puddle beside a parked red car while their dog watches"
REPEATS = 20


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor with those of child processes that have ended."""

    def used() -> float:
        each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(one.ru_utime + one.ru_stime for one in each)

    start, before = time.perf_counter(), used()
    work()
    return time.perf_counter() - start, used() - before


def encoder_name(encoder: str) -> str:
    """The kind of an encoder and the last two parts of its path."""
    return encoder.partition(":")[0] + ":" + "/".join(pathlib.PurePath(encoder.partition(":")[2]).parts[-2:])


def commands(workdir: str, more: list[str], file: pathlib.Path) -> list[tuple[float, float]]:
    """The times of three new processes."""
    command = [sys.executable, "-m", "alignment_jax", "search", "--workdir", workdir, PHRASES[0], f"--in={file}", *more]
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, cwd=HERE.parent)

    return [timed(run) for _ in range(3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--text_encoder")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    workdir = str(pathlib.Path(arguments.workdir).absolute())

    import alignment_jax as aj

    aligner = aj.load(workdir, text_encoder=arguments.text_encoder)
    vectors = np.random.default_rng(0).normal(size=(arguments.items, aligner.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = np.array([f"folder/picture_{number}.jpg" for number in range(arguments.items)])
    more = [f"--text_encoder={arguments.text_encoder}"] if arguments.text_encoder else []
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "items.npz")
        np.savez(file, image=vectors, image_id=names)
        whole = min(commands(workdir, more, file), key=lambda each: each[1])
        index = aj.inference.open_index(aligner, str(file))
    side = aligner.side_of("text")

    def query(phrase: str) -> None:
        index.search(aligner.embed_texts([phrase])[0], side=side)

    first = timed(lambda: query(PHRASES[0]))
    later = [timed(lambda k=k: query(PHRASES[k % len(PHRASES)])) for k in range(1, REPEATS + 1)]

    longer = [timed(lambda: query(LONG)) for _ in range(2)]

    def milliseconds(which: Callable[[list[float]], float]) -> list[str]:
        return [f"{1000 * which([each[column] for each in later]):.1f} ms" for column in (0, 1)]

    rows = [
        ["command, from start to exit", f"{whole[0]:.1f} s", f"{whole[1]:.1f} s"],
        ["first query of a process that has loaded run and items", f"{first[0]:.2f} s", f"{first[1]:.2f} s"],
        ["second query, of another length", *(f"{1000 * seconds:.1f} ms" for seconds in later[0])],
        [f"next {REPEATS} queries, median", *milliseconds(statistics.median)],
        [f"next {REPEATS} queries, slowest", *milliseconds(max)],
        ["first query of more than 16 tokens", *(f"{1000 * seconds:.1f} ms" for seconds in longer[0])],
        ["second query of more than 16 tokens", *(f"{1000 * seconds:.1f} ms" for seconds in longer[1])],
    ]
    reads = aligner.trained.reads[side]
    what = f"latents of {encoder_name(arguments.text_encoder)}" if arguments.text_encoder else reads["kind"]
    load = os.getloadavg()[0]
    lines = [
        "# Search: time of a query",
        "",
        f"`python benchmarks/search.py`: {arguments.items:,} items of {aligner.dim} numbers, a phrase, model "
        f"{aligner.config.model.name} on {what}. {os.cpu_count()} cores ({platform.machine()}), load {load:.1f} during "
        "the measurement. The command is the best of three by processor time, without a compilation cache. Other "
        "work on the machine makes the clock slower than the processor time.",
        "",
        to_markdown(table(["", "clock", "processor"], rows)),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        write_text_atomic(HERE / "results" / "search.md", text)


if __name__ == "__main__":
    main()
