"""A workdir at a URL (a bucket): the run writes to a local folder, whose complete states are copied to the URL.

A checkpoint has many files, and an object store has no transactions. So the files are uploaded first, and last, in one
write, `MIRROR.json`: all files of a complete state with their sizes. Readers use only listed files, so they ignore a
partly uploaded checkpoint.

Each upload is a snapshot of the local folder (see `snapshot`). It is a complete state even if checkpoints change faster
than they upload.

Every run has a random id, in its folder and in the list, so that two runs at one URL are never mixed.
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
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from alignment_jax.core.errors import AlignmentError, RunError, UserError
from alignment_jax.core.optional import require
from alignment_jax.train.snapshot import finished_files, is_checkpoint, take_snapshot
from alignment_jax.train.workdir import locked

LIST = "MIRROR.json"
RUN_ID = "RUN_ID"
INTERVAL_SECONDS = 5.0


def is_url(path: str) -> bool:
    """Whether a path names another file system.

    >>> is_url("gs://bucket/run"), is_url("runs/first"), is_url("C:/runs")
    (True, False, False)
    """
    return "://" in path


def local_folder(url: str) -> pathlib.Path:
    """The local folder of a workdir at a URL, the same in every process of this user."""
    name = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    return pathlib.Path.home() / ".cache" / "alignment_jax" / "workdirs" / name


class Listing(NamedTuple):
    """The content of MIRROR.json: the id of the run (None in early versions) and its files with their sizes."""

    run: str | None
    files: dict[str, int]


class Mirror:
    """Copies of one local folder at a URL.

    Args:
      url: of the workdir, for fsspec (gs://, s3://, memory://).
      folder: the local folder.

    Raises:
      UserError: no file system for this URL is installed.
      RunError: the URL cannot be reached.
    """

    def __init__(self, url: str, folder: pathlib.Path):
        fsspec = require("fsspec", extra="train", purpose=f"use the workdir {url}")
        try:
            self._files, self._root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise UserError(f"workdir {url}: {error}; for Google's buckets: pip install gcsfs") from error
        except Exception as error:  # a file system may already connect here
            raise RunError(f"workdir {url} cannot be reached: {_line(error)}") from error
        self.url, self.folder = url, folder
        self._sent: dict[str, tuple[int, int]] = {}
        self._was_listed = False

    def fetch(self, *, message: Callable[[str], None] = print) -> bool:
        """Downloads the listed state into the local folder; False without one.

        A local folder of the same run is kept if it is newer than the list (interrupted before the upload). A folder of
        another run, or of a run that was deleted at the URL, is set aside.

        Raises:
          RunError: the URL cannot be read, or a listed file is missing or has another size.
          UserError: a training is using the local folder of another run.
        """
        listed = self._listed()
        if listed is None:
            self._set_aside(message)
            return False
        local = finished_files(self.folder)
        if local and not self._is_run(listed):
            self._set_aside(message)
        elif local and _newest_step(local) >= _newest_step(listed.files):
            if listed.run is not None:
                self._write_run(self.folder, listed.run)
            return True
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        draft = pathlib.Path(tempfile.mkdtemp(dir=self.folder.parent, prefix="fetch-"))
        try:
            for name, size in listed.files.items():
                target = draft / name
                if not target.resolve().is_relative_to(draft.resolve()):
                    raise RunError(f"{self.url}/{LIST} names a file outside the workdir: {name!r}")
                target.parent.mkdir(parents=True, exist_ok=True)
                with self._as_run_error("read"):
                    self._files.get_file(self._remote(name), str(target))
                # Logs may have grown since; a file of a checkpoint never changes.
                if target.stat().st_size < size or (is_checkpoint(name) and target.stat().st_size != size):
                    raise RunError(f"{self.url}/{name} has {target.stat().st_size} bytes, but {LIST} lists {size}")
            if listed.run is not None:
                self._write_run(draft, listed.run)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            draft.rename(self.folder)
        except FileNotFoundError as error:
            raise RunError(f"{self.url}: {LIST} names a missing file: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def push(self) -> bool:
        """Uploads changed files; False if no snapshot could be taken, try again later.

        Raises:
          RunError: the URL cannot be written, or holds another run. Complete states at the URL are kept.
        """
        if not finished_files(self.folder):
            return True
        if self._run() is None:
            self._write_run(self.folder, uuid.uuid4().hex)
        before = self._listed()
        if before is None:
            if self._was_listed:  # the copy was deleted: send all files again
                self._sent.clear()
                self._was_listed = False
        elif not self._is_run(before):
            raise RunError(f"workdir {self.url} holds another run than {self.folder}; choose another --workdir")
        with self._snapshot() as snapshot:
            if snapshot is None:
                return False
            # Checkpoints first: other files refer to them.
            order = sorted(finished_files(snapshot), key=lambda name: (not is_checkpoint(name), name))
            for name in order:
                self._send(snapshot / name, name)
        sizes = {name: self._sent[name][0] for name in order}
        after = Listing(self._run(), sizes)
        if after != before:
            with self._as_run_error("written"):
                text = json.dumps({"run": after.run, "files": after.files}, indent=1)
                self._files.pipe_file(self._remote(LIST), text.encode())
                for name in ((before.files.keys() if before else set()) | self._sent.keys()) - sizes.keys():
                    with contextlib.suppress(FileNotFoundError):
                        self._files.rm_file(self._remote(name))
            self._sent = {name: self._sent[name] for name in order}
        self._was_listed = True
        return True

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[pathlib.Path | None]:
        """A temporary folder beside the local one with the files to upload; None if no snapshot could be taken."""
        prefix = f"{self.folder.name}.push-"
        for left in self.folder.parent.glob(f"{prefix}*/.lock"):  # of a killed process
            with contextlib.suppress(UserError), locked(left.parent):
                shutil.rmtree(left.parent, ignore_errors=True)
        place = pathlib.Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=prefix))
        try:
            with locked(place):
                files = place / "files"
                files.mkdir()
                yield files if take_snapshot(self.folder, files, sent=self._is_sent) else None
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _is_sent(self, name: str, stat: os.stat_result) -> bool:
        return self._sent.get(name) == (stat.st_size, stat.st_mtime_ns)

    def _send(self, path: pathlib.Path, name: str) -> None:
        """Copies one file if it has changed."""
        stat = path.stat()
        if self._is_sent(name, stat):
            return
        with self._as_run_error("written"):
            self._files.makedirs(self._remote(name).rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path), self._remote(name))
        self._sent[name] = (stat.st_size, stat.st_mtime_ns)

    def _set_aside(self, message: Callable[[str], None]) -> None:
        if not finished_files(self.folder):
            return
        with locked(self.folder):  # an error if a training still runs there
            number = 1
            while (aside := self.folder.with_name(f"{self.folder.name}.aside-{number}")).exists():
                number += 1
            self.folder.rename(aside)
        message(f"workdir {self.url} holds another run than the local copy; the copy is set aside in {aside}")

    def _run(self) -> str | None:
        """The id of the run in the local folder."""
        try:
            return (self.folder / RUN_ID).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    @staticmethod
    def _write_run(folder: pathlib.Path, run: str) -> None:
        draft = folder / f"{RUN_ID}.tmp"
        draft.write_text(f"{run}\n", encoding="utf-8")
        draft.replace(folder / RUN_ID)

    def _is_run(self, listed: Listing) -> bool:
        """Whether the local folder holds the run at the URL."""
        run = self._run()
        if run is not None and listed.run is not None:
            return run == listed.run
        # One of them has no id yet: early versions wrote none.
        here, there = self.folder / "config.json", None
        with contextlib.suppress(FileNotFoundError), self._as_run_error("read"):
            there = self._files.cat_file(self._remote("config.json"))
        return (here.read_bytes() if here.is_file() else None) == there

    @contextlib.contextmanager
    def _as_run_error(self, what: str) -> Iterator[None]:
        """Turns any error of a file system into one line; the caller handles a file that is missing on reading."""
        try:
            yield
        except Exception as error:  # the errors of gcsfs, aiohttp and google-auth are no OSErrors
            if isinstance(error, FileNotFoundError) and what == "read":
                raise
            raise RunError(f"workdir {self.url} cannot be {what}: {_line(error)}") from error

    def _remote(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _listed(self) -> Listing | None:
        try:
            with self._as_run_error("read"):
                text = self._files.cat_file(self._remote(LIST))
        except FileNotFoundError:
            return None
        try:
            found: Any = json.loads(text)
            run = found.get("run")
            return Listing(
                None if run is None else str(run), {str(name): int(size) for name, size in found["files"].items()}
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self.url}/{LIST} is not a list of files ({error}); choose another --workdir") from error


@contextlib.contextmanager
def mirrored(mirror: Mirror, *, message: Callable[[str], None] = print) -> Iterator[None]:
    """Updates the copy at the URL while the block runs, and once more at its end, even after an error.

    A failed copy is tried again; only a failure of the last one is an error.

    Raises:
      RunError: the last copy failed. If the block itself raises, this is only a message.
    """
    done = threading.Event()

    def push_repeatedly() -> None:
        silent = False
        while not done.wait(INTERVAL_SECONDS):
            try:
                mirror.push()
                silent = False
            except Exception as error:  # the thread must go on for the rest of the run
                if not silent:
                    line = str(error) if isinstance(error, AlignmentError) else f"workdir {mirror.url}: {_line(error)}"
                    with contextlib.suppress(Exception):
                        message(f"{line}; trying again")
                silent = True

    thread = threading.Thread(target=push_repeatedly, name="mirror", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        done.set()
        thread.join()
        try:
            _push_last(mirror)
        except RunError as error:
            message(str(error))
        raise
    done.set()
    thread.join()
    _push_last(mirror)


def _push_last(mirror: Mirror) -> None:
    stays = f"files that were not copied stay in {mirror.folder}"
    try:
        if not mirror.push():
            raise RunError(f"workdir {mirror.url} is not complete: checkpoints changed faster than they were copied")
    except RunError as error:
        raise RunError(f"{error}; {stays}") from error
    except Exception as error:
        raise RunError(f"workdir {mirror.url} is not complete: {_line(error)}; {stays}") from error


def _line(error: Exception) -> str:
    """The text of an error in one short line, its type if it has no text."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _newest_step(names: Any) -> int:
    """The highest step among the checkpoints `checkpoints/last/STEP/...`, -1 without any."""
    parts = [name.split("/") for name in names]
    return max(
        (int(p[2]) for p in parts if p[:2] == ["checkpoints", "last"] and p[2:3] and p[2].isdecimal()), default=-1
    )
