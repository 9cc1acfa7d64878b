"""Tables as Markdown, plain text and HTML."""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignment_jax.core.types import CORRECTED
from alignment_jax.report.metric_names import as_percent, in_reading_order, is_percent, metric_label
from alignment_jax.report.rendering import macros


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell: text, number to sort by, and emphasis."""

    text: str
    value: float | None = None
    strong: bool = False
    muted: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Column titles and rows of cells; the first cell names the row.

    Raises:
      ValueError: the number of cells in a row differs from that of columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells, the table has {len(self.columns)} columns")

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers: it is aligned right and sorted by value."""
        cells = [row[column] for row in self.rows]
        return any(cell.value is not None for cell in cells) and all(
            cell.value is not None or cell.text in ("", "–") for cell in cells
        )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Makes a table from plain values.

    Args:
      columns: the titles.
      rows: cells: `Cell`, text, number (four significant digits), or None for an empty cell.

    >>> print(to_plain(table(["method", "rsum"], [["cca", 407.0], ["infonce", None]])))
    method   rsum
    -------  ----
    cca       407
    infonce     –
    """
    return Table(tuple(columns), tuple(tuple(_as_cell(value) for value in row) for row in rows))


def _as_cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("–")
    if isinstance(value, bool | str):
        return Cell(str(value))
    number = float(value)
    return Cell(f"{number:.4g}" if math.isfinite(number) else "not finite", number)


def metric_cell(key: str, value: float | None, *, strong: bool = False, muted: bool = False) -> Cell:
    """A metric as a cell: one decimal for percentages, else four significant digits.

    >>> metric_cell("a2b_R@1", 31.25).text, metric_cell("loss", 0.123456).text, metric_cell("rsum", None).text
    ('31.2', '0.1235', '–')
    """
    if value is None:
        return Cell("–", muted=muted)
    number = float(value)
    if not math.isfinite(number):
        return Cell("not finite", number, strong, muted)
    return Cell(f"{number:.1f}" if is_percent(key) else f"{number:.4g}", number, strong, muted)


def metrics_table(
    results: Mapping[str, Mapping[str, float]],
    *,
    names: tuple[str, ...] = ("a", "b"),
    chance: Mapping[str, Mapping[str, float]] | None = None,
) -> Table:
    """The metrics of a run: one row per metric, one column per split, chance levels where known.

    Args:
      results: split to metrics, with the keys of `alignment_jax.metrics`. Those of corrected scores ("corrected/rsum")
        have their own column.
      names: of the modalities.
      chance: split to the same keys for a random guess; `chance_recall` computes those of retrieval. Splits with equal
        chance share a column.

    Returns:
      The table, percentages with one decimal.

    >>> results = {"val": {"a2b_R@1": 31.0}, "test": {"a2b_R@1": 29.0}}
    >>> chance = {"val": {"a2b_R@1": 1.0}, "test": {"a2b_R@1": 1.0}}
    >>> print(to_markdown(metrics_table(results, names=("image", "text"), chance=chance)))
    | metric | val | test | chance |
    | :--- | ---: | ---: | ---: |
    | image → text R@1 [%] | 31.0 | 29.0 | 1.0 |
    """
    percent = {split: as_percent(metrics) for split, metrics in results.items()}
    level = {split: as_percent(metrics) for split, metrics in (chance or {}).items() if split in results}
    keys = in_reading_order(key.removeprefix(CORRECTED) for metrics in percent.values() for key in metrics)
    shared = len(level) == len(percent) and all(
        len({metric_cell(key, metrics.get(key)).text for metrics in level.values()}) == 1 for key in keys
    )
    columns: dict[str, tuple[Mapping[str, float], str, dict[str, bool]]] = {}
    for split, metrics in percent.items():
        columns[split] = (metrics, "", {"strong": True})
        if any(key.startswith(CORRECTED) for key in metrics):
            columns[f"{split}, corrected"] = (metrics, CORRECTED, {"strong": True})
        if not shared and split in level:
            columns[f"chance ({split})"] = (level[split], "", {"muted": True})
    if shared and level:
        columns["chance"] = (next(iter(level.values())), "", {"muted": True})
    rows = []
    for key in keys:
        cells = [metric_cell(key, found.get(prefix + key), **look) for found, prefix, look in columns.values()]
        rows.append((Cell(metric_label(key, names) + (" [%]" if is_percent(key) else "")), *cells))
    return Table(("metric", *columns), tuple(rows))


def to_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, without a final line end."""

    def cell(text: str) -> str:
        # HTML and "|" would break out of a cell; a line break would end the row.
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\\", "\\\\")
        return " ".join(escaped.replace("|", "\\|").split())

    def line(texts: Iterable[str]) -> str:
        return "| " + " | ".join(texts) + " |"

    marks = ["---:" if table.numeric(column) else ":---" for column in range(len(table.columns))]
    body = [line(cell(entry.text) for entry in row) for row in table.rows]
    return "\n".join([line(cell(title) for title in table.columns), line(marks), *body])


def _width(text: str) -> int:
    """Width of a text on a terminal: wide letters count two, combining marks none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def to_plain(table: Table) -> str:
    """The table as plain text, aligned with spaces."""
    grid = [list(table.columns), *[[" ".join(cell.text.split()) for cell in row] for row in table.rows]]
    widths = [max(_width(row[column]) for row in grid) for column in range(len(table.columns))]
    numeric = [table.numeric(column) for column in range(len(table.columns))]

    def line(texts: Sequence[str]) -> str:
        padded = [
            " " * (width - _width(text)) + text if right else text + " " * (width - _width(text))
            for text, width, right in zip(texts, widths, numeric, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(grid[0]), line(["-" * width for width in widths]), *[line(row) for row in grid[1:]]])


def to_html(table: Table, *, caption: str = "", sortable: bool = True) -> str:
    """The table as HTML, as Markup with everything in it escaped.

    Args:
      table: what to write.
      caption: a sentence above the table.
      sortable: let the page's script sort it by a click on a column title.

    Returns:
      A `<div class="table">`, which scrolls sideways on a narrow screen, around a `<table>`.

    Raises:
      MissingPackageError: jinja2 is not installed.
    """
    numeric = [table.numeric(column) for column in range(len(table.columns))]
    return macros("blocks.html").table(table, numeric, caption, sortable)
