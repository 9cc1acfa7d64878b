"""Resumes a run whose data set has a new name."""

from __future__ import annotations

import dataclasses
import pathlib

from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.data_loading import load_data, load_source
from alignment_jax.assembly.saved_run import saved_fingerprints
from alignment_jax.core.errors import DataError
from alignment_jax.inference.item_record import (
    TRAIN,
    VAL,
    changed_items,
    load_item_record,
    reordered,
    with_run_splits,
)
from alignment_jax.train.workdir import changed_names, read_config


def renamed_source(workdir: pathlib.Path, config: ConfigDict) -> data.PairSource | None:
    """The data set of a resumed run, where the configuration gives it a new name; None where the name is the same.

    Its splits and the order of their items are those of the run, so that the run ends with the same bits.

    Args:
      workdir: of the run.
      config: the requested configuration.

    Raises:
      DataError: train or val has other items than the run started with, or another order.
    """
    found = read_config(workdir)
    if found is None or found.get("data") == config.data:
        return None
    known = load_item_record(workdir)
    if known is None:  # earlier versions: names and sizes of files, content of arrays and texts
        source = load_source(config)
        record = saved_fingerprints(workdir)
        found_now = data.fingerprints(source)
        changed = sorted(source.splits) if record is None else changed_names(record, found_now)
    else:
        loaded = load_data(config, config.data)
        source = data.with_splits(with_run_splits(loaded, known, config), seed=config.data_seed)
        changed = changed_items(source, known)
    if {TRAIN, VAL} & set(changed):
        if known is not None and reordered(source, known):
            raise DataError(
                f"{config.data}: it has the items of {found.get('data')}, with which the run in {workdir} started, in "
                "another order; restore that order to resume, or choose another --workdir"
            )
        raise DataError(
            f"{config.data}: {', '.join(changed)} differs from the data that the run in {workdir} started with "
            f"({found.get('data')}); restore that data to resume, or choose another --workdir"
        )
    notes = [f"the run started on {found.get('data')}: the items are the same, in the same order"]
    notes += [f"{name} changed since this run started; the changed split is used" for name in changed]
    return dataclasses.replace(source, notes=(*source.notes, *notes))
