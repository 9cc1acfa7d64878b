"""A model whose encoders start from checkpoints: which of their parameters are trained, and what stays frozen.

Frozen parameters are a collection of the model's state (`train.state.FROZEN`). They get no gradient, no optimizer state
and no average, and checkpoints of a run leave them out.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from alignment_jax.assembly.checkpoint_inputs import CheckpointEncoder, checkpoint_encoders, trailing_padding
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.nested import flatten, unflatten
from alignment_jax.core.types import PyTree
from alignment_jax.models import tuning
from alignment_jax.train.experiment import Model
from alignment_jax.train.state import FROZEN

TOWER = "tower"
# Parameters that no output depends on: an optimizer's weight decay would still change them.
_UNUSED = ("mask_token", "pooler")


def with_checkpoints(model: Model, config: ConfigDict) -> Model:
    """The model with the weights of its encoders' checkpoints, divided into trained and frozen ones.

    Args:
      model: with random weights.
      config: the section `model` of the configuration.

    Raises:
      ConfigError: a wrong `tune`, a LoRA target that matches nothing, or weights that cannot be read.
    """
    encoders = checkpoint_encoders(config)
    if not encoders:
        return model
    starts = {one.option: _Start(one) for one in encoders}

    def without_towers(key: jax.Array, *inputs: Any) -> tuple[PyTree, PyTree]:
        params, model_state = model.init(key, *inputs)
        return {name: value for name, value in params.items() if name not in starts}, model_state

    rest = jax.jit(without_towers)  # XLA leaves out the random weights of the towers

    def init(key: jax.Array, *inputs: Any) -> tuple[PyTree, PyTree]:
        trained, model_state = rest(key, *inputs)
        frozen: dict[str, Any] = {}
        for number, (option, start) in enumerate(starts.items()):
            own, others = start.split(jax.random.fold_in(key, number))
            trained |= {option: {TOWER: own}} if own else {}
            frozen |= {option: {TOWER: others}} if others else {}
        return _with_logits(trained, encoders, config), {**model_state, FROZEN: frozen}

    def frozen() -> PyTree:
        parts = {option: start.split(jax.random.key(0))[1] for option, start in starts.items()}
        return {option: {TOWER: part} for option, part in parts.items() if part}

    def joined(function: Callable[..., Any] | None) -> Any:
        """The function on all parameters."""
        if function is None:
            return None

        @functools.wraps(function)
        def call(params: PyTree, model_state: PyTree, *args: Any, **options: Any) -> Any:
            frozen = model_state[FROZEN]
            others = {name: value for name, value in model_state.items() if name != FROZEN}
            return function(tuning.join_parameters(params, frozen), others, *args, **options)

        return call

    def apply(params: PyTree, model_state: PyTree, *args: Any, **options: Any) -> tuple[Any, PyTree]:
        outputs, changed = joined(model.apply)(params, model_state, *args, **options)
        return outputs, {**changed, FROZEN: model_state[FROZEN]}

    return dataclasses.replace(
        model,
        init=init,
        apply=apply,
        encode_a=joined(model.encode_a),
        encode_b=joined(model.encode_b),
        predict=joined(model.predict),
        frozen=frozen,
        padding=trailing_padding(config),
    )


class _Start:
    """The tower of one encoder at the start of a run."""

    def __init__(self, encoder: CheckpointEncoder):
        settings, self._checkpoint = encoder.settings, encoder.checkpoint
        self._tune = str(settings.get("tune") or "all")
        targets = [name.strip() for name in str(settings.get("lora_targets") or "").split(",")]
        self._targets = [name for name in targets if name] or tuning.TARGETS
        try:
            tower = self._checkpoint.tower()
            self._shapes = jax.eval_shape(tower.init, jax.random.key(0), *tower.example())["params"]
            jax.eval_shape(self.split, jax.random.key(0))
        except ConfigError as error:
            raise ConfigError(f"model.{encoder.option}: {error}") from error

    def split(self, key: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """(trained, frozen) parameters. Random is LoRA's A alone. While JAX traces, for shapes, no weights are read."""
        if isinstance(key, jax.core.Tracer):
            params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self._shapes)
        else:
            params = self._checkpoint.params()
        trained, frozen = tuning.start_tuning(params, self._tune, key=key, targets=self._targets)
        unused = {path: leaf for path, leaf in flatten(trained) if path.split("/")[0] in _UNUSED}
        kept = {path: leaf for path, leaf in flatten(trained) if path not in unused}
        return unflatten(kept), tuning.join_parameters(frozen, unflatten(unused))


def _with_logits(params: dict[str, Any], encoders: tuple[CheckpointEncoder, ...], config: ConfigDict) -> dict[str, Any]:
    """Temperature and bias of the checkpoint, where both of its towers stay in its space and the model learns them."""
    names = {str(one.settings.model) for one in encoders}
    if len(encoders) != 2 or len(names) > 1 or config.get("projection", "linear") != "none":
        return params
    logits = encoders[0].checkpoint.logits()
    own = dict(params.get("logit_scale", {}))
    if "logit_scale" in logits and "log_temperature" in own:
        own["log_temperature"] = -jnp.asarray(logits["logit_scale"], jnp.float32)
    if "logit_bias" in logits and "bias" in own:
        own["bias"] = jnp.asarray(logits["logit_bias"], jnp.float32)
    return {**params, "logit_scale": own} if own else params


def merged_variables(variables: PyTree) -> PyTree:
    """Variables whose parameters are whole: frozen ones among them, adapters added to their kernels.

    The model's functions accept them; outputs are the same up to rounding.
    """
    state = variables["model_state"]
    if FROZEN not in state:
        return variables
    params = tuning.merge_parameters(tuning.join_parameters(variables["params"], state[FROZEN]))
    return {"params": params, "model_state": {**state, FROZEN: {}}}


def tuning_notes(config: ConfigDict, params: PyTree, model_state: PyTree) -> tuple[str, ...]:
    """A line on each encoder: where it starts, and how much of it is trained."""
    notes = []
    for one in checkpoint_encoders(config):
        trained = _count(params.get(one.option, {}))
        frozen = _count(model_state[FROZEN].get(one.option, {}))
        notes.append(
            f"{one.option} is {one.settings.model}: {trained:,} of {trained + frozen:,} parameters are trained "
            f"(tune={one.settings.get('tune') or 'all'})"
        )
    return tuple(notes)


def _count(tree: PyTree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
