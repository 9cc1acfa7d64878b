"""The memory plan: sizes from shapes, the program of the training, and the largest micro-batch that fits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import baselines
from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.assembly.device_data import compiles_float16
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError
from alignment_jax.report import parse_bytes
from alignment_jax.train.device_data_set import DeviceDataSet
from alignment_jax.train.memory_plan import MemoryPlan
from alignment_jax.train.start import placed_initial_state, placement_of

FLOAT = INT = 4  # bytes
HALF = 2 if compiles_float16() else FLOAT
ROWS = 16
SMALL = {
    "input.batch_size": ROWS,
    "input.resident": "off",
    "model.dim": 8,
    "model.blocks_b": 0,
    "optimizer.name": "sgd",
    "train.devices": 1,
    "train.duration": "1 epochs",
}


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "pairs.npz"
    image, text = rng.normal(size=(24, 12)).astype(np.float16), rng.normal(size=(24, 10)).astype(np.float32)
    np.savez(path, image=image, text=text, text_to_image=np.arange(24), split=np.array(["train"] * ROWS + ["val"] * 8))
    return path


def experiment_of(latents, **changes):
    config = configs.default()
    config.data = f"embeddings:{latents}"
    config.update_from_flattened_dict({**SMALL, **changes})
    return build(config).experiment


@pytest.fixture(scope="module")
def plan(latents):
    return MemoryPlan(experiment_of(latents))


def test_sizes_of_the_state(latents):
    """AdamW keeps two numbers of a parameter, accumulation a third, beside a few counters."""
    changes = {"optimizer.name": "adamw", "optimizer.ema": 0.9, "optimizer.accumulate": 2, "train.duration": "9 steps"}
    experiment = experiment_of(latents, **changes, **{"input.resident": "on"})
    params, _ = jax.eval_shape(experiment.model.init, jax.random.key(0), *experiment.first_batch)
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    found = MemoryPlan(experiment).state()
    assert (found.trained, found.frozen, found.frozen_bytes) == (count, 0, 0)
    assert found.trained_bytes == found.average_bytes == FLOAT * count
    assert 0 <= found.optimizer_bytes - 3 * FLOAT * count <= 16 * INT
    assert found.table_bytes == ROWS * 12 * HALF + ROWS * 10 * FLOAT
    assert found.total == sum(value for name, value in vars(found).items() if name.endswith("_bytes"))


def test_frozen_parameters_are_counted_apart(latents):
    """They have neither a gradient nor a state of the optimizer, and do not hinder micro-batches."""
    experiment = experiment_of(latents)

    def init(key, *inputs):
        return experiment.model.init(key, *inputs)[0], {"frozen": {"kernel": jnp.zeros((5, 7), jnp.bfloat16)}}

    model = dataclasses.replace(experiment.model, init=init)
    found, before = (MemoryPlan(dataclasses.replace(experiment, model=m)).state() for m in (model, experiment.model))
    assert (found.frozen, found.frozen_bytes) == (35, 70)
    assert dataclasses.replace(found, frozen=0, frozen_bytes=0) == before


@pytest.mark.parametrize(
    ("resident", "devices", "changes"),
    [
        ("on", 1, {"transport.weight": 0.1, "transport.batch_size": 5}),  # its rows are not those of the batch
        ("off", 2, {}),
        ("on", 2, {"train.shard": "parameters", "model.blocks_a": 0, "model.dim": 2048}),
    ],
    ids=["one", "two", "sharded"],
)
def test_the_program_is_that_of_the_training(resident, devices, changes, latents):
    options = {"input.resident": resident, "train.devices": devices, "optimizer.micro_batch": 4}
    experiment = experiment_of(latents, **options, **changes)
    placement = placement_of(experiment)
    state = placed_initial_state(experiment, placement)
    batch = next(iter(experiment.batches(np.arange(ROWS)[None], 0, 0)))
    if resident == "on":
        expected = DeviceDataSet(placement, experiment.tables).lower(state, [batch])
    else:
        expected = placement.run.lower(state, placement.put_batch(batch))
    plan = MemoryPlan(experiment)
    assert plan.rows == ROWS // devices
    assert plan.lowered(4).as_text() == expected.as_text()
    own = [leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(state.params)]
    assert plan.state().trained_bytes == sum(own)


def test_arguments_of_a_step_are_the_state_and_the_batch(plan):
    found, state = plan.step(0), plan.state()
    assert found.arguments == state.total + ROWS * ((12 + 10) * FLOAT + INT + 1)  # a, b, index, where
    assert found.aliased == state.total  # the state is donated
    assert found.total == found.arguments + found.outputs - found.aliased + found.temporaries


def test_the_largest_micro_batch_fits_and_twice_of_it_does_not(plan):
    assert plan.largest_micro_batch(plan.step(0).total) == 0
    limit = plan.step(2).total
    size = plan.largest_micro_batch(limit)
    assert size >= 2
    assert plan.step(size).total <= limit < plan.step(2 * size).total
    assert plan.largest_micro_batch(plan.state().total - 1) is None
    assert plan.step(ROWS) == dataclasses.replace(plan.step(0), micro_batch=ROWS)


def test_a_program_that_the_compiler_refuses_does_not_fit(latents, monkeypatch):
    class Refused:
        def compile(self):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    plan = MemoryPlan(experiment_of(latents))
    monkeypatch.setattr(plan, "lowered", lambda size: Refused())
    assert plan.step(0) is None
    assert plan.largest_micro_batch(1 << 40) is None


def test_models_that_need_the_whole_batch(recordings):
    tower = configs.default()
    tower.data, tower.model = "synthetic:train=8,val=8,test=8,size=16", configs.two_tower("convnet", "transformer")
    tower.input.image_size, tower.model.encoder_a.norm = 16, "batch"
    classifier = configs.load(f"configs/av_digits_bss.py:runlocal,data=av:{recordings}")
    for config in (tower, classifier):
        config.train.devices = 1
        plan = MemoryPlan(build(config).experiment)
        assert "optimizer.micro_batch" in plan.obstacle
        assert plan.state().trained > 0
        with pytest.raises(ConfigError, match=r"optimizer\.micro_batch"):
            plan.step(4)


def test_the_command_prints_what_to_type_next_and_writes_nothing(plan, latents, tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text("from alignment_jax import config\n\n\ndef get_config():\n    return config.default()\n")
    command = ["train", "--config", str(config), f"--config.data=embeddings:{latents}"]
    command += ["--workdir", str(tmp_path / "run"), *(f"--config.{name}={value}" for name, value in SMALL.items())]
    state = plan.state()
    for limit, batch, status, out, error in [
        (f"{plan.step(2).total}B", ROWS, 0, "--config.optimizer.micro_batch=2", ""),
        (f"{state.total}B", 1, 2, "optimizer.micro_batch=0", "input.batch_size"),
        (f"{state.total - 1}B", 1, 2, "optimizer.micro_batch=0", "--memory"),
        ("sixteen", ROWS, 2, "", "--memory"),
    ]:
        assert main([*command, "--plan", f"--memory={limit}", f"--config.input.batch_size={batch}"]) == status
        shown = capsys.readouterr()
        assert out in shown.out
        assert error in shown.err
        assert f"{state.trained:,}" in shown.out or limit == "sixteen"
    assert main([*command, "--memory=1GiB"]) == 2
    assert "--plan" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_plan_needs_no_closed_form(latents, capsys, monkeypatch):
    """Fine-tuned towers embed all of train for it, which takes minutes."""
    command = ["train", "--plan", "--config", f"configs/flickr8k_frozen.py:data=embeddings:{latents}"]
    monkeypatch.setattr(baselines, "fit_cca", None)
    monkeypatch.setattr(baselines, "cross_validate_cca", None)
    assert main(command) == 0
    assert "optimizer.micro_batch=0" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["16", "GiB", "-1GiB", "1 iB", "0.1B", "16GiBs"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="'"):
        parse_bytes(text)
