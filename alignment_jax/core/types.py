"""The batch contract and the few type names that every room shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
PyTree: TypeAlias = Any

# One batch: `a` and `b` are the two modalities (arrays whose first axis is the sample), `index` [n] int32 the sample's
# number in its split (so that per-sample scores find their way back to the sampler), `where` [n] bool, padding false.
# Optional: `stat` [n] float32, the size of the sample's cluster or class; `label` [n] int32; `id_a`, `id_b` [n] int32,
# numbers of the content of its two items, equal exactly where that is, or [n, k] where k numbers together say it.
Batch: TypeAlias = Mapping[str, Any]

BATCH_KEYS = ("a", "b", "index", "where")
OPTIONAL_BATCH_KEYS = ("stat", "label", "id_a", "id_b")
