"""The folder of a comparison: its settings (comparison.json), and a line for every finished run (runs.jsonl)."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from alignment_jax import report
from alignment_jax.core.errors import ConfigError, DataError, UserError
from alignment_jax.core.jsonl import read_rows
from alignment_jax.train.workdir import changed_names, differences

COMPARISON, RUNS, TRIALS = "comparison.json", "runs.jsonl", "trials.jsonl"
# Equal in all commands of one comparison. Methods, seeds and conditions may be added.
_IDENTITY = ("config", "metric", "stress", "search")


def read_comparison(folder: pathlib.Path) -> dict[str, Any] | None:
    """The content of comparison.json in a folder; None without the file.

    Raises:
      UserError: it is not JSON.
    """
    path = folder / COMPARISON
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it or choose another --workdir") from error


def check_same_comparison(folder: pathlib.Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """The comparison in a folder, if `about` continues it; None for an empty folder.

    Raises:
      ConfigError: it is another comparison.
      UserError: it holds a single run.
    """
    found = read_comparison(folder)
    if found is None:
        if (folder / "config.json").is_file():
            raise UserError(f"workdir {folder} holds a single run; choose another --workdir for the comparison")
        return None
    about = json.loads(json.dumps(report.json_ready(about)))
    changed = differences(_identity(found), _identity(about))
    before, after = found.get("settings", {}), about.get("settings", {})
    for method in [name for name in after if name in before]:
        changed += differences({method: before[method]}, {method: after[method]})
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ConfigError(
            f"workdir {folder} holds another comparison ({shown}); choose another --workdir, or repeat the "
            "command that made it (methods, seeds and fractions may be added)"
        )
    return found


def check_same_data(folder: pathlib.Path, found: Mapping[str, str]) -> dict[str, str]:
    """Returns `found`, the digest of every split (`data.fingerprints`), if the folder's runs used the same data.

    Raises:
      DataError: they used other data, so new runs cannot be compared with them.
    """
    kept = (read_comparison(folder) or {}).get("data") or found
    if changed := changed_names(kept, found):
        raise DataError(
            f"{', '.join(changed)} changed since the comparison in {folder} started; restore the data to continue, "
            "or choose another --workdir for the new data"
        )
    return dict(found)


def read_runs_and_trials(folder: pathlib.Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs and the trials of a folder, their metrics on val and test in percent.

    The files hold multi-instance retrieval as a fraction; only this function converts it.

    Raises:
      RunError: a record cannot be read.
    """
    runs, trials = read_rows(folder / RUNS), read_rows(folder / TRIALS)
    beside = {key: 0.0 for run in runs for key in run.get("test") or {}}  # distinguishes the two kinds of mAP
    for run in runs:
        run |= {part: report.as_percent(run[part]) for part in ("val", "test") if run.get(part)}
    for trial in trials:
        scale = report.as_percent({**beside, trial["metric"]: 1.0})[trial["metric"]]
        trial |= {key: _scaled(trial[key], scale) for key in ("value", "values") if key in trial}
    return runs, trials


def _scaled(found: Any, scale: float) -> Any:
    if isinstance(found, list):
        return [_scaled(one, scale) for one in found]
    return None if found is None else scale * found


def _identity(about: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that must be equal: not the name, and not the search space without a search."""
    found = {key: about.get(key) for key in _IDENTITY}
    ignored = ("name",) if found["search"] else ("name", "search")
    if isinstance(found["config"], Mapping):
        found["config"] = {key: value for key, value in found["config"].items() if key not in ignored}
    return found
