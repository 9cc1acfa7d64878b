"""`alignment-jax export`: the best model of a run as files that need neither the run nor this package."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import flags

from alignment_jax.cli import common
from alignment_jax.core.errors import UserError
from alignment_jax.core.storage import check_new_folder
from alignment_jax.inference.export import FORMATS, export_run
from alignment_jax.report import UNKNOWN_LICENSE


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    common.define_workdir(values, "Folder or URL of a run.")
    about = f"Formats of the weights, separated by commas: {', '.join(FORMATS)}."
    flags.DEFINE_list("format", ["safetensors"], about, flag_values=values)
    flags.DEFINE_string(
        "license", UNKNOWN_LICENSE, "Licence of the weights for the model card, as in apache-2.0.", flag_values=values
    )
    flags.DEFINE_string("out", None, "The folder to make; it must not exist.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    folder = common.workdir(values)
    if not values["out"].value:
        raise UserError("--out is missing: give the folder to make, for example --out=exported")
    out = pathlib.Path(values["out"].value).expanduser()
    check_new_folder(out, setting="--out")
    formats = [name.strip() for name in values["format"].value or [] if name.strip()]
    if not formats:
        raise UserError(f"--format is empty: give one or more of {', '.join(FORMATS)}")
    written = export_run(folder, out, formats=formats, license=str(values["license"].value))
    print(f"{out}: {', '.join(written)}")
    return 0
