"""What fine-tuning changed: metrics of the start and of the trained model, on the run's data and on a control set."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.build import Built
from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.types import PyTree
from alignment_jax.inference.class_prompts import class_numbers, zero_shot_accuracy
from alignment_jax.inference.trained_model import TrainedModel, signature
from alignment_jax.train import processes
from alignment_jax.train.loop import evaluation_variables, initial_state

Metrics = dict[str, float]
CONTROL = "control"


def before_and_after(built: Built, config: ConfigDict, variables: PyTree) -> dict[str, dict[str, Metrics]]:
    """Name of a split, and "control" for `eval.control` -> "before" and "after" -> metrics.

    Every process must make the same call: all share the embeddings and the ranks.

    Args:
      built: the run.
      config: of the run.
      variables: of the trained model.

    Raises:
      DataError: the control set cannot be read, or its items are of another kind or size.
    """
    experiment = built.experiment
    ends = {"before": evaluation_variables(initial_state(experiment)), "after": variables}
    found = {
        name: {when: experiment.evaluate(one, split, everywhere=True) for when, one in ends.items()}
        for name, split in experiment.evaluations.items()
    }
    # A control set that one process cannot read is an error of all.
    loaded: list[Callable[[PyTree], Metrics] | None] = []
    processes.compute_on_all(lambda: loaded.append(control_metrics(built, config)))
    if (measure := loaded[0]) is not None:
        found[CONTROL] = {when: measure(one) for when, one in ends.items()}
    return found


def control_metrics(built: Built, config: ConfigDict) -> Callable[[PyTree], Metrics] | None:
    """variables -> metrics of the control set: its test split, or all of it where it has no splits.

    Args:
      built: the run.
      config: of the run. `eval.control` names the data; `eval.control_prompts` a file of class prompts, for the
        accuracy of zero-shot classification in place of the metrics of the run's task.

    Returns:
      A function that every process must call alike; None without a control set.

    Raises:
      ConfigError: prompts without a control set, or for a classifier.
      DataError: the control set or the prompts cannot be read, or do not fit the run.
    """
    settings, task = config.eval, task_of(config.model)
    if settings.control_prompts and not (settings.control and task.aligns):
        reason = "its model is a classifier" if settings.control else "eval.control names no labelled data"
        raise ConfigError(f"eval.control_prompts is {settings.control_prompts}, but {reason}")
    if not settings.control:
        return None
    source = data.load(settings.control, seed=config.data_seed, on_bad_sample=config.input.on_bad_sample)
    split = source.splits.get("test") or next(iter(source.splits.values()))
    prepared = built.inputs.prepared(split)
    own = signature(built.splits["train"], built.experiment.first_batch)
    found = signature(split, built.inputs.first_batch(prepared))
    if own != found:
        raise DataError(
            f"eval.control={settings.control}: its items are {found}, but the run reads {own}; name data "
            "of the same kind"
        )
    if not settings.control_prompts:
        evaluated = task.split(settings, prepared, built.inputs)
        return lambda variables: built.experiment.evaluate(variables, evaluated, everywhere=True)
    prompts = data.load_prompts(pathlib.Path(settings.control_prompts).expanduser())
    class_numbers(source, split, prompts, setting="eval.control_prompts")  # its errors come before the training

    def classify(variables: PyTree) -> Metrics:
        model = built.experiment.model
        trained = TrainedModel(config, 0, built.inputs, variables, model, reads=own)
        return zero_shot_accuracy(trained, source, split, prompts)

    return lambda variables: processes.compute_on_primary(lambda: classify(variables))


def comparison_lines(found: dict[str, dict[str, Metrics]], metric: str) -> list[str]:
    """One line for each split: the metric before and after; the first one where a control set has others."""
    lines, usual = [], metric.removeprefix("val/")
    for split, each in found.items():
        name = usual if usual in each["before"] else next(iter(each["before"]))
        lines.append(f"{split}: {name} {each['before'][name]:.4g} before fine-tuning, {each['after'][name]:.4g} after")
    return lines
