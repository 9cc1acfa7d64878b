"""`tune=` of a tower: what is trained, with the adapters of LoRA where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alignment_jax.core import Array
from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.models.tuning.lora import TARGETS, add_lora
from alignment_jax.models.tuning.split import TUNINGS, split_parameters

_NUMBERED = {"last": "K", "lora": "RANK"}


def parse_tune(tune: str) -> tuple[str, int]:
    """(word, its number or 0) of `tune`.

    Raises:
      ConfigError: an unknown word, or a number that is missing, not positive or not wanted.

    >>> parse_tune("lora:8"), parse_tune("head")
    (('lora', 8), ('head', 0))
    """
    word, _, number = tune.partition(":")
    fits = number.isdecimal() and int(number) > 0 if word in _NUMBERED else tune in TUNINGS
    if not fits:
        known = ", ".join(f"{name}:{_NUMBERED[name]}" if name in _NUMBERED else name for name in TUNINGS)
        raise ConfigError(f"tune must be one of {known}, got {tune!r}{suggest(word, TUNINGS)}")
    return word, int(number or 0)


def start_tuning(
    params: Mapping[str, Any], tune: str, *, key: Array, targets: Sequence[str] = TARGETS
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(trainable, frozen) parameters of a tower before its first step; see `split_parameters`.

    Args:
      params: of a tower.
      tune: none, head, last:K, lora:RANK, norms or all.
      key: of LoRA's A.
      targets: of LoRA, see `add_lora`.

    Raises:
      ConfigError: a wrong `tune`, more layers than there are, or a target that matches nothing.

    >>> import jax, jax.numpy as jnp
    >>> params = {"layers": {"mlp": {"up": {"kernel": jnp.ones((6, 8, 16))}}}}
    >>> trainable, frozen = start_tuning(params, "lora:2", key=jax.random.key(0), targets=["mlp/*"])
    >>> sorted(trainable["layers"]["mlp"]["up"]), sorted(frozen["layers"]["mlp"]["up"])
    (['lora_a', 'lora_b'], ['kernel'])
    """
    word, number = parse_tune(tune)
    if word != "lora":
        return split_parameters(params, tune)
    return split_parameters(add_lora(params, rank=number, key=key, targets=targets), word)
