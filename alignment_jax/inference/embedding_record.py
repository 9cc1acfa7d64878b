"""The record of a model in a file of vectors that it made."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alignment_jax import data
from alignment_jax.core.errors import DataError
from alignment_jax.inference.query_bank import RunHubness
from alignment_jax.inference.trained_model import TrainedModel


def embedding_record(trained: TrainedModel, hubness: RunHubness | None) -> np.ndarray:
    """The array `embedded_by` of a file of vectors: fingerprint and step of the model, and the hubness correction."""
    correction = "" if hubness is None else str(hubness.correction)
    return data.embedding_record({"model": trained.fingerprint, "step": trained.step, "hubness": correction})


def check_record(record: Mapping[str, Any], trained: TrainedModel, path: pathlib.Path) -> None:
    """Raises DataError where another model made the vectors of the file; a file without a record passes."""
    if "model" in record and record["model"] != trained.fingerprint:
        raise DataError(
            f"{path}: another run or checkpoint made these vectors (of step {record.get('step')}; this one is of step "
            f"{trained.step}); embed the data with this run: alignment-jax embed --workdir ... --out ..."
        )
