"""Products in bfloat16: how far similarities, losses and gradients are from float64 follows from the rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alignment_jax import losses
from alignment_jax.core.errors import ConfigError
from alignment_jax.similarity import Implementation
from alignment_jax.similarity.products import matmul, weighted_einsum

U = 2.0**-8  # unit roundoff of bfloat16
# Of a product of unit vectors. Three products: each factor's rest below both parts, and the product of the small parts.
BOUNDS = {"float32": 0.0, "bfloat16_3x": 3 * U**2, "bfloat16": 2 * U + U**2}
N, D, TEMPERATURE = 40, 48, 0.07


def normalized(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def unit(seed, n=N, d=D):
    return normalized(np.random.default_rng(seed).normal(size=(n, d)))


def bound(precision):
    return BOUNDS[precision] + D * 2.0**-24


A = unit(0)
B = normalized(A + 0.5 * unit(1))


@pytest.mark.parametrize("precision", BOUNDS)
def test_products_are_as_exact_as_their_parts(precision):
    exact = A.astype(np.float64) @ B.astype(np.float64).T
    error = np.abs(np.asarray(jax.jit(matmul, static_argnums=2)(A, B, precision)) - exact).max()
    assert error <= bound(precision)
    if precision != "float32":
        assert error > 0.01 * BOUNDS[precision]  # it is not float32 by another name
    narrow = jnp.asarray(A, jnp.bfloat16)
    np.testing.assert_array_equal(matmul(narrow, narrow, precision), matmul(narrow, narrow))
    weight = np.abs(unit(2, N, N))
    error = np.abs(np.asarray(weighted_einsum("ij,jd->id", weight, B, precision)) - weight.astype(np.float64) @ B).max()
    assert error <= bound(precision)


def reference():
    """float64 losses [2, N] and weights [N, N] of the mean of both directions."""
    logits = A.astype(np.float64) @ B.astype(np.float64).T / TEMPERATURE
    rows, columns = (np.exp(x - x.max(axis=1, keepdims=True)) for x in (logits, logits.T))
    rows, columns = rows / rows.sum(axis=1, keepdims=True), columns / columns.sum(axis=1, keepdims=True)
    return -np.log([np.diag(rows), np.diag(columns)]), (rows + columns.T - 2 * np.eye(N)) / (N * TEMPERATURE)


@pytest.mark.parametrize("name", ["dense", "tiled", "gathered", "ring"])
@pytest.mark.parametrize("precision", ["bfloat16_3x", "bfloat16"])
def test_losses_and_gradients_are_within_the_rounding_of_the_products(name, precision):
    tile = None if name in ("dense", "gathered") else 3 if name == "ring" else 16
    options = {"similarity": Implementation(name, tile, precision), "temperature": TEMPERATURE}

    def run(a, b):
        axis = {"axis_name": "i"} if name in ("gathered", "ring") else {}
        value = lambda a, b: losses.reduce(*losses.infonce(a, b, **options, **axis), **axis)  # noqa: E731
        pair = losses.infonce(a, b, **options, **axis)
        return pair, jax.grad(value, (0, 1))(a, b)

    if name in ("gathered", "ring"):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))
        run = jax.shard_map(run, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
    pair, gradients = jax.jit(run)(A, B)
    expected, weights = reference()
    # A logit and the log of a sum of logits are off by the error of S each.
    assert np.abs(np.stack(pair) - expected).max() <= 2 * bound(precision) / TEMPERATURE
    for found, weight, other in ((gradients[0], weights, B), (gradients[1], weights.T, A)):
        assert found.dtype == jnp.float32
        exact = weight @ other / 2
        mass = np.abs(weight).sum(axis=1, keepdims=True)
        assert np.all(np.abs(found - exact) <= mass * (4 * bound(precision) / TEMPERATURE + bound(precision)))
        # Gradients are sums in float32, not bfloat16 numbers.
        assert np.mean(np.asarray(found) == np.asarray(found.astype(jnp.bfloat16), np.float32)) < 0.1


def test_every_loss_takes_a_precision():
    def values(precision, name):
        similarity = Implementation(name, 16 if name == "tiled" else None, precision)
        sigmoid = losses.sigmoid(A, B, scale=10.0, bias=-5.0, similarity=similarity)
        margin = losses.max_margin(A, B, margin=0.2, similarity=similarity)
        return np.stack([sigmoid, *margin])

    exact = values("float32", "dense")
    for name in ("dense", "tiled"):
        for precision in ("bfloat16_3x", "bfloat16"):
            error = np.abs(values(precision, name) - exact).max()
            # A candidate's term moves by at most 10 (sigmoid) or 2 (margin) times the error of S; sums have N.
            assert 0 < error <= 10 * N * bound(precision)


def test_what_is_refused():
    with pytest.raises(ConfigError, match=r"precision must be one of float32, bfloat16_3x, bfloat16, got 'bf16'"):
        Implementation(precision="bf16")
    with pytest.raises(ConfigError, match=r"pallas.*bfloat16_3x"):
        losses.infonce(A, B, similarity=Implementation("pallas", precision="bfloat16_3x"))
