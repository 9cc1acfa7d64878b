"""Numbers that no run can use are refused by name, before anything is read."""

import pytest

from alignment_jax import config as configs
from alignment_jax.assembly.allowed_values import check_settings
from alignment_jax.assembly.build import build
from alignment_jax.config.limits import check_limits
from alignment_jax.core.errors import ConfigError

WRONG = [
    ("perturb.sigma", float("nan")),
    ("margin.value", float("nan")),
    ("optimizer.learning_rate", float("inf")),
    ("optimizer.learning_rate", -1.0),
    ("optimizer.final_learning_rate", -1.0),
    ("optimizer.b1", 2.0),
    ("optimizer.momentum", 5.0),
    ("optimizer.drop_factor", -1.0),
    ("optimizer.layer_decay", 1.5),
    ("optimizer.ema", 1.0),
    ("optimizer.ema", -0.5),
    ("eval.patience", -1),
    ("eval.batch_size", 0),
    ("checkpoint.keep", -2),
    ("input.threads", 0),
    ("report.gallery", -3),
    ("model.dim", 0),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_the_line_names_the_setting(name, value):
    config = configs.default()
    config.update_from_flattened_dict({name: value})
    with pytest.raises(ConfigError, match=rf"^{name} must be .*got {value}$"):
        check_limits(config)


@pytest.mark.parametrize("change", [{"init": 5.0}, {"min": 0.6}, {"min": -1.0}, {"min": 0.0}])
def test_the_temperature_starts_within_its_bounds(change):
    config = configs.default()
    config.temperature.update(change)
    with pytest.raises(ConfigError, match=r"temperature\.init"):
        check_limits(config)


def test_an_unknown_implementation_of_similarities_is_an_error():
    config = configs.default()
    config.loss.similarity = "tild"
    with pytest.raises(ConfigError, match="tild"):
        check_settings(config)


def test_an_end_of_a_constant_smoothing_is_an_error():
    config = configs.default()
    config.smoothing.end = 0.5
    with pytest.raises(ConfigError, match=r"smoothing\.end"):
        check_limits(config)


@pytest.fixture
def config(embeddings):
    config = configs.default()
    config.data = f"embeddings:{embeddings}"
    config.input.batch_size, config.train.devices = 16, 1
    return config


def test_a_temperature_per_anchor_is_not_for_the_sigmoid(config):
    config.loss.name, config.temperature.schedule = "sigmoid", "mm_ts"
    with pytest.raises(ConfigError, match=r"temperature\.schedule=mm_ts"):
        build(config)


def test_an_update_takes_no_more_batches_than_there_are(config):
    config.train.duration, config.optimizer.accumulate = "6 steps", 8
    with pytest.raises(ConfigError, match=r"optimizer\.accumulate is 8"):
        build(config)


@pytest.mark.parametrize(
    ("duration", "note"),
    [
        (
            "5 epochs",
            "train.duration to '8 steps' or '12",
        ),
        ("9 steps", "train.duration to '8 steps' or '12"),
        ("6 epochs", ""),  # groups continue in the next epoch
    ],
)
def test_batches_that_make_no_update_are_counted_before_the_run(config, duration, note):
    config.train.duration, config.optimizer.accumulate = duration, 4
    notes = "\n".join(build(config).notes)
    assert note in notes
    assert ("no update" in notes) == bool(note)


def test_a_duration_of_very_many_epochs_is_counted_at_once(config):
    config.train.duration = "1e9 epochs"
    assert build(config).experiment.plan.total_steps == 2 * 10**9  # 40 samples in batches of 16


def test_settings_without_effect_give_a_note(config):
    config.input.batch_size, config.sampling.name = 5000, "probabilistic"
    notes = "\n".join(build(config).notes)
    assert "input.batch_size is 5000" in notes
    assert "sampling.name=probabilistic" in notes
    assert "val has" not in notes  # ten samples
    config.perturb.fusemix = 1.0  # mixes the first half of the batch with the second: there the order matters
    assert "sampling.name" not in "\n".join(build(config).notes)
    config.perturb.fusemix = 0.0
    config.input.batch_size = 16
    assert "sampling.name" not in "\n".join(build(config).notes)


def test_a_split_of_a_few_samples_is_mentioned(config):
    config.data = "synthetic:train=16,val=3,test=12,size=16"
    config.model = configs.two_tower()
    notes = "\n".join(build(config).notes)
    assert "val has 3 samples" in notes
    assert "test has" not in notes
