"""A bucket in memory, and local runs to copy there."""

import itertools
import json
import shutil
import time

import pytest

fsspec = pytest.importorskip("fsspec")


def empty_bucket():
    """An empty file system in memory."""
    files = fsspec.filesystem("memory")
    for path in files.find("/"):
        files.rm(path)
    return files


def save(folder, step, *, text):
    """The files of a training after it saved a step: the previous step is deleted, the log has grown."""
    for name in ("state/a", "state/b", "loop/metadata"):
        path = folder / "checkpoints" / "last" / str(step) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {step}: {text}")
    for old in (folder / "checkpoints" / "last").iterdir():
        if old.name != str(step):
            shutil.rmtree(old)
    with open(folder / "metrics.jsonl", "a") as log:
        log.write(json.dumps({"step": step}) + "\n")


class HttpError(Exception):
    """As in gcsfs: no OSError."""


def failing(error, *, times=None):
    """A call of a file system that raises, for ever or the first few times."""
    numbers = itertools.count() if times is None else iter(range(times))

    def call(*arguments, **options):
        if next(numbers, None) is not None:
            raise error

    return call


def wait_until(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def read(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
