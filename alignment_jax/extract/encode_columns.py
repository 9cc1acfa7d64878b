"""Encodes whole columns: batches are prepared in threads while the devices compute."""

from __future__ import annotations

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from alignment_jax import data
from alignment_jax.extract.encoders import Encoder, Stages
from alignment_jax.extract.views import make_views

OnBatch = Callable[[int], None]  # (items of a finished batch)
_MOST_THREADS = 16


def no_batch(count: int) -> None:
    """The default `OnBatch`: does nothing."""


def encode_images(
    column: data.Column,
    encoder: Encoder,
    *,
    views: tuple[str, ...] = (),
    batch_size: int = 64,
    on_batch: OnBatch = no_batch,
) -> dict[str, np.ndarray]:
    """Vectors of images, "image" [n, width], and of each of their views (`view_names`) under its name.

    >>> mean_color = Encoder(lambda images: np.array([image.mean((0, 1)) for image in images]), {"name": "color"})
    >>> column = data.ImageColumn((np.full((4, 4, 3), 9, np.uint8),) * 3)
    >>> found = encode_images(column, mean_color, views=("image_flip",), batch_size=2)
    >>> found["image"].shape, found["image_flip"][2].tolist()
    ((3, 3), [9.0, 9.0, 9.0])
    """
    names, stages = ("image", *views), encoder.in_stages()
    size = batch_size * stages.devices
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def prepare(rows: np.ndarray) -> list[Any]:
        images = column.read(rows)
        made = [make_views(each, views) for each in images]
        return [stages.prepare(images), *(stages.prepare([each[name] for each in made]) for name in views)]

    batches = [np.arange(k, min(k + size, len(column))) for k in range(0, len(column), size)]
    prepared = (
        (rows, batch, name)
        for rows, ready in _ahead(prepare, batches)
        for name, batch in zip(names, ready, strict=True)
    )
    for rows, vectors, name in _computed(stages, prepared, size):
        found[name].append(vectors)
        if name == names[-1]:
            on_batch(len(rows))
    return {name: np.concatenate(each) for name, each in found.items()}


def encode_texts(
    column: data.Column, encoder: Encoder, *, batch_size: int = 64, on_batch: OnBatch = no_batch
) -> np.ndarray:
    """Vectors of texts, [n, width], in the order of the column."""
    stages = encoder.in_stages()
    size = batch_size * stages.devices
    texts = column.read(np.arange(len(column)))
    arranged = ((rows, batch, "text") for rows, batch in stages.arrange(texts, size))
    found = None
    for rows, vectors, _ in _computed(stages, arranged, size):
        if found is None:
            found = np.empty((len(texts), vectors.shape[1]), vectors.dtype)
        found[rows] = vectors
        on_batch(len(rows))
    assert found is not None
    return found


def _computed(
    stages: Stages, batches: Iterable[tuple[np.ndarray, Any, str]], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    """Yields (rows, vectors, name) of every batch in order, two batches behind the devices."""
    launched: collections.deque[tuple[np.ndarray, Any, str]] = collections.deque()
    for rows, batch, name in batches:
        launched.append((rows, stages.launch(batch, size), name))
        if len(launched) > 2:
            rows, result, name = launched.popleft()
            yield rows, stages.collect(result), name
    for rows, result, name in launched:
        yield rows, stages.collect(result), name


def _ahead(prepare: Callable[[np.ndarray], Any], batches: list[np.ndarray]) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields (rows, prepare(rows)) of every batch in order; prepares the next ones in threads."""
    threads = min(_MOST_THREADS, max(2, os.cpu_count() or 2))
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[Any] = collections.deque()
        for number in range(len(batches) + threads):
            if number < len(batches):
                waiting.append((batches[number], pool.submit(prepare, batches[number])))
            if number >= threads and waiting:
                rows, ready = waiting.popleft()
                yield rows, ready.result()
