"""The gallery of a run: pictures where the data has them, and else why there are none."""

import numpy as np
import pytest

from alignment_jax import data, evals
from alignment_jax.cli.gallery_examples import make_gallery

pytest.importorskip("PIL.Image", reason="needs the extra 'train'")


def gallery_of(split):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(len(split.a), 8)), rng.normal(size=(len(split.b), 8))
    return make_gallery(split, evals.SplitEmbeddings(a, b, split.b_to_a), count=3, seed=0)


def test_pictures_need_no_explanation():
    found = gallery_of(data.load("synthetic:train=8,val=8,test=8,size=16").splits["test"])
    assert found.images
    assert "picture" not in found.how


def test_the_gallery_of_latents_explains_missing_pictures(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", image=rng.normal(size=(8, 4)), text=rng.normal(size=(8, 3)))
    found = gallery_of(data.load(f"embeddings:{tmp_path / 'x.npz'}").splits["all"])
    assert found.images is None
    assert "latents" in found.how
    assert set(found.item_captions) >= set(np.ravel(found.top).tolist())
