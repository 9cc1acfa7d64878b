"""`samples:FILE.csv` and `posts:FILE.csv`: one row per sample to classify, with its modalities in columns.

Columns: `label`, two or three of `audio`, `image` and `text`, and, optionally, `split`. A cell may be empty if the
sample has another modality. The table may have any format of `pairs`, with common column names (`column_roles`) or
names from the SPEC: `text=tweet,label=mood`. If two columns have the exact names of modalities, aliases are not
searched. `use=image+text` selects modalities. Paths are relative to the folder of the file, or to `root=DIR`, and must
not leave it. `posts:` is an alias for images with texts.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.column_roles import is_known
from alignment_jax.data.manifest_rows import Folder, ManifestRow
from alignment_jax.data.manifests import manifest_options, open_manifest
from alignment_jax.data.sources.samples import Sample, labelled_sample_source, table_notes
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import SPLITS, PairSource
from alignment_jax.data.table_files import open_table

MODALITIES = ("audio", "image", "text")  # in this order they are a, b and c
OPTIONS = manifest_options(*MODALITIES, "label", "split", "use")


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a table of samples with a class each.

    Args:
      argument: path of the file and options; see the module docstring.
      seed: not used.
      on_bad_sample: "error" or "skip"; "skip" decodes every file once.

    Returns:
      The source: a, b and c are the modalities in the order audio, image, text; `label_names` are the classes.

    Raises:
      ConfigError: an option is unknown, or not a modality.
      DataError: the file or, with "error", a row is unusable, or it has fewer than two modalities.
    """
    bad, used = BadSamples(on_bad_sample), _modalities(argument)
    found = open_manifest(
        argument, what="samples", required=(*used, "label"), optional=("split",), more=("use",), bad=bad
    )
    path, count = pathlib.Path(found.name), dict[str, int]()

    def sample(entry: tuple[ManifestRow, Folder]) -> Sample:
        row, folder = entry
        parts: dict[str, Any] = {}
        for name in used:
            if name == "text" and any(row.more.get("text", ())):
                raise DataError(f"{row.where}: several texts, but a sample has one; choose a column with ,text=COLUMN")
            cell = row.values[name]
            file = row.files.get(name)
            parts[name] = file or (None if not cell else cell if name == "text" else folder.find(cell, where=row.where))
        # A file may occur in several rows with different partners.
        named = next((name for name in used if name != "text" and row.values[name]), "")
        name = str(found.places[folder] / folder.spelling(row.values[named])) if named else row.values.get("text", "")
        name = " ".join(name.split())[:200]
        count[name] = count.get(name, 0) + 1
        name = name if count[name] == 1 else f"{name} ({count[name]})"
        return Sample(name, row.values["label"], row.values.get("split"), tuple(parts.values()), row.where)

    return labelled_sample_source(
        found.rows,
        sample,
        kinds=used,
        modalities=used,
        name="samples",
        where=path,
        bad=bad,
        notes=[*found.notes, *table_notes(path, [row for row, _ in found.rows], ())],
        hints={"flip": used == ("image", "text")},  # mirrored digits and letters have another meaning
    )


def _modalities(argument: str) -> tuple[str, ...]:
    """The modalities of the SPEC or the first table: by exact names if there are two, else by aliases."""
    file, options = path_and_options(argument, OPTIONS, what="samples")
    file = file or next((options[split] for split in SPLITS if options[split]), "")
    if not file:
        return MODALITIES[:2]  # opening the table reports it
    path, use = pathlib.Path(file).expanduser(), options["use"]

    def known(name: str) -> bool:
        return is_known(name, (*MODALITIES, "label"), {})

    header = open_table(path, known=known, encoding=options["encoding"], sheet=options["sheet"]).header
    low = [name.lower() for name in header]
    own = [name for name in MODALITIES if options[name] or name in low]
    usual = [name for name in MODALITIES if name in own or any(is_known(column, [name], {}) for column in header)]
    found = own if len(own) > 1 else usual
    chosen = tuple(name.strip() for name in use.split("+")) if use else tuple(found)
    for name in chosen:
        if name not in MODALITIES:
            raise ConfigError(f"{path}: use={use}: {name!r} is not one of {', '.join(MODALITIES)}")
        if name not in usual:
            raise ConfigError(f"{path}: use={use}, but there is no column {name!r}; it has {_names(header)}")
    if len(chosen) < 2:
        there = f"only {chosen[0]}" if chosen else "none of them"
        raise DataError(
            f"{path}: a classifier needs two or three of the columns {', '.join(MODALITIES)}, and label; found "
            f"{there} in {_names(header)}; name a column as in {path.name},text=COLUMN"
        )
    return tuple(name for name in MODALITIES if name in chosen)


def _names(header: Sequence[str]) -> str:
    return " ".join(", ".join(header).split())[:200]
