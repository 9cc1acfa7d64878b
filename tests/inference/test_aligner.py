"""`alignment_jax.load`: the vectors of paths, arrays and texts are those of the items in pairs."""

import numpy as np
import PIL.Image
import pytest

import alignment_jax as aj
from alignment_jax.core.errors import DataError, UserError
from alignment_jax.inference.trained_model import open_run, open_source

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def towers(raw_run):
    """(aligner, test split, its vectors) of a run on images and texts."""
    split = open_source(raw_run[0], None)[1].splits["test"]
    return aj.load(raw_run[0]), split, open_run(raw_run[0]).embed(split)


def test_paths_arrays_and_texts_give_the_vectors_of_their_pairs(towers, tmp_path):
    aligner, split, expected = towers
    arrays = split.a.read(np.arange(3))
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, array in zip(paths, arrays, strict=True):
        PIL.Image.fromarray(array).save(path)
    for images in (arrays, paths, [str(paths[0]), *arrays[1:]], np.stack(arrays)):
        found = aligner.embed_images(images)
        np.testing.assert_allclose(found, expected.a[:3], atol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    texts = aligner.embed_texts(split.b.read(np.arange(5)))
    np.testing.assert_allclose(texts, expected.b[:5], atol=1e-5)
    np.testing.assert_allclose(aligner.similarity(found, texts), found @ texts.T)
    assert aligner.embed_texts([]).shape == (0, aligner.dim) == (0, found.shape[1])
    assert aligner.step == aligner.trained.step
    np.testing.assert_array_equal(aligner.embed(split).a, expected.a)


def test_deep_and_grey_pictures_are_read_as_from_files(towers):
    aligner, split, _ = towers
    (image,) = split.a.read(np.arange(1))
    grey = image[..., 0]
    expected = aligner.embed_images([np.repeat(grey[..., None], 3, axis=2)])
    # 16 bits: the smallest power of two above the largest value is white.
    for same in (grey, grey[..., None], grey.astype(np.uint16) * 256 + 255, grey / np.float32(256)):
        np.testing.assert_allclose(aligner.embed_images([same]), expected, atol=1e-6)


def test_corrected_vectors_are_those_of_the_split(frozen_run, embeddings):
    aligner = aj.load(frozen_run[0])
    split = aj.data.load(f"embeddings:{embeddings}").splits["test"]
    plain, folded = aligner.embed(split), aligner.embed(split, hubness="csls:k=3")
    assert folded.a.shape[1] == aligner.dim + 2
    np.testing.assert_array_equal(folded.a[:, :-2], plain.a)
    np.testing.assert_allclose(aligner.embed_column("b", split.b, hubness="csls:k=3"), folded.b, atol=1e-6)
    with pytest.raises(UserError, match="hubness"):
        aligner.embed(split, hubness="csl")


def test_what_cannot_be_embedded_is_an_error(towers, frozen_run, tmp_path):
    aligner, _, _ = towers
    for images, error, named in (
        ("dog.png", UserError, "list"),
        (np.zeros((4, 4, 3), np.uint8), UserError, "list"),
        ([tmp_path / "none.png"], DataError, "none.png"),
        ([np.zeros((2, 2, 4))], DataError, r"images\[0\]"),
    ):
        with pytest.raises(error, match=named):
            aligner.embed_images(images)
    for texts in ("a dog", ["a dog", 3]):
        with pytest.raises(UserError, match="texts"):
            aligner.embed_texts(texts)
    with pytest.raises(UserError, match=r"\[2, 3\]|\(2, 3\)"):
        aligner.similarity(np.eye(2, 3), np.eye(2))
    with pytest.raises(UserError, match="no run"):
        aj.load(tmp_path)
