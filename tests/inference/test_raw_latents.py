"""Raw pictures and texts through pretrained encoders in JAX: the latents of `extract`, by the records in its file."""

import numpy as np
import pytest

from alignment_jax import data, extract
from alignment_jax.inference.raw_latents import frozen_encoders
from alignment_jax.models.pretrained import tiny_folder

pytestmark = pytest.mark.slow


def test_latents_of_raw_items_are_those_of_extract(tmp_path, monkeypatch):
    name = f"hf:{tiny_folder(tmp_path / 'clip', family='clip')}"
    rng = np.random.default_rng(0)
    images = data.ImageColumn(tuple(rng.integers(0, 256, (9, 12, 3), np.uint8) for _ in range(7)))
    texts = data.TextColumn(("a dog", "red cat", "a red dog a red cat", "cat", "dog dog", "red", "a cat"))
    split = data.PairSplit(images, texts, np.arange(7), np.arange(7).astype(str))
    source = data.PairSource("pairs", "pairs:x", {"all": split}, has_splits=False)
    text_options = extract.Options(prefix="a ")
    encoders = [
        extract.open_encoder(name, side="image"),
        extract.open_encoder(name, side="text", options=text_options),
    ]
    settings = extract.ExtractSettings(dtype="float32", views="flip")
    extract.extract(source, *encoders, tmp_path / "latents.npz", settings)
    stored = data.load(f"embeddings:{tmp_path}/latents.npz")
    expected = stored.splits["all"]

    reads = {side: {"kind": "embedding", "shape": [6]} for side in "ab"} | {"encoders": stored.encoders}
    settings_of_run = type("Config", (), {"eval": {"views": "mean"}, "input": {}})
    monkeypatch.setattr("alignment_jax.inference.raw_latents.read_run_config", lambda folder: settings_of_run)
    monkeypatch.setattr("alignment_jax.inference.raw_latents.read_signature", lambda folder: reads)
    counts = []
    found = frozen_encoders(tmp_path).source(source, on_progress=lambda *call: counts.append(call)).splits["all"]
    rows = np.arange(7)
    for column, wanted in ((found.a, expected.a), (found.b, expected.b)):
        np.testing.assert_allclose(column.read(rows), wanted.read(rows), rtol=1e-4, atol=1e-5)
    (mirrored,) = found.a.further_views()
    np.testing.assert_allclose(mirrored.read(rows), expected.a.further_views()[0].read(rows), rtol=1e-4, atol=1e-5)
    assert data.caption_texts(found) == list(texts.texts)
    assert counts[-1] == ("text", 7, 7, True)
    # A few queries are encoded at once, in a batch of another shape.
    query = frozen_encoders(tmp_path).column("b", texts.take(rows[:2]))
    np.testing.assert_allclose(query.read(rows[:2]), expected.b.read(rows[:2]), rtol=1e-4, atol=1e-5)
