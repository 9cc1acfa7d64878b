"""`tfds:NAME[,option=value,...]`: a data set prepared by TensorFlow Datasets as array_record; TensorFlow is not needed.

Options: `data_dir` (default: that of the library), `split` (split names joined by +; default: all), and the feature of
each role, with slashes for nested features: `a`, `b`, `label`, `id`, `rate`. Defaults: `a` is the first image (else the
first recording: an int16 tensor of any length), `b` the first text or sequence of texts, else another image, else the
class name; `label` is the feature `label`. A sequence of texts is several captions.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.optional import require
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.class_labels import number_classes
from alignment_jax.data.columns import ArrayColumn, ImageColumn, TextColumn
from alignment_jax.data.record_audio import RecordAudioColumn
from alignment_jax.data.record_fields import RecordField
from alignment_jax.data.sources.tfds_index import feature_of, flat_features, split_index
from alignment_jax.data.spec import parse_options
from alignment_jax.data.split import ALL, Column, PairSource, PairSplit, canonical_split
from alignment_jax.data.validation import decoding_errors

OPTIONS = {"data_dir": "", "split": "", "a": "", "b": "", "label": "", "id": "", "rate": ""}


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a prepared data set.

    Args:
      argument: name and options; see the module docstring.
      seed: not used.
      on_bad_sample: "skip" removes records without a text or with an image that cannot be decoded.

    Raises:
      ConfigError: an option is unknown, or not a feature or split of the data set, or the data set is not array_record.
      DataError: the data set is not prepared, or a record is unusable.
    """
    name, _, rest = argument.partition(",")
    options = parse_options(rest, OPTIONS, what=f"tfds:{name}")
    builder = _builder(name, options["data_dir"])
    roles = _roles(name, builder.info.features, options)
    bad = BadSamples(on_bad_sample)
    found: dict[str, list[str]] = {}
    notes = []
    for split, target in _splits(name, list(builder.info.splits), options["split"]).items():
        if target is None:
            notes.append(f"tfds:{name}: unused split {split!r}")
        else:
            found.setdefault(target, []).append(split)
    labels: dict[str, list[str]] = {}
    splits = {}
    for target, parts in found.items():
        splits[target], labels[target] = _read(name, builder, parts, roles, bad)
    problems = bad.finish()
    classes = None
    if any(labels.values()):
        known = getattr(feature_of(builder.info.features, roles["label"]), "names", None)
        classes = tuple(known) if known else number_classes([x for each in labels.values() for x in each])[1]
        number = {each: k for k, each in enumerate(classes)}
        splits = {
            target: split.replace(label=np.array([number[x] for x in labels[target]], np.int32))
            for target, split in splits.items()
        }
    kinds = {split.a.kind for split in splits.values()}, {split.b.kind for split in splits.values()}
    return PairSource(
        "tfds",
        f"tfds:{argument}",
        splits,
        ALL not in splits,
        problems,
        tuple(notes),
        label_names=classes,
        from_label=tuple(side for side in ("a", "b") if _is_label(roles, side)),
        modalities=tuple(_word(kind.pop()) for kind in kinds),  # type: ignore[arg-type]
    )


def _is_label(roles: dict[str, str], side: str) -> bool:
    return roles[f"kind_{side}"] == "class" or (roles[side] != "" and roles[side] == roles["label"])


def _word(kind: str) -> str:
    return {"embedding": "features"}.get(kind, kind)


def _builder(name: str, data_dir: str) -> Any:
    tfds = require("tensorflow_datasets", extra="tfds", purpose="read tfds: data sets")
    folder = str(pathlib.Path(data_dir).expanduser()) if data_dir else None
    # Without the builder, the metadata in the folder of the records is enough.
    try:
        builder = tfds.builder(name, data_dir=folder)
    except Exception as error:  # the library raises many kinds, with long advice
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"tfds:{name}: unknown to tensorflow_datasets, and not in data_dir ({reason})") from error
    if not builder.info.splits:
        raise DataError(f"tfds:{name}: not prepared in {builder.data_dir}; prepare it as in docs/tfds.md")
    form = builder.info.file_format.value if builder.info.file_format else ""
    if form != "array_record":
        raise ConfigError(
            f"tfds:{name}: stored as {form}, which is not supported; prepare it with file_format='array_record'"
        )
    return builder


def _splits(name: str, known: list[str], wanted: str) -> dict[str, str | None]:
    """Split of the data set -> train, val or test; a single split has no split information."""
    chosen = wanted.split("+") if wanted else known
    for split in chosen:
        if split not in known:
            raise ConfigError(f"tfds:{name}: no split {split!r}; it has {', '.join(known)}")
    if len(chosen) == 1:
        return {chosen[0]: ALL}
    targets = {split: canonical_split(split) for split in chosen}
    if not any(targets.values()):
        raise ConfigError(
            f"tfds:{name}: none of its splits {', '.join(chosen)} is train, val or test; choose one with split=NAME"
        )
    return targets


def _roles(name: str, features: Any, options: dict[str, str]) -> dict[str, str]:
    """The feature of each role, "" for none."""
    kinds = {field: _kind(feature) for field, feature in flat_features(features)}
    roles = {role: options[role] for role in ("a", "b", "label", "id", "rate")}
    for role, field in roles.items():
        if field and field not in kinds:
            raise ConfigError(f"tfds:{name}: {role}={field}, but it has {', '.join(kinds)}")

    def first(*wanted: str) -> str:
        taken = (roles["a"], roles["b"], roles["id"])
        return next((f for kind in wanted for f, k in kinds.items() if k == kind and f not in taken), "")

    for role in ("id", "label", "rate"):
        roles[role] = roles[role] or (role if role in kinds else "")
    if roles["label"] and kinds[roles["label"]] not in ("class", "text"):
        roles["label"] = ""
    roles["a"] = roles["a"] or first("image", "audio", "embedding")
    if not roles["b"]:
        texts = [f for f, k in kinds.items() if k in ("texts", "text") and f not in (roles["id"], roles["label"])]
        # File names are texts, too, but rarely captions.
        captions = [f for f in texts if not any(word in f for word in ("id", "name", "url"))]
        roles["b"] = next(iter(captions), "") or first("image") or roles["label"] or first("embedding")
    for role in ("a", "b"):
        if not roles[role] or kinds[roles[role]] == "":
            raise ConfigError(
                f"tfds:{name}: no feature for {role}; choose one with {role}=NAME; it has "
                + ", ".join(f"{field} ({kind or 'not supported'})" for field, kind in kinds.items())
            )
    return {**roles, "kind_a": kinds[roles["a"]], "kind_b": kinds[roles["b"]]}


def _kind(feature: Any) -> str:
    """The kind of a feature: "image", "audio", "embedding", "text", "texts", "class", or "" for others."""
    kind = type(feature).__name__
    if kind == "Sequence":
        return "texts" if type(feature.feature).__name__ == "Text" else ""
    if kind in ("Image", "Text", "ClassLabel"):
        return {"Image": "image", "Text": "text", "ClassLabel": "class"}[kind]
    if kind == "Tensor" and len(feature.shape) == 1:
        dtype = np.dtype(feature.numpy_dtype)
        if dtype == np.int16:
            return "audio"
        if dtype.kind == "f" and feature.shape[0] is not None:
            return "embedding"
    return ""


def _read(
    name: str, builder: Any, parts: list[str], roles: dict[str, str], bad: BadSamples
) -> tuple[PairSplit, list[str]]:
    """Reads the pairs of some splits: images and recordings are read on demand."""
    tfds = require("tensorflow_datasets", extra="tfds", purpose="read tfds: data sets")
    images = [
        field
        for field, feature in flat_features(builder.info.features)
        if _kind(feature) == "image" and "/" not in field
    ]
    columns: dict[str, list[Any]] = {"a": [], "b": [], "rate": []}
    owner: list[int] = []
    ids: list[str] = []
    labels: list[str] = []
    where: list[str] = []
    for part in parts:
        source = builder.as_data_source(part, decoders={field: tfds.decode.SkipDecoding() for field in images})
        index = split_index(builder, part, source, roles)
        for row, texts in enumerate(index["texts"]):
            origin = f"tfds:{name}/{part}, record {row}"
            if roles["kind_b"] in ("text", "texts", "class") and not texts:
                bad.add(f"{origin}: {roles['b']} is empty")
                continue
            for side in ("a", "b"):
                if roles[f"kind_{side}"] in ("image", "audio"):
                    size = index[side][row]
                    columns[side].append(RecordField(source, row, roles[side], f"tfds:{name}/{part}", size))
                elif roles[f"kind_{side}"] == "embedding":
                    columns[side].append(index[side][row])
            columns["rate"].append(index["rate"][row])
            columns["b"] += texts
            owner += [len(ids)] * max(1, len(texts))
            ids.append(index["id"][row] if roles["id"] else f"{part}/{row}")
            where.append(origin)
            if roles["label"]:
                labels.append(index["label"][row])
    if not ids:
        raise DataError(f"tfds:{name}: splits {', '.join(parts)} hold no usable record")
    split = PairSplit(
        a=_column(columns, "a", roles, where),
        b=_column(columns, "b", roles, [where[i] for i in owner]),
        b_to_a=np.array(owner, np.int32),
        ids=np.array(ids),
    )
    if bad.skip and isinstance(split.a, ImageColumn):
        unreadable = dict(decoding_errors(split.a))
        for line in unreadable.values():
            bad.add(line)
        kept = np.array([i for i in range(len(split)) if i not in unreadable], np.int64)
        split, labels = split.subset(kept), [labels[i] for i in kept] if labels else labels
    return split, labels


def _column(columns: dict[str, list[Any]], side: str, roles: dict[str, str], where: list[str]) -> Column:
    items, kind = columns[side], roles[f"kind_{side}"]
    if kind == "image":
        return ImageColumn(tuple(items))
    if kind == "audio":
        return RecordAudioColumn(tuple(items), rates=tuple(columns["rate"]))
    if kind == "embedding":
        return ArrayColumn(np.stack(items), name=roles[side])
    return TextColumn(tuple(items), tuple(where))
