"""Equal partners in one batch: every loss and form against sums written out in float64, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from loss_table import WEIGHTS, pairs, same

from alignment_jax import losses

pytestmark = pytest.mark.costly

AXIS, N = "batch", 16
WHERE = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1], bool)
# Row 3 meets 0, 7 and 10 by its image and 8 by its text; 4 equals 5 on both sides; rows 2 and 9 count for nothing.
IDS_A = np.array([3, 1, 3, 3, 5, 5, 6, 3, 8, 3, 3, 11, 12, 13, 14, 15])
IDS_B = np.array([0, 1, 8, 8, 4, 4, 6, 7, 8, 4, 10, 11, 11, 11, 14, 15])
SMOOTHING, SCALE, BIAS, ENTROPY_AT = 0.15, 4.0, -1.0, 0.3


def own_value(low, high):
    return np.linspace(low, high, N)


def expected_losses(za, zb, t, smoothing, scale):
    """Name -> losses [n] of both directions, or of one, in float64; and the statistics under "mask"."""
    s, eye = za @ zb.T, np.eye(N, dtype=bool)
    twins = ((IDS_A[:, None] == IDS_A) | (IDS_B[:, None] == IDS_B)) & ~eye & WHERE
    found, statistics = {}, {}
    for mode in ("mask", "positive"):
        candidates = np.broadcast_to(WHERE, (N, N)) & ~(twins & (mode == "mask"))
        positives = eye | (twins & (mode == "positive"))
        parts, hinges = [], []
        for one in (s, s.T):
            logits = np.where(candidates, one / t[:, None], -np.inf)
            log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            q = (1 - smoothing) * positives / positives.sum(1, keepdims=True)
            q = q + smoothing * candidates / candidates.sum(1, keepdims=True)
            parts.append(-np.sum(np.where(candidates, q * np.where(candidates, log_p, 0), 0), axis=1))
            others = candidates & ~eye
            hinge = np.maximum(0, t[:, None] - np.diag(s)[:, None] + one)
            hinges.append(np.sum(hinge * others, axis=1) / np.maximum(others.sum(1), 1))
            if mode == "mask":
                of_anchor = [one[i][candidates[i]] for i in np.flatnonzero(WHERE)]
                soft = [np.exp(x / ENTROPY_AT) / np.exp(x / ENTROPY_AT).sum() for x in of_anchor]
                statistics.setdefault("variance", []).append(np.mean([x.var() for x in of_anchor]))
                statistics.setdefault("entropy", []).append(np.mean([-(p * np.log(p)).sum() for p in soft]))
                statistics.setdefault("spread", []).append(np.mean([np.ptp(x) for x in of_anchor]))
        found[f"infonce, {mode}"] = parts
        found[f"sigmoid, {mode}"] = [
            np.sum(np.logaddexp(0, np.where(positives, -1, 1) * (scale * s + BIAS)) * candidates, axis=1)
        ]
        if mode == "mask":
            found["max_margin, mask"] = hinges
    return {name: [np.where(WHERE, part, 0) for part in parts] for name, parts in found.items()}, statistics


def combined(parts, where, axis_name=None, reduce=losses.reduce):
    return sum(
        reduce(*one, weights=WEIGHTS, where=where, axis_name=axis_name) if len(one) == 2 else reduce(*one, where=where)
        for one in parts.values()
    )


@functools.cache
def expected():
    """Losses, gradients by central differences, and statistics."""
    za, zb = (z.astype(np.float64) for z in pairs(n=N))
    arguments = [za, zb, own_value(0.2, 0.6), np.array(SMOOTHING), np.array(SCALE)]

    def total():
        halves = []
        for parts in expected_losses(*arguments)[0].values():
            means = [part.sum() / WHERE.sum() for part in parts]
            halves.append(0.5 * np.dot(WEIGHTS, means) if len(means) == 2 else means[0])
        return sum(halves)

    gradients = []
    for x in arguments:
        gradient = np.zeros(x.shape)
        for place in np.ndindex(x.shape):
            kept, ends = x[place], []
            for moved in (1e-6, -1e-6):
                x[place] = kept + moved
                ends.append(total())
            x[place] = kept
            gradient[place] = (ends[0] - ends[1]) / 2e-6
        gradients.append(gradient)
    return *expected_losses(*arguments), gradients


def all_losses(za, zb, t, smoothing, scale, where, ids_a, ids_b, **options):
    common = dict(where=where, ids_a=ids_a, ids_b=ids_b, **options)
    found = {}
    for mode in ("mask", "positive"):
        found[f"infonce, {mode}"] = losses.infonce(
            za, zb, temperature=t, smoothing=smoothing, duplicates=mode, **common
        )
        found[f"sigmoid, {mode}"] = (losses.sigmoid(za, zb, scale=scale, bias=BIAS, duplicates=mode, **common),)
    found["max_margin, mask"] = losses.max_margin(za, zb, margin=t, **common)
    return found


def objective(za, zb, t, smoothing, scale, *data, axis_name=None, similarity="dense"):
    parts = all_losses(za, zb, t, smoothing, scale, *data, axis_name=axis_name, similarity=similarity)
    where = data[0]

    def reduce(*one, **options):
        return losses.reduce(*one, **{**options, "axis_name": axis_name})

    return combined(parts, where, axis_name, reduce), parts


def given():
    za, zb = (np.where(WHERE[:, None], z, np.nan).astype(np.float32) for z in pairs(n=N))
    t = np.where(WHERE, own_value(0.2, 0.6), np.nan).astype(np.float32)
    return (za, zb, t, np.float32(SMOOTHING), np.float32(SCALE)), (WHERE, IDS_A, IDS_B)


def check(parts, gradients):
    expected_parts, _, expected_gradients = expected()
    for name, one in expected_parts.items():
        for found, value in zip(parts[name], one, strict=True):
            np.testing.assert_allclose(found, value, rtol=2e-5, atol=5e-6, err_msg=name)
    for found, value in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["dense", "tiled:5", "pallas:16"])
def test_one_device_equals_the_sums(similarity):
    trained, data = given()
    run = jax.jit(jax.grad(functools.partial(objective, similarity=similarity), tuple(range(5)), has_aux=True))
    gradients, parts = run(*trained, *data)
    check(parts, gradients)


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["dense", "gathered:3", "ring:3"])
def test_devices_equal_the_sums(similarity):
    """Duplicates on other devices are duplicates."""
    trained, data = given()
    mesh, rows = Mesh(np.array(jax.devices()[:4]), (AXIS,)), (P(AXIS), P(AXIS), P(AXIS), P(), P())
    run = jax.grad(functools.partial(objective, similarity=similarity, axis_name=AXIS), tuple(range(5)), has_aux=True)
    run = jax.shard_map(run, mesh=mesh, in_specs=(*rows, *[P(AXIS)] * 3), out_specs=(rows, P(AXIS)))
    gradients, parts = jax.jit(run)(*trained, *data)
    check(parts, gradients)


@pytest.mark.parametrize("similarity", ["dense", "tiled:5"])
def test_statistics_are_over_the_candidates_that_are_left(similarity):
    (za, zb, t, *_), (where, ids_a, ids_b) = given()
    common = dict(where=where, ids_a=ids_a, ids_b=ids_b, similarity=similarity)

    @jax.jit
    def both(za, zb, t):
        first = losses.infonce_with_statistics(za, zb, temperature=ENTROPY_AT, **common)[2]
        return first, losses.max_margin_with_statistics(za, zb, margin=t, temperature=ENTROPY_AT, **common)

    first, (loss_ab, loss_ba, second) = both(za, zb, t)
    parts, statistics, _ = expected()
    for found in (first, second):
        for name, value in statistics.items():
            np.testing.assert_allclose(getattr(found, name), value, rtol=2e-5, err_msg=name)
    same([loss_ab, loss_ba], parts["max_margin, mask"])


@pytest.mark.slow
def test_half_widths_equal_the_whole_block():
    trained, data = given()
    half = [jnp.nan_to_num(z).astype(jnp.bfloat16) for z in trained[:2]]
    function = jax.jit(all_losses, static_argnames="similarity")
    same(*(function(*half, *trained[2:], *data, similarity=form) for form in ("tiled:5", "dense")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask", "positive", "max_margin"])
def test_gradients_of_gradients_equal_the_whole_block(name):
    (za, zb, t, *_), (where, *ids) = given()
    za, zb = (np.nan_to_num(z) for z in (za, zb))

    def second(za, w, similarity):
        common = dict(where=where, ids_a=ids[0], ids_b=ids[1], similarity=similarity)

        def weighed(za):
            if name == "max_margin":
                parts = losses.max_margin(za, zb, margin=t, **common)
            else:
                parts = losses.infonce(za, zb, temperature=t, smoothing=SMOOTHING, duplicates=name, **common)
            return sum(jnp.sum(w * part) for part in parts)

        return jnp.sum(jnp.square(jax.grad(weighed)(za)))

    run = jax.jit(jax.grad(second, (0, 1)), static_argnames="similarity")
    w = np.linspace(0.5, 1.5, N, dtype=np.float32)
    for x, y in zip(*(run(za, w, similarity=form) for form in ("tiled:5", "dense")), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5 * np.abs(y).max())


LOSSES = {
    "infonce": losses.infonce,
    "max_margin": losses.max_margin,
    "sigmoid": losses.sigmoid,
    "with statistics": losses.infonce_with_statistics,
}


@pytest.mark.parametrize("function", LOSSES.values(), ids=LOSSES)
def test_negatives_are_the_program_without_ids(function):
    z = np.zeros((8, 4), np.float32)
    for similarity in ("dense", "tiled:3"):
        plain, negative, masked = (
            str(jax.make_jaxpr(functools.partial(function, similarity=similarity, **options))(z, z))
            for options in ({}, dict(ids_a=np.arange(8), duplicates="negative"), dict(ids_a=np.arange(8)))
        )
        assert negative == plain != masked


@pytest.mark.parametrize("mode", ["mask", "positive"])
def test_ids_keep_the_memory_of_tiles_linear(mode):
    z, ids = jax.ShapeDtypeStruct((4096, 16), jnp.float32), jax.ShapeDtypeStruct((4096,), jnp.int32)

    def loss(za, zb, ids):
        common = dict(ids_a=ids, ids_b=ids, duplicates=mode, similarity="tiled:256")
        both = losses.infonce(za, zb, smoothing=0.1, **common)
        return losses.reduce(*both) + losses.reduce(losses.sigmoid(za, zb, **common))

    program = jax.jit(jax.grad(loss, (0, 1))).lower(z, z, ids).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4096**2  # a mask alone would be a byte a pair


@pytest.mark.slow
def test_several_numbers_are_one_id_and_wide_ids_are_not_cut():
    za, zb = pairs(n=4)
    two = np.array([[1, 2], [1, 3], [2, 2], [1, 2]])
    found = losses.infonce(za, zb, ids_b=two)
    same(found, losses.infonce(za, zb, ids_b=np.array([0, 1, 2, 0])))
    with pytest.raises(ValueError, match=r"ids_a.*int32"):
        losses.infonce(za, zb, ids_a=np.array([0, 1, 2, 2**32]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ids_a=np.zeros(3)), "ids_a"),
        (dict(ids_b=np.zeros(2, int)), r"ids_b.*\[3\]"),
        (dict(duplicates="none"), "duplicates.*'none'"),
    ],
)
def test_messages_name_the_argument(options, message):
    z = np.ones((3, 2), np.float32)
    for function in LOSSES.values():
        with pytest.raises(ValueError, match=message):
            function(z, z, **options)
    with pytest.raises(ValueError, match=r"duplicates.*mask, negative.*'positive'"):
        losses.max_margin(z, z, duplicates="positive")
