"""What equal captions do to a result: counted as different items or as one, masked in training or not.

    python benchmarks/equal_content.py --data embeddings:v7w_mini/features.npz --seeds 3

Trains each method with `loss.duplicates=negative` and with `mask`, and measures every model twice on test: once with
each row its own item, once with equal content as one item. Prints a Markdown table; the table of
docs/results.md is made with `--page`.
"""

from __future__ import annotations

import argparse

from complete_fit import complete_fit
from sections import write_section

from alignment_jax import data, evals
from alignment_jax.assembly.build import build
from alignment_jax.config import load
from alignment_jax.report import chance_recall, mean_std, table, to_markdown
from alignment_jax.train.loop import evaluation_variables, initial_state

METHODS = ("baseline", "vals", "cca")
HEAD = """## Equal captions

Latents of photographs with short questions and answers as captions (Visual7W): 4,351 for training, 500 for val, 1,000
for test. Of test:
{line}

rsum on test, mean ± standard deviation over {seeds} seeds. "Rows" counts every row as a separate item, as the usual
protocol does; "items" counts equal captions as one. `negative` and `mask` are values of `loss.duplicates`; a closed
form (cca) has no batches and one run. Made by

    python benchmarks/equal_content.py --data embeddings:v7w_mini/features.npz \\
      --seeds {seeds} --page

"""


def get_config(spec: str, method: str, duplicates: str, seed: int):
    config = load(f"flickr8k_frozen.py:data={spec},method={method}")
    config.seed, config.loss.duplicates = seed, duplicates
    return config


def run(config) -> dict[str, float]:
    """rsum on test with rows as items, and with equal content as one."""
    built = build(config)
    experiment = built.experiment
    if experiment.plan.total_steps == 0:
        variables = evaluation_variables(initial_state(experiment))
    else:
        variables = complete_fit(experiment).variables
    found = built.evaluator(variables, experiment.evaluations["test"])
    return {
        "rows": evals.recall_metrics(evals.SplitEmbeddings(found.a, found.b, found.b_to_a))["rsum"],
        "items": evals.recall_metrics(found)["rsum"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--page", action="store_true", help="writes the section of docs/results.md")
    arguments = parser.parse_args()
    source = data.load(arguments.data)
    test = source.splits["test"]
    rows = []
    for method in arguments.methods.split(","):
        closed = method == "cca"
        cells = [method]
        for duplicates in ("negative", "mask"):
            if closed and duplicates == "mask":
                cells += ["–", "–"]
                continue
            runs = [
                run(get_config(arguments.data, method, duplicates, seed))
                for seed in range(1 if closed else arguments.seeds)
            ]
            cells += [mean_std([one[name] for one in runs]).text() for name in ("rows", "items")]
        rows.append(cells)
        print(cells, flush=True)
    chance = [
        chance_recall(test.b_to_a, n_a=len(test))["rsum"],
        chance_recall(test.b_to_a, n_a=len(test), ids_a=test.content_ids_a, ids_b=test.content_ids_b)["rsum"],
    ]
    rows.append(["chance", *(f"{value:.1f}" for value in chance), "–", "–"])
    heads = ["method", "negative: rows", "negative: items", "mask: rows", "mask: items"]
    line = (data.duplicates_note("test", data.count_duplicates(test), source.modalities) or "").removeprefix("test: ")
    text = HEAD.format(line=line[:1].upper() + line[1:], seeds=arguments.seeds) + to_markdown(table(heads, rows))
    print(text)
    if arguments.page:
        write_section("equal_content", text)


if __name__ == "__main__":
    main()
