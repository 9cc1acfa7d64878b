"""Records of the encoders that made latents: the array `encoders` of a file (JSON), or the plan of a folder."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alignment_jax.core.errors import DataError

Records = Mapping[str, Mapping[str, Any]]


def to_array(records: Records) -> np.ndarray:
    """The array `encoders` of an embeddings file: a 0-d string.

    Args:
      records: "image", "text" -> JSON values of the encoder.

    >>> to_array({"text": {"name": "st:minilm"}}).item()
    '{"text": {"name": "st:minilm"}}'
    """
    return np.array(json.dumps(records, sort_keys=True))


def from_array(path: pathlib.Path, array: np.ndarray | None) -> dict[str, dict[str, Any]]:
    """Modality -> record, from the array `encoders`; empty without one.

    Args:
      path: of the file, for the message.
      array: see `to_array`, or None.

    Raises:
      DataError: it is not a JSON object of objects.

    >>> from_array(pathlib.Path("e.npz"), to_array({"text": {"name": "st:minilm"}}))
    {'text': {'name': 'st:minilm'}}
    """
    if array is None:
        return {}
    try:
        found = json.loads(str(array[()]))
    except (ValueError, TypeError, IndexError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(record, dict) for record in found.values()):
        raise DataError(f"{path}: encoders must be one JSON object of objects; save the file without this array")
    return found


def of_plan(plan: Any) -> dict[str, dict[str, Any]]:
    """ "image", "text" -> record, from the plan of a folder of shards; empty for plans of other writers.

    >>> of_plan({"image_encoder": {"name": "hf:vit"}, "views": ["image_flip"]})
    {'image': {'name': 'hf:vit', 'views': ['image_flip']}}
    """
    if not isinstance(plan, dict):
        return {}
    found = {side: dict(entry) for side in ("image", "text") if isinstance(entry := plan.get(f"{side}_encoder"), dict)}
    if "image" in found:
        found["image"] |= {key: plan[key] for key in ("views", "pixel_range") if plan.get(key)}
    return found


def by_side(records: Records, modalities: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Side ("a", "b") -> record.

    Args:
      records: by modality, or by "image" and "text", or by "a" and "b".
      modalities: names of the sides, a first.

    >>> by_side({"audio": {"name": "mine"}}, ("audio", "text"))
    {'a': {'name': 'mine'}}
    """
    sides = {}
    for side, modality, usual in zip("ab", modalities[:2], ("image", "text"), strict=True):
        # The modality comes first: latents of titles and texts have the sides "text" and "title".
        name = next((name for name in (modality, usual, side) if name in records), None)
        if name is not None:
            sides[side] = dict(records[name])
    return sides
