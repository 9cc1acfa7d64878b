"""Adapters, two towers and the fusion classifier: the contract that the training step relies on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.core import ConfigError
from alignment_jax.models import MODELS, Adapters, build_model, decay_mask, sum_head_logits

pytestmark = pytest.mark.costly

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
TOKENS = np.array([[5, 3, 2, 0], [9, 0, 0, 0], [1, 2, 3, 4], [7, 7, 0, 0], [4, 0, 0, 0], [6, 1, 9, 0]], np.int32)
LATENTS_A = RNG.normal(size=(6, 12)).astype(np.float32)
LATENTS_B = RNG.normal(size=(6, 10)).astype(np.float32)

CONVNET = {"name": "convnet", "widths": [8], "norm": "batch"}
TEXT = {"name": "transformer", "vocab_size": 10, "width": 8, "depth": 1, "heads": 2, "dropout": 0.3}
CASES = {
    "adapters": (
        {"name": "adapters", "dim": 8, "blocks_a": 2, "blocks_b": 1, "expansion": 2, "dropout": 0.5},
        LATENTS_A,
        LATENTS_B,
    ),
    "linear": (
        {"name": "adapters", "dim": 8, "blocks_a": 0, "blocks_b": 0, "final_norm": False, "input_norm": "l2"},
        LATENTS_A,
        LATENTS_B,
    ),
    "two_tower": ({"name": "two_tower", "dim": 8, "encoder_a": CONVNET, "encoder_b": TEXT}, IMAGES, TOKENS),
}
EVERY = pytest.mark.parametrize("case", CASES)


@functools.cache
def made(case: str, **options):
    spec, a, b = CASES[case]
    model = build_model(**spec, **options)
    return model, jax.jit(model.init)(KEY, a, b)


@functools.cache
def applied(case: str, train: bool):
    model, _ = made(case)

    def apply(variables, a, b, where=None, rows=None, key=KEY):
        mutable = ["batch_stats"] if train else False
        return model.apply(variables, a, b, train=train, where=where, rows=rows, rngs={"dropout": key}, mutable=mutable)

    return jax.jit(apply)


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_outputs_are_unit_length_and_float32(case, dtype):
    _, a, b = CASES[case]
    model, variables = made(case, dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    outputs = jax.jit(model.apply)(variables, a, b)
    assert set(outputs) == {"a", "b", "temperature", "bias"}
    assert {value.dtype for value in outputs.values()} == {jnp.dtype("float32")}
    assert outputs["temperature"].shape == outputs["bias"].shape == ()
    for side in "ab":
        assert outputs[side].shape == (6, 8)
        np.testing.assert_allclose(jnp.linalg.norm(outputs[side], axis=1), 1.0, rtol=1e-6)


@pytest.mark.slow
@EVERY
def test_one_side_alone_is_the_same_as_in_a_pair(case):
    _, a, b = CASES[case]
    model, variables = made(case)
    outputs = applied(case, False)(variables, a, b)
    encode = jax.jit(model.apply, static_argnames="method")
    np.testing.assert_allclose(encode(variables, a, method="encode_a"), outputs["a"], atol=1e-6)
    np.testing.assert_allclose(encode(variables, b, method="encode_b"), outputs["b"], atol=1e-6)


@EVERY
@pytest.mark.parametrize("train", [False, True])
def test_padding_reaches_no_other_row(case, train):
    _, a, b = CASES[case]
    _, variables = made(case)
    where = np.array([True, True, False, True, False, True])
    rows = np.flatnonzero(where)

    def embed(a, b, where, rows):
        y = applied(case, train)(variables, a, b, where, rows)
        return y if not train else y[0]

    alone = embed(a[where], b[where], np.ones(4, bool), rows)
    for filler in (0, 1):  # the content of padded rows must not matter
        padded_a, padded_b = (
            np.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, filler).astype(x.dtype) for x in (a, b)
        )
        padded = embed(padded_a, padded_b, where, np.arange(6))
        for side in "ab":
            np.testing.assert_allclose(padded[side][where], alone[side], atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["adapters", "linear"])
def test_nan_in_a_padded_row_reaches_no_gradient(case):
    model, variables = made(case)
    where = jnp.arange(6) < 4

    def loss(params, a):
        outputs = model.apply({"params": params}, a, LATENTS_B, train=True, rngs={"dropout": KEY}, where=where)
        return jnp.sum(jnp.where(where[:, None], outputs["a"] * outputs["b"], 0.0))

    clean, dirty = LATENTS_A.copy(), LATENTS_A.copy()
    clean[4:], dirty[4:] = 0.0, np.nan
    gradient = jax.jit(jax.grad(loss))
    gradients = [gradient(variables["params"], a) for a in (clean, dirty)]
    jax.tree.map(np.testing.assert_array_equal, *gradients)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients[1]))


@pytest.mark.slow
@EVERY
def test_training_and_evaluation_differ_where_they_should(case):
    _, a, b = CASES[case]
    _, variables = made(case)
    evaluated = applied(case, False)(variables, a, b)
    trained, updated = applied(case, True)(variables, a, b)
    random = case != "linear"
    assert (np.abs(trained["b"] - evaluated["b"]).max() > 1e-3) == random
    other_key, _ = applied(case, True)(variables, a, b, key=jax.random.key(9))
    assert (np.abs(trained["b"] - other_key["b"]).max() > 1e-3) == random
    assert ("batch_stats" in updated) == (case == "two_tower")


@pytest.mark.slow
@EVERY
def test_gradients_stay_finite_for_zero_input(case):
    _, a, b = CASES[case]
    _, variables = made(case)

    def loss(params):
        outputs, _ = applied(case, True)({**variables, "params": params}, np.zeros_like(a), np.zeros_like(b))
        return jnp.mean((outputs["a"] - 0.1) * (outputs["b"] + 0.2)) / outputs["temperature"]

    gradients = jax.grad(loss)(variables["params"])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


@EVERY
def test_decay_touches_kernels_only(case):
    _, variables = made(case)
    decayed = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(decay_mask(variables["params"]))
    }
    assert {path for path, decay in decayed.items() if decay} == {p for p in decayed if p.endswith("['kernel']")}
    assert not decayed["['logit_scale']['log_temperature']"]


def test_eval_shape_gives_the_restore_target():
    model, variables = made("adapters")
    abstract = jax.eval_shape(model.init, KEY, LATENTS_A, LATENTS_B)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract) == jax.tree.map(lambda x: (x.shape, x.dtype), variables)


def test_a_linear_adapter_holds_any_affine_map():
    model, variables = made("linear")
    model = model.clone(input_norm="none")
    w = RNG.normal(size=(12, 8)).astype(np.float32)
    mean = LATENTS_A.mean(0)
    variables["params"]["a"]["project"] = {"kernel": w, "bias": -mean @ w}
    expected = (LATENTS_A - mean) @ w
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.apply(variables, LATENTS_A, method="encode_a"), expected, atol=1e-6)
    assert set(variables["params"]["a"]) == {"project"}


@pytest.mark.slow
def test_zero_init_starts_blocks_as_the_identity():
    options = {"dim": 8, "final_norm": False, "zero_init": True}
    with_blocks = Adapters(blocks_a=2, blocks_b=0, **options)
    without = Adapters(blocks_a=0, blocks_b=0, **options)
    variables = jax.jit(with_blocks.init)(KEY, LATENTS_A, LATENTS_B)
    linear = {"params": {**variables["params"], "a": {"project": variables["params"]["a"]["project"]}}}
    np.testing.assert_array_equal(
        with_blocks.apply(variables, LATENTS_A, method="encode_a"), without.apply(linear, LATENTS_A, method="encode_a")
    )


def test_l2_input_norm_forgets_the_scale_of_a_latent():
    model, variables = made("linear")
    scaled = LATENTS_A * np.linspace(0.1, 50, 6, dtype=np.float32)[:, None]
    np.testing.assert_allclose(
        model.apply(variables, scaled, method="encode_a"),
        model.apply(variables, LATENTS_A, method="encode_a"),
        atol=1e-6,
    )


def test_fixed_temperature_and_learned_bias():
    model = Adapters(dim=4, blocks_a=0, blocks_b=0, temperature=0.1, learned_temperature=False, learned_bias=True)
    variables = jax.jit(model.init)(KEY, LATENTS_A, LATENTS_B)
    assert set(variables["params"]["logit_scale"]) == {"bias"}
    outputs = model.apply(variables, LATENTS_A, LATENTS_B)
    np.testing.assert_allclose([outputs["temperature"], outputs["bias"]], [0.1, -10.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks_a": -1}, "blocks_a"),
        ({"dropout": 1.0}, r"dropout .*\[0, 1\)"),
        ({"input_norm": "batch"}, "input_norm .*none, l2"),
        ({"temperature": 0.9}, "temperature must start inside"),
    ],
)
def test_bad_values_of_adapters(options, message):
    model_or_error = pytest.raises(ConfigError, match=message)
    with model_or_error:
        build_model("adapters", **options).init(KEY, LATENTS_A, LATENTS_B)


@functools.cache
def classifier(fusion: str, modalities: int):
    encoders = {f"encoder_{m}": {"name": "mlp", "widths": [8 + k]} for k, m in enumerate("abc"[:modalities])}
    model = build_model("fusion_classifier", classes=3, fusion=fusion, **encoders)
    inputs = (LATENTS_A, LATENTS_B, LATENTS_A[:, :5])[:modalities]
    return model, jax.jit(model.init)(KEY, *inputs), inputs


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["concat", "sum", "gated"])
@pytest.mark.parametrize("modalities", [2, 3])
def test_a_head_for_each_modality_and_for_all(fusion, modalities):
    model, variables, inputs = classifier(fusion, modalities)
    outputs = jax.jit(model.apply)(variables, *inputs)
    heads = [*"abc"[:modalities], "fused"]
    assert list(outputs["logits"]) == heads
    assert list(outputs["features"]) == heads
    for value in outputs["logits"].values():
        assert value.shape == (6, 3)
        assert value.dtype == jnp.float32
    widths = [8, 9, 10][:modalities]
    assert [outputs["features"][m].shape[1] for m in heads] == [*widths, sum(widths) if fusion == "concat" else 8]


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["concat", "sum", "gated"])
def test_single_heads_see_their_own_modality_and_the_fused_head_all(fusion):
    model, variables, (a, b) = classifier(fusion, 2)
    before = model.apply(variables, a, b)["logits"]
    after = model.apply(variables, a, b[::-1])["logits"]
    np.testing.assert_array_equal(before["a"], after["a"])
    assert np.abs(before["b"] - after["b"]).max() > 1e-3
    assert np.abs(before["fused"] - after["fused"]).max() > 1e-3


@pytest.mark.slow
def test_classifier_ignores_padding():
    model, variables, (a, b) = classifier("gated", 2)
    where = np.arange(6) < 4
    dirty = np.where(where[:, None], a, np.nan)

    def loss(variables, a):
        logits = model.apply(variables, a, b, train=True, where=where)["logits"]
        return sum(jnp.sum(jnp.where(where[:, None], x, 0.0) ** 2) for x in logits.values())

    gradients = jax.grad(loss)(variables, dirty)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    kept = model.apply(variables, dirty, b, where=where)["logits"]["fused"][:4]
    np.testing.assert_allclose(kept, model.apply(variables, a[:4], b[:4])["logits"]["fused"], atol=1e-6)


def test_classifier_refuses_a_wrong_number_of_inputs():
    model, variables, (a, b) = classifier("sum", 2)
    with pytest.raises(ValueError, match="inputs"):
        model.apply(variables, a, b, a)


@pytest.mark.parametrize(("option", "value"), [("classes", 1), ("fusion", "film")])
def test_bad_values_of_the_classifier(option, value):
    with pytest.raises(ConfigError, match=option):
        build_model("fusion_classifier", encoder_a="mlp", encoder_b="mlp", **{option: value})


def test_predict_adds_the_chosen_heads():
    logits = {"a": jnp.ones((2, 3)), "b": 2 * jnp.ones((2, 3)), "fused": 4 * jnp.ones((2, 3))}
    assert sum_head_logits(logits, ("a", "b"))[0, 0] == 3.0
    assert sum_head_logits(logits, ["fused"])[0, 0] == 4.0
    assert sum_head_logits(logits)[0, 0] == 7.0
    for heads in ((), ("a", "c")):
        with pytest.raises(ConfigError, match="heads"):
            sum_head_logits(logits, heads)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("three_tower", {}, "'three_tower'.* adapters, fusion_classifier, two_tower"),
        ("adapters", {"block_a": 1}, "'block_a'.*'adapters'.*blocks_a, blocks_b"),
        ("adapters", {"parent": None}, "unknown option 'parent'"),
        ("adapters", {"dtype": "float64"}, "dtype .*float32, bfloat16.*'float64'"),
        ("two_tower", {"encoder_a": "mlp"}, "'two_tower' .*'encoder_b'"),
        ("two_tower", {"encoder_a": "vgg", "encoder_b": "mlp"}, "'vgg'.* convnet, latents, lstm"),
        ("two_tower", {"encoder_a": {"width": 3}, "encoder_b": "mlp"}, "unknown encoder None; known"),
        ("two_tower", {"encoder_a": "mlp", "encoder_b": "lstm"}, "'lstm' .*'vocab_size'"),
        (
            "two_tower",
            {"encoder_a": {"name": "resnet18", "depth": 34}, "encoder_b": "mlp"},
            "'depth'.*'resnet18'.* norm, stem, width",
        ),
    ],
)
def test_unknown_names_and_options_list_the_known_ones(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_model(name, **options)


def test_dtype_and_axis_reach_the_encoders():
    model = build_model("two_tower", encoder_a="resnet18", encoder_b="mlp", dtype="bfloat16", axis_name="d")
    assert model.encoder_a.dtype == model.encoder_b.dtype == jnp.bfloat16
    assert model.encoder_a.axis_name == "d"


def test_options_may_come_from_json():
    model = build_model("two_tower", encoder_a={"name": "convnet", "widths": [4, 8]}, encoder_b="mlp")
    assert model.encoder_a.widths == (4, 8)
    hash(model)  # as a static argument of jit


def test_every_model_is_tested_here():
    assert set(MODELS) == {"adapters", "two_tower", "fusion_classifier"}
