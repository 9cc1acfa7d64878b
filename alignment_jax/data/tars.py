"""Reads files inside tar archives in place, by an index of offsets, without unpacking."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import tarfile

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_JUNK = ("._", ".DS_Store")  # what macOS adds to an archive


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """A part of a file, such as a member of an uncompressed tar archive."""

    archive: pathlib.Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}"

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
          OSError: the archive cannot be read or was truncated.
        """
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
    files: list[FileSlice] = []
    try:
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
                    bad.add(f"{path}: {member.name!r} is not a regular file")
                elif member.offset_data + member.size > size:
                    raise DataError(f"{path}: truncated in {member.name!r}; copy or download it again")
                else:
                    files.append(FileSlice(path, member.offset_data, member.size, member.name))
            if archive.offset + tarfile.BLOCKSIZE > size:  # an archive ends with a block of zeros
                last = f" after {files[-1].name!r}" if files else ""
                bad.add(f"{path}: no end marker{last}, so it may be truncated; copy or write it again")
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a complete tar archive; copy or download it again") from error
    return files


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
