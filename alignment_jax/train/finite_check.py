"""Stops a run at the first loss or gradient that is not finite."""

from __future__ import annotations

import jax
import numpy as np

from alignment_jax.core.errors import RunError
from alignment_jax.train.objective import Metrics
from alignment_jax.train.state import TrainState

# Metrics are kept on the device until a check: a check per step would wait for every step.
_MAX_UNCHECKED = 256


class FiniteCheck:
    """Keeps the metrics of the last steps for its message."""

    def __init__(self) -> None:
        self._unchecked: list[tuple[int, Metrics]] = []

    def add(self, step: int, metrics: Metrics, state: TrainState) -> None:
        """Takes the metrics after `step` steps; checks when many are unchecked."""
        self._unchecked.append((step, metrics))
        if len(self._unchecked) >= _MAX_UNCHECKED:
            self.check(state)

    def check(self, state: TrainState) -> None:
        """Waits for the device.

        Raises:
          RunError: a step since the last check was not finite; the state is still that before the step.
        """
        bad = int(state.bad_step)
        unchecked, self._unchecked = self._unchecked, []
        if bad < 0:
            return
        found: Metrics = next((jax.device_get(metrics) for step, metrics in unchecked if step > bad), {})
        wrong = ", ".join(f"{name} = {float(v)}" for name, v in sorted(found.items()) if not np.isfinite(v))
        context = ", ".join(
            f"{name} = {float(found[name]):.4g}" for name in ("temperature_min", "positive_similarity") if name in found
        )
        raise RunError(
            f"step {bad + 1}: {wrong or 'loss or gradient'} is not finite ({context}); training stopped and the last "
            "good checkpoint is kept. Lower optimizer.learning_rate, raise temperature.min or check the input, and "
            "start again in another --workdir"
        )
