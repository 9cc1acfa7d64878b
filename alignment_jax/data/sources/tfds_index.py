"""The index of a split of a `tfds:` data set: what opening it needs of every record.

Building it reads all bytes of the split, so it is kept on disk (`disk_cache`) until a file of the data set changes.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from alignment_jax.data.disk_cache import cached_index, files_key
from alignment_jax.data.record_fields import pick

_CHUNK = 256  # records per read
_LARGE = 1000  # records of a split from which its index is kept


def split_index(builder: Any, part: str, source: Any, roles: dict[str, str]) -> dict[str, list[Any]]:
    """Columns with an entry for every record.

    Args:
      builder: of the data set.
      part: name of the split.
      source: its records by number; images come as the bytes of their files.
      roles: the feature of each role, "" for none, and the kinds of both sides.

    Returns:
      "texts": the texts of b, a list; "a", "b": bytes of an image or recording, latents, or None; "id", "label": a
      text, or None without the role; "rate": Hz.
    """
    return cached_index("tfds_indexes", _key(builder, part, roles, len(source)), lambda: _index(builder, source, roles))


def flat_features(features: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """(name with slashes, feature) of nested features."""
    for name, feature in features.items():
        inner = getattr(feature, "feature", feature)
        if hasattr(inner, "items"):  # a dict, or a sequence of dicts
            yield from flat_features(inner, f"{before}{name}/")
        else:
            yield before + name, feature


def feature_of(features: Any, field: str) -> Any:
    """The feature of this name, or None."""
    return dict(flat_features(features)).get(field)


def _key(builder: Any, part: str, roles: dict[str, str], records: int) -> str | None:
    folder = pathlib.Path(builder.data_dir)
    # Latents are not kept: the index would be another copy of the data.
    if records < _LARGE or "embedding" in (roles["kind_a"], roles["kind_b"]) or not folder.is_dir():
        return None
    features = builder.info.features
    classes = [getattr(feature, "names", None) for _, feature in flat_features(features)]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return files_key(files, part, str(sorted(roles.items())), str(features), str(classes))


def _index(builder: Any, source: Any, roles: dict[str, str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"texts": [], "a": [], "b": [], "id": [], "label": [], "rate": []}
    for start in range(0, len(source), _CHUNK):
        for record in source.__getitems__(list(range(start, min(start + _CHUNK, len(source))))):
            found["texts"].append(_texts(builder, record, roles))
            for side in ("a", "b"):
                found[side].append(_size_or_latents(record, roles, side))
            found["id"].append(_string(pick(record, roles["id"])) if roles["id"] else None)
            found["label"].append(_label(builder, record, roles["label"]) if roles["label"] else None)
            found["rate"].append(int(pick(record, roles["rate"])) if roles["rate"] else 16000)
    return found


def _texts(builder: Any, record: Any, roles: dict[str, str]) -> list[str]:
    kind, value = roles["kind_b"], pick(record, roles["b"])
    if kind == "class":
        return [_label(builder, record, roles["b"])]
    if kind == "texts" or (kind == "text" and isinstance(value, list | np.ndarray)):
        return [text for text in map(_string, value) if text]
    return [text for text in [_string(value)] if text] if kind == "text" else []


def _size_or_latents(record: Any, roles: dict[str, str], side: str) -> int | np.ndarray | None:
    kind = roles[f"kind_{side}"]
    if kind not in ("image", "audio", "embedding"):
        return None
    value = pick(record, roles[side])
    if kind == "embedding":
        return np.asarray(value)
    return len(value) if isinstance(value, bytes) else np.asarray(value).nbytes


def _string(value: Any) -> str:
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value).strip()


def _label(builder: Any, record: Any, field: str) -> str:
    feature, value = feature_of(builder.info.features, field), pick(record, field)
    return feature.int2str(int(value)) if hasattr(feature, "int2str") else _string(value)
