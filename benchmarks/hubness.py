"""Hubness corrections on finished runs: rsum and skewness on test, plain and with every correction.

    python benchmarks/hubness.py runs/flickr_baseline runs/flickr_cca runs/flickr_recipe ...

Each correction has its fixed numbers; `auto` chooses on val, as `eval.hubness=auto`.
"""

from __future__ import annotations

import argparse
import pathlib

from alignment_jax import evals, inference
from alignment_jax.report import table, to_markdown, write_text_atomic
from alignment_jax.retrieval import HubnessCorrection

PAGE = pathlib.Path(__file__).resolve().parent / "results" / "hubness.md"
CORRECTIONS = (
    "none",
    *(f"nnn:k={k},strength={strength}" for strength in (0.25, 0.5, 0.75, 1.0) for k in (16, 64)),
    "csls:k=10",
    *(f"inverted_softmax:temperature={t}" for t in (0.05, 0.1)),
)
HEAD = """# Hubness corrections

rsum on test, and the skewness of 10-occurrence from a to b and from b to a; one seed. The sets: Flickr8k (600 images
with five captions, 100 test images) and Multi30k, English and German captions (3,000 pairs with
`input.fraction=0.2727`, 1,000 test pairs), with `configs/flickr8k_frozen.py:method=...` and `model.dim=256`. `auto`
chooses among nnn of strength 0.25 and 0.5 on val (100 and 1,000 pairs). With 100 test images a difference of a few
points is noise.
"""


def measured(folder: str) -> dict[str, str]:
    """Correction -> its cell, for one run."""
    trained = inference.open_run(folder)
    _, source = inference.open_source(folder, None)
    run = inference.load_query_bank(folder, step=trained.step)
    embedded = trained.embed(source.split("test"))
    chosen, *_ = evals.choose_correction(trained.embed(source.split("val")), run.bank)
    found = {}
    for text in (*CORRECTIONS, f"auto: {chosen}"):
        correction = HubnessCorrection.parse(text.removeprefix("auto: "))
        folded = evals.fold_embeddings(embedded, run.bank, correction) if correction else embedded
        metrics = evals.metrics_with_hubness(evals.recall_metrics, folded)
        found[text] = f"{metrics['rsum']:.1f} ({metrics['a2b_skewness']:.2f}, {metrics['b2a_skewness']:.2f})"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    arguments = parser.parse_args()
    columns = {pathlib.Path(folder).name: measured(folder) for folder in arguments.runs}
    rows = [[text, *(found[text] for found in columns.values())] for text in CORRECTIONS]
    auto = [next(f"{cell}, {text.removeprefix('auto: ')}" for text, cell in found.items() if text.startswith("auto"))
            for found in columns.values()]  # fmt: skip
    rows.append(["auto", *auto])
    write_text_atomic(PAGE, f"{HEAD}\n{to_markdown(table(['correction', *columns], rows))}\n")
    print(PAGE)


if __name__ == "__main__":
    main()
