"""Sources whose SPEC is a table: `FILE,key=value,...`, or `train=FILE,val=FILE,test=FILE`."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.column_roles import is_known
from alignment_jax.data.confined_folder import Folder
from alignment_jax.data.manifest_rows import ManifestRow, read_manifest
from alignment_jax.data.spec import path_and_options
from alignment_jax.data.split import SPLITS

_FILE_OPTIONS = ("root", "encoding", "sheet")


class Manifest(NamedTuple):
    """The tables of a SPEC.

    Attributes:
      rows: each with the folder of its relative names; all of them or none have a value "split".
      places: each of these folders -> its path relative to their common folder.
      name: name of the data set in messages.
      notes: of the source.
      options: options of the SPEC, "" for missing ones.
    """

    rows: list[tuple[ManifestRow, Folder]]
    places: dict[Folder, pathlib.PurePath]
    name: str
    notes: list[str]
    options: dict[str, str]


def manifest_options(*roles: str) -> dict[str, str]:
    """`OPTIONS` of a source whose columns are `roles`."""
    return dict.fromkeys((*roles, *_FILE_OPTIONS, *SPLITS), "")


def open_manifest(
    argument: str,
    *,
    what: str,
    required: Sequence[str] = (),
    choices: Sequence[Sequence[str]] = (),
    optional: Sequence[str],
    more: Sequence[str] = (),
    bad: BadSamples,
) -> Manifest:
    """Reads the table of a SPEC, or its table for each split.

    Args:
      argument: the SPEC after its colon.
      what: the name of the source.
      required, optional: roles of the columns, "split" included.
      choices: sets of roles; all tables must have the same one.
      more: further options, which are not columns.
      bad: collects rows that cannot be read.

    Raises:
      ConfigError: the options are malformed or contradict each other.
      DataError: a table cannot be read, or there is no folder `root`.
    """
    paired = dict.fromkeys(role for choice in choices for role in choice)
    roles = dict.fromkeys((*required, *paired, *optional))
    first, options = path_and_options(argument, manifest_options(*roles, *more), what=what)
    parts = {split: options[split] for split in SPLITS if options[split]}
    if bool(first) == bool(parts):
        raise ConfigError(
            f"{what}:{argument}: name one file, as in {what}:captions.csv, or one per split, as in "
            f"{what}:train=train.csv,val=val.csv"
        )
    files = parts or {"": first}
    root = pathlib.Path(os.path.expanduser(options["root"])) if options["root"] else None
    if root is not None and not root.is_dir():
        raise DataError(f"root={root}: no such folder")
    folders: dict[tuple[str, str], Folder] = {}
    rows: list[tuple[ManifestRow, Folder]] = []
    others: list[str] = []
    notes: list[str] = []
    for split, name in files.items():
        path = pathlib.Path(os.path.expanduser(name))
        found = read_manifest(
            path,
            required=required,
            optional=[role for role in optional if not (split and role == "split")],
            bad=bad,
            choices=choices,
            named={role: options[role] for role in roles if options[role]},
            encoding=options["encoding"],
            sheet=options["sheet"],
        )
        if found.rows:
            choices = [choice for choice in choices if set(choice) <= set(found.rows[0].values)]
        base = path.parent if root is None else root
        # Names that begin with .. are relative to their table, so each folder of tables needs its own Folder.
        place = (os.path.realpath(base), os.path.realpath(path.parent))
        folder = folders.setdefault(place, Folder(base, option="root", table=path.parent))
        for row in found.rows:
            rows.append((row._replace(values={**row.values, "split": split}) if split else row, folder))
        notes += found.notes
        if found.others:
            spare = [role for role in paired if found.rows and role not in found.rows[0].values]
            other = next((name for name in found.others if is_known(name, spare, {})), None)
            how = "" if other is None else f" (to use {other}, write ,{spare[0]}={other},caption=COLUMN)"
            others.append(f"{path}: unused columns: {', '.join(found.others)}{how}")
    common = os.path.commonpath([real for real, _ in folders])
    places = {folder: pathlib.PurePath(os.path.relpath(real, common)) for (real, _), folder in folders.items()}
    return Manifest(rows, places, argument if parts else first, [*notes, *others], options)
