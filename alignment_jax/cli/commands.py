"""The subcommands by name: what each is for, and the module whose `define` adds its flags and whose `run` does it."""

from __future__ import annotations

import dataclasses
import importlib
from types import ModuleType


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand; its module is imported when it is called, so that help and usage errors answer at once."""

    summary: str
    module: str

    def load(self) -> ModuleType:
        """The module, with `define(FlagValues, arguments) -> None` and `run(FlagValues) -> exit status`."""
        return importlib.import_module(f"alignment_jax.cli.{self.module}")


COMMANDS = {
    "train": Command("train a model, or go on with an interrupted training", "train"),
    "evaluate": Command("metrics of a run's best checkpoint", "evaluate"),
    "embed": Command("embeddings of both sides of a data set, as one .npz file", "embed"),
    "extract": Command("latents of frozen encoders, to train on", "extract"),
    "compare": Command("train several methods over seeds and say which differ", "compare"),
    "report": Command("the report of a run or a comparison, from what is on disk", "report"),
    "data": Command("what a data set holds, and every problem in it", "data"),
    "benchmark": Command("time and memory of the losses on this machine", "benchmark"),
}
