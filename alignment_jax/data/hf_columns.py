"""Finds the image, caption and label columns of a Hugging Face data set: by type, by name, or as the SPEC says."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from alignment_jax.core.errors import DataError
from alignment_jax.data.column_roles import ALIASES, find_roles

_TEXT_KEYS = ("raw", "text", "caption", "sentence")


class Columns(NamedTuple):
    """The columns that are read.

    Attributes:
      image: name of the image column.
      captions: names of the text columns; empty if the class names are the texts.
      label: name of the class column, "" for none.
      label_names: names of the classes.
      used: all of these columns with their types.
      notes: for the source.
    """

    image: str
    captions: list[str]
    label: str
    label_names: tuple[str, ...]
    used: dict[str, Any]
    notes: list[str]

    def texts(self, values: Sequence[Any]) -> list[str]:
        """The non-empty texts in the cells of a row."""
        if not self.captions:
            (value,) = values
            return [] if value is None or not 0 <= value < len(self.label_names) else [self.label_names[value]]
        texts: list[str] = []
        for value in values:
            for each in value if isinstance(value, list) else [value]:
                text = next((each[key] for key in _TEXT_KEYS if each.get(key)), "") if isinstance(each, dict) else each
                texts += [" ".join(str(text).split())] if text else []
        return texts


def find_columns(features: Mapping[str, Any], folder: pathlib.Path, options: Mapping[str, str]) -> Columns:
    """Finds the column of each role.

    Args:
      features: column -> its type, in the format of the library.
      folder: for messages.
      options: role (image, caption, label) -> column of the SPEC, "" for none.

    Raises:
      DataError: a column is missing, of another type, or ambiguous.

    >>> found = find_columns(
    ...     {"photo": {"_type": "Image"}, "words": {"_type": "Value", "dtype": "string"}, "id": {"_type": "Value"}},
    ...     pathlib.Path("saved"),
    ...     {},
    ... )
    >>> found.image, found.captions
    ('photo', ['words'])
    """
    kinds = {name: kind_of(feature) for name, feature in features.items()}
    listed = ", ".join(f"{name} ({kind or 'not supported'})" for name, kind in kinds.items())
    for role, kind in (("image", "image"), ("caption", "text"), ("label", "class")):
        name = options.get(role, "")
        if name and kinds.get(name) != kind:
            what = "no such column" if name not in kinds else f"that column is {kinds[name] or 'of another type'}"
            raise DataError(f"{folder}: {role}={name}, but {what}; it has {listed}")
    images = [options["image"]] if options.get("image") else [name for name, kind in kinds.items() if kind == "image"]
    usual = [name for name in images if name.lower() in ALIASES["image"]]
    if len(images) > 1 and len(usual) == 1:
        images = usual
    if not images:
        raise DataError(f"{folder}: no column of images; it has {listed}{_instead(kinds)}")
    if len(images) > 1:
        write = " or ".join(f",image={name}" for name in images)
        raise DataError(f"{folder}: more than one column of images; write {write}")
    classes = [options["label"]] if options.get("label") else [n for n, kind in kinds.items() if kind == "class"]
    label = next((name for name in classes if name in ("label", "labels")), classes[0] if len(classes) == 1 else "")
    captions, notes = _captions(kinds, folder, options, listed)
    if not captions and not label:
        raise DataError(f"{folder}: no text column besides the images {images[0]!r}; it has {listed}")
    used = {name: features[name] for name in (images[0], *captions, label) if name}
    left = [name for name in features if name not in used]
    if left:
        notes.append(f"unused columns: {', '.join(left)}")
    names = tuple(map(str, features[label].get("names") or ())) if label else ()
    return Columns(images[0], captions, label, names, used, notes)


def kind_of(feature: Any) -> str:
    """The kind of a column: "image", "audio", "class", "text" (one or several), or "".

    >>> kind_of([{"dtype": "string", "_type": "Value"}]), kind_of({"_type": "Audio"})
    ('text', 'audio')
    """
    if isinstance(feature, list):
        return kind_of(feature[0]) if len(feature) == 1 and kind_of(feature[0]) == "text" else ""
    if not isinstance(feature, dict):
        return ""
    kind = feature.get("_type")
    if kind in ("Image", "Audio", "ClassLabel"):
        return {"Image": "image", "Audio": "audio", "ClassLabel": "class"}[kind]
    if kind == "Value":
        return "text" if feature.get("dtype") in ("string", "large_string") else ""
    if kind in ("List", "LargeList", "Sequence"):
        return "text" if kind_of(feature.get("feature")) == "text" else ""
    if kind is None and any(kind_of(feature.get(key)) == "text" for key in _TEXT_KEYS):
        return "text"  # an object with a text field
    return ""


def _captions(
    kinds: Mapping[str, str], folder: pathlib.Path, options: Mapping[str, str], listed: str
) -> tuple[list[str], list[str]]:
    """The caption columns, and notes."""
    texts = [name for name, kind in kinds.items() if kind == "text"]
    named = {"caption": options["caption"]} if options.get("caption") else {}
    if len(texts) == 1 and not named:
        return texts, [] if texts[0].lower() == "caption" else [f"{folder}: caption is {texts[0]!r}"]
    found = find_roles(texts, folder, required=[], optional=["caption"], named=named)
    captions = [texts[k] for k in found.places.get("caption", [])]
    if texts and not captions:
        write = " or ".join(f",caption={name}" for name in texts[:4])
        raise DataError(f"{folder}: ambiguous captions; write {write}; it has {listed}")
    return captions, found.notes


def _instead(kinds: Mapping[str, str]) -> str:
    texts = [name for name, kind in kinds.items() if kind == "text"]
    files = [name for name in texts if name.lower() in ALIASES["image"]]
    if files:
        return f"; {files[0]} may hold file names: run DATASET.to_csv('a.csv') in Python and write pairs:a.csv,root=DIR"
    if "audio" in kinds.values():
        return "; for recordings, save them as files and list them in a table for pairs:FILE"
    if "class" not in kinds.values() and texts:
        return "; to embed texts alone, run DATASET.to_csv('texts.csv') in Python and write texts:texts.csv"
    return ""
