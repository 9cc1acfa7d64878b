"""The state before the first step and the compiled step of an experiment."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax

from alignment_jax.train.experiment import Experiment
from alignment_jax.train.state import TrainState, create_state
from alignment_jax.train.step import Placement, make_sharded_step, make_step


def initial_state(experiment: Experiment) -> TrainState:
    """The state before the first step, a function of the seed alone."""
    init_key, train_key = jax.random.split(jax.random.key(experiment.seed))
    params, model_state = experiment.model.init(init_key, *experiment.first_batch)
    return create_state(
        params=params,
        model_state=model_state,
        optimizer=experiment.optimizer,
        method_state=experiment.objective.init(),
        key=train_key,
        averaged=experiment.plan.average_decay > 0.0,
    )


def placed_initial_state(experiment: Experiment, placement: Placement) -> TrainState:
    """`initial_state` on the devices of the placement.

    No device holds the whole optimizer state of a sharded state, or its average.
    """
    if not placement.sharded:
        return placement.put_state(initial_state(experiment))
    no_average = dataclasses.replace(experiment.plan, average_decay=0.0)
    bare = initial_state(dataclasses.replace(experiment, optimizer=optax.identity(), plan=no_average))
    placed = placement.put_state(bare)

    def whole(state: TrainState) -> TrainState:
        return create_state(
            params=state.params,
            model_state=state.model_state,
            optimizer=experiment.optimizer,
            method_state=state.method_state,
            key=state.key,
            averaged=experiment.plan.average_decay > 0.0,
        )

    shardings = placement.shardings(jax.eval_shape(whole, placed))
    return jax.jit(whole, out_shardings=shardings)(placed)


def placement_of(experiment: Experiment) -> Placement:
    """The compiled training step; runs that differ only in their seed may share it."""
    parts = (experiment.objective, experiment.model.apply, experiment.optimizer)
    options: dict[str, Any] = dict(
        average_decay=experiment.plan.average_decay,
        accumulate=experiment.plan.accumulate,
        project=experiment.model.project,
    )
    return Placement(
        experiment.devices,
        lambda axis_name: make_step(*parts, axis_name=axis_name, **options),
        (lambda mesh: make_sharded_step(*parts, mesh=mesh, **options)) if experiment.shard == "parameters" else None,
    )
