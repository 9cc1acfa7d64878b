"""`pairs:FILE.csv`: one row a pair, columns image, caption and, optionally, split.

An image may have several rows. With a column `item` an item may have several images, too: all images and captions of
the rows with one name belong together, and a row may leave one of the two empty. In training another image of an item
is shown every time, in evaluation the middle one. Paths are relative to the folder of the CSV file and must not leave
it.
"""

from __future__ import annotations

import pathlib

from alignment_jax.data.collect import BadSamples
from alignment_jax.data.sources.captioned import Caption, captioned_source
from alignment_jax.data.sources.items import item_source
from alignment_jax.data.split import PairSource
from alignment_jax.data.tables import read_table


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a CSV file of pairs.

    Args:
      argument: path of the CSV file.
      seed: not used.
      on_bad_sample: "error" or "skip".

    Raises:
      DataError: the file or, without skipping, a row of it is unusable.
    """
    path = pathlib.Path(argument)
    bad = BadSamples(on_bad_sample)
    rows, others = read_table(path, required=("image", "caption"), optional=("split", "item"), bad=bad)
    notes = [f"{path}: columns that are not used: {', '.join(others)}"] if others else []
    if rows and "item" in rows[0].values:
        return item_source(rows, root=path.parent, name=str(path), bad=bad, notes=notes)
    captions = [
        Caption(_same_name(row.values["image"]), row.values["caption"], row.values.get("split"), row.where)
        for row in rows
    ]
    return captioned_source(captions, root=path.parent, name=str(path), bad=bad, notes=notes)


def _same_name(image: str) -> str:
    """One spelling for "a.png" and "./a.png", so that they are one image and not two."""
    return str(pathlib.PurePath(image)) if image else image
