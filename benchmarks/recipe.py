"""The recipe's closed form beside the same form with other choices of its settings, on frozen latents of several sets.

    python benchmarks/recipe.py --data DIR --draws 3

DIR holds flickr8k_mini, multi30k_text and v7w_mini with their features.npz; a set that is not there is left out. A draw
takes other training pairs for each fraction below 1, and divides the 800 images of Flickr8k again for `flickr8k_200`.
Nothing is trained: `results.py` compares the recipe as a whole with trained methods. Rows that are in the results file
are not made again; `--draws 0` only writes the part `recipe` of docs/results.md.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import tempfile
import time

import numpy as np
from sections import write_section

from alignment_jax.assembly.build import build
from alignment_jax.config import load
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.report import append_row, mean_std, read_rows, table, to_markdown
from alignment_jax.train.loop import evaluation_variables, initial_state

ROOT = pathlib.Path(__file__).resolve().parent.parent
SETS = {
    "flickr8k_mini": "Flickr8k: photographs and captions, 100 of each in test",
    "flickr8k_200": "Flickr8k, divided at random: 598 photographs for training, 200 for test, no val",
    "multi30k_text": "Multi30k: English and German captions of the same pictures, 1,000 pictures in test",
    "v7w_mini": "Visual7W: photographs with short questions and answers, 1,000 photographs in test",
}
DIVIDED = "flickr8k_200"
FRACTIONS = (0.05, 0.1, 0.3, 1.0)
FIXED, TUNED, RECIPE = "fixed settings", "tuned on val", "recipe"
VARIANTS = {
    FIXED: {
        "init.shrinkage": "0.8+0.5",
        "init.dim": "128",
        "init.power": "1.0",
        "init.selection": "val",
        "eval.hubness": "nnn:k=16,strength=0.5",
    },
    TUNED: {"init.selection": "val"},
    RECIPE: {},
}
COMMAND = "python benchmarks/recipe.py --data DIR --draws 3"
ABOUT = """## The recipe beside other ways to choose its settings

rsum on test (R@1 + R@5 + R@10 both ways, in %), plain / with hubness correction, by the number of training a-items;
mean ± standard deviation over {draws} draws of the training pairs. Closed forms alone, nothing is trained. Seconds are
CPU time of one core, from the reading of the data to the fitted maps.

- {fixed}: the recipe of earlier versions, chosen on Flickr8k. Shrinkage 0.8 and 0.5, 128 dimensions, power 1; here
  with a correction of k = 16 and strength 0.5.
- {tuned}: all settings, the correction too, by rsum on val.
- {recipe}: all settings by cross-validation inside the training pairs, without val.

Made by

    {command}
"""


def get_config(spec: str, fraction: float, seed: int, **changes):
    config = load(f"flickr8k_frozen.py:data={spec}")
    config.train.devices, config.train.duration, config.init.training = 1, "0 steps", "always"
    config.input.fraction, config.data_seed = fraction, seed
    config.update_from_flattened_dict(changes)
    return config


def measure(spec: str, fraction: float, seed: int, variant: str) -> dict:
    """One row: rsum with and without correction, what was chosen, and the seconds of data, choice and fit."""
    start = time.process_time()
    built = build(get_config(spec, fraction, seed, **VARIANTS[variant]))
    variables = evaluation_variables(initial_state(built.experiment))
    seconds = time.process_time() - start
    models = SeedModels(built, [variables])
    (test,) = models.metrics("test")
    init = built.experiment.config["init"]
    return {
        "items": len(built.splits["train"]),
        "plain": test["rsum"],
        "corrected": test.get("corrected/rsum", test["rsum"]),
        "skewness": [test["a2b_skewness"], test["b2a_skewness"]],
        "settings": [init["shrinkage"], init["dim"], init["power"], str(models.hubness[0].correction)],
        "seconds": round(seconds, 1),
    }


def divide(file: pathlib.Path, draw: int, out: pathlib.Path) -> pathlib.Path:
    """A copy of the latents with 200 random photographs as test, 598 as train, and 2 as val, which nothing reads."""
    with np.load(file) as arrays:
        order = np.random.default_rng(draw).permutation(len(arrays["split"]))
        split = np.full(len(arrays["split"]), "train")
        split[order[:200]], split[order[200:202]] = "test", "val"
        np.savez(out, **{**arrays, "split": split})
    return out


def compare(folder: pathlib.Path, draws: int, results: pathlib.Path) -> None:
    """Makes the rows that are missing."""
    known = {(row["set"], row["fraction"], row["draw"], row["variant"]) for row in read_rows(results)}
    for name in SETS:
        file = folder / ("flickr8k_mini" if name == DIVIDED else name) / "features.npz"
        if not file.exists():
            print(f"{file} is not there, left out")
            continue
        for draw, fraction, variant in itertools.product(range(draws), FRACTIONS, VARIANTS):
            if (name, fraction, draw, variant) in known or (name == DIVIDED and variant == TUNED):
                continue
            if draw and fraction == 1.0 and name != DIVIDED:
                continue  # the same training pairs
            with tempfile.TemporaryDirectory() as scratch:
                data = divide(file, draw, pathlib.Path(scratch) / "features.npz") if name == DIVIDED else file
                row = {"set": name, "fraction": fraction, "draw": draw, "variant": variant}
                row |= measure(f"embeddings:{data}", fraction, draw, variant)
            append_row(results, row)
            print(row, flush=True)


def set_table(rows: list[dict]) -> str:
    """The table of one set: variants by numbers of training items."""
    sizes = sorted({row["items"] for row in rows})
    cells = []
    for variant in VARIANTS:
        own = [[row for row in rows if row["variant"] == variant and row["items"] == size] for size in sizes]
        if any(own):
            pairs = (
                " / ".join(mean_std([r[key] for r in some]).text() for key in ("plain", "corrected")) for some in own
            )
            cells.append([variant, *pairs])
    return to_markdown(table(["settings", *map(str, sizes)], cells))


def page(rows: list[dict]) -> str:
    """The part `recipe` of docs/results.md."""
    draws = len({row["draw"] for row in rows})
    about = ABOUT.format(command=COMMAND, draws=draws, fixed=FIXED, tuned=TUNED, recipe=RECIPE)
    parts = [about]
    for name, title in SETS.items():
        if own := [row for row in rows if row["set"] == name]:
            seconds = [row["seconds"] for row in own if row["variant"] == RECIPE]
            parts += [
                f"### {title}\n",
                set_table(own),
                f"\n{RECIPE}: {min(seconds):.0f} to {max(seconds):.0f} s.\n",
            ]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k_mini and others")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "recipe.jsonl")
    arguments = parser.parse_args()
    compare(arguments.data, arguments.draws, arguments.results)
    write_section("recipe", page(read_rows(arguments.results)))


if __name__ == "__main__":
    main()
