"""`alignment-jax evaluate`: metrics of the best checkpoint on any data set that it can read."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from absl import flags

from alignment_jax import data, evals, report
from alignment_jax.assembly.tasks import task_of
from alignment_jax.cli import common
from alignment_jax.cli.encoder_flags import define_encoders, encoders_of
from alignment_jax.cli.extract_progress import ExtractProgress
from alignment_jax.cli.hubness_flag import define_hubness, hubness_of_flag_or_run, refuse_hubness
from alignment_jax.cli.run_results import fusion_lines
from alignment_jax.compare.fusion_gain import fusion_of_run
from alignment_jax.core.errors import DataError, one_line
from alignment_jax.data.split import ALL
from alignment_jax.inference.class_prompts import zero_shot_accuracy
from alignment_jax.inference.item_record import TRAIN, exclude_training_rows, load_item_record
from alignment_jax.inference.query_bank import RunHubness
from alignment_jax.inference.trained_model import TrainedModel, load_trained, open_source


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    common.define_workdir(values, "Folder or URL of a run.")
    flags.DEFINE_string("data", None, "SPEC of the data; by default the data of the run.", flag_values=values)
    flags.DEFINE_string(
        "split", None, "Split to evaluate; by default test, or all for data without splits.", flag_values=values
    )
    zero_shot = "Zero-shot classification by class prompts: a text file, or the .npz of extract --prompts."
    flags.DEFINE_string("zero_shot", None, zero_shot, flag_values=values)
    flags.DEFINE_bool(
        "include_trained",
        False,
        "Include rows that the run was trained on; by default they are left out.",
        flag_values=values,
    )
    define_encoders(values)
    define_hubness(values, "Correct hubs in retrieval; by default as the run does.")
    common.define_on_bad_sample(values, default=None)
    flags.DEFINE_string("json", None, "Also write the metrics to this JSON file.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    folder = common.workdir(values)
    asked = values["split"].value
    config, source = open_source(
        folder, values["data"].value, asked or "test", on_bad_sample=values["on_bad_sample"].value
    )
    encoders, raw = encoders_of(values, folder), source
    source = encoders.source(source, only=asked or "test", on_progress=ExtractProgress())
    trained = load_trained(folder, config, source)  # before any output: data that it cannot read gives one line
    name, split = choose_split(source, asked)
    lines: tuple[str, ...] = ("warning: the run has latents of its items: training rows cannot be recognized here",)
    if source is raw:
        split, lines = exclude_training_rows(
            split,
            load_item_record(folder),
            config,
            where=source.spec,
            name=name,
            include=bool(values["include_trained"].value) or asked == TRAIN,
        )
    missing = data.missing_notes({name: split}, source.modalities)
    hubness, hubness_lines = _hubness(values, folder, trained)
    notes = (*source.notes, *source.problems, *missing, *lines, *trained.truncation_notes({name: split}))
    for line in (*notes, *hubness_lines):
        print(line)
    fusion: list[str] = []
    if values["zero_shot"].value:
        prompts = data.load_prompts(pathlib.Path(values["zero_shot"].value).expanduser())
        prompts = dataclasses.replace(prompts, column=encoders.column("b", prompts.column))
        found, chance = (
            zero_shot_accuracy(trained, source, split, prompts),
            evals.chance_zero_shot(len(prompts.classes)),
        )
    elif task_of(config.model).aligns:
        found, chance = trained.evaluate(split, hubness=hubness), task_of(config.model).chance(split)
    else:
        classified, heads = trained.classify(split), trained.prediction_heads
        found, chance = evals.classification_metrics(classified, heads=heads), task_of(config.model).chance(split)
        fusion = fusion_lines(fusion_of_run(name, classified, heads=heads), source.modalities)
    names = source.modalities
    counts = f"{len(split.a)} of {names[0]}, {len(split.b)} of {names[1]}"
    print(f"{one_line(source.spec)}, split {name}: {counts}; checkpoint of step {trained.step}")
    print(report.to_plain(report.metrics_table({name: found}, names=names, chance={name: chance})))
    if not task_of(config.model).aligns:
        for line in fusion:
            print(line)
        for line in data.absent_class_notes({name: split}, source.label_names):
            print(line)
    if values["json"].value:
        report.write_json_atomic(pathlib.Path(values["json"].value).expanduser(), found)
    return 0


def _hubness(
    values: flags.FlagValues, folder: pathlib.Path, trained: TrainedModel
) -> tuple[RunHubness | None, list[str]]:
    """The hubness correction of the flag, else of the run, and lines about it."""
    if values["zero_shot"].value:
        refuse_hubness(values, "it corrects retrieval, not zero-shot classification")
        return None, []
    found, warning = hubness_of_flag_or_run(values, folder, trained)
    return found, [line for line in (warning, "" if found is None else found.line()) if line]


def choose_split(source: data.PairSource, asked: str | None) -> tuple[str, data.PairSplit]:
    """The split of this name; for None, test, or all samples of a data set without split information.

    Raises:
      DataError: there is no such split.
    """
    if source.has_splits or asked == ALL:
        name = asked or "test"
        return name, source.split(name)
    if asked is not None:
        raise DataError(
            f"{source.spec} has no split information, so there is no {asked!r}: add a column or array "
            "split, or evaluate all of it with --split all"
        )
    print(f"{one_line(source.spec)} has no split information: all of it is used")
    return ALL, source.split(ALL)
