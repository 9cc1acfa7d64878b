"""From a configuration to an experiment: every name becomes a function, every duration a number of steps."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, models
from alignment_jax.assembly.cca_start import with_start
from alignment_jax.assembly.classifier import (
    build_classification,
    build_classifier,
    check_classification,
    classifies,
)
from alignment_jax.assembly.cluster_sizes import with_cluster_sizes
from alignment_jax.assembly.device_data import resident_tables
from alignment_jax.assembly.duplicate_ids import content_numbers, duplicate_notes
from alignment_jax.assembly.flax_modules import pure_functions
from alignment_jax.assembly.inferred_settings import cut_line, cut_texts, with_decided_length, with_decided_range
from alignment_jax.assembly.inputs import (
    Inputs,
    build_inputs,
    samples_as_they_are,
    tokenizer_for,
    training_batches,
)
from alignment_jax.assembly.known_names import check_names
from alignment_jax.assembly.methods import Facts, build_objective, learned_scalars, needs_cluster_sizes
from alignment_jax.assembly.modality_checks import check_kinds, sides, with_vocabulary
from alignment_jax.assembly.sampling import build_sampler, epoch_lengths, order_is_lost, with_scores
from alignment_jax.assembly.tasks import check_metric, task_of
from alignment_jax.assembly.warm_start import starting_run, starting_tokenizer, with_run_start
from alignment_jax.config.durations import parse_duration
from alignment_jax.config.limits import check_limits
from alignment_jax.core.errors import ConfigError
from alignment_jax.train import processes
from alignment_jax.train.evaluation import Embedder, embedder_of
from alignment_jax.train.experiment import Experiment, Model, Plan
from alignment_jax.train.gradient_cache import in_micro_batches, refuse_batch_statistics
from alignment_jax.train.objective import Objective
from alignment_jax.train.optimizer import learning_rate_schedule, make_optimizer
from alignment_jax.train.step import AXIS

# A split with fewer samples than this is not evaluated without a word.
FEW = 10
# Rows of a mapped array, evenly spaced, by which processes find out that they have other data.
PROBED = 256


@dataclasses.dataclass(frozen=True)
class Built:
    """An experiment with what the command line also needs: the data, its inputs and notes for the person.

    source: the data set as it was found.
    shown: the training split as batches are read from it; row numbers in place of items that live on the device.
    """

    experiment: Experiment
    splits: dict[str, data.PairSplit]
    shown: data.PairSplit
    inputs: Inputs
    source: data.PairSource
    notes: tuple[str, ...]

    @property
    def evaluator(self) -> Embedder:
        """Embeds splits with the model's encoders, which are compiled once for all that is done with a run.

        Raises:
          ValueError: the run is a classifier.
        """
        return embedder_of(self.experiment.evaluate)


def load_data(config: ConfigDict, spec: str) -> data.PairSource:
    """A data set as it is, read as the configuration says."""
    source = data.load(spec, seed=config.data_seed, on_bad_sample=config.input.on_bad_sample)
    if classifies(config):
        return source
    return data.complete_samples(source, on_bad_sample=config.input.on_bad_sample)


def load_source(config: ConfigDict) -> data.PairSource:
    """The configuration's data set with train, val and test."""
    split = data.with_splits(load_data(config, config.data), seed=config.data_seed)
    if "train" not in split.splits:
        raise ConfigError(f"{config.data}: no sample is in the split 'train'; training needs one")
    return split


def build(
    config: ConfigDict,
    *,
    source: data.PairSource | None = None,
    tokenizer_file: pathlib.Path | None = None,
    resuming: bool = False,
) -> Built:
    """Everything that `train.fit` needs. Nothing is written.

    Args:
      config: the configuration, complete.
      source: the data set, when it is already at hand.
      tokenizer_file: a tokenizer that an earlier part of the same run saved.
      resuming: the run goes on from a checkpoint: another run that it started from is not read again.

    Raises:
      ConfigError, DataError: one line that names the setting, or the file and row.
    """
    check_names(config)
    check_limits(config)
    source = load_source(config) if source is None else source
    if processes.several():  # before anything is computed of it
        processes.check_equal("data set", json.dumps(data.fingerprints(source.splits, probe=PROBED)))
    check_metric(config, source.splits)
    config, source, pixel_notes = with_decided_range(config, source)
    train = data.few_samples(source.splits["train"], config.input.fraction, seed=config.data_seed)
    check_kinds(config, train)
    if classifies(config):
        check_classification(config, train, source)
    train = data.mismatch(train, config.input.mismatched, seed=config.data_seed)
    whole = train
    train, sizes = (
        train.replace(cluster_size=None, cluster_size_b=None),
        None,
    )  # a batch carries only what its methods read
    if needs_cluster_sizes(config):
        train, sizes = with_cluster_sizes(config, whole)
    train = train.replace(**content_numbers(config, train))
    tokenizer = tokenizer_for(config, train, tokenizer_file or starting_tokenizer(config))
    asked_length, config = config.input.max_length, with_decided_length(config, train, tokenizer)
    kinds = {side: column.kind for side, column in sides(train).items()}
    inputs = build_inputs(config, kinds, hints=source.hints, tokenizer=tokenizer)
    splits = {**source.splits, "train": train}
    cut = {} if tokenizer is None else {n: cut_texts(s, tokenizer, config.input.max_length) for n, s in splits.items()}
    prepared = {name: inputs.prepared(split) for name, split in splits.items()}
    train = prepared["train"]

    devices = _devices(config)
    batch_size = _batch_size(config, len(train))
    # Intervals count in epochs of the whole set; what is counted from the start, in the epochs that are shown.
    steps_per_epoch = max(1, len(train) // batch_size)
    sampler = build_sampler(config, len(train), train)
    of_epochs = epoch_lengths(sampler, batch_size=batch_size, halves=config.perturb.fusemix > 0)
    total_steps = parse_duration(config.train.duration, name="train.duration").steps(
        steps_per_epoch=steps_per_epoch, batch_size=batch_size, of_epochs=of_epochs
    )
    if total_steps < 1 and config.init.name == "random":
        raise ConfigError(
            f"train.duration is {config.train.duration!r}: there is nothing to train, and init.name=random starts from "
            "nothing (init.name=cca starts from the closed form, init.name=run:DIR from another run)"
        )

    def steps(text: str, name: str) -> int:
        return parse_duration(text, name=name).steps(
            steps_per_epoch=steps_per_epoch, batch_size=batch_size, total_steps=total_steps
        )

    latents = train.a.kind == "embedding"
    scales: tuple[jax.Array | None, jax.Array | None] = (None, None)
    if latents and config.perturb.relative:
        found = processes.compute_on_primary(lambda: {"a": _scale(train.a), "b": _scale(train.b)})
        scales = (jnp.float32(found["a"]), jnp.float32(found["b"]))
    objective: Objective
    if classifies(config):
        objective = build_classification(config, train, classes=len(source.label_names or ()))
    else:
        objective = build_objective(config, Facts(steps, total_steps, sizes=sizes, scales=scales, latents=latents))
    objective = with_scores(config, objective, sampler)
    accumulate = config.optimizer.accumulate
    if 0 < total_steps < accumulate:
        raise ConfigError(
            f"optimizer.accumulate is {accumulate}, but the whole training has {total_steps} steps: nothing would move"
        )
    updates = max(1, total_steps // max(1, accumulate))
    schedule = learning_rate_schedule(
        config.optimizer.schedule,
        peak=config.optimizer.learning_rate,
        final=config.optimizer.final_learning_rate,
        warmup_steps=steps(config.optimizer.warmup, "optimizer.warmup") // max(1, accumulate),
        total_steps=updates,
        drops=_drops(config, steps_per_epoch, batch_size, total_steps, of_epochs),
        drop_factor=config.optimizer.drop_factor,
    )
    optimizer = make_optimizer(
        config.optimizer.name,
        schedule,
        mask=models.decay_mask,
        **{name: config.optimizer[name] for name in ("weight_decay", "b1", "b2", "momentum", "clip", "accumulate")},
    )
    classes = len(source.label_names or ())
    model = build_model(config, tokenizer=tokenizer, classes=classes, several=len(devices) > 1)
    first_batch = inputs.first_batch(train)
    if starting_run(config) is None:
        model, chosen = with_start(config, model, train, prepared.get("val"), names=source.modalities[:2])
    elif resuming:
        chosen = (f"it started from the best parameters of {starting_run(config)}",)
    else:
        model, chosen = with_run_start(config, model, first_batch, labels=source.label_names or ())
    # What the model refuses, it refuses here, where no workdir has been touched.
    _, model_state = jax.eval_shape(model.init, jax.random.key(0), *first_batch)
    if config.optimizer.micro_batch:
        refuse_batch_statistics(model_state)
        cached = in_micro_batches(model.apply, micro_batch=config.optimizer.micro_batch)
        model = dataclasses.replace(model, apply=cached)
    messages = tuple(chosen)
    if classifies(config):
        messages = (*data.missing_notes(source.splits, source.modalities), *data.class_notes(source), *chosen)
    tables, shown = resident_tables(config, train)
    task = task_of(config)
    evaluate = task.evaluation(config, model)
    experiment = Experiment(
        config=config.to_dict(),
        seed=config.seed,
        model=model,
        objective=objective,
        optimizer=optimizer,
        learning_rate=lambda step: float(schedule(step // max(1, accumulate))),
        plan=Plan(
            total_steps=total_steps,
            log_every=steps(config.log.interval, "log.interval"),
            evaluate_every=steps(config.eval.interval, "eval.interval"),
            save_every=steps(config.checkpoint.interval, "checkpoint.interval"),
            patience=config.eval.patience,
            metric=config.eval.metric,
            average_decay=config.optimizer.ema,
            accumulate=accumulate,
            keep_checkpoints=config.checkpoint.keep,
            evaluate_start=config.init.name != "random",
        ),
        batch_size=batch_size,
        sampler=sampler,
        batches=training_batches(config, shown, inputs),
        first_batch=first_batch,
        scoring_batches=samples_as_they_are(config, train, inputs),
        evaluations={name: task.split(config, split, inputs) for name, split in prepared.items() if name != "train"},
        evaluate=evaluate,
        evaluate_for_log=getattr(evaluate, "evaluate_for_log", None),
        evaluate_seeds_for_log=getattr(evaluate, "evaluate_seeds_for_log", None),
        devices=devices,
        halves=config.perturb.fusemix > 0,
        tables=tables,
        messages=messages,
        names=tuple(source.modalities),
    )
    cut_note = cut_line(cut, config.input.max_length, setting=asked_length)
    notes = (
        *source.notes,
        *source.problems,
        *pixel_notes,
        *([] if cut_note is None else [cut_note]),
        *messages,
        *duplicate_notes(config, train),
        *_cautions(config, prepared, total_steps, source.modalities),
    )
    return Built(experiment, splits, shown, inputs, source, notes)


def _cautions(
    config: ConfigDict, splits: Mapping[str, data.PairSplit], total_steps: int, names: tuple[str, ...]
) -> Iterator[str]:
    """What a person would want to know before the run, though nothing is wrong with it."""
    n = len(splits["train"])
    if not classifies(config):
        lines = (data.duplicates_note(name, data.count_duplicates(split), names) for name, split in splits.items())
        yield from filter(None, lines)
    if config.input.batch_size > n:
        yield f"input.batch_size is {config.input.batch_size}, but train has {n} samples: a batch holds all of them"
    if order_is_lost(config, n):
        yield f"sampling.name={config.sampling.name} changes nothing: one batch holds all of train, whatever the order"
    accumulate = config.optimizer.accumulate
    if unused := total_steps % accumulate:
        whole = total_steps - unused
        yield (
            f"optimizer.accumulate is {accumulate} and training has {total_steps} steps: the last {unused} "
            f"{'batch makes' if unused == 1 else 'batches make'} no update; set train.duration to '{whole} steps' or "
            f"'{whole + accumulate} steps' to use every batch"
        )
    for name, split in splits.items():
        if name != "train" and len(split) < FEW:
            yield f"{name} has {len(split)} samples: its numbers, and what is chosen by them, say little"


def with_seed(built: Built, seed: int) -> Built:
    """The same run with another seed, as `build` would make it, without reading or preparing the data again.

    Model, objective and optimizer are the very same objects, so that what is compiled for one seed serves the others.
    """
    experiment = built.experiment
    config = ConfigDict({**experiment.config, "seed": seed})
    changed = dataclasses.replace(
        experiment,
        config=config.to_dict(),
        seed=seed,
        sampler=dataclasses.replace(experiment.sampler, seed=seed),
        batches=training_batches(config, built.shown, built.inputs),
    )
    return dataclasses.replace(built, experiment=changed)


def _drops(config: ConfigDict, steps_per_epoch: int, batch_size: int, total_steps: int, of_epochs: Any) -> list[int]:
    """The updates at which a staircase of learning rates goes down."""
    duration = parse_duration(config.optimizer.drop_every, name="optimizer.drop_every")
    drops: list[int] = []
    if config.optimizer.schedule != "staircase":
        return drops
    while duration.amount > 0:
        multiple = dataclasses.replace(duration, amount=duration.amount * (len(drops) + 1))
        at = multiple.steps(
            steps_per_epoch=steps_per_epoch, batch_size=batch_size, total_steps=total_steps, of_epochs=of_epochs
        )
        if at >= total_steps:
            break
        drops.append(at)
    return [at // max(1, config.optimizer.accumulate) for at in drops]


def build_model(
    config: ConfigDict,
    *,
    tokenizer: Any = None,
    classes: int = 0,
    several: bool = False,
    learned: Mapping[str, bool] | None = None,
) -> Model:
    """The model as pure functions: towers with the temperature of `config.temperature`, or a classifier.

    Args:
      config: the whole configuration.
      tokenizer: of a model that reads texts.
      classes: of a classifier.
      several: whether batches are split over devices.
      learned: see `learned_scalars`; None for what the configured loss says.
    """
    if classifies(config):
        return build_classifier(config, classes=classes, tokenizer=tokenizer, several=several)
    options = config.model.to_dict()
    name = options.pop("name")
    low, high = config.temperature.min, config.temperature.max
    options |= {
        "temperature": config.temperature.init,
        "temperature_min": low,
        "temperature_max": high,
        **(learned_scalars(config) if learned is None else learned),
    }
    options = with_vocabulary(options, tokenizer, config.input.max_length)
    module = models.build_model(name, axis_name=AXIS if several else None, **options)

    init, apply = pure_functions(module)

    def encode(method: str):
        return lambda params, model_state, items: module.apply({"params": params, **model_state}, items, method=method)

    return Model(
        init=init,
        apply=apply,
        encode_a=encode("encode_a"),
        encode_b=encode("encode_b"),
        project=lambda params: models.clamp_temperature(params, temperature_min=low, temperature_max=high),
    )


def _devices(config: ConfigDict) -> list[jax.Device]:
    # The devices of a process side by side, which `jax.devices` does not promise on a pod.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    wanted = config.train.devices
    if wanted > len(devices) or wanted < 0:
        raise ConfigError(f"train.devices is {wanted}, but there are {len(devices)} devices; 0 takes all of them")
    if jax.process_count() > 1 and wanted not in (0, len(devices)):
        raise ConfigError(
            f"train.devices is {wanted}, but {jax.process_count()} processes train on all of their {len(devices)} "
            "devices; set it to 0"
        )
    return devices[:wanted] if wanted else devices


def _batch_size(config: ConfigDict, n: int) -> int:
    """The batch size, or the whole training split where that is smaller."""
    if config.input.batch_size < 1:
        raise ConfigError(f"input.batch_size must be at least 1, got {config.input.batch_size}")
    return min(config.input.batch_size, n)


def _scale(column: data.Column) -> float:
    """Standard deviation of all numbers of a column of latents: the unit of relative noise.

    A mapped column is not read as a whole: some ten thousand rows, evenly spaced, say it to a thousandth.
    """
    rows = np.arange(len(column))
    if isinstance(column, data.ArrayColumn) and column.mapped:
        rows = rows[:: max(1, len(rows) // 16384)]
    return float(np.std(column.read(rows), dtype=np.float64))
