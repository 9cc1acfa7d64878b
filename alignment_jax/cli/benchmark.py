"""`alignment-jax benchmark`: time and memory of the losses on this machine, as a Markdown table."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import flags

from alignment_jax.benchmarking.loss_benchmark import run_benchmark
from alignment_jax.report import write_text_atomic


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    flags.DEFINE_bool("quick", False, "Run small sizes only: less than a minute.", flag_values=values)
    flags.DEFINE_string(
        "output",
        None,
        "Markdown file for the table. Measurements are saved in a .json file beside it: the same command continues an "
        "interrupted benchmark.",
        flag_values=values,
    )


def run(values: flags.FlagValues) -> int:
    output = pathlib.Path(values["output"].value).expanduser() if values["output"].value else None
    record = output.with_suffix(".json") if output else None
    text = run_benchmark(quick=bool(values["quick"].value), record=record)
    print(text)
    if output:
        write_text_atomic(output, text)
    return 0
