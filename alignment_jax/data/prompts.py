"""Class names and prompt templates for zero-shot classification, as texts or as latents of a frozen text encoder.

A text file has one class name per line, as in the data, and any number of templates, which are lines with `{}` for the
name; `#` starts a comment. An .npz file, written from such a file by `alignment-jax extract --prompts`, holds `text`
[K, D], `class` int [K], `class_name` [C] and `caption` [K].
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.columns import ArrayColumn, TextColumn
from alignment_jax.data.manifest_rows import read_text_lines
from alignment_jax.data.npz_files import finite_rows, optional_vector, read_archive, text_vector
from alignment_jax.data.split import Column


@dataclasses.dataclass(frozen=True)
class Prompts:
    """K prompts of C classes.

    Attributes:
      classes: their names.
      class_of: int32 [K] class of each prompt.
      column: the prompts, as texts or latents.
    """

    classes: tuple[str, ...]
    class_of: np.ndarray
    column: Column


def load_prompts(path: pathlib.Path) -> Prompts:
    """Reads prompts from a text file or an .npz file; see the module docstring.

    Raises:
      DataError: no such file, fewer than two classes, a class occurs twice, or the arrays do not match.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "prompts.txt")
    ...     _ = file.write_text("a photo of a {}\\na drawing of a {}\\ncat\\ndog\\n")
    ...     prompts = load_prompts(file)
    >>> prompts.classes, prompts.class_of.tolist(), prompts.column.read(np.array([1]))
    (('cat', 'dog'), [0, 0, 1, 1], ['a drawing of a cat'])
    """
    return _latents(path) if path.suffix == ".npz" else _texts(path)


def _texts(path: pathlib.Path) -> Prompts:
    lines = [line.partition("#")[0].strip() for line in read_text_lines(path)]
    templates = [line for line in lines if "{}" in line] or ["{}"]
    classes = [line for line in lines if line and "{}" not in line]
    _check_classes(path, classes)
    texts = tuple(template.replace("{}", name) for name in classes for template in templates)
    class_of = np.repeat(np.arange(len(classes), dtype=np.int32), len(templates))
    return Prompts(tuple(classes), class_of, TextColumn(texts, tuple(f"{path}: {text!r}" for text in texts)))


def _latents(path: pathlib.Path) -> Prompts:
    arrays = read_archive(path)
    for name in ("text", "class", "class_name"):
        if name not in arrays:
            raise DataError(f"{path}: no array {name!r}; make prompts with `alignment-jax extract --prompts FILE`")
    text = arrays["text"]
    if text.ndim != 2 or not np.issubdtype(text.dtype, np.floating):
        raise DataError(f"{path}: text must be floating point [prompts, dimensions], got {text.dtype} {text.shape}")
    classes = text_vector(path, "class_name", arrays["class_name"].ravel()).tolist()
    _check_classes(path, classes)
    class_of = optional_vector(path, arrays, "class", len(text))
    assert class_of is not None
    bad = BadSamples("error")
    finite_rows(path, "text", text, bad)
    bad.finish()
    if not np.issubdtype(class_of.dtype, np.integer) or set(np.unique(class_of).tolist()) != set(range(len(classes))):
        raise DataError(f"{path}: class must hold all numbers from 0 to {len(classes) - 1} and no other")
    return Prompts(tuple(classes), class_of.astype(np.int32), ArrayColumn(text, name=f"{path}: text"))


def _check_classes(path: pathlib.Path, classes: list[str]) -> None:
    if len(classes) < 2:
        raise DataError(f"{path}: {len(classes)} classes; write one class name per line, at least two")
    for name in classes:
        if classes.count(name) > 1:
            raise DataError(f"{path}: class {name!r} occurs twice")
