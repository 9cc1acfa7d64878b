"""Writes the page of a data set: sizes, problems, class counts, leakage and samples."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.storage import write_text_atomic
from alignment_jax.report.blocks import bullet_list, chart_group, joined, page, paragraph, picture, section, word_table
from alignment_jax.report.charts import Chart, Series
from alignment_jax.report.gallery import image_values
from alignment_jax.report.pictures import encode_picture
from alignment_jax.report.plots import draw_chart
from alignment_jax.report.rendering import macros
from alignment_jax.report.tables import Table, table

_LISTED = 200  # problems on the page


@dataclasses.dataclass(frozen=True)
class DataSample:
    """One sample to show: name, class, pictures (side, uint8 pixels) and texts."""

    name: str
    label: str = ""
    pictures: Sequence[tuple[str, Any]] = ()
    texts: Sequence[str] = ()


def write_data_page(
    path: str | os.PathLike[str],
    *,
    description: Mapping[str, Any],
    problems: Sequence[str],
    samples: Mapping[str, Sequence[DataSample]],
    names: Sequence[str],
) -> None:
    """Writes the page; it needs no other file, and text from data is escaped.

    Args:
      path: the HTML file.
      description: result of `data.describe`.
      problems: one line each.
      samples: split -> samples to show.
      names: of the sides.

    Raises:
      MissingPackageError: matplotlib, pillow or jinja2 is not installed.
      RunError: the file cannot be written.
    """
    splits = description["splits"]
    sections = [
        section("Splits", word_table(_counts(splits, names), caption="Items of each side, and pairs per a-item.")),
        section("Warnings", bullet_list(description["warnings"])),
        section("Problems", _problems(problems)),
        section("Classes", _classes(splits)),
        *(section(_side_title(side, names), _side(splits, side)) for side in ("a", "b", "c")),
        section("Leakage", _leakage(description["leakage"])),
        section("Notes", bullet_list(description["notes"])),
        *(section(f"Samples of {name}", _samples(some)) for name, some in samples.items()),
    ]
    write_text_atomic(path, page(f"Data: {description['spec']}", sections, subtitle=f"source {description['name']}"))


def _side_title(side: str, names: Sequence[str]) -> str:
    place = "abc".index(side)
    return f"{names[place].capitalize()} ({side})" if place < len(names) else ""


def _counts(splits: Mapping[str, Any], names: Sequence[str]) -> Table:
    sides = [side for side in ("a", "b", "c") if any(side in split for split in splits.values())]
    titles = [names["abc".index(side)] for side in sides]
    rows = []
    for name, split in splits.items():
        pairs = split["b_per_a"]
        range_text = f"{pairs['min']} to {pairs['max']}, mean {pairs['mean']:.2f}"
        repeated = ", ".join(f"{side}: {count}" for side, count in split["repeated"].items() if count)
        rows.append([name, *(split[side]["count"] for side in sides), range_text, repeated or None])
    return table(["split", *titles, "pairs per item", "repeated in the split"], rows)


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return paragraph("None.")
    more = len(problems) - _LISTED
    rest = f"and {more:,} more." if more > 0 else ""
    return joined([paragraph(f"{len(problems):,} in all."), bullet_list(list(problems[:_LISTED])), paragraph(rest)])


def _classes(splits: Mapping[str, Any]) -> str:
    rows, series = [], []
    for name, split in splits.items():
        found = split.get("classes") or split.get("clusters")
        if not found:
            continue
        held = [found.get(key) for key in ("number", "largest", "median", "smallest", "half", "tail")]
        rows.append([name, "classes" if "classes" in split else "clusters", *held])
        counts = found["counts"]
        values = np.array(sorted(counts.values() if isinstance(counts, Mapping) else counts, reverse=True), float)
        series.append(Series(name, np.arange(1, len(values) + 1), values, values, values))
    if not rows:
        return ""
    titles = [
        "split",
        "of",
        "number",
        "largest",
        "median",
        "smallest",
        "classes with half of all samples",
        "classes with the last tenth",
    ]
    chart = Chart("classes", "Samples per class", "class, most frequent first", "samples", tuple(series))
    drawn = picture(
        draw_chart(chart),
        draw_chart(chart, dark=True),
        description="Samples per class, most frequent first, for each split.",
    )
    named = [
        f"{name}: {', '.join(f'{label} ({count})' for label, count in list(split['classes']['counts'].items())[:12])}"
        for name, split in splits.items()
        if "classes" in split
    ]
    return joined([word_table(table(titles, rows)), chart_group([drawn]), bullet_list(named)])


def _side(splits: Mapping[str, Any], side: str) -> str:
    there = {name: split[side] for name, split in splits.items() if side in split}
    keys = list(dict.fromkeys(key for column in there.values() for key in column if key != "count"))
    if not keys:
        return ""
    rows = [[name, *(_text(column.get(key)) for key in keys)] for name, column in there.items()]
    return word_table(table(["split", *keys], rows))


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _leakage(leaks: Sequence[Mapping[str, Any]]) -> str:
    if not leaks:
        return paragraph("No two splits share an item of equal content.")
    rows = [
        [f"{leak['split']} in {leak['earlier']}", leak["side"], leak["count"], 100 * leak["count"] / leak["of"]]
        for leak in leaks
    ]
    examples = [f"{leak['split']} in {leak['earlier']}: {leak['example'][0]} is {leak['example'][1]}" for leak in leaks]
    return word_table(table(["splits", "side", "items", "% of the split"], rows)) + bullet_list(examples)


def _samples(samples: Sequence[DataSample]) -> str:
    return macros("blocks.html").group("found", joined(map(_sample, samples), "")) if samples else ""


def _sample(sample: DataSample) -> str:
    pictures = [{"side": side, **image_values(encode_picture(pixels))} for side, pixels in sample.pictures]
    return macros("items.html").sample(sample, pictures)
