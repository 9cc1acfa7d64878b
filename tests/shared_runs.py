"""Runs of one configuration in one process share their experiment and their compiled step.

A run that is resumed here finds the programs of the run before it, which is what `fit` offers with `placement`. New
processes, with programs of their own, are the subject of tests/cli/test_soak.py.
"""

import dataclasses

from alignment_jax.assembly.build import build
from alignment_jax.train.experiment import Experiment
from alignment_jax.train.loop import fit, placement_of
from alignment_jax.train.step import Placement

_KEPT = 6
_made: dict = {}


@dataclasses.dataclass(frozen=True)
class SharedRun:
    """A built configuration and its compiled step."""

    experiment: Experiment
    placement: Placement

    def fit(self, workdir, *, plan=None, **changes):
        """`loop.fit` of the experiment with these fields, and these fields of its plan, changed."""
        if plan is not None:
            changes["plan"] = dataclasses.replace(self.experiment.plan, **plan)
        options = {"tensorboard": changes.pop("tensorboard", False)}
        return fit(
            dataclasses.replace(self.experiment, **changes), workdir, quiet=True, placement=self.placement, **options
        )


def shared_run(config) -> SharedRun:
    """Builds a configuration, once for all tests that ask for it in a row."""
    key = config.to_json_best_effort(sort_keys=True)
    found = _made.pop(key, None)
    if found is None:
        experiment = build(config).experiment
        found = SharedRun(experiment, placement_of(experiment))
    _made[key] = found  # the last one used is the last one
    if len(_made) > _KEPT:
        del _made[next(iter(_made))]
    return found
