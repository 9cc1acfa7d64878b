"""Learning rates where steps of the schedule meet."""

import pytest

from alignment_jax.train.optimizer import learning_rate_schedule


def test_drops_during_the_warm_up_are_not_lost():
    schedule = learning_rate_schedule(
        "staircase", peak=1.0, final=0.0, warmup_steps=10, total_steps=40, drops=[5, 10, 20], drop_factor=0.1
    )
    assert float(schedule(30)) == pytest.approx(1e-3)
