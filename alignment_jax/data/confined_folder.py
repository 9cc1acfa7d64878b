"""Resolves the file names of a manifest, which must not lead out of its folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator

from alignment_jax.core.errors import DataError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"([A-Za-z]:[\\/]|\\\\)")
_ADVISED = 20  # missing files for which similar names are searched, which takes time
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".wav", ".flac", ".mp3")


class Folder:
    """Resolves the file names of a manifest and refuses names that lead out of its folder.

    Backslashes are separators, too, unless a file name contains them.

    >>> Folder(pathlib.Path("data")).find("../secret.png", where="pairs.csv, row 1")
    Traceback (most recent call last):
    ...
    alignment_jax.core.errors.DataError: pairs.csv, row 1: '../secret.png' leads out of the folder data
    """

    def __init__(self, root: pathlib.Path, *, option: str = "", table: pathlib.Path | None = None):
        """The folder `root`.

        Args:
          root: base of relative names; no file may be outside of it.
          option: option of a SPEC that sets the folder, for advice in messages.
          table: folder of the table, if it is another one; names that begin with .. are relative to it.
        """
        self._root = root
        self._table = table or root
        self._option = option
        self._absolute = pathlib.Path(os.path.abspath(root))
        self._real = pathlib.Path(os.path.realpath(root))
        self._real_parents: dict[pathlib.Path, pathlib.Path] = {}
        self._listed: dict[pathlib.Path, list[str]] = {}
        self._advised = 0

    def find(self, name: str, *, where: str) -> pathlib.Path:
        """The path of an existing file inside the folder.

        Args:
          name: as in the manifest, relative to the folder (or absolute, but inside it).
          where: file and row, for the message.

        Raises:
          DataError: the name is empty or a URL, leads out of the folder (by .., an absolute path or a link), or does
            not exist.
        """
        path = self._inside(name, where)
        with self._unusable(name, where):
            size = path.stat().st_size if path.is_file() else None
        if size is None:
            raise DataError(f"{where}: no such file: {path}{self._near(path)}")
        if size == 0:
            raise DataError(f"{where}: empty file: {path}")
        return path

    def find_folder(self, name: str, *, where: str) -> pathlib.Path:
        """The path of an existing subfolder; same checks as `find`."""
        path = self._inside(name, where)
        with self._unusable(name, where):
            there = path.is_dir()
        if not there:
            raise DataError(f"{where}: no such folder: {path}")
        return path

    def has(self, name: str) -> bool:
        """Whether a file or folder of this name exists; False for names that lead out of the folder."""
        try:
            inside = "\0" not in name and self._resolved(self._root / name).is_relative_to(self._real)
            return inside and (self._root / name).exists()
        except (OSError, ValueError):
            return False

    def spelling(self, name: str) -> str:
        """The normalised name of a file: "a/b.png" for "./a/b.png", "a\\b.png" and its absolute path.

        >>> Folder(pathlib.Path("data")).spelling(r".\\a\\b.png")
        'a/b.png'
        """
        if not name or _ADDRESS.match(name) or _DRIVE.match(name):
            return name
        path = pathlib.Path(self._slashes(name))
        try:
            if ".." in path.parts:
                path = self._resolved(self._place(str(path)))
            for root in (self._absolute, self._real) if path.is_absolute() else ():
                if path.is_relative_to(root):
                    return str(path.relative_to(root))
        except (OSError, ValueError):  # not a valid file name; `find` reports it
            return name
        return str(path)

    def _slashes(self, name: str) -> str:
        return name if "\\" not in name or self.has(name) else name.replace("\\", "/")

    def _inside(self, name: str, where: str) -> pathlib.Path:
        if not name or "\0" in name:
            raise DataError(f"{where}: no file name" if not name else f"{where}: a NUL byte in the file name")
        if _ADDRESS.match(name):
            raise DataError(
                f"{where}: {name[:80]!r} is a URL; download the images first with img2dataset --url_list=FILE "
                "--url_col=COLUMN --output_folder=DIR --output_format=webdataset, then write webdataset:DIR"
            )
        if _DRIVE.match(name) and not self.has(name):
            raise DataError(f"{where}: {name[:80]!r} is a path of another computer{self._tail(name)}")
        name = self._slashes(name)
        path = self._place(name)
        with self._unusable(name, where):
            inside = self._resolved(path).is_relative_to(self._real)
        if not inside:
            direct = ".." in path.parts or pathlib.PurePath(name).is_absolute()
            advice = self._advice(path) if self._option and direct else ""
            link = "" if direct else " by a symbolic link: copy its target"
            raise DataError(f"{where}: {name!r} leads out of the folder {self._root}{link}{advice}")
        return path

    def _place(self, name: str) -> pathlib.Path:
        path = pathlib.PurePath(name)
        return (self._table if path.parts[:1] == ("..",) else self._root) / path

    def _advice(self, path: pathlib.Path) -> str:
        """Advice: the option with the common folder of the table and of a file outside of `root`."""
        with contextlib.suppress(OSError, ValueError):
            common = os.path.commonpath([self._resolved(path), os.path.realpath(self._table)])
            if ".." in path.parts and path.name.lower().endswith(_ENDINGS) and len(common) > 1 and path.is_file():
                return f"; add {self._option}={common}"
        return f"; if the files are in another folder, add {self._option}=DIR"

    def _tail(self, name: str) -> str:
        """Advice for a path of another computer: the prefix to remove, if the rest is a file of the folder."""
        parts = re.split(r"[\\/]+", name)
        for first in range(1, len(parts)):
            rest = "/".join(parts[first:])
            if rest and ".." not in parts and self.has(rest):
                return f"; {rest!r} exists: remove {name[: len(name) - len(rest)]!r} from the names in this column"
        return f"; write names relative to {self._root}"

    def _near(self, path: pathlib.Path) -> str:
        """Advice for a missing file: a similar name, or the same name in a neighbouring folder."""
        self._advised += 1
        option = f"; if the files are in another folder, add {self._option}=DIR" if self._option else ""
        if self._advised > _ADVISED:
            return option
        try:
            for each in self._names(path.parent):
                if each.lower() == path.name.lower():
                    return f"; {path.parent / each} exists: upper and lower case must match"
                if pathlib.PurePath(each).stem == path.name and each.lower().endswith(_ENDINGS):
                    return f"; {path.parent / each} exists: add the extension to the name in the table"
            named = path.relative_to(self._root)
            for each in (name for name in self._names(self._root) if (self._root / name).is_dir()):
                if each.lower() == named.parts[0].lower() and each != named.parts[0]:
                    return f"; the folder is {self._root / each}: upper and lower case must match"
                if self._option and (self._root / each / named).is_file():
                    return f"; {self._root / each / named} exists: add {self._option}={self._root / each}"
        except (OSError, ValueError):
            return option
        return option

    def _names(self, folder: pathlib.Path) -> list[str]:
        if folder not in self._listed:
            self._listed[folder] = sorted(os.listdir(folder)) if folder.is_dir() else []
        return self._listed[folder]

    @contextlib.contextmanager
    def _unusable(self, name: str, where: str) -> Iterator[None]:
        """Turns errors for invalid file names (too long, or not in the system's encoding) into DataError."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            reason = error.strerror if isinstance(error, OSError) else "not a valid file name"
            raise DataError(f"{where}: {name[:80]!r} cannot be read ({reason})") from error

    def _resolved(self, path: pathlib.Path) -> pathlib.Path:
        # Manifests name many files of few folders: resolve each folder once.
        if path.name in ("", "..") or path.is_symlink():
            return pathlib.Path(os.path.realpath(path))
        if path.parent not in self._real_parents:
            self._real_parents[path.parent] = pathlib.Path(os.path.realpath(path.parent))
        return self._real_parents[path.parent] / path.name
