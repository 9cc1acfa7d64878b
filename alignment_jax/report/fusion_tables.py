"""Fusion against single modalities: tables, and the verdict in words.

Rows are those of `compare.summary.summarize_fusion`: `method`, `accuracy`, `macro_f1`, `mAP`, `modalities`, `gap`,
`samples`, `best`, `gain`, `verdict`; estimates have `mean`, `low` and `high`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignment_jax.report.tables import Cell, Table, table

FusionRow = Mapping[str, Any]


def fusion_table(rows: Sequence[FusionRow], names: Sequence[str], *, first: str = "method") -> Table | None:
    """One row per method: accuracy of the prediction and of each modality alone, their gap, gain of fusion, verdict.

    Args:
      rows: of one data condition.
      names: of the modalities.
      first: title of the first column.

    Returns:
      None without rows.
    """
    if not rows:
        return None
    named = _named(rows, names)
    single = {side: f"{name} alone [%]{_samples(rows, side)}" for side, name in named.items()}
    columns = [first, "prediction [%]", *single.values(), "gap", "gain over the best modality", "fusion"]
    lines = []
    for row in rows:
        heads = [_head_cell(row["modalities"].get(side)) for side in named]
        best = f" over {named[row['best']]}"
        gain = Cell(estimate_text(row["gain"], signed=True) + best, row["gain"]["mean"])
        gap = Cell(f"{row['gap']:.1f}", row["gap"])
        lines.append([row["method"], _cell(row["accuracy"], strong=True), *heads, gap, gain, row["verdict"]])
    return table(columns, lines)


def learning_table(rows: Sequence[FusionRow], names: Sequence[str], *, first: str = "method") -> Table | None:
    """One row per method: macro F1 and mAP of the prediction, and when each modality has learned, in % of the steps.

    Args:
      rows, names, first: as for `fusion_table`.

    Returns:
      None without any of these numbers.
    """
    named = _named(rows, names)
    columns = {"macro F1 [%]": "macro_f1", "mAP [%]": "mAP"}
    lines = []
    for row in rows:
        learned = [(row["modalities"].get(side) or {}).get("learned") for side in named]
        cells = [None if one is None else Cell(f"{100 * one:.0f}", 100 * one) for one in learned]
        lines.append([row["method"], *(_cell(row.get(key)) for key in columns.values()), *cells])
    titles = [first, *columns, *(f"{name} learned [% of steps]" for name in named.values())]
    filled = [k for k in range(1, len(titles)) if any(isinstance(line[k], Cell) for line in lines)]
    kept = [0, *filled]
    return table([titles[k] for k in kept], [[line[k] for k in kept] for line in lines]) if filled else None


def fusion_sentence(row: FusionRow, names: Sequence[str]) -> str:
    """The verdict on one method, without its name.

    >>> gain = {"mean": 3.2, "low": 1.1, "high": 5.3}
    >>> row = {"best": "b", "gain": gain, "verdict": "beats", "modalities": {"b": {"above_chance": True}}}
    >>> fusion_sentence(row, ("audio", "image"))
    'fusion beats its best modality (image) by 3.2 points (95 % interval +1.1 to +5.3)'
    """
    gain, best = row["gain"], dict(zip("abc", names, strict=False))[row["best"]]
    points = f"{gain['mean']:+.1f} points"
    interval = "" if gain["low"] is None else f" (95 % interval {gain['low']:+.1f} to {gain['high']:+.1f})"
    words = {
        "beats": f"fusion beats its best modality ({best}) by {gain['mean']:.1f} points{interval}",
        "does not beat": f"fusion does not beat its best modality here: {points} against {best}{interval}",
        "not distinguishable": f"fusion and its best modality ({best}) are not distinguishable: {points}{interval}",
        "no interval": f"fusion {points} against its best modality ({best}); an interval needs more seeds",
    }[row["verdict"]]
    lost = [name for side, name in _named([row], names).items() if not row["modalities"][side]["above_chance"]]
    return words + (f"; {' and '.join(lost)} alone: not above chance" if lost else "")


def fusion_sentences(rows: Sequence[FusionRow], names: Sequence[str]) -> list[str]:
    """The verdict on every method, and the methods without a gain of fusion."""
    lines = [f"{row['method']}: {fusion_sentence(row, names)}." for row in rows]
    without = [str(row["method"]) for row in rows if row["verdict"] != "beats"]
    if len(rows) > 1:
        lines.append(
            f"No gain of fusion shown: {', '.join(without)}." if without else "Fusion gains with every method."
        )
    return lines


def estimate_text(found: Mapping[str, float | None], *, signed: bool = False) -> str:
    """As in "97.3 [96.1, 98.4]".

    >>> estimate_text({"mean": 3.21, "low": 1.1, "high": None}), estimate_text({"mean": 3.0, "low": 1.0, "high": 5.0})
    ('3.2', '3.0 [1.0, 5.0]')
    """
    sign = "+" if signed else ""
    text = f"{found['mean']:{sign}.1f}"
    if found["low"] is None or found["high"] is None:
        return text
    return f"{text} [{found['low']:{sign}.1f}, {found['high']:{sign}.1f}]"


def _named(rows: Sequence[FusionRow], names: Sequence[str]) -> dict[str, str]:
    """Side -> name, of the modalities that a row has."""
    known = zip("abc", (*names, *"abc"[len(names) :]), strict=True)
    return {side: name for side, name in known if any(side in row["modalities"] for row in rows)}


def _samples(rows: Sequence[FusionRow], side: str) -> str:
    """The number of samples of a modality that some samples lack, for the title of its column."""
    for row in rows:
        few, every = (row["modalities"].get(side) or {}).get("samples"), row["samples"]
        if few is not None and few < every:
            return f", {few} of {every} samples"
    return ""


def _head_cell(modality: Mapping[str, Any] | None) -> Cell | None:
    if modality is None:
        return None
    mark = "" if modality["above_chance"] else ", chance"
    return Cell(estimate_text(modality["accuracy"]) + mark, modality["accuracy"]["mean"])


def _cell(found: Mapping[str, Any] | None, *, strong: bool = False) -> Cell | None:
    return None if found is None else Cell(estimate_text(found), found["mean"], strong=strong)
