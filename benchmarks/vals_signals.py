"""How far the direction weights of VALS move under each reading of its signal, and what follows for retrieval.

    python benchmarks/vals_signals.py --data DIR

DIR holds flickr8k_mini/features.npz and multi30k_text/features.npz. The seeds of one reading train together, with small
linear adapters, so that all readings take minutes on a CPU. Writes benchmarks/results/vals_signals.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly.build import Built, build, with_seed
from alignment_jax.compare.paired_differences import compare_paired
from alignment_jax.compare.result_files import format_interval
from alignment_jax.core.storage import write_text_atomic
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.report import mean_std, table, to_markdown, weight_shift
from alignment_jax.train.objective import Objective
from alignment_jax.train.vmapped_seeds import fit_seeds
from alignment_jax.weighting.directional import MODES, SIGNALS

PAGE = pathlib.Path(__file__).resolve().parent / "results" / "vals_signals.md"
# folder -> (heading, training pairs to use of all, batch)
DATA = {
    "flickr8k_mini": ("600 images with five captions each (Flickr8k)", (600, 600), 150),
    "multi30k_text": ("3,000 pairs of English and German captions (Multi30k)", (3000, 11000), 150),
}
READINGS = [("fixed", MODES[0]), *itertools.product(SIGNALS[1:], MODES)]
HEAD = """# VALS: five readings of its signal

InfoNCE on frozen latents with linear adapters to {dim} dimensions, {steps} steps, {seeds} seeds. rsum: on test at the
step that is best on val, mean ± standard deviation over seeds. |w - 1|: distance of the weights from the fixed ones
over every fifth step. Difference: paired with `fixed`, with its 95 % interval over seeds; of twenty comparisons without
effect, expect one interval to exclude 0. The trainings are short ({epochs} epochs). Made by
`python benchmarks/vals_signals.py`.
"""


def get_config(spec: str, share: float, batch: int, *, dim: int, steps: int, signal: str, mode: str):
    config = configs.default()
    config.data, config.input.fraction, config.input.batch_size = spec, share, batch
    config.model.dim, config.model.blocks_a, config.model.blocks_b = dim, 0, 0
    config.model.final_norm, config.model.input_norm = False, "l2"
    config.optimizer.weight_decay = 1.0
    config.train.devices, config.train.duration = 1, f"{steps} steps"
    config.log.interval, config.eval.interval = "5 steps", f"{steps // 10} steps"
    config.weighting.signal, config.weighting.mode = signal, mode
    return config


def train(built: Built, objective: Objective, seeds: int) -> tuple[list[float], list[dict[str, float]]]:
    """rsum on test and `weight_shift` of every seed; everything but the objective is that of `built`."""
    each = [dataclasses.replace(with_seed(built, seed).experiment, objective=objective) for seed in range(seeds)]
    results = fit_seeds(each)
    models = SeedModels(built, [one.variables for one in results])
    return [one["rsum"] for one in models.metrics("test")], [weight_shift(one.history) for one in results]


def cell(values: Sequence[float], digits: int) -> str:
    found = mean_std(values)
    return "–" if found is None else found.text(digits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--dim", type=int, default=64)
    arguments = parser.parse_args()
    epochs = " and ".join(f"{arguments.steps * batch / used:.3g}" for _, (used, _), batch in DATA.values())
    parts = [HEAD.format(dim=arguments.dim, steps=arguments.steps, seeds=arguments.seeds, epochs=epochs)]
    for folder, (title, (used, available), batch) in DATA.items():
        spec = f"embeddings:{arguments.data.absolute() / folder / 'features.npz'}"
        source, rows, fixed = data.load(spec), [], []
        first: Built | None = None  # compiles the evaluation once
        for signal, mode in READINGS:
            config = get_config(
                spec, used / available, batch, dim=arguments.dim, steps=arguments.steps, signal=signal, mode=mode
            )
            built = build(config, source=source)
            first = first or built
            values, shifts = train(first, built.experiment.objective, arguments.seeds)
            moved = [cell([one[key] for one in shifts if one], 3) for key in ("largest", "mean")]
            if signal == "fixed":
                fixed, row = values, [signal, "–", "–", "–", cell(values, 1), "–", "–"]
            else:
                difference = compare_paired(fixed, values)
                interval = format_interval(*(difference.interval or (None, None)))
                row = [signal, mode, *moved, cell(values, 1), f"{difference.mean:+.1f}", interval]
            rows.append(row)
            print(folder, *row, flush=True)
        columns = ["signal", "mode", "largest |w - 1|", "mean |w - 1|", "rsum", "difference", "95 % interval"]
        parts.append(f"## {title}\n\n{to_markdown(table(columns, rows))}\n")
    text = "\n".join(parts)
    print(text)
    write_text_atomic(PAGE, text)


if __name__ == "__main__":
    main()
