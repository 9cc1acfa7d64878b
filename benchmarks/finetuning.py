"""Fine-tuning of a sentence encoder against frozen latents, beside the recipe on frozen latents of both sides.

    python benchmarks/finetuning.py --data DIR --model minilm --workdir runs/finetuning --write

DIR holds flickr8k_mini, v7w_mini and multi30k_text with their features.npz; `minilm` is the folder of the sentence
encoder that made the text latents of the first two and the English ones of the third (all-MiniLM-L6-v2). Learning rates
are tried with one seed; the best on val is trained with every seed. All runs start from the recipe's closed form. Test
numbers are corrected for hubs, as the recipe's are. The runs are kept in the workdir, so that an interrupted command
continues; `--write` writes the part of docs/results.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from typing import Any

from complete_fit import complete_fit
from kept_rows import kept_row
from sections import write_section

from alignment_jax.assembly.build import build
from alignment_jax.config import load
from alignment_jax.core.nested import flatten_config
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.inference.wise_ft import interpolated
from alignment_jax.report import format_seconds, mean_std, read_rows, table, to_markdown
from alignment_jax.train.loop import evaluation_variables, initial_state


@dataclasses.dataclass(frozen=True)
class Set:
    """Training data: array of the texts, share of the training items, epochs. Its latents are those of `encoder`."""

    title: str
    texts: str
    epochs: int
    fraction: float = 1.0
    encoder: str = "MiniLM"


SETS = {
    "flickr8k_mini": Set("Flickr8k, 600 photographs", "caption", 10),
    "v7w_mini": Set("Visual7W, 4,351 photographs", "caption", 2),
    "multi30k_text": Set("Multi30k, 1,100 pictures, German to English", "b_text", 10, 0.1, "multilingual-e5-small"),
}
LATENTS = "latents of the file"
# Settings of the start that cross-validation chooses, from data that is the same for every run.
CHOSEN = ("init.shrinkage", "init.dim", "init.power", "eval.hubness")
TUNES = {"lora:8": (3e-4, 1e-3)}
HEAD = """## Fine-tuning a text encoder

MiniLM (22 million parameters) tuned by LoRA against frozen latents: of photographs, and of English captions. It starts
from the recipe's closed form on both frozen sides. {seeds} seeds; the learning rate of each row is the best of
{rates} on val with seed 0. rsum on test, plain and with the recipe's hubness correction, mean ± standard deviation.
Runs are chosen by plain rsum on val; the start is a candidate, so a row can equal the recipe. "Averaged": the average
of start and trained weights that is best on val (WiSE-FT). Batches of 100. Made by

    python benchmarks/finetuning.py --data DIR --model minilm \\
      --workdir runs/finetuning --write

"""


def config_of(arguments: argparse.Namespace, name: str, tune: str, rate: float, seed: int, settings):
    """The configuration of a run; `settings` are those that cross-validation chose for the start, by name."""
    one, file = SETS[name], arguments.data / name / "features.npz"
    if tune == LATENTS:
        config = load(f"flickr8k_frozen.py:data=embeddings:{file}")
    else:
        spec = f"embeddings:{file},text={one.texts}"
        config = load(f"finetune.py:text=st:{arguments.model},tune={tune},data={spec}")
    config.seed, config.input.batch_size, config.input.fraction = seed, 100, one.fraction
    if rate:
        config.optimizer.learning_rate = rate
        config.train.duration = f"{one.epochs} epochs"
        config.eval.interval = f"{max(1, one.epochs // 5)} epochs"
    else:
        config.train.duration = "0 steps"
    config.update_from_flattened_dict(settings)
    return config


def measured(built, variables) -> dict[str, float]:
    models = SeedModels(built, [variables])
    val, test = (models.metrics(split)[0] for split in ("val", "test"))
    corrected = test.get("corrected/rsum", test["rsum"])
    return {"val": val["rsum"], "test": test["rsum"], "corrected": corrected}


def run(config) -> dict[str, Any]:
    """Metrics of the start, of the best checkpoint on val and of the average of weights."""
    built = build(config)
    if built.experiment.plan.total_steps == 0:
        settings = flatten_config(built.experiment.config)
        found = measured(built, evaluation_variables(initial_state(built.experiment)))
        return {**found, "settings": {name: settings[name] for name in CHOSEN}}
    finished = complete_fit(built.experiment)
    variables, chosen = interpolated(built, finished.variables)
    found = measured(built, finished.variables)
    averaged = found if chosen.alpha == 1.0 else measured(built, variables)
    return {
        **found,
        **{f"averaged_{name}": value for name, value in averaged.items()},
        "alpha": chosen.alpha,
        "best_step": finished.position.best_step,
    }


def train(arguments: argparse.Namespace, file: pathlib.Path) -> None:
    """Makes the missing runs."""

    def result(name: str, tune: str, rate: float, seed: int, settings=None) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            start = time.process_time()
            found = run(config_of(arguments, name, tune, rate, seed, settings or {}))
            return {**found, "cpu_seconds": time.process_time() - start}

        return kept_row(file, {"data": name, "tune": tune, "rate": rate, "seed": seed}, measure)

    for name in arguments.only.split(","):
        settings = result(name, "none", 0.0, 0)["settings"]
        if SETS[name].encoder != "MiniLM":
            result(name, LATENTS, 0.0, 0)
        for tune, rates in TUNES.items():
            tried = {rate: result(name, tune, rate, 0, settings)["val"] for rate in rates}
            best = max(tried, key=lambda rate: tried[rate])
            for seed in range(1, arguments.seeds):
                result(name, tune, best, seed, settings)


def page(file: pathlib.Path, seeds: int) -> str:
    rows = read_rows(file)
    lines = []
    for name, one in SETS.items():
        own = [row for row in rows if row["data"] == name]
        if not own:
            continue
        titles = [one.title, "", ""]
        for tune, encoder in (("none", "MiniLM"), (LATENTS, one.encoder)):
            for row in own:
                if row["tune"] == tune:
                    scores = [f"{row[key]:.1f}" for key in ("test", "corrected")]
                    cells = [f"recipe, frozen {encoder}", "–", *scores, "–", "–", "–"]
                    lines.append([titles.pop(0), *cells])
        for tune in TUNES:
            tried = [row for row in own if row["tune"] == tune]
            if not tried:
                continue
            best = max((row for row in tried if row["seed"] == 0), key=lambda row: row["val"])["rate"]
            each = [row for row in tried if row["rate"] == best]
            cells = [mean_std([row[key] for row in each]).text() for key in ("test", "corrected", "averaged_corrected")]
            trained = sum(row["best_step"] > 0 for row in each)
            seconds = format_seconds(sum(row["cpu_seconds"] for row in each) / len(each))
            left = f"{trained} of {len(each)}"
            lines.append([titles.pop(0), tune, f"{best:g}", *cells, left, seconds])
    names = [
        *("data", "tuned", "learning rate", "rsum, plain", "rsum, corrected", "averaged, corrected"),
        *("runs that left the start", "CPU time of a run"),
    ]
    rates = ", ".join(f"{rate:g}" for rate in TUNES["lora:8"])
    return HEAD.format(seeds=seeds, rates=rates) + to_markdown(table(names, lines))


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
