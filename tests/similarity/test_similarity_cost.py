"""Memory and products of the compiled programs: compiled only, never run, so the numbers are exact and repeat."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from float_bounds import agreement, on_grid
from jax.sharding import PartitionSpec as P
from products import contains, products, scan_bodies, waiting

from alignment_jax import losses, weighting
from alignment_jax.core.errors import ConfigError
from alignment_jax.similarity.implementation import Implementation, resolve

pytestmark = [pytest.mark.costly, pytest.mark.optimized]

MIB = 2**20
D = 512
LOSSES = {
    "infonce": lambda a, b, **kw: losses.reduce(*losses.infonce(a, b, **kw), axis_name=kw.get("axis_name")),
    "max_margin": lambda a, b, **kw: losses.reduce(*losses.max_margin(a, b, **kw), axis_name=kw.get("axis_name")),
    "sigmoid": lambda a, b, **kw: losses.reduce(losses.sigmoid(a, b, **kw), axis_name=kw.get("axis_name")),
}


def gradient(name, **options):
    return jax.grad(lambda a, b: LOSSES[name](a, b, **options), (0, 1))


def compiled(name, n, d=D, devices=None, **options):
    shape = jax.ShapeDtypeStruct((n, d), jnp.float32)
    if devices is None:
        return jax.jit(gradient(name, **options)).lower(shape, shape).compile()
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("i",))
    run = jax.shard_map(gradient(name, axis_name="i", **options), mesh=mesh, in_specs=P("i"), out_specs=P("i"))
    return jax.jit(run).lower(shape, shape).compile()


def temporary(program):
    return program.memory_analysis().temp_size_in_bytes / MIB


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_tiled_memory_is_linear_in_the_batch(name):
    sizes = (4096, 32768)
    used = [temporary(compiled(name, n, similarity="tiled")) for n in sizes]
    for n, mib in zip(sizes, used, strict=True):
        assert mib <= 3 * 4 * n * D / MIB + 32
    assert used[1] <= 8.2 * used[0]


def test_tiles_avoid_the_whole_block():
    assert temporary(compiled("infonce", 4096, similarity="dense")) >= 4 * 4096**2 / MIB


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_ring_of_eight_holds_its_shard_and_gathers_nothing(name):
    program = compiled(name, 32768, devices=8, similarity="ring")
    assert temporary(program) <= 64
    text = program.as_text()
    assert "collective-permute" in text
    assert not re.search(r"all-gather|all-to-all", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_gathered_tiles_hold_one_copy_of_the_other_side(name):
    program = compiled(name, 32768, devices=8, similarity="gathered")
    assert temporary(program) <= 256
    assert "all-gather" in program.as_text()


@pytest.mark.parametrize(("name", "forward", "both"), [("infonce", 1, 4), ("max_margin", 1, 3), ("sigmoid", 1, 3)])
def test_number_of_large_products(name, forward, both):
    z = jax.ShapeDtypeStruct((256, 32), jnp.float32)
    large = 64 * 64 * 32
    value = jax.make_jaxpr(lambda a, b: LOSSES[name](a, b, similarity="tiled:64"))(z, z)
    assert products(value.jaxpr, large) == forward
    assert products(jax.make_jaxpr(gradient(name, similarity="tiled:64"))(z, z).jaxpr, large) == both


@pytest.mark.parametrize("similarity", ["tiled:64", "dense"])
@pytest.mark.parametrize("function", [losses.infonce_with_statistics, losses.max_margin_with_statistics])
def test_losses_and_statistics_share_their_sweep(function, similarity):
    z = jax.ShapeDtypeStruct((256, 32), jnp.float32)
    together = jax.make_jaxpr(lambda a, b: function(a, b, similarity=similarity))(z, z)
    assert products(together.jaxpr, 64 * 64 * 32) == 1


@pytest.mark.parametrize("name", LOSSES)
def test_transfers_and_products_of_a_ring_step_do_not_wait_for_each_other(name):
    """Neither needs a result of the other, so a compiler may run them side by side; whether it does is not shown."""
    z = jax.ShapeDtypeStruct((128, 32), jnp.float32)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))
    run = jax.shard_map(gradient(name, axis_name="i", similarity="ring"), mesh=mesh, in_specs=P("i"), out_specs=P("i"))
    steps = [step for step in scan_bodies(jax.make_jaxpr(run)(z, z).jaxpr) if contains(step, "ppermute")]
    assert len(steps) >= (2 if name == "infonce" else 1)  # InfoNCE sweeps once more for its gradient
    for step in steps:
        assert waiting(step, "dot_general", "ppermute") == []
        assert waiting(step, "ppermute", "dot_general") == []


def test_a_step_that_waits_is_found():
    """A product of the received block, and a transfer of the multiplied block."""

    def arrived(x, _):
        return jax.lax.ppermute(x, "i", [(0, 1), (1, 0)]) @ x.T, None

    def multiplied(x, _):
        return jax.lax.ppermute(x @ x.T, "i", [(0, 1), (1, 0)]), None

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))
    found = []
    for step in (arrived, multiplied):
        run = functools.partial(lambda step, x: jax.lax.scan(step, x, length=2)[0], step)
        run = jax.shard_map(run, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
        (body,) = scan_bodies(jax.make_jaxpr(run)(jax.ShapeDtypeStruct((16, 8), jnp.float32)).jaxpr)
        found.append((waiting(body, "dot_general", "ppermute"), waiting(body, "ppermute", "dot_general")))
    assert found == [(["dot_general"], []), ([], ["ppermute"])]


def test_auto_chooses_by_size_and_axis():
    def resolved(similarity, rows, dim=64):
        return resolve(similarity, rows=rows, dim=dim, axis_name=None)

    assert resolved("auto", 512).tile is None
    assert resolved("auto", 4096).tile == 1024
    assert resolved("tiled", 100).tile == 100
    assert resolved("dense", 10**6).tile is None
    assert resolved(Implementation("ring", tile=7), 100).tile == 7

    found = {}

    def on_devices(z):
        for similarity in ("auto", "dense", "gathered", "gathered:4", "ring"):
            found[similarity] = resolve(similarity, rows=z.shape[0], dim=64, axis_name="i")
        found["large"] = resolve("auto", rows=2**16, dim=512, axis_name="i")
        return z

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("i",))
    jax.make_jaxpr(jax.shard_map(on_devices, mesh=mesh, in_specs=P("i"), out_specs=P("i")))(jnp.ones((64, 1)))
    assert (found["auto"].exchange, found["auto"].tile) == ("gather", None)
    assert (found["dense"].exchange, found["dense"].tile) == ("gather", None)
    assert (found["gathered"].exchange, found["gathered"].tile) == ("gather", None)
    assert (found["gathered:4"].exchange, found["gathered:4"].tile) == ("gather", 4)
    assert found["ring"].exchange == "ring"
    assert (found["large"].exchange, found["large"].tile) == ("ring", 512)


@pytest.mark.parametrize("similarity", ["square", "tiled:x", "tiled:0"])
def test_unknown_forms_are_refused(similarity):
    with pytest.raises(ConfigError, match="similarity"):
        losses.infonce(jnp.eye(2), jnp.eye(2), similarity=similarity)


def statistics64(a, b, temperature, where):
    a, b, temperature = (np.asarray(x, np.float64)[where] for x in (a, b, temperature))
    out = {}
    for name, s in (("ab", a @ b.T), ("ba", b @ a.T)):
        logits = s / temperature[:, None]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        out[name] = (s.var(1).mean(), -(p * np.log(np.maximum(p, 1e-300))).sum(1).mean(), np.ptp(s, axis=1).mean())
    return np.array([(out["ab"][k], out["ba"][k]) for k in range(3)])


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("collapsed", [False, True])
def test_statistics_equal_float64(masked, collapsed):
    rng = np.random.default_rng(0)
    n = 40
    a, b = rng.normal(size=(2, n, 8))
    if collapsed:  # a spread of 1e-3 about 1, where E[S²] - E[S]² has no digit left
        a, b = 1 + 1e-3 * a, 1 + 1e-3 * b
    a, b = (np.float32(z / np.linalg.norm(z, axis=1, keepdims=True)) for z in (a, b))
    if collapsed:  # with exact products, whose errors would be as large as the spread
        a, b = on_grid(a), on_grid(b)
    temperature = rng.uniform(0.01, 0.2, n).astype(np.float32)
    where = rng.uniform(size=n) < 0.7 if masked else np.ones(n, bool)
    expected = statistics64(a, b, temperature, where)
    mask = where if masked else None
    for similarity in ("dense", "tiled:16"):
        common = dict(temperature=temperature, where=mask, similarity=similarity)
        for found in (
            weighting.direction_statistics(a, b, **common),
            losses.infonce_with_statistics(a, b, **common)[2],
        ):
            values = np.array([found.variance, found.entropy, found.spread])
            np.testing.assert_allclose(values[[0, 2]], expected[[0, 2]], rtol=agreement(n, 8, 0.3))  # spread over 0.3
            np.testing.assert_allclose(values[1], expected[1], rtol=agreement(n, 8, 0.01))


@pytest.mark.slow
def test_statistics_on_devices_equal_one():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 32, 6)).astype(np.float32)
    where = np.arange(32) % 5 != 1
    expected = weighting.direction_statistics(a, b, temperature=0.3, where=where, similarity="dense")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("i",))
    for similarity in ("dense", "gathered:3", "ring:3"):

        def local(a, b, where, similarity=similarity):
            common = dict(temperature=0.3, where=where, axis_name="i", similarity=similarity)
            alone = weighting.direction_statistics(a, b, **common)
            return alone, losses.infonce_with_statistics(a, b, **common)[2]

        run = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=P("i"), out_specs=P()))
        for found in run(a, b, where):
            for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(x, y, rtol=agreement(32, 6, 0.3), err_msg=similarity)
