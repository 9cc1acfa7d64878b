"""The adapters against FuseMix's own code: outputs, loss, gradients, temperature clamp (golden fusemix.npz)."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alignment_jax.models import Adapters
from alignment_jax.models.adapters import Block

pytestmark = pytest.mark.costly

FILE = pathlib.Path(__file__).parent / "data" / "fusemix.npz"
TOWERS = {"a": ("vis_proj", 2), "b": ("text_proj", 1)}  # side: torch name, number of blocks
TORCH_TO_FLAX = {
    "ln.weight": ("norm", "scale"),
    "ln.bias": ("norm", "bias"),
    "fn.0.weight": ("up", "kernel"),
    "fn.0.bias": ("up", "bias"),
    "fn.3.weight": ("down", "kernel"),
    "fn.3.bias": ("down", "bias"),
}


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE, allow_pickle=False) as arrays:
        return dict(arrays)


def from_torch(golden, prefix: str) -> dict:
    """The arrays `<prefix>__...` as a tree of our names: kernels transposed, the rest unchanged."""

    def layer(source: str, names: dict) -> dict:
        tree: dict = {}
        for torch_name, (module, leaf) in names.items():
            value = golden[f"{prefix}__{source}.{torch_name}"]
            tree.setdefault(module, {})[leaf] = value.T if leaf == "kernel" else value
        return tree

    tree: dict = {}
    for side, (tower, blocks) in TOWERS.items():
        tree[side] = {f"block_{k}": layer(f"{tower}.{k}", TORCH_TO_FLAX) for k in range(blocks)}
        tree[side].update(layer(f"{tower}.{blocks}", {"weight": ("norm", "scale"), "bias": ("norm", "bias")}))
        tree[side].update(
            layer(f"{tower}.{blocks + 1}", {"weight": ("project", "kernel"), "bias": ("project", "bias")})
        )
    return tree


def parameters(golden, temperature: float | None = None) -> dict:
    temperature = float(golden["param__temp"]) if temperature is None else temperature
    return {**from_torch(golden, "param"), "logit_scale": {"log_temperature": jnp.log(jnp.float32(temperature))}}


@pytest.fixture(scope="module")
def model():
    return Adapters(dim=8, blocks_a=2, blocks_b=1, expansion=4, dropout=0.6)


def symmetric_loss(outputs):
    logits = outputs["a"] @ outputs["b"].T / outputs["temperature"]
    labels = jnp.arange(logits.shape[0])
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return 0.5 * (cross_entropy(logits, labels).mean() + cross_entropy(logits.T, labels).mean())


def mixed(golden, lam):
    half = golden["vis_embed"].shape[0] // 2
    return tuple(lam * golden[k][:half] + (1 - lam) * golden[k][half:] for k in ("vis_embed", "text_embed"))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.slow
def test_our_parameter_tree_is_the_golden_one(golden, model):
    ours = jax.jit(model.init)(jax.random.key(0), golden["vis_embed"], golden["text_embed"])["params"]
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, parameters(golden))


def test_one_block(golden):
    weights = from_torch(golden, "param")["a"]["block_0"]
    block = Block(expansion=4, dropout=0.6, zero_init=False, dtype=jnp.float32)
    y = block.apply({"params": weights}, golden["block_in"], train=False, rows=None)
    np.testing.assert_allclose(y, golden["block_out_f64"], rtol=1e-5, atol=2e-6)


@pytest.mark.slow
def test_embeddings_of_unmixed_latents(golden, model):
    outputs = model.apply({"params": parameters(golden)}, golden["vis_embed"], golden["text_embed"])
    # The golden projections are stored before their normalisation. Sums of 48 and of 12 products lie behind a number.
    np.testing.assert_allclose(outputs["a"], unit(golden["nomix_proj_vis_f64"]), atol=5e-6)
    np.testing.assert_allclose(outputs["b"], unit(golden["nomix_proj_text_f64"]), atol=5e-6)
    np.testing.assert_allclose(symmetric_loss(outputs), golden["nomix_loss_f64"], rtol=1e-5)


def test_loss_of_mixed_latents(golden, model):
    variables = {"params": parameters(golden)}
    loss = jax.jit(lambda a, b: symmetric_loss(model.apply(variables, a, b)))
    ours = [loss(*(x.astype(np.float32) for x in mixed(golden, lam))) for lam in golden["lam"]]
    np.testing.assert_allclose(ours, golden["loss_f64"], rtol=1e-5)


@pytest.mark.slow
def test_gradients_of_weights_and_latents(golden, model):
    lam = golden["lam"][golden["grad_lam_index"]]

    def loss(params, latents):
        half = latents[0].shape[0] // 2
        a, b = (lam * z[:half] + (1 - lam) * z[half:] for z in latents)
        return symmetric_loss(model.apply({"params": params}, a, b))

    latents = (jnp.asarray(golden["vis_embed"]), jnp.asarray(golden["text_embed"]))
    ours, (grad_vis, grad_text) = jax.jit(jax.grad(loss, (0, 1)))(parameters(golden), latents)

    # Our parameter is log temperature: dL/d log t = t dL/dt.
    expected_temperature = golden["grad__temp_f64"] * golden["param__temp"]
    np.testing.assert_allclose(ours.pop("logit_scale")["log_temperature"], expected_temperature, rtol=1e-5)
    expected = from_torch({name.removesuffix("_f64"): x for name, x in golden.items() if name.endswith("_f64")}, "grad")
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5), ours, expected)
    np.testing.assert_allclose(grad_vis, golden["grad_vis_embed_f64"], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(grad_text, golden["grad_text_embed_f64"], rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_temperature_is_clamped_and_its_gradient_is_not_masked(golden, model):
    def loss(log_temperature):
        params = {**from_torch(golden, "param"), "logit_scale": {"log_temperature": log_temperature}}
        outputs = model.apply({"params": params}, golden["vis_embed"], golden["text_embed"])
        return symmetric_loss(outputs), outputs["temperature"]

    evaluate = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for k, start in enumerate(golden["clamp_temp_in"]):
        if start <= 0:  # a plain parameter can get there, the logarithm cannot; both end at the lower bound
            start = 1e-6
        (value, temperature), gradient = evaluate(jnp.float32(math.log(start)))
        np.testing.assert_allclose(temperature, golden["clamp_temp_out"][k], rtol=2e-6)
        np.testing.assert_allclose(value, golden["clamp_loss_f64"][k], rtol=1e-5)
        expected = golden["clamp_grad_temp_f64"][k] * golden["clamp_temp_out_f64"][k]
        np.testing.assert_allclose(gradient, expected, rtol=2e-5, atol=1e-6)
        assert gradient != 0
