"""Builds an experiment from a configuration; `build` lists the steps."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, models
from alignment_jax.assembly.allowed_values import check_settings
from alignment_jax.assembly.balance import BalancedRun, build_balance, feature_widths
from alignment_jax.assembly.cca_start import is_weighted, linear_teacher, start_from_cca
from alignment_jax.assembly.checkpoint_inputs import checkpoint_encoders
from alignment_jax.assembly.classifier import build_classification, head_names
from alignment_jax.assembly.cross_validated_settings import (
    chooses_by_cross_validation,
    with_cross_validated_settings,
)
from alignment_jax.assembly.data_loading import check_same_on_all_processes, load_data, load_source
from alignment_jax.assembly.device_data import device_tables
from alignment_jax.assembly.devices import training_devices
from alignment_jax.assembly.duplicate_ids import duplicate_notes
from alignment_jax.assembly.hubness import BankItems, choose_bank_items
from alignment_jax.assembly.inputs import Inputs, scoring_batches, training_batches
from alignment_jax.assembly.latent_scales import latent_scales
from alignment_jax.assembly.loss_precision import precision_notes
from alignment_jax.assembly.methods import build_objective, logit_scale_options, registered_loss
from alignment_jax.assembly.model_functions import build_model_functions, with_micro_batches
from alignment_jax.assembly.optimization import build_optimizer, check_accumulation, check_layer_decay
from alignment_jax.assembly.prepared_data import PreparedData, prepare_data
from alignment_jax.assembly.regularizers import Regularized, Teacher, build_regularizers
from alignment_jax.assembly.run_notes import (
    accumulation_note,
    batch_note,
    classifier_notes,
    repeat_notes,
    small_split_notes,
)
from alignment_jax.assembly.sampling import build_sampler, order_has_no_effect, sampling_criteria, with_score_tracking
from alignment_jax.assembly.step_counts import StepCounts, count_steps
from alignment_jax.assembly.tasks import check_metric, task_of
from alignment_jax.assembly.tower_latents import as_latents, needs_tower_latents, with_settings_of
from alignment_jax.assembly.tuned_parameters import tuning_notes
from alignment_jax.assembly.unpaired import Pools, unpaired_pools, with_unpaired
from alignment_jax.assembly.warm_start import source_run, start_from_run
from alignment_jax.balance import BalanceMethod
from alignment_jax.config.limits import check_limits
from alignment_jax.core.deprecation import renamed_attributes, renamed_names
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import Batch
from alignment_jax.sampling.sampler import Sampler
from alignment_jax.train.diagnostics import parse_steps
from alignment_jax.train.encoder_parameters import encoder_paths
from alignment_jax.train.evaluation import Embedder, embedder_of
from alignment_jax.train.experiment import Experiment, Model, Plan
from alignment_jax.train.objective import Objective

__all__ = ["Built", "build", "configured_model", "load_data", "load_source", "with_seed"]


@renamed_attributes({"shown": "loader_split"})
@dataclasses.dataclass(frozen=True)
class Built:
    """An experiment, with the data, inputs and notes that commands also need.

    experiment: for `train.loop.fit`.
    splits: every split of the data set; train after `input.fraction` and `input.mismatched`.
    loader_split: the training split that batches are read from; row numbers in place of items that stay on the device.
    inputs: the input pipeline.
    source: the data set as it was loaded.
    notes: lines to print before training.
    unpaired: latents without partners that batches hold beside the pairs, by their name there.
    bank_items: of the query bank; None for a classifier, and for `eval.bank_size=0`.
    """

    experiment: Experiment
    splits: dict[str, data.PairSplit]
    loader_split: data.PairSplit
    inputs: Inputs
    source: data.PairSource
    notes: tuple[str, ...]
    unpaired: Pools = dataclasses.field(default_factory=dict)
    bank_items: BankItems | None = None

    @property
    def evaluator(self) -> Embedder:
        """Embeds splits with the model's encoders, compiled once for all evaluations of a run.

        Raises:
          ValueError: the run is a classifier.
        """
        return embedder_of(self.experiment.evaluate)


def build(
    config: ConfigDict,
    *,
    source: data.PairSource | None = None,
    tokenizer_file: pathlib.Path | None = None,
    resuming: bool = False,
) -> Built:
    """Builds everything that `train.loop.fit` needs. Writes no files.

    Args:
      config: the complete configuration.
      source: the data set, where it is already loaded.
      tokenizer_file: the tokenizer that an earlier part of the same run saved.
      resuming: the run resumes from a checkpoint, so the run in `init.name=run:DIR` is not read.

    Raises:
      ConfigError, DataError: one line that names the setting, or the file and row.
    """
    check_settings(config)
    check_limits(config)
    cross_validates = chooses_by_cross_validation(config)
    source = load_source(config) if source is None else source
    check_same_on_all_processes(source)
    if config.train.interpolate != "none" and "val" not in source.splits:
        raise ConfigError("train.interpolate=val chooses on a split val, which the data lacks; set it to none")
    check_metric(config.eval.metric, config.model, source.splits, spec=config.data)
    prepared = prepare_data(config, source, saved_tokenizer=tokenizer_file)
    # The closed form of towers reads what they give before the first step.
    linear = as_latents(prepared) if needs_tower_latents(config) else prepared
    if cross_validates:
        size = _batch_size(config.input.batch_size, len(prepared.train))
        chosen = with_cross_validated_settings(linear, batch_size=size)
        prepared = chosen if linear is prepared else with_settings_of(prepared, chosen)
        linear = chosen
    config, source, train, inputs = prepared.config, prepared.source, prepared.train, prepared.inputs
    task = task_of(config.model)
    devices = training_devices(config.train.devices)
    batch_size = _batch_size(config.input.batch_size, len(train))
    sampler = _sampler(config, train)
    halves = config.perturb.fusemix > 0
    steps = count_steps(
        config.train.duration, sampler, batch_size=batch_size, halves=halves, start=str(config.init.name)
    )
    classes = len(source.label_names or ())
    model = configured_model(config, tokenizer=inputs.tokenizer, classes=classes, several=len(devices) > 1)
    first_batch = inputs.first_batch(train)
    objective, teacher_notes = _objective(prepared, steps, model, first_batch, classes=classes)
    pools, pool_notes = unpaired_pools(config.transport, source, train)
    objective = with_score_tracking(objective, sampler, decay=config.sampling.decay)
    check_accumulation(config.optimizer, steps.total)
    optimizer, learning_rate = build_optimizer(config.optimizer, steps)
    model, start_notes = _start(prepared, linear, model, first_batch, resuming=resuming)
    check_layer_decay(config.optimizer, model, first_batch)
    model = with_micro_batches(model, first_batch, config.optimizer.micro_batch)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *first_batch)
    messages = (*start_notes, *tuning_notes(config.model, *shapes), *pool_notes, *teacher_notes)
    if not task.aligns:
        messages = (*classifier_notes(source), *messages)
    tables, loader_split = device_tables(config.input, train, pools)
    evaluate = task.evaluation(model, task.heads(config.model, config.classification.predict), devices)
    experiment = Experiment(
        config=config.to_dict(),
        seed=config.seed,
        model=model,
        objective=objective,
        optimizer=optimizer,
        learning_rate=learning_rate,
        plan=_plan(config, steps),
        batch_size=batch_size,
        sampler=sampler,
        batches=_batches(config, loader_split, inputs, pools, devices, on_device=tables is not None),
        first_batch=first_batch,
        scoring_batches=scoring_batches(train, inputs),
        evaluations={n: task.split(config.eval, split, inputs) for n, split in prepared.evaluation_splits.items()},
        evaluate=evaluate,
        evaluate_for_log=getattr(evaluate, "evaluate_for_log", None),
        evaluate_seeds_for_log=getattr(evaluate, "evaluate_seeds_for_log", None),
        devices=devices,
        halves=halves,
        shard=config.train.shard,
        tables=tables,
        messages=messages,
        names=tuple(source.modalities),
    )
    notes = (*prepared.notes, *messages, *_cautions(prepared, steps))
    bank_items = choose_bank_items(config.eval, train, inputs, seed=config.data_seed) if task.aligns else None
    return Built(experiment, prepared.splits, loader_split, inputs, source, notes, pools, bank_items)


def with_seed(built: Built, seed: int) -> Built:
    """The same run with another seed, as `build` would make it, without reading or preparing the data again.

    Model, objective and optimizer are the same objects, so programs compiled for one seed serve the others.
    """
    experiment = built.experiment
    config = ConfigDict({**experiment.config, "seed": seed})
    on_device = experiment.tables is not None
    changed = dataclasses.replace(
        experiment,
        config={**experiment.config, "seed": seed},
        seed=seed,
        sampler=dataclasses.replace(experiment.sampler, seed=seed),
        batches=_batches(
            config, built.loader_split, built.inputs, built.unpaired, experiment.devices, on_device=on_device
        ),
    )
    return dataclasses.replace(built, experiment=changed)


def _batches(
    config: ConfigDict,
    split: data.PairSplit,
    inputs: Inputs,
    pools: Pools,
    devices: list[jax.Device],
    *,
    on_device: bool,
) -> Callable[[np.ndarray, int, int], Iterator[Batch]]:
    """`Experiment.batches`: pairs of the split, and unpaired latents where the method reads them."""
    pairs = training_batches(split, inputs, seed=config.seed)
    size = config.transport.batch_size
    return with_unpaired(pairs, pools, size=size, seed=config.seed, devices=devices, on_device=on_device)


def _batch_size(size: int, n: int) -> int:
    """`input.batch_size`, or the whole training split where that is smaller."""
    if size < 1:
        raise ConfigError(f"input.batch_size must be at least 1, got {size}")
    return min(size, n)


def _sampler(config: ConfigDict, train: data.PairSplit) -> Sampler:
    return build_sampler(
        config.sampling,
        size=len(train),
        seed=config.seed,
        criteria=sampling_criteria(config.model),
        mixes=config.perturb.fusemix > 0,
        split=train,
        spec=config.data,
    )


def _classification(
    prepared: PreparedData, steps: StepCounts, model: Model, first_batch: tuple[np.ndarray, ...], *, classes: int
) -> Objective:
    config, train = prepared.config, prepared.train

    def shapes() -> tuple[Any, Any]:
        return jax.eval_shape(model.init, jax.random.key(0), *first_batch)

    def balance(weights: Mapping[str, float]) -> BalanceMethod:
        run = BalancedRun(
            steps=steps,
            weights=weights,
            widths=lambda: feature_widths(model, shapes(), first_batch),
            classes=max(2, classes),
            size=len(train),
            fusion=config.model.fusion,
            data_seed=config.data_seed,
        )
        method = build_balance(config.balance, run)
        if method.gradients is not None:
            encoder_paths(shapes()[0], run.modalities)
        return method

    heads = head_names(config.model)
    return build_classification(config.classification, heads=heads, label=train.label, classes=classes, balance=balance)


def _objective(
    prepared: PreparedData, steps: StepCounts, model: Model, first_batch: tuple[np.ndarray, ...], *, classes: int
) -> tuple[Objective, tuple[str, ...]]:
    """The objective, and lines for the log."""
    config, train = prepared.config, prepared.train
    if not task_of(config.model).aligns:
        return _classification(prepared, steps, model, first_batch, classes=classes), ()
    notes: list[str] = []

    def teacher() -> Teacher:
        val = prepared.evaluation_splits.get("val")
        found, line = linear_teacher(config.init, config.model, train, val, **_cca_options(prepared))
        notes.append(line)
        return found

    towers = bool(checkpoint_encoders(config.model))
    scales = latent_scales(train, relative=config.perturb.relative, towers=towers)
    if towers and config.optimizer.micro_batch and (config.perturb.sigma or config.perturb.fusemix):
        raise ConfigError(
            "perturb acts on whole batches of the towers' outputs; set optimizer.micro_batch=0, or perturb.sigma=0 and "
            "perturb.fusemix=0"
        )
    sections = ("loss", "temperature", "margin", "smoothing", "perturb", "weighting")
    notes.extend(precision_notes(config.loss, config.temperature))
    objective = build_objective(
        **{name: config[name] for name in sections},
        steps=steps,
        cluster_range=prepared.cluster_range,
        latent_scales=scales,
        regularizers=build_regularizers(config, Regularized(steps, scales.latents, teacher)),
    )
    return objective, tuple(notes)


def _cca_options(prepared: PreparedData) -> dict[str, Any]:
    config = prepared.config
    return dict(
        views=config.eval.views,
        seed=config.data_seed,
        names=prepared.source.modalities[:2],
        devices=training_devices(config.train.devices),
    )


def _start(
    prepared: PreparedData, linear: PreparedData, model: Model, first_batch: Sequence[np.ndarray], *, resuming: bool
) -> tuple[Model, tuple[str, ...]]:
    """The model with the initial parameters of `init.name`, and lines for the log; `linear` is what CCA reads."""
    config, source = prepared.config, prepared.source
    name = str(config.init.name)
    if name == "random":
        if is_weighted(config.init):
            raise ConfigError(
                "init.similarity=weighted_cosine weights by the canonical correlations of init.name=cca, but init.name "
                "is random"
            )
        return model, ()
    folder = source_run(name)
    if folder is None:
        val = linear.evaluation_splits.get("val")
        place = models.init_projection if linear is prepared else models.init_tower_projection
        options = {**_cca_options(prepared), "place": place}
        return start_from_cca(model, linear.config.init, linear.config.model, linear.train, val, **options)
    if resuming:
        return model, (f"it started from the best parameters of {folder}",)
    labels = source.label_names or ()
    return start_from_run(model, name, of=config.model.name, first_batch=first_batch, labels=labels)


def _plan(config: ConfigDict, steps: StepCounts) -> Plan:
    return Plan(
        total_steps=steps.total,
        log_every=steps.interval(config.log.interval, "log.interval"),
        evaluate_every=steps.interval(config.eval.interval, "eval.interval"),
        save_every=steps.interval(config.checkpoint.interval, "checkpoint.interval"),
        patience=config.eval.patience,
        metric=config.eval.metric,
        average_decay=config.optimizer.ema,
        accumulate=config.optimizer.accumulate,
        keep_checkpoints=config.checkpoint.keep,
        evaluate_start=config.init.name != "random" or bool(checkpoint_encoders(config.model)),
        profile=parse_steps(config.train.profile),
        debug_nans=config.train.debug_nans,
    )


def _cautions(prepared: PreparedData, steps: StepCounts) -> Iterator[str]:
    """Notes on settings that are valid but probably not meant."""
    config, train = prepared.config, prepared.train
    splits = {"train": train, **prepared.evaluation_splits}
    if task_of(config.model).aligns:
        loss, supported = config.loss, registered_loss(config.loss.name).duplicates
        yield from duplicate_notes(train, loss=loss.name, duplicates=loss.duplicates, supported=supported)
        yield from repeat_notes({n: splits[n] for n in prepared.splits}, prepared.source.modalities)
    yield from batch_note(config.input.batch_size, len(train))
    if order_has_no_effect(config, len(train)):
        yield f"sampling.name={config.sampling.name} has no effect: one batch holds all of train"
    yield from accumulation_note(config.optimizer.accumulate, steps.total)
    yield from small_split_notes(prepared.evaluation_splits)


def configured_model(
    config: ConfigDict,
    *,
    tokenizer: Any = None,
    classes: int = 0,
    several: bool = False,
    learned: Mapping[str, bool] | None = None,
) -> Model:
    """`build_model_functions` with the settings of a configuration; `learned` overrides the options of its loss."""
    if learned is None:
        learned = logit_scale_options(config.loss.name, config.temperature)
    return build_model_functions(
        config.model,
        config.temperature,
        logit_scale=learned,
        tokenizer=tokenizer,
        max_length=config.input.max_length,
        classes=classes,
        several=several,
        weighted=is_weighted(config.init),
    )


__getattr__ = renamed_names(__name__, {"build_model": "configured_model"})
