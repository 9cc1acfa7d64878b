"""A fine-tuned run between its start and its end: the share of the way is chosen on val."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax

from alignment_jax.assembly.build import Built
from alignment_jax.core.types import PyTree
from alignment_jax.models.tuning import interpolate_trained
from alignment_jax.train import processes
from alignment_jax.train.batch_parallel import local_copy
from alignment_jax.train.loop import initial_state
from alignment_jax.train.state import evaluation_params

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True)
class Interpolation:
    """The choice of a share.

    alpha: of the way from the start (0) to the trained model (1).
    metric: that chose it.
    values: of the metric on val, by alpha.
    """

    alpha: float
    metric: str
    values: dict[float, float]

    def line(self) -> str:
        """What was chosen, with both ends."""
        start, end = self.values[min(self.values)], self.values[max(self.values)]
        return (
            f"weights: {self.alpha:g} of the way from the start to the trained model is best on val "
            f"({self.metric} {self.values[self.alpha]:.4g}; start {start:.4g}, trained {end:.4g})"
        )


def interpolated(built: Built, variables: PyTree, *, alphas: Sequence[float] = ALPHAS) -> tuple[PyTree, Interpolation]:
    """The variables of the best share on val, and the choice; the trained model wins where shares are equal.

    Every process must make the same call: all share the embeddings and the ranks.

    Source: Wortsman et al. 2022, Robust fine-tuning of zero-shot models.

    Args:
      built: the run, with a split val.
      variables: its trained variables.
      alphas: shares to try, 0 and 1 among them.
    """
    experiment = built.experiment
    if processes.several():  # the start is on this process alone
        variables = jax.tree.map(local_copy, variables)
    start, tuned = evaluation_params(initial_state(experiment)), variables["params"]
    name = experiment.plan.metric.removeprefix("val/")

    def at(alpha: float) -> PyTree:
        return {**variables, "params": interpolate_trained(start, tuned, alpha=alpha)}

    val = experiment.evaluations["val"]
    own = [experiment.evaluate(at(alpha), val, everywhere=True)[name] for alpha in alphas]
    # Another machine may round in another way, and all must choose the same.
    found = processes.compute_on_primary(lambda: {"values": own})["values"]
    values = dict(zip(alphas, map(float, found), strict=True))
    alpha = max(alphas, key=lambda one: (values[one], one))
    return at(alpha), Interpolation(alpha, name, values)
