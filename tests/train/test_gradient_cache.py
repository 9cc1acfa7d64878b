"""Gradient caching: memory of activations and errors. test_step shows equal gradients."""

import json

import jax
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.gradient_cache import in_micro_batches
from alignment_jax.train.loop import fit, initial_state
from alignment_jax.train.step import AXIS, batch_mesh, make_step, shard_step

SYNTHETIC = "synthetic:train=64,val=8,test=8,size=16"


def two_tower(**changes):
    config = configs.default()
    config.data, config.model = SYNTHETIC, configs.two_tower("convnet", "transformer")
    config.input.image_size, config.input.batch_size, config.train.devices = 16, 64, 1
    config.model.encoder_a.widths = (32,)
    config.model.encoder_b.depth = 1
    config.train.duration = "2 steps"
    config.log.interval = "1 steps"
    config.update_from_flattened_dict(changes)
    return config


def compiled(micro_batch, *, devices=1):
    """The compiled training step of two encoders on a batch of 64."""
    experiment = build(two_tower(**{"optimizer.micro_batch": micro_batch})).experiment
    axis = AXIS if devices > 1 else None
    step = make_step(experiment.objective, experiment.model.apply, experiment.optimizer, axis_name=axis)
    run = shard_step(step, batch_mesh(jax.devices()[:devices])) if axis else jax.jit(step, donate_argnums=0)
    batch = next(iter(experiment.batches(np.arange(64)[None], 0, 0)))
    return run.lower(jax.eval_shape(lambda: initial_state(experiment)), batch).compile()


def temporary_bytes(micro_batch):
    return compiled(micro_batch).memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.optimized
def test_memory_follows_the_micro_batch():
    """The activations of 64 rows shrink to those of 8; gradients and updates of the parameters stay."""
    whole, cached = temporary_bytes(0), temporary_bytes(8)
    assert cached < 0.35 * whole


@pytest.mark.slow
@pytest.mark.optimized
def test_devices_add_up_their_gradients_once_and_not_in_every_micro_batch():
    """With replication checks on, JAX would put a sum over devices into the loop's body."""
    lines = compiled(4, devices=2).as_text().splitlines()
    sums = [line for line in lines if " all-reduce(" in line]
    assert sums
    assert not [line for line in sums if "/while/body" in line]


@pytest.mark.slow
def test_a_run_with_micro_batches_logs_the_same(tmp_path):
    logs = []
    for micro_batch in (0, 24):
        workdir = tmp_path / str(micro_batch)
        experiment = build(two_tower(**{"optimizer.micro_batch": micro_batch})).experiment
        fit(experiment, workdir, quiet=True, tensorboard=False)
        logs.append([json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()])
    whole, cached = logs
    assert [row["step"] for row in cached] == [1, 2]
    for row, expected in zip(cached, whole, strict=True):
        assert row["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-5)
        assert row["train/gradient_norm"] == pytest.approx(expected["train/gradient_norm"], rel=1e-4)


def test_batch_norm_is_refused_before_anything_is_written():
    with pytest.raises(ConfigError, match=r"optimizer\.micro_batch .*batch_stats.*norm=group"):
        build(two_tower(**{"optimizer.micro_batch": 8, "model.encoder_a.norm": "batch"}))


def test_a_negative_micro_batch_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.micro_batch"):
        in_micro_batches(lambda: None, micro_batch=-1)
