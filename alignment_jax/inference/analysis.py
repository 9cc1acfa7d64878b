"""Evaluations beyond the metrics: calibration, rare content, noise, balance, maps of the embeddings."""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, evals, schedules
from alignment_jax.assembly.build import Built
from alignment_jax.assembly.cluster_sizes import evaluation_sizes
from alignment_jax.assembly.inputs import evaluation_split
from alignment_jax.assembly.methods import registered_loss
from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.memoize import remember
from alignment_jax.core.types import PyTree
from alignment_jax.inference.seed_models import SeedModels
from alignment_jax.train.loop import evaluation_variables, initial_state

STRESS = ("none", "quick", "full")
# Strengths of each kind of noise. Units: data/corruptions.py; for latents, their standard deviation.
QUICK: dict[str, tuple[float, ...]] = {
    "latent_noise": (0.5, 1.0, 2.0),
    **dict.fromkeys(data.WORD_NOISES, (0.2, 0.4, 0.6)),
    "image_gaussian": (0.1, 0.2, 0.4),
    "image_blur": (0.03, 0.06, 0.12),
    "image_occlusion": (0.1, 0.25, 0.5),
    "image_jpeg": (0.8, 0.9, 0.97),
}
FULL: dict[str, tuple[float, ...]] = {
    "latent_noise": (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
    **dict.fromkeys(data.WORD_NOISES, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)),
    "image_gaussian": (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    "image_blur": (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2),
    "image_occlusion": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
    "image_jpeg": (0.5, 0.7, 0.8, 0.9, 0.94, 0.97, 0.99),
}
# Methods with equal starts share one map; a closed form has one for before and after training.
_embedding_map = remember(entries=32)(evals.embedding_map)
_LONGEST_TEXT = 200  # characters of a caption that are kept for a gallery


def analyse(
    built: Built, variables: PyTree, *, stress: str = "quick", split: str = "test", seed: int = 0
) -> dict[str, Any]:
    """Every evaluation beyond the metrics that applies to the task, as plain JSON values.

    Args:
      built: the run, from `build`.
      variables: {"params", "model_state"} of the model.
      stress: "none", "quick" or "full": the number of noise strengths.
      split: to evaluate; the first one where there is none of this name.
      seed: of the noise; use the same for all models of a comparison.

    Returns:
      For an alignment `calibration` (see `evals.calibration`; `fitted` is the same at the temperature fitted on val),
      `long_tail`, `stress` (rows), `retained` (share of the metric left under noise, by kind and side) and
      `modality_gap`; for a classifier `balance`. A part that does not apply to the data is missing.

    Raises:
      ConfigError: `stress` is unknown.
    """
    _check_stress(stress)
    experiment = built.experiment
    if not task_of(ConfigDict(experiment.config).model).aligns:
        found = experiment.evaluate(variables, experiment.evaluations[_present(built, split)])
        return {"balance": evals.balance(found)}
    return analyse_models(SeedModels(built, [variables]), stress=stress, split=split, seed=seed)[0]


def analyse_models(
    models: SeedModels, *, stress: str = "quick", split: str = "test", seed: int = 0
) -> list[dict[str, Any]]:
    """`analyse` for alignments that differ in their seed; work that does not depend on the seed is done once.

    Args:
      models: to analyse.
      stress, split, seed: as for `analyse`.
    """
    _check_stress(stress)
    built = models.built
    config, name = ConfigDict(built.experiment.config), _present(built, split)
    embedded = models.embedded(name)
    sizes, train_sizes = evaluation_sizes(
        config.clusters, built.splits["train"], built.splits[name], seed=config.data_seed
    )
    val = models.embedded("val") if "val" in built.experiment.evaluations else [None] * len(embedded)

    def of_model(variables: PyTree, one: evals.SplitEmbeddings, other: evals.SplitEmbeddings | None) -> dict[str, Any]:
        return {
            "calibration": _calibration(config, variables, one, other, train_sizes),
            "long_tail": evals.long_tail_recall(one, sizes, train_sizes),
            "modality_gap": evals.modality_gap(one.a, one.b),
        }

    # NumPy releases the GIL while it computes a block of similarities.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(of_model, models.variables, embedded, val))
    if stress != "none":
        noises = applicable_noises(models, split=name, strengths=QUICK if stress == "quick" else FULL)
        for found, rows in zip(results, evals.stress_test_models(embedded, noises, seed=seed), strict=True):
            found |= {"stress": rows, "retained": evals.retained_share(rows)}
    return results


def _check_stress(stress: str) -> None:
    if stress not in STRESS:
        raise ConfigError(f"stress is {stress!r}; it must be one of {', '.join(STRESS)}")


def _present(built: Built, split: str) -> str:
    evaluations = built.experiment.evaluations
    return split if split in evaluations else next(iter(evaluations))


def _calibration(
    config: ConfigDict,
    variables: PyTree,
    embedded: evals.SplitEmbeddings,
    val: evals.SplitEmbeddings | None,
    train_sizes: np.ndarray,
) -> dict[str, Any]:
    """At the temperature of training, and at the one fitted on val."""
    own = softmax_temperature(config, variables["params"], train_sizes)
    temperatures = [] if own is None else [own]
    if val is not None:
        temperatures.append(evals.fit_temperature(val.a, val.b, val.b_to_a, ids_a=val.ids_a, ids_b=val.ids_b))
    a, b, ids_a, ids_b = embedded.a, embedded.b, embedded.ids_a, embedded.ids_b
    found = evals.calibration_at_temperatures(
        a, b, embedded.b_to_a, temperatures=temperatures, ids_a=ids_a, ids_b=ids_b
    )
    fitted = found.pop() if val is not None else None
    return {**(found[0] if found else {}), "fitted": fitted}


def softmax_temperature(config: ConfigDict, params: PyTree, train_sizes: np.ndarray) -> float | None:
    """The temperature of training: the model's own, or the mean of a schedule over a period and all samples.

    Returns:
      None for a loss without a temperature (max-margin).
    """
    section = config.temperature
    if registered_loss(config.loss.name).anchor_scale != "temperature":
        return None
    if section.schedule == "cosine":
        return 0.5 * (section.min_shift + section.max_shift)
    if section.schedule == "mm_ts":
        shift = schedules.cluster_shift(
            train_sizes,
            min_size=float(train_sizes.min()),
            max_size=float(train_sizes.max()),
            min_shift=section.min_shift,
            max_shift=section.max_shift,
        )
        return float(np.mean(shift))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if getattr(path[-1], "key", None) == "log_temperature":
            return float(np.clip(np.exp(np.asarray(leaf, np.float64)), section.min, section.max))
    return float(section.init)


def applicable_noises(models: SeedModels, *, split: str, strengths: dict[str, tuple[float, ...]]) -> list[evals.Noise]:
    """The noises that apply to a split: on frozen latents, or on images and captions.

    Args:
      models: `Noise.embed` returns the embeddings of each of them.
      split: name of the split.
      strengths: kind -> strengths, as `QUICK`.
    """
    built = models.built
    config, raw, train = ConfigDict(built.experiment.config), built.splits[split], built.splits["train"]
    clean = built.experiment.evaluations[split]
    items = {"a": clean.items_a, "b": clean.items_b}
    found = []

    def add(kind: str, side: str, *disturbed: Callable[[float, int], Any]) -> None:
        def embed(strength: float, seed: int) -> np.ndarray:
            # Where an item is the mean over its views, each view gets its own noise.
            parts = [
                models.side(side, functools.partial(view, strength, seed + 7919 * number))
                for number, view in enumerate(disturbed)
            ]
            return evals.mean_direction(parts) if len(parts) > 1 else parts[0]

        found.append(evals.Noise(kind, side, strengths[kind], embed))

    for side, column, known in (("a", raw.a, train.a), ("b", raw.b, train.b)):
        if column.kind == "embedding":
            scale = float(np.std(known.read(np.arange(len(known))), dtype=np.float64))
            further = column.further_views() if isinstance(column, data.ArrayColumn) else ()
            views = [column, *(further if side == "a" and clean.views_a else ())]
            add("latent_noise", side, *(functools.partial(_noisy_latents, config, view, scale) for view in views))
        elif column.kind == "image":
            for kind in data.IMAGE_NOISES:
                add(kind, side, functools.partial(_noisy_images, items[side], kind))
        elif column.kind == "text":
            words = data.vocabulary(known.read(np.arange(len(known))))
            for kind in data.WORD_NOISES:
                add(kind, side, functools.partial(_noisy_captions, config, built, raw, kind, words))
    return found


Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def _noisy_latents(config: ConfigDict, column: data.Column, scale: float, strength: float, seed: int) -> Batches:
    latents = evals.latent_noise(column.read(np.arange(len(column))), strength, seed, scale=scale)
    return data.iterate_items(data.ArrayColumn(latents), None, min(config.eval.batch_size, len(latents)))


def _noisy_images(items: Callable[[], Batches], kind: str, strength: float, seed: int) -> Batches:
    index = 0
    for images, where in items():
        changed = images.copy()
        for row in np.flatnonzero(where):
            changed[row] = data.corrupt_image(images[row], kind, strength, seed=seed, index=index)
            index += 1
        yield changed, where


def _noisy_captions(
    config: ConfigDict, built: Built, raw: data.PairSplit, kind: str, words: Sequence[str], strength: float, seed: int
) -> Batches:
    captions = data.corrupt_captions(raw.b, kind, strength, seed=seed, words=words)
    # Only captions are encoded; images are never read.
    prepared = raw.replace(b=built.inputs.prepare(captions))
    return evaluation_split(config.eval, prepared, built.inputs).items_b()


def embedding_arrays(
    models: SeedModels,
    *,
    split: str = "test",
    initial: PyTree | None = None,
    perplexities: Sequence[int] = (30,),
    pairs: int = 150,
    depth: int = 5,
) -> dict[str, np.ndarray]:
    """The arrays that maps and galleries of a comparison are drawn from, for an .npz file.

    Args:
      models: alignments; the first is used.
      split: of the items.
      initial: variables before training; None for those of the run's seed.
      perplexities: of the maps.
      pairs: number of pairs on a map, evenly spaced in the split, each with its first caption.
      depth: number of answers to each caption.

    Returns:
      `a` [n, d], `b` [m, d], `b_to_a`, `ids`, `captions`; `rank_ab` [n], `rank_ba` [m] (0 is first, negative for a row
      that repeats an earlier one), `top` [m, depth] and `right`, bool [m, depth], whether the answer is correct;
      for each perplexity p `map_p_a`, `map_p_b` and `map_p_before_a`, `map_p_before_b` [pairs, 2].
    """
    built = models.built
    if initial is None:
        initial = evaluation_variables(initial_state(built.experiment))
    after = models.embedded(split)[0]
    before = built.evaluator(initial, built.experiment.evaluations[split])
    raw = built.splits[split]
    rank_ab, rank_ba = after.ranks
    top, right = after.best_a(np.arange(len(after.b)), depth)
    found = {
        "a": after.a,
        "b": after.b,
        "b_to_a": np.asarray(after.owner, np.int32),
        "ids": np.asarray(raw.ids, np.str_),
        "captions": np.asarray([text[:_LONGEST_TEXT] for text in data.caption_texts(raw)], np.str_),
        "rank_ab": np.asarray(rank_ab, np.int32),
        "rank_ba": np.asarray(rank_ba, np.int32),
        "top": np.asarray(top, np.int32),
        "right": right,
    }
    rows = np.unique(np.linspace(0, len(raw) - 1, min(pairs, len(raw))).astype(int))
    captions = raw.pick_b(rows)
    for perplexity in perplexities:
        if not perplexity < 2 * len(rows):
            continue
        for when, embedded in (("", after), ("before_", before)):
            plane_a, plane_b = _embedding_map(embedded.a[rows], embedded.b[captions], perplexity=perplexity)
            found |= {f"map_{perplexity}_{when}a": plane_a, f"map_{perplexity}_{when}b": plane_b}
    return found


__getattr__ = renamed_names(__name__, {"noises_of": "applicable_noises", "kept_embeddings": "embedding_arrays"})
