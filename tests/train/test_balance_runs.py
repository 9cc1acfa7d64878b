"""Whole runs with every balancing method: gaps in the data, orders by scores, interruptions, several devices."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from shared_runs import SharedRun

from alignment_jax import config as configs
from alignment_jax.assembly.balance import BALANCE
from alignment_jax.assembly.build import build, load_source
from alignment_jax.cli.main import main
from alignment_jax.config.recipes import BALANCING
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.checkpoint import checksums
from alignment_jax.train.loop import placement_of

pytestmark = pytest.mark.costly

N, CLASSES = 60, 3
# How the loss grows on these data without a method is no question here; all have to train to finite numbers.
METHODS = [name for name in BALANCE if name != "none"]
STATEFUL = ("agm", "pmr", "gradient_blending", "qmf")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """modalities -> SPEC of features of unequal use."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, N)
    split = np.array((["train"] * 4 + ["val", "test"]) * (N // 6))
    arrays = {}
    for name, width, noise in zip("abc", (6, 5, 4), (0.5, 1.0, 3.0), strict=True):
        centre = rng.normal(size=(CLASSES, width))
        arrays[name] = (centre[label] + noise * rng.normal(size=(N, width))).astype(np.float32)
    folder, found = tmp_path_factory.mktemp("features"), {}
    for count in (2, 3):
        path = folder / f"{count}.npz"
        np.savez(path, **{name: arrays[name] for name in "abc"[:count]}, label=label, split=split)
        found[count] = f"features:{path}"
    return found


def settings(spec, name, count, **changes):
    config = configs.default()
    config.data = spec
    encoder = {"name": "mlp", "widths": (8,), "dropout": 0.2}
    config.model = configs.fusion_classifier(*(dict(encoder) for _ in range(count)))
    config.eval.metric = "val/accuracy"
    config.input.batch_size, config.train.devices, config.train.duration = 8, 1, "12 steps"
    config.eval.interval, config.checkpoint.interval, config.log.interval = "6 steps", "2 steps", "1 steps"
    config.balance.interval, config.balance.entropy, config.balance.held_out = "2 steps", "6 steps", 0.4
    if name != "none":
        configs.apply_balance(config, name)
    config.update_from_flattened_dict(changes)
    return config


def made(config):
    """The run on data in which 30 % of the samples lack the second modality."""
    source = load_source(config)
    splits = {}
    for name, split in source.splits.items():
        has = np.arange(len(split)) % 10 >= 3
        splits[name] = dataclasses.replace(split, present={"b": has})
    experiment = build(config, source=dataclasses.replace(source, splits=splits)).experiment
    return SharedRun(experiment, placement_of(experiment))


def losses(workdir):
    return [json.loads(line)["train/loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


class _Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_three_modalities_with_gaps_in_the_order_of_recycled_scores(name, features, tmp_path):
    """Interrupted inside an epoch, a run ends with the same bits; on eight devices with the same losses."""
    changes = {"sampling.name": "probabilistic", "sampling.scores": "recycled"}
    run = made(settings(features[3], name, 3, **changes))
    whole = run.fit(tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert all(np.isfinite(value) for row in rows for value in row.values())
    count = iter(range(1000))

    def dying(rows, epoch, first):
        for batch in run.experiment.batches(rows, epoch, first):
            if next(count) == 7:
                raise _Killed
            yield batch

    with pytest.raises(_Killed):
        run.fit(tmp_path / "killed", batches=dying)
    resumed = run.fit(tmp_path / "killed")
    assert checksums(resumed.variables) == checksums(whole.variables)
    assert (tmp_path / "killed" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    if name in STATEFUL:
        assert jax.tree.leaves(run.experiment.objective.init()["objective"])


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_modalities_on_eight_devices_train_as_on_one(name, features, tmp_path):
    changes = {"sampling.name": "curriculum", "sampling.epochs": 2, "optimizer.accumulate": 2}
    found = {}
    for devices in (1, 8):
        made(settings(features[2], name, 2, **changes, **{"train.devices": devices})).fit(tmp_path / str(devices))
        found[devices] = losses(tmp_path / str(devices))
    np.testing.assert_allclose(found[8], found[1], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ogm_ge", "mmpareto", "qmf"])
def test_a_sharded_state_trains_as_a_whole_one(name, features, tmp_path, monkeypatch):
    monkeypatch.setattr("alignment_jax.train.parameter_sharding.SMALLEST", 8)
    monkeypatch.setattr("alignment_jax.train.parameter_sharding.sharded_dimension.__kwdefaults__", {"smallest": 8})
    found = {}
    for shard in ("none", "parameters"):
        made(settings(features[2], name, 2, **{"train.devices": 8, "train.shard": shard})).fit(tmp_path / shard)
        found[shard] = losses(tmp_path / shard)
    np.testing.assert_allclose(found["parameters"], found["none"], rtol=1e-4)


def test_a_method_that_the_run_does_not_fit_is_refused_in_one_line(features, tmp_path):
    config = settings(features[2], "none", 2, **{"balance.name": "qmf"})
    with pytest.raises(ConfigError, match=r"model\.fusion=confidence"):
        build(config)
    config = settings(features[2], "mmpareto", 2, **{"classification.weight_b": 0.0})
    with pytest.raises(ConfigError, match=r"classification\.weight_b"):
        build(config)
    aligner = configs.default()
    aligner.balance.name = "ogm_ge"
    with pytest.raises(ConfigError, match=r"balance\.name=ogm_ge .*fusion_classifier"):
        build(aligner)
    with pytest.raises(ConfigError, match=r"method agm .*fusion_classifier"):
        configs.apply_methods(configs.default(), "agm")


def test_a_comparison_takes_every_method_beside_the_orders(features, repository, monkeypatch):
    from alignment_jax.cli import compare as command

    found = {}

    def record(folder, wanted, **_):
        found.update({name: wanted.config_of(name) for name in wanted.methods})
        return ""

    monkeypatch.setattr(command, "compare", record)
    path = f"{repository}/configs/av_digits_bss.py:inputs=features,data={features[2]}"
    names = [*BALANCING, "shuffle", "curriculum+agm"]
    more = ["--config.optimizer.learning_rate=0.25", "--config.balance.alpha=0.125"]
    assert main(["compare", f"--config={path}", f"--methods={','.join(names)}", "--workdir=never_made", *more]) == 0
    for name, config in found.items():
        own = "agm" if "agm" in name else name
        assert config.balance.name == BALANCING.get(own, {"balance.name": "none"})["balance.name"]
        assert (config.optimizer.learning_rate, config.balance.alpha) == (0.25, 0.125)
    assert found["curriculum+agm"].sampling.name == "curriculum"
    assert found["qmf"].model.fusion == "confidence"
    assert not found["ogm"].balance.noise
