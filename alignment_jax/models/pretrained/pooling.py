"""From one vector per token to one vector per text, and how sentence-transformers' files choose among the ways."""

from __future__ import annotations

import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.core.errors import ConfigError, suggest

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
# Flags of files that older versions of the library wrote, in the order in which it concatenates.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def pool(tokens: Array, where: Array, *, poolings: tuple[str, ...]) -> jax.Array:
    """One vector per text; several poolings are concatenated.

    "cls": the first token that counts; "lasttoken": the last one; "max", "mean" over the tokens that count;
    "mean_sqrt_len_tokens": their sum / sqrt(number); "weightedmean": token k of a text weighs k.

    Args:
      tokens: [n, L, width] floating.
      where: [n, L] bool, true for tokens that count. At least one a text.
      poolings: names of `POOLINGS`.

    Returns:
      [n, width * len(poolings)] float32.

    >>> tokens = jnp.array([[[1.0], [3.0], [9.0]]])
    >>> pool(tokens, jnp.array([[True, True, False]]), poolings=("mean", "max")).tolist()
    [[2.0, 3.0]]
    """
    tokens, where = jnp.asarray(tokens).astype(jnp.float32), jnp.asarray(where, bool)
    counts = where.astype(jnp.float32)[..., None]
    first = jnp.argmax(where, axis=1)
    last = where.shape[1] - 1 - jnp.argmax(where[:, ::-1], axis=1)

    def at(index: jax.Array) -> jax.Array:
        return jnp.take_along_axis(tokens, index[:, None, None], axis=1)[:, 0]

    def weighted(weights: jax.Array, power: float = 1.0) -> jax.Array:
        return jnp.sum(tokens * weights, axis=1) / jnp.maximum(jnp.sum(weights, axis=1), 1e-9) ** power

    def one(pooling: str) -> jax.Array:
        match pooling:
            case "cls":
                return at(first)
            case "lasttoken":
                return at(last)
            case "max":
                return jnp.max(jnp.where(where[..., None], tokens, -jnp.inf), axis=1)
            case "mean":
                return weighted(counts)
            case "mean_sqrt_len_tokens":
                return weighted(counts, power=0.5)
            case "weightedmean":
                places = jnp.arange(1, where.shape[1] + 1) - first[:, None]
                return weighted(counts * places[..., None])
        raise ValueError(f"no pooling {pooling!r}{suggest(pooling, POOLINGS)}")

    return jnp.concatenate([one(pooling) for pooling in poolings], axis=-1)


def token_at_end(tokens: Array, ids: Array, *, end: int | None) -> jax.Array:
    """The vector of the end-of-text token, as in CLIP: [n, width].

    Args:
      tokens: [n, L, width].
      ids: [n, L] int.
      end: its id: its first place in each text. 2 means the largest id instead, the rule of CLIP's first checkpoints,
        whose config.json holds a wrong id. None means the last place, a padding token included (SigLIP).

    >>> tokens, ids = jnp.arange(3.0)[None, :, None], jnp.array([[5, 9, 9]])
    >>> token_at_end(tokens, ids, end=9).tolist(), token_at_end(tokens, ids, end=None).tolist()
    ([[1.0]], [[2.0]])
    """
    tokens, ids = jnp.asarray(tokens), jnp.asarray(ids)
    if end is None:
        return tokens[:, -1]
    place = jnp.argmax(ids if end == 2 else ids == end, axis=1)
    return jnp.take_along_axis(tokens, place[:, None, None], axis=1)[:, 0]


class SentenceModules(NamedTuple):
    """What sentence-transformers' files ask for.

    Attributes:
      transformer: folder of the transformer.
      poolings: names of `POOLINGS`.
      normalize: whether embeddings have length one.
    """

    transformer: pathlib.Path
    poolings: tuple[str, ...]
    normalize: bool


def read_sentence_modules(folder: pathlib.Path) -> SentenceModules:
    """Reads `modules.json` and the pooling's `config.json`; without them: the mean, not normalised.

    Raises:
      ConfigError: a module that is not supported, such as Dense, or an unknown pooling.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return SentenceModules(folder, ("mean",), False)
    transformer, normalize = folder, False
    poolings: tuple[str, ...] = ("mean",)
    for module in read_json(file):
        kind, named = str(module.get("type", "")).rsplit(".", 1)[-1], pathlib.PurePath(str(module.get("path", "")))
        if named.is_absolute() or ".." in named.parts:
            raise ConfigError(f"{file}: the path {str(named)!r} leaves the folder; download the checkpoint again")
        path = folder / named
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            poolings = _poolings(path / "config.json")
        elif kind == "Normalize":
            normalize = True
        else:
            raise ConfigError(
                f"{file}: the module {module.get('type')!r} is not supported, only Transformer, Pooling and Normalize; "
                "use another checkpoint, or extract with st:"
            )
    return SentenceModules(transformer, poolings, normalize)


def _poolings(file: pathlib.Path) -> tuple[str, ...]:
    settings = read_json(file)
    if settings.get("include_prompt") is False:
        raise ConfigError(f"{file}: include_prompt false is not supported; use another checkpoint, or extract with st:")
    chosen = settings.get("pooling_mode") or [name for flag, name in _FLAGS.items() if settings.get(flag)] or "mean"
    poolings = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    for pooling in poolings:
        if pooling not in POOLINGS:
            raise ConfigError(f"{file}: no pooling {pooling!r}{suggest(str(pooling), POOLINGS)}")
    return poolings


def read_json(file: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      ConfigError: the file is missing or damaged; the message names it.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: no such file; a checkpoint's folder from the Hugging Face hub has it") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not a complete JSON file; copy it again") from error
