"""`init.name=run:DIR`: parameters that start from the best ones of another run, as far as they fit."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import PyTree
from alignment_jax.train import processes
from alignment_jax.train.experiment import Model

PREFIX = "run:"
TOKENIZER = "tokenizer.json"
_SHOWN = 6  # arrays that a line names


def starting_run(config: ConfigDict) -> pathlib.Path | None:
    """The workdir that a configuration starts from; None where it starts otherwise.

    Raises:
      ConfigError: no folder is given.
    """
    name = str(config.init.name)
    if not name.startswith(PREFIX):
        return None
    if not name.removeprefix(PREFIX).strip():
        raise ConfigError("init.name is 'run:'; give the workdir of a run, as in init.name=run:runs/first")
    return pathlib.Path(name.removeprefix(PREFIX)).expanduser().absolute()


def starting_tokenizer(config: ConfigDict) -> pathlib.Path | None:
    """The tokenizer of the run that is started from: its embeddings of tokens mean nothing under another one."""
    folder = starting_run(config)
    return None if folder is None or not (folder / TOKENIZER).is_file() else folder / TOKENIZER


def with_run_start(
    config: ConfigDict, model: Model, first_batch: Sequence[np.ndarray], *, labels: Sequence[str] = ()
) -> tuple[Model, tuple[str, ...]]:
    """The model whose `init` takes over what fits, and lines for the log: what does, what does not, what is left.

    An array fits that has the same place in the model, shape and type. The last layer of a classifier fits only where
    the classes are the same.

    Args:
      config: the whole configuration; `init.name` names the run.
      model: as `build_model` makes it.
      first_batch: of the training data.
      labels: the classes, of a classifier.

    Raises:
      ConfigError: there is no run, it is of another model, or nothing fits.
      RunError: its checkpoint is damaged or missing.
    """
    folder = starting_run(config)
    assert folder is not None
    found = processes.compute_on_primary(lambda: _read(folder, config))
    there: dict[str, np.ndarray] = found["arrays"]
    if list(labels) != found["labels"]:
        there = {name: array for name, array in there.items() if "/head_" not in name}
    here = _flat(dict(zip(("params", "model_state"), _shapes(model, first_batch), strict=True)))
    fits = {name for name, leaf in here.items() if name in there and _same_kind(leaf, there[name])}
    other = [f"{n} {list(there[n].shape)} there, {list(here[n].shape)} here" for n in here if n in there.keys() - fits]
    if not any(name.startswith("params/") and there[name].ndim > 0 for name in fits):
        example = f" ({other[0]})" if other else ""
        raise ConfigError(f"init.name is {config.init.name!r}: no array of the model there fits the one here{example}")

    def init(key: jax.Array, *inputs: Any) -> tuple[PyTree, PyTree]:
        start = dict(zip(("params", "model_state"), model.init(key, *inputs), strict=True))

        def chosen(path: Any, leaf: Any) -> Any:
            name = _name(path)
            return jnp.asarray(there[name], leaf.dtype) if name in fits else leaf

        start = jax.tree_util.tree_map_with_path(chosen, start)
        return start["params"], start["model_state"]

    lines = [f"start: {len(fits)} of {len(here)} arrays are those of {folder}, step {found['step']}"]
    lines += _line("did not fit, and are left at their start", other)
    lines += _line("are not there, and are left at their start", [name for name in here if name not in there])
    lines += _line("are there and not used", [name for name in found["arrays"] if name not in here])
    return dataclasses.replace(model, init=init), tuple(lines)


def _read(folder: pathlib.Path, config: ConfigDict) -> dict[str, Any]:
    from alignment_jax.inference.trained_model import (  # which builds models, as this package's `build` does
        LABELS,
        open_run,
    )

    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"init.name is {config.init.name!r}: {folder} holds no run (no config.json); give the workdir of a training"
        )
    run = open_run(folder)
    if run.config.model.name != config.model.name:
        raise ConfigError(
            f"init.name is {config.init.name!r}: the run there is of model {run.config.model.name}, and this one of "
            f"{config.model.name}; give a run of the same model"
        )
    arrays = {name: np.asarray(leaf) for name, leaf in _flat(run.variables).items()}
    return {"arrays": arrays, "step": run.step, "labels": list(run.reads.get(LABELS, ()))}


def _shapes(model: Model, first_batch: Sequence[np.ndarray]) -> tuple[PyTree, PyTree]:
    return jax.eval_shape(model.init, jax.random.key(0), *first_batch)


def _flat(tree: PyTree) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _same_kind(one: Any, other: Any) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _line(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"start: {', '.join(names[:_SHOWN])}{more} {what}"]
