"""Texts to the token ids that a checkpoint was trained on, by its tokenizer.json."""

from __future__ import annotations

import pathlib
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.core.optional import require
from alignment_jax.models.pretrained.pooling import read_json

FILE = "tokenizer.json"
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonical(text: str) -> str:
    """Lower case, without ASCII punctuation, single spaces: the texts that SigLIP was trained on.

    >>> canonical("  A dog's   ball. ")
    'a dogs ball'
    """
    return re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).strip()


# What a tokenizer does before its tokenizer.json, by `tokenizer_class`.
_BEFORE: dict[str, Callable[[str], str]] = {"SiglipTokenizer": canonical, "Siglip2Tokenizer": str.lower}


class TextPreprocess:
    """Tokenises texts as the checkpoint's own tokenizer does.

    Attributes:
      longest: tokens of the longest text, special ones included; longer texts are cut.
      fixed: whether every text is filled up to `longest` and padding is attended to (SigLIP).
      prompts: name -> prefix, of `config_sentence_transformers.json` ("query: " of E5).
      prefix: put before every text where a call names none: the file's default prompt, usually "".
      vocabulary: ids are below it: JAX would clip others silently.
      padding: id of the padding token.
      file: tokenizer.json.

    Args:
      folder: of the tokenizer's files.
      longest, fixed, prompts, prefix, vocabulary, padding: see above.
      padding_side, truncation_side: "right" or "left".
      before: applied to every text first.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        longest: int,
        vocabulary: int,
        padding: int,
        padding_side: str = "right",
        truncation_side: str = "right",
        fixed: bool = False,
        prompts: Mapping[str, str] | None = None,
        prefix: str = "",
        before: Callable[[str], str] = str,
    ) -> None:
        self.longest, self.fixed = longest, fixed
        self.prompts, self.prefix = dict(prompts or {}), prefix
        self.vocabulary, self.padding, self._before = vocabulary, padding, before
        self._left, self._truncation_side = padding_side == "left", truncation_side
        self.file = folder / FILE
        self._tokenizer = _open(self.file)
        self._tokenizer.no_padding()

    @property
    def trailing_padding(self) -> int | None:
        """Id that may be cut off the end of a row; None where the tower reads padding, or it is on the left."""
        return None if self.fixed or self._left else self.padding

    def __call__(
        self, texts: Sequence[str], *, prefix: str | None = None, prompt: str | None = None, length: int | None = None
    ) -> dict[str, np.ndarray]:
        """Makes a batch: the arguments `tokens` and `mask` of `encode_text`.

        Args:
          texts: n texts.
          prefix: put before every text; None means the attribute `prefix`.
          prompt: instead: a name in `prompts`.
          length: number of tokens L of the batch; None means the longest text's (`longest` where `fixed`). One length
            for all batches compiles once.

        Returns:
          {"tokens": int32 [n, L], "mask": bool [n, L]}; mask is false for padding, but all true where `fixed`.

        Raises:
          ValueError: an unknown prompt, prompt and prefix together, a length above `longest`, or one string as texts.
          ConfigError: the tokenizer is that of another checkpoint.
        """
        if prompt is not None:
            if prefix is not None:
                raise ValueError("give prompt or prefix, not both")
            if prompt not in self.prompts:
                raise ValueError(f"no prompt {prompt!r}{suggest(prompt, self.prompts)}")
            prefix = self.prompts[prompt]
        if length is not None and not 0 < length <= self.longest:
            raise ValueError(f"length must be in [1, {self.longest}], got {length}")
        return self.padded(self.ids(texts, prefix=prefix, longest=length), length=length)

    def ids(self, texts: Sequence[str], *, prefix: str | None = None, longest: int | None = None) -> list[list[int]]:
        """The token ids of each text, special ones included, without padding.

        Args:
          texts: n texts.
          prefix: put before every text; None means the attribute `prefix`.
          longest: cut longer texts here; None means the attribute `longest`.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts must be a sequence of strings, got the string {texts[:40]!r}; put it into a list")
        prefix = self.prefix if prefix is None else prefix
        limit = self.longest if longest is None else longest
        self._tokenizer.enable_truncation(max_length=limit, direction=self._truncation_side)
        return [one.ids for one in self._tokenizer.encode_batch([self._before(prefix + text) for text in texts])]

    def padded(self, ids: Sequence[Sequence[int]], *, length: int | None = None) -> dict[str, np.ndarray]:
        """Fills the ids of texts up to one length: see `__call__` for arguments, result and errors."""
        if length is None:
            length = self.longest if self.fixed else max(map(len, ids), default=1)
        tokens = np.full((len(ids), length), self.padding, np.int32)
        mask = np.zeros(tokens.shape, bool)
        for row, one in enumerate(ids):
            columns = slice(length - len(one), length) if self._left else slice(len(one))
            tokens[row, columns] = one
            mask[row, columns] = True
        if tokens.size and tokens.max() >= self.vocabulary:
            raise ConfigError(
                f"{self.file}: token id {tokens.max()}, but the checkpoint has {self.vocabulary}; copy the tokenizer "
                "of this checkpoint"
            )
        return {"tokens": tokens, "mask": np.ones_like(mask) if self.fixed else mask}

    def decode(self, ids: np.ndarray) -> list[str]:
        """Texts of ids [n, L], without special tokens."""
        return self._tokenizer.decode_batch(np.asarray(ids).tolist(), skip_special_tokens=True)


def _open(file: pathlib.Path) -> Any:
    library: Any = require("tokenizers", extra="pretrained", purpose="tokenise texts")
    if not file.is_file():
        raise ConfigError(
            f"{file}: no such file; "
            + (
                "make it from spiece.model beside it as docs/pretrained.md shows"
                if file.with_name("spiece.model").is_file()
                else "load the tokenizer with transformers' AutoTokenizer and save_pretrained it there"
            )
        )
    try:
        return library.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigError(f"{file}: not a tokenizer of this version of tokenizers; copy it again") from error


def read_text_preprocess(
    folder: pathlib.Path, *, longest: int, vocabulary: int, padding: int | None, fixed: bool, root: pathlib.Path | None
) -> TextPreprocess:
    """The tokenizer of a folder.

    Args:
      folder: with `tokenizer.json`, and usually `tokenizer_config.json`.
      longest: rows of the position table that texts can use; the files may ask for fewer.
      vocabulary: rows of the table of words.
      padding: id of the padding token for files that do not name it.
      fixed: every text has `longest` tokens.
      root: folder of sentence-transformers' files; None: they are ignored.

    Raises:
      ConfigError: a file is missing or damaged.
    """
    config = _optional(folder / "tokenizer_config.json")
    sentence = {} if root is None else _optional(folder / "sentence_bert_config.json")
    limit = sentence.get("max_seq_length") or config.get("model_max_length")
    if isinstance(limit, (int, float)) and 0 < limit < longest:
        longest = int(limit)
    kind = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    before = _BEFORE.get(kind, str)
    if sentence.get("do_lower_case"):
        before = str.lower
    prompts = {} if root is None else _optional(root / "config_sentence_transformers.json")
    named = prompts.get("prompts") or {}
    return TextPreprocess(
        folder,
        longest=longest,
        vocabulary=vocabulary,
        padding=_padding(folder, config, padding),
        padding_side=config.get("padding_side") or ("left" if kind == "Siglip2Tokenizer" else "right"),
        truncation_side=config.get("truncation_side") or "right",
        fixed=fixed,
        prompts=named,
        prefix=named.get(prompts.get("default_prompt_name"), ""),
        before=before,
    )


def _padding(folder: pathlib.Path, config: Mapping[str, Any], fallback: int | None) -> int:
    token = config.get("pad_token") or _optional(folder / "special_tokens_map.json").get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    found = None if token is None else _open(folder / FILE).token_to_id(token)
    found = fallback if found is None else found
    if found is None:
        raise ConfigError(f"{folder / 'tokenizer_config.json'}: no pad_token; name the token of the vocabulary there")
    return found


def _optional(file: pathlib.Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}
