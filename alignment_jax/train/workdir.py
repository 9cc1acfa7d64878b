"""The folder of one run: its lock, its configuration and its newest checkpoint."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import ConfigError, UserError
from alignment_jax.core.nested import flatten_config as flatten_config

# Settings that may change on resuming. `data` and the names of checkpoints are names; their content is compared
# elsewhere.
_FREE = (
    "name",
    "data",
    "input.on_bad_sample",
    "train.shard",
    "train.profile",
    "train.debug_nans",
    "eval.hubness",
    "eval.bank_size",
    "eval.control",
    "eval.control_prompts",
    *(f"model.encoder_{side}.model" for side in "abc"),
)

DURATION = "train.duration"
_FIRST = "; train.duration can be raised once the run has finished"
# Settings that early versions lack -> the behaviour of those versions.
_BEFORE = {
    "input.pixel_range": "auto:0,65536",
    "loss.duplicates": "negative",
    "loss.precision": "float32",
    "train.shard": "none",
    "classification.class_weights": "none",
    "balance.name": "none",
    "balance.alpha": 0.8,
    "balance.noise": True,
    "balance.prototype_weight": 1.0,
    "balance.prototype_decay": 0.9,
    "balance.entropy_weight": 0.01,
    "balance.entropy": "10 percent",
    "balance.held_out": 0.1,
    "balance.interval": "10 percent",
    "balance.rescale": 1.5,
    "balance.rank_weight": 1.0,
    "balance.rate": 0.3,
    "balance.pretraining": "30 percent",
    "eval.hubness": "none",
    "eval.bank_size": 4096,
    "log.wandb": False,
    "eval.control": "",
    "eval.control_prompts": "",
    "train.interpolate": "none",
    "train.profile": "",
    "train.debug_nans": False,
}
_BEFORE_OF_MODEL = {"two_tower": {"projection": "linear"}}


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Locks the workdir for this process. The operating system releases the lock when the process ends.

    Raises:
      UserError: another process holds the lock, or the folder cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / ".lock", "a")  # noqa: SIM115 - held open for as long as the lock is
    except OSError as error:
        raise UserError(f"workdir {workdir} cannot be written: {error.strerror}; choose another --workdir") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"workdir {workdir} is in use by another process; wait until it ends, or choose another --workdir"
            ) from error
        yield


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The differing settings of two configurations, as "path: old -> new".

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    ['a.b: 1 -> 2']
    """
    result = []
    for name in sorted(old.keys() | new.keys()):
        path = f"{prefix}{name}"
        before, after = old.get(name, "(absent)"), new.get(name, "(absent)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            result += differences(before, after, f"{path}.")
        elif before != after:
            result.append(f"{path}: {before} -> {after}")
    return result


def changed_names(kept: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The names, sorted, whose values differ.

    >>> changed_names({"train": "x", "val": "y"}, {"train": "x", "val": "z", "test": "w"})
    ['test', 'val']
    """
    return sorted(name for name in kept.keys() | found.keys() if kept.get(name) != found.get(name))


def check_same_config(workdir: pathlib.Path, config: Mapping[str, Any], *, finished: bool = False) -> bool:
    """Whether the workdir already holds a run of this configuration; False if it holds none.

    The names of the run and its data, `input.on_bad_sample`, `train.shard` and the settings of the hubness correction
    may differ. A run without a checkpoint is replaced, so that a wrong setting can be corrected. A finished run may be
    resumed with another duration.

    Args:
      workdir: of the run.
      config: the whole configuration.
      finished: the run in the workdir has finished; `train.duration` may differ.

    Raises:
      ConfigError: the workdir holds a run of another configuration.
    """
    found = read_config(workdir)
    if found is None:
        return False
    # Through JSON, so that tuples and lists compare alike.
    wanted = json.loads(json.dumps(dict(config)))
    free = (*_FREE, DURATION) if finished else _FREE
    changed = [line for line in differences(found, wanted) if line.partition(": ")[0] not in free]
    if changed and not has_checkpoints(workdir):
        return False
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ConfigError(
            f"workdir {workdir} holds a run with another configuration ({shown}); choose another --workdir, "
            "or repeat its own command to resume" + (_FIRST if changed[0].startswith(DURATION) else "")
        )
    return True


def has_checkpoints(workdir: pathlib.Path) -> bool:
    """Whether this folder holds any checkpoint."""
    return any((workdir / "checkpoints").glob("*/*"))


def can_resume(workdir: pathlib.Path) -> bool:
    """Whether this folder holds a complete state to resume from."""
    return last_saved_step(workdir) >= 0


def last_saved_step(workdir: pathlib.Path) -> int:
    """The step of the newest complete state, -1 without one."""
    names = (path.name for path in (workdir / "checkpoints" / "last").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=-1)


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The configuration of the run in a workdir; None without one.

    Settings that are newer than the run get the value that keeps its behaviour.

    Raises:
      UserError: config.json is not JSON.
    """
    path = workdir / "config.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it or choose another --workdir") from error
    if isinstance(found, dict) and "sampling" in found:
        found.setdefault("balance", {})
    for setting, value in _BEFORE.items() if isinstance(found, dict) else ():
        section, _, name = setting.partition(".")
        if isinstance(found.get(section), dict):
            found[section].setdefault(name, value)
    model = found.get("model") if isinstance(found, dict) else None
    if isinstance(model, dict):
        found["model"] = {**_BEFORE_OF_MODEL.get(str(model.get("name")), {}), **model}
    return found


__getattr__ = renamed_names(
    __name__, {"flat": "flatten_config", "has_saved": "can_resume", "last_saved": "last_saved_step"}
)
