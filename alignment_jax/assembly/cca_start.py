"""Where the parameters start: random numbers, or the closed form on the training pairs (CCA)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import baselines, data, evals, models
from alignment_jax.core.errors import ConfigError
from alignment_jax.train import processes
from alignment_jax.train.experiment import Model

STARTS = ("random", "cca")
AUTO = "auto"
SHRINKAGES = (0.1, 0.5, 0.8, 0.95)
POWERS = (0.5, 1.0)
# Enough of both for a covariance and for a choice; more would only take memory and time.
MOST_TRAINING_ITEMS = 32768
MOST_VALIDATION_ITEMS = 1000


def with_start(
    config: ConfigDict,
    model: Model,
    train: data.PairSplit,
    val: data.PairSplit | None,
    *,
    names: Sequence[str] = ("a", "b"),
) -> tuple[Model, tuple[str, ...]]:
    """The model with the configured start in its `init`, and lines for the log about what was chosen.

    Args:
      config: the whole configuration.
      model: as `build_model` makes it.
      train: the prepared training split, which the closed form is fitted to.
      val: the prepared validation split, for what is chosen; None where there is none.
      names: what the modalities are called.

    Raises:
      ConfigError: a number out of range, or a model or data without a linear solution.
    """
    if config.init.name == "random":
        return model, ()
    _check_linear(config)
    # LAPACK gives other bits on another processor, and what is best on val may then be another setting.
    found = processes.compute_on_primary(lambda: _solved(config, train, val, names))

    def init(key: jax.Array, *inputs: Any):
        params, model_state = model.init(key, *inputs)
        for side in ("a", "b"):
            params = models.init_projection(params, side, *found[side])
        return params, model_state

    return dataclasses.replace(model, init=init), (found["message"],)


def _solved(
    config: ConfigDict, train: data.PairSplit, val: data.PairSplit | None, names: Sequence[str]
) -> dict[str, Any]:
    """(matrix, bias) of "a" and "b", and the "message" about what was chosen."""
    project_a, project_b, choice = _fit(config, train, val)
    # Embeddings of length about one before they are normalised: what a learning rate means does not depend on CCA's own
    # units.
    a, b = (_scaled(config, project, column) for project, column in ((project_a, train.a), (project_b, train.b)))
    return {"a": a, "b": b, "message": _message(*choice, names)}


def check_choices(section: ConfigDict) -> None:
    """Raises ConfigError for text in `init` that is neither "auto" nor a number."""
    _shrinkages(section.shrinkage)
    _dims(section.dim, 1)
    _powers(section.power)


def _check_linear(config: ConfigDict) -> None:
    section = config.model
    if section.name != "adapters":
        raise ConfigError(
            f"init.name=cca starts linear maps of frozen latents, but model.name is {section.name}: "
            "run `alignment-jax extract` and use configs/flickr8k_frozen.py"
        )
    blocks = max(section.blocks_a, section.blocks_b)
    if section.final_norm or (blocks > 0 and not section.zero_init):
        raise ConfigError(
            "init.name=cca starts linear maps: set model.final_norm=False, and model.zero_init=True where there are "
            "blocks"
        )


def _fit(
    config: ConfigDict, train: data.PairSplit, val: data.PairSplit | None
) -> tuple[baselines.Projection, baselines.Projection, tuple[Any, str]]:
    section = config.init
    some = _some_of(train, MOST_TRAINING_ITEMS, config.data_seed)
    za, zb = _latents(config, some.a), _latents(config, some.b)[0]
    most = min(config.model.dim, za.shape[-1], zb.shape[-1])
    shrinkages, dims = _shrinkages(section.shrinkage), _dims(section.dim, most)
    powers = _powers(section.power)
    if len(shrinkages) == len(dims) == len(powers) == 1:
        (shrinkage,), (dim,), (power,) = shrinkages, dims, powers
        a, b = baselines.fit_cca(za, zb, b_to_a=some.b_to_a, shrinkage=shrinkage, dim=dim, power=power)
        return a, b, ((shrinkage, dim, power), "as configured")
    if val is None:
        raise ConfigError("init.shrinkage, init.dim and init.power are chosen on val, but there is none: give numbers")
    held_out = _some_of(val, MOST_VALIDATION_ITEMS, config.data_seed)
    val_a, val_b = _latents(config, held_out.a), _latents(config, held_out.b)[0]
    views = val_a if config.eval.views == "mean" else val_a[:1]

    def embedded(project: baselines.Projection, z: np.ndarray) -> np.ndarray:
        # Of one width for every number of dimensions: the ranks are compiled once, and for the run's own width.
        found = np.zeros((len(z), max(most, config.model.dim)), np.float32)
        matrix = np.asarray(project.matrix)
        found[:, : matrix.shape[1]] = (z - np.asarray(project.mean)) @ matrix
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def score(project_a: baselines.Projection, project_b: baselines.Projection) -> float:
        a = evals.mean_direction([embedded(project_a, view) for view in views])
        one = evals.SplitEmbeddings(a, embedded(project_b, val_b), held_out.b_to_a, *held_out.duplicate_ids)
        return evals.recall_metrics(one)["rsum"]

    a, b, choice = baselines.tune_cca(
        za, zb, score, b_to_a=some.b_to_a, shrinkages=shrinkages, dims=dims, powers=powers
    )
    how = f"rsum {choice.score:.1f} on val, the best of {choice.candidates} settings"
    return a, b, ((choice.shrinkage, choice.dim, choice.power), how)


def _message(found: tuple[Any, int, float], how: str, names: Sequence[str]) -> str:
    shrinkages, dim, power = found
    each = " and ".join(f"{value:g} ({name})" for value, name in zip(shrinkages, names, strict=True))
    return f"CCA start: shrinkage {each}, {dim} dimensions, power {power:g}; {how}"


def _some_of(split: data.PairSplit, most: int, seed: int) -> data.PairSplit:
    """The split, or as many of its a-items as are enough."""
    if len(split) <= most:
        return split
    return split.subset(np.sort(np.random.default_rng(seed).permutation(len(split))[:most]))


def _latents(config: ConfigDict, column: data.Column) -> np.ndarray:
    """[views, n, d] as the linear maps get them."""
    views = (column, *column.further_views()) if isinstance(column, data.ArrayColumn) else (column,)
    rows = np.arange(len(column))
    return np.stack([np.asarray(models.normalized_input(v.read(rows), config.model.input_norm)) for v in views])


def _scaled(
    config: ConfigDict, project: baselines.Projection, column: data.Column, rows: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """(matrix, bias) of a projection, divided by the mean length of what it gives for the first latents."""
    some = column.take(np.arange(min(rows, len(column))))
    length = np.linalg.norm(np.asarray(project(_latents(config, some)[0])), axis=1).mean()
    return np.asarray(project.matrix) / length, np.asarray(project.bias) / length


def _shrinkages(text: str) -> tuple[tuple[float, float], ...]:
    if text == AUTO:
        return tuple(itertools.product(SHRINKAGES, SHRINKAGES))
    a, plus, b = text.partition("+")
    first = _number("init.shrinkage", a)
    return ((first, _number("init.shrinkage", b) if plus else first),)


def _dims(text: str, most: int) -> tuple[int, ...]:
    if text != AUTO:
        number = _number("init.dim", text)
        if not (number.is_integer() and number >= 1):
            raise ConfigError(f"init.dim is {text!r}; it must be 'auto' or a whole number of at least 1")
        return (min(int(number), most),)
    return (*(2**k for k in range(5, 20) if 2**k < most), most)


def _powers(text: str) -> tuple[float, ...]:
    return POWERS if text == AUTO else (_number("init.power", text),)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it must be {AUTO!r} or a number") from None
