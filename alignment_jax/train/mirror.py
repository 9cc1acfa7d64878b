"""A workdir at a URL (a bucket): the run lives in a local folder, and everything complete in it is copied there.

A checkpoint has many files and an object store has no transactions. So the files go first and `MIRROR.json`, which
lists every file of a complete state with its size, goes last, in one write. A reader believes the list and nothing
else: a half-uploaded checkpoint does not exist for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from alignment_jax.core.errors import RunError, UserError
from alignment_jax.core.optional import require

LIST = "MIRROR.json"
_UNFINISHED = ("orbax-checkpoint-tmp", ".new", ".tmp", ".lock")
INTERVAL_SECONDS = 5.0


def is_url(path: str) -> bool:
    """Whether a path names another file system.

    >>> is_url("gs://bucket/run"), is_url("runs/first"), is_url("C:/runs")
    (True, False, False)
    """
    return "://" in path


def local_folder(url: str) -> pathlib.Path:
    """The local folder of a workdir at a URL: the same one in every process of this machine and user."""
    name = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    return pathlib.Path.home() / ".cache" / "alignment_jax" / "workdirs" / name


class Mirror:
    """Copies of one local folder at a URL.

    Args:
      url: of the workdir, as fsspec knows it (gs://, s3://, memory://).
      folder: the local folder.

    Raises:
      UserError: no file system of that name is installed.
    """

    def __init__(self, url: str, folder: pathlib.Path):
        fsspec = require("fsspec", extra="train", purpose=f"use the workdir {url}")
        try:
            self._files, self._root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise UserError(f"workdir {url}: {error}; for Google's buckets: pip install gcsfs") from error
        self.url, self.folder = url, folder
        self._sent: dict[str, tuple[int, int]] = {}

    def fetch(self) -> bool:
        """Brings the state that the list describes into the local folder; False when there is none.

        A local folder that is newer than the list (this machine was interrupted before it could upload) stays.

        Raises:
          RunError: the URL cannot be read, or a listed file is missing or has another size.
        """
        listed = self._listed()
        if listed is None:
            return False
        if self.folder.is_dir() and _newest_step(self._complete()) >= _newest_step(listed):
            return True
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        draft = pathlib.Path(tempfile.mkdtemp(dir=self.folder.parent, prefix="fetch-"))
        try:
            for name, size in listed.items():
                target = draft / name
                if not target.resolve().is_relative_to(draft.resolve()):
                    raise RunError(f"{self.url}/{LIST} names a file outside the workdir: {name!r}")
                target.parent.mkdir(parents=True, exist_ok=True)
                self._files.get_file(self._remote(name), str(target))
                # Logs grow after they were listed; a file of a checkpoint never changes.
                if target.stat().st_size < size or (_is_checkpoint(name) and target.stat().st_size != size):
                    raise RunError(
                        f"{self.url}/{name} is not as {LIST} says: {target.stat().st_size} bytes, not {size}"
                    )
            if self.folder.exists():
                shutil.rmtree(self.folder)
            draft.rename(self.folder)
        except FileNotFoundError as error:
            raise RunError(f"{self.url}: {LIST} names a file that is not there: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def push(self) -> bool:
        """Copies what has changed; False when a file vanished meanwhile, and the next push will do.

        Raises:
          RunError: the URL cannot be written; nothing that was complete there is lost.
        """
        complete = self._complete()
        # What a state depends on goes first.
        order = sorted(complete, key=lambda name: (not _is_checkpoint(name), name))
        try:
            for name in order:
                stat = (self.folder / name).stat()
                mark = (stat.st_size, stat.st_mtime_ns)
                if self._sent.get(name) != mark:
                    self._files.makedirs(self._remote(name).rpartition("/")[0], exist_ok=True)
                    self._files.put_file(str(self.folder / name), self._remote(name))
                    self._sent[name] = mark
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RunError(f"workdir {self.url} cannot be written: {error}") from error
        sizes = {name: self._sent[name][0] for name in order}
        before = self._listed() or {}
        if sizes != before:
            try:
                self._files.pipe_file(self._remote(LIST), json.dumps({"files": sizes}, indent=1).encode())
                for name in before.keys() - sizes.keys():
                    with contextlib.suppress(FileNotFoundError):
                        self._files.rm_file(self._remote(name))
            except OSError as error:
                raise RunError(f"workdir {self.url} cannot be written: {error}") from error
            self._sent = {name: self._sent[name] for name in order}
        return True

    def _remote(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _listed(self) -> dict[str, int] | None:
        try:
            found: Any = json.loads(self._files.cat_file(self._remote(LIST)))
            return {str(name): int(size) for name, size in found["files"].items()}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self.url}/{LIST} is not a list of files ({error}); choose another --workdir") from error
        except OSError as error:
            raise RunError(f"workdir {self.url} cannot be read: {error}") from error

    def _complete(self) -> dict[str, int]:
        """Every finished file of the local folder, with its size; the training deletes and renames meanwhile."""
        found = {}
        for place, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if _finished(name)]
            for name in filter(_finished, files):
                path = pathlib.Path(place, name)
                with contextlib.suppress(FileNotFoundError):
                    found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return found


@contextlib.contextmanager
def mirrored(mirror: Mirror, *, message: Callable[[str], None] = print) -> Iterator[None]:
    """Keeps the copy at the URL up to date while the block runs, and once more when it ends, however it ends.

    A copy that fails in between is tried again; only the last one's failure is the run's.
    """
    done = threading.Event()

    def keep_up() -> None:
        silent = False
        while not done.wait(INTERVAL_SECONDS):
            try:
                mirror.push()
                silent = False
            except RunError as error:
                if not silent:
                    message(f"{error}; trying again")
                silent = True

    thread = threading.Thread(target=keep_up, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        mirror.push()


def _finished(name: str) -> bool:
    return not any(mark in name for mark in _UNFINISHED)


def _is_checkpoint(name: str) -> bool:
    return name.startswith("checkpoints/")


def _newest_step(names: Any) -> int:
    """The highest step among the checkpoints `checkpoints/last/STEP/...`, -1 without any."""
    parts = [name.split("/") for name in names]
    return max(
        (int(p[2]) for p in parts if p[:2] == ["checkpoints", "last"] and p[2:3] and p[2].isdecimal()), default=-1
    )
