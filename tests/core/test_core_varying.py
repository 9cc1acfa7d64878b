"""Mesh axes that JAX tracks are read under every mapping; these names of JAX have moved before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alignment_jax.core.varying import result_like, vary_over, vary_together, varying_axes

X = np.arange(4, dtype=np.float32)


def traced(ask, *, check_vma=True):
    """The result of `ask(sharded, replicated)` inside `shard_map` over two devices."""
    found = []

    def local(sharded, replicated):
        found.append(ask(sharded, replicated))
        return sharded

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))
    jax.shard_map(local, mesh=mesh, in_specs=(P("i"), P()), out_specs=P("i"), check_vma=check_vma)(X, X)
    return found[0]


def test_the_axes_that_arrays_vary_over():
    assert traced(lambda x, y: varying_axes(x)) == {"i"}
    assert traced(lambda x, y: varying_axes({"a": y, "b": [y, x]})) == {"i"}
    assert traced(lambda x, y: varying_axes(y, 1.0, X)) == set()


def test_a_cast_adds_what_is_missing():
    assert traced(lambda x, y: varying_axes(vary_over(frozenset("i"), y))) == {"i"}
    assert traced(lambda x, y: [varying_axes(leaf) for leaf in vary_together((x, y))]) == [{"i"}, {"i"}]
    assert traced(lambda x, y: varying_axes(vary_together(y))) == set()
    assert traced(lambda x, y: varying_axes(vary_together(y, "i"))) == {"i"}


@pytest.mark.parametrize(("of", "axes"), [(0, {"i"}), (1, set())])
def test_a_kernels_result_varies_as_its_argument(of, axes):
    result = traced(lambda *arrays: result_like(arrays[of], (3, 1)))
    assert (result.shape, result.dtype, result.manual_axis_type.varying) == ((3, 1), jnp.float32, axes)


def test_nothing_is_tracked_elsewhere():
    assert traced(lambda x, y: varying_axes(x), check_vma=False) == set()
    assert varying_axes(X, jnp.asarray(X), jax.random.key(0), 1) == set()
    for way in (jax.jit, jax.vmap, lambda f: jax.vmap(f, axis_name="i")):
        found = []
        way(lambda x, found=found: found.append(varying_axes(x)) or x)(X)
        assert found == [set()]
