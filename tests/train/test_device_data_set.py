"""A training set that lives on the device gives the training that a loader gives, however its steps are cut."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly import device_data
from alignment_jax.assembly.build import build
from alignment_jax.assembly.device_data import device_tables
from alignment_jax.core.errors import ConfigError, RunError
from alignment_jax.train.checkpoint import checksums
from alignment_jax.train.device_data_set import DeviceDataSet, look_up
from alignment_jax.train.loop import fit, initial_state, placement_of
from alignment_jax.train.step import Placement, SingleSteps, make_step

pytestmark = pytest.mark.costly


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    path, owner = tmp_path_factory.mktemp("data") / "pairs.npz", np.repeat(np.arange(60), 2)
    image, text = rng.normal(size=(60, 12)).astype(np.float16), rng.normal(size=(120, 10)).astype(np.float16)
    image[::9], text[::7] = image[0], text[0]  # so that batches carry ids
    np.savez(path, image=image, text=text, text_to_image=owner, split=np.array((["train"] * 5 + ["val"]) * 10))
    return path


def make_config(data_file, **changes):
    config = configs.default()
    config.data = f"embeddings:{data_file}"
    config.model.dim, config.input.batch_size, config.train.devices = 8, 8, 1
    config.train.duration, config.log.interval = "3 epochs", "5 steps"
    config.update_from_flattened_dict(changes)
    return config


def split_with_views(n=11):
    """Several views of a, several b of each a, items that are not the rows of their array, float64 and float16."""
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(30, 4)) for _ in range(3)]
    a = data.ArrayColumn(views[0], rows=rng.permutation(30)[:n], views=tuple(views[1:]))
    b = data.ArrayColumn(rng.normal(size=(2 * n, 5)).astype(np.float16))
    ids = np.array([str(i) for i in range(n)])
    return data.PairSplit(a=a, b=b, b_to_a=np.repeat(np.arange(n), 2), ids=ids, cluster_size=np.arange(n))


def test_looked_up_batches_are_the_loaders():
    split = split_with_views()
    tables, numbers = device_tables(configs.default().input, split)
    rows = np.array([[3, 1, 10, -1], [0, -1, 7, 3]])
    for epoch in range(3):
        read, numbered = (data.TrainLoader(s, rows, seed=1, epoch=epoch) for s in (split, numbers))
        for expected, batch in zip(read, numbered, strict=True):
            found = look_up(tables, batch)
            assert found.keys() == expected.keys()
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
                assert found[name].dtype == expected[name].dtype


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_the_training_is_that_of_the_loader(devices, tmp_path, data_file):
    method = {"perturb.fusemix": 1.0, "perturb.sigma": 0.1, "weighting.signal": "variance"}
    results = []
    for resident in ("off", "on"):
        changes = {**method, "train.devices": devices, "input.resident": resident, "input.batch_size": 10}
        workdir = tmp_path / resident
        finished = fit(build(make_config(data_file, **changes)).experiment, workdir, quiet=True, tensorboard=False)
        log = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        results.append((finished, log))
    (expected, log0), (found, log) = results
    assert dataclasses.replace(found.position, seconds=0, best_value=0) == dataclasses.replace(
        expected.position, seconds=0, best_value=0
    )
    assert [row["step"] for row in log] == [row["step"] for row in log0]
    for row, row0 in zip(log, log0, strict=True):
        assert row.keys() == row0.keys()
        assert row["train/loss"] == pytest.approx(row0["train/loss"], rel=1e-5)
    for leaf, leaf0 in zip(jax.tree.leaves(found.variables), jax.tree.leaves(expected.variables), strict=True):
        np.testing.assert_allclose(leaf, leaf0, rtol=2e-5, atol=2e-5)


@pytest.mark.slow
@pytest.mark.optimized
def test_how_steps_are_put_together_does_not_change_a_bit(data_file):
    experiment = build(make_config(data_file, **{"weighting.signal": "variance"})).experiment
    placement = Placement(
        experiment.devices,
        lambda axis: make_step(experiment.objective, experiment.model.apply, experiment.optimizer, axis_name=axis),
    )
    rows = np.random.default_rng(0).permutation(50)[:48].reshape(6, 8)
    found = []
    for cut in ([6], [1, 1, 1, 1, 1, 1], [2, 4], [5, 1]):
        advance = DeviceDataSet(placement, experiment.tables, max_steps=6)
        state, done = placement.put_state(initial_state(experiment)), 0
        batches = list(experiment.batches(rows, 0, 0))
        for count in cut:
            state, metrics = advance(state, batches[done : done + count])
            done += count
        found.append((checksums(state), checksums(metrics)))
    assert found[1:] == found[:1] * 3


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("resident", ["on", "off"])
def test_a_step_transfers_nothing_but_its_batch(resident, devices, data_file):
    """Every other transfer would wait for the device, or make it wait."""
    changes = {"input.resident": resident, "train.devices": devices}
    experiment = build(make_config(data_file, **changes)).experiment
    placement = placement_of(experiment)
    steps = SingleSteps(placement) if experiment.tables is None else DeviceDataSet(placement, experiment.tables)
    state, (first, *others) = (
        placement.put_state(initial_state(experiment)),
        experiment.batches(np.random.default_rng(0).permutation(50)[:48].reshape(6, 8), 0, 0),
    )
    state, _ = steps(state, [first])
    with jax.transfer_guard("disallow"):
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed"):
            jax.jit(jnp.sin)(np.float32(1.0))  # so the guard works here
        for batch in others:
            state, metrics = steps(state, [batch])
            placement.sync_cpu_devices(metrics)
    assert int(state.step) == 6


@pytest.mark.slow
def test_the_devices_hold_two_batches_at_most():
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 40, lambda _, y: jnp.tanh(y @ x), x))
    started, running = [], []

    def put_batch(batch):
        running.append([not one.is_ready() for one in started])

    def run(state, batch):
        started.append(slow(jnp.full((700, 700), 1e-3)))
        return state, {"loss": started[-1]}, {}

    steps = SingleSteps(types.SimpleNamespace(put_batch=put_batch, run=run))
    for _ in range(6):
        steps(None, [{}])
    assert [sum(one) <= 1 for one in running] == [True] * 6
    assert any(one and one[-1] for one in running)  # while the step before still runs


@pytest.mark.slow
@pytest.mark.parametrize("resident", ["on", "off"])
def test_a_bad_step_is_reported_with_its_own_metrics(resident, tmp_path, data_file):
    experiment = build(make_config(data_file, **{"input.resident": resident})).experiment

    def poisoned(rows, epoch, first):
        for number, batch in enumerate(experiment.batches(rows, epoch, first), start=first):
            yield {**batch, "stat": np.full(len(batch["where"]), np.nan if number == 2 else number, np.float32)}

    def strength(step, stat, outputs):
        return outputs["temperature"] + 0.0 * jnp.where(jnp.isnan(stat), jnp.nan, 0.0)

    objective = dataclasses.replace(
        experiment.objective,
        anchor_scale=strength,
        extra_metrics=lambda step: {"marker": jnp.where(step == 2, jnp.nan, step)},
    )
    changed = dataclasses.replace(experiment, objective=objective, batches=poisoned)
    with pytest.raises(RunError, match=r"step 3: .*loss = nan.*marker = nan"):
        fit(changed, tmp_path, quiet=True, tensorboard=False)


def test_float16_becomes_float32_where_the_compiler_cannot_convert_it(monkeypatch):
    monkeypatch.setattr(device_data, "compiles_float16", lambda: False)
    tables, _ = device_tables(configs.default().input, split_with_views())
    assert tables["b"].dtype == np.float32


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.skipif(not device_data.compiles_float16(), reason="the compiler cannot convert float16")
def test_half_width_tables_stay_half_width(data_file):
    """A compiler that widens the table before it picks rows would need its memory twice over, at every call."""
    experiment = build(make_config(data_file)).experiment
    placement = Placement(
        experiment.devices,
        lambda axis: make_step(experiment.objective, experiment.model.apply, experiment.optimizer, axis_name=axis),
    )
    tables = {"a": np.zeros((100_000, 12), np.float16), "b": np.zeros((200_000, 10), np.float16)}
    advance = DeviceDataSet(placement, tables)
    batches = list(experiment.batches(np.random.default_rng(0).permutation(50)[:16].reshape(2, 8), 0, 0))
    compiled = advance.lower(initial_state(experiment), batches).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1 << 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input.resident": "yes"}, r"input\.resident is 'yes'"),
        (
            {"input.resident": "on", "data": "synthetic:train=8,val=4,test=4,size=16"},
            r"input\.resident is 'on'",
        ),
    ],
)
def test_data_that_cannot_be_on_the_device_is_refused(changes, message, data_file):
    config = make_config(data_file, **changes)
    if "data" in changes:
        config.model = configs.two_tower()
    with pytest.raises(ConfigError, match=message):
        build(config)


def test_auto_keeps_to_its_memory(data_file):
    assert build(make_config(data_file)).experiment.tables is not None
    assert build(make_config(data_file, **{"input.cache_mib": 0})).experiment.tables is None
