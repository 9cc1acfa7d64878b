"""Tiny inputs for the table of docs/data/own_data.md: one function per row, registered under the SPEC of the row.

A new row is a line in the table and a function here or in another `own_data_*.py` beside it:

    @writes("pairs:captions.csv")
    def commas(folder): ...

It writes the files of the row into `folder`, the working directory of the test, and returns the numbers of a-items and
b-items over all splits; or None if the row is a command.
"""

import importlib
import pathlib
from collections.abc import Callable

from PIL import Image, ImageDraw

Writer = Callable[[pathlib.Path], tuple[int, int] | None]
WRITERS: dict[str, Writer] = {}
COLOURS = ("red", "green", "blue", "yellow", "purple", "white", "black", "orange")
N = len(COLOURS)


def writes(written: str) -> Callable[[Writer], Writer]:
    """Registers the input of the row whose second cell starts with `written`."""

    def register(function: Writer) -> Writer:
        assert written not in WRITERS, f"{written} has two generators"
        WRITERS[written] = function
        return function

    return register


def all_writers() -> dict[str, Writer]:
    """The inputs of every own_data_*.py in this folder."""
    for path in sorted(pathlib.Path(__file__).parent.glob("own_data_*.py")):
        importlib.import_module(path.stem)
    return WRITERS


def photos(folder: pathlib.Path, place: str = "photos", suffix: str = ".png") -> list[str]:
    """Writes N different images and returns their names relative to `folder`."""
    (folder / place).mkdir(parents=True, exist_ok=True)
    names = [f"{place}/{number}{suffix}" for number in range(N)]
    for number, name in enumerate(names):
        image = Image.new("RGB", (24, 20), "grey")
        ImageDraw.Draw(image).rectangle((2 + number, 3, 12 + number, 15), fill=COLOURS[number])
        image.save(folder / name)
    return names


def captions() -> list[str]:
    """A caption for each of the photos; each holds a comma, a quote and a letter beyond ASCII."""
    return [f'a {colour} square, "carré" {number}' for number, colour in enumerate(COLOURS)]
