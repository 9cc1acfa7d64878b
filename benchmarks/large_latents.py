"""Training on more frozen latents than memory holds: memory of the host, and pairs per second in and through.

    python benchmarks/large_latents.py --folder DIR              # 3.6 GB of disk in DIR, removed afterwards; minutes
    python benchmarks/large_latents.py --folder DIR --quick      # a twentieth of it, to see that it works

Widths 1024 and 768, half precision, as of DINOv2-L and BGE-base. The shards of one million pairs are random numbers on
disk. The set of ten million pairs has files with holes: their size is that of ten million pairs and reading them goes
through the same pages, but they hold zeros and take no disk. Each set is trained on in its own process; memory is
its anonymous memory (RssAnon of /proc), which is what a process needs: pages of mapped files are the kernel's cache and
are given back when someone else needs them. The arrays of the smallest set, read as one .npz file, are the comparison.

Prints Markdown and writes it to benchmarks/results/large_latents.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly.build import build
from alignment_jax.core.storage import write_text_atomic
from alignment_jax.report.tables import table, to_markdown
from alignment_jax.train.batching import batch_rows
from alignment_jax.train.loop import initial_state
from alignment_jax.train.step import Placement, make_step

HERE = pathlib.Path(__file__).resolve().parent
WIDTHS = (1024, 768)
SHARD = 100_000
BATCH = 1024
HELD_OUT = 2000  # val and test


class AnonymousMemory:
    """Largest RssAnon of this process, in MiB, looked up every few milliseconds."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._stop = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> float:
        text = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1024

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, self.now())

    def since(self) -> float:
        found, self.peak = max(self.peak, self.now()), 0.0
        return found


def split_names(rows: int, first: bool) -> np.ndarray:
    names = np.full(rows, "train")
    if first:
        names[: HELD_OUT // 2], names[HELD_OUT // 2 : HELD_OUT] = "val", "test"
    return names


def write_random(folder: pathlib.Path, pairs: int) -> float:
    """A set of random latents; returns the seconds that writing and its checksums took."""
    writer, rng, spent = data.ShardWriter(folder, {"made": "at random"}), np.random.default_rng(0), 0.0
    for number, start in enumerate(range(0, pairs, SHARD)):
        rows = min(SHARD, pairs - start)
        image, text = (rng.standard_normal((rows, width), dtype=np.float32).astype(np.float16) for width in WIDTHS)
        arrays = {"image": image, "text": text, "text_to_image": np.arange(rows, dtype=np.int32)}
        began = time.perf_counter()
        writer.write(number, {**arrays, "split": split_names(rows, number == 0)})
        spent += time.perf_counter() - began
    writer.finish(-(-pairs // SHARD))
    return spent


def write_holes(folder: pathlib.Path, pairs: int) -> None:
    """The same with files of holes: a header, and a length."""
    folder.mkdir()
    shards = []
    for number, start in enumerate(range(0, pairs, SHARD)):
        rows, shard = min(SHARD, pairs - start), folder / f"{number:05d}"
        shard.mkdir()
        for name, width in zip(("image", "text"), WIDTHS, strict=True):
            with open(shard / f"{name}.npy", "wb") as file:
                header = {"descr": "<f2", "fortran_order": False, "shape": (rows, width)}
                np.lib.format.write_array_header_1_0(file, header)
                file.truncate(file.tell() + 2 * rows * width)
        np.save(shard / "text_to_image.npy", np.arange(rows, dtype=np.int32))
        np.save(shard / "split.npy", np.char.encode(split_names(rows, number == 0)))
        files = {
            path.stem: {"path": f"{shard.name}/{path.name}", "bytes": path.stat().st_size, "blake2b": ""}
            for path in shard.iterdir()
        }
        shards.append({"name": shard.name, "rows_a": rows, "rows_b": rows, "files": files})
    manifest = {"format": "alignment_jax embeddings", "version": 1, "plan": {}, "shards": shards}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def forget(folder: pathlib.Path) -> None:
    """Asks the kernel to drop the cached pages of these files, so that the next reading comes from the disk."""
    for path in folder.rglob("*.npy"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pairs_per_second(batches: Iterable[Any], count: int) -> float:
    iterator = iter(batches)
    next(iterator)  # threads start, pages of the index are read
    began = time.perf_counter()
    for _, _ in zip(range(count), iterator, strict=False):
        pass
    return BATCH * count / (time.perf_counter() - began)


def measure(path: pathlib.Path, steps: int) -> dict[str, float]:
    """Everything that one process says of one set."""
    memory, found = AnonymousMemory(), {}
    config = configs.default()
    config.data, config.input.batch_size, config.train.devices = f"embeddings:{path}", BATCH, 1
    config.input.resident = "off"
    config.model.blocks_a = config.model.blocks_b = 0
    jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))
    found["start"] = memory.since()
    began = time.perf_counter()
    built = build(config)
    found["open_seconds"] = time.perf_counter() - began
    found["open_peak"] = memory.since()
    experiment = built.experiment
    order = experiment.sampler.order({}, 0)
    rows = batch_rows(order, batch_size=BATCH, devices=1)
    count = min(steps, len(rows) - 1)
    if path.is_dir():
        forget(path)
        found["disk_rate"] = pairs_per_second(experiment.batches(rows, 0, 0), count)
    found["cache_rate"] = pairs_per_second(experiment.batches(rows, 0, 0), count)
    placement = Placement(
        experiment.devices,
        lambda axis: make_step(
            experiment.objective,
            experiment.model.apply,
            experiment.optimizer,
            axis_name=axis,
            project=experiment.model.project,
        ),
    )
    state = placement.put_state(initial_state(experiment))
    one = next(iter(experiment.batches(rows, 0, 0)))
    state, _, _ = placement.run(state, placement.put_batch(one))
    jax.block_until_ready(state)
    began = time.perf_counter()
    for _ in range(min(count, 20)):
        state, _, _ = placement.run(state, placement.put_batch(one))
    jax.block_until_ready(state)
    found["step_rate"] = BATCH * min(count, 20) / (time.perf_counter() - began)
    memory.since()
    began, done = time.perf_counter(), 0
    for batch, _ in zip(experiment.batches(rows, 0, 0), range(count), strict=False):
        state, _, _ = placement.run(state, placement.put_batch(batch))
        done += 1
    jax.block_until_ready(state)
    found["train_rate"] = BATCH * done / (time.perf_counter() - began)
    found["train_peak"] = memory.since()
    return found


def in_own_process(path: pathlib.Path, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(path), "--steps", str(steps)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"measuring {path} failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, tuple[int, dict[str, float]]], write_seconds: float, pairs: int) -> str:
    columns = ["set", "latents", "opened in", "memory at start", "peak, opening", "peak, training"]
    columns += ["input, from disk", "input, cached", "step alone", "training"]
    rows = []
    for name, (n, values) in found.items():
        size = 2 * sum(WIDTHS) * n / 2**30
        rates = [f"{values[key] / 1e3:.0f}k" if key in values else "" for key in
                 ("disk_rate", "cache_rate", "step_rate", "train_rate")]  # fmt: skip
        memory = [f"{values[key]:.0f} MiB" for key in ("start", "open_peak", "train_peak")]
        rows.append([name, f"{size:.1f} GiB", f"{values['open_seconds']:.1f} s", *memory, *rates])
    cores = len(os.sched_getaffinity(0))
    gigabytes = 2 * sum(WIDTHS) * pairs / 1e9
    return "\n".join(
        [
            "# More latents than memory holds",
            "",
            f"`python benchmarks/large_latents.py` on {cores} cores of {platform.machine()}, jax {jax.__version__}. "
            f"Widths {WIDTHS[0]} and {WIDTHS[1]}, half precision, batches of {BATCH} in random order; rates are pairs "
            "a second by the clock.",
            "",
            to_markdown(table(columns, rows)),
            "",
            f"Writing the random set with its checksums: {write_seconds:.0f} s for {gigabytes:.1f} GB.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--measure", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.steps)))
        return
    scale = 20 if arguments.quick else 1
    small, large, huge = 100_000 // scale, 1_000_000 // scale, 10_000_000 // scale
    folder = arguments.folder / "large_latents"
    folder.mkdir(parents=True)
    try:
        write_random(folder / "small", small)
        found = {}
        arrays = [data.load(f"embeddings:{folder / 'small'}").splits[name] for name in ("train", "val", "test")]
        image, text = (
            np.concatenate([getattr(split, side).read(np.arange(len(split))).astype(np.float16) for split in arrays])
            for side in "ab"
        )
        names = np.repeat(["train", "val", "test"], [len(split) for split in arrays])
        data.save_embeddings(
            folder / "small.npz", image=image, text=text, text_to_image=np.arange(len(image)), split=names
        )
        found[f"{small:,} pairs, one file"] = small, in_own_process(folder / "small.npz", arguments.steps)
        found[f"{small:,} pairs, shards"] = small, in_own_process(folder / "small", arguments.steps)
        shutil.rmtree(folder / "small")
        (folder / "small.npz").unlink()
        seconds = write_random(folder / "large", large)
        found[f"{large:,} pairs, shards"] = large, in_own_process(folder / "large", arguments.steps)
        shutil.rmtree(folder / "large")
        write_holes(folder / "huge", huge)
        found[f"{huge:,} pairs, shards with holes"] = huge, in_own_process(folder / "huge", arguments.steps)
    finally:
        shutil.rmtree(folder)
    text = report(found, seconds, large)
    print(text)
    if not arguments.quick:
        write_text_atomic(HERE / "results" / "large_latents.md", text)


if __name__ == "__main__":
    main()
