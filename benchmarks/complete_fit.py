"""A training of a benchmark that either completes or ends the command."""

from __future__ import annotations

import pathlib
import tempfile

from alignment_jax.train.experiment import Experiment
from alignment_jax.train.loop import Finished, fit


def complete_fit(experiment: Experiment) -> Finished:
    """`fit` in a temporary folder.

    Raises:
      SystemExit: SIGTERM or Ctrl-C stopped the training. `fit` then returns the model of that step, which is no result.
    """
    with tempfile.TemporaryDirectory() as folder:
        finished = fit(experiment, pathlib.Path(folder), quiet=True, tensorboard=False)
    if finished.preempted:
        raise SystemExit("stopped; the same command trains the missing runs")
    return finished
