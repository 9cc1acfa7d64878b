import numpy as np
import pytest

from alignment_jax.core.errors import ConfigError
from alignment_jax.train.batching import batch_rows, scoring_rows


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize(("n", "batch_size"), [(100, 10), (100, 12), (7, 16), (33, 5)])
def test_every_sample_is_shown_once_and_only_the_remainder_is_dropped(n, batch_size, devices):
    order = np.random.default_rng(0).permutation(n)
    rows = batch_rows(order, batch_size=batch_size, devices=devices)
    shown = rows[rows >= 0]
    size = min(batch_size, n)
    assert shown.tolist() == order[: n - n % size].tolist()
    assert rows.shape[1] % devices == 0
    assert np.all((rows >= 0).sum(axis=1) == size)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_halves_on_every_device_are_parts_of_the_global_halves(devices):
    order = np.arange(100, 124)
    rows = batch_rows(order, batch_size=12, devices=devices, halves=True)
    per_device = rows.reshape(len(rows), devices, 2, -1)
    first = per_device[:, :, 0].reshape(len(rows), -1)
    second = per_device[:, :, 1].reshape(len(rows), -1)
    for step, (x, y) in enumerate(zip(first, second, strict=True)):
        batch = order[12 * step : 12 * (step + 1)]
        assert x[x >= 0].tolist() == batch[:6].tolist()
        assert y[y >= 0].tolist() == batch[6:].tolist()
        assert np.array_equal(x >= 0, y >= 0)  # a sample is never mixed with padding


def test_the_width_does_not_depend_on_how_many_samples_are_shown():
    widths = {batch_rows(np.arange(k), batch_size=8, devices=2).shape[1] for k in (3, 8, 50)}
    assert widths == {8}


@pytest.mark.parametrize(("n", "halves"), [(0, False), (1, True)])
def test_too_few_samples_are_refused(n, halves):
    with pytest.raises(ConfigError, match="at least"):
        batch_rows(np.arange(n), batch_size=4, halves=halves)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize(("n", "batch_size"), [(100, 10), (100, 12), (7, 16), (33, 32), (1, 4), (600, 128)])
def test_scoring_shows_every_sample_once_in_batches_of_one_size(n, batch_size, devices):
    rows = scoring_rows(n, batch_size=batch_size, devices=devices)
    assert np.sort(rows[rows >= 0]).tolist() == list(range(n))
    assert rows.shape[1] % devices == 0
    sizes = (rows >= 0).sum(axis=1)
    assert sizes.max() <= batch_size
    assert sizes.max() - sizes.min() <= 1
    alone = scoring_rows(n, batch_size=batch_size)
    assert [row[row >= 0].tolist() for row in rows] == [row[row >= 0].tolist() for row in alone]
