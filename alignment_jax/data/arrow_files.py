"""Finds and memory-maps the Arrow files of Hugging Face's `datasets`; rows are read one by one."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from alignment_jax.core.errors import DataError
from alignment_jax.core.optional import require

_STATE, _DICT, _INFO = "state.json", "dataset_dict.json", "dataset_info.json"


class ArrowSplit(NamedTuple):
    """A split of a saved data set: its name ("" where there is only one), its rows, and the type of each column.

    `features`: column -> its type as the library stores it, such as {"_type": "Image"}.
    """

    name: str
    table: Any
    features: Mapping[str, Any]
    folder: pathlib.Path


class ArrowFiles:
    """`files[index]` is {"file": the bytes in row `index` of a column of files}.

    Args:
      column: of binary values, or of structs with a field `bytes`.
    """

    def __init__(self, column: Any):
        self._column = column

    def __getitem__(self, index: int) -> dict[str, bytes]:
        value = self._column[index].as_py()
        return {"file": value["bytes"] if isinstance(value, dict) else value}


def saved_splits(folder: pathlib.Path) -> list[ArrowSplit]:
    """Opens the splits in a folder of `save_to_disk` or of the library's cache.

    Raises:
      DataError: it is not such a folder, or a part is missing or damaged.
    """
    if (folder / _DICT).is_file():
        names = [str(name) for name in _read_json(folder / _DICT).get("splits") or ()]
        if not names or any(pathlib.PurePath(name).name != name for name in names):
            raise DataError(f"{folder / _DICT}: lists no splits; save the data set again")
        return [_saved(folder / name, name) for name in names]
    if (folder / _STATE).is_file():
        return [_saved(folder, "")]
    if (folder / _INFO).is_file():
        return _cached(folder)
    if any(folder.glob("**/*.parquet")) or any(folder.glob("**/metadata.*")):
        raise DataError(f"{folder}: not a folder of save_to_disk; for tables or images write folder:{folder}")
    raise DataError(
        f"{folder}: no {_DICT} and no {_STATE}, which save_to_disk writes; run "
        "DATASET.save_to_disk('DIR') in Python and write hf:DIR"
    )


def cache_folder(given: str) -> pathlib.Path:
    """The cache folder of the library: the given one, or that of its environment variables."""
    if given:
        return pathlib.Path(given).expanduser()
    if found := os.environ.get("HF_DATASETS_CACHE"):
        return pathlib.Path(found).expanduser()
    home = os.environ.get("HF_HOME")
    base = home or pathlib.Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    return pathlib.Path(base).expanduser() / "datasets"


def find_cached(name: str, config: str, cache: pathlib.Path) -> pathlib.Path:
    """The folder of a data set in the library's cache; of several versions the latest.

    Args:
      name: as `load_dataset` takes it ("user/name").
      config: its configuration, "" for the only one.
      cache: see `cache_folder`.

    Raises:
      DataError: it is not in the cache, or has several configurations; the message lists the known ones.
    """
    if pathlib.Path(name).is_file():
        raise DataError(f"hf:{name}: a file, not a folder; for a table write pairs:{name}")
    folder = cache / name.replace("/", "___")
    safe = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and ".." not in name
    found = sorted(folder.glob(f"*/*/*/{_INFO}"), key=lambda path: path.stat().st_mtime) if safe else []
    configs = sorted({path.parents[2].name for path in found})
    if not found:
        known = (
            sorted(path.name.replace("___", "/") for path in cache.iterdir() if path.is_dir()) if cache.is_dir() else []
        )
        there = f"it has {', '.join(known[:6])}" if known else "it is empty"
        raise DataError(
            f"hf:{name}: no such folder, and no such data set in the cache {cache} ({there}); data is not downloaded "
            f"automatically: run datasets.load_dataset({name!r}).save_to_disk('DIR') in Python and write hf:DIR"
        )
    if config and config not in configs:
        raise DataError(f"hf:{name}: no config {config!r} in the cache; it has {', '.join(configs)}")
    if not config and len(configs) > 1:
        raise DataError(
            f"hf:{name}: several configurations in the cache; write ,config= and one of {', '.join(configs)}"
        )
    return [path for path in found if not config or path.parents[2].name == config][-1].parent


def _saved(folder: pathlib.Path, name: str) -> ArrowSplit:
    state = _read_json(folder / _STATE)
    files = [str(each.get("filename", "")) for each in state.get("_data_files") or []]
    if state.get("_indices_data_files") or any(pathlib.PurePath(each).name != each for each in files):
        raise DataError(f"{folder / _STATE}: written by an old version of the library; load it and save it again")
    info = _read_json(folder / _INFO) if (folder / _INFO).is_file() else {}
    table = _tables([folder / each for each in files], folder)
    return ArrowSplit(name, table, _features(info, table), folder)


def _cached(folder: pathlib.Path) -> list[ArrowSplit]:
    info = _read_json(folder / _INFO)
    out = []
    for name, entry in (info.get("splits") or {}).items():
        ending = re.compile(rf".*-{re.escape(str(name))}(-\d+-of-\d+)?\.arrow")
        files = sorted(path for path in folder.glob("*.arrow") if ending.fullmatch(path.name))
        table = _tables(files, folder)
        expected = entry.get("num_examples") if isinstance(entry, dict) else None
        if expected is not None and expected != table.num_rows:
            raise DataError(
                f"{folder}: {table.num_rows} of {expected} rows of split {name}; prepare the data set again"
            )
        out.append(ArrowSplit(str(name), table, _features(info, table), folder))
    if not out:
        raise DataError(f"{folder / _INFO}: lists no splits; prepare the data set again")
    return out


def _tables(files: list[pathlib.Path], folder: pathlib.Path) -> Any:
    arrow = require("pyarrow", extra="datasets", purpose="read data sets of Hugging Face")
    if not files:
        raise DataError(f"{folder}: no Arrow files in it; save or prepare the data set again")
    tables = []
    for path in files:
        if not path.is_file():
            raise DataError(f"{path}: no such file, but {folder.name} needs it; copy the whole folder")
        try:
            mapped = arrow.memory_map(str(path))
            try:
                tables.append(arrow.ipc.open_stream(mapped).read_all())
            except arrow.ArrowInvalid:
                tables.append(arrow.ipc.open_file(mapped).read_all())
        except Exception as error:  # errors of many kinds
            raise DataError(f"{path}: damaged or cut short (Arrow); copy or save it again") from error
    try:
        return arrow.concat_tables(tables)
    except arrow.ArrowInvalid as error:
        raise DataError(f"{folder}: its Arrow files have different columns; save it again") from error


def _features(info: Mapping[str, Any], table: Any) -> Mapping[str, Any]:
    """The types of the columns: as the library stored them, else from the Arrow schema."""
    found = info.get("features")
    if not isinstance(found, dict):
        try:
            found = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        except (KeyError, TypeError, ValueError):
            found = {}
    return {name: found.get(name) or _of_arrow(table.schema.field(name).type) for name in table.column_names}


def _of_arrow(kind: Any) -> dict[str, Any]:
    arrow = require("pyarrow", extra="datasets", purpose="read data sets of Hugging Face").types
    if arrow.is_struct(kind) and {kind.field(k).name for k in range(kind.num_fields)} == {"bytes", "path"}:
        return {"_type": "Image"}
    if arrow.is_list(kind) or arrow.is_large_list(kind):
        return {"_type": "List", "feature": _of_arrow(kind.value_type)}
    return {"_type": "Value", "dtype": str(kind)}


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; copy the whole folder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged; copy or save the data set again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged; copy or save the data set again")
    return found
