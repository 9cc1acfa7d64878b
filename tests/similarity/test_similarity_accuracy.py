"""Values and gradients of every form against float64, for temperatures down to 0.001."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alignment_jax import losses

pytestmark = [pytest.mark.costly, pytest.mark.optimized]

FORMS = ("dense", "tiled:16", "tiled:64")
N, D = 40, 16  # 40 rows in tiles of 16: the last one is padded
F64 = np.float64


def embeddings(kind, n=N, d=D, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d))
    noise = {"random": 2.0, "near-perfect": 1e-3}.get(kind, 0.3)
    b = a + noise * rng.normal(size=(n, d))
    if kind == "adversarial":
        b = -b  # every sample's partner is its worst candidate
    if kind == "collapsed":
        a, b = 1 + 1e-3 * a, 1 + 1e-3 * b  # all similarities nearly equal
    return tuple((z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32) for z in (a, b))


def logsumexp(x, axis):
    top = x.max(axis)
    return top + np.log(np.exp(x - np.expand_dims(top, axis)).sum(axis))


def reference(a, b, temperature, *, where=None, smoothing=0.0, weights=(1.0, 1.0)):
    """(loss_ab, loss_ba, gradients by a, b and temperature of their weighted mean), by hand in float64."""
    a, b = a.astype(F64), b.astype(F64)
    n = len(a)
    where = np.ones(n, bool) if where is None else where
    keep = np.flatnonzero(where)
    a, b, inverse = a[keep], b[keep], 1 / np.broadcast_to(np.asarray(temperature, F64), n)[keep]
    m = len(keep)
    s = a @ b.T
    q = (1 - smoothing) * np.eye(m) + smoothing / m
    rows, columns = s * inverse[:, None], s * inverse[None, :]
    log_r = rows - logsumexp(rows, 1)[:, None]
    log_c = columns - logsumexp(columns, 0)[None, :]
    loss_ab, loss_ba = -(q * log_r).sum(1), -(q * log_c).sum(0)
    g_r, g_c = (0.5 * w * (np.exp(x) - q) / m for w, x in zip(weights, (log_r, log_c), strict=True))
    g_s = g_r * inverse[:, None] + g_c * inverse[None, :]
    g_inverse = (g_r * s).sum(1) + (g_c * s).sum(0)

    def spread(x):
        out = np.zeros((n, *x.shape[1:]))
        out[keep] = x
        return out

    return [spread(x) for x in (loss_ab, loss_ba, g_s @ b, g_s.T @ a, -g_inverse * inverse**2)]


def total(a, b, temperature, where, *, weights, smoothing=0.0, similarity, axis_name=None):
    """The weighted mean of the losses, and the losses."""
    common = dict(where=where, axis_name=axis_name)
    pair = losses.infonce(a, b, temperature=temperature, smoothing=smoothing, similarity=similarity, **common)
    return losses.reduce(*pair, weights=weights, **common), pair


@functools.cache
def compiled(similarity, weights, smoothing, devices):
    axis_name = "i" if devices > 1 else None
    options = dict(weights=weights, smoothing=smoothing, similarity=similarity, axis_name=axis_name)
    run = jax.value_and_grad(functools.partial(total, **options), (0, 1, 2), has_aux=True)
    if devices > 1:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("i",))
        run = jax.shard_map(run, mesh=mesh, in_specs=P("i"), out_specs=((P(), P("i")), P("i")))
    return jax.jit(run)


def ours(similarity, a, b, temperature, *, weights=(1.0, 1.0), where=None, smoothing=0.0, devices=1):
    return compiled(similarity, weights, smoothing, devices)(a, b, temperature, where)


@jax.jit
def log_softmax_form(a, b, temperature):
    def loss(a, b, temperature):
        s, i = jnp.matmul(a, b.T, precision="highest"), jnp.arange(len(a))
        pair = (
            -jax.nn.log_softmax(s / temperature[:, None], axis=1)[i, i],
            -jax.nn.log_softmax(s.T / temperature[:, None], axis=1)[i, i],
        )
        return losses.reduce(*pair), pair

    return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(a, b, temperature)


def errors(found, expected):
    """Largest errors of (losses, embeddings' gradients, temperature's gradient), on the reference's scale."""
    (_, pair), gradients = found

    def scale(*arrays):
        return max(max(np.abs(x).max() for x in arrays), 1e-30)

    values = max(np.abs(x - y).max() for x, y in zip(pair, expected[:2], strict=True))
    embedded = max(np.abs(x - y).max() for x, y in zip(gradients[:2], expected[2:4], strict=True))
    tempered = np.abs(gradients[2] - expected[4]).max()
    return (
        values / max(scale(*expected[:2]), 1.0),
        embedded / scale(*expected[2:4]),
        tempered / scale(expected[4]),
    )


TEMPERATURES = (0.001, 0.01, 0.07, 0.2, 1.0)
KINDS = ("random", "aligned", "near-perfect", "adversarial", "collapsed")


def check_accuracy(kind, forms, devices):
    """Errors at most those of jitted log_softmax, doubled, or 1e-6."""
    a, b = embeddings(kind)
    for temperature in TEMPERATURES:
        rows = np.full(N, temperature, np.float32)
        expected = reference(a, b, rows)
        common = errors(log_softmax_form(a, b, rows), expected)
        for similarity in forms:
            found = errors(ours(similarity, a, b, rows, devices=devices), expected)
            for name, error, usual in zip(("losses", "embeddings", "temperature"), found, common, strict=True):
                assert error <= max(1e-6, 2 * usual), (similarity, temperature, name, error, usual)


@pytest.mark.parametrize("kind", KINDS)
def test_infonce_is_as_exact_as_log_softmax(kind):
    check_accuracy(kind, FORMS, devices=1)


@pytest.mark.parametrize("kind", KINDS)
def test_infonce_on_devices_is_as_exact_as_log_softmax(kind):
    check_accuracy(kind, ("ring:3", "gathered:3"), devices=8)


@pytest.mark.parametrize("similarity", FORMS)
def test_per_row_temperature_mask_smoothing_and_weights(similarity):
    a, b = embeddings("random")
    rng = np.random.default_rng(1)
    temperature = rng.uniform(0.05, 0.3, N).astype(np.float32)
    where = rng.uniform(size=N) < 0.7
    options = dict(where=where, smoothing=0.1, weights=(1.4, 0.6))
    expected = reference(a, b, temperature, **options)
    found = errors(ours(similarity, a, b, temperature, **options), expected)
    assert found[0] <= 1e-6
    assert found[1] <= 2e-6
    assert found[2] <= 1e-5


@pytest.mark.parametrize("similarity", FORMS)
def test_a_negative_temperature_prefers_the_smallest_similarity(similarity):
    """Arrays cannot be refused while they are traced; every form then gives what the formula gives."""
    a, b = embeddings("random")
    rng = np.random.default_rng(2)
    temperature = np.float32(rng.uniform(0.05, 0.3, N) * rng.choice([-1, 1], N))
    options = dict(where=rng.uniform(size=N) < 0.7, smoothing=0.1, weights=(1.4, 0.6))
    found = errors(ours(similarity, a, b, temperature, **options), reference(a, b, temperature, **options))
    assert found[0] <= 1e-6
    assert found[1] <= 2e-6
    assert found[2] <= 1e-5


@pytest.mark.parametrize("n", [1, 2, 7, 16, 17, 33])
@pytest.mark.parametrize("tile", [4, 16])
def test_any_number_of_rows_and_any_tile(n, tile):
    a, b = embeddings("random", n=n)
    temperature = np.full(n, 0.1, np.float32)
    expected = reference(a, b, temperature)
    found = ours(f"tiled:{tile}", a, b, temperature)
    for x, y in zip(found[0][1], expected[:2], strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6)
    for x, y in zip(found[1][:2], expected[2:4], strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=2e-6)


def every_loss(similarity, where):
    def values(a, b):
        common = dict(where=where, similarity=similarity)
        pairs = (
            *losses.infonce(a, b, temperature=0.1, **common),
            *losses.max_margin(a, b, **common),
            losses.sigmoid(a, b, **common),
        )
        return sum(jnp.sum(x * (i + 1.0)) for i, x in enumerate(pairs)), pairs

    return jax.jit(jax.value_and_grad(values, (0, 1), has_aux=True))


@pytest.mark.parametrize("similarity", FORMS)
def test_all_rows_masked_give_zero(similarity):
    a, b = (np.full((N, D), np.nan, np.float32) for _ in "ab")
    (_, pairs), gradients = every_loss(similarity, np.zeros(N, bool))(a, b)
    for x in (*pairs, *gradients):
        np.testing.assert_array_equal(x, np.zeros_like(x))


@pytest.mark.parametrize("masked", [False, True])
def test_tiles_equal_the_whole_block_for_every_loss(masked):
    a, b = embeddings("random")
    where = np.arange(N) % 3 > 0 if masked else None
    (_, expected), gradients0 = every_loss("dense", where)(a, b)
    (_, found), gradients = every_loss("tiled:16", where)(a, b)
    for x, y in zip((*found, *gradients), (*expected, *gradients0), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-6 * np.abs(y).max())


@pytest.mark.parametrize("loss", ["max_margin", "sigmoid"])
@pytest.mark.parametrize("uniform", [True, False])
def test_pairwise_gradients_for_equal_and_unequal_cotangents(loss, uniform):
    """Equal ones are the case that the forward sweep prepares for; the others need a sweep of their own."""
    a, b = embeddings("aligned")
    weights = np.ones(N, np.float32) if uniform else np.linspace(0.5, 2.0, N, dtype=np.float32)

    def gradient(similarity):
        def mean(a, b, extra):
            argument = {"margin": extra} if loss == "max_margin" else {"scale": extra, "bias": -extra}
            parts = getattr(losses, loss)(a, b, similarity=similarity, **argument)
            return sum(jnp.mean(x * weights) for x in (parts if loss == "max_margin" else (parts,)))

        return jax.jit(jax.grad(mean, (0, 1, 2)))(a, b, jnp.float32(1.5))

    for x, y in zip(gradient("tiled:16"), gradient("dense"), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-6 * np.abs(y).max())


@pytest.mark.parametrize("similarity", ["dense", "tiled:16"])
def test_bfloat16_inputs_sum_in_float32(similarity):
    a, b = (jnp.asarray(z, jnp.bfloat16) for z in embeddings("random"))
    a32, b32 = (np.asarray(z, np.float32) for z in (a, b))
    temperature = np.full(N, 0.1, np.float32)
    expected = reference(a32, b32, temperature)
    (_, pair), gradients = ours(similarity, a, b, temperature)
    for x, y in zip(pair, expected[:2], strict=True):
        assert x.dtype == jnp.float32
        np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-6)
    for x, y in zip(gradients[:2], expected[2:4], strict=True):
        assert x.dtype == jnp.bfloat16
        # one rounding of the result and one of the weights, each 2^-9 relative
        np.testing.assert_allclose(np.asarray(x, np.float32), y, rtol=0, atol=2**-7 * np.abs(y).max())


@pytest.mark.slow
def test_second_use_of_a_side_adds_up():
    """The same embeddings as both sides: their two gradients add up as they do for the whole block."""
    a, _ = embeddings("random")

    def gradient(similarity):
        return jax.grad(lambda z: losses.reduce(*losses.infonce(z, z, similarity=similarity)))(a)

    np.testing.assert_allclose(gradient("tiled:16"), gradient("dense"), rtol=0, atol=1e-6)


def test_vmap_over_batches():
    a, b = (np.stack([embeddings("random", seed=seed)[side] for seed in (0, 1)]) for side in (0, 1))
    for similarity in ("dense", "tiled:16"):
        one = functools.partial(losses.infonce, similarity=similarity)
        found = jax.vmap(one)(a, b)
        for k in (0, 1):
            for x, y in zip(found, one(a[k], b[k]), strict=True):
                np.testing.assert_allclose(x[k], y, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["max_margin", "sigmoid"])
@pytest.mark.parametrize("similarity", ["dense", "tiled:5", "tiled:2"])
def test_gradients_exist_where_jax_counts_in_float64(name, similarity):
    z = np.random.default_rng(0).normal(size=(5, 3))

    def loss(z):
        found = getattr(losses, name)(z, z[::-1], similarity=similarity)
        return jnp.sum(jnp.stack(found) if isinstance(found, tuple) else found)

    expected = jax.grad(loss)(jnp.float32(z))
    with jax.enable_x64(True):
        found = jax.grad(loss)(jnp.asarray(z))
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)
