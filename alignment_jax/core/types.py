"""The batch contract and shared type names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
PyTree: TypeAlias = Any

# One batch: `a` and `b` are the two modalities (first axis: samples); `index` [n] int32 is the sample's number in its
# split, which links per-sample scores to the sampler; `where` [n] bool is false for padding. Optional: `stat` [n]
# float32, the size of the sample's cluster or class; `label` [n] int32; `id_a`, `id_b` [n] int32, equal exactly where
# the items' content is, or [n, k] where k numbers together are one id.
Batch: TypeAlias = Mapping[str, Any]

BATCH_KEYS = ("a", "b", "index", "where")
OPTIONAL_BATCH_KEYS = ("stat", "label", "id_a", "id_b")
# Latents [k, d] without partners, drawn for each step; no padding, and no row belongs to one of the batch.
UNPAIRED_KEYS = ("a_unpaired", "b_unpaired")

CORRECTED = "corrected/"  # prefix of the metrics of scores after a hubness correction
