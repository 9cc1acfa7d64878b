"""`alignment-jax benchmark`: time and memory of the losses on this machine, as a Markdown table."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import flags

from alignment_jax.benchmarking.losses import run_benchmark
from alignment_jax.report import write_text_atomic


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    flags.DEFINE_bool("quick", False, "Small sizes only, under a minute.", flag_values=values)
    flags.DEFINE_string(
        "output",
        None,
        "Write the table to this Markdown file too, and what was measured to a .json beside it, as it comes: the same "
        "command again goes on with a run that was interrupted.",
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
