"""Parses the argument after the colon of `--config file.py:argument`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alignment_jax.config.defaults import is_pretrained
from alignment_jax.core.errors import ConfigError, suggest

_WORD = re.compile(r"\s*([A-Za-z_]\w*)\s*=")
_TRUE = ("1", "true", "yes")
_FALSE = ("0", "false", "no")


def parse_arg(arg: str | None, **known: Any) -> ConfigDict:
    """Parses "runlocal,batch_size=64,data=flickr:DIR" into a ConfigDict with the types of the defaults.

    A bare name sets a boolean to true. The SPEC after `data=` may contain commas: a piece that is no argument belongs
    to the SPEC (`data=synthetic:train=200,wrong=0.1`), unless it is an option that the source does not have. Where a
    name such as `image` is both an argument and a column of the SPEC, the name of an encoder sets the argument and any
    other word the column (`data=pairs:a.csv,image=photo,image=vit`).

    Args:
      arg: the text after the colon; None or "" for none.
      **known: every argument of the config with its default. `runlocal=False` and `data=""` are always included.

    Returns:
      The defaults with the given values; `data` is "" where the config keeps its own.

    Raises:
      ConfigError: an unknown argument, or a value of another type than the default.

    >>> parse_arg("runlocal,dim=64", dim=512).dim
    64
    >>> parse_arg("data=synthetic:train=200,wrong=0.1,runlocal").data
    'synthetic:train=200,wrong=0.1'
    """
    known = {"runlocal": False, "data": "", **known}
    result = ConfigDict(known)
    previous = ""
    for piece in (arg or "").split(","):
        name, equals, value = piece.partition("=")
        name = name.strip()
        if previous == "data" and (name not in known or _names_a_column(name, value, result.data, known[name])):
            _check_piece(piece, result.data, known)
            result.data = f"{result.data},{piece}"
            continue
        if not piece.strip():
            continue
        if name not in known:
            raise ConfigError(f"unknown config argument {name!r}{suggest(name, sorted(known))}")
        if not equals and not isinstance(known[name], bool):
            raise ConfigError(f"config argument {name!r} needs a value, as in {name}=...")
        result[name] = _read(name, value if equals else "true", known[name])
        previous = name
    return result


def _names_a_column(name: str, value: str, spec: str, default: Any) -> bool:
    """Whether a name that is an argument and an option of the SPEC belongs to the SPEC."""
    from alignment_jax.data.spec import options_of

    if name not in options_of(spec.partition(":")[0]):
        return False
    from alignment_jax.models.encoders import ENCODERS

    return default in ENCODERS and value.strip() not in ENCODERS and not is_pretrained(value.strip())


def _check_piece(piece: str, spec: str, known: Mapping[str, Any]) -> None:
    """Raises ConfigError for a mistyped argument, which would otherwise become a part of the SPEC."""
    from alignment_jax.data.spec import options_of  # a config file loads without the subpackage data

    word = _WORD.match(piece)
    options = options_of(spec.partition(":")[0])
    if word is None or word[1] in options:
        return
    near = suggest(word[1], [*sorted(known), *options])
    path = "" if options else f" (a path with ',{word[0]}' in it goes to --config.data)"
    raise ConfigError(f"unknown config argument {word[1]!r} after data={spec}{near}{path}")


def _read(name: str, text: str, default: Any) -> Any:
    text = text.strip()
    if isinstance(default, bool):
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ConfigError(f"config argument {name}={text!r}: expected true or false")
    for kind in (int, float):
        if isinstance(default, kind):
            try:
                return kind(text)
            except ValueError:
                expected = "a whole number" if kind is int else "a number"
                raise ConfigError(f"config argument {name}={text!r}: expected {expected}") from None
    return text
