"""`init.name=cca`: starts linear adapters from the closed form on the training pairs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import baselines, data, evals, models
from alignment_jax.assembly.training_moments import latents, subsample, training_moments
from alignment_jax.assembly.weighted_cosine import WEIGHTS
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.normalize import l2_normalize
from alignment_jax.train import processes
from alignment_jax.train.experiment import Model

STARTS = ("random", "cca")
SIMILARITIES = ("cosine", "weighted_cosine")
AUTO = "auto"
SHRINKAGES = (0.1, 0.5, 0.8, 0.95)
POWERS = (0.5, 1.0)
MAX_VALIDATION_ITEMS = 1000


def start_from_cca(
    model: Model,
    section: ConfigDict,
    adapters: ConfigDict,
    train: data.PairSplit,
    val: data.PairSplit | None,
    *,
    views: str,
    seed: int,
    names: Sequence[str] = ("a", "b"),
    devices: Sequence[jax.Device] | None = None,
    place: Callable[..., Any] = models.init_projection,
) -> tuple[Model, tuple[str, ...]]:
    """The model whose `init` gives the closed form, and a line for the log on the chosen settings.

    Args:
      model: from `build_model_functions`.
      section: `init` of the configuration.
      adapters: its section `model`.
      train: the prepared training split, to fit.
      val: the prepared validation split, to choose settings; None where there is none.
      views: `eval.views`, for the choice.
      seed: chooses the items where there are too many.
      names: of the modalities.
      devices: of the run, for many training pairs; None for those of this process.
      place: (params, side, matrix, bias) -> params with this map.

    Raises:
      ConfigError: a number out of range, or a model or data without a linear solution.
    """
    check_linear(adapters)
    found = _solve(section, adapters, train, val, views, seed, names, devices)

    def init(key: jax.Array, *inputs: Any):
        params, model_state = model.init(key, *inputs)
        for side in ("a", "b"):
            params = place(params, side, *found[side])
        if is_weighted(section):
            params = {**params, WEIGHTS: jnp.asarray(found["weights"])}
        return params, model_state

    return dataclasses.replace(model, init=init), (found["message"],)


def linear_teacher(
    section: ConfigDict,
    model: ConfigDict,
    train: data.PairSplit,
    val: data.PairSplit | None,
    *,
    views: str,
    seed: int,
    names: Sequence[str],
    devices: Sequence[jax.Device] | None = None,
) -> tuple[Callable[[str, Any], jax.Array], str]:
    """(side, latents [n, d]) -> unit vectors [n, dim] by CCA on the training pairs, and a line for the log.

    Args:
      section, train, val, views, seed, names, devices: see `start_from_cca`.
      model: the section `model` of the configuration; any model of latents.

    Raises:
      ConfigError: a number out of range.
    """
    norm = model.get("input_norm", "none")
    linear = ConfigDict({"dim": model.dim, "input_norm": norm})
    found = _solve(section, linear, train, val, views, seed, names, devices)

    def teacher(side: str, z: Any) -> jax.Array:
        matrix, bias = found[side]
        return l2_normalize(models.normalized_input(z, norm) @ matrix + bias)

    return teacher, found["message"].replace("CCA start", "CCA teacher", 1)


def _solve(
    section: ConfigDict,
    adapters: ConfigDict,
    train: data.PairSplit,
    val: data.PairSplit | None,
    views: str,
    seed: int,
    names: Sequence[str],
    devices: Sequence[jax.Device] | None,
) -> dict[str, Any]:
    """(matrix, bias) of "a" and "b", "weights" [model.dim] of a weighted cosine, and the "message" on the settings."""
    moments = training_moments(train, adapters.input_norm, seed=seed, devices=devices)
    # LAPACK gives other bits on another processor, and another setting may then be the best on val.
    return processes.compute_on_primary(lambda: _solve_here(section, adapters, train, val, views, seed, names, moments))


def _solve_here(
    section: ConfigDict,
    adapters: ConfigDict,
    train: data.PairSplit,
    val: data.PairSplit | None,
    views: str,
    seed: int,
    names: Sequence[str],
    moments: baselines.Moments | None,
) -> dict[str, Any]:
    project_a, project_b, choice = _fit(section, adapters, train, val, views, seed, moments)
    # Embeddings have length about one before normalization, so a learning rate has the same effect as elsewhere.
    a, b = (
        _scaled(adapters.input_norm, project, column)
        for project, column in ((project_a, train.a), (project_b, train.b))
    )
    power = choice[0][2]
    weights = _weights(project_a, power, adapters.dim)
    weighted = ", weighted cosine" if is_weighted(section) else ""
    return {"a": a, "b": b, "weights": weights, "message": _message(*choice, names) + weighted}


def is_weighted(section: ConfigDict) -> bool:
    """Whether a run's embeddings are compared by a weighted cosine; `init` of an earlier version lacks the setting."""
    return section.get("similarity", "cosine") == "weighted_cosine"


def check_init(section: ConfigDict) -> None:
    """Raises ConfigError for a value in `init` that is neither "auto" nor a number."""
    _shrinkages(section.shrinkage)
    dim_candidates(section.dim, 1)
    power_candidates(section.power)


def check_linear(section: ConfigDict) -> None:
    """Raises ConfigError where `model` is no linear map of latents."""
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
    section: ConfigDict,
    adapters: ConfigDict,
    train: data.PairSplit,
    val: data.PairSplit | None,
    views: str,
    seed: int,
    moments: baselines.Moments | None,
) -> tuple[baselines.Projection, baselines.Projection, tuple[Any, str]]:
    norm = adapters.input_norm
    if moments is None:
        za, zb = latents(norm, train.a), latents(norm, train.b)[0]
        moments = baselines.paired_moments(za, zb, b_to_a=train.b_to_a)
    most = min(adapters.dim, *moments.c_ab.shape)
    shrinkages, dims = _shrinkages(section.shrinkage), dim_candidates(section.dim, most)
    powers = power_candidates(section.power)
    weighted = is_weighted(section)
    if len(shrinkages) == len(dims) == len(powers) == 1:
        (shrinkage,), (dim,), (power,) = shrinkages, dims, powers
        before = 0.0 if weighted else power
        a, b = baselines.fit_cca_to_moments(moments, shrinkage=shrinkage, dim=dim, power=before)
        return a, b, ((shrinkage, dim, power), "as configured")
    if val is None:
        raise ConfigError("init.shrinkage, init.dim and init.power are chosen on val, but there is none: give numbers")
    held_out = subsample(val, MAX_VALIDATION_ITEMS, seed)
    val_a, val_b = latents(norm, held_out.a), latents(norm, held_out.b)[0]
    val_views = val_a if views == "mean" else val_a[:1]

    def embedded(project: baselines.Projection, z: np.ndarray, side: str, power: float | None) -> np.ndarray:
        # One width for every number of dimensions: ranks compile once, for the width of the run.
        found = np.zeros((len(z), max(most, adapters.dim)), np.float32)
        matrix = np.asarray(project.matrix)
        found[:, : matrix.shape[1]] = (z - np.asarray(project.mean)) @ matrix
        if power is not None:
            weights = _weights(project, power, found.shape[1])
            return np.asarray(baselines.weighted_unit_vectors(found, weights, side=side))
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def tuned(powers: Sequence[float], after: float | None = None):
        """`after`: the power of a weighted cosine."""

        def score(project_a: baselines.Projection, project_b: baselines.Projection) -> float:
            a = evals.mean_direction([embedded(project_a, view, "a", after) for view in val_views])
            b = embedded(project_b, val_b, "b", after)
            one = evals.SplitEmbeddings(a, b, held_out.b_to_a, *held_out.duplicate_ids)
            return evals.recall_metrics(one)["rsum"]

        found = baselines.tune_cca_to_moments(moments, score, shrinkages=shrinkages, dims=dims, powers=powers)
        return found, found[2].power if after is None else after

    candidates = [tuned((0.0,), after=power) for power in powers] if weighted else [tuned(powers)]
    (a, b, choice), power = max(candidates, key=lambda found: found[0][2].score)
    count = sum(found[2].candidates for found, _ in candidates)
    how = f"rsum {choice.score:.1f} on val, the best of {count} settings"
    return a, b, ((choice.shrinkage, choice.dim, power), how)


def _weights(project: baselines.Projection, power: float, dim: int) -> np.ndarray:
    """[dim] float32: powers of the canonical correlations, 0 for dimensions that the solution lacks."""
    weights = np.zeros(dim, np.float32)
    correlations = np.asarray(project.correlations)
    weights[: len(correlations)] = correlations**power
    return weights


def _message(found: tuple[Any, int, float], how: str, names: Sequence[str]) -> str:
    shrinkages, dim, power = found
    each = " and ".join(f"{value:g} ({name})" for value, name in zip(shrinkages, names, strict=True))
    return f"CCA start: shrinkage {each}, {dim} dimensions, power {power:g}; {how}"


def _scaled(
    norm: str, project: baselines.Projection, column: data.Column, rows: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """`scaled_map` by the first latents of a column."""
    some = column.take(np.arange(min(rows, len(column))))
    return scaled_map(project, latents(norm, some)[0])


def scaled_map(project: baselines.Projection, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(matrix, bias) of a projection, divided by the mean length of its output on the latents [n, d]."""
    length = np.linalg.norm(np.asarray(project(z)), axis=1).mean()
    return np.asarray(project.matrix) / length, np.asarray(project.bias) / length


def shrinkage_texts(text: str) -> tuple[str, str]:
    """`init.shrinkage` of each side: "auto" or a number.

    >>> shrinkage_texts("0.8+0.5"), shrinkage_texts("auto")
    (('0.8', '0.5'), ('auto', 'auto'))
    """
    a, plus, b = str(text).partition("+")
    return a, b if plus else a


def _shrinkages(text: str) -> tuple[tuple[float, float], ...]:
    sides = shrinkage_texts(text)
    a, b = (SHRINKAGES if text == AUTO else (_number("init.shrinkage", text),) for text in sides)
    return tuple(itertools.product(a, b))


def dim_candidates(text: str, most: int) -> tuple[int, ...]:
    """The numbers of dimensions of `init.dim`, at most `most`."""
    if text != AUTO:
        number = _number("init.dim", text)
        if not (number.is_integer() and number >= 1):
            raise ConfigError(f"init.dim is {text!r}; it must be 'auto' or a whole number of at least 1")
        return (min(int(number), most),)
    return (*(2**k for k in range(5, 20) if 2**k < most), most)


def power_candidates(text: str) -> tuple[float, ...]:
    """The powers of `init.power`."""
    return POWERS if text == AUTO else (_number("init.power", text),)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it must be {AUTO!r} or a number") from None
