"""A training of a benchmark that either completes or ends the command."""

from __future__ import annotations

import pathlib
import tempfile

from alignment_jax.train.experiment import Experiment
from alignment_jax.train.loop import Finished, fit


def complete_fit(experiment: Experiment, workdir: pathlib.Path | None = None) -> Finished:
    """`fit` in a folder; None for a temporary one.

    Raises:
      SystemExit: SIGTERM or Ctrl-C stopped the training. `fit` then returns the model of that step, which is no result.
    """
    if workdir is None:
        with tempfile.TemporaryDirectory() as folder:
            return complete_fit(experiment, pathlib.Path(folder))
    finished = fit(experiment, workdir, quiet=True, tensorboard=False)
    if finished.preempted:
        raise SystemExit("stopped; the same command trains the missing runs")
    return finished
