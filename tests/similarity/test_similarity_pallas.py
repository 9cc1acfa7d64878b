"""The TPU kernels, interpreted on CPU, against the whole block; and that they compile for a TPU as far as one can see
without having one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from float_bounds import agreement
from jax.sharding import PartitionSpec as P

from alignment_jax import losses
from alignment_jax.core.errors import ConfigError

pytestmark = pytest.mark.costly

N, D = 40, 16  # in tiles of 16 the last one is padded
AGREE = agreement(N, D, 0.05)  # the smallest temperature of the batch
WEIGHTS = (1.3, 0.7)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(N, D))
    a, b = (np.float32(z / np.linalg.norm(z, axis=1, keepdims=True)) for z in (a, a + rng.normal(size=(N, D))))
    temperature = np.float32(rng.uniform(0.05, 0.3, N) * np.where(np.arange(N) == 5, -1, 1))
    return a, b, temperature, rng.uniform(size=N) < 0.7


def differentiate(a, b, temperature, where, *, similarity, axis_name=None):
    def loss(a, b, temperature):
        common = dict(where=where, axis_name=axis_name)
        pair = losses.infonce(a, b, temperature=temperature, similarity=similarity, **common)
        return losses.reduce(*pair, weights=WEIGHTS, **common), pair

    (_, pair), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(a, b, temperature)
    return *pair, *gradients


def assert_equal(found, expected, share=AGREE):
    for x, y in zip(found, expected, strict=True):
        y = np.asarray(y, np.float32)
        np.testing.assert_allclose(np.asarray(x, np.float32), y, rtol=0, atol=share * np.abs(y).max())


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tile", [16, 64])
def test_kernels_equal_the_whole_block(tile, masked, batch):
    *arguments, where = batch
    run = {
        similarity: jax.jit(functools.partial(differentiate, similarity=similarity))(
            *arguments, where if masked else None
        )
        for similarity in ("dense", f"pallas:{tile}")
    }
    assert_equal(run[f"pallas:{tile}"], run["dense"])


@pytest.mark.slow
def test_bfloat16_is_summed_in_float32(batch):
    a, b, temperature, _ = batch
    arguments = jnp.asarray(a, jnp.bfloat16), jnp.asarray(b, jnp.bfloat16), temperature, None
    found, tiled = (
        jax.jit(functools.partial(differentiate, similarity=form))(*arguments) for form in ("pallas:16", "tiled:16")
    )
    assert [x.dtype for x in found] == [x.dtype for x in tiled]
    assert_equal(found[:2] + found[4:], tiled[:2] + tiled[4:])
    assert_equal(found[2:4], tiled[2:4], share=2**-7)  # weights and results are rounded to 8 bits


@pytest.mark.slow
def test_kernels_serve_the_rows_of_two_devices(batch):
    """Without replication checks: JAX's interpreter of kernels does not support them."""

    def local(*arguments):
        found = differentiate(*arguments, similarity="pallas:8", axis_name="i")
        return *found[:2], *(g / 2 for g in found[2:])

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))
    run = jax.shard_map(local, mesh=mesh, in_specs=P("i"), out_specs=P("i"), check_vma=False)
    whole = jax.jit(functools.partial(differentiate, similarity="dense"))
    assert_equal(jax.jit(run)(*batch), whole(*batch))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_kernels_lower_for_a_tpu(dtype, monkeypatch):
    """One kernel forward and one for each side's gradient; nothing is run."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    z, row = jax.ShapeDtypeStruct((1000, 768), dtype), jax.ShapeDtypeStruct((1000,), jnp.float32)
    step = jax.jit(lambda a, b, t: differentiate(a, b, t, None, similarity="pallas"))
    module = jax.export.export(step, platforms=["tpu"])(z, z, row).mlir_module()
    assert module.count("tpu_custom_call") == 3


def test_other_accelerators_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(ConfigError, match=r"pallas.*gpu.*'tiled'"):
        losses.infonce(jnp.eye(2), jnp.eye(2), similarity="pallas")


@pytest.mark.slow
def test_shapes_without_a_kernel_are_tiled(batch):
    a, b, _, where = batch
    for function in (losses.max_margin, losses.sigmoid, losses.infonce_with_statistics):
        forms = (jax.jit(functools.partial(function, similarity=f"{form}:16")) for form in ("pallas", "tiled"))
        found, tiled = (form(a, b, where=where) for form in forms)
        jax.tree.map(np.testing.assert_array_equal, found, tiled)
