"""Every implementation, on any number of devices, equals the dense block on one device.

Values, gradients, and gradients of gradients; the losses are those of `loss_table.TABLE`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_table import TABLE, all_zero, pairs, same, total

import alignment_jax as aj

pytestmark = pytest.mark.costly

AXIS = "batch"
N = 16
MASKS = {
    # On eight devices: one shard empty, one half full, the others full or nearly so.
    "uneven": np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool),
    "none": np.zeros(N, bool),
    "all": np.ones(N, bool),
}
ONCE = ("infonce, smoothed", "max_margin", "sigmoid")  # the other rows would repeat these


def on_devices(row, similarity, devices, way):
    """(za, zb, scalars, per-row settings, where) -> losses of all rows, gradients of the first four.

    Embeddings are functions of replicated parameters, as in training: the whole batch goes in, every device takes its
    rows, the global mean is differentiated directly and the gradients are averaged over the axis.
    """
    size = N // devices

    def step(za, zb, scalars, rows, where):
        start = jax.lax.axis_index(AXIS) * size

        def local(tree):
            return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), tree)

        def objective(za, zb, scalars, rows):
            return both_settings(
                row, *local((za, zb)), scalars, local(rows), local(where), similarity=similarity, axis_name=AXIS
            )

        gradients, parts = jax.grad(objective, (0, 1, 2, 3), has_aux=True)(za, zb, scalars, rows)
        return parts, jax.lax.pmean(gradients, AXIS)

    if way == "pmap":
        # pmap needs a split argument: the devices' numbers.
        chosen = jax.devices()[:devices]
        run = jax.pmap(lambda _, *arguments: step(*arguments), AXIS, in_axes=(0, *[None] * 5), devices=chosen)

        def call(*arguments):
            parts, gradients = run(np.arange(devices), *arguments)
            return jax.tree.map(np.concatenate, parts), jax.tree.map(lambda x: x[0], gradients)

        return call
    mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
    return jax.jit(jax.shard_map(step, mesh=mesh, in_specs=P(), out_specs=(P(AXIS), P()), check_vma=way == "shard_map"))


def both_settings(row, za, zb, scalars, rows, where, **options):
    """Once with scalar settings, once with one a row, in one graph."""
    first, parts = total(row, za, zb, scalars, where, **options)
    if not rows:
        return first, parts
    second, more = total(row, za, zb, {**scalars, **rows}, where, **options)
    return first + 0.5 * second, (*parts, *more)


@functools.cache
def whole(name, similarity):
    objective = functools.partial(both_settings, TABLE[name], similarity=similarity)
    return jax.jit(jax.grad(objective, (0, 1, 2, 3), has_aux=True))


@functools.cache
def arguments_and_reference(name, mask):
    row = TABLE[name]
    za, zb = pairs(n=N)
    where = MASKS[mask]
    filled = [np.where(where[:, None], z, np.nan).astype(np.float32) for z in (za, zb)]
    scalars = row.values(N, rows=False)
    rows = {key: np.where(where, value, np.nan) for key, value in row.values(N, rows=True).items() if np.ndim(value)}
    gradients, parts = whole(name, "dense")(*filled, scalars, rows, where)
    return (*filled, scalars, rows, where), (parts, gradients)


def check_devices(name, similarity, devices, way):
    run = on_devices(TABLE[name], similarity, devices, way)
    for mask in MASKS:
        arguments, expected = arguments_and_reference(name, mask)
        found = run(*arguments)
        same(found, expected)
        assert mask != "none" or all_zero(found)
    assert np.abs(jax.tree.leaves(expected)[0]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ONCE)
def test_tiles_equal_the_whole_block(name):
    """Without an axis: tiles that divide the batch, that do not, and that are larger than it."""
    for similarity in ("tiled:4", "tiled:3", "tiled:64"):
        run = whole(name, similarity)
        for mask in MASKS:
            arguments, expected = arguments_and_reference(name, mask)
            gradients, parts = run(*arguments)
            same((parts, gradients), expected)


QUICK = [(form, 8, "shard_map") for form in ("dense", "gathered:3", "ring", "ring:3")]
QUICK += [("gathered", 2, "shard_map, no check"), ("ring", 4, "pmap")]


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize(("similarity", "devices", "way"), QUICK)
def test_devices_equal_one(name, similarity, devices, way):
    check_devices(name, similarity, devices, way)


# Every wrapper and number of devices for one mask: test_similarity_devices. Here each form meets each of them once.
MATRIX = [("ring", 1, "shard_map"), ("ring:3", 2, "shard_map, no check"), ("dense", 2, "pmap")]
# With an axis "tiled" gathers, and "auto" chooses one of the others.
MATRIX += [(form, 4, "shard_map") for form in ("tiled:3", "gathered", "auto")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize(("similarity", "devices", "way"), MATRIX)
def test_every_form_on_any_number_of_devices_equals_one(name, similarity, devices, way):
    check_devices(name, similarity, devices, way)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("similarity", "devices", "way"), [("ring:3", 4, "shard_map"), ("gathered:3", 2, "pmap"), ("dense", 8, "shard_map")]
)
@pytest.mark.parametrize("name", ["infonce, with statistics", "max_margin, with statistics"])
def test_losses_with_statistics_equal_one_device(name, similarity, devices, way):
    check_devices(name, similarity, devices, way)


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["dense", "tiled:3"])
def test_statistics_beside_a_loss_are_those_of_their_own_function(similarity):
    arguments, _ = arguments_and_reference("infonce, with statistics", "uneven")
    *pair, scalars, rows, where = arguments
    for temperature in (scalars["temperature"], rows["temperature"]):
        options = dict(temperature=temperature, where=where)
        expected = aj.weighting.direction_statistics(*pair, **options)
        common = dict(**options, similarity=similarity)
        same(aj.losses.infonce_with_statistics(*pair, smoothing=0.1, **common)[2], expected)
        same(aj.losses.max_margin_with_statistics(*pair, **common)[2], expected)


# Second order, as where weights per sample are learned: they start at 1, where the tiled forms have their short way.


def gradient_norm(row, similarity, devices=None):
    """(w [n], za, zb, where) -> the squared length of the gradient by za of the loss weighed by w."""

    def gradient(w, za, zb, where):
        axis_name = None if devices is None else AXIS

        def weighed(za):
            parts = row(za, zb, row.settings, where=where, similarity=similarity, axis_name=axis_name)
            return aj.losses.reduce(sum(w * part for part in parts), where=where, axis_name=axis_name)

        return jax.grad(weighed)(za)

    if devices is not None:
        mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
        gradient = jax.shard_map(gradient, mesh=mesh, in_specs=P(AXIS), out_specs=P(AXIS))
    return lambda *arguments: jnp.sum(jnp.square(gradient(*arguments)))


@functools.cache
def second_order_of_the_whole_block(name):
    return jax.jit(jax.grad(gradient_norm(TABLE[name], "dense"), (0, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["infonce", "max_margin", "sigmoid"])
@pytest.mark.parametrize(("similarity", "devices"), [("tiled:4", None), ("tiled:3", None), ("ring:3", 4)])
def test_gradients_of_gradients_by_the_weights_equal_the_whole_block(name, similarity, devices):
    row, (za, zb), where = TABLE[name], pairs(n=N), MASKS["uneven"]
    run = jax.jit(jax.grad(gradient_norm(row, similarity, devices), (0, 1)))
    for w in (np.ones(N, np.float32), np.linspace(0.5, 1.5, N, dtype=np.float32)):
        expected = second_order_of_the_whole_block(name)(w, za, zb, where)
        found = run(w, za, zb, where)
        assert np.abs(expected[0]).max() > 1e-4
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * np.abs(y).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["infonce", "max_margin", "sigmoid"])
def test_forward_mode_over_a_gradient_equals_the_whole_block(name):
    row, (za, zb), where, w = TABLE[name], pairs(n=N), MASKS["uneven"], np.ones(N, np.float32)

    def along_w(similarity):
        return jax.jvp(lambda w: jax.grad(gradient_norm(row, similarity), 1)(w, za, zb, where), (w,), (za[:, 0],))

    found, expected = (jax.jit(along_w, static_argnums=0)(similarity) for similarity in ("tiled:3", "dense"))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * np.abs(y).max())


@pytest.mark.parametrize("name", ["max_margin", "sigmoid"])
def test_a_cotangent_that_is_not_a_number_reaches_the_gradient(name):
    row, (za, zb) = TABLE[name], pairs()
    for similarity in ("dense", "tiled:3"):

        def weighed(za, w, similarity=similarity):
            return jnp.sum(row(za, zb, row.settings, similarity=similarity)[0] * w)

        gradient = jax.jit(jax.grad(weighed))
        for w in (np.full(8, np.nan), np.where(np.arange(8) == 3, np.nan, 1.0)):
            assert np.isnan(gradient(za, w)).any()


@pytest.mark.parametrize("check", [True, False])
def test_replicas_whose_weights_differ_do_not_wait_for_each_other(check):
    """One replica's samples weigh the same, the other's do not; a ring that only one of them entered never ended."""
    row, mesh = TABLE["sigmoid"], Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("replica", AXIS))
    both = [np.stack(side) for side in zip(pairs(seed=0), pairs(seed=1), strict=True)]
    weights = np.stack([np.ones(8), np.linspace(0.5, 1.5, 8)]).astype(np.float32)

    def gradient(w, za, zb, **options):
        return jax.grad(lambda za: jnp.sum(w * row(za, zb, row.settings, **options)[0]))(za)

    def local(w, za, zb):
        return gradient(w[0], za[0], zb[0], similarity="ring:2", axis_name=AXIS)[None]

    spec = P("replica", AXIS)
    run = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check))
    found = run(weights, *both)
    for k in range(2):
        same(found[k], gradient(weights[k], both[0][k], both[1][k], similarity="dense"), atol=2e-5)
