"""`init.name=run:DIR`: starts from the best parameters of another run, where their arrays fit."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.assembly.saved_run import LABELS, TOKENIZER, read_run
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree
from alignment_jax.train import processes
from alignment_jax.train.experiment import Model

PREFIX = "run:"
_SHOWN = 6  # arrays that a line names


def source_run(name: str) -> pathlib.Path | None:
    """The workdir in `init.name`; None for any other start.

    Raises:
      ConfigError: no folder is given.
    """
    if not name.startswith(PREFIX):
        return None
    if not name.removeprefix(PREFIX).strip():
        raise ConfigError("init.name is 'run:'; give the workdir of a run, as in init.name=run:runs/first")
    return pathlib.Path(name.removeprefix(PREFIX)).expanduser().absolute()


def source_tokenizer(name: str) -> pathlib.Path | None:
    """The tokenizer file of the run in `init.name`: its token embeddings are only valid with its tokenizer."""
    folder = source_run(name)
    return None if folder is None or not (folder / TOKENIZER).is_file() else folder / TOKENIZER


def start_from_run(
    model: Model, name: str, *, of: str, first_batch: Sequence[np.ndarray], labels: Sequence[str] = ()
) -> tuple[Model, tuple[str, ...]]:
    """The model whose `init` takes over the arrays that fit, and lines for the log on those that do not.

    An array fits when its path in the model, shape and type agree. The last layer of a classifier fits only when the
    classes are the same.

    Args:
      model: from `build_model_functions`.
      name: `init.name`, "run:DIR".
      of: `model.name`; that of the run must be equal.
      first_batch: of the training data.
      labels: the classes of a classifier.

    Raises:
      ConfigError: there is no run, it is of another model, or nothing fits.
      RunError: its checkpoint is damaged or missing.
    """
    folder = source_run(name)
    assert folder is not None
    found = processes.compute_on_primary(lambda: _read(folder, name, of))
    saved: dict[str, np.ndarray] = found["arrays"]
    if list(labels) != found["labels"]:
        saved = {path: array for path, array in saved.items() if "/head_" not in path}
    own = _by_path(dict(zip(("params", "model_state"), _shapes(model, first_batch), strict=True)))
    fits = {path for path, leaf in own.items() if path in saved and _same_kind(leaf, saved[path])}
    other = [f"{n} {list(saved[n].shape)} there, {list(own[n].shape)} here" for n in own if n in saved.keys() - fits]
    if not any(path.startswith("params/") and saved[path].ndim > 0 for path in fits):
        example = f" ({other[0]})" if other else ""
        raise ConfigError(f"init.name is {name!r}: no array of the model there fits the one here{example}")

    def init(key: jax.Array, *inputs: Any) -> tuple[PyTree, PyTree]:
        start = dict(zip(("params", "model_state"), model.init(key, *inputs), strict=True))

        def chosen(keys: Any, leaf: Any) -> Any:
            path = _path(keys)
            return jnp.asarray(saved[path], leaf.dtype) if path in fits else leaf

        start = jax.tree_util.tree_map_with_path(chosen, start)
        return start["params"], start["model_state"]

    lines = [f"start: {len(fits)} of {len(own)} arrays are those of {folder}, step {found['step']}"]
    lines += _line("did not fit and keep their random start", other)
    lines += _line("are missing there and keep their random start", [path for path in own if path not in saved])
    lines += _line("are there and not used", [path for path in found["arrays"] if path not in own])
    return dataclasses.replace(model, init=init), tuple(lines)


def _read(folder: pathlib.Path, name: str, of: str) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"init.name is {name!r}: {folder} holds no run (no config.json); give the workdir of a run")
    run = read_run(folder)
    if run.config.model.name != of:
        raise ConfigError(
            f"init.name is {name!r}: the run there is of model {run.config.model.name}, and this one of {of}; give a "
            "run of the same model"
        )
    best = run.best()
    arrays = {path: np.asarray(leaf) for path, leaf in _by_path(best.variables).items()}
    return {"arrays": arrays, "step": best.step, "labels": list(run.signature.get(LABELS, ()))}


def _shapes(model: Model, first_batch: Sequence[np.ndarray]) -> tuple[PyTree, PyTree]:
    return jax.eval_shape(model.init, jax.random.key(0), *first_batch)


def _by_path(tree: PyTree) -> dict[str, Any]:
    return {_path(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _path(keys: Any) -> str:
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _same_kind(one: Any, other: Any) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _line(what: str, paths: Sequence[str]) -> list[str]:
    if not paths:
        return []
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return [f"start: {', '.join(paths[:_SHOWN])}{more} {what}"]
