"""Properties of every contrastive loss on one device. A new loss adds one row to `loss_table.TABLE`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_table import TABLE, all_finite, all_zero, evaluate, every_loss, pairs, same

import alignment_jax as aj

pytestmark = pytest.mark.costly


def test_the_table_holds_every_loss():
    public = set(aj.losses.__all__) - {"l2_normalize", "reduce"}
    assert public == {getattr(row.function, "func", row.function).__name__ for row in TABLE.values()}


@pytest.mark.slow
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
    """A NaN in a masked row reaches neither values nor gradients."""
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
    "no rows": (dict(za=np.ones((0, 2), np.float32), zb=np.ones((0, 2), np.float32)), "za"),
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
