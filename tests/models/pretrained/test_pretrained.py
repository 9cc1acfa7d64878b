"""Loading, computing and saving without transformers: on a checkpoint of a few kilobytes."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.core.errors import ConfigError
from alignment_jax.models import pretrained
from alignment_jax.models.pretrained.image_preprocess import read_image_preprocess
from alignment_jax.models.pretrained.tokenize import read_text_preprocess

pytest.importorskip("safetensors", reason="needs safetensors, of the extra 'pretrained'")
pytest.importorskip("tokenizers", reason="needs tokenizers, of the extra 'pretrained'")

TEXTS = ["a red dog", "a cat", "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pretrained.tiny_folder(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def copy(folder, tmp_path):
    return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def tensors(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def write(folder, arrays, name="model.safetensors"):
    from safetensors.numpy import save_file

    save_file(arrays, folder / name, metadata={"format": "pt"})


def encode(module, variables, batch, **options):
    """Compiled: operation by operation each of them would be compiled."""
    program = jax.jit(lambda variables, batch: module.apply(variables, **batch, **options, method="encode_text"))
    return np.asarray(program(variables, batch))


def embed(folder):
    module, variables, preprocess = pretrained.load(folder)
    return encode(module, variables, preprocess.texts(TEXTS))


@pytest.fixture(scope="module")
def expected(folder):
    return embed(folder)


def test_padding_changes_nothing(folder, expected):
    module, variables, preprocess = pretrained.load(folder)
    longer = preprocess.texts(TEXTS, length=12)
    assert longer["tokens"].shape == (3, 12)
    found = encode(module, variables, longer)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(encode(module, variables, {"tokens": longer["tokens"]}), found, atol=1e-5)


@pytest.mark.slow
def test_bfloat16_and_remat(folder, expected):
    module, variables, preprocess = pretrained.load(folder, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.bfloat16)}
    batch = preprocess.texts(TEXTS)
    halved = encode(module, variables, batch)
    assert halved.dtype == np.float32
    # Some 20 rounded operations in one layer, each 2^-9 of values near the norm's 3.
    assert np.abs(halved - expected).max() < 20 * 3 / 512
    module, variables, _ = pretrained.load(folder)

    def scalar(module):
        return jax.jit(jax.grad(lambda v: module.apply(v, **batch, method="encode_text").sum() ** 2))(variables)

    plain = scalar(module)
    again = scalar(pretrained.with_numerics(module, dataclasses.replace(module.numerics, remat=True)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)


@pytest.mark.slow
def test_dropout_is_of_the_checkpoint_and_of_the_row(copy, expected):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.25}))
    module, variables, preprocess = pretrained.load(copy)
    assert module.numerics.dropout == 0.25
    assert pretrained.load(copy, dropout=0.0).module.numerics.dropout == 0.0
    batch, rngs = preprocess.texts(TEXTS), {"dropout": jax.random.key(0)}
    whole = encode(module, variables, batch, train=True, rngs=rngs)
    assert np.abs(whole - expected).max() > 0.01
    last = {name: value[1:] for name, value in batch.items()}
    alone = encode(module, variables, {**last, "rows": jnp.array([1, 2])}, train=True, rngs=rngs)
    np.testing.assert_allclose(alone, whole[1:], atol=1e-5)


def test_stochastic_depth_leaves_out_branches_of_rows():
    layers = pretrained.Layers(width=4, depth=1, heads=1, hidden=4)
    module = pretrained.Transformer(layers, pretrained.Numerics(stochastic_depth=0.5))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2, 4)), jnp.float32)
    variables = jax.jit(module.init)(jax.random.key(0), x)

    @jax.jit
    def train(x, rows):
        return module.apply(variables, x, train=True, rows=rows, rngs={"dropout": jax.random.key(1)})

    found = np.asarray(train(x, jnp.arange(8)))
    skipped = (found == x).all(axis=(1, 2))  # both branches, with probability 1/4 a row
    assert 0 < skipped.sum() < 8
    turned = np.asarray(train(x[::-1], jnp.arange(8)[::-1]))
    np.testing.assert_allclose(turned[::-1], found, atol=1e-6)


def test_shards_are_read(copy, expected):
    arrays = tensors(copy)
    (copy / "model.safetensors").unlink()
    names = sorted(arrays)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for part, held in parts.items():
        write(copy, {name: arrays[name] for name in held}, part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(embed(copy), expected)
    (copy / "model-2.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"model-2\.safetensors"):
        pretrained.load(copy)


def test_names_of_old_checkpoints_and_of_models_with_a_head(copy, expected):
    renamed = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in tensors(copy).items()
    }
    write(copy, {**renamed, "cls.predictions.bias": np.zeros(8, np.float32)})
    np.testing.assert_array_equal(embed(copy), expected)


def test_saved_and_loaded_again(folder, tmp_path):
    _, variables, _ = pretrained.load(folder)
    changed = jax.tree.map(lambda leaf: 2 * leaf, variables)
    pretrained.save_pretrained(tmp_path / "new", changed, source=folder)
    again = pretrained.load(tmp_path / "new")
    jax.tree.map(np.testing.assert_array_equal, again.variables, changed)
    assert again.preprocess.texts(TEXTS)["tokens"].shape == (3, 5)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["architectures"] == ["BertModel"]
    halved = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), changed)
    pretrained.save_pretrained(tmp_path / "new", halved, source=folder)
    assert {array.dtype.name for array in tensors(tmp_path / "new").values()} == {"bfloat16"}
    jax.tree.map(
        np.testing.assert_array_equal, pretrained.load(tmp_path / "new").variables, jax.tree.map(np.float32, halved)
    )
    with pytest.raises(ConfigError, match=re.escape(str(folder))):
        pretrained.save_pretrained(folder, variables, source=folder)
    adapted = {"params": {**variables["params"], "adapter": {"kernel": jnp.ones(2)}}}
    with pytest.raises(ConfigError, match="adapter/kernel"):
        pretrained.save_pretrained(tmp_path / "adapted", adapted, source=folder)


def test_files_of_sentence_transformers(folder, tmp_path):
    """The transformer in a folder of its own, two poolings, normalisation, a default prompt, a shorter limit."""
    inner, pooling = tmp_path / "0_Transformer", tmp_path / "1_Pooling"
    shutil.copytree(folder, inner)
    pooling.mkdir()
    paths = {"Transformer": "0_Transformer", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in paths.items()]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    (pooling / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}))
    (tmp_path / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "red ", "none": ""}, "default_prompt_name": "query"})
    )
    (inner / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 6}))
    module, variables, preprocess = pretrained.load(tmp_path)
    assert module.spec.poolings == ("cls", "max")
    found = encode(module, variables, preprocess.texts(TEXTS))
    assert found.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-6)
    ids = preprocess.texts(["a"])["tokens"]
    np.testing.assert_array_equal(ids, preprocess.texts(["red a"], prefix="")["tokens"])
    np.testing.assert_array_equal(preprocess.texts(["a"], prompt="none")["tokens"], [[2, 4, 3]])
    assert preprocess.texts(["a " * 20])["tokens"].shape == (1, 6)
    pretrained.save_pretrained(tmp_path / "saved", variables, source=tmp_path)
    again, variables, _ = pretrained.load(tmp_path / "saved")
    assert again == module
    whole = (tmp_path / "modules.json").read_text()
    listed[2]["type"] = "sentence_transformers.models.Dense"
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ConfigError, match=r"modules\.json.*Dense"):
        pretrained.load(tmp_path)
    (tmp_path / "modules.json").write_text(whole.replace("1_Pooling", "../1_Pooling"))
    with pytest.raises(ConfigError, match=r"modules\.json.*\.\./1_Pooling"):
        pretrained.load(tmp_path)
    (tmp_path / "modules.json").write_text(whole)
    (pooling / "config.json").write_text(json.dumps({"pooling_mode": "median"}))
    with pytest.raises(ConfigError, match=r"1_Pooling.*median"):
        pretrained.load(tmp_path)


def config_with(**changes):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def weights_with(change):
    def apply(folder):
        arrays = tensors(folder)
        change(arrays)
        write(folder, arrays)

    return apply


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (weights_with(lambda arrays: arrays.pop("embeddings.LayerNorm.bias")), r"embeddings\.LayerNorm\.bias"),
        (weights_with(lambda arrays: arrays.update(extra=np.ones(2))), "extra"),
        (config_with(intermediate_size=24), r"encoder\.layer\.0\.intermediate\.dense\.weight \(16, 8\), not \(24, 8\)"),
        (config_with(num_hidden_layers=2), r"encoder\.layer\.1\.attention"),
        (config_with(model_type="berd"), r"config\.json.*'bert'"),
        (config_with(hidden_act="gelo"), "hidden_act 'gelo'.*'gelu'"),
        (config_with(num_attention_heads=3), "num_attention_heads"),
        (config_with(hidden_size="wide"), "hidden_size"),
        (config_with(is_decoder=True), "encoders"),
        (pickled, r"model\.safetensors"),
        (cut, r"model\.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json"),
    ],
)
def test_checkpoints_that_cannot_be_loaded(change, named, copy):
    change(copy)
    with pytest.raises(ConfigError, match=named) as caught:
        pretrained.load(copy)
    assert str(copy) in str(caught.value)


def test_the_tokenizer_of_another_checkpoint(copy):
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["bird"] = 8
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    texts = pretrained.load(copy).preprocess.texts
    assert texts(["a dog"])["tokens"].shape == (1, 4)
    with pytest.raises(ConfigError, match=r"tokenizer\.json.* 8"):
        texts(["a bird"])
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        _ = pretrained.load(copy).preprocess.texts


def test_a_tokenizer_of_words(copy):
    files = pretrained.word_tokenizer(["a", "blue", ",", "star"])
    (copy / "tokenizer.json").write_text(json.dumps(files["tokenizer"]))
    texts = pretrained.load(copy).preprocess.texts
    assert texts(["a blue, star", "a dog"])["tokens"].tolist() == [[2, 4, 5, 6, 7, 3], [2, 4, 1, 3, 0, 0]]
    for words, named in ((["a", "a"], "'a'"), (["five pointed"], "'five pointed'"), (["[PAD]"], "PAD")):
        with pytest.raises(ValueError, match=named):
            pretrained.word_tokenizer(words)


def test_siglip_texts_are_canonical_and_of_one_length(copy):
    """Its tokenizer drops case and punctuation before tokenizer.json, and attends to padding."""
    config = json.loads((copy / "tokenizer_config.json").read_text())
    (copy / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "SiglipTokenizer"}))
    preprocess = read_text_preprocess(copy, longest=9, vocabulary=8, padding=0, fixed=True, root=copy)
    found = preprocess(["A  red, DOG!"])
    assert found["tokens"].tolist() == [[2, 4, 5, 6, 3, 0, 0, 0, 0]]
    assert found["mask"].all()


def test_wrong_arguments(folder, tmp_path):
    with pytest.raises(ConfigError, match="no-such"):
        pretrained.load(tmp_path / "no-such")
    with pytest.raises(ConfigError, match="stochastic_depth"):
        pretrained.load(folder, stochastic_depth=1.0)
    module, variables, preprocess = pretrained.load(folder)
    with pytest.raises(ConfigError, match=re.escape(str(folder))):
        preprocess.images([])
    for named, arguments in {
        "one string": {"texts": "one string"},
        "no prompt 'q'": {"texts": ["a"], "prompt": "q"},
        "13": {"texts": ["a"], "length": 13},
    }.items():
        with pytest.raises(ValueError, match=named):
            preprocess.texts(**arguments)
    with pytest.raises(ValueError, match="12"):
        module.apply(variables, np.zeros((1, 13), np.int32))
    with pytest.raises(ValueError, match="uint8"):
        pretrained.ImagePreprocess()([np.zeros((4, 4, 3), np.float32)])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"image_processor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 32}, (40, (32, 32))),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 40}, ((40, 40), None)),
        ({"image_processor_type": "SiglipImageProcessorFast"}, ((224, 224), None)),
        ({"image_processor_type": "BitImageProcessor", "do_resize": False, "do_center_crop": False}, (None, None)),
    ],
)
def test_preprocessing_files_of_older_versions(written, expected, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    found = read_image_preprocess(tmp_path)
    assert (found.resize, found.crop) == expected


@pytest.mark.slow
def test_nothing_heavy_is_imported():
    code = (
        "import sys, alignment_jax.models.pretrained as p, tempfile; f = p.tiny_folder(tempfile.mkdtemp()); "
        "p.load(f).preprocess.texts(['a']); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
