"""Draws maps of pairs: both modalities as points of a plane, a line for each pair."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from alignment_jax.report.canvas import Palette, canvas, encode_figure


@dataclasses.dataclass(frozen=True)
class PairMap:
    """A map before and after training: (a, b), each [n, 2]; `names` of the modalities.

    before: None for a closed form.
    """

    name: str
    title: str
    before: tuple[np.ndarray, np.ndarray] | None
    after: tuple[np.ndarray, np.ndarray]
    names: tuple[str, str]
    note: str = ""


def draw_map(pair_map: PairMap, *, dark: bool = False, image_format: str = "svg") -> bytes:
    """Draws one map, or two side by side: filled circles for the first modality, hollow triangles for the second.

    Short lines are pairs that the model aligned. The axes have no unit and no numbers.

    Args:
      pair_map: what to draw.
      dark: for a dark page.
      image_format: "svg" or "png".

    Returns:
      The picture's bytes.

    Raises:
      MissingPackageError: matplotlib is not installed.
      ValueError: another `image_format`.

    >>> points = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> draw_map(PairMap("map", "baseline", (points, points + 1), (points, points), ("image", "text")))[:5]
    b'<?xml'
    """
    maps = {pair_map.title: pair_map.after}
    if pair_map.before is not None:
        maps = {f"{pair_map.title}, before training": pair_map.before, f"{pair_map.title}, after": pair_map.after}
    with canvas(width=5.2 * len(maps), height=5.2, dark=dark) as (figure, palette):
        panels = figure.subplots(1, len(maps), squeeze=False)[0]
        for axes, (heading, points) in zip(panels, maps.items(), strict=True):
            _panel(axes, heading, points, pair_map.names, palette)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
        return encode_figure(figure, image_format)


def _panel(
    axes: Any, heading: str, points: tuple[np.ndarray, np.ndarray], names: tuple[str, str], palette: Palette
) -> None:
    a, b = (np.asarray(side, np.float64) for side in points)
    # One line with gaps for all pairs: hundreds of lines would make a large file.
    gap = np.full((len(a), 1), np.nan)
    x, y = (np.concatenate([a[:, k : k + 1], b[:, k : k + 1], gap], axis=1).ravel() for k in (0, 1))
    axes.plot(x, y, color=palette.ink, alpha=0.35, linewidth=0.6, label="pair", zorder=1)
    axes.scatter(a[:, 0], a[:, 1], s=20, color=palette.colours[0], marker="o", label=names[0], zorder=3, linewidths=0)
    axes.scatter(
        b[:, 0], b[:, 1], s=26, facecolors="none", edgecolors=palette.colours[1], marker="^", label=names[1], zorder=2
    )
    axes.set_title(heading, loc="left", fontweight="bold")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    for spine in axes.spines.values():
        spine.set_color(palette.faint)
