"""Reads files inside tar archives in place, by an index of offsets, without unpacking.

The index of a large archive is kept on disk (`disk_cache`): an archive has no table of contents, so that finding its
files takes a read for each.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import tarfile
from typing import Any

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.disk_cache import cached_index, files_key

TEXTS = ("txt", "text", "caption", "captions", "cap")  # last part of a name
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_JUNK = ("._", ".DS_Store")  # what macOS adds to an archive
_COLUMNS = ("offset", "size", "name", "text")
_LARGE = 1 << 20  # bytes of an archive from which its index is kept
_LONGEST = 4096  # bytes of a text that the index holds, too: opening a data set reads every caption


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """A part of a file, such as a member of an uncompressed tar archive."""

    archive: pathlib.Path
    offset: int
    size: int
    name: str
    content: bytes | None = None  # of a short text, so that the archive is not read

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}"

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
          OSError: the archive cannot be read or was truncated.
        """
        if self.content is not None:
            return self.content
        with open(self.archive, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) != self.size:
            raise OSError(f"{self.name} ends after {len(content)} of {self.size} bytes")
        return content

    def open(self) -> io.BytesIO:
        """The content as a file."""
        return io.BytesIO(self.read_bytes())


def shard_files(path: pathlib.Path, bad: BadSamples) -> list[FileSlice]:
    """The files of a tar archive, in order. Links, devices and sparse files are added to `bad`.

    Raises:
      DataError: not an uncompressed tar archive, or truncated.
    """
    try:
        key = files_key([path]) if path.stat().st_size >= _LARGE else None
        index = cached_index("tar_indexes", key, lambda: _index(path))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a complete tar archive; copy or download it again") from error
    for line in index["problems"]:
        bad.add(f"{path}: {line}")
    return [
        FileSlice(path, offset, size, name, None if text is None else text.encode("latin-1"))
        for offset, size, name, text in zip(*(index[key] for key in _COLUMNS), strict=True)
    ]


def _index(path: pathlib.Path) -> dict[str, list[Any]]:
    """The columns `_COLUMNS` of all files, and the lines about the others."""
    rows: list[tuple[int, int, str, str | None]] = []
    problems: list[str] = []
    size = path.stat().st_size
    with open(path, "rb") as file:
        packing = next((name for start, name in _PACKED.items() if file.peek(8).startswith(start)), None)
    if packing:
        raise DataError(
            f"{path}: a tar archive compressed by {packing}, but files are read in place; "
            f"unpack it: {packing} -dc < {path.name} > NEW.tar"
        )
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.isdir() or member.name.rpartition("/")[2].startswith(_JUNK):
                continue
            if not member.isreg() or member.issparse():
                problems.append(f"{member.name!r} is not a regular file")
            elif member.offset_data + member.size > size:
                raise DataError(f"{path}: truncated in {member.name!r}; copy or download it again")
            else:
                rows.append((member.offset_data, member.size, member.name, _text(archive, member)))
        if archive.offset + tarfile.BLOCKSIZE > size:  # an archive ends with a block of zeros
            last = f" after {rows[-1][2]!r}" if rows else ""
            problems.append(f"no end marker{last}, so it may be truncated; copy or write it again")
    columns = zip(*rows, strict=True) if rows else ([] for _ in _COLUMNS)
    return {**dict(zip(_COLUMNS, map(list, columns), strict=True)), "problems": problems}


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    """The bytes of a short text, as Latin-1."""
    if member.size > _LONGEST or member.name.rpartition(".")[2].lower() not in TEXTS:
        return None
    file = archive.extractfile(member)
    assert file is not None  # of a regular file
    return file.read().decode("latin-1")


def samples_of(files: list[FileSlice], bad: BadSamples, *, last_dot: bool = False) -> dict[str, dict[str, FileSlice]]:
    """The samples of a WebDataset shard: key -> extension in lower case -> file.

    The key is the name up to the first dot after the last slash, the extension is the rest; with `last_dot` the last
    dot separates them. Names are never used as paths.
    """
    samples: dict[str, dict[str, FileSlice]] = {}
    for file in files:
        folder, slash, name = file.name.rpartition("/")
        stem, dot, ending = name.rpartition(".") if last_dot else name.partition(".")
        key, where = f"{folder}{slash}{stem}", f"{file.archive}: {file.name!r}"
        if not dot or not stem:
            bad.add(f"{where} has no extension")
        elif ending.lower() in samples.get(key, {}):
            bad.add(f"{where} occurs twice")
        else:
            samples.setdefault(key, {})[ending.lower()] = file
    return samples
