"""Methods that differ only in the order of samples, where one batch holds all of train: they need no runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import report
from alignment_jax.assembly.sampling import order_has_no_effect
from alignment_jax.compare.run_matrix import DataCondition


def find_equivalent_methods(
    configs: Mapping[str, ConfigDict],
    sizes: Mapping[DataCondition, int],
    trials: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Methods whose training equals another method's, because one batch holds all of train.

    Args:
      configs: method -> configuration. Of equivalent methods, the first is trained.
      sizes: samples of train under each data condition, the largest first.
      trials: the settings that a search tries with each method; `[{}]` without a search.

    Returns:
      A row for each: `method`, `as` (the method that is trained), and the condition.
    """
    found = []
    for condition, size in sizes.items():
        # A search runs on the largest amount of data, so one batch must hold all of that, too.
        largest = next(iter(sizes.values())) if any(len(tried) > 1 for tried in trials.values()) else size
        kept: dict[str, tuple[str, bool]] = {}
        for method, config in configs.items():
            changed = [with_settings(config, settings) for settings in trials[method]]
            lost = all(order_has_no_effect(one, n) for one in changed for n in (largest, size))
            key = json.dumps([_training_settings(one, lost=lost) for one in changed], sort_keys=True, default=str)
            other, other_lost = kept.setdefault(key, (method, lost))
            if other != method and (lost or other_lost):
                found.append({"method": method, "as": other, **condition.to_json()})
    return found


def equivalent_under(about: Mapping[str, Any], condition: DataCondition) -> dict[str, str]:
    """Method -> the equivalent method that has the runs, from comparison.json (`about`)."""
    return report.equivalent_methods(about, condition.fraction, condition.mismatched)


def with_settings(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """A copy of a configuration with the settings of a trial, by their dotted names."""
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(dict(settings))
    return changed


def _training_settings(config: ConfigDict, *, lost: bool) -> dict[str, Any]:
    """The settings that change a training: no name, and no order where one batch holds all samples."""
    plain = {key: value for key, value in config.to_dict().items() if key not in ("name", "search")}
    if lost or plain["sampling"]["name"] == "shuffle":
        plain["sampling"] = "any"
    return plain
