"""One table of encoders, one list of promises that every row keeps."""

import atexit
import functools
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.core import ConfigError
from alignment_jax.models import ENCODERS, build_encoder
from alignment_jax.models.encoders.layers import Layers, sincos_positions
from alignment_jax.models.encoders.pixels import channels_last
from alignment_jax.models.pretrained import tiny_folder

pytestmark = pytest.mark.costly

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
TOKENS = np.array([[5, 3, 2, 0, 0], [9, 0, 0, 0, 0], [1, 2, 3, 4, 5], [7, 7, 0, 0, 0]], np.int32)
VECTORS = np.random.default_rng(1).normal(size=(4, 12)).astype(np.float32)
SPECTROGRAMS = np.random.default_rng(2).normal(-40.0, 10.0, (4, 12, 8)).astype(np.float32)

_FOLDER = tempfile.mkdtemp()
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
CLIP, BERT = (f"hf:{tiny_folder(f'{_FOLDER}/{family}', family=family)}" for family in ("clip", "bert"))

# spec, input, width of the features
CASES = {
    "latents": ({"name": "latents", "dropout": 0.5}, VECTORS, 12),
    "pretrained image": ({"name": "pretrained_image", "model": CLIP, "dropout": 0.2}, IMAGES, 6),
    "pretrained text": ({"name": "pretrained_text", "model": BERT, "dropout": 0.2}, TOKENS, 8),
    "vit": ({"name": "vit", "patch_size": 4, "width": 16, "depth": 2, "heads": 2}, IMAGES, 16),
    "resnet10 group": ({"name": "resnet", "depth": 10, "width": 4}, IMAGES, 32),
    "resnet10 batch": ({"name": "resnet", "depth": 10, "width": 4, "norm": "batch"}, IMAGES, 32),
    "convnet image": ({"name": "convnet", "widths": [8, 6]}, IMAGES, 6),
    "convnet audio": ({"name": "convnet", "widths": [8], "norm": "batch"}, SPECTROGRAMS, 8),
    "mlp": ({"name": "mlp", "widths": [8, 6], "dropout": 0.5}, VECTORS, 6),
    "transformer": (
        {"name": "transformer", "vocab_size": 11, "max_length": 9, "width": 16, "depth": 2, "heads": 2},
        TOKENS,
        16,
    ),
    "transformer last": (
        {
            "name": "transformer",
            "vocab_size": 11,
            "max_length": 9,
            "width": 16,
            "depth": 1,
            "heads": 4,
            "pooling": "last",
        },
        TOKENS,
        16,
    ),
    "lstm": ({"name": "lstm", "vocab_size": 11, "embedding_width": 6, "width": 8}, TOKENS, 8),
    "bilstm mean": (
        {"name": "lstm", "vocab_size": 11, "embedding_width": 6, "width": 8, "bidirectional": True, "pooling": "mean"},
        TOKENS,
        16,
    ),
    "bilstm last": (
        {"name": "lstm", "vocab_size": 11, "embedding_width": 6, "width": 8, "bidirectional": True},
        TOKENS,
        16,
    ),
}
EVERY = pytest.mark.parametrize("case", CASES)
TEXT = pytest.mark.parametrize("case", [name for name, (_, x, _) in CASES.items() if x is TOKENS])


@functools.cache
def made(case: str, dtype: str = "float32"):
    spec, x, _ = CASES[case]
    encoder = build_encoder(spec, dtype=dtype)
    return encoder, jax.jit(encoder.init)(KEY, x)


@functools.cache
def applied(case: str, train: bool):
    encoder, _ = made(case)

    def apply(variables, x, where, rows):
        mutable = ["batch_stats"] if train else False
        return encoder.apply(variables, x, train=train, where=where, rows=rows, rngs={"dropout": KEY}, mutable=mutable)

    return jax.jit(apply)


def features(case, x, *, train=False, where=None, rows=None):
    y = applied(case, train)(made(case)[1], x, where, rows)
    return y[0] if train else y


@pytest.mark.slow
@EVERY
def test_shape_and_dtype(case):
    _, x, width = CASES[case]
    y = features(case, x)
    assert y.shape == (4, width)
    assert y.dtype == jnp.float32
    assert np.isfinite(y).all()
    assert np.std(y, axis=0).max() > 1e-4, "different inputs give different features"


@pytest.mark.slow
@EVERY
def test_bfloat16_computes_near_float32_with_float32_parameters(case):
    _, x, _ = CASES[case]
    encoder, variables = made(case, "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype("float32")}
    y = jax.jit(encoder.apply)(variables, x)
    expected = features(case, x)
    # bfloat16 keeps 8 bits; a few layers lose a few of them.
    np.testing.assert_allclose(y, expected, atol=0.05 * float(np.abs(expected).max()))


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("train", [False, True])
def test_padded_rows_change_no_other_row(case, train):
    _, x, _ = CASES[case]
    where = np.array([True, False, True, True])
    alone = features(case, x[where], train=train, where=np.ones(3, bool), rows=np.flatnonzero(where))
    padded = features(case, np.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, 0), train=train, where=where)
    np.testing.assert_allclose(padded[where], alone, atol=3e-6)
    assert np.isfinite(padded).all()


@pytest.mark.slow
@EVERY
def test_gradients_stay_finite_for_zero_input(case):
    encoder, variables = made(case)
    x = np.zeros_like(CASES[case][1])

    def loss(params):
        y, _ = encoder.apply(
            {**variables, "params": params}, x, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"]
        )
        return jnp.sum(jnp.sin(y + 0.1))

    gradients = jax.jit(jax.grad(loss))(variables.get("params", {}))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


@pytest.mark.slow
@TEXT
@pytest.mark.parametrize("extra", [1, 4])
def test_more_padding_changes_nothing(case, extra):
    longer = np.pad(TOKENS, ((0, 0), (0, extra)))
    np.testing.assert_allclose(features(case, longer), features(case, TOKENS), atol=1e-6)


@pytest.mark.slow
@TEXT
def test_every_token_counts(case):
    y = features(case, TOKENS)
    for position in range(3):
        changed = TOKENS.copy()
        changed[0, position] = 10
        difference = np.abs(features(case, changed) - y).max(axis=1)
        assert difference[0] > 1e-6
        np.testing.assert_allclose(difference[1:], 0.0, atol=1e-7)


@pytest.mark.slow
@TEXT
def test_order_of_words_counts(case):
    swapped = TOKENS[:, [1, 0, 2, 3, 4]]
    assert np.abs(features(case, swapped)[2] - features(case, TOKENS)[2]).max() > 1e-6


@pytest.mark.slow
def test_a_token_outside_the_vocabulary_is_not_silent():
    assert np.isnan(features("lstm", np.full((4, 5), 11, np.int32))).any()


@pytest.mark.slow
def test_last_state_of_an_lstm_is_the_state_at_the_last_word():
    whole = features("lstm", TOKENS)
    alone = features("lstm", TOKENS[:1, :3])
    np.testing.assert_allclose(whole[:1], alone, atol=1e-6)


@pytest.mark.slow
def test_dropout_acts_in_training_only_and_needs_a_key():
    encoder, variables = made("mlp")
    np.testing.assert_array_equal(features("mlp", VECTORS), features("mlp", VECTORS))
    assert np.abs(features("mlp", VECTORS, train=True) - features("mlp", VECTORS)).max() > 1e-3
    with pytest.raises(Exception, match="dropout"):
        encoder.apply(variables, VECTORS, train=True)


@pytest.mark.slow
def test_layers_of_a_stack_start_different_and_drop_different_units():
    layers = Layers(depth=2, heads=2, expansion=1, dropout=0.5, dtype=jnp.float32)
    x = jnp.zeros((1, 2, 64))
    params = layers.init(KEY, x, mask=None, rows=None, train=False)["params"]
    up = params["layers"]["up"]["kernel"]
    assert up.shape == (2, 64, 64)
    assert np.abs(up[0] - up[1]).max() > 0.01

    # Attention and MLP now put out 1 everywhere. Each of the four dropouts turns that into 0 or 2, so a sum takes five
    # values (0, 2 .. 8); were the masks of both layers the same, only 0, 4 and 8 would occur.
    for module in (params["layers"]["attention"]["out"], params["layers"]["down"]):
        module["kernel"] = jnp.zeros_like(module["kernel"])
        module["bias"] = jnp.ones_like(module["bias"])
    y = layers.apply({"params": params}, x, mask=None, rows=None, train=True, rngs={"dropout": KEY})
    assert len(np.unique(np.round(np.asarray(y[0, 0]), 4))) == 5


@pytest.mark.slow
def test_one_vit_takes_any_image_size():
    encoder, variables = made("vit")
    assert encoder.apply(variables, np.zeros((2, 24, 8, 3), np.uint8)).shape == (2, 16)


def test_vit_refuses_a_size_that_its_patches_do_not_fill():
    encoder, variables = made("vit")
    with pytest.raises(ValueError, match=r"18x16.*patch_size"):
        encoder.apply(variables, np.zeros((1, 18, 16, 3), np.uint8))


def test_text_longer_than_the_position_table():
    encoder, variables = made("transformer")
    with pytest.raises(ValueError, match=r"10.*max_length 9"):
        encoder.apply(variables, np.ones((1, 10), np.int32))


def test_position_codes_are_distinct_and_bounded():
    codes = np.asarray(sincos_positions(4, 5, 16))
    distances = np.linalg.norm(codes[:, None] - codes[None], axis=-1) + np.eye(20)
    assert distances.min() > 0.1
    assert np.abs(codes).max() <= 1.0


def test_bytes_are_scaled_and_floats_are_not():
    assert channels_last(np.array([[[[0, 51, 255]]]], np.uint8)).ravel().tolist() == pytest.approx([-1.0, -0.6, 1.0])
    assert channels_last(np.array([[[7.0]]], np.float32)).shape == (1, 1, 1, 1)
    assert float(channels_last(np.array([[[7.0]]], np.float32)).ravel()[0]) == 7.0
    with pytest.raises(ValueError, match="images"):
        channels_last(np.zeros((3, 3), np.float32))


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    # torchvision's 11,689,512 and 25,557,032 less its 1000-class layer of 513,000 and 2,049,000.
    [("resnet18", 224, 11_176_512), ("resnet50", 224, 23_508_032)],
)
def test_resnets_have_the_published_number_of_parameters(name, size, expected):
    encoder = build_encoder({"name": name, "norm": "batch"})
    shapes = jax.eval_shape(encoder.init, KEY, jnp.zeros((1, size, size, 3), jnp.uint8))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == expected


def test_stem_goes_by_the_size_of_the_image():
    encoder = build_encoder({"name": "resnet", "depth": 10, "width": 4})
    small = jax.eval_shape(encoder.init, KEY, jnp.zeros((1, 64, 64, 3), jnp.uint8))["params"]["stem"]["kernel"].shape
    large = jax.eval_shape(encoder.init, KEY, jnp.zeros((1, 65, 65, 3), jnp.uint8))["params"]["stem"]["kernel"].shape
    assert (small, large) == ((3, 3, 3, 4), (7, 7, 3, 4))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "vit", "width": 10, "heads": 3}, "width .*heads"),
        ({"name": "vit", "width": 6, "heads": 3}, "multiple of 4"),
        ({"name": "vit", "depth": 0}, "depth .* 1"),
        ({"name": "transformer", "vocab_size": 5, "pooling": "max"}, "pooling .*mean, first, last"),
        ({"name": "transformer", "vocab_size": 5, "dropout": 1.0}, "dropout"),
        ({"name": "lstm", "vocab_size": 5, "pooling": "first"}, "pooling .*last, mean"),
        ({"name": "lstm", "vocab_size": 5, "dropout": -0.1}, "dropout"),
        ({"name": "resnet", "depth": 20}, "depth .*10, 18, 34, 50"),
        ({"name": "resnet", "norm": "layer"}, "norm must be one of"),
        ({"name": "resnet", "stem": "tiny"}, "stem must be one of"),
        ({"name": "convnet", "widths": []}, "widths"),
        ({"name": "convnet", "norm": "layer"}, "norm must be one of"),
        ({"name": "mlp", "widths": ()}, "widths"),
        ({"name": "mlp", "dropout": 2}, "dropout"),
    ],
)
def test_bad_values_are_refused_when_the_encoder_is_built(spec, message):
    with pytest.raises(ConfigError, match=message):
        build_encoder(spec)


def test_every_registered_encoder_is_in_the_table_of_this_file():
    tested = {spec["name"] for spec, _, _ in CASES.values()} | {"resnet18", "resnet50"}
    assert tested == set(ENCODERS)
