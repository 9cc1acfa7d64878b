"""What every picture has in common: one look on light and dark pages, no need of colour, the same bytes each time."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

from alignment_jax.core.optional import require

# The palette of Okabe and Ito (2008), ordered for contrast on white and on a dark page. Every line also has its own
# dashes and marker and every bar its own hatching, so that nothing rests on colour alone.
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
class Look:
    """The colours of one page."""

    ink: str
    faint: str
    paper: str
    colours: tuple[str, ...]

    def line(self, number: int) -> dict[str, Any]:
        """Colour, dashes and marker of line `number`: after seven, the same colours with other dashes and markers."""
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


LIGHT = Look("#222222", "#cccccc", "#ffffff", _LIGHT)
DARK = Look("#dddddd", "#555555", "#16181a", _DARK)


@contextlib.contextmanager
def canvas(*, width: float = 5.2, height: float = 3.5, dark: bool = False) -> Iterator[tuple[Any, Look]]:
    """A figure of so many inches and its look; settings of the person's own matplotlib do not reach it.

    Raises:
      MissingPackageError: matplotlib is not installed.
    """
    matplotlib = require("matplotlib", extra="train", purpose="draw charts")
    figures = require("matplotlib.figure", extra="train", purpose="draw charts")
    look = DARK if dark else LIGHT
    settings = {
        **matplotlib.rcParamsDefault,  # a person's own matplotlibrc must not change the report
        "svg.hashsalt": "alignment_jax",
        "svg.fonttype": "path",
        "font.family": ["DejaVu Sans"],  # comes with matplotlib, so it looks the same everywhere
        "font.size": 10,
        "text.color": look.ink,
        "axes.labelcolor": look.ink,
        "axes.edgecolor": look.ink,
        "xtick.color": look.ink,
        "ytick.color": look.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": look.faint,
        "axes.formatter.useoffset": False,  # a tick says its value, not what to add to another number
        "hatch.linewidth": 0.9,
        "text.parse_math": False,  # a "$" in a name is a dollar sign
    }
    settings.pop("backend", None)
    with matplotlib.rc_context(settings):
        # Figure by itself, without pyplot: no window system, no global list of figures.
        yield figures.Figure(figsize=(width, height), layout="constrained"), look


def encode(figure: Any, image_format: str = "svg") -> bytes:
    """The picture file of a figure; equal figures give equal bytes with the same version of matplotlib.

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
# Points of a legend's entry beside its label: the line, the gap behind it, and that to the next column.
_LEGEND_HANDLE = 4.8 * _LEGEND_FONT
_LONGEST_LABEL = 40


def shortened(labels: Sequence[str], *, longest: int = _LONGEST_LABEL) -> list[str]:
    """Labels cut to a length, those that begin alike in their middle and, where that does not help, with a number.

    >>> shortened(["vals+mm_ts", "vals+smoothing"], longest=8), shortened(["abcdef_1", "abcdef_2"], longest=5)
    (['vals+mm…', 'vals+sm…'], ['ab…_1', 'ab…_2'])
    >>> shortened(["abcdef1ghij", "abcdef2ghij", "abcdef3ghij"], longest=7)
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


def legend_columns(labels: Sequence[str], *, room: float) -> int:
    """In how many columns labels are set, row by row, so that nothing is cut off at the edge.

    Args:
      labels: as they will be drawn.
      room: points there are.

    >>> legend_columns(["R@1", "R@5", "R@10"], room=374), legend_columns(["accuracy, audio and image"] * 3, room=374)
    (3, 2)
    """
    paths = require("matplotlib.textpath", extra="train", purpose="draw charts")
    # Measured: the letters of a proportional font differ threefold in width.
    widths = [paths.TextPath((0, 0), text, size=_LEGEND_FONT).get_extents().width for text in labels]
    for columns in range(len(labels), 1, -1):
        if sum(max(widths[column::columns]) + _LEGEND_HANDLE for column in range(columns)) <= room:
            return columns
    return 1


def legend_below(axes: Any) -> None:
    """A legend below the axes, where it hides no data; in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    labels = shortened(labels)
    columns = legend_columns(labels, room=72 * axes.figure.get_figwidth())
    # Matplotlib fills column by column; people read row by row.
    order = [k for column in range(columns) for k in range(column, len(labels), columns)]
    handles, labels = [handles[k] for k in order], [labels[k] for k in order]
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=_LEGEND_FONT)
