"""Runs a comparison, or continues one: search, training, records, results, report."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from alignment_jax import data, report
from alignment_jax.assembly.build import Built, build, load_source
from alignment_jax.assembly.file_checks import check_source_files
from alignment_jax.compare import run_records as records
from alignment_jax.compare.comparison_progress import ComparisonProgress
from alignment_jax.compare.pages import write_outputs
from alignment_jax.compare.plan import (
    BuildCache,
    ComparisonPlan,
    ComparisonSettings,
    check_comparison,
    comparison_facts,
    config_under,
    make_plan,
    method_trials,
)
from alignment_jax.compare.run_matrix import DataCondition, SeedGroup, condition_of
from alignment_jax.compare.search import best_trial, nothing_to_search
from alignment_jax.compare.training import TrainedRun, evaluate_runs, train_seeds
from alignment_jax.core import jsonl
from alignment_jax.core.errors import RunError
from alignment_jax.train.workdir import locked

UNFINISHED = "unfinished"  # subfolder with the checkpoints of runs that train alone
_CACHE = "jax_compilation_cache_dir"
_CACHE_ALL = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
_SEARCH_SEEDS = 2  # runs of each trial: one would reward luck, more would cost more than they choose better


def compare(
    folder: pathlib.Path, settings: ComparisonSettings, *, environment: Mapping[str, Any], quiet: bool = False
) -> str:
    """Trains the missing runs, writes results and report, and returns the table for the terminal.

    Args:
      folder: of the comparison. Where it holds one of the same configuration, methods, seeds and conditions are added
        to it.
      settings: the methods to compare, and how.
      environment: machine and versions, for the report.
      quiet: show no progress (log.txt has it).

    Raises:
      ConfigError, DataError: one line; nothing has been written.
      RunError: a run failed. Finished runs are kept, and the same command continues.
      training.ComparisonPreempted: stopped by SIGTERM or Ctrl-C; the same command continues.
    """
    check_comparison(settings)
    about = comparison_facts(settings)
    records.check_same_comparison(folder, about)  # before all files of a large data set are checked
    source = load_source(settings.base)
    check_source_files(source, threads=settings.base.input.threads, quiet=quiet)
    about["modalities"] = list(source.modalities)
    fingerprints = data.fingerprints(source)
    builds: BuildCache = {}

    def plan_now() -> ComparisonPlan:
        return make_plan(folder, settings, about, source, fingerprints, builds)

    plan_now()  # a mistake is found before anything is written
    with locked(folder):
        plan = plan_now()  # another command may have added to the comparison before the lock
        record = plan.about | {"environment": report.json_ready(environment), "complete": not plan.left}
        report.write_json_atomic(folder / records.COMPARISON, record)
        with _compilation_cache(folder):
            _Comparison(folder, record, plan, source, builds, quiet=quiet).run()
        # A kill between a record and the removal of its checkpoints leaves them here.
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        record["complete"] = True
        report.write_json_atomic(folder / records.COMPARISON, record)
        return write_outputs(folder, record, source=source)


@contextlib.contextmanager
def _compilation_cache(folder: pathlib.Path) -> Iterator[None]:
    """Compiles programs that methods and data conditions share once, unless the user has set a cache."""
    if getattr(jax.config, _CACHE):
        yield
        return
    cache = folder / "compiled"
    before = {name: getattr(jax.config, name) for name in (_CACHE, *_CACHE_ALL)}
    jax.config.update(_CACHE, str(cache))
    for name, value in _CACHE_ALL.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    shutil.rmtree(cache, ignore_errors=True)  # kept after an interruption: the next command needs it


class _Comparison:
    """One call of `compare`, after all checks."""

    def __init__(
        self,
        folder: pathlib.Path,
        about: Mapping[str, Any],
        plan: ComparisonPlan,
        source: data.PairSource,
        builds: BuildCache,
        *,
        quiet: bool,
    ):
        self.folder, self.about, self.source = folder, about, source
        self.configs, self.left = plan.configs, plan.left
        self.builds = builds
        self.quiet = quiet
        self.metric = report.metric_label(about["metric"], tuple(about["modalities"]))
        self.progress = ComparisonProgress(self.left, folder / "log.txt", quiet=quiet)

    def run(self) -> None:
        if not self.left:
            return
        chosen = {method: self._search(method) for method in self.configs}
        for line in _not_trained(self.about["same"]):
            self.progress.message(line)
        methods = len(self.about["methods"])
        self.progress.message(f"{self.progress.total} runs to train: {methods} methods; interrupt at any time")
        for group in self.left:
            trial, settings = chosen[group.method]
            self._train(group, trial, settings)

    def _train(self, group: SeedGroup, trial: int, settings: Mapping[str, Any]) -> None:
        started = time.monotonic()
        built = self._build(group.method, group.condition, settings)
        for runs in self._train_seeds(built, group):
            shown = self._record(group, runs, trial, settings)
            seconds, started = time.monotonic() - started, time.monotonic()
            for run, text in zip(runs, shown, strict=True):
                self.progress.finish_run(group.method, group.condition, run.seed, seconds / len(runs), text)

    def _build(self, method: str, condition: DataCondition, settings: Mapping[str, Any]) -> Built:
        built = self.builds.pop((method, condition), None)  # used once, then its memory is free
        if built is not None and not settings:
            return built
        return build(config_under(self.configs[method], condition, settings), source=self.source)

    def _train_seeds(self, built: Built, group: SeedGroup) -> Iterator[list[TrainedRun]]:
        def folder_of(seed: int) -> pathlib.Path:
            return self.folder / UNFINISHED / _run_name(group.method, group.condition, seed)

        try:
            yield from train_seeds(built, group.seeds, folder_of, quiet=self.quiet)
        except RunError as error:
            raise RunError(f"{group.method}, {group.condition.label}: {error}") from error

    def _record(
        self, group: SeedGroup, runs: Sequence[TrainedRun], trial: int, settings: Mapping[str, Any]
    ) -> list[str]:
        """Evaluates runs and appends their records; returns the result of each for its line of progress."""
        metric = self.about["metric"]
        largest = group.condition == DataCondition(max(self.about["fractions"]))
        evaluated = evaluate_runs(
            runs,
            [self.folder / "runs" / _run_name(group.method, group.condition, run.seed) for run in runs],
            stress=self.about["stress"],
            keep_embeddings=[largest and run.seed == self.about["seeds"][0] for run in runs],
        )
        for run, found in zip(runs, evaluated, strict=True):
            if metric not in found["test"]:
                raise RunError(f"eval.metric is {self.about['config']['eval']['metric']!r}, which test does not give")
            record = {
                "method": group.method,
                "fraction": group.condition.fraction,
                "mismatched": group.condition.mismatched,
                "seed": run.seed,
                "trial": trial,
                "settings": {**self.about["settings"][group.method], **settings},
                "val": {key: value for key, value in run.val.items() if key in found["test"]},
                **found,
                "weights": report.weight_shift(run.history),
                "cost": run.cost,
            }
            for file in ("history", "items", "embeddings"):
                if record[file] is not None:
                    record[file] = record[file].relative_to(self.folder).as_posix()
            jsonl.append_row(self.folder / records.RUNS, record)
        return [f"{self.metric} {report.as_percent(found['test'])[metric]:.1f} on test" for found in evaluated]

    def _search(self, method: str) -> tuple[int, dict[str, Any]]:
        """The trial of a method that is best on val, and its settings; test is not used."""
        if self.about["search"] < 2:
            return 0, {}
        config, trials = self.configs[method], self.about["search"]
        drawn = method_trials(self.about, method, config)
        if nothing_to_search(str(config.train.duration), drawn):
            self.progress.message(f"{method}: nothing is trained, so there is nothing to search")
            return 0, {}
        path = self.folder / records.TRIALS
        done = {row["trial"]: row for row in jsonl.read_rows(path) if row["method"] == method}
        condition = DataCondition(max(self.about["fractions"]))
        group = SeedGroup(method, condition, tuple(self.about["seeds"][:_SEARCH_SEEDS]))
        for trial, settings in enumerate(drawn):
            if trial not in done:
                done[trial] = self._try(group, trial, settings)
                jsonl.append_row(path, done[trial])
        values = {trial: row["value"] for trial, row in done.items() if row["value"] is not None}
        if not values:
            raise RunError(f"{method}: none of {trials} trials trained to its end; narrow the ranges of config.search")
        best = best_trial(values)
        self.progress.message(f"{method}: trial {best} of {trials} is best on val: {drawn[best] or 'nothing changed'}")
        return best, drawn[best]

    def _try(self, group: SeedGroup, trial: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        metric = self.about["metric"]
        row = {
            "method": group.method,
            "trial": trial,
            "settings": settings,
            "fraction": group.condition.fraction,
            "metric": metric,
            "seeds": list(group.seeds),
        }
        try:
            built = self._build(group.method, group.condition, settings)
            runs = [run for several in self._train_seeds(built, group) for run in several]
        except RunError as error:  # a diverging trial is a result of the search, not its end
            self.progress.message(f"{group.method}, trial {trial}: {error}")
            return {**row, "value": None, "values": [None for _ in group.seeds], "error": str(error)}
        values = [run.val[metric] for run in runs]
        cost = {key: sum(float(run.cost[key] or 0.0) for run in runs) for key in ("steps", "pairs", "seconds")}
        shown = float(np.mean([report.as_percent(run.val)[metric] for run in runs]))
        self.progress.message(
            f"{group.method}, trial {trial} of {self.about['search']}: {self.metric} {shown:.1f} on val"
        )
        return {**row, "value": float(np.mean(values)), "values": values, "cost": cost}


def _not_trained(same: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each method that is equivalent to another one."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in same:
        groups.setdefault((row["method"], row["as"]), []).append(condition_of(row).label)
    for (method, other), labels in groups.items():
        yield (
            f"{method} is not trained ({'; '.join(labels)}): one batch holds all of train, so the order of samples "
            f"changes nothing and {method} equals {other}; to compare orders, set a smaller input.batch_size"
        )


def _run_name(method: str, condition: DataCondition, seed: int) -> str:
    part = f"{condition.fraction:g}" + (f"-mismatched{condition.mismatched:g}" if condition.mismatched else "")
    return f"{method}/{part}/seed{seed}"
