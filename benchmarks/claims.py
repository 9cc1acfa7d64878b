"""The papers' claims, each tested as a number of a comparison.

A claim names a method, the method that it is measured against, a number of every run and its expected direction. The
outcome follows from the 95 % interval of the paired difference: over seeds and test items for a metric of the test
split, over seeds alone for other numbers (noise, calibration, rare content, balance), which have no values of items.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from alignment_jax.compare.paired_differences import Difference, compare_paired
from alignment_jax.compare.run_matrix import DataCondition, condition_of
from alignment_jax.compare.summary import summarize
from alignment_jax.core.types import CORRECTED
from alignment_jax.report import to_markdown
from alignment_jax.report.tables import table

Run = Mapping[str, Any]


_ALL, _SMALL, _WRONG = DataCondition(), DataCondition(0.1), DataCondition(1.0, 0.2)


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of a paper.

    words: the statement, short.
    method, against: names in the comparison.
    path: where the number is in a run's record.
    more: whether the paper says that the number grows.
    condition: under which training data.
    """

    paper: str
    words: str
    method: str
    against: str
    path: tuple[str, ...]
    more: bool = True
    condition: DataCondition = _ALL


_RSUM, _CORRECTED, _ECE, _FITTED = (
    ("test", "rsum"),
    ("test", f"{CORRECTED}rsum"),
    ("analysis", "calibration", "ece"),
    ("analysis", "calibration", "fitted", "ece"),
)
_NOISE_A, _NOISE_B = (("analysis", "retained", f"latent_noise, {side}") for side in "ab")

ALIGNMENT = (
    Claim("VALS", "weighting by variance beats fixed weights", "vals", "baseline", _RSUM),
    Claim("VALS", "the same with a tenth of the data", "vals", "baseline", _RSUM, condition=_SMALL),
    Claim("VALS", "recall falls more slowly under noise in the images' latents", "vals", "baseline", _NOISE_A),
    Claim("VALS", "recall falls more slowly under noise in the texts' latents", "vals", "baseline", _NOISE_B),
    Claim("Modest-Align", "mixing, noise and smoothing beat plain InfoNCE", "modest_align", "baseline", _RSUM),
    Claim("Modest-Align", "the same with a tenth of the data", "modest_align", "baseline", _RSUM, condition=_SMALL),
    Claim("Modest-Align", "the same with 20 % mismatched pairs", "modest_align", "baseline", _RSUM, condition=_WRONG),
    Claim("Modest-Align", "less calibration error, as trained", "modest_align", "baseline", _ECE, more=False),
    Claim(
        "Modest-Align",
        "less calibration error, temperature fitted on val",
        "modest_align",
        "baseline",
        _FITTED,
        more=False,
    ),
    Claim("MM-TS", "scheduled temperatures beat a learned one", "mm_ts", "baseline", _RSUM),
    Claim("MM-TS", "rare content is found better", "mm_ts", "baseline", ("analysis", "long_tail", "tail", "rsum")),
    Claim("VALS", "the reading `probability` beats fixed weights", "vals_probability", "baseline", _RSUM),
    Claim("VALS", "the reading `loss` beats fixed weights", "vals_loss", "baseline", _RSUM),
    Claim("BSS", "balance-aware order beats shuffling", "bss", "baseline", _RSUM),
    Claim("STRUCTURE", "keeping the neighbours of the latents beats plain InfoNCE", "structure", "baseline", _RSUM),
    Claim("STRUCTURE", "the same with a tenth of the data", "structure", "baseline", _RSUM, condition=_SMALL),
    Claim("CSA", "a weighted cosine beats CCA", "csa", "cca", _RSUM),
    Claim("all four", "all methods together beat none", "all", "baseline", _RSUM),
    Claim("ours", "the recipe beats plain InfoNCE", "recipe", "baseline", _RSUM),
    Claim("ours", "the recipe beats plain InfoNCE, both with hubness correction", "recipe", "baseline", _CORRECTED),
    Claim("ours", "the recipe beats CCA, both with hubness correction", "recipe", "cca", _CORRECTED),
    Claim("ours", "closed-form CCA beats plain InfoNCE", "cca", "baseline", _RSUM),
)
SEARCHED = tuple(claim for claim in ALIGNMENT if claim.condition == _ALL and claim.method not in ("recipe", "bss"))
UNPAIRED_CLAIMS = (
    Claim("SOTAlign", "latents without partners beat the pairs alone", "sotalign", "sigmoid", _RSUM),
    Claim("SOTAlign", "and plain InfoNCE", "sotalign", "baseline", _RSUM),
    Claim("SOTAlign", "and the closed form", "sotalign", "cca", _RSUM),
)
PIXELS = (
    Claim("VALS", "weighting by variance beats fixed weights", "vals", "baseline", _RSUM),
    Claim("Modest-Align", "smoothed targets beat one-hot ones", "smoothing", "baseline", _RSUM),
    Claim("MM-TS", "scheduled temperatures beat a learned one", "mm_ts", "baseline", _RSUM),
    *(
        Claim("VALS", f"recall falls more slowly when {what}", "vals", "baseline", ("analysis", "retained", noise))
        for what, noise in (
            ("words are dropped", "caption_drop, b"),
            ("words are replaced", "caption_replace, b"),
            ("images are noisy", "image_gaussian, a"),
            ("images are partly hidden", "image_occlusion, a"),
        )
    ),
)
_ACCURACY, _GAP = ("test", "accuracy"), ("analysis", "balance", "gap")
CLASSIFICATION = (
    Claim("BSS", "a curriculum of balance beats shuffling", "curriculum", "vanilla", _ACCURACY),
    Claim("BSS", "probabilities from balance beat shuffling", "probabilistic", "vanilla", _ACCURACY),
    Claim("BSS", "probabilities from balance beat the curriculum", "probabilistic", "curriculum", _ACCURACY),
    Claim("BSS", "modalities end up closer to each other", "probabilistic", "vanilla", _GAP, more=False),
)


def outcome(difference: Difference, *, more: bool) -> str:
    """ "seen", "no difference shown" or "the opposite is seen", from the interval.

    >>> outcome(Difference(2.0, 1.0, (0.5, 3.5), None, 0.06), more=True)
    'seen'
    """
    if difference.interval is None:
        return difference.verdict
    low, high = difference.interval
    if low <= 0 <= high:
        return "no difference shown"
    return "seen" if (low > 0) == more else "the opposite is seen"


TestedClaim = tuple[Claim, Difference]


def measure_claims(folder: pathlib.Path, runs: Sequence[Run], claims: Sequence[Claim]) -> list[TestedClaim]:
    """The claims that the runs can test, each with its difference."""
    found = [(claim, _difference(folder, runs, claim)) for claim in claims]
    return [(claim, difference) for claim, difference in found if difference is not None]


def count_outcomes(tested: Sequence[TestedClaim]) -> str:
    """How many claims have each outcome.

    >>> claim = Claim("A paper", "x beats y", "x", "y", ("test", "rsum"))
    >>> count_outcomes([(claim, Difference(2.0, 1.0, (0.5, 3.5), None, 0.06))])
    'seen: 1'
    """
    counts = collections.Counter(outcome(difference, more=claim.more) for claim, difference in tested)
    return "; ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def claims_table(tested: Sequence[TestedClaim]) -> str:
    """Markdown with a row for each claim; "" without claims."""
    rows = []
    for claim, difference in tested:
        digits = 1 if claim.path[0] == "test" or claim.path[-1] in ("rsum", "gap") else 3
        shown = f"{difference.mean:+.{digits}f}"
        if difference.interval is not None:
            low, high = difference.interval
            shown += f" ({low:+.{digits}f} to {high:+.{digits}f})"
        words = f"{claim.words} ({claim.method} against {claim.against})"
        rows.append([claim.paper, words, ": ".join(claim.path[1:]), shown, outcome(difference, more=claim.more)])
    return (
        to_markdown(table(["paper", "claim", "number", "difference (95 % interval)", "at this size"], rows))
        if rows
        else ""
    )


def _difference(folder: pathlib.Path, runs: Sequence[Run], claim: Claim) -> Difference | None:
    """The claim's number, the method's minus the other's; of a test metric with the interval over items, too."""
    here = [
        run
        for run in runs
        if condition_of(run) == claim.condition
        and run["method"] in (claim.method, claim.against)
        and (claim.path[0] != "test" or number_at(run, claim.path) is not None)
    ]
    if claim.path[0] == "test":
        rows = summarize(
            folder, here, methods=[claim.against, claim.method], baseline=claim.against, metric=claim.path[1]
        )
        return next((row.difference for row in rows if row.method == claim.method), None)
    values: dict[str, dict[int, float]] = {claim.method: {}, claim.against: {}}
    for run in here:
        if (value := number_at(run, claim.path)) is not None:
            values[run["method"]][run["seed"]] = value
    common = sorted(values[claim.method].keys() & values[claim.against].keys())
    if not common:
        return None
    return compare_paired(*([values[name][seed] for seed in common] for name in (claim.against, claim.method)))


def number_at(run: Run, path: Sequence[str]) -> float | None:
    """The number at a path of a run's record; None where there is none."""
    found: Any = run
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None
