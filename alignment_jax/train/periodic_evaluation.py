"""The evaluation on val during training, with its line in the log and the warning of a collapse."""

from __future__ import annotations

from alignment_jax import evals, report
from alignment_jax.core.types import PyTree
from alignment_jax.train import processes
from alignment_jax.train.experiment import Experiment


class PeriodicEvaluation:
    """Evaluates on val and prints the result."""

    def __init__(self, experiment: Experiment, progress: report.Progress):
        self._experiment, self._progress = experiment, progress
        self._collapsed: set[str] = set()

    def evaluate(self, variables: PyTree, step: int) -> dict[str, float]:
        """Metrics by name, "val/rsum" for example; the same on every process.

        Args:
          variables: {"params", "model_state"}. Where they are sharded, every device holds a whole copy meanwhile.
          step: steps taken.
        """
        experiment = self._experiment
        variables = processes.replicate(variables)
        last = step >= experiment.plan.total_steps
        with self._progress.pause():
            own = experiment.log_metrics(variables, experiment.evaluations["val"], last)
            # Another machine may round in another way, and all must stop at the same step.
            found = processes.compute_on_primary(lambda: own)
        results = {key: value for key, value in report.as_percent(found).items() if _is_result(key)}
        self._progress.message(f"step {step}, val: {report.metrics_line(results, experiment.names)}")
        self._warn_of_collapse(found, step)
        return {f"val/{key}": value for key, value in found.items()}

    def _warn_of_collapse(self, found: dict[str, float], step: int) -> None:
        """Warns once for each collapse of a modality, again after a recovery."""
        sides = set(evals.collapsed_sides(found))
        if sides - self._collapsed:
            warning = evals.collapse_warning(found, names=self._experiment.names)
            self._progress.message(f"warning: step {step}: {warning}")
        self._collapsed = sides


def _is_result(key: str) -> bool:
    """Whether a value measures the model's quality, rather than the state of its embeddings."""
    return not key.startswith(("variance_", "participation_", "effective_rank_"))
