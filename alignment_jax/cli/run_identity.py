"""The files that identify a run: configuration, data fingerprints, tokenizer, environment; and checks on resuming."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import data, report
from alignment_jax.assembly.build import Built
from alignment_jax.assembly.checkpoint_inputs import base_digests, check_bases
from alignment_jax.assembly.methods import logit_scale_options
from alignment_jax.assembly.saved_run import (
    BASES,
    DATA,
    ENCODERS,
    HINTS,
    LABELS,
    LEARNED,
    SIGNATURE,
    TOKENIZER,
    read_signature,
    saved_bases,
)
from alignment_jax.cli import common
from alignment_jax.cli.run_results import RESULTS
from alignment_jax.core.errors import ConfigError, DataError, RunError
from alignment_jax.data.disk_cache import hash_once
from alignment_jax.inference.item_record import (
    ItemRecord,
    load_item_record,
    record_items,
    save_item_record,
    shared_with_train,
)
from alignment_jax.inference.trained_model import changed_splits, signature
from alignment_jax.train.workdir import check_same_config, has_checkpoints, last_saved_step


def holds_run(folder: pathlib.Path, config: ConfigDict) -> bool:
    """Whether the folder holds checkpoints of a run of this configuration.

    Raises:
      ConfigError: it holds a run of another configuration.
    """
    finished = (folder / RESULTS).is_file()
    return check_same_config(folder, config.to_dict(), finished=finished) and has_checkpoints(folder)


def extension_note(built: Built, folder: pathlib.Path, before: str) -> str:
    """The message for a finished run with a longer duration; "" where the duration is unchanged.

    Raises:
      ConfigError: the new duration is shorter than the training so far.
    """
    experiment, done = built.experiment, last_saved_step(folder)
    now, total = experiment.config["train"]["duration"], experiment.plan.total_steps
    if now == before:
        return ""
    if total < done:
        raise ConfigError(
            f"train.duration is {now!r} ({total} steps), but the run in {folder} has trained {done}; set a longer one "
            "to continue, or choose another --workdir"
        )
    return (
        f"train.duration was {before} and is {now}: training continues from step {done} to {total}; learning rate, "
        f"temperature and every other schedule span all {total} steps, so the learning rate is "
        f"{experiment.learning_rate(done):.3g} after step {done}"
    )


@hash_once()
def write_identity(built: Built, folder: pathlib.Path, *, resuming: bool, renamed: bool) -> list[str]:
    """Writes the files; config.json last, because it marks the folder as a run's.

    Args:
      built: the run.
      folder: its workdir.
      resuming: it has checkpoints.
      renamed: its data has another SPEC now, with the same items.

    Returns:
      Notes: splits that have changed but are not trained on, and rows that two splits share.

    Raises:
      DataError: train or val has changed. Nothing is written.
    """
    fingerprints = data.fingerprints(built.source)
    changed = changed_splits(folder, fingerprints) if resuming and not renamed else []
    if {"train", "val"} & set(changed):
        # Other data gives other steps, and metrics on two val splits cannot be compared.
        raise DataError(
            f"{built.source.spec}: {', '.join(changed)} changed since the run in {folder} started; restore the data to "
            "resume, or choose another --workdir to train on the new data"
        )
    model = ConfigDict(built.experiment.config).model
    if resuming:
        check_bases(model, saved_bases(folder))
    if built.inputs.tokenizer is not None:
        built.inputs.tokenizer.save(folder / TOKENIZER)
    experiment = built.experiment
    config = ConfigDict(experiment.config)
    reads: dict[str, Any] = signature(built.splits["train"], experiment.first_batch)
    if built.source.label_names is not None:
        reads[LABELS] = list(built.source.label_names)
    reads |= {
        DATA: fingerprints,
        HINTS: dict(built.source.hints),
        LEARNED: logit_scale_options(config.loss.name, config.temperature),
    }
    if bases := base_digests(model):
        reads[BASES] = bases
    if encoders := built.source.encoders or _recorded_encoders(folder, resuming=resuming):
        reads[ENCODERS] = {side: dict(record) for side, record in encoders.items()}
    report.write_json_atomic(folder / SIGNATURE, reads)
    known = _known_items(built.source, folder, rewrite=not resuming or renamed or bool(changed))
    environment = folder / "environment.json"
    if not (resuming and environment.is_file()):  # the report shows the environment of the start
        report.write_json_atomic(environment, report.environment(common.describe_devices()))
    report.write_json_atomic(folder / "config.json", experiment.config)
    if experiment.extension_message:
        (folder / RESULTS).replace(folder / f"results-{last_saved_step(folder)}.json")
    notes = list(shared_with_train(known, config)) if known is not None else []
    if changed:
        notes.append(
            f"{', '.join(changed)} changed since this run started; the run does not train on it and uses the new data"
        )
    return notes


def _recorded_encoders(folder: pathlib.Path, *, resuming: bool) -> Mapping[str, Mapping[str, Any]]:
    """What a resumed run recorded: a copy of its data may lack the record."""
    if resuming:
        with contextlib.suppress(RunError):
            return read_signature(folder).get(ENCODERS, {})
    return {}


def _known_items(source: data.PairSource, folder: pathlib.Path, *, rewrite: bool) -> ItemRecord | None:
    """The fingerprints of the run's items; written if missing or damaged."""
    if not rewrite:
        with contextlib.suppress(RunError):
            if (found := load_item_record(folder)) is not None:
                return found
    known = record_items(source)
    save_item_record(folder, known)
    return known
