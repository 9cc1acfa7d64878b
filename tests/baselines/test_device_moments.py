"""Moments summed in float32 by chunks on several devices, against NumPy's float64."""

import dataclasses

import jax
import numpy as np
import pytest

from alignment_jax import baselines
from alignment_jax.baselines import device_moments as module
from alignment_jax.core import ConfigError

pytestmark = pytest.mark.optimized

U = 2.0**-24


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 64)


def drawn(n=1000, mean=0.0, views=1):
    """Correlated latents with captions of its own for each a-item; the rows drift, so that chunks have other means."""
    rng = np.random.default_rng(0)
    owner = np.sort(rng.integers(0, n // 2, size=n))
    code = rng.normal(size=(n // 2, 4)) + np.linspace(-1, 1, n // 2)[:, None]
    za = code @ rng.normal(size=(4, 12)) + rng.normal(size=(views, n // 2, 12))
    zb = code[owner] @ rng.normal(size=(4, 7)) + rng.normal(size=(n, 7))
    return [np.float32(mean + z) for z in (za, zb)], owner


def summed(latents, owner, **options):
    za, zb = latents
    return baselines.chunk_moments(lambda rows: (za[:, owner[rows]], zb[rows]), len(owner), **options)


@pytest.mark.parametrize(("mean", "views"), [(0.0, 1), (100.0, 1), (-3000.0, 2)])
def test_equal_to_numpy_within_the_rounding_of_a_chunk(mean, views):
    latents, owner = drawn(mean=mean, views=views)
    expected = baselines.paired_moments(*latents, b_to_a=owner)
    found = summed(latents, owner, devices=jax.devices())
    k = 64 * views + 4
    gamma, da, db = k * U / (1 - k * U), np.diag(expected.c_aa), np.diag(expected.c_bb)
    for name, x, y in (("c_aa", da, da), ("c_bb", db, db), ("c_ab", da, db)):
        error = np.abs(getattr(found, name) - getattr(expected, name))
        assert (error <= gamma * np.sqrt(np.outer(x, y))).all(), name
    for name, x in (("mean_a", da), ("mean_b", db)):
        assert (np.abs(getattr(found, name) - getattr(expected, name)) <= gamma * np.sqrt(x)).all(), name
    assert found.count == len(owner)


def test_the_same_bits_on_any_number_of_devices():
    latents, owner = drawn()
    found = [summed(latents, owner, devices=jax.devices()[:count]) for count in (1, 2, 3, 8)]
    for other in found[1:]:
        for field in dataclasses.fields(other):
            np.testing.assert_array_equal(getattr(other, field.name), getattr(found[0], field.name), field.name)


def test_parts_of_several_processes_merge_to_the_whole():
    latents, owner = drawn(n=200)  # 4 chunks
    parts = [summed(latents, owner, part=(k, 5)) for k in range(5)]
    assert parts[4] is None
    merged, whole = baselines.merge_moments(parts[:4]), summed(latents, owner)
    assert merged.count == whole.count == 200
    np.testing.assert_allclose(merged.c_ab, whole.c_ab, rtol=1e-12)
    np.testing.assert_allclose(merged.mean_a, whole.mean_a, rtol=1e-12)


def test_only_chunks_are_read_and_the_transform_runs_on_them():
    latents, owner = drawn(mean=5.0)
    read = []

    def rows(pairs):
        read.append((pairs[0], len(pairs)))
        return latents[0][0, owner[pairs]], latents[1][pairs]

    found = baselines.chunk_moments(rows, 1000, transform=lambda z: z - 5.0, devices=jax.devices()[:2])
    assert read == [(start, min(64, 1000 - start)) for start in range(0, 1000, 64)]
    np.testing.assert_allclose(found.mean_b, latents[1].mean(axis=0, dtype=np.float64) - 5.0, atol=1e-5)


def test_a_closed_form_of_them_is_that_of_the_pairs():
    latents, owner = drawn(mean=100.0)
    moments = summed(latents, owner, devices=jax.devices()[:2])
    for found, expected in zip(
        baselines.fit_cca_to_moments(moments, dim=4, shrinkage=0.1),
        baselines.fit_cca(*latents, b_to_a=owner, dim=4, shrinkage=0.1),
        strict=True,
    ):
        np.testing.assert_allclose(found.correlations, expected.correlations, rtol=1e-4)
        np.testing.assert_allclose(found.matrix, expected.matrix, rtol=1e-3, atol=1e-5)


def test_what_rounding_leaves_of_a_direction_is_not_inverted():
    latents, owner = drawn()
    latents[1][:, 3] = latents[1][:, 2]
    with pytest.raises(ConfigError, match="shrinkage"):
        baselines.fit_cca_to_moments(summed(latents, owner), dim=4, shrinkage=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z.__setitem__((70, 2), np.nan), "zb must be finite.* pairs 64 to 127"),
        (lambda z: z.__setitem__((0, 0), 1e30), "zb must be finite.* pairs 0 to 63"),
        (lambda z: z.fill(0.1), "zb must vary"),
    ],
)
def test_bad_rows_are_named(change, message):
    latents, owner = drawn()
    change(latents[1])
    with pytest.raises(ValueError, match=message):
        baselines.fit_cca_to_moments(summed(latents, owner), dim=4, shrinkage=0.1)
