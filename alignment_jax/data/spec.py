"""Parses SPEC strings and opens their sources."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.data.bad_samples import ON_BAD_SAMPLE
from alignment_jax.data.sources import SOURCES
from alignment_jax.data.split import PairSource


def load(spec: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a data set.

    Args:
      spec: `NAME[:ARGUMENT]`, NAME one of `alignment_jax.data.SOURCES`; for example "synthetic:train=500,partial=0.2",
        "flickr:DIR", "embeddings:FILE.npz".
      seed: for generated data whose spec sets no seed.
      on_bad_sample: "error" raises for bad samples; "skip" removes them and lists them in `source.problems` (it decodes
        every image once, so that truncated files are found before training).

    Returns:
      The source; without split information it has the single split "all" (see `with_splits`).

    Raises:
      ConfigError: the spec is unknown or malformed; the message lists the known sources.
      DataError: a file or a sample of the data is unusable; the message names file and row.

    >>> source = load("synthetic:train=20,val=5,test=5,size=16,captions=2")
    >>> {name: (len(split.a), len(split.b)) for name, split in source.splits.items()}
    {'train': (20, 40), 'val': (5, 10), 'test': (5, 10)}
    """
    name, colon, argument = spec.partition(":")
    if name in _ALONE:
        raise ConfigError(f"{spec!r} has one modality, for alignment-jax embed; name both sides, {_ALONE[name]}")
    if name not in SOURCES:
        raise ConfigError(f"unknown data source {name!r} in {spec!r}{_meant(spec) or suggest(name, SOURCES)}")
    if on_bad_sample not in ON_BAD_SAMPLE:
        raise ConfigError(f"on_bad_sample must be one of {', '.join(ON_BAD_SAMPLE)}, got {on_bad_sample!r}")
    if colon and not argument:
        raise ConfigError(f"{spec!r} has nothing after the colon; the form is {SOURCES[name].usage}")
    if SOURCES[name].needs_argument and not argument:
        raise ConfigError(f"{spec!r} has no path; the form is {SOURCES[name].usage}")
    module = importlib.import_module(SOURCES[name].module)
    source: PairSource = module.load(os.path.expanduser(argument), seed=seed, on_bad_sample=on_bad_sample)
    return dataclasses.replace(source, name=name, spec=spec)


def _meant(spec: str) -> str:
    """Advice for a path without a source name; "" if it does not look like a path."""
    if os.path.isdir(os.path.expanduser(spec)):
        return f": a folder needs a source name, did you mean {f'folder:{spec}'!r}?"
    suffix = pathlib.PurePath(spec).suffix
    fits = [
        f"{name}:{spec}"
        for name, source in SOURCES.items()
        if suffix and (f":FILE{suffix}" in source.usage or suffix.lower() in source.suffixes)
    ]
    return f": a file needs a source name, did you mean {' or '.join(map(repr, fits))}?" if fits else ""


def options_of(name: str) -> Mapping[str, Any]:
    """The options of a source in its SPEC, with their defaults; empty for an unknown source.

    >>> sorted(options_of("epic")), options_of("flickr")
    (['count', 'features'], {})
    """
    return getattr(importlib.import_module(SOURCES[name].module), "OPTIONS", {}) if name in SOURCES else {}


def path_and_options(argument: str, defaults: Mapping[str, Any], *, what: str) -> tuple[str, dict[str, Any]]:
    """Parses `PATH[,key=value,...]`; the path may contain commas.

    The path is "" if the first piece is an option.

    Args:
      argument: the SPEC after its colon.
      defaults: every known option, see `parse_options`.
      what: the name of the source, for messages.

    >>> path_and_options("my,data,count=verb", {"count": "noun"}, what="epic")
    ('my,data', {'count': 'verb'})
    """
    pieces = argument.split(",")
    first = len(pieces)
    while first > 1 and _OPTION.match(pieces[first - 1]):
        first -= 1
    if first == 1 and pieces[0].partition("=")[0].strip() in defaults and "=" in pieces[0]:
        first = 0
    return ",".join(pieces[:first]), parse_options(",".join(pieces[first:]), defaults, what=what)


def parse_options(text: str, defaults: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """Parses `key=value,key=value` over defaults; a value has the type of its default.

    Args:
      text: the options, may be empty.
      defaults: every known option; the type of its default (int, float, str) is the type of its value.
      what: the name of the source, for messages.

    Returns:
      All options.

    Raises:
      ConfigError: an option is unknown, given twice, without a value, or not of its type.

    >>> parse_options("size=16,zipf=1", {"size": 32, "zipf": 1.1}, what="synthetic")
    {'size': 16, 'zipf': 1.0}
    """
    options = dict(defaults)
    given: set[str] = set()
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in defaults:
            raise ConfigError(f"{what}: unknown option {key!r}{suggest(key, defaults)}")
        if not equals or not value:
            example = f"; write {key}={defaults[key]}" if defaults[key] != "" else ""
            raise ConfigError(f"{what}: option {key!r} has no value{example}")
        if key in given:
            raise ConfigError(f"{what}: option {key!r} is given twice")
        given.add(key)
        kind = type(defaults[key])
        try:
            options[key] = kind(value)
        except ValueError as error:
            raise ConfigError(f"{what}: {key}={value!r} is not {_ARTICLE[kind]}") from error
    return options


# Sources of `one_modality` -> the sources with both sides.
_ALONE = {
    "images": "as in folder:DIR or pairs:FILE.csv",
    "texts": "as in folder:DIR or pairs:FILE.csv",
    "latents": "as in embeddings:FILE.npz",
}
_OPTION = re.compile(r"\s*[a-z_]+\s*=")
_ARTICLE = {int: "an integer", float: "a number", str: "a word"}
