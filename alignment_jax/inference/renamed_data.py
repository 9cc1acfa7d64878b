"""Going on with a run whose data has another name now."""

from __future__ import annotations

import dataclasses
import pathlib

from ml_collections import ConfigDict

from alignment_jax import data
from alignment_jax.assembly.build import load_data, load_source
from alignment_jax.core.errors import DataError
from alignment_jax.inference.item_record import TRAIN, VAL, changed_items, kept, reordered, with_run_splits
from alignment_jax.inference.trained_model import kept_fingerprints
from alignment_jax.train.workdir import changed_names, read_config


def moved_source(workdir: pathlib.Path, config: ConfigDict) -> data.PairSource | None:
    """The data of a run that is to go on, where the configuration calls it something else; None where it does not.

    It has the run's splits with their items in the run's order, so that the run ends with the same bits.

    Raises:
      DataError: train or val is not, item for item, what the run began with.
    """
    found = read_config(workdir)
    if found is None or found.get("data") == config.data:
        return None
    known = kept(workdir)
    if known is None:  # of an earlier version: by names and sizes of files, and the content of arrays and texts
        source = load_source(config)
        record = kept_fingerprints(workdir)
        changed = sorted(source.splits) if record is None else changed_names(record, data.fingerprints(source.splits))
    else:
        loaded = load_data(config, config.data)
        source = data.with_splits(with_run_splits(loaded, known, config), seed=config.data_seed)
        changed = changed_items(source, known)
    if {TRAIN, VAL} & set(changed):
        if known is not None and reordered(source, known):
            raise DataError(
                f"{config.data}: it has the items of {found.get('data')}, which the run in {workdir} began with, in "
                "another order, and would not end with the same numbers; give it its rows in that order to resume, or "
                "choose another --workdir"
            )
        raise DataError(
            f"{config.data}: {', '.join(changed)} is not what the run in {workdir} began with ({found.get('data')}); "
            "give it the same data to resume, or choose another --workdir"
        )
    notes = [f"the run began on {found.get('data')}: its items are the same, in the same order"]
    notes += [f"{name} is not what it was when this run began; it is used as it is" for name in changed]
    return dataclasses.replace(source, notes=(*source.notes, *notes))
