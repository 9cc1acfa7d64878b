"""Known families in JAX, on eight devices: vectors, batches, records, several processes. PyTorch cannot be imported."""

import shutil
import sys
import threading

import jax
import mock_data_sets as mock
import numpy as np
import pytest
from several_processes import Processes

from alignment_jax import data, extract
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError
from alignment_jax.models import pretrained

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VIT = {"model_type": "vit", **SIZES, "image_size": 28, "patch_size": 14}
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 28, "width": 28}}
TEXTS = ["a red dog", "cat", "a cat a dog a cat a dog a cat a dog", "a dog", "red", "a a a a a a"]


@pytest.fixture(autouse=True)
def without_pytorch(monkeypatch):
    for name in ("torch", "transformers", "sentence_transformers"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    pretrained.random_folder(folder / "vit", VIT, files={"preprocessor_config": PROCESSOR})
    pretrained.tiny_folder(folder / "bert")
    return folder


def test_a_text_has_one_vector_whatever_its_batch(folders):
    encoder = extract.open_encoder(f"hf:{folders / 'bert'}", side="text", options=extract.Options(prefix="a "))
    module, variables, preprocess = pretrained.load(folders / "bert")
    batch = preprocess.texts(["a " + text for text in TEXTS])
    expected = jax.jit(module.apply, static_argnames="method")(variables, **batch, method="encode_text")
    # The vectors are means of at most 12 tokens of a few units each.
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    stages = encoder.stages
    assert stages.devices == len(jax.local_devices())
    seen, shapes = {}, set()
    for rows, prepared in stages.arrange(TEXTS, 4):
        launched = stages.launch(prepared, 4)
        shapes.add(prepared["tokens"].shape[1])
        found = stages.collect(launched)
        assert len(found) == len(rows)
        seen |= dict(zip(rows.tolist(), found, strict=True))
    assert shapes == {12, 8}  # the longest text of each batch, rounded up, but no longer than the model's positions
    np.testing.assert_allclose([seen[row] for row in range(len(TEXTS))], expected, atol=1e-5)


def test_poolings(folders):
    images = [np.full((20, 30 + k, 3), 40 * k, np.uint8) for k in range(3)]
    found = {}
    for pooling in ("auto", "cls", "mean"):
        options = extract.Options(pooling=pooling)
        encoder = extract.open_encoder(f"hf:{folders / 'vit'}", side="image", options=options)
        found[pooling] = encoder.encode(images)
        assert (encoder.identity["pooling"], encoder.identity["options"]["pooling"]) == (
            "cls" if pooling == "auto" else pooling,
            pooling,
        )
    np.testing.assert_array_equal(found["auto"], found["cls"])
    assert np.abs(found["mean"] - found["cls"]).max() > 1e-3


@pytest.fixture
def source(tmp_path):
    return data.load(mock.pairs(tmp_path))


def encoders_of(folders):
    image = extract.open_encoder(f"hf:{folders / 'vit'}", side="image")
    return image, extract.open_encoder(f"st:{folders / 'bert'}", side="text")


def test_the_command_extracts_and_the_encoders_open_again(tmp_path, folders, source, capsys):
    encoders = [f"--image_encoder=hf:{folders / 'vit'}", f"--text_encoder=st:{folders / 'bert'}"]
    command = [
        "extract",
        f"--data={source.spec}",
        *encoders,
        f"--out={tmp_path / 'e.npz'}",
        "--shard_size=3",
        "--quiet",
    ]
    assert main([*command, "--batch_size=1", "--views=flip", "--dtype=float32"]) == 0
    assert "PyTorch" not in capsys.readouterr().out
    found = data.load(f"embeddings:{tmp_path / 'e.npz'}")
    image, text = (extract.reopen(found.encoders[k], side=side) for k, side in (("a", "image"), ("b", "text")))
    assert found.encoders["b"] == text.identity
    for name, split in source.splits.items():
        rows, texts, latents = np.arange(len(split)), np.arange(len(split.b)), found.splits[name]
        pictures = split.a.read(rows)
        for view, shown in enumerate((pictures, [picture[:, ::-1] for picture in pictures])):
            expected = image.encode(shown)
            np.testing.assert_allclose(latents.a.read(rows, np.full(len(rows), view)), expected, atol=1e-5)
        np.testing.assert_allclose(latents.b.read(texts), text.encode(split.b.read(texts)), atol=1e-5)


class KilledError(Exception):
    pass


def test_what_another_library_began_is_finished(tmp_path, folders, source):
    """The record has no versions, so the vectors of the first shards stay."""
    image, text = encoders_of(folders)
    calls = []

    def other(pictures):
        calls.append(len(pictures))
        if len(calls) > 2:
            raise KilledError
        return np.ones((len(pictures), 8), np.float32)

    settings = extract.ExtractSettings(shard_size=2, dtype="float32")
    with pytest.raises(KilledError):
        extract.extract(source, extract.Encoder(other, image.identity), text, tmp_path / "e", settings)
    extract.extract(source, image, text, tmp_path / "e", settings)
    found = np.concatenate(
        [x.a.read(np.arange(len(x))) for x in data.load(f"embeddings:{tmp_path / 'e'}").splits.values()]
    )
    assert (found == 1).all(axis=1).sum() == 4


@pytest.mark.parametrize("name", ["e.npz", "e"])
def test_processes_share_the_shards(tmp_path, source, name):
    """Two threads stand for two processes; each encodes its own shards only."""
    encoded = {0: [], 1: []}

    def run(index):
        def encode(pictures):
            encoded[index].append(len(pictures))
            return np.array([[picture.mean(), 1.0] for picture in pictures])

        image = extract.Encoder(encode, {"name": "mean"})
        text = extract.Encoder(lambda texts: np.array([[len(each), 1.0] for each in texts]), {"name": "length"})
        settings = extract.ExtractSettings(shard_size=1, dtype="float32")
        extract.extract(source, image, text, tmp_path / name, settings, share=extract.Share(index, 2))

    threads = [threading.Thread(target=run, args=(index,)) for index in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(encoded[0]) == sum(encoded[1]) == mock.N // 2
    found = data.load(f"embeddings:{tmp_path / name}")
    for split, latents in ((source.splits[k], found.splits[k]) for k in source.splits):
        expected = [picture.mean() for picture in split.a.read(np.arange(len(split)))]
        np.testing.assert_allclose(latents.a.read(np.arange(len(latents)))[:, 0], expected, rtol=1e-6)


@pytest.mark.slow
def test_two_processes_of_the_command(tmp_path, folders, source):
    arguments = ["-m", "alignment_jax", "extract", f"--data={source.spec}", f"--image_encoder=hf:{folders / 'vit'}"]
    arguments += [f"--text_encoder=st:{folders / 'bert'}", f"--out={tmp_path / 'two'}", "--shard_size=1"]
    with Processes([*arguments, "--dtype=float32"], tmp_path, count=2, devices=2) as run:
        assert run.wait(timeout=300) == [0, 0], [log.read_text() for log in run.logs]
    image, text = encoders_of(folders)
    settings = extract.ExtractSettings(dtype="float32")
    extract.extract(source, image, text, tmp_path / "one", settings)
    one, two = (data.load(f"embeddings:{tmp_path / name}").splits for name in ("one", "two"))
    for name in source.splits:
        rows = np.arange(len(one[name].b))
        np.testing.assert_allclose(two[name].b.read(rows), one[name].b.read(rows), atol=1e-5)


def test_models_that_do_not_run_in_jax_are_named_with_the_reason(tmp_path, folders):
    shutil.copytree(folders / "bert", tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text('{"model_type": "electra"}')
    for prefix in ("hf", "st"):
        with pytest.raises(ConfigError, match=r"other.*electra.*PyTorch"):
            extract.open_encoder(f"{prefix}:{tmp_path / 'other'}", side="text")
    for name, side, options, message in (
        (f"hf:{folders / 'bert'}", "image", {}, "no image encoder"),
        (f"hf:{folders / 'vit'}", "image", {"device": "cpu:99"}, "--device=cpu:99"),
        (f"hf:{folders / 'vit'}", "image", {"pooling": "pooler"}, r"pooler\.dense"),
        (f"st:{folders / 'bert'}", "text", {"pooling": "cls"}, "--text_pooling"),
        (f"hf:{folders / 'bert'}", "text", {"compute_dtype": "float16"}, "--compute_dtype"),
    ):
        with pytest.raises(ConfigError, match=message):
            extract.open_encoder(name, side=side, options=extract.Options(**options))
    half = extract.Options(compute_dtype="bfloat16")
    encoder = extract.open_encoder(f"hf:{folders / 'bert'}", side="text", options=half)
    assert encoder.identity["options"]["compute_dtype"] == "bfloat16"
    # bfloat16 has eight bits; the vectors pass a few layers.
    full = extract.open_encoder(f"hf:{folders / 'bert'}", side="text").encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), full, atol=0.1)
