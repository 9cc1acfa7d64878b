"""The benchmark compares like with like: every form of a loss has the same value, and every form is timed."""

import numpy as np
import pytest

from alignment_jax.cli import benchmark_loss


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 16, 8))
    za, zb = np.float32(z / np.linalg.norm(z, axis=-1, keepdims=True))
    return za, zb, rng.uniform(0.1, 0.2, 16).astype(np.float32)


def test_forms_of_infonce_have_one_value(batch):
    expected = benchmark_loss.infonce_loss("tiled:8")(*batch)
    for form in (
        benchmark_loss.log_softmax_loss,
        benchmark_loss.log_sum_exp_loss,
        benchmark_loss.infonce_loss("dense"),
    ):
        np.testing.assert_allclose(form(*batch), expected, rtol=1e-6)


def test_every_form_is_timed():
    forms = [
        benchmark_loss.jax_form("tiled", benchmark_loss.infonce_loss("tiled")),
        benchmark_loss.products_form(),
    ]
    seconds = benchmark_loss.time_forms(forms, 512, 512, rounds=1)
    assert set(seconds) == {"tiled", "four products"}
    assert all(value > 0 for value in seconds.values())


def test_memory_of_the_textbook_form_is_quadratic():
    plain = [benchmark_loss.compiled_memory(n, 1, "log_softmax") for n in (1024, 2048)]
    assert plain[1] > 3 * plain[0]
