"""`embed --format`: the same arrays in every format; vector indexes read them; refusals."""

import pathlib
import re

import numpy as np
import pyarrow.parquet
import pytest

from alignment_jax import data
from alignment_jax.cli.main import main

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "use_a_run.md"


def embed(run, out, *more):
    return main(["embed", "--workdir", str(run[0]), "--out", str(out), *more])


@pytest.fixture(scope="module")
def written(frozen_run, tmp_path_factory):
    """format -> what it wrote of the run's own data."""
    folder = tmp_path_factory.mktemp("embedded")
    out = {"npz": folder / "e.npz", "npy": folder / "npy", "parquet": folder / "parquet"}
    for name, path in out.items():
        assert embed(frozen_run, path, f"--format={name}") == 0
    return out


def test_every_format_holds_the_same_arrays(written):
    with np.load(written["npz"], allow_pickle=False) as found:
        arrays = dict(found)
    assert {path.stem for path in written["npy"].iterdir()} == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(written["npy"] / f"{name}.npy", allow_pickle=False), array)
    image, text = (pyarrow.parquet.read_table(written["parquet"] / f"{side}.parquet") for side in ("image", "text"))
    owner = arrays["text_to_image"]
    for side, table in (("image", image), ("text", text)):
        assert table.schema.field("vector").type.list_size == arrays[side].shape[1]
        np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), arrays[side])
    assert image["image_id"].to_pylist() == arrays["image_id"].tolist()
    assert text["caption"].to_pylist() == arrays["caption"].tolist()
    assert text["image_row"].to_pylist() == owner.tolist()
    assert text["image_id"].to_pylist() == arrays["image_id"][owner].tolist()
    assert text["split"].to_pylist() == arrays["split"][owner].tolist()


def test_the_package_reads_what_it_wrote(written):
    expected, found = (data.load(f"embeddings:{written[name]}").splits["test"] for name in ("npz", "npy"))
    rows = np.arange(len(expected))
    np.testing.assert_array_equal(found.a.read(rows), expected.a.read(rows))
    np.testing.assert_array_equal(found.b_to_a, expected.b_to_a)
    assert found.ids.tolist() == expected.ids.tolist()
    vectors = data.load_one_side(f"latents:{written['parquet']}/image.parquet").column
    np.testing.assert_array_equal(vectors.read(np.arange(len(vectors))), np.load(written["npy"] / "image.npy"))


def test_one_side(frozen_run, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 10), np.float32))
    assert embed(frozen_run, tmp_path / "out", "--format=parquet", f"--data=latents:{tmp_path}/x.npy") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["text.parquet"]
    table = pyarrow.parquet.read_table(tmp_path / "out" / "text.parquet")
    assert table.column_names == ["text_id", "vector"]
    assert len(table) == 3


@pytest.mark.parametrize("package", ["faiss", "usearch"])
def test_an_index_of_the_page_finds_what_a_matrix_product_finds(package, written):
    pytest.importorskip(package, reason=f"needs {package}")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        exec(block, names)
    image, text = (np.load(written["npy"] / f"{side}.npy") for side in ("image", "text"))
    found = names[f"search_{package}"](written["npy"], k=3)
    similarity = text @ image.T
    # Equal ranks up to the rounding of an inner product of d terms.
    best = -np.sort(-similarity, axis=1)[:, :3]
    np.testing.assert_allclose(
        np.take_along_axis(similarity, found.astype(np.int64), axis=1), best, atol=2 * image.shape[1] * 2.0**-24
    )


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_folder_that_holds_files_is_left_alone(kind, frozen_run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for out, part in (("mine", "exists"), ("none/new", "none"), ("new.npz", "folder")):
        assert embed(frozen_run, tmp_path / out, f"--format={kind}") == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "--out=" in line
        assert part in line
    assert [path.name for path in tmp_path.rglob("*.*")] == ["notes.txt"]
