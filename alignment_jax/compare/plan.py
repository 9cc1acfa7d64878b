"""What a comparison still has to train; everything is checked before anything is written."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import data, report
from alignment_jax.assembly.allowed_values import check_settings
from alignment_jax.assembly.build import Built, build
from alignment_jax.assembly.tasks import task_of
from alignment_jax.compare import run_records as records
from alignment_jax.compare.equivalent_methods import equivalent_under, find_equivalent_methods, with_settings
from alignment_jax.compare.run_matrix import DataCondition, SeedGroup, condition_of, data_conditions, missing_runs
from alignment_jax.compare.search import draw_trials
from alignment_jax.config.limits import check_limits
from alignment_jax.config.recipes import expand_methods
from alignment_jax.config.titles import data_name
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.jsonl import read_rows
from alignment_jax.train.workdir import flatten_config

_METHOD = re.compile(r"[\w+.=-]+")
_LARGEST_CACHED = 64 << 20  # bytes of a training set up to which the build of the check is kept for the training

# What the check of a configuration has built; None where it was too large to keep.
BuildCache = dict[tuple[str, DataCondition], Built | None]


@dataclasses.dataclass(frozen=True)
class ComparisonSettings:
    """The request of one command.

    base: the configuration without any method.
    config_of: method -> its configuration.
    methods, baseline: names; the baseline is one of them.
    seeds: number of seeds, counted from the base's own.
    fractions, mismatched: shares of the training samples.
    search: trials for each method; 0 or 1 for no search.
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


@dataclasses.dataclass(frozen=True)
class ComparisonPlan:
    """The content of comparison.json, the groups that are left to train, and the configurations of their methods."""

    about: dict[str, Any]
    configs: dict[str, ConfigDict]
    left: list[SeedGroup]


def check_comparison(settings: ComparisonSettings) -> None:
    """Checks the settings that need no data.

    Raises:
      ConfigError: the message names the flag or the setting.
    """
    for name in settings.methods:
        if not _METHOD.fullmatch(name):
            raise ConfigError(f"--methods: {name!r} is not a method's name")
    if len(set(settings.methods)) != len(settings.methods):
        raise ConfigError("--methods names a method twice")
    if settings.baseline not in settings.methods:
        raise ConfigError(f"--baseline is {settings.baseline!r}, which is not among --methods")
    if settings.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {settings.seeds}")
    if settings.search < 0:
        raise ConfigError(f"--search must be at least 0, got {settings.search}")
    data_conditions(settings.fractions, settings.mismatched)
    for config in map(settings.config_of, settings.methods):
        check_settings(config)
        check_limits(config)


def comparison_facts(settings: ComparisonSettings) -> dict[str, Any]:
    """The content of comparison.json for one command alone."""
    base = settings.base.to_dict()
    base_values = flatten_config(base)

    def changes(name: str) -> dict[str, Any]:
        own = flatten_config(settings.config_of(name).to_dict())
        return {key: value for key, value in own.items() if key != "name" and base_values.get(key) != value}

    first = int(settings.base.seed)
    return report.json_ready(
        {
            "title": f"Methods compared on {data_name(settings.base.data)}",
            "config": base,
            "methods": list(settings.methods),
            "settings": {name: changes(name) for name in settings.methods},
            "baseline": settings.baseline,
            "seeds": list(range(first, first + settings.seeds)),
            "fractions": sorted(set(map(float, settings.fractions))),
            "mismatched": sorted({0.0, *map(float, settings.mismatched)}),
            "search": settings.search,
            "stress": settings.stress,
            "metric": settings.base.eval.metric.removeprefix("val/"),
            "task": "alignment" if task_of(settings.base.model).aligns else "classification",
            "modalities": [],
            "environment": {},
            "complete": False,
        }
    )


def make_plan(
    folder: pathlib.Path,
    settings: ComparisonSettings,
    about: Mapping[str, Any],
    source: data.PairSource,
    fingerprints: Mapping[str, str],
    builds: BuildCache,
) -> ComparisonPlan:
    """Adds a command to the comparison in its folder and lists the runs that are missing. Writes nothing.

    Args:
      folder, settings: as for `engine.compare`.
      about: `comparison_facts` of this command.
      source: the data set of `settings.base`.
      fingerprints: of its splits.
      builds: receives the builds of the configuration check.

    Raises:
      ConfigError, DataError: one line.
    """
    about = _merged(records.check_same_comparison(folder, about), about)
    about["data"] = records.check_same_data(folder, fingerprints)
    if "test" not in source.splits:
        raise DataError(f"{settings.base.data}: it has no split 'test', and a comparison is judged on test")
    conditions = data_conditions(about["fractions"], about["mismatched"])
    done = read_rows(folder / records.RUNS)
    configs = {name: settings.config_of(name) for name in about["methods"]}
    about["same"] = _equivalent_methods(about, configs, source, conditions, done)
    left = [
        group
        for group in missing_runs(about["methods"], conditions, about["seeds"], done)
        if group.method not in equivalent_under(about, group.condition)
    ]
    configs = {name: configs[name] for name in dict.fromkeys(group.method for group in left)}
    _build_each(configs, DataCondition(min(about["fractions"])), source, builds)
    return ComparisonPlan(about, configs, left)


def method_trials(about: Mapping[str, Any], method: str, config: ConfigDict) -> list[dict[str, Any]]:
    """The settings that the search tries with a method; `[{}]` without a search."""
    if about["search"] < 2:
        return [{}]
    own = flatten_config(config.to_dict())
    parts, seed = expand_methods(method), int(config.data_seed)
    return draw_trials(config.get("search", ()), parts, about["search"], own, seed=seed)


def config_under(config: ConfigDict, condition: DataCondition, settings: Mapping[str, Any]) -> ConfigDict:
    """A method's configuration under a data condition, with the settings of a trial."""
    config = with_settings(config, settings)
    config.input.fraction, config.input.mismatched = condition.fraction, condition.mismatched
    return config


def _build_each(
    configs: Mapping[str, ConfigDict], condition: DataCondition, source: data.PairSource, builds: BuildCache
) -> None:
    """Builds every method once: a mistake in the last method must not show after hours."""
    for name, config in configs.items():
        if (name, condition) not in builds:
            built = build(config_under(config, condition, {}), source=source)
            size = sum(table.nbytes for table in (built.experiment.tables or {}).values())
            builds[name, condition] = built if size <= _LARGEST_CACHED else None


def _merged(found: Mapping[str, Any] | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's comparison with this command's additions."""
    if found is None:
        return dict(about)
    merged = {**about, "settings": {**found["settings"], **about["settings"]}}
    merged["methods"] = list(dict.fromkeys([*found["methods"], *about["methods"]]))
    for name in ("seeds", "fractions", "mismatched"):
        merged[name] = sorted({*found[name], *about[name]})
    return merged


def _equivalent_methods(
    about: Mapping[str, Any],
    configs: Mapping[str, ConfigDict],
    source: data.PairSource,
    conditions: Sequence[DataCondition],
    done: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The methods that need no runs (`find_equivalent_methods`), except those that already have runs."""
    first = about["baseline"]
    ordered = {first: configs[first], **configs}
    train, seed = source.splits["train"], int(configs[first].data_seed)
    sizes = {condition: len(data.few_samples(train, condition.fraction, seed=seed)) for condition in conditions}
    trials = {name: method_trials(about, name, config) for name, config in ordered.items()}
    trained = {(run["method"], condition_of(run)) for run in done}
    found = find_equivalent_methods(ordered, sizes, trials)
    return [row for row in found if (row["method"], condition_of(row)) not in trained]
