"""Evaluates the best checkpoint of a run and writes results.json and the report."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from alignment_jax import data, report
from alignment_jax.assembly.build import Built
from alignment_jax.assembly.classifier import head_names, prediction_heads
from alignment_jax.assembly.tasks import task_of
from alignment_jax.cli import run_report
from alignment_jax.cli.gallery_examples import make_gallery
from alignment_jax.compare.fusion_gain import fusion_of_run, learning_speeds
from alignment_jax.core.errors import DataError
from alignment_jax.core.types import PyTree
from alignment_jax.inference.forgetting import before_and_after, comparison_lines
from alignment_jax.inference.query_bank import RunHubness, save_query_bank
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.retrieval import NONE
from alignment_jax.train import processes
from alignment_jax.train.classification_objective import FUSED
from alignment_jax.train.evaluation import Classifier
from alignment_jax.train.loop import Finished

BEFORE_AND_AFTER = "before_and_after.json"
RESULTS = "results.json"  # in the workdir of a finished run


def write_run_results(
    built: Built, config: ConfigDict, folder: pathlib.Path, finished: Finished, *, lines: Sequence[str] = ()
) -> None:
    """Evaluates every split, writes results.json and the report, and prints the table; `lines` are notes of the report.

    A run that fine-tunes also writes before_and_after.json. Every process must make the same call: all share the
    embeddings and the ranks, and process 0 writes and prints.

    Raises:
      DataError: on every process; a split can no longer be read. The results of the others have been written.
    """
    models = SeedModels(built, [finished.variables], everywhere=True) if task_of(config.model).aligns else None
    unread: dict[str, DataError] = {}
    hubness = _save_query_bank(built, folder, finished, models, unread)
    results = _evaluate_splits(built, finished.variables, models, unread)
    _on_primary(lambda: report.write_json_atomic(folder / RESULTS, results))
    lines = (*lines, *_before_and_after(built, config, folder, finished))
    _on_primary(lambda: _write_report(built, config, folder, finished, models, results, hubness, lines, unread))


def _on_primary(write: Callable[[], Any]) -> Any:
    """What process 0 returns, on every process; so are its errors."""
    return processes.compute_on_primary(lambda: {"returned": write()})["returned"]


def _write_report(
    built: Built,
    config: ConfigDict,
    folder: pathlib.Path,
    finished: Finished,
    models: SeedModels | None,
    results: dict[str, dict[str, float]],
    hubness: Sequence[str],
    lines: Sequence[str],
    unread: dict[str, DataError],
) -> None:
    shown = "test" if "test" in results else next(iter(results), None)
    gallery = None
    if shown is not None and models is not None and config.report.gallery > 0:
        (embedded,) = models.embedded(shown)
        try:
            gallery = make_gallery(built.splits[shown], embedded, count=config.report.gallery, seed=config.seed)
        except DataError as error:
            unread[shown] = error
    fusion = None if models is not None else _fusion(built, config, folder, finished, shown, unread)
    verdict = fusion_lines(fusion, built.source.modalities)
    position, task = finished.position, task_of(config.model)
    evaluated = {name: built.splits[name] for name in results}
    absent = [] if task.aligns else data.absent_class_notes(evaluated, built.source.label_names)
    facts = {
        "title": config.name,
        "results": results,
        "notes": (
            *built.notes,
            *hubness,
            *lines,
            *absent,
            *verdict[-1:],
            *(f"{name} could not be read: {error}" for name, error in unread.items()),
        ),
        "chance": {name: task.chance(built.splits[name]) for name in results},
        "best_step": position.best_step if position.best_step >= 0 else None,
        "best_metric": config.eval.metric,
        "names": built.source.modalities,
        "fusion": [] if fusion is None else [fusion],
        "parameters": count_parameters(finished.variables["params"]),
        "cost": {**finished.cost, "steps": position.step, "pairs": position.pairs, "seconds": position.seconds},
    }
    run_report.save_report_inputs(folder, facts, gallery)
    print("\n".join([run_report.write_run_report(folder), *verdict, *lines, *absent]))
    for name, cause in unread.items():
        raise DataError(
            f"training is complete, but {name} could not be read: {cause}; mend the file or leave it out with "
            "--config.input.on_bad_sample=skip, and repeat the command to evaluate"
        ) from cause


def _fusion(
    built: Built,
    config: ConfigDict,
    folder: pathlib.Path,
    finished: Finished,
    shown: str | None,
    unread: dict[str, DataError],
) -> dict[str, Any] | None:
    """Fusion against the modalities of a classifier on one split; the error of one that cannot be read: `unread`."""
    if shown is None:
        return None
    try:
        classified = Classifier(built.experiment.model)(finished.variables, built.experiment.evaluations[shown])
    except DataError as error:
        unread[shown] = error
        return None
    heads, val = head_names(config.model), built.splits.get("val")
    learned = {}
    if val is not None and val.label is not None:
        history = report.read_metrics(folder / "metrics.jsonl")
        learned = learning_speeds(history, [head for head in heads if head != FUSED], val_label=val.label)
    summed = prediction_heads(config.model, config.classification.predict)
    return fusion_of_run(shown, classified, heads=summed, learned=learned)


def fusion_lines(row: Mapping[str, Any] | None, names: Sequence[str]) -> list[str]:
    """The tables of `compare.fusion_gain.fusion_of_run` for the terminal and, last, the verdict; none for None."""
    if row is None:
        return []
    tables = report.fusion_table([row], names, first="split"), report.learning_table([row], names, first="split")
    shown = [report.to_plain(found) for found in tables if found is not None]
    sentence = report.fusion_sentence(row, names)
    return [
        "",
        *"\n\n".join(shown).split("\n"),
        "",
        f"{row['method']}: {sentence}; the interval covers samples, not seeds.",
    ]


def _before_and_after(built: Built, config: ConfigDict, folder: pathlib.Path, finished: Finished) -> list[str]:
    """Writes the metrics before and after fine-tuning, and returns their lines; nothing for other runs."""
    if built.experiment.model.frozen is None and not config.eval.control:
        return []
    try:
        found = before_and_after(built, config, finished.variables)
    except DataError:  # of a split that `write_run_results` reports
        return []
    _on_primary(lambda: report.write_json_atomic(folder / BEFORE_AND_AFTER, found))
    return comparison_lines(found, config.eval.metric)


def _save_query_bank(
    built: Built, folder: pathlib.Path, finished: Finished, models: SeedModels | None, unread: dict[str, DataError]
) -> tuple[str, ...]:
    """Writes the query bank of the best checkpoint and prints and logs the correction of the run; returns that line."""
    position, config = finished.position, built.experiment.config
    step = position.best_step if position.best_step >= 0 else position.step
    found: RunHubness | None = None
    if models is not None:
        try:
            (found,) = models.hubness or (None,)
        except DataError as error:
            unread["the training data of the query bank"] = error
            models.hubness = None  # the metrics without a correction need no bank
    line = None if found is None or config["eval"]["hubness"] == NONE else found.line()

    def write() -> None:
        save_query_bank(folder, found, step=step, seed=config["data_seed"])
        if line is not None:
            print(line)
            report.append_to_log(folder / "log.txt", line)

    _on_primary(write)
    return () if line is None else (line,)


def _evaluate_splits(
    built: Built, variables: PyTree, models: SeedModels | None, unread: dict[str, DataError]
) -> dict[str, dict[str, float]]:
    """Metrics of every split that can be read; the errors of the others go to `unread`."""
    results = {}
    for name, split in built.experiment.evaluations.items():
        try:
            if models:
                (results[name],) = models.metrics(name)
            else:
                results[name] = built.experiment.evaluate(variables, split, everywhere=True)
        except DataError as error:
            unread[name] = error
    return results


def count_parameters(params: PyTree) -> int:
    """Number of trainable scalars."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))
