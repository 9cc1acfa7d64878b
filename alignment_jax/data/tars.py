"""Files inside tar archives, read in place: an index of where each begins, and nothing unpacked."""

from __future__ import annotations

import dataclasses
import io
import pathlib
import tarfile

from alignment_jax.core.errors import DataError
from alignment_jax.data.collect import BadSamples


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """A file that lies uncompressed inside another one."""

    archive: pathlib.Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}"

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
          OSError: the archive cannot be read, or has become shorter.
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


def index_shard(path: pathlib.Path, bad: BadSamples) -> dict[str, dict[str, FileSlice]]:
    """The samples of a WebDataset shard: key -> ending -> file.

    A file's key is its name up to the first dot after the last slash, its ending is the rest. Names are keys and are
    never used as paths. Links, devices and sparse files are told to `bad`.

    Raises:
      DataError: not an uncompressed tar archive, or cut short.
    """
    samples: dict[str, dict[str, FileSlice]] = {}
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                folder, slash, file = member.name.rpartition("/")
                stem, dot, ending = file.partition(".")
                key, where = f"{folder}{slash}{stem}", f"{path}: {member.name!r}"
                if not member.isreg() or member.issparse():
                    bad.add(f"{where} is no ordinary file")
                elif member.offset_data + member.size > size:
                    raise DataError(f"{path}: cut short in {member.name!r}")
                elif not dot or not stem:
                    bad.add(f"{where} has no ending that says what it is")
                elif ending.lower() in samples.get(key, {}):
                    bad.add(f"{where} stands there twice")
                else:
                    found = FileSlice(path, member.offset_data, member.size, member.name)
                    samples.setdefault(key, {})[ending.lower()] = found
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a whole uncompressed tar archive ({' '.join(str(error).split())})") from error
    return samples
