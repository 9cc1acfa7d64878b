"""Report of a run, from its logs, report.json and gallery.npz."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from alignment_jax import report
from alignment_jax.core.errors import RunError
from alignment_jax.train.workdir import read_config

FACTS, GALLERY = "report.json", "gallery.npz"


def save_report_inputs(folder: pathlib.Path, facts: Mapping[str, Any], gallery: report.Gallery | None) -> None:
    """Writes report.json and gallery.npz: the parts of a report that the logs do not hold.

    Args:
      folder: of the run.
      facts: arguments of `report.write_report`, as plain values.
      gallery: retrieval examples; None for none.
    """
    if gallery is None:
        (folder / GALLERY).unlink(missing_ok=True)
    else:
        report.save_gallery(folder / GALLERY, gallery)
    report.write_json_atomic(folder / FACTS, facts)


def write_run_report(folder: pathlib.Path) -> str:
    """Writes report.html of a finished or unfinished run.

    Returns:
      The table of metrics of a finished run, and the path of the page.

    Raises:
      RunError: a file of the run is missing or damaged.
    """
    facts = _read(folder, FACTS) or {}
    config = read_config(folder) or {}
    results, chance = facts.get("results", {}), facts.get("chance", {})
    names = tuple(facts.get("names", ("a", "b")))
    notes = facts.get("notes", ["This run has not finished: there are no results on test yet."])
    page = report.write_report(
        folder,
        **{
            "title": config.get("name", folder.name),
            **facts,
            "config": config,
            "environment": _read(folder, "environment.json") or {},
            "results": results,
            "history": report.read_metrics(folder / "metrics.jsonl"),
            "gallery": report.load_gallery(folder / GALLERY) if (folder / GALLERY).is_file() and facts else None,
            "notes": notes,
            "chance": chance,
            "names": names,
        },
    )
    lines = [f"report: {page}"]
    if results:
        lines.insert(0, report.to_plain(report.metrics_table(results, names=names, chance=chance)))
    return "\n".join(lines)


def _read(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
    path = folder / name
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); run the train command again to restore it") from error
