"""The loader follows its order; a sample depends only on (seed, epoch, index)."""

import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError
from alignment_jax.data.loader import sample_generator, sample_uniform


@pytest.fixture(scope="module")
def images():
    """Twelve pictures of several sizes with three numbered captions each."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (20 + i, 30 - i, 3), dtype=np.uint8) for i in range(12)]
    return data.PairSplit(
        a=data.ImageColumn(pictures),
        b=data.ArrayColumn(np.arange(36)[:, None], kind="text"),
        b_to_a=np.repeat(np.arange(12), 3),
        ids=np.array([f"i{i}" for i in range(12)]),
        label=np.arange(12) % 4,
        cluster_size_b=np.arange(36) + 1.0,
    )


@pytest.fixture(scope="module")
def arrays():
    values = np.arange(1, 11, dtype=np.float16)[:, None]
    return data.PairSplit(
        a=data.ArrayColumn(values, views=(-values,)),
        b=data.ArrayColumn(np.arange(1, 31, dtype=np.float32)[:, None]),
        b_to_a=np.repeat(np.arange(10), 3),
        ids=np.arange(10).astype(str),
        cluster_size=np.arange(10) + 5.0,
    )


def collect(split, rows, **options):
    options = {"seed": 3, "epoch": 1, **options}
    return list(data.TrainLoader(split, rows, **options))


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        for key in one:
            assert one[key].dtype == two[key].dtype
            np.testing.assert_array_equal(one[key], two[key])


ROWS = data.padded_rows(np.random.default_rng(5).permutation(12), 5)


def test_batch_rows():
    assert data.padded_rows(np.arange(5), 2).tolist() == [[0, 1], [2, 3], [4, -1]]
    assert data.padded_rows(np.arange(5), 2, drop_remainder=True).tolist() == [[0, 1], [2, 3]]
    assert data.padded_rows(np.arange(4), 2).shape == (2, 2)
    assert data.padded_rows(np.array([], int), 2).shape == (0, 2)
    assert data.padded_rows(np.arange(1), 4, drop_remainder=True).shape == (0, 4)


def test_rows_are_obeyed_exactly(images):
    rows = np.array([[7, 7, -1, 0], [-1, -1, -1, -1], [11, 3, 3, 7]])
    batches = collect(images, rows, transform_a=data.train_image(8))
    assert len(batches) == 3
    for row, batch in zip(rows, batches, strict=True):
        assert set(batch) == {"a", "b", "index", "where", "stat", "label"}
        assert batch["index"].tolist() == row.tolist()
        assert batch["where"].tolist() == (row >= 0).tolist()
        assert batch["a"].shape == (4, 8, 8, 3)
        assert batch["a"].dtype == np.uint8
        assert (batch["a"][row < 0] == 0).all()
        for i, index in enumerate(row):
            if index >= 0:
                assert batch["b"][i, 0] // 3 == index
                assert batch["stat"][i] == batch["b"][i, 0] + 1
                assert batch["label"][i] == index % 4
            else:
                assert batch["b"][i, 0] == batch["stat"][i] == batch["label"][i] == 0
    dtypes = {key: str(value.dtype) for key, value in batches[0].items()}
    assert dtypes == {
        "a": "uint8",
        "b": "int64",
        "index": "int32",
        "where": "bool",
        "stat": "float32",
        "label": "int32",
    }


def test_epoch_covers_every_sample_once(images):
    batches = collect(images, ROWS, transform_a=data.eval_image(8))
    seen = np.concatenate([batch["index"][batch["where"]] for batch in batches])
    assert sorted(seen.tolist()) == list(range(12))


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(images, threads):
    rows = np.tile(ROWS, (4, 1))
    options = {"transform_a": data.train_image(8)}
    assert_equal(collect(images, rows, threads=1, **options), collect(images, rows, threads=threads, **options))


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_resumed_epoch_continues_without_a_difference(images, start):
    options = {"transform_a": data.train_image(8)}
    loader = data.TrainLoader(images, ROWS, seed=3, epoch=1, start_step=start, **options)
    assert len(loader) == 3 - start
    assert_equal(collect(images, ROWS, **options)[start:], list(loader))


def test_processes_that_share_a_batch_make_the_same_batch(images):
    options = {"transform_a": data.train_image(8)}
    rows = data.padded_rows(np.arange(12), 8)
    parts = [collect(images, rows[:, half], **options) for half in (slice(0, 4), slice(4, 8))]
    joined = [{key: np.concatenate([one[key], two[key]]) for key in one} for one, two in zip(*parts, strict=True)]
    assert_equal(collect(images, rows, **options), joined)


def test_a_sample_is_the_same_at_every_position(images):
    options = {"transform_a": data.train_image(8)}
    here = collect(images, np.array([[4, 1], [9, 2]]), **options)[1]
    there = collect(images, np.array([[2, 9]]), **options)[0]
    for key in here:
        np.testing.assert_array_equal(here[key][::-1], there[key])


def test_seed_and_epoch_change_captions_and_pixels(images):
    rows = data.padded_rows(np.arange(12), 12)
    first = collect(images, rows, transform_a=data.train_image(8))[0]
    for change in ({"epoch": 2}, {"seed": 4}):
        other = collect(images, rows, transform_a=data.train_image(8), **change)[0]
        assert (first["b"] != other["b"]).any()
        assert (first["a"] != other["a"]).any()


def test_choice_first_is_the_same_in_every_epoch(arrays):
    rows = data.padded_rows(np.arange(10), 10)
    for epoch in range(3):
        batch = collect(arrays, rows, epoch=epoch, choice="first")[0]
        assert batch["b"][:, 0].tolist() == list(range(1, 31, 3))
        assert batch["a"][:, 0].tolist() == list(range(1, 11))


def test_all_captions_and_views_come_up_evenly(arrays):
    rows = data.padded_rows(np.arange(10), 10)
    captions, flipped, together = np.zeros(30), 0, 0
    for epoch in range(300):
        batch = collect(arrays, rows, epoch=epoch)[0]
        np.testing.assert_array_equal(abs(batch["a"][:, 0]), np.arange(1, 11))
        np.testing.assert_array_equal(batch["stat"], np.arange(10) + 5.0)
        chosen = batch["b"][:, 0].astype(int) - 1
        np.testing.assert_array_equal(chosen // 3, np.arange(10))
        captions[chosen] += 1
        flipped += int((batch["a"] < 0).sum())
        together += int(((batch["a"][:, 0] < 0) & (chosen % 3 == 0)).sum())
    # Binomial standard deviations: sqrt(300 / 3 * 2 / 3) = 8.2, sqrt(3000 / 4) = 27, sqrt(3000 * 5 / 36) = 20.
    assert abs(captions - 100).max() < 5 * 8.2
    assert abs(flipped - 1500) < 5 * 27
    assert abs(together - 500) < 5 * 20  # view and caption are drawn independently


def test_arrays_are_float32_and_need_no_threads(arrays):
    batch = collect(arrays, np.array([[0, -1]]))[0]
    assert (batch["a"].dtype, batch["b"].dtype) == (np.float32, np.float32)
    assert not hasattr(iter(data.TrainLoader(arrays, ROWS[:1] % 10, seed=0, epoch=0)), "get_state")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.arange(3)}, "rows must be integers"),
        ({"rows": np.zeros((1, 2))}, "rows must be integers"),
        ({"rows": np.array([[0, 12]])}, r"rows .*\[-1, 12\).*0 to 12"),
        ({"rows": np.array([[0, -2]])}, "rows must be in"),
        ({"threads": 0}, "threads .* 1"),
        ({"start_step": 2}, r"start_step .*\[0, 1\].*2"),
        ({"choice": "last"}, "choice .*random, first"),
    ],
)
def test_wrong_settings(images, change, message):
    with pytest.raises(ConfigError, match=message):
        data.TrainLoader(images, **{"rows": np.array([[0, 1]]), "seed": 0, "epoch": 0, **change})


def test_a_column_that_gives_no_arrays_needs_a_transform(images):
    split = images.replace(b=data.TextColumn(("x",) * 36))
    with pytest.raises(ConfigError, match=r"'text'.*encode_texts"):
        collect(split, ROWS, transform_a=data.eval_image(8))


def test_an_unfinished_epoch_can_be_left(images):
    loader = data.TrainLoader(images, np.tile(ROWS, (50, 1)), seed=0, epoch=0, transform_a=data.eval_image(8))
    assert next(iter(loader))["where"].all()


@pytest.mark.parametrize("threads", [1, 3])
def test_iterate_items(images, threads):
    batches = list(data.iterate_items(images.a, data.eval_image(8), 5, threads=threads))
    assert [where.sum() for _, where in batches] == [5, 5, 2]
    assert {items.shape for items, _ in batches} == {(5, 8, 8, 3)}
    items = np.concatenate([items[where] for items, where in batches])
    for i, item in enumerate(items):
        np.testing.assert_array_equal(item, data.eval_image(8)(images.a.read([i])[0], np.random.default_rng(0)))
    everything = np.concatenate([items[where] for items, where in data.iterate_items(images.b, None, 7)])
    np.testing.assert_array_equal(everything, images.b.read(np.arange(36)))


def test_cache_changes_nothing(tmp_path):
    import mock_data_sets as mock
    from PIL import Image

    rng = np.random.default_rng(0)
    spec = mock.pairs(tmp_path)
    for i in range(mock.N):
        pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"im{i}.png")
    split = data.load(spec).splits["train"]
    split = split.replace(b=data.ArrayColumn(np.zeros((len(split.b), 1))))
    limits = {"none": 0, "some": 2 * 24 * 32 * 3, "all": 1 << 20}
    results = {}
    for name, limit in limits.items():
        column = split.a.prepared(16, memory_limit=limit)
        assert column.read([0])[0].shape == (24, 32, 3)  # 60 x 80 reduced to a shorter side of 1.5 * 16
        rows = np.tile(np.arange(4), (3, 1))
        options = {"transform_a": data.train_image(16), "threads": 2}
        results[name] = collect(split.replace(a=column), rows, **options)
        if name == "all":
            assert column.read([1])[0] is column.read([1])[0]
        if name == "some":
            assert column.cache._bytes == limit
    assert_equal(results["none"], results["some"])
    assert_equal(results["none"], results["all"])


def test_sample_randomness():
    index = np.arange(20_000)
    uniform = sample_uniform(1, 2, index, 0)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 5 * 0.0021  # 1 / sqrt(12 * 20000)
    for other in (sample_uniform(2, 2, index, 0), sample_uniform(1, 3, index, 0), sample_uniform(1, 2, index, 1)):
        assert abs(np.corrcoef(uniform, other)[0, 1]) < 5 / np.sqrt(len(index))
    np.testing.assert_array_equal(sample_uniform(1, 2, index[::-1], 0), uniform[::-1])
    draws = {sample_generator(s, e, i, k).random() for s in (0, 2**63) for e in (0, 1) for i in (0, 1) for k in (0, 1)}
    assert len(draws) == 16
    # Streams are part of a run's identity: the same numbers on every machine.
    np.testing.assert_allclose(
        sample_uniform(0, 0, np.arange(2)), [0.1296456182997474, 0.16526896395580137], rtol=1e-15
    )
    assert sample_generator(0, 0, 0).random() == 0.011546754286331562
