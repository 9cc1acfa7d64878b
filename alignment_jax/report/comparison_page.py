"""Writes the report of a comparison: one page, the table of verdicts first."""

from __future__ import annotations

import math
import os
import pathlib
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.storage import write_bytes_atomic, write_text_atomic
from alignment_jax.report import comparison_charts as charts
from alignment_jax.report import comparison_tables as tables
from alignment_jax.report.bars import Bars, draw_bars
from alignment_jax.report.blocks import (
    bullet_list,
    chart_group,
    joined,
    key_value_table,
    page,
    paragraph,
    picture,
    section,
    word_table,
)
from alignment_jax.report.charts import Chart
from alignment_jax.report.comparison_runs import Comparison, Run, number_at
from alignment_jax.report.disagreements import Images, disagreements, disagreements_html
from alignment_jax.report.fusion_tables import FusionRow, fusion_sentences, fusion_table, learning_table
from alignment_jax.report.maps import PairMap, draw_map
from alignment_jax.report.metric_names import metric_label
from alignment_jax.report.plots import draw_chart
from alignment_jax.report.rendering import macros
from alignment_jax.report.subtitle import subtitle

PICTURES = "report_files"
Picture = Chart | Bars | PairMap


def write_comparison(
    folder: str | os.PathLike[str],
    comparison: Mapping[str, Any],
    runs: Sequence[Run],
    *,
    verdicts: tables.Verdicts = (),
    images: Images | None = None,
    notes: Sequence[str] = (),
    trials: Sequence[Mapping[str, Any]] = (),
    fusion: Sequence[FusionRow] = (),
) -> pathlib.Path:
    """Writes `folder/report.html` and its pictures; sections without data are left out.

    The page needs no network and no other file; `folder/report_files/` holds the same pictures as files. Text from data
    is escaped. Equal input gives an equal page. Each write is atomic, the page comes last.

    Args:
      folder: the comparison's folder; relative paths in `runs` start there.
      comparison: content of comparison.json: `title`, `config`, `methods`, `baseline`, `seeds`, `fractions`, `metric`,
        `task`, `modalities`, `environment`, `complete`, and `same`: methods without own runs, each equivalent to the
        method `as` at a `fraction` and share `mismatched`.
      runs: the finished runs: `method`, `fraction`, `mismatched`, `seed`, `settings`, `val`, `test`, `analysis`,
        `history`, `embeddings`, `weights` (`weight_shift`), `cost`.
      verdicts: for each method and share: `method`, `fraction`, `mismatched`, `difference` (to the baseline, paired by
        seed), `low` and `high` (its interval), `verdict`.
      images: item numbers of the test split -> pixels, for the gallery; None where the data has no pictures.
      notes: sentences needed to read the numbers.
      trials: of a search on val: `method`, `trial`, `settings`, `values` (the metric on val, one a seed), `cost`.
      fusion: of a classifier, see `fusion_tables`, with `fraction` and `mismatched`.

    Returns:
      The path of the page.

    Raises:
      MissingPackageError: matplotlib, pillow or jinja2 is not installed.
      RunError: a file cannot be read or written.
    """
    folder = pathlib.Path(folder)
    found = Comparison(folder, comparison, tuple(runs), tuple(trials))
    gallery = _Pictures(folder / PICTURES)
    sections = [section("Verdict", _verdict(found, verdicts, notes))]
    if found.methods:
        sections += [
            section("Amount of data", _amount_of_data(found, verdicts, gallery)),
            section("Learning curves", gallery.html(charts.training_curves(found))),
            section("Weights of the two directions", word_table(tables.weight_table(found), _WEIGHTS)),
            section("Balance of the modalities", _balance(found, fusion, gallery)),
            section("Noise at test time", _noise(found, gallery)),
            section("Mismatched pairs in training", _mismatched(found, verdicts, gallery)),
            section("Hubs", _hubness(found, verdicts)),
            section("Calibration", _calibration(found, gallery)),
            section("Frequent and rare content", _long_tail(found, gallery)),
            section("Maps of the embeddings", gallery.html(_maps(found))),
            section("Where two methods disagree", _disagreements(found, images)),
            section("Search on val", _search(found, gallery)),
            section("Settings of the methods", word_table(tables.settings_table(found), _SETTINGS)),
            section("Cost", _cost(found)),
        ]
    sections += [
        section("Configuration of the base", key_value_table(comparison.get("config") or {})),
        section("Environment", key_value_table(comparison.get("environment") or {}, columns=("what", "value"))),
    ]
    path = folder / "report.html"
    text = page(str(comparison.get("title", "Comparison")), sections, subtitle=_subtitle(found))
    gallery.write()
    write_text_atomic(path, text)
    return path


class _Pictures:
    """Draws pictures for the page and collects their files."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._files: dict[pathlib.Path, bytes] = {}

    def html(self, wanted: Iterable[Picture | None]) -> str:
        """The pictures as a group, one below the other on a phone; "" when there are none."""
        return chart_group([self._figure(one) for one in wanted if one is not None])

    def _figure(self, one: Picture) -> str:
        draw: Callable[..., bytes] = (
            draw_chart if isinstance(one, Chart) else draw_bars if isinstance(one, Bars) else draw_map
        )
        light, dark = draw(one), draw(one, dark=True)
        # File systems forbid some characters that a method's name may hold.
        name = "".join(c if c.isalnum() or c in "-_+." else "_" for c in one.name)
        self._files[self._folder / f"{name}.svg"] = light
        return picture(
            light,
            dark,
            description=_description(one),
            caption=one.note,
            file=f"{PICTURES}/{urllib.parse.quote(name)}.svg",
            wide=one.before is not None if isinstance(one, PairMap) else isinstance(one, Bars) and one.wide,
        )

    def write(self) -> None:
        """Saves the pictures and deletes those of an earlier report."""
        for path, data in self._files.items():
            write_bytes_atomic(path, data)
        for old in self._folder.glob("*.svg"):
            if old not in self._files:
                old.unlink()


def _description(one: Picture) -> str:
    """Alternative text of a picture."""
    if isinstance(one, Chart):
        ends = "; ".join(f"{line.label} ends at {line.values[-1]:.4g}" for line in one.series)
        return f"{one.title}: {one.y_label} over {one.x_label}; {ends}."
    if isinstance(one, Bars):
        parts = []
        for label, found in one.bars.items():
            values = [
                f"{group.splitlines()[0]} {value.mean:.3g}"
                for group, value in zip(one.groups, found, strict=True)
                if value
            ]
            parts.append(f"{label}: {', '.join(values)}")
        return f"{one.title}: {one.y_label}; {'; '.join(parts)}."
    maps, when = ("map", "") if one.before is None else ("maps", " before and after training")
    return f"{one.title}: t-SNE {maps} of {one.names[0]} and {one.names[1]}{when}, a line for each pair."


def _subtitle(found: Comparison) -> list[str]:
    config, environment = found.about.get("config") or {}, found.about.get("environment") or {}
    seeds = sorted({int(run.get("seed", 0)) for run in found.runs})
    counts = (("run", len(found.runs)), ("method", len(found.methods)), ("seed", len(seeds)))
    size = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for word, count in counts)
    return subtitle(config, environment, first=[size])


def _verdict(found: Comparison, verdicts: tables.Verdicts, notes: Sequence[str]) -> str:
    if not found.methods:
        return paragraph("No results yet: no run of this comparison has finished.")
    parts = []
    if not found.about.get("complete", True):
        parts.append(macros("blocks.html").alert("Not complete: runs are missing, and these numbers will change."))
    parts.append(paragraph(_in_words(found, verdicts)))
    metric = metric_label(found.metric, found.names)
    total = " rsum is the sum of the recalls, at most 600." if found.metric == "rsum" else ""
    caption = (
        f"Test {metric}, mean ± standard deviation over seeds, of the checkpoints that are best on val.{total} "
        "Differences to the baseline are paired by seed; brackets hold their confidence interval."
    )
    parts.append(word_table(tables.verdict_table(found, verdicts), caption))
    parts += [paragraph(note) for note in notes]
    return joined(parts)


def _in_words(found: Comparison, verdicts: tables.Verdicts) -> str:
    """The verdicts as one sentence."""
    largest = found.fractions[-1]
    groups: dict[str, list[str]] = {}
    for method in found.methods:
        row = tables.find_verdict(verdicts, method, largest, 0.0)
        if method != found.baseline and row is not None and row.get("verdict"):
            groups.setdefault(str(row["verdict"]), []).append(method)
    for method, other in tables.equivalent_methods(found.about, largest, 0.0).items():
        groups.setdefault(f"same training as {other}", []).append(method)
    if not groups:
        return ""
    return (
        f"Against {found.baseline}: " + "; ".join(f"{word}: {', '.join(names)}" for word, names in groups.items()) + "."
    )


def _amount_of_data(found: Comparison, verdicts: tables.Verdicts, gallery: _Pictures) -> str:
    chart = charts.data_efficiency(found)
    if chart is None:
        return ""
    parts = [gallery.html([chart])]
    for fraction in found.fractions[:-1]:
        caption = f"With {100 * fraction:.3g} % of the training samples."
        parts.append(word_table(tables.verdict_table(found, verdicts, fraction=fraction), caption))
    return joined(parts)


def _noise(found: Comparison, gallery: _Pictures) -> str:
    curves = charts.noise_curves(found)
    if not curves:
        return ""
    return joined([paragraph(_NOISE), gallery.html(curves), word_table(tables.retained_table(found), _RETAINED)])


def _mismatched(found: Comparison, verdicts: tables.Verdicts, gallery: _Pictures) -> str:
    chart = charts.mismatched_pairs(found)
    if chart is None:
        return ""
    parts = [paragraph(_MISMATCHED), gallery.html([chart])]
    for share in found.shares[1:]:
        caption = f"With {100 * share:.3g} % of the training pairs mismatched."
        parts.append(word_table(tables.verdict_table(found, verdicts, mismatched=share), caption))
    return joined(parts)


def _calibration(found: Comparison, gallery: _Pictures) -> str:
    table = tables.calibration_table(found)
    if table is None:
        return ""
    where = ("analysis", "calibration")
    groups: dict[str, tuple[str, ...]] = {}
    for direction, words in tables.directions(found.names).items():
        groups[f"{words}\nas trained"] = (*where, f"{direction}_ece")
        groups[f"{words}\nfitted on val"] = (*where, "fitted", f"{direction}_ece")
    bars = _bars(found, "calibration_error", "Expected calibration error", "error (0 is best)", groups)
    return joined([paragraph(_CALIBRATION), word_table(table), gallery.html([bars, *charts.reliability_charts(found)])])


def _hubness(found: Comparison, verdicts: tables.Verdicts) -> str:
    table = tables.hubness_table(found, verdicts)
    return "" if table is None else joined([paragraph(_HUBNESS), word_table(table)])


def _long_tail(found: Comparison, gallery: _Pictures) -> str:
    table = tables.long_tail_table(found)
    if table is None:
        return ""
    groups: dict[str, tuple[str, ...]] = {}
    for name in ("head", "middle", "tail"):
        queries = max(
            (number_at("analysis", "long_tail", name, "queries_b2a")(run) or 0 for run in found.runs), default=0
        )
        groups[f"{name}\n({queries:.0f} {found.names[1]} queries)"] = ("analysis", "long_tail", name, "rsum")
    bars = _bars(found, "long_tail", "Frequent and rare content", "rsum of the queries [%, at most 600]", groups)
    return joined([paragraph(_LONG_TAIL), gallery.html([bars]), word_table(table)])


def _balance(found: Comparison, fusion: Sequence[FusionRow], gallery: _Pictures) -> str:
    names, largest = (*found.names, found.third), found.fractions[-1]
    rows = [row for row in fusion if math.isclose(row["fraction"], largest) and not row["mismatched"]]
    curves = charts.balance_curves(found) if found.classifies else []
    if not rows and not curves:
        return ""
    return joined(
        [
            bullet_list(fusion_sentences(rows, names)),
            word_table(fusion_table(rows, names), _BALANCE),
            word_table(learning_table(rows, names), _LEARNING),
            gallery.html(curves),
        ]
    )


def _bars(found: Comparison, name: str, title: str, y_label: str, groups: Mapping[str, tuple[str, ...]]) -> Bars | None:
    bars = {
        method: tuple(found.mean_std(method, number_at(*keys)) for keys in groups.values()) for method in found.methods
    }
    bars = {method: values for method, values in bars.items() if any(value is not None for value in values)}
    varied = any(value is not None and value.std for values in bars.values() for value in values)
    return Bars(name, title, y_label, tuple(groups), bars, charts.WHISKER if varied else "") if bars else None


def _maps(found: Comparison) -> list[PairMap]:
    """Maps of the baseline and of the best other method, at every stored perplexity."""
    maps = []
    baseline, others = _ranked(found)
    for method in [] if baseline is None else [baseline, *others[:1]]:
        arrays = found.arrays(method) or {}
        for key in sorted(
            (key for key in arrays if key.startswith("map_") and key.endswith("_before_a")), key=_perplexity
        ):
            stem, at_end = key.removesuffix("_before_a"), _perplexity(key)
            sides = [arrays.get(f"{stem}_{name}") for name in ("before_a", "before_b", "a", "b")]
            if any(side is None for side in sides):
                continue
            a0, b0, a1, b1 = (np.asarray(side) for side in sides)
            trained = not (np.array_equal(a0, a1) and np.array_equal(b0, b1))
            note = f"t-SNE at perplexity {at_end}, {len(a1)} pairs of test, one seed. Ignore large distances."
            note += "" if trained else " A closed form has no state before training."
            maps.append(PairMap(f"{stem}_{method}", method, (a0, b0) if trained else None, (a1, b1), found.names, note))
    return maps


def _perplexity(key: str) -> int:
    digits = key.split("_")[1]
    return int(digits) if digits.isdigit() else 0


def _ranked(found: Comparison) -> tuple[str | None, list[str]]:
    """The baseline, and the other methods by their metric on val, best first. Choosing on test would be biased."""
    value = number_at("val", found.metric)
    scores = {
        method: score.mean
        for method in found.methods
        if (score := found.mean_std(method, value)) and method != found.baseline
    }
    others = sorted(scores, key=scores.__getitem__, reverse=True)
    return (found.baseline, others) if found.baseline is not None else (next(iter(others), None), others[1:])


def _disagreements(found: Comparison, images: Images | None) -> str:
    """The baseline beside the best other method on val whose answers differ."""
    baseline, others = _ranked(found)
    first = found.arrays(baseline) if baseline is not None else None
    if baseline is None or first is None:
        return ""
    for method in others:
        second = found.arrays(method)
        differ = None if second is None else disagreements(first, second, methods=(baseline, method))
        if differ is not None:
            return disagreements_html(differ, images=images, names=found.names)
    return ""


def _search(found: Comparison, gallery: _Pictures) -> str:
    table = tables.search_table(found)
    if table is None:
        return ""
    return joined([paragraph(_SEARCH), gallery.html([charts.search_chart(found)]), word_table(table)])


def _cost(found: Comparison) -> str:
    table = tables.cost_table(found)
    return "" if table is None else joined([word_table(table), paragraph(tables.total_cost(found))])


_SEARCH = (
    "Every trained method got the same number of random settings. A closed form selects its settings on val and is not "
    "in this table. Settings were selected on val alone; the best of many trials on val overestimates test."
)
_SETTINGS = (
    "Settings that a method changes against the base, whose configuration is at the end of this page. A dot: unchanged."
)
_WEIGHTS = (
    "Largest and mean distance of the weights w from 1, the fixed weights, over the logged steps of a run. Mean ± "
    "standard deviation over seeds. Near 0 the method trains as the baseline does."
)
_NOISE = (
    "Noise is added to one side of the test pairs; models are not retrained. The curve of a robust method falls "
    "slowly; a high start is not robustness."
)
_RETAINED = (
    "Area under each curve relative to the area without noise: 100 % means that noise has no effect. Mean ± standard "
    "deviation over seeds."
)
_MISMATCHED = (
    "A share of the training pairs was mismatched by swapping partners; val and test are clean. Differences are to the "
    "baseline at the same share."
)
_HUBNESS = (
    "A hub is an answer to many queries. Skewness of 10-occurrence: how unevenly the ten nearest answers of the "
    "queries are distributed over the candidates; near 0 without hubs. A correction subtracts from each candidate's "
    "scores its similarity to training queries; every method gets it in the same way."
)
_CALIBRATION = (
    "Confidence is the softmax probability of the first answer among all candidates. The expected calibration error "
    "(ECE, ten bins) is its mean distance to the share of right answers. One temperature fitted on val removes a wrong "
    "scale; compare methods by the error after it. The error is noisy with few queries."
)
_LONG_TAIL = (
    "Test queries by the frequency of their content in training: head, middle and tail are the large, medium and small "
    "clusters of training captions, each about a third of the training samples."
)
_BALANCE = (
    "Accuracy of the prediction and of each modality's own head on test, mean over seeds with its 95 % interval. The "
    "gain compares both on the samples that have the modality. The best modality is the one that fusion beats least. "
    "Gap: best minus worst modality."
)
_LEARNING = (
    "Macro F1 weights every class alike, mAP is over the classes that occur in test. A modality has learned when the "
    "accuracy of its head on val has made 90 % of its way from chance to its best."
)
