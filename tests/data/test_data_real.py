"""Real images and latents, if they exist on this machine."""

import numpy as np
import pytest

from alignment_jax import data


def test_flickr8k(shared_data):
    folder = shared_data / "flickr8k_mini"
    source = data.load(f"flickr:{folder}")
    assert {name: (len(split.a), len(split.b)) for name, split in source.splits.items()} == {
        "train": (600, 3000),
        "val": (100, 500),
        "test": (100, 500),
    }
    assert data.describe(source)["duplicates"]["a"] == 0
    train = source.splits["train"]
    tokenizer = data.train_tokenizer(train.b.texts, vocab_size=2000)
    assert tokenizer.vocab_size == 2000
    split = train.replace(a=train.a.prepared(32), b=data.encode_texts(train.b, tokenizer, 32))
    rows = data.padded_rows(np.arange(0, 600, 5), 64)
    batches = list(data.TrainLoader(split, rows, seed=0, epoch=0, transform_a=data.train_image(32), threads=2))
    assert [int(batch["where"].sum()) for batch in batches] == [64, 56]
    assert batches[0]["a"].reshape(64, -1).std(1).min() > 5  # pictures, not blanks
    cut = sum((tokenizer.encode(train.b.texts, 32)[:, -1] != 0).tolist())
    assert cut < 60  # 32 tokens hold nearly every caption


@pytest.mark.slow
def test_latents_belong_to_the_same_pairs(shared_data):
    folder = shared_data / "flickr8k_mini"
    pictures, latents = data.load(f"flickr:{folder}"), data.load(f"embeddings:{folder / 'features.npz'}")
    for name in ("train", "val", "test"):
        one, two = pictures.splits[name], latents.splits[name]
        assert one.ids.tolist() == two.ids.tolist()
        np.testing.assert_array_equal(one.b_to_a, two.b_to_a)
        assert list(one.b.texts) == [text.strip() for text in two.extra_b["caption"]]
    train = latents.splits["train"]
    assert train.a.num_views == 2
    assert train.a.array.dtype == np.float16
    batch = next(iter(data.TrainLoader(train, data.padded_rows(np.arange(600), 256), seed=0, epoch=0)))
    assert batch["a"].shape == (256, 1024)
    assert batch["b"].shape == (256, 384)
