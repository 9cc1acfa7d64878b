"""Common style of all charts: light and dark, readable without colour, reproducible bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

from alignment_jax.core.optional import require

# The palette of Okabe and Ito (2008), ordered for contrast on white and on a dark page. Dashes, markers and hatching
# carry the same information for readers without colour vision.
_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DARK = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#FFFFFF")
_DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.4)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    "-",
    (0, (9, 3)),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++", "oo", "--", "**")


@dataclasses.dataclass(frozen=True)
class Palette:
    """The colours of one page."""

    ink: str
    faint: str
    paper: str
    colours: tuple[str, ...]

    def line(self, number: int) -> dict[str, Any]:
        """Colour, dashes and marker of line `number`; after seven the colours repeat with other dashes and markers."""
        lap, place = divmod(number, len(self.colours))
        return {
            "color": self.colours[place],
            "linestyle": _DASHES[(place + lap) % len(_DASHES)],
            "marker": _MARKERS[(place + 2 * lap) % len(_MARKERS)],
        }

    def bar(self, number: int) -> dict[str, Any]:
        """Face, hatching and edge of bar `number`."""
        return {
            "facecolor": self.colours[number % len(self.colours)],
            "hatch": _HATCHES[number % len(_HATCHES)],
            "edgecolor": self.paper,
            "linewidth": 0.8,
        }


LIGHT = Palette("#222222", "#cccccc", "#ffffff", _LIGHT)
DARK = Palette("#dddddd", "#555555", "#16181a", _DARK)


@contextlib.contextmanager
def canvas(*, width: float = 5.2, height: float = 3.5, dark: bool = False) -> Iterator[tuple[Any, Palette]]:
    """A figure (size in inches) and its palette, independent of the user's matplotlib settings.

    Raises:
      MissingPackageError: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="train", purpose="draw charts")
    figures = require("matplotlib.figure", extra="train", purpose="draw charts")
    palette = DARK if dark else LIGHT
    settings = {
        **matplotlib.rcParamsDefault,  # the user's matplotlibrc must not change the report
        "svg.hashsalt": "alignment_jax",
        "svg.fonttype": "path",
        "font.family": ["DejaVu Sans"],  # ships with matplotlib
        "font.size": 10,
        "text.color": palette.ink,
        "axes.labelcolor": palette.ink,
        "axes.edgecolor": palette.ink,
        "xtick.color": palette.ink,
        "ytick.color": palette.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": palette.faint,
        "axes.formatter.useoffset": False,  # full values at the ticks
        "hatch.linewidth": 0.9,
        "text.parse_math": False,  # a "$" in a name is a dollar sign
    }
    settings.pop("backend", None)
    with matplotlib.rc_context(settings):
        # Not pyplot: it needs a window system and keeps a global list of figures.
        yield figures.Figure(figsize=(width, height), layout="constrained"), palette


def encode_figure(figure: Any, image_format: str = "svg") -> bytes:
    """Encodes a figure; equal figures give equal bytes with the same version of matplotlib.

    Raises:
      ValueError: a format other than "svg" and "png".
    """
    if image_format not in ("svg", "png"):
        raise ValueError(f"image_format must be 'svg' or 'png', got {image_format!r}")
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if image_format == "svg" else {"Software": None}
    figure.savefig(buffer, format=image_format, dpi=160, transparent=True, metadata=metadata)
    return buffer.getvalue()


_LEGEND_FONT = 9
# Width of a legend entry without its label, in points: line, gap, gap to the next column.
_LEGEND_HANDLE = 4.8 * _LEGEND_FONT
_LONGEST_LABEL = 40


def shortened_labels(labels: Sequence[str], *, longest: int = _LONGEST_LABEL) -> list[str]:
    """Labels cut to a length: at the end, else in the middle, else with a number, until they differ.

    >>> (
    ...     shortened_labels(["vals+mm_ts", "vals+smoothing"], longest=8),
    ...     shortened_labels(["abcdef_1", "abcdef_2"], longest=5),
    ... )
    (['vals+mm…', 'vals+sm…'], ['ab…_1', 'ab…_2'])
    >>> shortened_labels(["abcdef1ghij", "abcdef2ghij", "abcdef3ghij"], longest=7)
    ['ab… (1)', 'ab… (2)', 'ab… (3)']
    """
    head = (longest - 1) // 2

    def cut(text: str) -> list[str]:
        tail = longest - 1 - head
        return [text] * 2 if len(text) <= longest else [text[: longest - 1] + "…", f"{text[:head]}…{text[-tail:]}"]

    ways = [cut(text) for text in labels]
    for way in (0, 1):
        found = [each[way] for each in ways]
        if len(set(found)) == len(set(labels)):
            return found
    numbers = {text: number for number, text in enumerate(dict.fromkeys(labels), start=1)}
    ends = [f"… ({numbers[text]})" for text in labels]
    return [
        text if len(text) <= longest else text[: longest - len(end)] + end
        for text, end in zip(labels, ends, strict=True)
    ]


def legend_columns(labels: Sequence[str], *, width: float) -> int:
    """The number of legend columns that fits into a width, labels filled row by row.

    Args:
      labels: as drawn.
      width: available width in points.

    >>> legend_columns(["R@1", "R@5", "R@10"], width=374), legend_columns(["accuracy, audio and image"] * 3, width=374)
    (3, 2)
    """
    paths = require("matplotlib.textpath", extra="train", purpose="draw charts")
    # Measured, because letters of a proportional font differ threefold in width.
    widths = [paths.TextPath((0, 0), text, size=_LEGEND_FONT).get_extents().width for text in labels]
    for columns in range(len(labels), 1, -1):
        if sum(max(widths[column::columns]) + _LEGEND_HANDLE for column in range(columns)) <= width:
            return columns
    return 1


def legend_below(axes: Any) -> None:
    """A legend below the axes, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    labels = shortened_labels(labels)
    columns = legend_columns(labels, width=72 * axes.figure.get_figwidth())
    # Matplotlib fills columns first; readers expect rows first.
    order = [k for column in range(columns) for k in range(column, len(labels), columns)]
    handles, labels = [handles[k] for k in order], [labels[k] for k in order]
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=_LEGEND_FONT)
