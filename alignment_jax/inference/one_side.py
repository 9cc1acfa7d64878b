"""Embeds items of one side of a trained model."""

from __future__ import annotations

from typing import Any

import numpy as np

from alignment_jax import data
from alignment_jax.assembly.inputs import remaining_transform
from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.errors import DataError, UserError
from alignment_jax.inference.query_bank import RunHubness
from alignment_jax.inference.raw_latents import KINDS, LATENTS, FrozenEncoders, OnProgress, no_progress
from alignment_jax.inference.trained_model import TrainedModel

_RAW = {kind: side for side, kind in KINDS.items()}
_INSTEAD = {"image": "images:DIR", "text": "texts:FILE.txt", "embedding": "latents:FILE.npy"}


def embed_one_side(
    trained: TrainedModel,
    items: data.OneSide,
    *,
    hubness: RunHubness | None = None,
    encoders: FrozenEncoders | None = None,
    on_progress: OnProgress = no_progress,
) -> dict[str, np.ndarray]:
    """The embeddings and names of items of one side.

    Args:
      trained: the run.
      items: of one side.
      hubness: fold this correction into the embeddings, see `evals.fold_side`.
      encoders: of a run on latents, for images and texts.
      on_progress: called after every batch of an encoder.

    Returns:
      `image` [k, d] and `image_id` [k], or `text` [k, d] and `caption` [k], as in `embeddings:FILE.npz`; for a side of
      another kind `a` and `a_id`, or `b` and `b_id`.

    Raises:
      UserError: the run has no embeddings of its sides.
      DataError: neither side of the run reads such items, or both do and the SPEC names no side.
    """
    if not task_of(trained.config.model).aligns:
        raise UserError(f"a run of model {trained.config.model.name} classifies: it has no embeddings of a side")
    kind, raw = items.column.kind, items.column
    if encoders is not None and (side := _RAW.get(kind, "")) and encoders.encodes(side, raw):
        items = items._replace(column=encoders.column(side, raw, on_progress=on_progress), side=side)
    side = items.side or _side_of(trained, items)
    _check(trained, items, side)
    embedded = trained.embed_column(side, items.column)
    if hubness is not None:
        embedded = hubness.fold_side(side, embedded)
    base = KINDS[side] if kind in (KINDS[side], LATENTS) else side
    if kind == "text":
        texts = [str(text)[:1000] for text in raw.read(np.arange(len(raw)))]
        names: dict[str, Any] = {"caption": np.asarray(texts, np.str_)}
    else:
        names = {f"{base}_id": items.names}
    return {base: embedded, **names}


def _side_of(trained: TrainedModel, items: data.OneSide) -> str:
    """The side that reads items of this kind and, for latents, of this size."""
    kind = items.column.kind
    fits = [side for side in ("a", "b") if trained.reads[side]["kind"] == kind]
    if kind == "embedding" and len(fits) > 1:
        fits = [side for side in fits if trained.reads[side]["shape"] == _shape(trained, items)] or fits
    if len(fits) > 1:
        raise DataError(
            f"{items.spec}: both sides of the run read such items; write {items.spec},side=a or {items.spec},side=b"
            if kind == "embedding"
            else f"{items.spec}: both sides of the run read {kind} items, which can only be embedded as pairs"
        )
    return fits[0] if fits else ""


def _check(trained: TrainedModel, items: data.OneSide, side: str) -> None:
    kind = items.column.kind
    reads = {each: trained.reads[each] for each in ("a", "b")}
    if not side or reads[side]["kind"] != kind:
        found = " and ".join(f"{read['kind']} items" for read in reads.values())
        if all(read["kind"] == "embedding" for read in reads.values()):
            what = "encode these with the encoder that made its latents and write latents:FILE.npy"
        else:
            known = [_INSTEAD[read["kind"]] for read in reads.values() if read["kind"] in _INSTEAD]
            what = f"write {' or '.join(known)}" if known else "name a data set with both sides"
        raise DataError(f"{items.spec}: {kind} items, but the run reads {found}; {what}")
    shape = _shape(trained, items)
    if shape != reads[side]["shape"]:
        raise DataError(
            f"{items.spec}: an item has shape {shape}, but side {side} of the run was trained on "
            f"{reads[side]['shape']}; use the encoder that made the training data"
        )


def _shape(trained: TrainedModel, items: data.OneSide) -> list[int]:
    """The shape of an item as the model takes it."""
    side = next(each for each in ("a", "b") if trained.reads[each]["kind"] == items.column.kind)
    column = trained.inputs.prepare(items.column.take(np.arange(1)))
    batch, _ = next(
        data.iterate_items(column, remaining_transform(column, trained.inputs.evaluate[side]), 1, threads=1)
    )
    return list(batch.shape[1:])
