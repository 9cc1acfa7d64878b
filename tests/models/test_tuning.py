"""Fine-tuning: what is trained, adapters, rates by layer, averages of weights; on a CLIP of a few kilobytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.nested import flatten, unflatten
from alignment_jax.models import pretrained, tuning

pytest.importorskip("safetensors", reason="needs safetensors, of the extra 'pretrained'")

TOKENS = np.array([[2, 4, 5, 6, 3], [2, 7, 3, 0, 0]], np.int32)
FLOAT32 = 2.0**-24  # unit roundoff


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    module, variables, _ = pretrained.load(pretrained.tiny_folder(tmp_path_factory.mktemp("clip"), family="clip"))
    return module, variables["params"]


@pytest.fixture(scope="module")
def embed(clip):
    """Parameters -> embeddings of texts; compiled once for every form of the tree."""
    module, _ = clip
    return jax.jit(lambda params: module.apply({"params": params}, TOKENS, method="encode_text"))


@pytest.fixture(scope="module")
def adapted(clip):
    """Adapters on attention and MLPs, with a B that is not zero."""
    params = tuning.add_lora(clip[1], rank=2, key=jax.random.key(0))
    moved = {path: 0.1 + leaf if path.endswith("lora_b") else leaf for path, leaf in flatten(params)}
    return params, unflatten(moved)


def equal_trees(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


WORDS = {
    "none": set(),
    "head": {"image/norm", "image/projection", "text/norm", "text/projection", "logit_scale"},
    "last:1": {"image/layers/above", "text/layers/above", "image/norm", "text/projection", "logit_scale"},
    "last:2": {"image/layers/above", "text/layers/above", "image/norm", "text/projection", "logit_scale"},
    "norms": {"image/layers/norm1", "text/layers/norm2", "image/norm_before", "text/norm", "logit_scale"},
    "all": {"image", "text", "logit_scale"},
}


@pytest.mark.parametrize("tune", WORDS)
def test_a_split_is_joined_and_merged_to_the_same_tree(clip, tune):
    _, params = clip
    trainable, frozen = tuning.split_parameters(params, tune)
    equal_trees(tuning.merge_parameters(tuning.join_parameters(trainable, frozen)), params)
    paths = dict(flatten(trainable))
    for prefix in WORDS[tune]:
        assert any(f"{path}/".startswith(f"{prefix}/") for path in paths)
    if tune in ("none", "all"):
        equal_trees(frozen if tune == "none" else trainable, params)
    if tune in ("head", "norms"):
        assert not any("attention" in path or "mlp" in path for path in paths)
    if tune.startswith("last"):
        assert paths["text/layers/above/norm1/scale"].shape[0] == int(tune[-1])
        assert not any("below" in path or "words" in path for path in paths)


def test_each_side_has_its_own_word(clip):
    trainable, frozen = tuning.split_parameters(clip[1], {"image": "none", "text": "all"})
    assert set(trainable) == {"text", "logit_scale"}
    equal_trees(frozen, {"image": clip[1]["image"]})
    trainable, frozen = tuning.split_parameters(clip[1], {"image": "none", "text": "none"})
    assert trainable == {}
    equal_trees(frozen, clip[1])


def test_a_cut_stack_computes_the_same_and_keeps_nothing_of_the_frozen_layers(clip, embed):
    module, params = clip
    trainable, frozen = tuning.split_parameters(params, "last:1")
    cut = tuning.join_parameters(trainable, frozen)
    # Two layers and a norm of float32, on embeddings of some units.
    np.testing.assert_allclose(embed(cut), embed(params), rtol=0, atol=2 * 6 * 16 * 16 * FLOAT32)

    def backward_scans(*frozen):
        def loss(trainable):
            params = tuning.join_parameters(trainable, *frozen)
            return module.apply({"params": params}, TOKENS, method="encode_text").sum()

        return str(jax.make_jaxpr(jax.grad(loss))(trainable if frozen else cut)).count("reverse=True")

    assert backward_scans(frozen) == 1
    assert backward_scans() == 2


def test_adapters_start_at_the_base_and_merge_to_it(clip, embed, adapted):
    start, moved = adapted
    np.testing.assert_array_equal(embed(start), embed(clip[1]))
    equal_trees(tuning.merge_parameters(start), clip[1])
    merged = tuning.merge_parameters(moved)
    assert jax.tree.structure(merged) == jax.tree.structure(clip[1])
    assert np.abs(embed(merged) - embed(clip[1])).max() > 0.01
    # Two layers of six products with at most 16 terms each, and norms that divide by deviations near 1.
    np.testing.assert_allclose(embed(merged), embed(moved), rtol=0, atol=2 * 6 * 16 * 16 * FLOAT32)


def test_adapters_alone_are_trained(clip, adapted):
    module, params = clip
    trainable, frozen = tuning.split_parameters(adapted[1], "lora")
    names = {path.rsplit("/", 1)[-1] for path, _ in flatten(trainable)}
    assert names == {"lora_a", "lora_b", "logit_scale"}
    equal_trees(tuning.merge_parameters(frozen)["text"], params["text"])

    @jax.jit
    @jax.grad
    def gradient(trainable):
        variables = {"params": tuning.join_parameters(trainable, frozen)}
        return jnp.prod(module.apply(variables, TOKENS, method="encode_text")[:, 0])

    found = dict(flatten(gradient(trainable)))
    layers = found["text/layers/attention/value/lora_a"]
    assert layers.shape == (2, 8, 2)
    assert (jnp.abs(layers).max(axis=(1, 2)) > 0).all()
    assert all(jnp.isfinite(leaf).all() for leaf in found.values())


def test_adapters_of_bfloat16_weights_are_float32(clip):
    halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), clip[1])
    params = tuning.add_lora(halved, rank=1, key=jax.random.key(1), targets=["text/layers/mlp/up"])
    new = {path: leaf for path, leaf in flatten(params) if path not in dict(flatten(halved))}
    assert set(new) == {"text/layers/mlp/up/lora_a", "text/layers/mlp/up/lora_b"}
    assert {leaf.dtype for leaf in new.values()} == {jnp.dtype(jnp.float32)}
    assert tuning.merge_parameters(params)["text"]["layers"]["mlp"]["up"]["kernel"].dtype == jnp.bfloat16


def test_cut_and_adapters_compose(adapted):
    parts = tuning.split_parameters(adapted[1], "last:1")
    merged = tuning.merge_parameters(tuning.join_parameters(*parts))
    equal_trees(merged, tuning.merge_parameters(adapted[1]))


def test_saved_checkpoints_hold_plain_kernels(adapted, tmp_path):
    source = pretrained.tiny_folder(tmp_path / "source", family="clip")
    pretrained.save_pretrained(tmp_path / "tuned", {"params": adapted[1]}, source=source)
    equal_trees(pretrained.load(tmp_path / "tuned").variables["params"], tuning.merge_parameters(adapted[1]))


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_rates_fall_with_the_distance_from_the_output(clip, decay):
    _, params = clip
    rates = dict(flatten(tuning.layer_rates(params, decay=decay)))
    assert float(rates["image/norm/bias"]) == float(rates["logit_scale"]) == float(rates["text/projection/kernel"]) == 1
    for name in ("image/patches/kernel", "image/norm_before/scale", "text/words", "text/positions"):
        assert float(rates[name]) == decay**3
    for path in ("image/layers/mlp/up/kernel", "text/layers/norm1/bias"):
        leaf = dict(flatten(params))[path]
        assert rates[path].ravel().tolist() == [decay**2, decay]
        assert (rates[path] * leaf).shape == leaf.shape


@pytest.mark.parametrize("tune", ["last:1", "norms", "all"])
def test_rates_of_a_part_are_those_of_the_whole(clip, tune):
    parts = tuning.split_parameters(clip[1], tune)
    rates = tuning.layer_rates(tuning.join_parameters(*parts), decay=0.5)
    whole = dict(flatten(tuning.layer_rates(clip[1], decay=0.5)))
    full = jax.tree.map(lambda rate, leaf: np.broadcast_to(rate, leaf.shape), rates, tuning.join_parameters(*parts))
    merged = dict(flatten(tuning.merge_parameters(full)))
    assert all((merged[path] == rate).all() for path, rate in whole.items())
    trained = dict(flatten(tuning.layer_rates(parts[0], decay=0.5)))
    assert all((rate == dict(flatten(rates))[path]).all() for path, rate in trained.items())


def test_the_ends_of_an_interpolation_are_exact(clip):
    start = jax.tree.map(np.asarray, clip[1])
    tuned = jax.tree.map(lambda leaf: np.float32(leaf + 0.3), start)
    equal_trees(tuning.interpolate(start, tuned, alpha=0.0), start)
    equal_trees(tuning.interpolate(start, tuned, alpha=1.0), tuned)
    half = tuning.interpolate(start, tuned, alpha=0.5)
    jax.tree.map(lambda m, s, t: np.testing.assert_array_equal(m, 0.5 * s + 0.5 * t), half, start, tuned)
    halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), start)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(tuning.interpolate(halved, tuned, alpha=0.5))} == {"bfloat16"}


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda p: tuning.split_parameters(p, "lats:2"), "'last'"),
        (lambda p: tuning.split_parameters(p, "last"), "last"),
        (lambda p: tuning.split_parameters(p, "last:0"), "last:0"),
        (lambda p: tuning.split_parameters(p, "norms:2"), "norms:2"),
        (lambda p: tuning.split_parameters(p, "last:3"), "last:3.*2 layers"),
        (lambda p: tuning.split_parameters(p, "lora"), "add_lora"),
        (lambda p: tuning.split_parameters(p, {"imgae": "all"}), "'image'"),
        (lambda p: tuning.add_lora(p, rank=0, key=jax.random.key(0)), "rank.*0"),
        (lambda p: tuning.add_lora(p, rank=1, key=jax.random.key(0), targets=["mlp/updown"]), "'mlp/updown'.*mlp/up"),
        (lambda p: tuning.add_lora(p, rank=1, key=jax.random.key(0), targets=["patches"]), "'patches'"),
    ],
)
def test_settings_that_fit_no_parameters(clip, call, named):
    with pytest.raises(ConfigError, match=named):
        call(clip[1])


def test_wrong_arguments(clip, adapted):
    _, params = clip
    with pytest.raises(ConfigError, match="image/layers/attention/key"):
        tuning.add_lora(adapted[0], rank=1, key=jax.random.key(0))
    for call, named in (
        (lambda: tuning.join_parameters(params, {"text": {"words": 1}}), "text/words"),
        (lambda: tuning.interpolate(params, params, alpha=1.5), "alpha"),
        (lambda: tuning.interpolate(params, {**params, "extra": jnp.ones(1)}, alpha=0.5), "extra"),
        (lambda: tuning.interpolate(params, {**params, "logit_scale": jnp.ones(1)}, alpha=0.5), "logit_scale"),
        (lambda: tuning.interpolate(params, adapted[0], alpha=0.5), "lora_a"),
        (lambda: tuning.layer_rates(params, decay=0.0), "decay"),
    ):
        with pytest.raises(ValueError, match=named):
            call()
