"""Parses a table cell with one caption, or with a list of captions as Python, JSON or NumPy writes it."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from typing import Any

MISSING_WORDS = ("nan", "none", "null", "<na>", "n/a")  # what programs write for an empty cell


def split_captions(cell: str) -> list[str]:
    """The captions of a cell; a text that is not a list of texts is one caption.

    >>> split_captions("['a dog', \\"it's brown\\"]"), split_captions('["a dog", "a cat"]'), split_captions("[a dog]")
    (['a dog', "it's brown"], ['a dog', 'a cat'], ['[a dog]'])
    """
    if not cell.startswith("[") or not cell.endswith("]"):
        return [cell]
    try:
        found = json.loads(cell)
        texts = [_text_of(each) for each in found if each is not None]
    except (ValueError, RecursionError):
        texts = _python_list(cell)
    if not all(isinstance(each, str) for each in texts) or (not texts and cell[1:-1].strip()):
        return [cell]
    return [each.strip() for each in texts]


def looks_truncated(cell: str) -> bool:
    """Whether a text starts like a list of texts but cannot be parsed, as after a program truncated a long cell.

    >>> looks_truncated("['a dog', 'a]"), looks_truncated("[a dog]"), looks_truncated("['a dog'")
    (True, False, True)
    """
    return cell.startswith(("['", '["', "[{")) and split_captions(cell) == [cell]


def _text_of(value: Any) -> Any:
    """The text of an object such as COCO's {"raw": "a dog"}; other values unchanged."""
    texts = (
        [value[key] for key in ("raw", "text", "caption") if isinstance(value.get(key), str)]
        if isinstance(value, dict)
        else []
    )
    return texts[0] if len(texts) == 1 else value


def _python_list(cell: str) -> list[str]:
    """The texts of a list in Python's or NumPy's format (without commas); empty for any other text."""
    texts = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(cell).readline):
            if token.type == tokenize.STRING:
                texts.append(ast.literal_eval(token.string))
            elif token.string.strip() not in ("[", "]", ",", "None", ""):
                return []
    except (tokenize.TokenError, SyntaxError, ValueError, MemoryError, RecursionError):
        return []
    return texts
