"""The folder of one run: who may use it, and which configuration it belongs to."""

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

# Settings that may change while a run goes on. What the data is called is one: the data itself is asked what it is.
_DECIDES_NOTHING = ("name", "data", "input.on_bad_sample")

DURATION = "train.duration"
_FIRST = "; once it has finished, a longer train.duration goes on from there"
# Settings that came later -> what was done before.
_BEFORE = {"input.pixel_range": "auto:0,65536", "loss.duplicates": "negative", "classification.class_weights": "none"}


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the workdir for this process; a second training in it is refused.

    The lock is the operating system's: it goes with the process, however that ends.

    Raises:
      UserError: another process trains in this workdir.
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
                f"workdir {workdir} is in use by another process; wait for it or choose another --workdir"
            ) from error
        yield


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The settings in which two configurations differ, as "path: old -> new".

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
    """The names, sorted, whose value is not the same in both.

    >>> changed_names({"train": "x", "val": "y"}, {"train": "x", "val": "z", "test": "w"})
    ['test', 'val']
    """
    return sorted(name for name in kept.keys() | found.keys() if kept.get(name) != found.get(name))


def check_same_config(workdir: pathlib.Path, config: Mapping[str, Any], *, finished: bool = False) -> bool:
    """Whether the workdir already holds a run of this very configuration; False when it holds none.

    What it is called decides nothing, nor what its data is called, nor what is done with bad samples: whether the data
    is the same is asked of the data. A run that ended before its first checkpoint, as one with a mistake in a setting
    does, has nothing to lose: the corrected command may take its place. A finished run may go on for longer.

    Args:
      workdir: of the run.
      config: the whole configuration.
      finished: the run there has come to its end, and `train.duration` may be another one.

    Raises:
      ConfigError: it holds a run of another configuration. Nothing is touched.
    """
    found = read_config(workdir)
    if found is None:
        return False
    # Through JSON, so that tuples and lists compare alike.
    wanted = json.loads(json.dumps(dict(config)))
    free = (*_DECIDES_NOTHING, DURATION) if finished else _DECIDES_NOTHING
    changed = [line for line in differences(found, wanted) if line.partition(": ")[0] not in free]
    if changed and not has_checkpoints(workdir):
        return False
    if changed:
        shown = "; ".join(changed[:5]) + (f"; and {len(changed) - 5} more" if len(changed) > 5 else "")
        raise ConfigError(
            f"workdir {workdir} holds a run with another configuration ({shown}); choose another --workdir, "
            "or repeat the command that made it to resume" + (_FIRST if changed[0].startswith(DURATION) else "")
        )
    return True


def has_checkpoints(workdir: pathlib.Path) -> bool:
    """Whether a run in this folder has anything to lose."""
    return any((workdir / "checkpoints").glob("*/*"))


def can_resume(workdir: pathlib.Path) -> bool:
    """Whether a state is there, whole, that a run in this folder would go on from."""
    return last_saved_step(workdir) >= 0


def last_saved_step(workdir: pathlib.Path) -> int:
    """The newest step of which a state is there, -1 for none."""
    names = (path.name for path in (workdir / "checkpoints" / "last").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=-1)


def read_config(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The configuration of the run in a workdir, or None when there is none.

    Settings that it is older than have the value of what was done before they were there.

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
    for setting, value in _BEFORE.items() if isinstance(found, dict) else ():
        section, _, name = setting.partition(".")
        if isinstance(found.get(section), dict):
            found[section].setdefault(name, value)
    return found


__getattr__ = renamed_names(
    __name__, {"flat": "flatten_config", "has_saved": "can_resume", "last_saved": "last_saved_step"}
)
