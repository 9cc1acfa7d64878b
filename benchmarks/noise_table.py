"""A metric under every noise at test time, as a table: a row for each noise and strength, a column for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignment_jax.compare.run_matrix import DataCondition, condition_of
from alignment_jax.report.comparison_charts import NOISES
from alignment_jax.report.comparison_runs import mean_std
from alignment_jax.report.comparison_tables import mean_std_cell
from alignment_jax.report.tables import Table, table


def noise_table(
    runs: Sequence[Mapping[str, Any]], methods: Sequence[str], metric: str, names: Sequence[str]
) -> Table | None:
    """Mean ± standard deviation over the seeds of runs on all training data; None when no run was put to noise.

    >>> run = {
    ...     "method": "baseline",
    ...     "fraction": 1.0,
    ...     "mismatched": 0.0,
    ...     "analysis": {
    ...         "stress": [
    ...             {"kind": "clean", "side": "", "strength": 0.0, "metrics": {"rsum": 400.0}},
    ...             {"kind": "latent_noise", "side": "b", "strength": 0.5, "metrics": {"rsum": 300.0}},
    ...         ]
    ...     },
    ... }
    >>> [cell.text for cell in noise_table([run], ["baseline"], "rsum", ["image", "text"]).rows[1]]
    ['Noise on text latents', '0.5', '300.0']
    """
    values: dict[tuple[str, str, float], dict[str, list[float]]] = {}
    for run in runs:
        if condition_of(run) != DataCondition():
            continue
        for row in (run.get("analysis") or {}).get("stress") or ():
            key = row["kind"], row["side"], float(row["strength"])
            values.setdefault(key, {}).setdefault(run["method"], []).append(float(row["metrics"][metric]))
    if not values:
        return None
    rows = []
    for (kind, side, strength), found in values.items():
        title = "none" if kind == "clean" else NOISES[kind][0].format(names[side == "b"])
        rows.append([title, f"{strength:g}", *(mean_std_cell(mean_std(found.get(method, []))) for method in methods)])
    return table(["noise", "strength", *methods], rows)
