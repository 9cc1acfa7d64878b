"""XLM-RoBERTa (Conneau et al. 2020): multilingual E5, BGE-M3. BERT whose positions count the tokens without padding."""

from __future__ import annotations

import functools

from alignment_jax.models.pretrained.families import bert
from alignment_jax.models.pretrained.families.family import Family

DEFAULTS = {**bert.DEFAULTS, "pad_token_id": 1}

XLM_ROBERTA = Family(
    functools.partial(bert.build, defaults=DEFAULTS, count_positions=True),
    lambda config: bert.WEIGHTS,
    "XLMRobertaModel",
    prefixes=("roberta.",),
    ignored=bert.IGNORED,
)
