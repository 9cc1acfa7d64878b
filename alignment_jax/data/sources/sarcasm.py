"""`sarcasm:DIR`: the multimodal sarcasm set, tweets with an image, sarcastic or not.

  text/train.txt, text/valid2.txt, text/test2.txt     (or directly in the folder), as published: one list per line,
      ['915657464401580032', 'the text of the tweet', 1]            train: image name, text, class
      ['915657464401580032', 'the text of the tweet', 1, 0]         valid2, test2: class by hashtag, class by annotators
  dataset_image/915657464401580032.jpg                (or images/)

The last number is the class. As in the authors' code, tweets with words that reveal the class are skipped.
"""

from __future__ import annotations

import ast
import pathlib
from typing import Any, NamedTuple

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import read_text_lines
from alignment_jax.data.sources.clips import existing_folder, picture_folder
from alignment_jax.data.sources.samples import Sample, labelled_sample_source
from alignment_jax.data.split import PairSource

GIVEAWAYS = frozenset(
    ("sarcasm", "sarcastic", "reposting", "<url>", "joke", "humour", "humor", "jokes", "irony", "ironic", "exgag")
)
IMAGE_FOLDERS = ("dataset_image", "images")
_LISTS = {"train": ("train.txt",), "val": ("valid2.txt", "valid.txt"), "test": ("test2.txt", "test.txt")}
_CLASSES = ("not sarcastic", "sarcastic")
_LONGEST = 20_000  # characters of a line; a tweet has a few hundred


class _Line(NamedTuple):
    text: str
    split: str
    where: str


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of the multimodal sarcasm set in the layout of the module docstring: a is the image, b the text.

    Arguments and errors are those of `data.load`.
    """
    root = existing_folder(argument)
    bad = BadSamples(on_bad_sample)
    folder = picture_folder(root, *IMAGE_FOLDERS)
    lines: list[_Line] = []
    for split, names in _LISTS.items():
        path = next((p for name in names for p in (root / "text" / name, root / name) if p.is_file()), None)
        if path is None:
            raise DataError(f"{root}: no {names[0]} in it or in text/")
        lines += _lines(path, split)
    kept = [line for line in lines if not GIVEAWAYS & set(_words(line.text))]

    def sample(line: _Line) -> Sample:
        name, text, label = _parse(line)
        return Sample(
            name, _CLASSES[label], line.split, (folder.find(f"{name}.jpg", where=line.where), text), line.where
        )

    left_out = len(lines) - len(kept)
    return labelled_sample_source(
        kept,
        sample,
        kinds=("image", "text"),
        modalities=("image", "text"),
        name="sarcasm",
        where=root,
        bad=bad,
        notes=[f"skipped tweets with words that reveal the class: {left_out}"] if left_out else [],
    )


def _lines(path: pathlib.Path, split: str) -> list[_Line]:
    found = enumerate(read_text_lines(path), start=1)
    return [_Line(text, split, f"{path}, line {number}") for number, text in found if text]


def _words(text: str) -> list[str]:
    return text.replace("'", " ").replace('"', " ").split()


def _parse(line: _Line) -> tuple[str, str, int]:
    """(image name, text, class) of a line, parsed as a literal without executing it."""
    content: Any = None
    if len(line.text) <= _LONGEST:
        try:
            content = ast.literal_eval(line.text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            content = None
    match content:
        case [str(name), str(text), (0 | 1) as label] | [str(name), str(text), 0 | 1, (0 | 1) as label]:
            if not name.isdigit() or not text.strip():
                raise DataError(f"{line.where}: no image name, or no text")
            return name, text.strip(), int(label)
    raise DataError(f"{line.where}: expected ['name', 'text', 0 or 1], found {line.text[:60]!r}")
