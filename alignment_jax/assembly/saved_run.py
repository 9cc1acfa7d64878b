"""Reads the folder of a finished run: configuration, signature of the inputs, tokenizer, best parameters."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.cca_start import is_weighted
from alignment_jax.assembly.checkpoint_inputs import check_bases, checkpoint_tokenizer, with_recorded_folders
from alignment_jax.assembly.methods import logit_scale_options
from alignment_jax.assembly.model_functions import build_model_functions
from alignment_jax.core.errors import RunError, UserError
from alignment_jax.core.types import PyTree
from alignment_jax.train import checkpoint
from alignment_jax.train.experiment import Model
from alignment_jax.train.state import FROZEN, with_frozen, without_frozen
from alignment_jax.train.workdir import read_config

Folder = str | os.PathLike[str]
TOKENIZER, SIGNATURE = "tokenizer.json", "inputs.json"
# Keys of the signature beside the sides:
DATA = "data"  # fingerprint of each split (data.fingerprints)
LABELS = "label_names"  # of a classifier: its classes in the order of its outputs
HINTS = "hints"  # limits of augmentation, which decide the size that images are decoded at
LEARNED = "learned"  # see `methods.logit_scale_options`; a program may have registered the loss itself
BASES = "bases"  # encoder -> name and digest of the checkpoint that it starts from
ENCODERS = "encoders"  # side -> record of the encoder that made its latents (PairSource.encoders)
# kind of an item -> the dtype that the model takes
INPUT_DTYPES = {"text": np.int32, "image": np.uint8}


@dataclasses.dataclass(frozen=True)
class Best:
    """The best checkpoint on val of a run."""

    model: Model
    variables: PyTree
    step: int


@dataclasses.dataclass(frozen=True)
class SavedRun:
    """The files of a run that describe its model.

    signature: inputs.json: kind and shape of an item of each side, and the keys above.
    tokenizer: a `data.Tokenizer`, or that of a checkpoint; None for a model that reads no texts.
    """

    folder: pathlib.Path
    config: ConfigDict
    signature: Mapping[str, Any]
    tokenizer: Any

    @property
    def kinds(self) -> dict[str, str]:
        """side -> kind of its items."""
        return {side: self.signature[side]["kind"] for side in "abc" if side in self.signature}

    def best(self) -> Best:
        """Restores the best checkpoint.

        Raises:
          RunError: there is no checkpoint, or it is damaged.
        """
        config, learned = self.config, self.signature.get(LEARNED)
        if learned is None:
            learned = logit_scale_options(config.loss.name, config.temperature)
        model = build_model_functions(
            config.model,
            config.temperature,
            logit_scale=learned,
            tokenizer=self.tokenizer,
            max_length=config.input.max_length,
            classes=len(self.signature.get(LABELS, ())),
            weighted=is_weighted(config.init),
        )
        sample = (
            jax.ShapeDtypeStruct((2, *self.signature[side]["shape"]), INPUT_DTYPES.get(kind, np.float32))
            for side, kind in self.kinds.items()
        )
        check_bases(config.model, self.signature.get(BASES))
        params, model_state = jax.eval_shape(model.init, jax.random.key(0), *sample)
        device = SingleDeviceSharding(jax.local_devices()[0])
        whole = {"params": params, "model_state": model_state}
        target = checkpoint.abstract(without_frozen(whole), device)
        checkpoints = checkpoint.Checkpoints(self.folder / "checkpoints", keep=config.checkpoint.keep)
        try:
            steps = checkpoints.steps(checkpoint.BEST)
            if not steps:
                raise RunError(f"{self.folder} has no checkpoint yet; run the train command again to resume it")
            problem, restored = checkpoints.read(steps[-1], target, kind=checkpoint.BEST)
        finally:
            checkpoints.close()
        if restored is None:
            path = self.folder / "checkpoints" / checkpoint.BEST / str(steps[-1])
            raise RunError(
                f"checkpoint {path} is damaged ({problem}); run the train command again: it replaces it by the model "
                "of its last step"
            )
        variables = restored.state
        if model.frozen is not None:
            frozen = {"model_state": {FROZEN: jax.device_put(model.frozen(), device)}}
            variables = with_frozen(variables, frozen)
        return Best(model, variables, restored.step)


def read_run(workdir: Folder, *, config: ConfigDict | None = None) -> SavedRun:
    """The files of a run.

    Args:
      workdir: of the run, absolute or relative.
      config: replaces config.json, to change settings that the model does not depend on.

    Raises:
      UserError: the folder holds no run.
      RunError: its signature is lost or damaged.
    """
    folder = run_folder(workdir)
    config = read_run_config(folder) if config is None else config
    signature = read_signature(folder)
    config = with_recorded_folders(config, signature.get(BASES))
    tokenizer: Any = checkpoint_tokenizer(config.model)
    if tokenizer is None and (folder / TOKENIZER).is_file():
        tokenizer = data.Tokenizer.load(folder / TOKENIZER)
    return SavedRun(folder, config, signature, tokenizer)


def run_folder(workdir: Folder) -> pathlib.Path:
    """The absolute folder; orbax finds no checkpoint by a relative path."""
    return pathlib.Path(workdir).expanduser().absolute()


def read_run_config(folder: pathlib.Path) -> ConfigDict:
    """The configuration of a run.

    Raises:
      UserError: the folder holds no run.
    """
    found = read_config(folder)
    if found is None:
        raise UserError(f"{folder} holds no run (no config.json); give the --workdir of a finished training")
    return ConfigDict(found)


def read_signature(folder: pathlib.Path) -> dict[str, Any]:
    """inputs.json of a run.

    Raises:
      RunError: it is lost or damaged.
    """
    path = folder / SIGNATURE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not {"a", "b"} <= found.keys():
            raise ValueError("it lacks a side")
        return found
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path} cannot be read ({error}); run the train command again to restore it") from error


def saved_fingerprints(folder: pathlib.Path) -> Mapping[str, str] | None:
    """The fingerprint of each split that the run recorded (`data.fingerprints`); None without a readable record."""
    return _recorded(folder, DATA)


def saved_bases(folder: pathlib.Path) -> Mapping[str, Mapping[str, str]] | None:
    """The checkpoints that the run's encoders started from (`base_digests`); None without a readable record."""
    return _recorded(folder, BASES)


def _recorded(folder: pathlib.Path, name: str) -> Any:
    try:
        return read_signature(folder).get(name)
    except RunError:  # `train` writes it again; commands that need it raise this error themselves
        return None
