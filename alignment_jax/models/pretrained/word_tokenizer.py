"""A tokenizer of a list of words, for checkpoints that are made without a download."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # ids 0 to 3
START, END = 2, 3


def word_tokenizer(words: Sequence[str]) -> dict[str, Any]:
    """A tokenizer of whole words, as `files` of `random_folder`.

    Ids are 0 for padding, 1 for an unknown word, 2 for the start of a text and 3 for its end, then the words in their
    order: the model needs `vocab_size` 4 + len(words) and, of family clip, `eos_token_id` 3. Letter case counts.

    Args:
      words: different words; punctuation marks are words too.

    Raises:
      ValueError: a word occurs twice or is no single word.

    >>> sorted(word_tokenizer(["a", "red", "star"])["tokenizer"]["model"]["vocab"].items())[-3:]
    [('a', 4), ('red', 5), ('star', 6)]
    """
    wrong = sorted(word for word, count in Counter(words).items() if count > 1 or not _is_word(word))
    if wrong:
        raise ValueError(f"words must be different single words, got {wrong[0]!r}")
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": k, "content": name, "special": True, "normalized": False,
             "single_word": False, "lstrip": False, "rstrip": False}
            for k, name in enumerate(SPECIAL)
        ],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": SPECIAL[START], "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": SPECIAL[END], "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                SPECIAL[k]: {"id": SPECIAL[k], "ids": [k], "tokens": [SPECIAL[k]]} for k in (START, END)
            },
        },
        "model": {
            "type": "WordLevel",
            "vocab": {word: k for k, word in enumerate((*SPECIAL, *words))},
            "unk_token": "[UNK]",
        },
    }  # fmt: skip
    return {"tokenizer": tokenizer, "tokenizer_config": {"pad_token": "[PAD]"}}


def _is_word(text: str) -> bool:
    """Whether the pre-tokenizer Whitespace leaves the text whole."""
    return re.fullmatch(r"\w+|[^\w\s]+", text) is not None
