"""Methods that differ from another one in nothing but an order that no training can see: they need no runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import report
from alignment_jax.assembly.sampling import order_has_no_effect
from alignment_jax.compare.run_matrix import Condition


def same_trainings(
    configs: Mapping[str, ConfigDict],
    sizes: Mapping[Condition, int],
    trials: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Which methods train what another one trains, because one batch holds all of train.

    Args:
      configs: of every method, the one to be kept where two are the same first.
      sizes: samples of train under each condition, the largest amount first.
      trials: the settings that a search tries with each method; `[{}]` without one.

    Returns:
      For each: `method`, `as` (the method that is trained), and the condition.
    """
    found = []
    for condition, size in sizes.items():
        # A search chooses at the largest amount, so there the order must be lost as well.
        largest = next(iter(sizes.values())) if any(len(tried) > 1 for tried in trials.values()) else size
        kept: dict[str, tuple[str, bool]] = {}
        for method, config in configs.items():
            changed = [with_settings(config, settings) for settings in trials[method]]
            lost = all(order_has_no_effect(one, n) for one in changed for n in (largest, size))
            key = json.dumps([_what_matters(one, lost=lost) for one in changed], sort_keys=True, default=str)
            other, other_lost = kept.setdefault(key, (method, lost))
            if other != method and (lost or other_lost):
                found.append({"method": method, "as": other, **condition.to_json()})
    return found


def same_under(about: Mapping[str, Any], condition: Condition) -> dict[str, str]:
    """Method -> the method whose runs stand for its own, from what comparison.json holds."""
    return report.equivalent_methods(about, condition.fraction, condition.mismatched)


def with_settings(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """A copy of a configuration with the settings of a trial, by their dotted names."""
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(dict(settings))
    return changed


def _what_matters(config: ConfigDict, *, lost: bool) -> dict[str, Any]:
    """The configuration without its name, and without what only belongs to an order that nobody sees."""
    plain = {key: value for key, value in config.to_dict().items() if key not in ("name", "search")}
    if lost or plain["sampling"]["name"] == "shuffle":
        plain["sampling"] = "any"
    return plain
