"""The finished runs of a comparison in groups, with mean and standard deviation of any value in them."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.errors import RunError
from alignment_jax.report.metric_names import as_percent
from alignment_jax.report.metrics_log import read_metrics

Run = Mapping[str, Any]


@renamed_attributes({"sd": "std"})
@dataclasses.dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation (n - 1; None for one run) of a number over `count` runs."""

    mean: float
    std: float | None
    count: int

    def text(self, digits: int = 1) -> str:
        """As in "381.2 ± 3.4"."""
        deviation = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.mean:.{digits}f}{deviation}"


def mean_std(values: Sequence[float | None]) -> MeanStd | None:
    """Mean and standard deviation of the finite values; None when there are none.

    >>> mean_std([1.0, 3.0, None])
    MeanStd(mean=2.0, std=1.4142135623730951, count=2)
    """
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return MeanStd(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None, len(known))


@renamed_attributes({"spread": "mean_std"})
@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison and its runs.

    Attributes:
      folder: relative paths of the runs start here.
      about: the content of comparison.json.
      runs: the rows of runs.jsonl.
      trials: the rows of trials.jsonl: `method`, `trial`, `settings`, and `values`, the metric on val for each seed.
    """

    folder: pathlib.Path
    about: Mapping[str, Any]
    runs: tuple[Run, ...]
    trials: tuple[Mapping[str, Any], ...] = ()
    _read: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods with a finished run, in the requested order."""
        present = {run["method"] for run in self.runs}
        asked = [str(method) for method in self.about.get("methods", ())]
        return tuple(dict.fromkeys(method for method in [*asked, *sorted(present)] if method in present))

    @property
    def baseline(self) -> str | None:
        """The method that the others are compared with; None without a finished run."""
        name = self.about.get("baseline", "baseline")
        return name if name in self.methods else None

    @property
    def metric(self) -> str:
        return str(self.about.get("metric", "rsum"))

    @property
    def names(self) -> tuple[str, str]:
        """Names of the first two modalities."""
        found = [str(name) for name in self.about.get("modalities") or ()]
        return (found[0], found[1]) if len(found) > 1 else ("a", "b")

    @property
    def third(self) -> str:
        """Name of the third modality, which only a classifier can have."""
        found = [str(name) for name in self.about.get("modalities") or ()]
        return found[2] if len(found) > 2 else "third"

    @property
    def classifies(self) -> bool:
        return self.about.get("task") == "classification"

    @property
    def fractions(self) -> tuple[float, ...]:
        return tuple(sorted({float(run.get("fraction", 1.0)) for run in self.runs}))

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of mismatched training pairs."""
        return tuple(sorted({float(run.get("mismatched", 0.0)) for run in self.runs}))

    def of(self, method: str, *, fraction: float | None = None, mismatched: float = 0.0) -> list[Run]:
        """The runs of one method at one share of the data (None: the largest) and of mismatched pairs, by seed."""
        wanted = self.fractions[-1] if fraction is None else fraction
        found = [
            run
            for run in self.runs
            if run["method"] == method
            and math.isclose(float(run.get("fraction", 1.0)), wanted)
            and math.isclose(float(run.get("mismatched", 0.0)), mismatched)
        ]
        return sorted(found, key=lambda run: run.get("seed", 0))

    def mean_std(
        self, method: str, value: Callable[[Run], float | None], *, fraction: float | None = None, mismatched: float = 0
    ) -> MeanStd | None:
        """Mean and standard deviation of a value over the seeds of a method."""
        return mean_std([value(run) for run in self.of(method, fraction=fraction, mismatched=mismatched)])

    def history(self, run: Run) -> list[dict[str, Any]]:
        """Logged rows of a run, from the row itself or from the file that it names; empty if the file is missing."""
        found = run.get("history")
        if not isinstance(found, str):
            return _in_percent(found or ())
        if found not in self._read:  # every chart asks for it
            path = _inside(self.folder, found)
            self._read[found] = [] if path is None else _in_percent(read_metrics(path))
        return self._read[found]

    def arrays(self, method: str) -> dict[str, np.ndarray] | None:
        """Stored embeddings, maps and answers of a method's first run that has any.

        Raises:
          RunError: the file cannot be read.
        """
        for run in self.of(method):
            path = _inside(self.folder, run["embeddings"]) if run.get("embeddings") else None
            if path is not None:
                try:
                    with np.load(path, allow_pickle=False) as stored:
                        return {name: stored[name] for name in stored.files}
                except (OSError, ValueError) as error:
                    raise RunError(
                        f"{path} cannot be read ({error}); delete it and its run, and compare again"
                    ) from error
        return None


def number_at(*keys: str) -> Callable[[Run], float | None]:
    """Looks up a number in a nested run; None where a key is missing.

    >>> number_at("test", "rsum")({"test": {"rsum": 3.0}}), number_at("test", "rsum")({"val": {}})
    (3.0, None)
    """

    def value(run: Run) -> float | None:
        found: Any = run
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    return value


def _in_percent(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Logged rows with metrics in percent; multi-instance retrieval is logged as a fraction."""
    scores = [{key: x for key, x in row.items() if isinstance(x, int | float)} for row in rows]
    return [{**row, **as_percent(known)} for row, known in zip(rows, scores, strict=True)]


def _inside(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """A file of the comparison's folder; None when it is missing or outside the folder."""
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
