"""Fine-tuning of a sentence encoder against frozen image latents, beside the recipe on frozen latents of both sides.

    python benchmarks/finetuning.py --data DIR --model minilm --workdir runs/finetuning --write

DIR holds flickr8k_mini and v7w_mini with their features.npz; `minilm` is the folder of the sentence encoder that made
their text latents (all-MiniLM-L6-v2). Learning rates are tried with one seed; the best on val is trained with every
seed. All runs start from the recipe's closed form. Test numbers are corrected for hubs, as the recipe's are. The runs
are kept in the workdir, so that an interrupted command continues; `--write` writes the part of docs/results.md.
"""

from __future__ import annotations

import argparse
import pathlib

from complete_fit import complete_fit
from sections import write_section

from alignment_jax.assembly.build import build
from alignment_jax.config import load
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.inference.wise_ft import interpolated
from alignment_jax.report import append_row, format_seconds, mean_std, read_rows, table, to_markdown
from alignment_jax.train.loop import evaluation_variables, initial_state

# Data -> (title, training items, epochs, batch).
SETS = {"flickr8k_mini": ("Flickr8k", 600, 10, 100), "v7w_mini": ("Visual7W", 4351, 2, 100)}
TUNES = {"lora:8": (1e-4, 3e-4, 1e-3), "last:2": (1e-5, 3e-5, 1e-4)}
HEAD = """## Fine-tuning a text encoder

MiniLM (22 million parameters), tuned against frozen image latents, from the recipe's closed form on both frozen sides;
{seeds} seeds. The learning rate of each row is the best of three on val with seed 0. "Averaged": the average of start
and trained weights that is best on val (WiSE-FT). rsum on test with the recipe's hubness correction, mean ± standard
deviation. The start is a candidate on val, so a row can equal the recipe. Made by

    python benchmarks/finetuning.py --data DIR --model minilm --workdir runs/finetuning --write

"""


def config_of(arguments: argparse.Namespace, name: str, tune: str, rate: float, seed: int):
    _, _, epochs, batch = SETS[name]
    spec = f"embeddings:{arguments.data / name / 'features.npz'},text=caption"
    config = load(f"finetune.py:text=st:{arguments.model},tune={tune},data={spec}")
    config.seed, config.input.batch_size, config.optimizer.learning_rate = seed, batch, rate
    config.train.duration = f"{epochs} epochs" if rate else "0 steps"
    config.eval.interval = f"{max(1, epochs // 5)} epochs"
    return config


def measured(built, variables) -> dict[str, float]:
    models = SeedModels(built, [variables])
    val, test = (models.metrics(split)[0] for split in ("val", "test"))
    corrected = test.get("corrected/rsum", test["rsum"])
    return {"val": val["rsum"], "test": test["rsum"], "corrected": corrected}


def run(config) -> dict[str, float]:
    """Metrics of the start, of the best checkpoint on val and of the average of weights."""
    built = build(config)
    if built.experiment.plan.total_steps == 0:
        return measured(built, evaluation_variables(initial_state(built.experiment)))
    finished = complete_fit(built.experiment)
    variables, chosen = interpolated(built, finished.variables)
    found = measured(built, finished.variables)
    averaged = measured(built, variables)
    return {
        **found,
        **{f"averaged_{name}": value for name, value in averaged.items()},
        "alpha": chosen.alpha,
        "best_step": finished.position.best_step,
        "seconds": finished.cost["seconds"],
    }


def train(arguments: argparse.Namespace, file: pathlib.Path) -> None:
    """Makes the missing runs."""

    def result(name: str, tune: str, rate: float, seed: int) -> dict[str, float]:
        key = {"data": name, "tune": tune, "rate": rate, "seed": seed}
        for row in read_rows(file) if file.exists() else ():
            if all(row[part] == value for part, value in key.items()):
                return row
        row = {**key, **run(config_of(arguments, name, tune, rate, seed))}
        append_row(file, row)
        print(row, flush=True)
        return row

    for name in arguments.only.split(","):
        result(name, "none", 0.0, 0)
        for tune, rates in TUNES.items():
            tried = {rate: result(name, tune, rate, 0)["val"] for rate in rates}
            best = max(tried, key=lambda rate: tried[rate])
            for seed in range(1, arguments.seeds):
                result(name, tune, best, seed)


def page(file: pathlib.Path, seeds: int) -> str:
    rows = list(read_rows(file))
    lines = []
    for name, (title, items, _, _) in SETS.items():
        own = [row for row in rows if row["data"] == name]
        if not own:
            continue
        (start,) = (row for row in own if row["tune"] == "none")
        lines.append([f"{title}, {items:,}", "recipe (frozen)", "–", f"{start['corrected']:.1f}", "–", "–", "–"])
        for tune in TUNES:
            tried = [row for row in own if row["tune"] == tune]
            if not tried:
                continue
            best = max((row for row in tried if row["seed"] == 0), key=lambda row: row["val"])["rate"]
            each = [row for row in tried if row["rate"] == best]
            cells = [mean_std([row[key] for row in each]) for key in ("corrected", "averaged_corrected")]
            trained = sum(row["best_step"] > 0 for row in each)
            seconds = format_seconds(sum(row["seconds"] for row in each) / len(each))
            lines.append(["", tune, f"{best:g}", *map(str, cells), f"{trained} of {len(each)}", seconds])
    titles = ["data, items", "tuned", "learning rate", "rsum", "averaged", "runs that left the start", "time of a run"]
    return HEAD.format(seeds=seeds) + to_markdown(table(titles, lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--only", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    arguments.data, arguments.model = arguments.data.absolute(), arguments.model.absolute()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    file = arguments.workdir / "finetuning.jsonl"
    train(arguments, file)
    if arguments.write:
        write_section("finetuning", page(file, arguments.seeds))


if __name__ == "__main__":
    main()
