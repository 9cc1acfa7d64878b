"""Samples from the early, middle and late part of BSS's order, as in figure 4 of the paper.

    python benchmarks/bss_order_picture.py --data av:av_digits/manifest.csv --out docs/images/bss_order.png

A plain training of a few epochs, then one measurement of the training set with the model that was best on val.
"""

from __future__ import annotations

import argparse
import pathlib

import matplotlib.pyplot as plt
import numpy as np
from bss_av_digits import get_config
from complete_fit import complete_fit

from alignment_jax import sampling
from alignment_jax.assembly.build import build

PARTS = {
    "early": "EARLY\nboth sure,\nboth right",
    "middle": "MIDDLE",
    "late": "LATE\nat least one\nwrong or\nin doubt",
}
SHOWN, CHUNK = 7, 256


def measured(config):
    """Training split as the model sees it, and the logits of its three heads for every sample."""
    built = build(config)
    experiment = built.experiment
    found = complete_fit(experiment).variables
    split = built.inputs.prepared(built.splits["train"])
    parts = []
    for start in range(0, len(split), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(split)))
        logits = experiment.model.predict(found["params"], found["model_state"], split.a.read(rows), split.b.read(rows))
        parts.append({name: np.asarray(value) for name, value in logits.items()})
    return split, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draw(split, logits, score: np.ndarray) -> plt.Figure:
    """Three rows of pairs, the sample's place in the order growing from the first to the last."""
    order = np.argsort(score, kind="stable")
    starts = np.linspace(0, len(order) - SHOWN, len(PARTS)).astype(int)
    figure = plt.figure(figsize=(1.25 * SHOWN + 1.3, 9.6))
    bands = figure.subfigures(len(PARTS), 1, hspace=0.0)
    for band, title, start in zip(bands, PARTS.values(), starts, strict=True):
        chosen = order[start : start + SHOWN]
        axes = band.subplots(2, SHOWN, gridspec_kw={"left": 0.14, "right": 0.99, "top": 0.86, "bottom": 0.08})
        band.subplots_adjust(hspace=0.28, wspace=0.12)
        band.text(0.01, 0.5, title, va="center", fontsize=11)
        sides = (("b", split.b.read(chosen)), ("a", np.swapaxes(split.a.read(chosen), 1, 2)))
        for row, (head, pictures) in enumerate(sides):
            for column, number in enumerate(chosen):
                axis = axes[row, column]
                # No colour: what is dark in a spectrogram is loud.
                axis.imshow(pictures[column], cmap="gray_r", origin="upper" if head == "b" else "lower", aspect="auto")
                axis.set_xticks([])
                axis.set_yticks([])
                says = int(logits[head][number].argmax())
                right = says == split.label[number]
                verb = "seen" if head == "b" else "heard"
                weight = "normal" if right else "bold"
                axis.set_xlabel(f"{verb} as {says}{'' if right else ' ✗'}", fontsize=9, fontweight=weight, labelpad=2)
                if head == "b":
                    axis.set_title(f"a {split.label[number]}, score {score[number]:.2f}", fontsize=9, pad=3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="av:FILE.csv")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    duration = {"train.duration": f"{arguments.epochs} epochs", "eval.interval": "1 epochs"}
    split, logits = measured(get_config("method=vanilla", data=arguments.data, **duration))
    similarity = sampling.prediction_similarity([logits["a"], logits["b"]])
    loss = sampling.cross_entropy(list(logits.values()), split.label)
    figure = draw(split, logits, sampling.balance_score(similarity, loss))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=100)


if __name__ == "__main__":
    main()
