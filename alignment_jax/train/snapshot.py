"""A consistent snapshot of a workdir during training.

Checkpoints are hard-linked: their files never change, and a link survives the deletion of the original. Files that grow
(logs, tables) are copied. A checkpoint is complete as long as its folder keeps its name, so the snapshot is consistent
if no checkpoint in it was renamed or deleted meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import IO

_UNFINISHED = ("orbax-checkpoint-tmp", ".new", ".tmp", ".lock", ".removed")
_KINDS = ("last", "best")
_TRIES = 100
Sent = Callable[[str, os.stat_result], bool]


def finished_files(folder: pathlib.Path) -> dict[str, int]:
    """Every finished file of a workdir, with its size; files may vanish meanwhile."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _finished(name)]
        for name in filter(_finished, files):
            path = pathlib.Path(place, name)
            with contextlib.suppress(FileNotFoundError):
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
    return found


def is_checkpoint(name: str) -> bool:
    """Whether a file belongs to a checkpoint, hence never changes.

    >>> is_checkpoint("checkpoints/last/3/state/a"), is_checkpoint("metrics.jsonl")
    (True, False)
    """
    return name.startswith("checkpoints/")


def take_snapshot(folder: pathlib.Path, into: pathlib.Path, *, sent: Sent) -> bool:
    """Fills `into` with the newest complete state of a workdir; False if the workdir changed in every attempt.

    The state: the newest checkpoint of `last/`, the newest one of `best/` not after it, and every other file. Older
    checkpoints are included only if all of their files have been sent before.

    Args:
      folder: the workdir.
      into: an empty folder, on the same disk if possible.
      sent: (name, stat of the file) -> whether this file has been sent before.
    """
    for _ in range(_TRIES):
        present = _checkpoints(folder)
        chosen = _newest(present) | {name for name in present if _all_sent(folder, name, sent)}
        with contextlib.ExitStack() as stack:
            try:
                copies = [copy for name in sorted(chosen) for copy in _linked(folder, name, into, stack)]
                whole = chosen <= _checkpoints(folder)
            except FileNotFoundError:
                whole = False
            if whole:
                for file, target in copies:
                    _copy(file, target)
                # After the checkpoints: a log holds at least the rows up to the step that a run resumes from.
                _take_others(folder, into, sent)
                return True
        shutil.rmtree(into)
        into.mkdir()
    return False


def _checkpoints(folder: pathlib.Path) -> set[str]:
    """Names of all checkpoints: checkpoints/last/3 for example."""
    found = set()
    for kind in _KINDS:
        with contextlib.suppress(FileNotFoundError):
            steps = os.listdir(folder / "checkpoints" / kind)
            found |= {f"checkpoints/{kind}/{step}" for step in steps if step.isdecimal()}
    return found


def _newest(names: set[str]) -> set[str]:
    steps = {kind: sorted(_step(name) for name in names if name.split("/")[1] == kind) for kind in _KINDS}
    last = steps["last"][-1:]
    # The best one is saved before the state that refers to it.
    best = [step for step in steps["best"] if not last or step <= last[0]][-1:]
    return {f"checkpoints/{kind}/{step}" for kind, found in (("last", last), ("best", best)) for step in found}


def _step(name: str) -> int:
    return int(name.rpartition("/")[2])


def _all_sent(folder: pathlib.Path, name: str, sent: Sent) -> bool:
    try:
        return all(sent(path.relative_to(folder).as_posix(), path.stat()) for path in _files(folder / name))
    except FileNotFoundError:
        return False


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for place, _, files in os.walk(folder):
        for name in files:
            yield pathlib.Path(place, name)


def _linked(
    folder: pathlib.Path, name: str, into: pathlib.Path, stack: contextlib.ExitStack
) -> Iterator[tuple[IO[bytes], pathlib.Path]]:
    """Links every file of a checkpoint; yields, opened, those that cannot be linked: an open file survives deletion."""
    for path in _files(folder / name):
        target = into / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except FileNotFoundError:
            raise
        except OSError:  # not every file system has links
            file = open(path, "rb")  # noqa: SIM115 - closed with the stack
            yield stack.enter_context(file), target


def _copy(file: IO[bytes], target: pathlib.Path) -> None:
    with open(target, "wb") as copy:
        shutil.copyfileobj(file, copy)
    stat = os.fstat(file.fileno())
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _take_others(folder: pathlib.Path, into: pathlib.Path, sent: Sent) -> None:
    for name in finished_files(folder):
        if is_checkpoint(name):
            continue
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), open(folder / name, "rb") as file:
            if sent(name, os.fstat(file.fileno())):  # a link is enough: its content is not read
                with contextlib.suppress(OSError):
                    os.link(folder / name, into / name)
                    continue
            _copy(file, into / name)


def _finished(name: str) -> bool:
    return not any(mark in name for mark in _UNFINISHED)
