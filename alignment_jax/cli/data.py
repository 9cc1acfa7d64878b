"""`alignment-jax data`: what a data set holds, and every problem in it by file and row."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import flags

from alignment_jax import data, report
from alignment_jax.core.errors import DataError, UserError


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    flags.DEFINE_string("data", None, "SPEC of the data.", flag_values=values)
    flags.DEFINE_string("json", None, "Write the description to this file too.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    spec = values["data"].value
    if not spec:
        raise UserError("--data is missing: give a SPEC, as in --data=flickr:DIR")
    source = data.load(spec, on_bad_sample="skip")
    description = data.describe(source)
    print(data.format_description(description))
    if values["json"].value:
        report.write_json_atomic(pathlib.Path(values["json"].value).expanduser(), description)
    problems = data.problems(source)
    for problem in problems:
        print(f"problem: {problem}")
    if problems:
        raise DataError(f"{spec}: {len(problems)} problems, listed above; mend them or train with on_bad_sample=skip")
    return 0
