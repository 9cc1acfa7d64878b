"""Two configurations small enough to be killed again and again: an alignment with every method, and BSS classification.

Written as files for the command line.
"""

import importlib.util
import pathlib
from typing import Any

import numpy as np

_COMMON = """
    c.input.batch_size = 8
    c.optimizer.ema = 0.9
    c.optimizer.warmup = "4 steps"
    c.sampling.epochs = 4
    c.log.interval = "1 steps"
    c.log.tensorboard = False
    c.report.gallery = 0
    c.clusters.count = 4
    return c
"""
_ALIGNMENT = """from alignment_jax import config


def get_config(arg=None):
    c = config.default()
    c.data = arg
    c.model.dim = 8
    config.apply_methods(c, "all")
    c.train.duration = "{epochs} epochs"
    c.eval.interval = "7 steps"
    c.checkpoint.interval = "3 steps"
"""
_CLASSIFICATION = """from alignment_jax import config


def get_config(arg=None):
    c = config.default()
    c.data = arg
    encoder = {{"name": "mlp", "widths": (8,), "dropout": 0.2}}
    c.model = config.fusion_classifier(dict(encoder), dict(encoder))
    c.sampling.name = "probabilistic"
    c.train.duration = "{epochs} epochs"
    c.eval.interval = "7 steps"
    c.checkpoint.interval = "3 steps"
    c.eval.metric = "val/accuracy"
"""


def write_run(folder: pathlib.Path, kind: str, *, epochs: int = 6, n: int = 66) -> list[str]:
    """Data and configuration of one run, "alignment" or "classification"; its arguments, without the workdir."""
    rng = np.random.default_rng(0)
    split = np.array((["train"] * 4 + ["val", "test"]) * (n // 6))
    if kind == "alignment":
        code = rng.normal(size=(n, 6))
        arrays = {"image": code @ rng.normal(size=(6, 12)), "text": code @ rng.normal(size=(6, 10))}
        spec, text = "embeddings", _ALIGNMENT
    else:
        label = rng.integers(0, 3, n)
        arrays = {
            name: rng.normal(size=(3, d))[label] + noise * rng.normal(size=(n, d))
            for name, d, noise in (("a", 6, 0.5), ("b", 5, 2.0))
        }
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()} | {"label": label}
        spec, text = "features", _CLASSIFICATION
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{kind}.npz", **arrays, split=split)
    config = folder / f"{kind}.py"
    config.write_text(text.format(epochs=epochs) + _COMMON)
    return ["train", "--config", f"{config}:{spec}:{folder / kind}.npz"]


def load_config(folder: pathlib.Path, kind: str, **options: int) -> Any:
    """The configuration of such a run, for use without the command line."""
    path, _, spec = write_run(folder, kind, **options)[2].partition(":")
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(f"run_{kind}", path))
    module.__spec__.loader.exec_module(module)
    return module.get_config(spec)
