"""`alignment-jax train`: one run from a configuration to its report; the same command resumes it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alignment_jax import report
from alignment_jax.assembly.build import Built, build
from alignment_jax.assembly.cross_validated_settings import chooses_by_cross_validation
from alignment_jax.assembly.file_checks import check_source_files
from alignment_jax.assembly.inferred_settings import restore_inferred_settings
from alignment_jax.assembly.saved_run import TOKENIZER
from alignment_jax.cli import common, memory_plan
from alignment_jax.cli.main import status_of
from alignment_jax.cli.run_identity import extension_note, holds_run, write_identity
from alignment_jax.cli.run_results import RESULTS, write_run_results
from alignment_jax.core.errors import UserError
from alignment_jax.inference.forgetting import control_metrics
from alignment_jax.inference.renamed_data import renamed_source
from alignment_jax.inference.wise_ft import interpolated
from alignment_jax.train import checkpoint, processes
from alignment_jax.train.loop import Finished, fit
from alignment_jax.train.state import without_frozen
from alignment_jax.train.workdir import can_resume, has_checkpoints, last_saved_step, locked, read_config


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    common.define_workdir(values, "Folder of the run: configuration, metrics, checkpoints, report; or a URL.")
    config_flags.DEFINE_config_file(
        "config",
        None,
        "FILE.py[:argument,...]; change single settings with --config.SECTION.NAME=VALUE.",
        lock_config=True,
        sys_argv=["", *arguments],  # where the overrides are; sys.argv itself when called from a shell
        flag_values=values,
    )
    flags.DEFINE_bool("quiet", False, "Show no progress (log.txt has it).", flag_values=values)
    memory_plan.define(values)
    common.define_processes(values)


def run(values: flags.FlagValues) -> int:
    config = values["config"].value
    if config is None:
        raise UserError("--config is missing: give a configuration file, as in --config=configs/quickstart.py")
    limit = memory_plan.requested_limit(values)
    common.start_processes(values)
    if values["plan"].value:
        return memory_plan.run_plan(config, limit=limit)
    with common.writable_workdir(values) as folder:
        try:
            return _run(config, folder, quiet=bool(values["quiet"].value))
        except KeyboardInterrupt:
            if can_resume(folder):
                raise
            raise KeyboardInterrupt("no checkpoint exists yet, so the same command starts from step 0") from None


def _run(config: ConfigDict, folder: pathlib.Path, *, quiet: bool) -> int:
    before = read_config(folder)  # process 0 replaces it in `_locked_workdir`
    if before is not None and has_checkpoints(folder):
        config = restore_inferred_settings(config, before)
    resuming = holds_run(folder, config)
    report.writers_of(config.log.to_dict())  # an unknown one is an error before anything is read
    processes.check_equal("configuration", json.dumps(config.to_dict(), sort_keys=True, default=str))
    if chooses_by_cross_validation(config) and processes.is_primary() and not quiet:
        print("choosing settings by cross-validation inside train", flush=True)
    # Building writes nothing: a mistake in the configuration or the data is found before the workdir is touched.
    built, renamed = _build_resumed(config, folder, before) if resuming else (build(config), False)
    control_metrics(built, config)  # its errors come before hours of training
    if not resuming:
        check_source_files(built.source, threads=config.input.threads, quiet=quiet)
    with _locked_workdir(built, config, folder, renamed=renamed) as built:
        return _train(built, config, folder, quiet=quiet or not processes.is_primary())


def _build_resumed(config: ConfigDict, folder: pathlib.Path, before: Mapping[str, Any] | None) -> tuple[Built, bool]:
    """The build of a run with checkpoints, and whether its data has another SPEC now."""
    source = renamed_source(folder, config)
    built = build(config, source=source, tokenizer_file=folder / TOKENIZER, resuming=True)
    longer = "" if before is None else extension_note(built, folder, before["train"]["duration"])
    experiment = dataclasses.replace(built.experiment, extension_message=longer)
    return dataclasses.replace(built, experiment=experiment), source is not None


@contextlib.contextmanager
def _locked_workdir(built: Built, config: ConfigDict, folder: pathlib.Path, *, renamed: bool) -> Iterator[Built]:
    """Process 0 locks the workdir and writes the run's identity; yields the build with the notes of that."""
    with contextlib.ExitStack() as stack:
        notes: list[str] = []

        def lock_and_write() -> dict[str, Any]:
            stack.enter_context(locked(folder))
            resuming = holds_run(folder, config)  # another command may have trained here during the build
            notes.extend(write_identity(built, folder, resuming=resuming, renamed=renamed))
            return {}

        processes.compute_on_primary(lock_and_write)
        yield dataclasses.replace(built, notes=(*built.notes, *notes))


def _train(built: Built, config: ConfigDict, folder: pathlib.Path, *, quiet: bool) -> int:
    if processes.is_primary():
        for note in built.notes:
            if quiet or note not in built.experiment.messages:  # a new run shows those with its progress
                print(note)
        if (folder / RESULTS).is_file():  # not of a run that is made longer
            print(
                f"already finished: {last_saved_step(folder)} steps; evaluate other data with alignment-jax evaluate "
                f"--workdir {folder}"
            )
    finished = fit(
        built.experiment, folder, quiet=quiet, tensorboard=False, writers=report.writers_of(config.log.to_dict())
    )
    if finished.preempted:
        return status_of(finished.stopped_by)

    finished, lines = _interpolate(built, config, folder, finished)
    write_run_results(built, config, folder, finished, lines=lines)
    return 0


def _interpolate(
    built: Built, config: ConfigDict, folder: pathlib.Path, finished: Finished
) -> tuple[Finished, tuple[str, ...]]:
    """`train.interpolate`: saves the chosen average of weights as the best checkpoint, after the last step."""
    if config.train.interpolate == "none":
        return finished, ()
    variables, chosen = interpolated(built, finished.variables)
    if chosen.alpha < 1.0:
        position = dataclasses.replace(finished.position, best_step=finished.position.step + 1)
        checkpoints = checkpoint.Checkpoints(folder.absolute() / "checkpoints", keep=config.checkpoint.keep)
        try:
            content = without_frozen(variables)
            checkpoints.save(position.best_step, content, position.to_json(), kind=checkpoint.BEST)
        finally:
            checkpoints.close()
        finished = dataclasses.replace(finished, variables=variables, position=position)
    return finished, (chosen.line(),)
