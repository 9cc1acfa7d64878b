"""Hubness corrections against NumPy in float64, under masks, an axis and half precision, and in linear memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from alignment_jax import retrieval
from alignment_jax.retrieval import hubness

MEAN_OF_LARGEST = {"nnn": (retrieval.nnn_bias, {"k": 5, "strength": 0.7}), "csls": (retrieval.csls_bias, {"k": 7})}
BIASES = {**MEAN_OF_LARGEST, "inverted_softmax": (retrieval.inverted_softmax_bias, {"temperature": 0.02})}
each_bias = pytest.mark.parametrize("name", BIASES)


def embeddings(seed, n, d=24):
    z = np.random.default_rng(seed).normal(size=(n, d))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def reference(name, candidates, bank):
    """The formula on the whole matrix, in float64."""
    s = candidates.astype(np.float64) @ bank.astype(np.float64).T
    options = BIASES[name][1]
    if name == "inverted_softmax":
        t = options["temperature"]
        top = s.max(axis=1)
        return top + t * np.log(np.mean(np.exp((s - top[:, None]) / t), axis=1))
    mean = np.sort(s, axis=1)[:, ::-1][:, : options["k"]].mean(axis=1)
    return (options["strength"] if name == "nnn" else 0.5) * mean


def bias(name, *arrays, **more):
    function, options = BIASES[name]
    return function(*arrays, **options, **more)


@pytest.mark.costly
@each_bias
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 4), (50, 700), (1100, 300), (40, 4097)])
def test_a_bias_is_its_formula(name, n, m):
    candidates, bank = embeddings(1, n), embeddings(2, m)
    found = bias(name, candidates, bank)
    assert found.dtype == jnp.float32
    # Rounding of a similarity of unit vectors: d products and sums of at most 1, and a few operations after it.
    np.testing.assert_allclose(found, reference(name, candidates, bank), atol=40 * np.finfo(np.float32).eps)


@pytest.mark.slow
@each_bias
def test_a_masked_row_is_a_row_that_is_not_there(name):
    candidates, bank = embeddings(3, 30), embeddings(4, 90)
    where = np.random.default_rng(5).random(90) < 0.4
    broken = np.where(where[:, None], bank, np.nan)
    found = jax.jit(functools.partial(bias, name))(candidates, broken, where=where)
    np.testing.assert_allclose(found, bias(name, candidates, bank[where]), atol=1e-6)
    few = np.arange(90) < 2
    np.testing.assert_allclose(bias(name, candidates, bank, where=few), bias(name, candidates, bank[:2]), atol=1e-6)
    gradient = jax.grad(lambda z: jnp.sum(bias(name, candidates, z, where=where)))(broken)
    assert np.isfinite(gradient).all()
    assert not np.any(gradient[~where])


@each_bias
def test_a_mask_without_rows_gives_no_bias_under_jit(name):
    found = jax.jit(functools.partial(bias, name))(embeddings(3, 4), embeddings(4, 9), where=np.zeros(9, bool))
    np.testing.assert_array_equal(found, np.zeros(4))


@pytest.mark.slow
@each_bias
@pytest.mark.parametrize("check_vma", [True, False])
def test_eight_devices_give_what_one_gives(name, check_vma):
    candidates, bank, where = embeddings(6, 64), embeddings(7, 160), np.arange(160) % 3 > 0
    rows = PartitionSpec("data")
    sharded = jax.shard_map(
        lambda c, b, w: bias(name, c, b, where=w, axis_name="data"),
        mesh=Mesh(np.array(jax.devices()[:8]), ("data",)),
        in_specs=rows,
        out_specs=rows,
        check_vma=check_vma,
    )
    expected = bias(name, candidates, bank, where=where)
    np.testing.assert_allclose(jax.jit(sharded)(candidates, bank, where), expected, atol=1e-6)


@pytest.mark.costly
@each_bias
def test_half_precision_is_only_that_of_the_inputs(name):
    candidates, bank = (jnp.asarray(embeddings(seed, 200), jnp.bfloat16) for seed in (8, 9))
    found = bias(name, candidates, bank)
    assert found.dtype == jnp.float32
    expected = reference(name, np.asarray(candidates, np.float32), np.asarray(bank, np.float32))
    np.testing.assert_allclose(found, expected, atol=40 * np.finfo(np.float32).eps)


@pytest.mark.slow
def test_folding_gives_the_corrected_scores():
    candidates, queries, bank = embeddings(10, 60), embeddings(11, 20), embeddings(12, 100)
    correction = retrieval.nnn_bias(candidates, bank)
    folded = retrieval.fold_bias(candidates, correction) @ retrieval.with_one(queries).T
    np.testing.assert_allclose(folded, candidates @ queries.T - np.asarray(correction)[:, None], atol=1e-6)
    half = retrieval.fold_bias(jnp.asarray(candidates, jnp.bfloat16), correction)
    np.testing.assert_array_equal(half[:, -1], -correction)  # not rounded to the inputs' precision


def test_a_constant_bias_changes_no_neighbour():
    queries, candidates = embeddings(13, 50), embeddings(14, 40)
    plain = retrieval.k_occurrence(queries, candidates, k=5)
    np.testing.assert_array_equal(retrieval.k_occurrence(queries, candidates, k=5, bias=np.full(40, 0.5)), plain)
    assert int(plain.sum()) == 250


@pytest.mark.parametrize("count", [2, 8])
def test_k_occurrence_on_several_devices_counts_alike(count, monkeypatch):
    monkeypatch.setattr(hubness, "TILE", 64)
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(333, 5)), rng.normal(size=(150, 5))
    candidates[60:90] = candidates[:30]  # ties
    bias = rng.normal(size=150)
    options = dict(k=7, bias=bias)
    found = retrieval.k_occurrence(queries, candidates, **options, devices=jax.devices()[:count])
    np.testing.assert_array_equal(found, retrieval.k_occurrence(queries, candidates, **options))


@pytest.mark.slow
def test_a_correction_lowers_the_skewness_of_hubs():
    """A direction that all queries share makes hubs of the candidates along it."""
    rng = np.random.default_rng(15)
    common = np.zeros(24)
    common[0] = 1.0
    queries, bank, candidates = (rng.normal(size=(n, 24)) * 0.3 + common for n in (300, 300, 200))
    before = retrieval.skewness(retrieval.k_occurrence(queries, candidates))
    for name in BIASES:
        after = retrieval.skewness(retrieval.k_occurrence(queries, candidates, bias=bias(name, candidates, bank)))
        assert after < before


def test_skewness_is_the_third_standardised_moment():
    x = np.random.default_rng(16).poisson(3, size=500)
    expected = np.mean((x - x.mean()) ** 3) / np.std(x) ** 3
    np.testing.assert_allclose(retrieval.skewness(x), expected, rtol=1e-5)
    assert retrieval.skewness(np.full(5, 3)) == 0.0


@pytest.mark.costly
@pytest.mark.optimized
@pytest.mark.parametrize("name", ["nnn", "inverted_softmax"])
def test_memory_is_linear(name):
    """100,000 candidates and a bank of 500,000: the matrix of similarities would take 200 GB."""
    shapes = [jax.ShapeDtypeStruct((n, 512), jnp.float32) for n in (100_000, 500_000)]
    memory = jax.jit(functools.partial(bias, name)).lower(*shapes).compile().memory_analysis()
    arguments = memory.argument_size_in_bytes
    assert memory.temp_size_in_bytes < 0.5 * 2**30
    assert arguments + memory.temp_size_in_bytes + memory.output_size_in_bytes < 2 * 10**9


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda z: retrieval.nnn_bias(z, z[:0]), "bank"),
        (lambda z: retrieval.nnn_bias(z, z, where=np.zeros(4, bool)), "bank"),
        (lambda z: retrieval.nnn_bias(z, z[:, :3]), "bank"),
        (lambda z: retrieval.csls_bias(z, z, k=0), "k must"),
        (lambda z: retrieval.csls_bias(z, z, where=np.ones(3, bool)), "where"),
        (lambda z: retrieval.inverted_softmax_bias(z, z, temperature=0.0), "temperature"),
        (lambda z: retrieval.nnn_bias(z.astype(int), z), "candidates"),
        (lambda z: retrieval.fold_bias(z, np.zeros(3)), "bias"),
        (lambda z: retrieval.k_occurrence(z, z, k=0), "k must"),
    ],
)
def test_bad_input_names_the_argument(wrong, named):
    with pytest.raises(ValueError, match=named):
        wrong(embeddings(17, 4))
