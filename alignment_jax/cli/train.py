"""`alignment-jax train`: one run from a configuration to its report, resumed by the same command."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from alignment_jax import data, report
from alignment_jax.assembly.build import Built, build
from alignment_jax.assembly.file_checks import check_source_files
from alignment_jax.assembly.inferred_settings import restore_inferred_settings
from alignment_jax.assembly.methods import logit_scale_options
from alignment_jax.assembly.saved_run import DATA, HINTS, LABELS, LEARNED, SIGNATURE, TOKENIZER
from alignment_jax.assembly.tasks import task_of
from alignment_jax.cli import common, run_report
from alignment_jax.cli.gallery_examples import make_gallery
from alignment_jax.cli.main import status_of
from alignment_jax.core.errors import ConfigError, DataError, RunError, UserError
from alignment_jax.core.types import PyTree
from alignment_jax.inference.item_record import (
    ItemRecord,
    load_item_record,
    record_items,
    save_item_record,
    shared_with_train,
)
from alignment_jax.inference.renamed_data import renamed_source
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.inference.trained_model import changed_splits, signature
from alignment_jax.train import processes
from alignment_jax.train.loop import Finished, fit
from alignment_jax.train.workdir import (
    can_resume,
    check_same_config,
    has_checkpoints,
    last_saved_step,
    locked,
    read_config,
)

RESULTS = "results.json"  # in the workdir of a finished run


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    common.define_workdir(values, "Folder of the run: configuration, metrics, checkpoints, report.")
    config_flags.DEFINE_config_file(
        "config",
        None,
        "FILE.py[:argument,...]; single settings are changed by --config.SECTION.NAME=VALUE.",
        lock_config=True,
        sys_argv=["", *arguments],  # where the overrides are; sys.argv itself when called from a shell
        flag_values=values,
    )
    flags.DEFINE_bool("quiet", False, "Show no progress (log.txt has it).", flag_values=values)
    common.define_processes(values)


def run(values: flags.FlagValues) -> int:
    config = values["config"].value
    if config is None:
        raise UserError("--config is missing: give a configuration file, as in --config=configs/quickstart.py")
    common.start_processes(values)
    with common.kept_workdir(values) as folder:
        try:
            return _run(values, config, folder)
        except KeyboardInterrupt:
            if can_resume(folder):
                raise
            raise KeyboardInterrupt("no checkpoint exists yet, so the same command begins anew") from None


def _run(values: flags.FlagValues, config: ConfigDict, folder: pathlib.Path) -> int:
    kept = read_config(folder)
    if kept is not None and has_checkpoints(folder):
        config = restore_inferred_settings(config, kept)
    resuming = _goes_on(folder, config)
    before = read_config(folder) if resuming else None  # process 0 will write it anew
    processes.check_equal("configuration", json.dumps(config.to_dict(), sort_keys=True, default=str))
    # Building writes nothing: a mistake in the configuration or the data is found before the workdir is touched.
    moved = renamed_source(folder, config) if resuming else None
    built = build(config, source=moved, tokenizer_file=folder / TOKENIZER if resuming else None, resuming=resuming)
    longer = "" if before is None else _longer(built, folder, before["train"]["duration"])
    built = dataclasses.replace(built, experiment=dataclasses.replace(built.experiment, extension_message=longer))
    if not resuming:
        check_source_files(built.source, threads=config.input.threads, quiet=bool(values["quiet"].value))
    with contextlib.ExitStack() as stack:
        notes: list[str] = []

        def begin() -> dict[str, Any]:
            stack.enter_context(locked(folder))
            # Another process may have been first while we were building.
            notes.extend(_write_identity(built, folder, resuming=_goes_on(folder, config), moved=moved is not None))
            return {}

        processes.compute_on_primary(begin)
        built = dataclasses.replace(built, notes=(*built.notes, *notes))
        return _train(built, config, folder, quiet=bool(values["quiet"].value) or not processes.is_primary())


def _goes_on(folder: pathlib.Path, config: ConfigDict) -> bool:
    """Whether the folder holds a run of this configuration that has something to go on from."""
    finished = (folder / RESULTS).is_file()
    return check_same_config(folder, config.to_dict(), finished=finished) and has_checkpoints(folder)


def _longer(built: Built, folder: pathlib.Path, before: str) -> str:
    """What is said of a finished run whose duration is now another one; "" where it is the same.

    Raises:
      ConfigError: it would be shorter than what has been trained.
    """
    experiment, done = built.experiment, last_saved_step(folder)
    now, total = experiment.config["train"]["duration"], experiment.plan.total_steps
    if now == before:
        return ""
    if total < done:
        raise ConfigError(
            f"train.duration is {now!r} ({total} steps), but the run in {folder} has trained {done}; give a longer one "
            "to go on from there, or choose another --workdir"
        )
    return (
        f"train.duration was {before} and is {now}: training goes on from step {done} to {total}; learning rate, "
        f"temperature and every other schedule are read over all {total} steps, so the learning rate is "
        f"{experiment.learning_rate(done):.3g} after step {done}"
    )


def _train(built: Built, config: ConfigDict, folder: pathlib.Path, *, quiet: bool) -> int:
    primary = processes.is_primary()
    if primary:
        for note in built.notes:
            if quiet or note not in built.experiment.messages:  # the progress shows those of a run that begins
                print(note)
    finished = fit(built.experiment, folder, quiet=quiet, tensorboard=config.log.tensorboard)
    if finished.preempted:
        return status_of(finished.stopped_by)
    processes.compute_on_primary(lambda: _finish(built, config, folder, finished))
    return 0


def _write_identity(built: Built, folder: pathlib.Path, *, resuming: bool, moved: bool) -> list[str]:
    """What belongs to the run from its first moment on; config.json last, because it marks the folder as a run's.

    Args:
      built: the run.
      folder: its workdir.
      resuming: it goes on.
      moved: its data has another name now, and has been compared item for item.

    Returns:
      Notes: where the data changed in what the run does not train on, and of rows that two splits share.

    Raises:
      DataError: train or val is not what the run began with. Nothing is touched.
    """
    fingerprints = data.fingerprints(built.source.splits)
    changed = changed_splits(folder, fingerprints) if resuming and not moved else []
    if {"train", "val"} & set(changed):
        # The steps would be other ones, and the best of two val splits cannot be compared.
        raise DataError(
            f"{built.source.spec}: {', '.join(changed)} changed since the run in {folder} began; restore the data to "
            "resume, or choose another --workdir to train on what it is now"
        )
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
    report.write_json_atomic(folder / SIGNATURE, reads)
    known = _known_items(built.source, folder, again=not resuming or moved or bool(changed))
    environment = folder / "environment.json"
    if not (resuming and environment.is_file()):  # of the moment the run began, also in its report
        report.write_json_atomic(environment, report.environment(common.describe_devices()))
    report.write_json_atomic(folder / "config.json", experiment.config)
    if experiment.extension_message:  # what is there belongs to the shorter training
        (folder / RESULTS).replace(folder / f"results-{last_saved_step(folder)}.json")
    notes = list(shared_with_train(known, config)) if known is not None else []
    if changed:
        notes.append(
            f"{', '.join(changed)} changed since this run began; nothing was trained on it, and it is used as it is"
        )
    return notes


def _known_items(source: data.PairSource, folder: pathlib.Path, *, again: bool) -> ItemRecord | None:
    """The fingerprints of the run's items, written where they are not there yet or damaged."""
    if not again:
        with contextlib.suppress(RunError):
            if (found := load_item_record(folder)) is not None:
                return found
    known = record_items(source)
    save_item_record(folder, known)
    return known


def _finish(built: Built, config: ConfigDict, folder: pathlib.Path, finished: Finished) -> dict[str, Any]:
    """Evaluates the best checkpoint, writes results.json and the report, and prints the table.

    Raises:
      DataError: a split cannot be read any more. Everything that can be said without it has been written.
    """
    experiment, task = built.experiment, task_of(config.model)
    models = SeedModels(built, [finished.variables]) if task.aligns else None
    results, chance, unread = {}, {}, dict[str, DataError]()
    for name, split in experiment.evaluations.items():
        try:
            (results[name],) = models.metrics(name) if models else [experiment.evaluate(finished.variables, split)]
        except DataError as error:
            unread[name] = error
            continue
        chance[name] = task.chance(built.splits[name])
    report.write_json_atomic(folder / RESULTS, results)
    shown = "test" if "test" in results else next(iter(results), None)
    gallery = None
    if shown is not None and models is not None and config.report.gallery > 0:
        (embedded,) = models.embedded(shown)
        try:
            gallery = make_gallery(built.splits[shown], embedded, count=config.report.gallery, seed=config.seed)
        except DataError as error:
            unread[shown] = error
    position = finished.position
    facts = {
        "title": config.name,
        "results": results,
        "notes": (*built.notes, *(f"{name} could not be read: {error}" for name, error in unread.items())),
        "chance": chance,
        "best_step": position.best_step if position.best_step >= 0 else None,
        "best_metric": config.eval.metric,
        "names": built.source.modalities,
        "parameters": count_parameters(finished.variables["params"]),
        "cost": {**finished.cost, "steps": position.step, "pairs": position.pairs, "seconds": position.seconds},
    }
    run_report.keep(folder, facts, gallery)
    print(run_report.write(folder))
    for name, cause in unread.items():
        raise DataError(
            f"training is complete, but {name} could not be read: {cause}; mend the file or leave it out with "
            "--config.input.on_bad_sample=skip, and repeat the command to evaluate"
        ) from cause
    return {}


def count_parameters(params: PyTree) -> int:
    """Number of trainable scalars."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))
