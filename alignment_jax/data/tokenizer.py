"""A tokenizer trained on the training captions; nothing is downloaded."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.core.optional import require
from alignment_jax.core.storage import write_text_atomic
from alignment_jax.data.columns import ArrayColumn
from alignment_jax.data.split import Column, PairSplit

PAD, UNK, BOS, EOS = range(4)
_SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
_MAX_TOKEN = 32  # characters of a token; bounds the text that its first tokens depend on
_TRAINING_CHARACTERS = 10_000  # of one caption: a very long one must not dominate the vocabulary


def _tokenizers() -> Any:
    return require("tokenizers", extra="train", purpose="turn captions into token ids")


class Tokenizer:
    """Texts to ids and back. Made by `train_tokenizer` or `Tokenizer.load`.

    Every text becomes [BOS] tokens [EOS], padded with `pad_id`. Long texts are truncated before [EOS]; an empty text is
    [BOS] [EOS]. "[PAD]" in a text is ordinary text.

    Attributes:
      vocab_size: number of ids.
      pad_id, bos_id, eos_id: 0, 2, 3.
    """

    pad_id, bos_id, eos_id = PAD, BOS, EOS

    def __init__(self, inner: Any):
        # Text never becomes a control token.
        inner.encode_special_tokens = True
        self._inner = inner

    @property
    def vocab_size(self) -> int:
        return self._inner.get_vocab_size()

    def encode(self, texts: Sequence[str], max_length: int) -> np.ndarray:
        """Ids of a list of texts.

        Args:
          texts: n strings, possibly empty.
          max_length: length of every row, [BOS] and [EOS] included; at least 2.

        Returns:
          int32 [n, max_length].

        Raises:
          ConfigError: max_length below 2.
        """
        if max_length < 2:
            raise ConfigError(f"max_length must be at least 2 ([BOS] and [EOS]), got {max_length}")
        ids = np.full((len(texts), max_length), PAD, np.int32)
        short = [_clean(text, (max_length + 1) * (_MAX_TOKEN + 1)) for text in texts]
        for row, encoding in enumerate(self._inner.encode_batch(short, add_special_tokens=False)):
            kept = encoding.ids[: max_length - 2]
            ids[row, : len(kept) + 2] = [BOS, *kept, EOS]
        return ids

    def count(self, texts: Sequence[str], most: int) -> np.ndarray:
        """Number of ids of each text, [BOS] and [EOS] included; int64 [n]. Counts above `most` are lower bounds.

        >>> train_tokenizer(["a red dog"] * 5).count(["a red dog", ""], 8).tolist()
        [5, 2]
        """
        short = [_clean(text, (most + 1) * (_MAX_TOKEN + 1)) for text in texts]
        return np.array([len(found.ids) + 2 for found in self._inner.encode_batch(short, add_special_tokens=False)])

    def row_length(self, length: int, *, inferred: bool = False) -> int:
        """Ids in a row for texts of up to `length` tokens: `length`; the tokenizer of a checkpoint has limits."""
        return length

    def decode(self, ids: np.ndarray) -> list[str]:
        """Texts of ids [n, length], without padding and control tokens."""
        rows = [[int(i) for i in row if i not in (PAD, BOS, EOS)] for row in np.asarray(ids)]
        return [self._inner.decode(row, skip_special_tokens=False).strip() for row in rows]

    def save(self, path: str | pathlib.Path) -> None:
        """Writes a JSON file in the format of the tokenizers library."""
        write_text_atomic(path, self.to_text())

    def to_text(self) -> str:
        """The tokenizer as JSON text."""
        return self._inner.to_str(pretty=True)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> Tokenizer:
        """Reads a file of `save`.

        Raises:
          DataError: there is no such file, or it is not such a tokenizer.
        """
        try:
            text = pathlib.Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a saved tokenizer ({' '.join(str(error).split())})") from error
        return cls.from_text(text, path=path)

    @classmethod
    def from_text(cls, text: str, *, path: str | pathlib.Path = "text") -> Tokenizer:
        """Parses the text of `to_text`; errors name `path`.

        Raises:
          DataError: it is not a tokenizer of this class.
        """
        try:
            vocabulary = json.loads(text)["model"]["vocab"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a saved tokenizer ({' '.join(str(error).split())})") from error
        if not isinstance(vocabulary, dict) or [vocabulary.get(token) for token in _SPECIAL] != [PAD, UNK, BOS, EOS]:
            raise DataError(f"{path}: not a tokenizer of this library; ids 0 to 3 must be {', '.join(_SPECIAL)}")
        try:
            return cls(_tokenizers().Tokenizer.from_str(text))
        except Exception as error:  # the library raises bare Exception
            raise DataError(f"{path}: damaged tokenizer ({' '.join(str(error).split())})") from error


def train_tokenizer(
    captions: Iterable[str],
    *,
    vocab_size: int = 4096,
    lowercase: bool = True,
    min_frequency: int = 2,
) -> Tokenizer:
    """Learns a byte-level BPE vocabulary (Sennrich et al. 2016; Radford et al. 2019) from the training captions.

    The vocabulary includes all 256 bytes, so every script and emoji can be encoded. (WordPiece is not offered: its
    trainer is not deterministic.)

    Args:
      captions: texts of the training split, in any order.
      vocab_size: largest number of ids, the four control tokens and the 256 bytes included.
      lowercase: fold case.
      min_frequency: smallest count of a merged token.

    Returns:
      The tokenizer; deterministic.

    Raises:
      ConfigError: vocab_size below 260.
      DataError: all captions are empty.

    >>> tokenizer = train_tokenizer(["a red dog", "a red cat"] * 5)
    >>> ids = tokenizer.encode(["a red dog", ""], 8)
    >>> ids.shape, ids[1].tolist()
    ((2, 8), [2, 3, 0, 0, 0, 0, 0, 0])
    >>> tokenizer.decode(ids)
    ['a red dog', '']
    """
    smallest = len(_SPECIAL) + 256
    if vocab_size < smallest:
        raise ConfigError(f"vocab_size must be at least {smallest}: the control tokens and 256 bytes; got {vocab_size}")
    library = _tokenizers()
    # Sorted: ties between tokens of equal frequency are broken by their order.
    texts = sorted(filter(None, (_clean(caption, _TRAINING_CHARACTERS) for caption in captions)))
    if not texts:
        raise DataError("all training captions are empty; a tokenizer cannot be trained")
    inner = library.Tokenizer(library.models.BPE())
    fold = [library.normalizers.Lowercase()] if lowercase else []
    inner.normalizer = library.normalizers.Sequence([library.normalizers.NFKC(), *fold])
    inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=False,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=_MAX_TOKEN,
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(inner)


def encode_texts(column: Column, tokenizer: Tokenizer, max_length: int) -> ArrayColumn:
    """Encodes a text column once: token ids in memory, int32 [M, max_length].

    >>> from alignment_jax.data import TextColumn
    >>> column = TextColumn(("a dog", "a cat"))
    >>> encode_texts(column, train_tokenizer(column.texts), 6).read(np.array([0, 1])).shape
    (2, 6)
    """
    if column.kind != "text":
        raise ConfigError(f"only texts can be encoded, this column is of kind {column.kind!r}")
    texts = column.read(np.arange(len(column)))
    return ArrayColumn(tokenizer.encode(texts, max_length), kind="text", name="token ids")


def caption_texts(split: PairSplit) -> list[str]:
    """A text for every b-item: its caption, or its number if the data has no texts."""
    if split.b.kind == "text":
        return list(split.b.read(np.arange(len(split.b))))
    stored = split.extra_b.get("caption")
    if isinstance(stored, Column):
        return list(stored.read(np.arange(len(stored))))
    if stored is not None:
        return [str(caption) for caption in stored]
    return [f"{split.ids[a]}, item {j}" for j, a in enumerate(split.b_to_a)]


def _clean(text: str, limit: int) -> str:
    """One line with single spaces, truncated to `limit` characters."""
    return " ".join(text[: 2 * limit].split())[:limit]
