"""Values and gradients of every form against float64, for temperatures down to 0.001.

How far a form may be from float64 follows from the arithmetic (`float_bounds`), so it is the same on every processor.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from float_bounds import agreement, infonce_reference, on_grid
from jax.sharding import PartitionSpec as P

from alignment_jax import losses

pytestmark = [pytest.mark.costly, pytest.mark.optimized]

FORMS = ("dense", "tiled:16", "tiled:64")
N, D = 40, 16  # 40 rows in tiles of 16: the last one is padded
DEVICES = 8
# How often the sums of two tiles are merged, at most: once a tile, and on a ring once more for every device.
MERGES = {"dense": 0, "tiled:16": 3, "tiled:64": 1, "gathered:3": 2 * DEVICES, "ring:3": 3 * DEVICES}


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


OUTPUTS = ("loss_ab", "loss_ba", "by a", "by b", "by temperature")
TEMPERATURES = (0.001, 0.01, 0.07, 0.2, 1.0)
KINDS = ("random", "aligned", "near-perfect", "adversarial", "collapsed")


def check(found, expected, about=""):
    """Losses and gradients within the bounds of `infonce_reference`, entry by entry."""
    (_, pair), gradients = found
    for name, x, y, bound in zip(OUTPUTS, (*pair, *gradients), *expected, strict=True):
        share = (np.abs(x - y) / bound).max()
        assert share <= 1, f"{about} {name}: {share:.2g} times the bound"


def check_accuracy(kind, exact_products, forms, devices):
    a, b = embeddings(kind)
    if exact_products:
        a, b = on_grid(a), on_grid(b)
    for temperature in TEMPERATURES:
        rows = np.full(N, temperature, np.float32)
        for form in forms:
            expected = infonce_reference(a, b, rows, merges=MERGES[form], exact_products=exact_products)
            check(ours(form, a, b, rows, devices=devices), expected, f"{form}, temperature {temperature}:")


@pytest.mark.slow
@pytest.mark.parametrize("exact_products", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_infonce_is_as_exact_as_float32_allows(kind, exact_products):
    """With exact products, only the rounding of the implementation is divided by the temperature."""
    check_accuracy(kind, exact_products, FORMS, devices=1)


@pytest.mark.slow
@pytest.mark.parametrize("exact_products", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_infonce_on_devices_is_as_exact_as_float32_allows(kind, exact_products):
    check_accuracy(kind, exact_products, ("ring:3", "gathered:3"), devices=DEVICES)


def test_the_bound_has_no_room_for_rounded_logits():
    """Divided by the temperature before they are subtracted, similarities have the rounding of numbers near 1/τ."""
    a, b = (on_grid(z) for z in embeddings("random"))
    temperature = np.full(N, 0.001, np.float32)
    values, bounds = infonce_reference(a, b, temperature, merges=MERGES["tiled:16"], exact_products=True)
    logits = np.float64((a @ b.T) / temperature[:, None])
    loss = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1) - np.diagonal(logits)
    assert (np.abs(loss - values[0]) > bounds[0]).any()


def test_the_bound_has_no_room_for_a_gradient_of_other_similarities():
    """The gradient's similarities one unit in the last place from those that the sums were made of."""
    a, b = (on_grid(z) for z in embeddings("aligned"))
    temperature = np.full(N, 0.001, np.float32)
    _, bounds = infonce_reference(a, b, temperature, merges=MERGES["tiled:16"], exact_products=True)
    s = a @ b.T
    share, other = (np.exp((np.float64(x) - s.max(1, keepdims=True)) / 0.001) for x in (s, np.nextafter(s, 2.0)))
    off = np.abs((other - share) @ b) * 1000 / (2 * N)  # the sums of "aligned" are 1
    assert (off > bounds[2]).any()


@pytest.mark.slow
@pytest.mark.parametrize("similarity", FORMS)
def test_per_row_temperature_mask_smoothing_and_weights(similarity):
    a, b = embeddings("random")
    rng = np.random.default_rng(1)
    temperature = rng.uniform(0.05, 0.3, N).astype(np.float32)
    where = rng.uniform(size=N) < 0.7
    options = dict(where=where, smoothing=0.1, weights=(1.4, 0.6))
    expected = infonce_reference(a, b, temperature, **options, merges=MERGES[similarity])
    check(ours(similarity, a, b, temperature, **options), expected)


@pytest.mark.parametrize("similarity", FORMS)
def test_a_negative_temperature_prefers_the_smallest_similarity(similarity):
    """Traced temperatures cannot be checked; every implementation then follows the formula."""
    a, b = embeddings("random")
    rng = np.random.default_rng(2)
    temperature = np.float32(rng.uniform(0.05, 0.3, N) * rng.choice([-1, 1], N))
    options = dict(where=rng.uniform(size=N) < 0.7, smoothing=0.1, weights=(1.4, 0.6))
    expected = infonce_reference(a, b, temperature, **options, merges=MERGES[similarity])
    check(ours(similarity, a, b, temperature, **options), expected)


@pytest.mark.parametrize(("n", "tile"), [(1, 4), (2, 16), (7, 4), (16, 16), (17, 16), (33, 4)])
def test_any_number_of_rows_and_any_tile(n, tile):
    a, b = embeddings("random", n=n)
    temperature = np.full(n, 0.1, np.float32)
    expected = infonce_reference(a, b, temperature, merges=-(-n // tile))
    check(ours(f"tiled:{tile}", a, b, temperature), expected)


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


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
def test_tiles_equal_the_whole_block_for_every_loss(masked):
    a, b = embeddings("random")
    where = np.arange(N) % 3 > 0 if masked else None
    (_, expected), gradients0 = every_loss("dense", where)(a, b)
    (_, found), gradients = every_loss("tiled:16", where)(a, b)
    for x, y in zip((*found, *gradients), (*expected, *gradients0), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=agreement(N, D, 0.1) * np.abs(y).max())


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["max_margin", "sigmoid"])
@pytest.mark.parametrize("uniform", [True, False])
def test_pairwise_gradients_for_equal_and_unequal_cotangents(loss, uniform):
    """Equal ones are the case that the forward sweep prepares for; the others need another sweep."""
    a, b = embeddings("aligned")
    weights = np.ones(N, np.float32) if uniform else np.linspace(0.5, 2.0, N, dtype=np.float32)

    def gradient(similarity):
        def mean(a, b, extra):
            argument = {"margin": extra} if loss == "max_margin" else {"scale": extra, "bias": -extra}
            parts = getattr(losses, loss)(a, b, similarity=similarity, **argument)
            return sum(jnp.mean(x * weights) for x in (parts if loss == "max_margin" else (parts,)))

        return jax.jit(jax.grad(mean, (0, 1, 2)))(a, b, jnp.float32(1.5))

    for x, y in zip(gradient("tiled:16"), gradient("dense"), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=agreement(N, D, 1 / 1.5) * np.abs(y).max())


@pytest.mark.parametrize("similarity", ["dense", "tiled:16"])
def test_bfloat16_inputs_sum_in_float32(similarity):
    a, b = (jnp.asarray(z, jnp.bfloat16) for z in embeddings("random"))
    a32, b32 = (np.asarray(z, np.float32) for z in (a, b))
    temperature = np.full(N, 0.1, np.float32)
    expected, bounds = infonce_reference(a32, b32, temperature, merges=MERGES[similarity])
    (_, pair), gradients = ours(similarity, a, b, temperature)
    for x, y, bound in zip(pair, expected[:2], bounds[:2], strict=True):
        assert x.dtype == jnp.float32
        assert (np.abs(x - y) <= bound).all()
    for x, y in zip(gradients[:2], expected[2:4], strict=True):
        assert x.dtype == jnp.bfloat16
        # one rounding of the result and one of the weights, each 2^-9 relative
        np.testing.assert_allclose(np.asarray(x, np.float32), y, rtol=0, atol=2**-7 * np.abs(y).max())


@pytest.mark.slow
def test_second_use_of_a_side_adds_up():
    """The same embeddings as both sides: their two gradients add up as they do for the whole block."""
    a, _ = embeddings("random")

    def gradient(similarity):
        return jax.jit(jax.grad(lambda z: losses.reduce(*losses.infonce(z, z, similarity=similarity))))(a)

    expected = gradient("dense")
    atol = agreement(N, D, 0.07) * np.abs(expected).max()
    np.testing.assert_allclose(gradient("tiled:16"), expected, rtol=0, atol=atol)


@pytest.mark.slow
def test_vmap_over_batches():
    a, b = (np.stack([embeddings("random", seed=seed)[side] for seed in (0, 1)]) for side in (0, 1))
    for similarity in ("dense", "tiled:16"):
        one = jax.jit(functools.partial(losses.infonce, similarity=similarity))
        found = jax.jit(jax.vmap(one))(a, b)
        for k in (0, 1):
            for x, y in zip(found, one(a[k], b[k]), strict=True):
                np.testing.assert_allclose(x[k], y, rtol=0, atol=agreement(N, D, 0.07) * np.abs(y).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["max_margin", "sigmoid"])
@pytest.mark.parametrize("similarity", ["dense", "tiled:5", "tiled:2"])
def test_gradients_exist_where_jax_counts_in_float64(name, similarity):
    z = np.random.default_rng(0).normal(size=(5, 3))

    def loss(z):
        found = getattr(losses, name)(z, z[::-1], similarity=similarity)
        return jnp.sum(jnp.stack(found) if isinstance(found, tuple) else found)

    expected = jax.jit(jax.grad(loss))(jnp.float32(z))
    with jax.enable_x64(True):
        found = jax.jit(jax.grad(loss))(jnp.asarray(z))
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)
