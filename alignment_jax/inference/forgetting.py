"""What fine-tuning changed: metrics of the start and of the trained model, on the run's data and on a control set."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.build import Built
from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.errors import DataError
from alignment_jax.core.types import PyTree
from alignment_jax.inference.trained_model import signature
from alignment_jax.train.loop import evaluation_variables, initial_state


def before_and_after(built: Built, config: ConfigDict, variables: PyTree) -> dict[str, dict[str, dict[str, float]]]:
    """Name of a split, and "control" for `eval.control` -> "before" and "after" -> metrics.

    Args:
      built: the run.
      config: of the run.
      variables: of the trained model.

    Raises:
      DataError: the control set cannot be read, or its items are of another kind or size.
    """
    experiment = built.experiment
    start = evaluation_variables(initial_state(experiment))
    splits = dict(experiment.evaluations)
    if config.eval.control:
        splits["control"] = control_split(built, config)
    return {
        name: {when: experiment.evaluate(one, split) for when, one in (("before", start), ("after", variables))}
        for name, split in splits.items()
    }


def control_split(built: Built, config: ConfigDict) -> Any:
    """The control set for the run's evaluation: its test split, or all of it where it has no splits."""
    source = data.load(config.eval.control, seed=config.data_seed, on_bad_sample=config.input.on_bad_sample)
    split = source.splits.get("test") or next(iter(source.splits.values()))
    prepared = built.inputs.prepared(split)
    own = signature(built.splits["train"], built.experiment.first_batch)
    found = signature(split, built.inputs.first_batch(prepared))
    if own != found:
        raise DataError(
            f"eval.control={config.eval.control}: its items are {found}, but the run reads {own}; name data "
            "of the same kind"
        )
    return task_of(config.model).split(config.eval, prepared, built.inputs)


def comparison_lines(found: dict[str, dict[str, dict[str, float]]], metric: str) -> list[str]:
    """One line for each split: the metric before and after."""
    name = metric.removeprefix("val/")
    return [
        f"{split}: {name} {each['before'][name]:.4g} before fine-tuning, {each['after'][name]:.4g} after"
        for split, each in found.items()
    ]
