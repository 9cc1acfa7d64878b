"""Draws rsum by the number of training pairs, from the runs of `results.py`.

    python benchmarks/learning_curves.py --workdir runs/results --out docs/images/learning_curves.svg

Lines are means over seeds, bands their standard deviation. Nothing is trained.
"""

from __future__ import annotations

import argparse
import collections
import pathlib

import numpy as np

from alignment_jax.compare import run_records as records
from alignment_jax.core.types import CORRECTED
from alignment_jax.report.canvas import canvas, encode_figure

PANELS = {
    "latents": ("Flickr8k: images and captions", "training images", 600),
    "captions": ("Multi30k: English and German captions", "training captions (English)", 11_000),
}
METHODS = ("baseline", "modest_align", "mm_ts", "cca", "recipe")
METRIC = f"{CORRECTED}rsum"


def curves(folder: pathlib.Path, most: int) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Method -> (training a-items, mean, standard deviation) of the runs without mismatched pairs."""
    runs, _ = records.read_runs_and_trials(folder)
    found: dict[tuple[str, float], list[float]] = collections.defaultdict(list)
    for run in runs:
        if not run["mismatched"]:
            found[run["method"], run["fraction"]].append(run["test"][METRIC])
    result = {}
    for method in METHODS:
        fractions = sorted(fraction for name, fraction in found if name == method)
        if fractions:
            values = [found[method, fraction] for fraction in fractions]
            sizes = np.array([round(fraction * most) for fraction in fractions])
            deviations = np.array([np.std(each, ddof=1) if len(each) > 1 else 0.0 for each in values])
            result[method] = sizes, np.array([np.mean(each) for each in values]), deviations
    return result


def draw(workdir: pathlib.Path) -> bytes:
    """One panel for each set, as SVG."""
    with canvas(width=9.6, height=4.0) as (figure, palette):
        panels = figure.subplots(1, len(PANELS))
        for axes, (name, (title, what, most)) in zip(panels, PANELS.items(), strict=True):
            found = curves(workdir / name, most)
            for number, (method, (sizes, mean, deviation)) in enumerate(found.items()):
                style = palette.line(number)
                axes.fill_between(sizes, mean - deviation, mean + deviation, color=style["color"], alpha=0.18, lw=0)
                axes.plot(sizes, mean, label=method, **style, linewidth=1.8, markersize=5)
            ticks = sorted({int(size) for sizes, _, _ in found.values() for size in sizes})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
            axes.minorticks_off()
            axes.set_title(title, fontsize=11)
            axes.set_xlabel(what)
            axes.grid(axis="y")
        panels[0].set_ylabel("rsum on test with hubness correction [%]")
        panels[0].legend(frameon=False, fontsize=9)
        return encode_figure(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(draw(arguments.workdir))


if __name__ == "__main__":
    main()
