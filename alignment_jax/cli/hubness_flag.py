"""The flag --hubness of `evaluate` and `embed`, and the correction that it asks for."""

from __future__ import annotations

import pathlib

from absl import flags

from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.errors import ConfigError, RunError
from alignment_jax.inference.query_bank import RunHubness, asked_hubness, load_query_bank
from alignment_jax.inference.trained_model import TrainedModel
from alignment_jax.retrieval import NONE

_HOW = (
    "--hubness alone for the correction of the run (nnn where it has none); or as in --hubness=csls, "
    "--hubness=nnn:k=16,strength=0.5."
)


def define_hubness(values: flags.FlagValues, about: str) -> None:
    """--hubness, --nohubness, --hubness=CORRECTION; None where it is not given."""
    text: flags.ArgumentParser[str] = flags.ArgumentParser()
    # As a boolean flag it may stand alone; its value is any text.
    flag = flags.Flag(text, flags.ArgumentSerializer(), "hubness", None, f"{about} {_HOW}", boolean=True)
    flags.DEFINE_flag(flag, values)


def hubness_of(values: flags.FlagValues, folder: pathlib.Path, trained: TrainedModel) -> RunHubness | None:
    """The bank of the run with the correction that the flag asks for; None for none.

    Raises:
      ConfigError: the flag cannot be read, or the run is a classifier.
      RunError: the bank of the run is missing, damaged or of another checkpoint.
    """
    if not task_of(trained.config.model).aligns:
        refuse_hubness(values, "a classifier retrieves nothing")
        return None
    text = str(values["hubness"].value)
    asked: bool | str = {"true": True, "false": False}.get(text, text)
    return asked_hubness(folder, asked, step=trained.step, setting="--hubness")


def hubness_of_run(folder: pathlib.Path, trained: TrainedModel) -> tuple[RunHubness | None, str]:
    """The correction of the run, None for `eval.hubness=none`; and a line where its bank cannot be used."""
    if str(trained.config.eval.hubness) == NONE:  # of every classifier
        return None, ""
    try:
        return load_query_bank(folder, step=trained.step), ""
    except RunError as error:
        return None, f"warning: no corrected metrics: {error}"


def hubness_of_flag_or_run(
    values: flags.FlagValues, folder: pathlib.Path, trained: TrainedModel
) -> tuple[RunHubness | None, str]:
    """`hubness_of` where the flag is given, else `hubness_of_run`."""
    if values["hubness"].value is None:
        return hubness_of_run(folder, trained)
    return hubness_of(values, folder, trained), ""


def refuse_hubness(values: flags.FlagValues, why: str) -> None:
    """Raises ConfigError where the flag is given."""
    if values["hubness"].value not in (None, "false", NONE):
        raise ConfigError(f"--hubness={values['hubness'].value}: {why}; leave it out")
