"""`av:FILE.csv`: one row per recording with its image; columns audio, image, label and, optionally, split.

Labels are texts. Paths are relative to the folder of the CSV file and must not leave it. An audio file occurs in one
row only, an image may occur in several. One of the two cells may be empty: a classifier masks missing modalities. For a
text modality or other columns use `samples:FILE.csv`.
"""

from __future__ import annotations

import pathlib

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import Folder, ManifestRow, read_header, read_table
from alignment_jax.data.sources.samples import Sample, labelled_sample_source, table_notes
from alignment_jax.data.split import PairSource


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a manifest of recordings and images.

    Args:
      argument: path of the CSV file.
      seed: not used.
      on_bad_sample: "error" or "skip"; "skip" decodes every file once.

    Returns:
      The source: a is the audio, b the image, b-item i belongs to a-item i; `label_names` are the classes.

    Raises:
      DataError: the file or, with "error", a row is unusable.
    """
    path = pathlib.Path(argument)
    bad, silent = BadSamples(on_bad_sample), 0
    header = read_header(path)
    if "text" in header and "label" in header and not {"audio", "image"} <= set(header):
        raise DataError(
            f"{path}: av: needs the columns audio, image, label; found {', '.join(header)[:200]}; write samples:{path}"
        )
    rows, others = read_table(path, required=("audio", "image", "label"), optional=("split",), bad=bad)
    notes = table_notes(path, rows, others)
    if "text" in others:
        notes.append(f"samples:{path} reads the column text as a third modality")
    folder = Folder(path.parent)

    def sample(row: ManifestRow) -> Sample:
        nonlocal silent
        cells = row.values["audio"], row.values["image"]
        audio, image = (folder.find(cell, where=row.where) if cell else None for cell in cells)
        name = str(pathlib.PurePath(cells[0]))
        if audio is None:  # an image may occur in several rows
            silent += 1
            name = f"{pathlib.PurePath(cells[1])}, without audio {silent}"
        return Sample(name, row.values["label"], row.values.get("split"), (audio, image), row.where)

    return labelled_sample_source(
        rows,
        sample,
        kinds=("audio", "image"),
        modalities=("audio", "image"),
        name="av",
        where=path,
        bad=bad,
        notes=notes,
        hints={"flip": False},  # mirrored digits and letters have another meaning
    )
