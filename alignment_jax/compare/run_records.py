"""The folder of a comparison: what it compares (comparison.json), and a line for every finished run (runs.jsonl)."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from alignment_jax import report
from alignment_jax.core.errors import ConfigError, DataError, UserError
from alignment_jax.train.workdir import changed_names, differences

COMPARISON, RUNS, TRIALS = "comparison.json", "runs.jsonl", "trials.jsonl"
# What must be the same for two commands to belong to one comparison. Methods, seeds and conditions may be added.
_IDENTITY = ("config", "metric", "stress", "search")


def read_comparison(folder: pathlib.Path) -> dict[str, Any] | None:
    """What comparison.json of a folder holds, or None where there is none.

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


def check_same_comparison(folder: pathlib.Path, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The comparison that a folder holds, when the wanted one goes on with it; None for an empty folder.

    Raises:
      ConfigError: it holds a comparison of something else. Nothing is touched.
      UserError: it holds a single run.
    """
    found = read_comparison(folder)
    if found is None:
        if (folder / "config.json").is_file():
            raise UserError(f"workdir {folder} holds a single run; choose another --workdir for the comparison")
        return None
    wanted = json.loads(json.dumps(report.json_ready(wanted)))
    changed = differences(_identity(found), _identity(wanted))
    before, after = found.get("settings", {}), wanted.get("settings", {})
    for method in [name for name in after if name in before]:
        changed += differences({method: before[method]}, {method: after[method]})
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ConfigError(
            f"workdir {folder} holds another comparison ({shown}); choose another --workdir, or repeat the "
            "command that made it to go on (methods, seeds and fractions may be added)"
        )
    return found


def check_same_data(folder: pathlib.Path, found: Mapping[str, str]) -> dict[str, str]:
    """`found`, the digest of every split (`data.fingerprints`), when the folder's runs saw the same data.

    Raises:
      DataError: they did not, so they cannot be compared with runs made now.
    """
    kept = (read_comparison(folder) or {}).get("data") or found
    if changed := changed_names(kept, found):
        raise DataError(
            f"{', '.join(changed)} changed since the comparison in {folder} began; restore the data to go on, or "
            "choose another --workdir to compare on what it is now"
        )
    return dict(found)


def finished(folder: pathlib.Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The runs and the trials of a folder, their metrics on val and test as pages show them.

    Multi-instance retrieval is measured as a fraction and shown in percent; the files keep what was measured, so only
    this function brings it to percent.

    Raises:
      RunError: a record cannot be read.
    """
    runs, trials = read(folder / RUNS), read(folder / TRIALS)
    beside = {key: 0.0 for run in runs for key in run.get("test") or {}}  # tells the two kinds of mAP apart
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
    """What decides whether two commands make one comparison: neither its name nor ranges that nothing is drawn from."""
    found = {key: about.get(key) for key in _IDENTITY}
    idle = ("name",) if found["search"] else ("name", "search")
    if isinstance(found["config"], Mapping):
        found["config"] = {key: value for key, value in found["config"].items() if key not in idle}
    return found


def append(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Adds one record, flushed to disk; what an interruption left of an earlier line is removed first.

    Raises:
      RunError: the file cannot be written.
    """
    report.append_row(path, record)


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a file, without a last line that an interruption cut off; [] where there is no file.

    Raises:
      RunError: a whole line is not JSON; the message names it.
    """
    return report.read_rows(path)
