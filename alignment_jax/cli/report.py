"""`alignment-jax report`: the report of a run or of a comparison once more, from what is on disk."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from alignment_jax.cli import common, run_report
from alignment_jax.compare.pages import write_outputs
from alignment_jax.compare.run_records import read_comparison
from alignment_jax.core.errors import UserError
from alignment_jax.train.workdir import read_config


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    common.define_workdir(values, "Folder of a training or of a comparison, finished or not.")


def run(values: flags.FlagValues) -> int:
    folder = common.workdir(values)
    about = read_comparison(folder)
    if about is not None:
        print(write_outputs(folder, about))
        return 0
    if read_config(folder) is None:
        raise UserError(f"{folder} holds neither a run nor a comparison; give the --workdir of one")
    print(run_report.write(folder))
    return 0
