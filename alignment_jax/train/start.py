"""The state before the first step and the compiled step of an experiment."""

from __future__ import annotations

import jax

from alignment_jax.train.experiment import Experiment
from alignment_jax.train.state import TrainState, create_state
from alignment_jax.train.step import Placement, make_step


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


def placement_of(experiment: Experiment) -> Placement:
    """The compiled training step; runs that differ only in their seed may share it."""
    return Placement(
        experiment.devices,
        lambda axis_name: make_step(
            experiment.objective,
            experiment.model.apply,
            experiment.optimizer,
            axis_name=axis_name,
            average_decay=experiment.plan.average_decay,
            accumulate=experiment.plan.accumulate,
            project=experiment.model.project,
        ),
    )
