"""Contrastive alignment of two modalities on small data: pure JAX functions and a trainer.

The subpackages load on first use, so that ``import alignment_jax as aj`` costs almost nothing and a program that only
needs one loss never imports flax, grain, TensorFlow or matplotlib.

>>> import alignment_jax as aj
>>> aj.losses.infonce  # doctest: +ELLIPSIS
<function infonce at ...>
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from alignment_jax import _moved

__version__ = "0.1.0"

_SUBPACKAGES = (
    "assembly",
    "balance",
    "baselines",
    "compare",
    "config",
    "core",
    "data",
    "evals",
    "extract",
    "inference",
    "losses",
    "metrics",
    "models",
    "perturb",
    "regularizers",
    "report",
    "retrieval",
    "sampling",
    "schedules",
    "similarity",
    "train",
    "weighting",
)

_FUNCTIONS = {"load": "alignment_jax.inference.aligner"}

__all__ = ["__version__", *_FUNCTIONS, *_SUBPACKAGES]

if TYPE_CHECKING:  # lets editors and type checkers see what __getattr__ finds at run time
    from alignment_jax import (  # noqa: F401
        assembly,
        balance,
        baselines,
        compare,
        config,
        core,
        data,
        evals,
        extract,
        inference,
        losses,
        metrics,
        models,
        perturb,
        regularizers,
        report,
        retrieval,
        sampling,
        schedules,
        similarity,
        train,
        weighting,
    )
    from alignment_jax.inference.aligner import load  # noqa: F401


_moved.install()


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
