"""Samples from the early, middle and late part of a curriculum's order, as in figure 4 of BSS.

    python benchmarks/bss_order_picture.py --data av:av_digits/manifest.csv --out docs/images/bss_order.png

A plain training of a few epochs, then one scoring pass: the balanced, easy samples first, the hardest last.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from bss_av_digits import get_config

from alignment_jax import sampling
from alignment_jax.config.build import build
from alignment_jax.train.loop import fit

PARTS, SHOWN = ("early", "middle", "late"), 8


def scores_of_a_run(config):
    """The scores before the last epoch of a run, and its training split as the model sees it."""
    built = build(config)
    experiment, taken = built.experiment, {}

    class Recorder(type(experiment.sampler)):
        def order(self, scores, epoch):
            taken.update({name: np.array(value) for name, value in scores.items()})
            return super().order(scores, epoch)

    recorder = Recorder(**vars(experiment.sampler))
    with tempfile.TemporaryDirectory() as folder:
        fit(dataclasses.replace(experiment, sampler=recorder), pathlib.Path(folder), quiet=True, tensorboard=False)
    return taken, built.inputs.prepared(built.splits["train"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="av:FILE.csv")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    config = get_config("method=probabilistic", data=arguments.data, **{"train.duration": f"{arguments.epochs} epochs"})
    scores, split = scores_of_a_run(config)
    balance = sampling.balance_score(scores["similarity"], scores["difficulty"])
    order = np.argsort(balance, kind="stable")
    starts = np.linspace(0, len(order) - SHOWN, len(PARTS)).astype(int)
    figure, axes = plt.subplots(2 * len(PARTS), SHOWN, figsize=(SHOWN * 1.1, len(PARTS) * 2.4), layout="constrained")
    for part, (name, start) in enumerate(zip(PARTS, starts, strict=True)):
        chosen = order[start : start + SHOWN]
        images, spectrograms = split.b.read(chosen), split.a.read(chosen)
        for column, number in enumerate(chosen):
            top, bottom = axes[2 * part, column], axes[2 * part + 1, column]
            top.imshow(images[column], cmap="gray")
            top.set_title(f"{split.label[number]}  ({balance[number]:.2f})", fontsize=8)
            bottom.imshow(spectrograms[column].T, origin="lower", aspect="auto")
            for axis in (top, bottom):
                axis.set_xticks([])
                axis.set_yticks([])
        axes[2 * part, 0].set_ylabel(name)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
