"""Runs a comparison to its end, from wherever it stands: search, training, records, results, report."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from alignment_jax import data, report
from alignment_jax.assembly.allowed_values import check_settings
from alignment_jax.assembly.build import Built, build, load_source
from alignment_jax.assembly.file_checks import check_source_files
from alignment_jax.assembly.tasks import task_of
from alignment_jax.compare import run_records as records
from alignment_jax.compare.equivalent_methods import same_trainings, same_under, with_settings
from alignment_jax.compare.pages import write_outputs
from alignment_jax.compare.run_matrix import Condition, Group, condition_of, conditions, missing
from alignment_jax.compare.search import best_trial, draw_trials, nothing_to_search
from alignment_jax.compare.time_left import Remaining
from alignment_jax.compare.training import Trained, measure, train_seeds
from alignment_jax.config.limits import check_limits
from alignment_jax.config.recipes import expand_methods
from alignment_jax.config.titles import data_name
from alignment_jax.core.errors import ConfigError, DataError, RunError
from alignment_jax.train.workdir import flatten_config, locked

UNFINISHED = "unfinished"  # where runs of their own keep their checkpoints
_METHOD = re.compile(r"[\w+.=-]+")
_CACHE = "jax_compilation_cache_dir"
_CACHE_ALL = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
_MOST_KEPT = 64 << 20  # bytes of a training set up to which a run that was built for a check is kept
_SEARCH_SEEDS = 2  # runs of each trial: one would reward luck, more would cost more than they choose better


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What one command asks for.

    base: the configuration without any method.
    config_of: method -> its configuration.
    methods, baseline: names; the baseline is one of them.
    seeds: how many, counted from the base's own.
    fractions, mismatched: of the training samples.
    search: trials for each method; 0 or 1 for the configurations as they are.
    stress: "none", "quick" or "full".
    """

    base: ConfigDict
    config_of: Callable[[str], ConfigDict]
    methods: Sequence[str]
    baseline: str
    seeds: int
    fractions: Sequence[float] = (1.0,)
    mismatched: Sequence[float] = (0.0,)
    search: int = 0
    stress: str = "quick"


def compare(folder: pathlib.Path, wanted: Wanted, *, environment: Mapping[str, Any], quiet: bool = False) -> str:
    """Trains what is missing, writes results and report, and returns the table for the terminal.

    Args:
      folder: of the comparison; an earlier one of the same configuration goes on, with methods, seeds and conditions
        added.
      wanted: what to compare.
      environment: what it runs on, for the report.
      quiet: show no progress (log.txt has it).

    Raises:
      ConfigError, DataError: one line; nothing has been written.
      RunError: a run failed. What is finished is kept, and the same command goes on.
      training.Preempted: stopped by SIGTERM or Ctrl-C; the same command goes on.
    """
    _check(wanted)
    for config in map(wanted.config_of, wanted.methods):
        check_settings(config)
        check_limits(config)
    about = _about(wanted)
    records.check_same_comparison(folder, about)  # before all files of a large data set are checked
    source = load_source(wanted.base)
    check_source_files(source, threads=wanted.base.input.threads, quiet=quiet)
    about["modalities"] = list(source.modalities)
    fingerprints = data.fingerprints(source.splits)
    checked: Checked = {}

    def plan_now() -> _Plan:
        return _plan(folder, wanted, about, source, fingerprints, checked)

    plan_now()  # a mistake is found before anything is written
    with locked(folder):
        # Another command may have finished, or added to the comparison, since then.
        plan = plan_now()
        record = plan.about | {"environment": report.json_ready(environment), "complete": not plan.left}
        report.write_json_atomic(folder / records.COMPARISON, record)
        with _compiled_once(folder):
            _Comparison(folder, record, plan.configs, source, plan.left, checked, quiet=quiet).run()
        # What a kill between a record and the removal of its checkpoints has left.
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        record["complete"] = True
        report.write_json_atomic(folder / records.COMPARISON, record)
        return write_outputs(folder, record, source=source)


# What was built for a method to check its configuration; None where that was too large to keep.
Checked = dict[tuple[str, Condition], Built | None]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What comparison.json will hold, and what is left to train with which configurations."""

    about: dict[str, Any]
    configs: dict[str, ConfigDict]
    left: list[Group]


def _plan(
    folder: pathlib.Path,
    wanted: Wanted,
    about: Mapping[str, Any],
    source: data.PairSource,
    fingerprints: Mapping[str, str],
    checked: Checked,
) -> _Plan:
    """What is left to do of everything that this command and those before it in the folder have asked for.

    Args:
      folder, wanted: as for `compare`.
      about: what comparison.json would hold by this command alone.
      source: the data set of `wanted.base`.
      fingerprints: of its splits.
      checked: gets what is built to check the configurations that are to be trained.

    Raises:
      ConfigError, DataError: one line. Nothing is written.
    """
    about = _merged(records.check_same_comparison(folder, about), about)
    about["data"] = records.check_same_data(folder, fingerprints)
    if "test" not in source.splits:
        raise DataError(f"{wanted.base.data}: it has no split 'test', and a comparison is judged on test")
    cells = conditions(about["fractions"], about["mismatched"])
    done = records.read(folder / records.RUNS)
    configs = {name: wanted.config_of(name) for name in about["methods"]}
    about["same"] = _same(about, configs, source, cells, done)
    left = [
        group
        for group in missing(about["methods"], cells, about["seeds"], done)
        if group.method not in same_under(about, group.condition)
    ]
    configs = {name: configs[name] for name in dict.fromkeys(group.method for group in left)}
    smallest = Condition(min(about["fractions"]))
    for name, config in configs.items():  # a mistake in the last method should not show after hours
        if (name, smallest) not in checked:
            built = build(_changed(config, smallest, {}), source=source)
            checked[name, smallest] = built if _bytes(built) <= _MOST_KEPT else None
    return _Plan(about, configs, left)


def _bytes(built: Built) -> int:
    """Size of the training set that a run puts on the device."""
    return sum(table.nbytes for table in (built.experiment.tables or {}).values())


def _check(wanted: Wanted) -> None:
    for name in wanted.methods:
        if not _METHOD.fullmatch(name):
            raise ConfigError(f"--methods: {name!r} is no name of a method")
    if len(set(wanted.methods)) != len(wanted.methods):
        raise ConfigError("--methods names a method twice")
    if wanted.baseline not in wanted.methods:
        raise ConfigError(f"--baseline is {wanted.baseline!r}, which is not among --methods")
    if wanted.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {wanted.seeds}")
    if wanted.search < 0:
        raise ConfigError(f"--search must be at least 0, got {wanted.search}")
    conditions(wanted.fractions, wanted.mismatched)


def _about(wanted: Wanted) -> dict[str, Any]:
    """comparison.json, as this command alone would write it."""
    base = wanted.base.to_dict()
    plain = flatten_config(base)

    def settings(name: str) -> dict[str, Any]:
        own = flatten_config(wanted.config_of(name).to_dict())
        return {key: value for key, value in own.items() if key != "name" and plain.get(key) != value}

    first = int(wanted.base.seed)
    return report.json_ready(
        {
            "title": f"Methods compared on {data_name(wanted.base.data)}",
            "config": base,
            "methods": list(wanted.methods),
            "settings": {name: settings(name) for name in wanted.methods},
            "baseline": wanted.baseline,
            "seeds": list(range(first, first + wanted.seeds)),
            "fractions": sorted(set(map(float, wanted.fractions))),
            "mismatched": sorted({0.0, *map(float, wanted.mismatched)}),
            "search": wanted.search,
            "stress": wanted.stress,
            "metric": wanted.base.eval.metric.removeprefix("val/"),
            "task": "alignment" if task_of(wanted.base.model).aligns else "classification",
            "modalities": [],
            "environment": {},
            "complete": False,
        }
    )


def _merged(found: Mapping[str, Any] | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be compared all in all: the folder's comparison with this command's additions."""
    if found is None:
        return dict(about)
    merged = {**about, "settings": {**found["settings"], **about["settings"]}}
    merged["methods"] = list(dict.fromkeys([*found["methods"], *about["methods"]]))
    for name in ("seeds", "fractions", "mismatched"):
        merged[name] = sorted({*found[name], *about[name]})
    return merged


def _same(
    about: Mapping[str, Any],
    configs: Mapping[str, ConfigDict],
    source: data.PairSource,
    cells: Sequence[Condition],
    done: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The methods that need no runs (see `same_trainings`), less those that have some: their own count."""
    first = about["baseline"]
    ordered = {first: configs[first], **configs}
    train, seed = source.splits["train"], int(configs[first].data_seed)
    sizes = {cell: len(data.few_samples(train, cell.fraction, seed=seed)) for cell in cells}
    trials = {name: _trials(about, name, config) for name, config in ordered.items()}
    trained = {(run["method"], condition_of(run)) for run in done}
    found = same_trainings(ordered, sizes, trials)
    return [one for one in found if (one["method"], condition_of(one)) not in trained]


def _trials(about: Mapping[str, Any], method: str, config: ConfigDict) -> list[dict[str, Any]]:
    """The settings that the search tries with a method; nothing but the configuration as it is without a search."""
    if about["search"] < 2:
        return [{}]
    own = flatten_config(config.to_dict())
    parts, seed = expand_methods(method), int(config.data_seed)
    return draw_trials(config.get("search", ()), parts, about["search"], own, seed=seed)


def _changed(config: ConfigDict, condition: Condition, settings: Mapping[str, Any]) -> ConfigDict:
    """The configuration of a cell."""
    config = with_settings(config, settings)
    config.input.fraction, config.input.mismatched = condition.fraction, condition.mismatched
    return config


@contextlib.contextmanager
def _compiled_once(folder: pathlib.Path) -> Iterator[None]:
    """Methods and amounts of data share many programs; each is compiled once, unless the user keeps a cache anyway."""
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
    shutil.rmtree(cache, ignore_errors=True)  # not after an interruption: the rest will need it


class _Comparison:
    """One call of `compare`, once everything is checked."""

    def __init__(
        self,
        folder: pathlib.Path,
        about: Mapping[str, Any],
        configs: Mapping[str, ConfigDict],
        source: data.PairSource,
        left: Sequence[Group],
        checked: Checked,
        *,
        quiet: bool,
    ):
        self.folder, self.about, self.configs, self.source, self.left = folder, about, configs, source, left
        self.checked = checked
        self.quiet = quiet
        self.metric = report.metric_label(about["metric"], tuple(about["modalities"]))
        self.remaining = Remaining(left, folder / "log.txt", quiet=quiet)

    def run(self) -> None:
        if not self.left:
            return
        chosen = {method: self._search(method) for method in self.configs}
        total = self.remaining.total
        for line in _skipped(self.about["same"]):
            self.remaining.message(line)
        self.remaining.message(f"{total} runs to train: {len(self.about['methods'])} methods; interrupt at any time")
        for group in self.left:
            trial, settings = chosen[group.method]
            self._train(group, trial, settings)

    def _train(self, group: Group, trial: int, settings: Mapping[str, Any]) -> None:
        began = time.monotonic()
        built = self._build(group.method, group.condition, settings)
        for several in self._seeds(built, group):
            shown = self._record(group, several, trial, settings)
            seconds, began = time.monotonic() - began, time.monotonic()
            for trained, text in zip(several, shown, strict=True):
                seed = trained.built.experiment.seed
                self.remaining.done(group.method, group.condition, seed, seconds / len(several), text)

    def _build(self, method: str, condition: Condition, settings: Mapping[str, Any]) -> Built:
        # What was built to check the configurations is used once, and not held in memory any longer.
        ready = self.checked.pop((method, condition), None)
        if ready is not None and not settings:
            return ready
        return build(_changed(self.configs[method], condition, settings), source=self.source)

    def _seeds(self, built: Built, group: Group) -> Iterator[list[Trained]]:
        def folder_of(seed: int) -> pathlib.Path:
            return self.folder / UNFINISHED / _name(group.method, group.condition, seed)

        try:
            yield from train_seeds(built, group.seeds, folder_of, quiet=self.quiet)
        except RunError as error:
            raise RunError(f"{group.method}, {group.condition.words}: {error}") from error

    def _record(self, group: Group, several: Sequence[Trained], trial: int, settings: Mapping[str, Any]) -> list[str]:
        """Measures and writes down runs; returns what the line of each says."""
        metric, seeds = self.about["metric"], [one.built.experiment.seed for one in several]
        largest = group.condition == Condition(max(self.about["fractions"]))
        measured = measure(
            several,
            [self.folder / "runs" / _name(group.method, group.condition, seed) for seed in seeds],
            stress=self.about["stress"],
            keep_embeddings=[largest and seed == self.about["seeds"][0] for seed in seeds],
        )
        for seed, trained, found in zip(seeds, several, measured, strict=True):
            if metric not in found["test"]:
                raise RunError(f"eval.metric is {self.about['config']['eval']['metric']!r}, which test does not give")
            record = {
                "method": group.method,
                "fraction": group.condition.fraction,
                "mismatched": group.condition.mismatched,
                "seed": seed,
                "trial": trial,
                "settings": {**self.about["settings"][group.method], **settings},
                "val": {key: value for key, value in trained.val.items() if key in found["test"]},
                **found,
                "cost": trained.cost,
            }
            for file in ("history", "items", "embeddings"):
                if record[file] is not None:
                    record[file] = record[file].relative_to(self.folder).as_posix()
            records.append(self.folder / records.RUNS, record)
        return [f"{self.metric} {report.as_percent(found['test'])[metric]:.1f} on test" for found in measured]

    def _search(self, method: str) -> tuple[int, dict[str, Any]]:
        """The trial of a method that is best on val, and its settings; test is never looked at."""
        if self.about["search"] < 2:
            return 0, {}
        config, trials = self.configs[method], self.about["search"]
        drawn = _trials(self.about, method, config)
        if nothing_to_search(str(config.train.duration), drawn):
            self.remaining.message(f"{method}: nothing is trained, so there is nothing to search")
            return 0, {}
        path = self.folder / records.TRIALS
        done = {row["trial"]: row for row in records.read(path) if row["method"] == method}
        condition = Condition(max(self.about["fractions"]))
        group = Group(method, condition, tuple(self.about["seeds"][:_SEARCH_SEEDS]))
        for trial, settings in enumerate(drawn):
            if trial not in done:
                done[trial] = self._try(group, trial, settings)
                records.append(path, done[trial])
        values = {trial: row["value"] for trial, row in done.items() if row["value"] is not None}
        if not values:
            raise RunError(f"{method}: none of {trials} trials trained to its end; narrow the ranges of config.search")
        best = best_trial(values)
        self.remaining.message(f"{method}: trial {best} of {trials} is best on val: {drawn[best] or 'nothing changed'}")
        return best, drawn[best]

    def _try(self, group: Group, trial: int, settings: Mapping[str, Any]) -> dict[str, Any]:
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
            trained = [one for several in self._seeds(built, group) for one in several]
        except RunError as error:  # a rate that is too high is a result of a search, not its end
            self.remaining.message(f"{group.method}, trial {trial}: {error}")
            return {**row, "value": None, "values": [None for _ in group.seeds], "error": str(error)}
        values = [one.val[metric] for one in trained]
        value = float(np.mean(values))
        cost = {key: sum(float(one.cost[key] or 0.0) for one in trained) for key in ("steps", "pairs", "seconds")}
        shown = float(np.mean([report.as_percent(one.val)[metric] for one in trained]))
        self.remaining.message(
            f"{group.method}, trial {trial} of {self.about['search']}: {self.metric} {shown:.1f} on val"
        )
        return {**row, "value": value, "values": values, "cost": cost}


def _skipped(same: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is not trained, a line for each method."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in same:
        groups.setdefault((one["method"], one["as"]), []).append(condition_of(one).words)
    for (method, other), words in groups.items():
        yield (
            f"{method} is not trained ({'; '.join(words)}): one batch holds all of train, where the order of samples "
            f"changes nothing, so it is the same as {other}; a smaller input.batch_size gives the order something to do"
        )


def _name(method: str, condition: Condition, seed: int) -> str:
    part = f"{condition.fraction:g}" + (f"-mismatched{condition.mismatched:g}" if condition.mismatched else "")
    return f"{method}/{part}/seed{seed}"
