"""Draws docs/images/gallery.png from a finished run: a few test captions and the five images ranked first.

./quickstart.sh && .venv/bin/python docs/images/make_gallery.py runs/quickstart
"""

import pathlib
import sys

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from alignment_jax.cli.gallery_examples import make_gallery
from alignment_jax.inference.trained_model import load_trained, open_source

QUERIES, SHOWN = 4, 5
HIT, MISS = "#009E73", "#9a9a9a"


def draw(workdir: pathlib.Path, out: pathlib.Path) -> None:
    """One row a caption: hits have a thick frame and a tick, so that colour is not the only sign."""
    config, source = open_source(workdir, None)
    trained = load_trained(workdir, config, source)
    split = source.split("test")
    gallery = make_gallery(split, trained.embed(split), count=QUERIES, seed=1)
    # Inches: a square for each image, a line of text above each row.
    side, gap, text = 1.15, 0.12, 0.34
    width, height = SHOWN * (side + gap) + gap, QUERIES * (side + text + 2 * gap)
    figure = plt.figure(figsize=(width, height), dpi=110)
    for number, (caption, top, own) in enumerate(zip(gallery.captions, gallery.top, gallery.own, strict=True)):
        bottom = height - (number + 1) * (side + text + 2 * gap) + gap
        figure.text(gap / width, (bottom + side + 0.08) / height, f"“{caption}”", fontsize=9.5, style="italic")
        for rank, item in enumerate(top):
            left = gap + rank * (side + gap)
            axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
            axes.imshow(gallery.images[int(item)], interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            hit = item == own
            for edge in axes.spines.values():
                edge.set(linewidth=3 if hit else 0.6, color=HIT if hit else MISS)
            if hit:
                box = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none"}
                axes.text(0.06, 0.94, "✓", transform=axes.transAxes, va="top", color=HIT, weight="bold", bbox=box)
    figure.savefig(out)


if __name__ == "__main__":
    draw(pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(__file__).with_name("gallery.png"))
