"""A hubness correction as one value: its name and its numbers."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.types import Array
from alignment_jax.retrieval.biases import csls_bias, inverted_softmax_bias, nnn_bias

NONE = "none"
# name -> its options and their defaults.
_OPTIONS: dict[str, dict[str, float]] = {
    NONE: {},
    "nnn": {"k": 16, "strength": 0.5},
    "csls": {"k": 10},
    "inverted_softmax": {"temperature": 0.1},
}
CORRECTIONS = tuple(_OPTIONS)
_KINDS: dict[str, type] = {"k": int, "strength": float, "temperature": float}


@dataclasses.dataclass(frozen=True)
class HubnessCorrection:
    """How the bias of a candidate is computed from a bank of queries.

    Args:
      name: "nnn", "csls" or "inverted_softmax", see the functions of these names; "none" for no correction.
      k: of nnn (default 16) and csls (10): how many of the nearest queries count.
      strength: α of nnn, positive; default 0.5.
      temperature: τ of inverted_softmax, positive; default 0.1.

    Raises:
      ConfigError: an unknown name, a number out of range, or an option that the correction does not have.

    >>> HubnessCorrection("nnn", k=8)
    HubnessCorrection(name='nnn', k=8, strength=0.5, temperature=None)
    >>> str(HubnessCorrection("csls"))
    'csls:k=10'
    """

    name: str = NONE
    k: int | None = None
    strength: float | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.name not in _OPTIONS:
            raise ConfigError(f"hubness correction {self.name!r}{suggest(self.name, CORRECTIONS)}")
        known = _OPTIONS[self.name]
        for option, kind in _KINDS.items():
            value = getattr(self, option)
            if option in known:
                object.__setattr__(self, option, kind(known[option] if value is None else value))
            elif value is not None:
                raise ConfigError(f"hubness correction {self.name} has no {option}{_options_of(self.name)}")
        if self.k is not None and self.k < 1:
            raise ConfigError(f"k must be at least 1, got {self.k}")
        for option in ("strength", "temperature"):
            value = getattr(self, option)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{option} must be positive and finite, got {value:g}")

    def __bool__(self) -> bool:
        return self.name != NONE

    def __str__(self) -> str:
        shown = ",".join(f"{option}={getattr(self, option):g}" for option in _OPTIONS[self.name])
        return f"{self.name}:{shown}" if shown else self.name

    @classmethod
    def parse(cls, text: str, *, setting: str = "eval.hubness") -> HubnessCorrection:
        """Reads "name" or "name:option=value,..."; the inverse of `str`.

        Args:
          text: for example "nnn:k=16,strength=0.5".
          setting: its name in messages.

        Raises:
          ConfigError: as for the class, or text that cannot be read.

        >>> HubnessCorrection.parse("inverted_softmax:temperature=0.05").temperature
        0.05
        """
        name, _, rest = (part.strip() for part in text.partition(":"))
        options: dict[str, Any] = {}
        try:
            for piece in filter(None, rest.split(",")):
                option, _, value = (part.strip() for part in piece.partition("="))
                if option not in _KINDS:
                    raise ConfigError(f"hubness correction {name} has no {option}{_options_of(name)}")
                options[option] = _number(option, value)
            return cls(name, **options)
        except ConfigError as error:
            raise ConfigError(f"{setting} is {text!r}: {error}") from None

    def bias(
        self, candidates: Array, bank: Array, *, where: Array | None = None, axis_name: str | None = None
    ) -> jax.Array:
        """The bias of every candidate, float32 [N]; zeros for "none".

        Args:
          candidates: [N, d] embeddings.
          bank: [M, d] embeddings of training items of the other side.
          where, axis_name: as for `nnn_bias`.

        Raises:
          ValueError: as `nnn_bias`.

        >>> import jax.numpy as jnp
        >>> HubnessCorrection("nnn", k=1, strength=1.0).bias(jnp.eye(2), jnp.eye(2)[:1]).tolist()
        [1.0, 0.0]
        """
        numbers = (self.strength, self.temperature)
        return _bias(candidates, bank, where, *numbers, name=self.name, k=self.k, axis_name=axis_name)


# Compiled once a shape: a caller tries several strengths and corrects several models.
@functools.partial(jax.jit, static_argnames=("name", "k", "axis_name"))
def _bias(candidates, bank, where, strength, temperature, *, name, k, axis_name):
    options = {"where": where, "axis_name": axis_name}
    if name == "nnn":
        return nnn_bias(candidates, bank, k=k, strength=strength, **options)
    if name == "csls":
        return csls_bias(candidates, bank, k=k, **options)
    if name == "inverted_softmax":
        return inverted_softmax_bias(candidates, bank, temperature=temperature, **options)
    return jnp.zeros(jnp.shape(candidates)[0])


def _number(option: str, text: str) -> float:
    try:
        return _KINDS[option](text)
    except ValueError:
        kind = "whole number" if option == "k" else "number"
        raise ConfigError(f"write {option}= and a {kind}, as in nnn:k=16,strength=0.5") from None


def _options_of(name: str) -> str:
    known = _OPTIONS.get(name, {})
    return f"; it has {' and '.join(known)}" if known else ""
