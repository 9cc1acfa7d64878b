"""Exports the best model of a run into a folder that needs neither the run nor this package."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alignment_jax import config, data, report
from alignment_jax.assembly.saved_run import ENCODERS, TOKENIZER, Folder, run_folder
from alignment_jax.core.errors import UserError, suggest
from alignment_jax.core.nested import flatten_config
from alignment_jax.core.storage import new_folder, write_bytes_atomic, write_json_atomic, write_text_atomic
from alignment_jax.inference.compiled_formats import to_stablehlo
from alignment_jax.inference.exported_checkpoints import save_checkpoints
from alignment_jax.inference.exported_encoders import (
    SideEncoder,
    adapter_steps,
    model_section,
    preprocessing,
    side_encoders,
    tensors,
)
from alignment_jax.inference.trained_model import TrainedModel, open_run

FORMATS = ("safetensors", "stablehlo", "transformers")
_SAFETENSORS = "model.safetensors"
# Settings without an effect on the model: sections that are left out, and entries that are not in the card's recipe.
_SECTIONS = ("search", "report", "log", "checkpoint")
_UNTOLD = ("name", "data", "input.threads", "input.cache_mib")


def export_run(
    workdir: Folder,
    out: str | os.PathLike[str],
    *,
    formats: Sequence[str] = ("safetensors",),
    license: str = report.UNKNOWN_LICENSE,
) -> list[str]:
    """Writes the best model of a run into a new folder.

    README.md: the model card. model.json: both sides (shapes, dtypes, preprocessing, files; for adapters their
    arithmetic, see `exported_encoders.adapter_steps`; for latents the record of their encoder), settings, versions.
    tokenizer.json where texts are read.
    Weights: model.safetensors, and a file for each side in every other format; "transformers" is a folder for each
    tuned checkpoint. Absolute paths lose their folders.

    Args:
      workdir: of the run.
      out: the folder to make.
      formats: of `FORMATS`.
      license: of the weights, for the card.

    Returns:
      The names of the files, sorted.

    Raises:
      UserError: the run is a classifier, an unknown format, no checkpoint for "transformers", or `out` exists.
      RunError: the workdir holds no usable checkpoint, or the folder cannot be written.

    Example:
      `export_run("runs/mine", "exported", formats=["safetensors", "stablehlo"], license="apache-2.0")`
    """
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"--format={name}: unknown format{suggest(name, FORMATS)}")
    trained = open_run(workdir)
    encoders = side_encoders(trained)
    facts = _report_facts(run_folder(workdir))
    with new_folder(out, setting="--out") as folder:
        files: dict[str, str] = {}
        by_format: dict[str, dict[str, str]] = {side: {} for side in encoders}
        if "safetensors" in formats:
            data.write_safetensors(folder / _SAFETENSORS, tensors(trained))
            files[_SAFETENSORS] = "all parameters"
        if "stablehlo" in formats:
            for side, encoder in encoders.items():
                name = by_format[side]["stablehlo"] = f"{side}.stablehlo"
                write_bytes_atomic(folder / name, to_stablehlo(encoder))
                files[name] = f"encoder of side {side} with its parameters, for jax.export.deserialize"
        if "transformers" in formats:
            for name, sides in save_checkpoints(trained, folder).items():
                files[name] = "the tuned checkpoint, for transformers, sentence-transformers and `extract`"
                for side in sides:
                    by_format[side]["transformers"] = name
        if trained.inputs.tokenizer is not None:
            trained.inputs.tokenizer.save(folder / TOKENIZER)
            files[TOKENIZER] = "tokenizer, for the library tokenizers"
        about = _description(trained, encoders, by_format, facts, _SAFETENSORS if _SAFETENSORS in files else None)
        write_json_atomic(folder / "model.json", about)
        files = {"model.json": "inputs, outputs, preprocessing and settings", **files}
        write_text_atomic(folder / "README.md", _card(trained, encoders, facts, license, files))
    return sorted(["README.md", *files])


def _description(
    trained: TrainedModel,
    encoders: Mapping[str, SideEncoder],
    by_format: Mapping[str, Mapping[str, str]],
    facts: Mapping[str, Any],
    tensor_file: str | None,
) -> dict[str, Any]:
    names = dict(zip("ab", facts.get("names", "ab"), strict=False))
    sides = {}
    for side, encoder in encoders.items():
        steps = adapter_steps(trained, side)
        sides[side] = {
            "modality": names[side],
            "kind": encoder.kind,
            "input": {"shape": ["n", *encoder.shape], "dtype": str(encoder.dtype)},
            "output": {"shape": ["n", encoder.dim], "dtype": "float32", "length": 1.0},
            "preprocessing": preprocessing(trained, side),
            "files": by_format[side],
            **({} if steps is None or tensor_file is None else {"steps": steps}),
            **_frozen_encoder(trained, side),
        }
    environment = report.environment()
    return {
        "format": 1,
        "similarity": "inner product",
        "sides": sides,
        "model": _named_checkpoints(model_section(trained)),
        "tensors": tensor_file,
        "step": trained.step,
        "settings": _settings(trained.config),
        "results": facts.get("results", {}),
        "versions": {"python": environment["python"], **environment["packages"]},
    }


def _frozen_encoder(trained: TrainedModel, side: str) -> dict[str, Any]:
    """`encoder`: the record of the encoder that made the latents of a side, without folders; {} without a record."""
    record = trained.reads.get(ENCODERS, {}).get(side)
    return {} if record is None else {"encoder": {**record, "name": _without_folders(record["name"])}}


def _card(
    trained: TrainedModel,
    encoders: Mapping[str, SideEncoder],
    facts: Mapping[str, Any],
    license: str,
    files: Mapping[str, str],
) -> str:
    settings = _settings(trained.config)
    standard = flatten_config(config.default().to_dict())
    sizes = {
        f"side {side}": f"{encoder.kind} {list(encoder.shape)} to {encoder.dim} numbers of length one"
        for side, encoder in encoders.items()
    }
    for side in encoders:
        if found := _frozen_encoder(trained, side):
            sizes[f"encoder of side {side}"] = found["encoder"]["name"]
    return report.model_card(
        title=trained.config.name,
        license=license,
        facts={
            "model": trained.config.model.name,
            "data": _without_folders(trained.config.data),
            "parameters": f"{sum(array.size for array in tensors(trained).values()):,}",
            "checkpoint": f"step {trained.step}",
            **sizes,
        },
        results=facts.get("results", {}),
        names=tuple(facts.get("names", "ab")),
        chance=facts.get("chance", {}),
        recipe={
            name: value
            for name, value in flatten_config(settings).items()
            if name not in _UNTOLD and value != standard.get(name)
        },
        files=files,
    )


def _report_facts(folder: pathlib.Path) -> dict[str, Any]:
    """Results, chance and names of a finished run, from report.json; empty for an unfinished one."""
    try:
        return json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _settings(settings: ConfigDict) -> dict[str, Any]:
    """The settings that shape the model, without absolute paths."""
    found = {name: value for name, value in settings.to_dict().items() if name not in _SECTIONS}
    return found | {
        "model": _named_checkpoints(found["model"]),
        "data": _without_folders(found["data"]),
        "init": {**found["init"], "name": _without_folders(found["init"]["name"])},
    }


def _named_checkpoints(model: Mapping[str, Any]) -> dict[str, Any]:
    """The section `model` with the names of checkpoints in place of their absolute folders."""
    return {
        name: {**value, "model": _without_folders(value["model"])}
        if isinstance(value, dict) and "model" in value
        else value
        for name, value in model.items()
    }


def _without_folders(text: str) -> str:
    """A SPEC without the folders of absolute paths.

    >>> _without_folders("embeddings:/home/me/pairs.npz,split=~/b.txt"), _without_folders("tfds:coco_captions/2014")
    ('embeddings:pairs.npz,split=b.txt', 'tfds:coco_captions/2014')
    """
    return re.sub(r"(?<![^:,=])[/~][^:,=]*/", "", text)
