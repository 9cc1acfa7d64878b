"""The subcommands: summary and module of each."""

from __future__ import annotations

import dataclasses
import importlib
from types import ModuleType


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand. Its module is imported on the call, so that help and usage errors are fast."""

    summary: str
    module: str

    def load(self) -> ModuleType:
        """Imports the module, with `define(FlagValues, arguments) -> None` and `run(FlagValues) -> exit status`."""
        return importlib.import_module(f"alignment_jax.cli.{self.module}")


COMMANDS = {
    "train": Command("train a model, or resume an interrupted run", "train"),
    "evaluate": Command("evaluate the best checkpoint of a run", "evaluate"),
    "embed": Command("embed a data set with a trained model, for an index", "embed"),
    "search": Command("search pictures or texts by a phrase or a picture, with a trained model", "search"),
    "export": Command("write the best model of a run as files that run without this package", "export"),
    "extract": Command("compute latents of frozen encoders, to train on", "extract"),
    "compare": Command("train several methods over seeds and test which differ", "compare"),
    "report": Command("write the report of a run or a comparison again", "report"),
    "data": Command("describe a data set and list its problems", "data"),
    "benchmark": Command("measure time and memory of the losses on this machine", "benchmark"),
}
