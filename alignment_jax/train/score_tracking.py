"""Keeps the scores of all training samples in the train state, and running averages from the training steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.gather import all_rows
from alignment_jax.core.types import Array, PyTree
from alignment_jax.train.objective import Metrics, Objective, after_gradients, loss_terms


@dataclasses.dataclass(frozen=True)
class ScoreTracking:
    """Wraps an objective and adds scores of every training sample to its state.

    State: {"objective": of the wrapped objective, "scores": {criterion: [size]} in use by the sampler, and with
    `recycle` "running": {criterion: [size]} and "seen": bool [size]}. The loop replaces "scores" between epochs. Every
    step updates the running averages of its rows: m <- decay m + (1 - decay) x, and m <- x the first time. A sample
    that occurs several times in a batch counts once, with its mean. The state is replicated over devices and processes.

    Args:
      objective: the objective to train.
      size: samples in the training set.
      criteria: criterion -> its name among the objective's per-sample results.
      recycle: keep running averages.
      decay: of the averages, in [0, 1).

    Raises:
      ConfigError: decay is out of range; on the first call, a criterion that the objective does not give.
    """

    objective: Objective
    size: int
    criteria: Mapping[str, str]
    recycle: bool = False
    decay: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"sampling.decay must be in [0, 1), got {self.decay}")

    def init(self) -> PyTree:
        def zeros() -> dict[str, jax.Array]:
            return {name: jnp.zeros(self.size, jnp.float32) for name in self.criteria}

        state = {"objective": self.objective.init(), "scores": zeros()}
        return {**state, "running": zeros(), "seen": jnp.zeros(self.size, bool)} if self.recycle else state

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        loss, outcome = self.objective(
            apply, params, model_state, method_state["objective"], batch, step=step, key=key, axis_name=axis_name
        )
        state = {**method_state, "objective": outcome.method_state}
        if self.recycle:
            state |= self._recycled(method_state, self._checked(outcome.per_sample), axis_name)
        return loss, dataclasses.replace(outcome, method_state=state)

    @property
    def loss_terms(self) -> int:
        """Those of the wrapped objective."""
        return loss_terms(self.objective)

    def after_gradients(
        self, gradients: tuple[PyTree, ...], modulation: PyTree, *, key: jax.Array
    ) -> tuple[PyTree, Metrics]:
        """The change of the wrapped objective."""
        return after_gradients(self.objective, gradients, modulation, key)

    def score(self, apply, params, model_state, batch, *, step, axis_name) -> Metrics:
        """The scores of every row in evaluation mode."""
        return self._checked(
            self.objective.score(apply, params, model_state, batch, step=step, axis_name=axis_name)  # type: ignore[attr-defined]
        )

    def _checked(self, per_sample: Metrics) -> Metrics:
        for name, key in self.criteria.items():
            if key not in per_sample:
                hint = "; features are alike only between encoders of one width" if "feature" in key else ""
                raise ConfigError(f"sampling.{name}: this model and objective do not measure {key}{hint}")
        return per_sample

    def _recycled(self, state: PyTree, per_sample: Metrics, axis_name: str | None) -> dict[str, Any]:
        index = jnp.where(per_sample["where"], per_sample["index"], self.size)  # padding is out of bounds and dropped
        index = all_rows(index, axis_name)

        def total(value: Array) -> jax.Array:
            return jnp.zeros(self.size, jnp.float32).at[index].add(value, mode="drop")

        count = total(jnp.ones(index.shape, jnp.float32))
        keep = jnp.where(state["seen"], self.decay, 0.0)
        running = {}
        for name, key in self.criteria.items():
            value = jnp.where(per_sample["where"], per_sample[key], 0.0)
            mean = total(all_rows(value, axis_name)) / jnp.maximum(count, 1.0)
            old = state["running"][name]
            running[name] = jnp.where(count > 0, keep * old + (1.0 - keep) * mean, old)
        return {"running": running, "seen": state["seen"] | (count > 0)}


__getattr__ = renamed_names(__name__, {"Scored": "ScoreTracking"})
