"""`embed` of one side: the same embeddings as in pairs, with names; errors for items that the run cannot read."""

import numpy as np
import PIL.Image
import pytest

from alignment_jax import data
from alignment_jax.cli.main import main
from alignment_jax.inference.trained_model import open_run, open_source

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def raw(raw_run):
    """(workdir, test split, its embeddings) of a run on images and texts."""
    _, source = open_source(raw_run[0], None)
    return raw_run[0], source.splits["test"], open_run(raw_run[0]).embed(source.splits["test"])


def embed(workdir, spec, out):
    return main(["embed", "--workdir", str(workdir), "--data", spec, "--out", str(out)])


@pytest.mark.slow
def test_images_and_texts_are_embedded_as_they_are_in_pairs(raw, tmp_path, capsys):
    workdir, split, expected = raw
    (tmp_path / "photos").mkdir()
    for number, image in enumerate(split.a.read(np.arange(5))):
        PIL.Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    assert embed(workdir, f"images:{tmp_path / 'photos'}", tmp_path / "i.npz") == 0
    with np.load(tmp_path / "i.npz", allow_pickle=False) as found:
        assert sorted(found.files) == ["embedded_by", "image", "image_id"]
        np.testing.assert_allclose(found["image"], expected.a[:5], atol=1e-5)
        assert found["image_id"].tolist() == [f"{number}.png" for number in range(5)]
    texts = split.b.read(np.arange(7))
    (tmp_path / "t.txt").write_text("\n".join(texts))
    assert embed(workdir, f"texts:{tmp_path / 't.txt'}", tmp_path / "t.npz") == 0
    with np.load(tmp_path / "t.npz", allow_pickle=False) as found:
        assert sorted(found.files) == ["caption", "embedded_by", "text"]
        np.testing.assert_allclose(found["text"], expected.b[:7], atol=1e-5)
        assert found["caption"].tolist() == texts
    assert "image 5 x" in (shown := capsys.readouterr().out)
    assert "text 7 x" in shown


def test_latents_go_to_the_side_of_their_size(frozen_run, embeddings, tmp_path):
    split = data.load(f"embeddings:{embeddings}").splits["test"]
    expected = open_run(frozen_run[0]).embed(split)
    for name, column, wanted in (("image", split.a, expected.a), ("text", split.b, expected.b)):
        np.save(tmp_path / "x.npy", column.read(np.arange(len(column))))
        assert embed(frozen_run[0], f"latents:{tmp_path / 'x.npy'}", tmp_path / "x.npz") == 0
        with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
            assert sorted(found.files) == ["embedded_by", name, f"{name}_id"]
            np.testing.assert_allclose(found[name], wanted, atol=1e-5)


def test_items_that_the_run_does_not_read_are_errors(raw, frozen_run, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("a dog\n")
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    for workdir, spec, parts in (
        (
            frozen_run[0],
            f"texts:{tmp_path}/t.txt",
            ["--text_encoder"],
        ),
        (raw[0], f"latents:{tmp_path}/x.npy", ["x.npy", "images:DIR or texts:FILE"]),
        (
            frozen_run[0],
            f"latents:{tmp_path}/x.npy,side=b",
            ["[3]", "side b", "[10]"],
        ),
        (frozen_run[0], f"latents:{tmp_path}/x.npy", ["write latents:", ",side=a or"]),
        (raw[0], f"texts:{tmp_path}/none.txt", ["no such file"]),
    ):
        assert embed(workdir, spec, tmp_path / "o.npz") == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert all(part in line for part in parts), line
        assert not (tmp_path / "o.npz").exists()
    assert embed(raw[0], f"texts:{tmp_path}/t.txt", tmp_path / "none" / "o.npz") == 2
    assert "--out=" in capsys.readouterr().err
