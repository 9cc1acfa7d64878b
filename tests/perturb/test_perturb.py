import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import alignment_jax as aj
from alignment_jax.assembly.device_data import compiles_float16

pytestmark = pytest.mark.costly
FLOAT16 = pytest.mark.skipif(not compiles_float16(), reason="the compiler cannot convert float16")

gaussian, fusemix, row_keys = aj.perturb.gaussian, aj.perturb.fusemix, aj.perturb.row_keys
KEY = jax.random.key(3)


def latents(n=64, d=32, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(2.0, 5.0, (n, d)), jnp.float32)


def test_noise_has_the_asked_for_moments():
    noise = np.asarray(gaussian(KEY, jnp.zeros((500, 200)), sigma=0.3))
    # 1e5 draws: the standard error of the mean is 0.3 / sqrt(1e5), that of the deviation 0.3 / sqrt(2e5).
    assert abs(noise.mean()) < 5 * 0.3 / np.sqrt(1e5)
    assert abs(noise.std() - 0.3) < 5 * 0.3 / np.sqrt(2e5)
    rows, columns = np.corrcoef(noise[:100]), np.corrcoef(noise.T[:100])
    assert np.abs(rows - np.eye(100)).max() < 0.45
    assert np.abs(columns - np.eye(100)).max() < 0.3


def test_relative_scales_with_the_latents():
    z = latents()
    noise = gaussian(KEY, z, sigma=0.1, relative=True) - z
    expected = gaussian(KEY, z, sigma=0.1 * np.std(np.asarray(z, np.float64))) - z
    np.testing.assert_allclose(noise, expected, atol=2e-6)


def test_relative_with_a_known_scale():
    z, scale = latents(), np.linspace(0.5, 2.0, 32, dtype=np.float32)
    actual = gaussian(KEY, z, sigma=0.1, relative=True, scale=scale)
    np.testing.assert_allclose(actual - z, scale * (gaussian(KEY, jnp.zeros_like(z), sigma=0.1)), atol=2e-6)


def test_relative_ignores_masked_rows():
    z = latents()
    where = jnp.arange(64) < 48
    poisoned = jnp.where(where[:, None], z, jnp.nan)
    keys = row_keys(KEY, jnp.arange(64))
    actual = gaussian(keys, poisoned, sigma=0.1, relative=True, where=where)[:48]
    np.testing.assert_allclose(actual, gaussian(keys[:48], z[:48], sigma=0.1, relative=True), rtol=1e-6)


def test_relative_of_a_large_offset_keeps_its_digits():
    z = 1e4 + latents() / 100
    noise = np.asarray(gaussian(KEY, z, sigma=1.0, relative=True) - z)
    assert abs(noise.std() / np.std(np.asarray(z, np.float64)) - 1) < 0.05


def test_relative_of_constant_latents_adds_nothing():
    np.testing.assert_array_equal(gaussian(KEY, jnp.full((4, 3), 2.5), sigma=1.0, relative=True), np.full((4, 3), 2.5))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, pytest.param(jnp.float16, marks=FLOAT16)])
@pytest.mark.parametrize("relative", [False, True])
def test_sigma_zero_is_exact_and_the_type_stays(dtype, relative):
    z = latents().astype(dtype)
    actual = jax.jit(lambda sigma: gaussian(KEY, z, sigma=sigma, relative=relative))(0.0)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, z)


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_row_keys_make_noise_a_function_of_key_and_row(make_key):
    z = latents(n=12)
    whole = gaussian(row_keys(make_key(5), jnp.arange(12)), z, sigma=0.1)
    order = jnp.array([7, 2, 11])
    part = gaussian(row_keys(make_key(5), order), z[order], sigma=0.1)
    np.testing.assert_array_equal(part, whole[order])
    assert not np.array_equal(whole, gaussian(row_keys(make_key(6), jnp.arange(12)), z, sigma=0.1))


@pytest.mark.slow
def test_row_keys_make_noise_independent_of_the_number_of_devices():
    z, key = latents(n=16), jax.random.key(0)
    expected = gaussian(row_keys(key, jnp.arange(16)), z, sigma=0.1, relative=True)
    for count in (2, 8):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:count]), ("batch",))

        def local(z, rows):
            return gaussian(row_keys(key, rows), z, sigma=0.1, relative=True, axis_name="batch")

        spread = jax.shard_map(local, mesh=mesh, in_specs=(P("batch"), P("batch")), out_specs=P("batch"))
        np.testing.assert_allclose(spread(z, jnp.arange(16)), expected, rtol=1e-6, atol=1e-6)


def test_gradient_of_noise_is_the_identity():
    z = latents(n=4, d=3)
    gradient = jax.grad(lambda z: jnp.sum(gaussian(KEY, z, sigma=0.1, relative=True)))(z)
    np.testing.assert_array_equal(gradient, np.ones((4, 3)))


def test_noise_takes_any_number_of_axes():
    assert gaussian(row_keys(KEY, jnp.arange(2)), jnp.zeros((2, 4, 5, 3)), sigma=1.0).shape == (2, 4, 5, 3)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_fusemix_mixes_halves_with_one_weight(dtype):
    za, zb = latents(n=6).astype(dtype), latents(n=6, d=5, seed=1).astype(dtype)
    ma, mb = fusemix(za, zb, lam=0.3)
    assert ma.dtype == mb.dtype == dtype
    for mixed, z in ((ma, za), (mb, zb)):
        z = np.asarray(z, np.float64)
        np.testing.assert_allclose(
            np.asarray(mixed, np.float64), 0.3 * z[:3] + 0.7 * z[3:], rtol=1e-6 if dtype == jnp.float32 else 2**-8
        )


def test_fusemix_at_the_ends_returns_a_half():
    za, zb = latents(n=6), latents(n=6, d=5, seed=1)
    np.testing.assert_array_equal(fusemix(za, zb, lam=1.0)[0], za[:3])
    np.testing.assert_array_equal(fusemix(za, zb, lam=0.0)[1], zb[3:])


@pytest.mark.slow
def test_sample_lambda_is_beta():
    keys = jax.random.split(jax.random.key(1), 20_000)
    for alpha in (0.2, 1.0, 4.0):
        draws = np.asarray(jax.vmap(lambda key, alpha=alpha: aj.perturb.sample_lambda(key, alpha=alpha))(keys))
        assert draws.min() >= 0
        assert draws.max() <= 1
        variance = 1 / (4 * (2 * alpha + 1))  # of Beta(alpha, alpha)
        assert abs(draws.mean() - 0.5) < 5 * np.sqrt(variance / 20_000)
        assert abs(draws.var() / variance - 1) < 0.06


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: gaussian(KEY, jnp.zeros((3, 2), int), sigma=0.1), "z must"),
        (lambda: gaussian(KEY, jnp.zeros((3, 2)), sigma=-0.1), "sigma"),
        (lambda: gaussian(KEY, jnp.zeros((3, 2)), sigma=float("nan")), "sigma"),
        (lambda: gaussian(KEY, jnp.zeros((3, 2)), sigma=np.float32(-0.1)), "sigma"),
        (lambda: gaussian(KEY, jnp.zeros((1, 2)), sigma=jnp.ones((5, 1))), "sigma"),
        (lambda: gaussian(KEY, jnp.zeros((3, 2)), sigma=jnp.ones(3)), "sigma"),
        (lambda: gaussian(KEY, jnp.zeros((1, 2)), sigma=1.0, relative=True, scale=jnp.ones((5, 1))), "scale"),
        (lambda: fusemix(jnp.zeros((2, 2)), jnp.zeros((2, 2)), lam=np.float32(1.5)), "lam"),
        (lambda: fusemix(jnp.zeros((2, 2)), jnp.zeros((2, 2)), lam=jnp.float32(-1)), "lam"),
        (lambda: aj.perturb.sample_lambda(KEY, alpha=np.float32(0)), "alpha"),
        (lambda: gaussian(row_keys(KEY, jnp.arange(4)), jnp.zeros((3, 2)), sigma=0.1), "key"),
        (lambda: gaussian(jnp.zeros(3), jnp.zeros((3, 2)), sigma=0.1), "key"),
        (lambda: gaussian(KEY, jnp.zeros((3, 2)), sigma=0.1, scale=2.0), "scale"),
        (lambda: gaussian(KEY, jnp.zeros((3, 2)), sigma=0.1, relative=True, where=jnp.ones(3)), "where"),
        (lambda: row_keys(KEY, jnp.zeros(3)), "rows"),
        (lambda: row_keys(row_keys(KEY, jnp.arange(2)), jnp.arange(3)), "key"),
        (lambda: fusemix(jnp.zeros((3, 2)), jnp.zeros((3, 2)), lam=0.5), "even"),
        (lambda: fusemix(jnp.zeros((4, 2)), jnp.zeros((2, 2)), lam=0.5), "za and zb"),
        (lambda: fusemix(jnp.zeros((4, 2)), jnp.zeros((4, 2), int), lam=0.5), "zb"),
        (lambda: fusemix(jnp.zeros((4, 2)), jnp.zeros((4, 2)), lam=jnp.ones(2)), "lam"),
        (lambda: fusemix(jnp.zeros((4, 2)), jnp.zeros((4, 2)), lam=1.5), "lam"),
        (lambda: aj.perturb.sample_lambda(KEY, alpha=0.0), "alpha"),
    ],
)
def test_errors_name_the_argument(call, word):
    with pytest.raises(ValueError, match=word):
        call()
