"""What every contrastive loss promises. A new loss joins with one row in TABLE."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import alignment_jax as aj

AXIS = "batch"
WEIGHTS = (1.3, 0.7)  # uneven, so that an exchange of the directions shows


@dataclasses.dataclass(frozen=True)
class Row:
    """`settings`: every number that the loss is differentiated by; `per_row`: those that may be one a row;
    `extremes`: settings to stay finite at."""

    function: Callable
    settings: dict
    per_row: tuple[str, ...]
    extremes: tuple[dict, ...]

    def __call__(self, za, zb, settings, **options):
        """The losses as a tuple of one or two directions."""
        result = self.function(za, zb, **settings, **options)
        return result[:2] if isinstance(result, tuple) else (result,)  # a third entry is no loss

    def values(self, n, *, rows):
        """The settings as float32 arrays: scalars, or where allowed one a row."""
        spread = np.linspace(0.6, 1.4, n, dtype=np.float32)
        return {
            name: np.float32(value) * (spread if rows and name in self.per_row else np.float32(1))
            for name, value in self.settings.items()
        }


TABLE = {
    "infonce": Row(
        aj.losses.infonce,
        settings=dict(temperature=0.2),
        per_row=("temperature",),
        extremes=(dict(temperature=0.001), dict(temperature=10.0)),
    ),
    "infonce, smoothed": Row(
        aj.losses.infonce,
        settings=dict(temperature=0.2, smoothing=0.1),
        per_row=("temperature",),
        extremes=(dict(temperature=0.001, smoothing=0.99), dict(temperature=10.0, smoothing=0.01)),
    ),
    "infonce, with statistics": Row(
        aj.losses.infonce_with_statistics,
        settings=dict(temperature=0.3, smoothing=0.05),
        per_row=("temperature",),
        extremes=(dict(temperature=0.001, smoothing=0.0), dict(temperature=10.0, smoothing=0.5)),
    ),
    "max_margin": Row(
        aj.losses.max_margin,
        settings=dict(margin=0.3),
        per_row=("margin",),
        extremes=(dict(margin=0.0), dict(margin=10.0), dict(margin=-10.0)),
    ),
    "max_margin, with statistics": Row(
        functools.partial(aj.losses.max_margin_with_statistics, temperature=0.3),
        settings=dict(margin=0.3),
        per_row=("margin",),
        extremes=(dict(margin=0.0), dict(margin=-10.0)),
    ),
    "sigmoid": Row(
        aj.losses.sigmoid,
        settings=dict(scale=5.0, bias=-1.0),
        per_row=(),
        extremes=(dict(scale=1000.0, bias=-10.0), dict(scale=0.1, bias=100.0)),
    ),
}
every_loss = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


def pairs(n=8, d=5, seed=0):
    """Unit vectors whose pairs are alike but not equal."""
    rng = np.random.default_rng(seed)
    za = rng.normal(size=(n, d))
    zb = za + 0.7 * rng.normal(size=(n, d))
    return tuple((z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32) for z in (za, zb))


def total(row, za, zb, settings, where=None, **options):
    """The one number that is differentiated, and the losses it is made of."""
    parts = row(za, zb, settings, where=where, **options)
    return aj.losses.reduce(*parts, weights=WEIGHTS, where=where, axis_name=options.get("axis_name")), parts


def evaluate(row, za, zb, settings, where=None, jit=True, **options):
    """Losses, and gradients of (za, zb, settings)."""
    function = jax.grad(functools.partial(total, row, where=where, **options), (0, 1, 2), has_aux=True)
    gradients, parts = (jax.jit(function) if jit else function)(za, zb, settings)
    return parts, gradients


def same(found, expected, *, rtol=1e-5, atol=2e-6):
    """Equal up to the float32 rounding of logits of order 10 that are summed in another order."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), found, expected)


def all_zero(tree):
    return all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(tree))


def all_finite(tree):
    return all(np.all(np.isfinite(np.asarray(leaf, np.float32))) for leaf in jax.tree.leaves(tree))


def test_the_table_holds_every_loss():
    public = set(aj.losses.__all__) - {"l2_normalize", "reduce"}
    assert public == {getattr(row.function, "func", row.function).__name__ for row in TABLE.values()}


@every_loss
def test_compiled_equals_eager(row):
    za, zb = pairs()
    settings = row.values(8, rows=True)
    same(evaluate(row, za, zb, settings), evaluate(row, za, zb, settings, jit=False))


@every_loss
def test_losses_are_per_sample_and_float32(row):
    for part in row(*pairs(), row.values(8, rows=False)):
        assert part.shape == (8,)
        assert part.dtype == jnp.float32


@every_loss
def test_bfloat16_is_multiplied_as_it_is_and_summed_in_float32(row):
    za, zb = (z.astype(jnp.bfloat16) for z in pairs())
    settings = row.values(8, rows=True)
    parts, (grad_za, grad_zb, grad_settings) = evaluate(row, za, zb, settings)
    wide_parts, wide = evaluate(row, *(z.astype(np.float32) for z in (za, zb)), settings)
    assert all(part.dtype == jnp.float32 for part in parts)
    same((parts, grad_settings), (wide_parts, wide[2]))
    assert grad_za.dtype == grad_zb.dtype == jnp.bfloat16
    # Only the finished gradient is rounded, or each of its few terms: 2^-9 of the largest entry each.
    largest = max(np.abs(wide[0]).max(), np.abs(wide[1]).max())
    same((grad_za.astype(np.float32), grad_zb.astype(np.float32)), wide[:2], rtol=2**-7, atol=2**-7 * largest)


@every_loss
@pytest.mark.parametrize("similarity", ["dense", "tiled:3"])
def test_finite_for_zero_vectors_and_huge_logits(row, similarity):
    za, zb = pairs()
    function = jax.jit(functools.partial(evaluate, row, jit=False, similarity=similarity))
    zero, huge = np.zeros_like(za), (np.float32(1e4) * za, np.float32(1e4) * zb)
    some_zero = np.where(np.arange(8)[:, None] == 3, 0, za).astype(np.float32)
    for settings in row.extremes:
        settings = {name: jnp.float32(value) for name, value in settings.items()}
        for a, b in ((zero, zero), (zero, zb), (some_zero, zb), huge, (huge[0], -huge[1]), (za, zb)):
            parts, gradients = function(a, b, settings)
            assert all_finite((parts, gradients))
            assert all(np.min(part) >= 0 for part in parts)


WHERE = np.array([True, False, True, True, False, True, True, False])


@every_loss
@pytest.mark.parametrize("similarity", ["dense", "tiled:3"])
@pytest.mark.parametrize("filler", [0.0, np.nan, np.inf])
def test_masking_is_dropping(row, similarity, filler):
    """Whatever a masked row holds reaches neither values nor gradients."""
    za, zb = pairs()
    settings = row.values(8, rows=True)

    def poison(x):
        return np.where(WHERE.reshape((-1,) + (1,) * (x.ndim - 1)), x, np.float32(filler))

    def drop(tree):
        return jax.tree.map(lambda x: x[WHERE] if np.ndim(x) else x, tree)

    poisoned = {name: poison(value) if np.ndim(value) else value for name, value in settings.items()}
    parts, gradients = evaluate(row, poison(za), poison(zb), poisoned, WHERE, similarity=similarity)
    same(drop((parts, gradients)), evaluate(row, za[WHERE], zb[WHERE], drop(settings), similarity="dense"))
    masked = jax.tree.map(lambda x: x[~WHERE] if np.ndim(x) else np.zeros(()), (parts, gradients))
    assert all_zero(masked)


@every_loss
def test_a_joint_permutation_permutes_the_losses(row):
    za, zb = pairs()
    settings, order = row.values(8, rows=True), np.random.default_rng(1).permutation(8)

    def permute(tree):
        return jax.tree.map(lambda x: x[order] if np.ndim(x) else x, tree)

    found = evaluate(row, za[order], zb[order], permute(settings))
    same(found, permute(evaluate(row, za, zb, settings)))


@every_loss
def test_directions_swap_with_the_modalities(row):
    za, zb = pairs()
    forth, back = row(za, zb, row.values(8, rows=True)), row(zb, za, row.values(8, rows=True))
    if len(forth) == 2:
        same(forth, back[::-1])
    else:
        same(sum(forth[0]), sum(back[0]), atol=2e-5)  # one sum over all pairs, whichever side the rows are


@every_loss
@pytest.mark.parametrize("similarity", ["dense", "tiled:3", "auto"])
def test_one_sample(row, similarity):
    """No other candidate: nothing to learn from, and no NaN. SigLIP still asks whether the pair is one."""
    za, zb = pairs(n=1)
    parts, gradients = evaluate(row, za, zb, row.values(1, rows=True), similarity=similarity)
    assert all_finite((parts, gradients))
    if row.function is not aj.losses.sigmoid:
        assert all_zero(parts)
        # Terms of the order of 1 / temperature = 5 cancel, weighed by direction: zero up to their rounding.
        same(gradients, jax.tree.map(np.zeros_like, gradients), atol=4e-6)
    else:
        logit = row.settings["scale"] * np.sum(za * zb) + row.settings["bias"]
        same(parts[0], np.logaddexp(0, -logit)[None])


@every_loss
@pytest.mark.parametrize("similarity", ["dense", "tiled:3"])
def test_every_row_masked(row, similarity):
    za, zb = pairs()
    nothing = np.zeros(8, bool)
    found = evaluate(row, za * np.nan, zb * np.inf, row.values(8, rows=True), nothing, similarity=similarity)
    assert all_zero(found)


@every_loss
@pytest.mark.parametrize("similarity", ["dense", "tiled:3"])
def test_vmap_is_a_loop(row, similarity):
    batches = [pairs(seed=seed) for seed in range(3)]
    za, zb = (np.stack(side) for side in zip(*batches, strict=True))
    settings = row.values(8, rows=True)
    function = functools.partial(evaluate, row, settings=settings, jit=False, similarity=similarity)
    found = jax.jit(jax.vmap(lambda a, b: function(a, b)))(za, zb)
    for k, (a, b) in enumerate(batches):
        same(jax.tree.map(lambda x, k=k: x[k], found), evaluate(row, a, b, settings, similarity="dense"))


Z = np.ones((3, 2), np.float32)
BAD_ARGUMENTS = {
    "za of one axis": (dict(za=np.ones(3, np.float32)), "za"),
    "zb of one axis": (dict(zb=np.ones(3, np.float32)), "zb"),
    "za of integers": (dict(za=np.ones((3, 2), int)), "za"),
    "no rows": (dict(za=np.ones((0, 2), np.float32), zb=np.ones((0, 2), np.float32)), "za must have at least one row"),
    "different rows": (dict(zb=np.ones((4, 2), np.float32)), "za and zb"),
    "where too short": (dict(where=np.ones(2, bool)), "where"),
    "where not boolean": (dict(where=np.ones(3)), "where"),
    "unknown form": (dict(similarity="spiral"), "similarity"),
    "no tile": (dict(similarity="tiled:0"), "similarity"),
}


@every_loss
@pytest.mark.parametrize(("bad", "word"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_messages_name_the_argument(row, bad, word):
    arguments = {"za": Z, "zb": Z, **row.settings, **bad}
    with pytest.raises(ValueError, match=word):
        row.function(arguments.pop("za"), arguments.pop("zb"), **arguments)


@every_loss
def test_messages_name_a_setting_of_the_wrong_shape(row):
    for name in row.settings:
        with pytest.raises(ValueError, match=name):
            row.function(Z, Z, **{**row.settings, name: np.ones(2, np.float32)})
        if name not in row.per_row:
            with pytest.raises(ValueError, match=name):
                row.function(Z, Z, **{**row.settings, name: np.ones(3, np.float32)})


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (dict(temperature=0.0), "temperature"),
        (dict(temperature=-0.1), "temperature"),
        (dict(temperature=float("nan")), "temperature"),
        (dict(temperature=np.float32(0)), "temperature"),
        (dict(temperature=jnp.float32(-1)), "temperature"),
        (dict(temperature=np.array(0)), "temperature"),
        (dict(smoothing=1.0), "smoothing"),
        (dict(smoothing=np.float32(1.5)), "smoothing"),
        (dict(smoothing=-0.1), "smoothing"),
    ],
)
def test_infonce_refuses_numbers_without_a_meaning(settings, word):
    with pytest.raises(ValueError, match=word):
        aj.losses.infonce(Z, Z, **settings)
    with pytest.raises(ValueError, match=word):  # known when the program is traced, as a constant in it
        jax.jit(lambda z: aj.losses.infonce(z, z, **settings))(Z)


@pytest.mark.parametrize("weights", [(np.ones(3), 1.0), (1.0, np.ones(3)), (np.ones(1), np.ones(1))])
def test_reduce_refuses_weights_that_are_no_scalars(weights):
    with pytest.raises(ValueError, match="weights"):
        aj.losses.reduce(np.ones(3), np.ones(3), weights=weights)


# Devices. Embeddings are functions of replicated parameters, as in training: the whole batch goes in, every device
# takes its rows, the global mean is differentiated as it is and the gradients are averaged over the axis.

N = 16
MASKS = {
    # On eight devices: one shard empty, one half full, the others full or nearly so.
    "uneven": np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1], bool),
    "none": np.zeros(N, bool),
    "all": np.ones(N, bool),
}
ONCE = ("infonce, smoothed", "max_margin", "sigmoid")  # what the other rows would only repeat


def on_devices(row, similarity, devices, way):
    """(za, zb, scalars, per-row settings, where) -> losses of all rows, gradients of the first four."""
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
        # pmap needs one argument that is split; the devices' numbers stand in for it.
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
def arguments_and_reference(name, mask):
    row = TABLE[name]
    za, zb = pairs(n=N)
    where = MASKS[mask]
    filled = [np.where(where[:, None], z, np.nan).astype(np.float32) for z in (za, zb)]
    scalars = row.values(N, rows=False)
    rows = {key: np.where(where, value, np.nan) for key, value in row.values(N, rows=True).items() if np.ndim(value)}
    objective = functools.partial(both_settings, row, similarity="dense")
    gradients, parts = jax.jit(jax.grad(objective, (0, 1, 2, 3), has_aux=True))(*filled, scalars, rows, where)
    return (*filled, scalars, rows, where), (parts, gradients)


def check_devices(name, similarity, devices, way):
    run = on_devices(TABLE[name], similarity, devices, way)
    for mask in MASKS:
        arguments, expected = arguments_and_reference(name, mask)
        found = run(*arguments)
        same(found, expected)
        assert mask != "none" or all_zero(found)
    assert np.abs(jax.tree.leaves(expected)[0]).max() > 0.01


@pytest.mark.parametrize("name", ONCE)
def test_tiles_equal_the_whole_block(name):
    """Without an axis: tiles that divide the batch, that do not, and that are larger than it."""
    row = TABLE[name]
    for similarity in ("tiled:4", "tiled:3", "tiled:64"):
        for mask in MASKS:
            arguments, expected = arguments_and_reference(name, mask)
            objective = functools.partial(both_settings, row, similarity=similarity)
            gradients, parts = jax.jit(jax.grad(objective, (0, 1, 2, 3), has_aux=True))(*arguments)
            same((parts, gradients), expected)


QUICK = [(form, 8, "shard_map") for form in ("dense", "gathered:3", "ring", "ring:3")]
QUICK += [("gathered", 2, "shard_map, no check"), ("ring", 4, "pmap")]


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize(("similarity", "devices", "way"), QUICK)
def test_devices_equal_one(name, similarity, devices, way):
    check_devices(name, similarity, devices, way)


FORMS = ("dense", "gathered:3", "ring", "ring:3")
MATRIX = [(form, devices, "shard_map") for form in FORMS for devices in (1, 2, 4, 8)]
MATRIX += [(form, devices, way) for form in FORMS for devices in (2, 8) for way in ("shard_map, no check", "pmap")]
# With an axis "tiled" gathers, and "auto" chooses one of the others.
MATRIX += [(form, 4, "shard_map") for form in ("tiled:3", "gathered", "auto")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize(("similarity", "devices", "way"), [run for run in MATRIX if run not in QUICK])
def test_every_form_on_any_number_of_devices_equals_one(name, similarity, devices, way):
    check_devices(name, similarity, devices, way)


@pytest.mark.parametrize(
    ("similarity", "devices", "way"), [("ring:3", 4, "shard_map"), ("gathered:3", 2, "pmap"), ("dense", 8, "shard_map")]
)
@pytest.mark.parametrize("name", ["infonce, with statistics", "max_margin, with statistics"])
def test_losses_with_statistics_equal_one_device(name, similarity, devices, way):
    check_devices(name, similarity, devices, way)


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


@pytest.mark.parametrize("name", ["infonce", "max_margin", "sigmoid"])
@pytest.mark.parametrize(("similarity", "devices"), [("tiled:4", None), ("tiled:3", None), ("ring:3", 4)])
def test_gradients_of_gradients_by_the_weights_equal_the_whole_block(name, similarity, devices):
    row, (za, zb), where = TABLE[name], pairs(n=N), MASKS["uneven"]
    for w in (np.ones(N, np.float32), np.linspace(0.5, 1.5, N, dtype=np.float32)):
        expected = jax.jit(jax.grad(gradient_norm(row, "dense"), (0, 1)))(w, za, zb, where)
        found = jax.jit(jax.grad(gradient_norm(row, similarity, devices), (0, 1)))(w, za, zb, where)
        assert np.abs(expected[0]).max() > 1e-4
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * np.abs(y).max())


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
    for w in (np.full(8, np.nan), np.where(np.arange(8) == 3, np.nan, 1.0)):
        for similarity in ("dense", "tiled:3"):

            def weighed(za, w=w, similarity=similarity):
                return jnp.sum(row(za, zb, row.settings, similarity=similarity)[0] * w)

            assert np.isnan(jax.jit(jax.grad(weighed))(za)).any()


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
