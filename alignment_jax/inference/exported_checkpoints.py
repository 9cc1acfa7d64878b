"""Tuned checkpoints as folders that transformers loads."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from alignment_jax.assembly.checkpoint_inputs import CheckpointEncoder, checkpoint_encoders
from alignment_jax.assembly.tuned_parameters import TOWER, merged_variables
from alignment_jax.core.errors import UserError
from alignment_jax.inference.trained_model import TrainedModel
from alignment_jax.models.pretrained import load, save_pretrained


def save_checkpoints(trained: TrainedModel, folder: pathlib.Path) -> dict[str, list[str]]:
    """Writes one folder for each checkpoint that the run started from, with its tuned towers.

    Temperature and bias are those of training where the run learned them in the checkpoint's space. Projections are not
    part of a checkpoint; they are in model.safetensors.

    Args:
      trained: the model of a run.
      folder: where the folders are made.

    Returns:
      Name of a folder -> the sides that it holds.

    Raises:
      UserError: no encoder of the run started from a checkpoint.
    """
    encoders = checkpoint_encoders(trained.config.model)
    if not encoders:
        raise UserError(
            "--format=transformers: no encoder of this run started from a checkpoint; export it as safetensors or "
            "stablehlo"
        )
    params = merged_variables(trained.variables)["params"]
    written: dict[str, list[str]] = {}
    for own in _groups(encoders):
        checkpoint = own[0].checkpoint
        whole = dict(load(checkpoint.folder, sentence=checkpoint.kind == "st").variables["params"])
        for one in own:
            tower = params[one.option][TOWER]
            whole = {**whole, one.checkpoint.side: tower} if checkpoint.both else tower
        if len(own) == 2 and trained.config.model.get("projection") == "none":
            logits = params["logit_scale"]
            if "log_temperature" in logits and "logit_scale" in whole:
                whole["logit_scale"] = -logits["log_temperature"]
            if "bias" in logits and "logit_bias" in whole:
                whole["logit_bias"] = logits["bias"]
        sides = [one.option.removeprefix("encoder_") for one in own]
        target = "checkpoint_" + "".join(sides)
        save_pretrained(folder / target, {"params": whole}, source=checkpoint.folder)
        written[target] = sides
    return written


def _groups(encoders: Sequence[CheckpointEncoder]) -> list[list[CheckpointEncoder]]:
    """The encoders by checkpoint: both towers of one together."""
    groups: list[list[CheckpointEncoder]] = []
    for one in encoders:
        for group in groups:
            sides = {other.checkpoint.side for other in group}
            if group[0].settings.model == one.settings.model and one.checkpoint.side not in sides:
                group.append(one)
                break
        else:
            groups.append([one])
    return groups
