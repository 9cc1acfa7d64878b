"""`samples:FILE.csv` and `posts:FILE.csv`: one row a sample to classify, its modalities in columns.

Columns: `label`, two or three of `audio`, `image` and `text`, and, optionally, `split`. A cell may be empty where a
sample lacks that modality, as long as it has another. Other names are given behind the file: `text=tweet,label=mood`;
`use=image+text` leaves out a modality that is there. Paths are relative to the folder of the file and must not leave
it. `posts:` is the same for images with texts.
"""

from __future__ import annotations

import pathlib
from typing import Any

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.collect import BadSamples
from alignment_jax.data.sources.samples import Sample, labelled_source, table_notes
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import PairSource
from alignment_jax.data.tables import Folder, Row, first_record, read_table

MODALITIES = ("audio", "image", "text")  # in this order they are a, b and c
OPTIONS: dict[str, str] = {**dict.fromkeys((*MODALITIES, "label", "split"), ""), "use": ""}


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a table of samples with a class each.

    Args:
      argument: path of the file and options; see the module.
      seed: not used.
      on_bad_sample: "error" or "skip"; skipping decodes every file once, to find those that cannot be read.

    Returns:
      The source: a, b and c are the modalities that are there, in the order audio, image, text; `label_names` are the
      classes.

    Raises:
      ConfigError: an option is unknown, or names no column or modality.
      DataError: the file or, without skipping, a row of it is unusable, or it has fewer than two modalities.
    """
    file, options = path_and_options(argument, OPTIONS, what="samples")
    path, bad = pathlib.Path(file), BadSamples(on_bad_sample)
    header = first_record(path)
    columns = {role: options[role] or role for role in (*MODALITIES, "label", "split")}
    for role, column in columns.items():
        if options[role] and column not in header:
            raise ConfigError(f"{path}: {role}={column}, but its columns are {', '.join(header)[:200]}")
    used = _modalities(path, header, columns, options["use"])
    optional = (columns["split"],) if columns["split"] in header else ()
    rows, others = read_table(
        path, required=(*(columns[name] for name in used), columns["label"]), optional=optional, bad=bad
    )
    folder, count = Folder(path.parent), dict[str, int]()

    def sample(row: Row) -> Sample:
        cells = {name: row.values[columns[name]] for name in used}
        parts: dict[str, Any] = {
            name: None if not cell else cell if name == "text" else folder.find(cell, where=row.where)
            for name, cell in cells.items()
        }
        # A file may stand in several rows, each with another text or partner.
        name = next((str(pathlib.PurePath(cells[m])) for m in used if m != "text" and cells[m]), cells.get("text", ""))
        name = " ".join(name.split())[:200]
        count[name] = count.get(name, 0) + 1
        name = name if count[name] == 1 else f"{name} ({count[name]})"
        return Sample(
            name, row.values[columns["label"]], row.values.get(columns["split"]), tuple(parts.values()), row.where
        )

    return labelled_source(
        rows,
        sample,
        kinds=used,
        modalities=used,
        name="samples",
        where=path,
        bad=bad,
        notes=table_notes(path, rows, others, label=columns["label"]),
        hints={"flip": used == ("image", "text")},  # a mirrored digit or letter is another one
    )


def _modalities(path: pathlib.Path, header: list[str], columns: dict[str, str], use: str) -> tuple[str, ...]:
    found = tuple(name for name in MODALITIES if columns[name] in header)
    chosen = tuple(name.strip() for name in use.split("+")) if use else found
    for name in chosen:
        if name not in MODALITIES:
            raise ConfigError(f"{path}: use={use}: {name!r} is none of {', '.join(MODALITIES)}")
        if name not in found:
            raise ConfigError(
                f"{path}: use={use}, but there is no column {columns[name]!r}; it has {', '.join(header)[:200]}"
            )
    if len(chosen) < 2:
        there = f"only {chosen[0]}" if chosen else "none of them"
        raise DataError(
            f"{path}: a classifier takes two or three of the columns {', '.join(MODALITIES)}, with label; found "
            f"{there} in {' '.join(', '.join(header).split())[:200]}; name others as in {path.name},text=COLUMN"
        )
    return tuple(name for name in MODALITIES if name in chosen)
