"""`init.selection=cross_validation`: chooses the closed form's settings inside the training pairs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import baselines, data
from alignment_jax.assembly.cca_start import (
    AUTO,
    check_linear,
    dim_candidates,
    is_weighted,
    power_candidates,
    shrinkage_texts,
)
from alignment_jax.assembly.methods import configured_pair_loss, registered_loss
from alignment_jax.assembly.prepared_data import PreparedData
from alignment_jax.assembly.training_moments import MAX_TRAINING_ITEMS, latents, subsample
from alignment_jax.assembly.trial_training import trial_scores
from alignment_jax.config.durations import parse_duration
from alignment_jax.core.errors import ConfigError
from alignment_jax.retrieval import HubnessCorrection
from alignment_jax.train import processes

SELECTIONS = ("val", "cross_validation")
TRAINING = ("always", AUTO)

SHRINKAGES = (0.05, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95)
POWERS = (0.5, 1.0, 1.5)
# Fewer folds where each is large enough: a fold costs a decomposition.
_FOLDS, _FEW_FOLDS, _LARGE = 5, 3, 2000


def chooses_by_cross_validation(config: ConfigDict) -> bool:
    """Whether a setting is left to cross-validation.

    Raises:
      ConfigError: `init.training=auto` without cross-validation.
    """
    init = config.init
    if init.name != "cca" or init.selection != "cross_validation":
        if init.training == AUTO:
            raise ConfigError(
                "init.training=auto needs init.name=cca and init.selection=cross_validation, but they are "
                f"{init.name} and {init.selection}"
            )
        return False
    return AUTO in (str(init.shrinkage), str(init.dim), str(init.power), init.training, str(config.eval.hubness))


def with_cross_validated_settings(prepared: PreparedData, *, batch_size: int) -> PreparedData:
    """The data with a configuration whose "auto" settings are chosen by cross-validation inside train.

    Args:
      prepared: of a configuration for which `chooses_by_cross_validation`.
      batch_size: of the run.

    Raises:
      ConfigError: a setting out of range, a model or data without a linear solution, or too few items.
    """
    config = prepared.config
    check_linear(config.model)
    if is_weighted(config.init):
        raise ConfigError("init.selection=cross_validation scores the cosine: set init.similarity=cosine")
    loss = registered_loss(config.loss.name)
    if config.init.training == AUTO and (loss.anchor_scale != "temperature" or loss.bias):
        raise ConfigError(
            f"init.training=auto tries losses with a temperature and without a bias, not loss.name={config.loss.name}: "
            "set init.training=always"
        )
    # LAPACK gives other bits on another processor, and another setting may then be the best.
    found = processes.compute_on_primary(lambda: _choose(config, prepared.train, batch_size))
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(found["settings"])
    return dataclasses.replace(prepared, config=config, notes=(*prepared.notes, *found["notes"]))


def _choose(config: ConfigDict, train: data.PairSplit, batch_size: int) -> dict[str, Any]:
    """The chosen settings and a note for each decision."""
    some = subsample(train, MAX_TRAINING_ITEMS, config.data_seed)
    za, zb = latents(config.model.input_norm, some.a), latents(config.model.input_norm, some.b)
    zb = zb[:1]
    ids_a, ids_b = some.duplicate_ids
    different = len(some) if ids_a is None else len(np.unique(ids_a))
    count = min(_FOLDS if len(some) < _LARGE else _FEW_FOLDS, different)
    if different < 2:
        raise ConfigError(
            "init.selection=cross_validation needs at least 2 different items of a in train: give numbers"
        )
    averaged = config.eval.views == "mean"
    folds = baselines.hold_out(
        za.shape[1], zb.shape[1], b_to_a=some.b_to_a, ids_a=ids_a, ids_b=ids_b, folds=count, seed=config.data_seed
    )
    given = str(config.eval.hubness) != AUTO
    found = baselines.cross_validate_cca(za, zb, _grid(config, za, zb), folds, average_views=averaged)
    # A correction that was given is applied to whatever is chosen without one.
    best = found.best(corrected=not given)
    settings: dict[str, Any] = {
        "init.shrinkage": f"{best.shrinkage[0]:g}+{best.shrinkage[1]:g}",
        "init.dim": str(best.dim),
        "init.power": f"{best.power:g}",
        "init.training": "always",
    }
    notes = [
        f"cross-validation in {count} parts of train: shrinkage {settings['init.shrinkage']}, {best.dim} dimensions, "
        f"power {best.power:g}; held-out rsum {found.rsum(best):.1f}"
    ]
    if not given:
        correction, why = HubnessCorrection(), "no other is better on the held-out parts"
        if best.strength:
            correction = HubnessCorrection("nnn", k=best.neighbours, strength=best.strength)
            plain = found.rsum(dataclasses.replace(best, strength=0.0))
            why = f"held-out rsum {found.rsum(best):.1f}, {plain:.1f} without"
        settings["eval.hubness"] = str(correction)
        notes.append(f"hubness correction {correction}: {why}")
    if config.init.training == AUTO and parse_duration(config.train.duration, name="train.duration").amount:
        scores = trial_scores(
            za,
            zb,
            folds,
            best,
            optimizer=config.optimizer,
            duration=config.train.duration,
            batch_size=batch_size,
            pair_loss=configured_pair_loss(config.loss, config.temperature),
            temperature=config.temperature.init,
            ids_b=ids_b,
            average_views=averaged,
            seed=config.data_seed,
        )
        trained = bool(np.all(scores[:, 1, 0] > scores[:, 0, 0]))
        closed, after = scores[:, 0, 1].mean(), scores[:, 1, 1].mean()
        if not trained:
            settings["train.duration"] = "0 steps"
        notes.append(
            f"training from the closed form, {config.train.duration}: held-out rsum {closed:.1f} -> {after:.1f}; "
            + ("better in every part, so the run trains" if trained else "not better in every part, so none")
        )
    return {"settings": settings, "notes": notes}


def _grid(config: ConfigDict, za: np.ndarray, zb: np.ndarray) -> baselines.CcaGrid:
    init, most = config.init, min(config.model.dim, za.shape[2], zb.shape[2])
    sides = shrinkage_texts(init.shrinkage)
    a, b = (SHRINKAGES if text == AUTO else (float(text),) for text in sides)
    dims = sorted({max(1, most // 4), max(1, most // 2), most}) if init.dim == AUTO else dim_candidates(init.dim, most)
    powers = POWERS if init.power == AUTO else power_candidates(init.power)
    # The share of the identity in a covariance of n samples and d features falls with n / d (Ledoit and Wolf 2004).
    start = (*(z.shape[2] / (z.shape[2] + za.shape[1]) for z in (za, zb)), 1.0)
    return baselines.CcaGrid(shrinkages_a=a, shrinkages_b=b, powers=powers, dims=dims, start=start)
