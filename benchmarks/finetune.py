"""A fine-tuning step of the trainer beside a plain loop of PyTorch and transformers: CPU time and memory.

    python benchmarks/finetune.py --write             # about 20 minutes on two cores; needs torch and transformers
    python benchmarks/finetune.py --cases minilm --tune lora:8 --rounds 3

Both sides have the same random checkpoint, batches, loss (InfoNCE in both directions, learned temperature) and
optimizer (AdamW, clipped gradients), in float32, and compute the same losses, or the script stops. Ours is the compiled
step of a run with configs/finetune.py. PyTorch's is `finetune_torch.py`, with LoRA written by hand.

Each side is a process on two threads. They take turns, because other work may share the cores; time is that of the
process on all threads, memory its resident set. A measured case is a line of the record, so an interrupted run
continues; delete the line to measure it again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
RECORD, PAGE = HERE / "results" / "finetune_cpu.jsonl", HERE / "results" / "finetune_cpu.md"
BATCHES = 4  # different ones, which also are the steps whose results are compared
COMPILED = "compiled.json"  # sizes of our compiled step
TUNES = {"all": "all parameters", "lora:8": "LoRA, rank 8"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A pair of towers: content of config.json, pairs and tokens of a batch, steps of a turn.

    latents: width of the frozen latents on the image's side; 0 for images of `pixels` x `pixels`.
    products: matrix products between an input and the loss, at most; inputs: of one such product, at most.
    """

    title: str
    config: dict[str, Any]
    batch: int
    tokens: int
    vocabulary: int
    steps: int
    products: int
    inputs: int
    latents: int = 0
    pixels: int = 0


_MINI = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CASES = {
    "minilm": Case(
        "MiniLM-L6 against frozen latents of width 768",
        {"model_type": "bert", **_MINI, **_NO_DROPOUT, "vocab_size": 30522, "max_position_embeddings": 512},
        batch=64, tokens=24, vocabulary=30522, steps=4, products=6 * 6 + 1, inputs=1536, latents=768,
    ),
    "clip": Case(
        "CLIP ViT-B/32, both towers",
        {
            "model_type": "clip", "projection_dim": 512,
            "text_config": {"vocab_size": 49408, "eos_token_id": 49407},
            "vision_config": {"image_size": 224, "patch_size": 32},
        },
        batch=16, tokens=24, vocabulary=49408, steps=2, products=12 * 6 + 2, inputs=3072, pixels=224,
    ),
}  # fmt: skip


def tolerance(case: Case) -> float:
    """Largest relative difference of two float32 results of the same step.

    A product of k inputs has a rounding error of about sqrt(k) units; the errors of one after the other add up. A loss
    or a gradient depends on four such vectors: two of each side.
    """
    return 4.0 * case.products * case.inputs**0.5 * 2.0**-24


def check_same_work(case: Case, ours: list[list[float]], theirs: list[list[float]]) -> None:
    """Losses and norms of gradients of the first steps are equal up to rounding.

    Raises:
      SystemExit: they are not.
    """
    apart = [
        abs(a - b) / abs(b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    ]
    allowed = tolerance(case)
    # Adam divides by the size of a gradient, so small gradients pass their relative error on to the next steps.
    if max(apart[:2]) > allowed or max(apart) > 10 * allowed:
        raise SystemExit(f"{case.title}: losses and norms differ by more than {allowed:.1g}\n{ours}\n{theirs}")


def measure(name: str, tune: str, rounds: int) -> dict[str, Any]:
    """A line of the record, but for its key."""
    from turns import Side, alternate

    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [name, tune, folder]
        subprocess.run([sys.executable, HERE / "finetune_jax.py", "prepare", *arguments], check=True)
        sides = {
            # As a first run: what a compiler leaves behind counts.
            "jax": Side(
                [str(HERE / "finetune_jax.py"), "serve", *arguments], {"JAX_ENABLE_COMPILATION_CACHE": "false"}
            ),
            "torch": Side([str(HERE / "finetune_torch.py"), *arguments]),
        }
        compiled = json.loads((pathlib.Path(folder) / COMPILED).read_text())
        first = {side: each.first.pop("steps") for side, each in sides.items()}
        check_same_work(case, first["jax"], first["torch"])
        if sides["jax"].first["trained"] != sides["torch"].first["trained"]:
            raise SystemExit(f"{case.title}: the sides train different parameters")
        alternate(list(sides.values()), rounds=rounds, steps=case.steps)
        for each in sides.values():
            each.close()
    found = {"machine": machine(), "load": os.getloadavg()[2], "compiled": compiled}
    for side, each in sides.items():
        cpu = [turn["cpu"] for turn in each.turns]
        values = {**each.first, "losses": [loss for loss, _ in first[side]], "cpu": cpu, "wall": each.median("wall")}
        found[side] = {**values, "peak": max(turn["peak"] for turn in each.turns)}
    return found


def machine() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("jax", "torch", "transformers")]
    cores = f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.machine()}"
    return ", ".join([cores, f"Python {platform.python_version()}", *versions])


def in_order(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    order = [(name, tune) for name in CASES for tune in TUNES]
    return sorted(lines, key=lambda line: order.index((line["case"], line["tune"])))


def text(lines: list[dict[str, Any]]) -> str:
    """The section of the page."""
    from alignment_jax.report import table, to_markdown

    def mib(count: float) -> str:
        return f"{count / 2**20:,.0f}"

    rows = []
    for line in lines:
        case, ours, theirs, compiled = CASES[line["case"]], line["jax"], line["torch"], line["compiled"]
        ratios = [b / a for a, b in zip(ours["cpu"], theirs["cpu"], strict=True)]
        rows.append(
            [
                f"{case.title}, {TUNES[line['tune']]}",
                f"{case.batch} x {case.tokens} tokens",
                f"{ours['trained'] / 1e6:.1f} M",
                *(f"{statistics.median(side['cpu']):.2f} ({min(side['cpu']):.2f}–{max(side['cpu']):.2f})"
                  for side in (ours, theirs)),
                f"{statistics.median(ratios):.2f}",
                *(mib(side["peak"]) for side in (ours, theirs)),
                f"{mib(compiled['arguments'])} + {mib(compiled['temporary'])}",
                f"{max(abs(a - b) for a, b in zip(ours['losses'], theirs['losses'], strict=True)):.0e}",
            ]
        )  # fmt: skip
    names = [
        *("case", "batch", "trained", "ours, CPU s a step", "PyTorch, CPU s a step", "ratio"),
        *("ours, peak MiB", "PyTorch, peak MiB"),
        *("compiled: arguments + temporary, MiB", "losses differ by"),
    ]
    machines = "; ".join(sorted({line["machine"] for line in lines}))
    load = "–".join(f"{x:.1f}" for x in sorted({min(x["load"] for x in lines), max(x["load"] for x in lines)}))
    head = f"`python benchmarks/finetune.py --write`. {machines}; load average {load} (other work included)."
    return f"{head}\n\n{to_markdown(table(names, rows))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--tune", nargs="+", choices=TUNES, default=list(TUNES))
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--record", type=pathlib.Path, default=RECORD, help="one line for each measured case")
    parser.add_argument("--write", action="store_true", help=f"rewrite the table in {PAGE.relative_to(ROOT)}")
    arguments = parser.parse_args()
    from kept_rows import kept_row
    from sections import write_section

    from alignment_jax.report import read_rows

    for name, tune in itertools.product(arguments.cases, arguments.tune):
        key = {"case": name, "tune": tune}
        kept_row(arguments.record, key, functools.partial(measure, name, tune, arguments.rounds))
    shown = text(in_order(read_rows(arguments.record)))
    if arguments.write:
        write_section("steps", shown, page=PAGE)
    print(shown)


if __name__ == "__main__":
    main()
