"""`alignment-jax report`: writes the report of a run or a comparison again, from its folder."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

from alignment_jax.cli import common
from alignment_jax.cli.run_report import write_run_report
from alignment_jax.compare.pages import write_outputs
from alignment_jax.compare.run_records import read_comparison
from alignment_jax.core.errors import UserError
from alignment_jax.train.workdir import read_config


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    common.define_workdir(values, "Folder or URL of a run, or folder of a comparison, finished or not.")


def run(values: flags.FlagValues) -> int:
    folder = common.workdir(values)
    about = read_comparison(folder)
    if about is not None:
        print(write_outputs(folder, about))
        return 0
    if read_config(folder) is None:
        raise UserError(f"{folder} holds neither a run nor a comparison; give the --workdir of one")
    print(write_run_report(folder))
    return 0
