"""Latents without partners: read, checked, drawn for each step; used by method=sotalign."""

import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly.build import build, with_seed
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.train.device_data_set import look_up

RNG = np.random.default_rng(0)
PAIRED = {
    "a": RNG.normal(size=(24, 5)).astype("f4"),
    "b": RNG.normal(size=(24, 4)).astype("f4"),
    "split": np.array(["train"] * 16 + ["val"] * 8),
}
UNPAIRED = {"a_unpaired": RNG.normal(size=(9, 5)).astype("f4"), "b_unpaired": RNG.normal(size=(30, 4)).astype("f4")}


@pytest.fixture
def build_with(tmp_path):
    def built(arrays, **changes):
        np.savez(tmp_path / "pairs.npz", **{**PAIRED, **arrays})
        config = configs.default()
        config.data = f"embeddings:{tmp_path}/pairs.npz"
        config.model.dim, config.model.blocks_a, config.model.blocks_b = 3, 0, 0
        config.input.batch_size, config.train.devices = 8, 1
        config.init.shrinkage, config.init.dim = "0.5", "2"
        configs.apply_methods(config, "sotalign")
        config.transport.batch_size = 6
        config.update_from_flattened_dict(changes)
        return build(config)

    return built


def drawn(experiment, epoch, first):
    """(a, b) of every step of an epoch from `first` on, as latents."""
    rows = np.arange(16).reshape(2, 8)
    batches = list(experiment.batches(rows, epoch, first))
    if experiment.tables is not None:
        batches = [look_up(experiment.tables, batch) for batch in batches]
    return [tuple(np.asarray(batch[name]) for name in UNPAIRED) for batch in batches]


@pytest.mark.parametrize("resident", ["on", "off"])
def test_draws_depend_on_seed_epoch_and_step_alone(resident, build_with):
    built = build_with(UNPAIRED, **{"input.resident": resident})
    first, second = drawn(built.experiment, 0, 0)
    for found, name in zip(first, UNPAIRED, strict=True):
        pool = {tuple(row) for row in UNPAIRED[name].tolist()}
        rows = {tuple(row) for row in found.tolist()}
        assert found.shape == (6, UNPAIRED[name].shape[1])
        assert rows < pool
        assert len(rows) == 6  # without replacement
    (resumed,) = drawn(built.experiment, 0, 1)
    np.testing.assert_array_equal(resumed[0], second[0])
    others = [*drawn(with_seed(built, 1).experiment, 0, 0), *drawn(built.experiment, 1, 0), second]
    assert not any(np.array_equal(first[1], other[1]) for other in others)
    assert not [line for line in built.notes if "unpaired" in line]


def test_where_the_latents_are_does_not_change_the_draws(build_with):
    on, off = (drawn(build_with(UNPAIRED, **{"input.resident": r}).experiment, 3, 0) for r in ("on", "off"))
    for x, y in zip(on, off, strict=True):
        np.testing.assert_array_equal(x[0], y[0])


@pytest.mark.parametrize("missing", [["b_unpaired"], ["a_unpaired", "b_unpaired"]])
def test_a_side_without_unpaired_latents_uses_those_of_train_and_says_so(missing, build_with):
    built = build_with({name: array for name, array in UNPAIRED.items() if name not in missing})
    (line,) = [line for line in built.notes if "unpaired" in line]
    assert all(name in line for name in missing)
    found = drawn(built.experiment, 0, 0)[0][1]
    train = {tuple(row) for row in PAIRED["b"][:16].tolist()}
    assert {tuple(row) for row in found.tolist()} <= train


def with_bad_row(array):
    array = array.copy()
    array[3, 1] = np.nan
    return array


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a_unpaired": np.ones((3, 4), "f4")}, r"pairs\.npz.*image_unpaired.*image"),
        ({"text_unpaired": np.ones(4, "f4")}, r"pairs\.npz.*text_unpaired"),
        ({"b_unpaired": np.ones((3, 4), "i4")}, r"pairs\.npz.*text_unpaired"),
        ({"b_unpaired": with_bad_row(UNPAIRED["b_unpaired"])}, r"pairs\.npz.*text_unpaired row 3"),
    ],
)
def test_unpaired_latents_that_do_not_fit_are_named(arrays, message, build_with):
    with pytest.raises(DataError, match=message):
        build_with(arrays)


def test_bad_rows_may_be_skipped(tmp_path):
    np.savez(tmp_path / "e.npz", **PAIRED, b_unpaired=with_bad_row(UNPAIRED["b_unpaired"]))
    source = data.load(f"embeddings:{tmp_path / 'e.npz'}", on_bad_sample="skip")
    (column,) = source.unpaired.values()
    np.testing.assert_array_equal(column.read(np.arange(29)), np.delete(UNPAIRED["b_unpaired"], 3, axis=0))


@pytest.mark.parametrize("name", ["epsilon", "teacher_epsilon", "iterations", "batch_size", "weight"])
def test_numbers_out_of_range_are_named(name, build_with):
    with pytest.raises(ConfigError, match=rf"transport\.{name}"):
        build_with(UNPAIRED, **{f"transport.{name}": -1 if name in ("iterations", "batch_size") else -1.0})


def test_other_unpaired_latents_are_other_training_data(build_with):
    def digests(arrays):
        source = build_with(arrays).source
        return data.fingerprints(source)

    one, none = digests(UNPAIRED), digests({})
    other = digests({**UNPAIRED, "a_unpaired": UNPAIRED["a_unpaired"] + 1})
    assert one["val"] == other["val"] == none["val"]
    assert len({one["train"], other["train"], none["train"]}) == 3
