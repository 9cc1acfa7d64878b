"""Inputs of the rows about tables."""

import csv
import pathlib
from collections.abc import Iterable, Sequence

from own_data_inputs import N, captions, photos, writes


def table(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


@writes("pairs:captions.csv")
def commas(folder):
    table(folder / "captions.csv", ["image", "caption"], zip(photos(folder), captions(), strict=True))
    return N, N
