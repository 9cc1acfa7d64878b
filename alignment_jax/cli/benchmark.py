"""`alignment-jax benchmark`: time and memory of the losses on this machine, as a Markdown table."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import flags

from alignment_jax.cli.benchmark_loss import run_benchmark
from alignment_jax.report import write_text_atomic


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    flags.DEFINE_bool("quick", False, "Small sizes only, under a minute.", flag_values=values)
    flags.DEFINE_string("output", None, "Write the table to this Markdown file too.", flag_values=values)


def run(values: flags.FlagValues) -> int:
    text = run_benchmark(quick=bool(values["quick"].value))
    print(text)
    if values["output"].value:
        write_text_atomic(pathlib.Path(values["output"].value).expanduser(), text)
    return 0
