"""Opens embedding files: one file of named arrays, one file per array, or a folder of parts."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from alignment_jax.core.errors import ConfigError, DataError, one_line
from alignment_jax.data.array_formats import read_named_arrays, read_parquet_arrays
from alignment_jax.data.array_names import NamedArrays, match_arrays, role_of
from alignment_jax.data.manifest_rows import read_text
from alignment_jax.data.shards import MANIFEST, ShardedArray, map_array
from alignment_jax.data.split import canonical_split
from alignment_jax.data.unsupported_files import refuse_unsupported

# Larger arrays stay memory-mapped.
MOST_BYTES = 2 << 30
_OPTION = re.compile(r"\s*([a-z]\w*)\s*=")


def open_files(argument: str) -> tuple[NamedArrays, pathlib.Path]:
    """The arrays of an `embeddings` SPEC, and their path in messages.

    Args:
      argument: `PATH[,image=NAME,...]`, PATH a file of named arrays or a folder of .npy and .parquet files; or
        `image=FILE,text=FILE,...`, each an .npy file or, for texts, a .txt file with one per line or a .json list.

    Raises:
      ConfigError: unknown option.
      DataError: a file is missing, damaged or unsupported, or a side is missing.
    """
    pieces = [argument] if pathlib.Path(argument).exists() else re.split(r",(?=\s*[a-z]\w*\s*=)", argument)
    first = "" if _OPTION.match(pieces[0]) and not pathlib.Path(pieces[0]).exists() else pieces.pop(0)
    options: dict[str, str] = {}
    for piece in pieces:
        name, _, value = (part.strip() for part in piece.partition("="))
        role = role_of(name)
        if role in options:
            raise ConfigError(f"embeddings: {name!r} is given twice")
        options[role] = value
    path = pathlib.Path(first) if first else pathlib.Path(next(iter(options.values())))
    arrays: dict[str, np.ndarray] = {}
    if first:
        arrays = _folder(path) if path.is_dir() else _file(path)
    given = {}
    for role, value in options.items():
        given[role] = value
        if value not in arrays:
            file = pathlib.Path(value).expanduser()
            if first and not file.suffix:
                continue  # `match_arrays` reports it
            given[role] = f"{role} of {value}"
            arrays[given[role]] = _array(file, role)
    return match_arrays(arrays, given, where=str(path) if first else f"embeddings:{argument}"), path


def unused_notes(found: NamedArrays, where: pathlib.Path) -> list[str]:
    """A note on the unused arrays."""
    if not found.unused:
        return []
    more = "; a third modality needs --data features:FILE.npz and a classifier" if "c" in found.unused else ""
    return [one_line(f"{where}: unused arrays: {', '.join(found.unused)}{more}")]


def _file(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npy" and path.is_file():
        raise DataError(
            f"{path}: one array, but embeddings need two sides; name both, as in embeddings:image={path},text=TEXT.npy"
        )
    return read_named_arrays(path)


def _array(path: pathlib.Path, role: str) -> np.ndarray:
    """Reads a file of one array."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: no such file (for {role})")
    if suffix == ".txt":
        return np.array(read_text(path).splitlines(), np.str_)
    if suffix == ".json":
        try:
            return np.array(json.loads(read_text(path)), np.str_)
        except ValueError as error:
            raise DataError(f"{path}: not a JSON list of texts, one per row of {role}") from error
    refuse_unsupported(path)
    if suffix != ".npy":
        raise DataError(f"{path}: {role} must be an .npy file, or for texts .txt (one per line) or .json (a list)")
    return _joined([map_array(path)], str(path))


def _folder(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Arrays named like files and subfolders (image.npy, img_emb/img_emb_0.npy, img_emb/img_emb_1.npy, ...), and the
    columns of the Parquet files in the folder or in `metadata`."""
    parts: dict[str, list[pathlib.Path]] = {}
    for path in sorted(_parts(folder), key=_natural):
        inside = path.parent != folder
        name = path.parent.name if inside else re.sub(r"_\d+$", "", path.stem)
        parts.setdefault(name, []).append(path)
    if split := next((name for name in parts if canonical_split(name)), None):
        raise DataError(
            f"{folder}: {split} is the folder of a split; join the splits into one array per side, and write "
            "embeddings:image=A.npy,text=B.npy,split=SPLIT.txt with the split of one image per line"
        )
    arrays = {name: _joined([map_array(path) for path in paths], name) for name, paths in parts.items()}
    tables = sorted([*folder.glob("*.parquet"), *folder.glob("metadata/*.parquet")], key=_natural)
    columns: dict[str, list[np.ndarray]] = {}
    for path in tables:
        for name, array in read_parquet_arrays(path).items():
            columns.setdefault(name, []).append(array)
    for name, pieces in columns.items():
        if len(pieces) == len(tables) and name not in arrays:
            arrays[name] = np.concatenate(pieces)
    return arrays


def holds_arrays(folder: pathlib.Path) -> bool:
    """Whether it is a folder of named arrays, not of shards."""
    return not (folder / MANIFEST).exists() and any((*_parts(folder), *folder.glob("*.parquet")))


def _parts(folder: pathlib.Path) -> list[pathlib.Path]:
    inside = (path for path in folder.glob("*/*.npy") if re.match(r"[A-Za-z]", path.parent.name))
    return [*folder.glob("*.npy"), *inside]


def _natural(path: pathlib.Path) -> list[tuple[int, str]]:
    """Sorts part 10 after part 9."""
    return [(int(digits or 0), other) for digits, other in re.findall(r"(\d+)|(\D+)", str(path))]


def _joined(parts: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Parts as one array: in memory if it is small, else memory-mapped."""
    whole = ShardedArray(parts, name)
    return np.asarray(whole) if whole.nbytes <= MOST_BYTES else whole  # type: ignore[return-value]
