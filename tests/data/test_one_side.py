"""Items of one modality: images, texts and latents in all formats."""

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError, DataError

COUNT = 4


def photos(folder):
    return mock.pictures(folder / "photos", COUNT)


def table(folder, name, header, cells):
    (folder / name).write_text("\n".join([header, *cells]) + "\n")


IMAGES = {
    "a folder": (photos, "photos", "im{}.png"),
    "names in a text file": (
        lambda f: (f / "list.txt").write_text("\n".join(f"photos/{n}" for n in photos(f)) + "\n\n"),
        "list.txt",
        "photos/im{}.png",
    ),
    "a column": (lambda f: table(f, "t.csv", "name", photos(f)), "t.csv,root=photos", "im{}.png"),
    "one of several columns": (
        lambda f: table(f, "t.csv", "x,filepath", [f"0,{n}" for n in photos(f)]),
        "t.csv,root=photos",
        "im{}.png",
    ),
    "a named column": (
        lambda f: table(f, "t.csv", "x,Bild", [f"0,photos/{n}" for n in photos(f)]),
        "t.csv,image=Bild",
        "photos/im{}.png",
    ),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images_without_captions(case, tmp_path, monkeypatch):
    write, argument, name = IMAGES[case]
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    items = data.load_one_side(f"images:{argument}")
    assert (items.column.kind, items.side) == ("image", "")
    assert items.names.tolist() == [name.format(n) for n in range(COUNT)]
    for number, image in enumerate(items.column.read(np.arange(COUNT))):
        np.testing.assert_array_equal(image, np.asarray(mock.picture(number)))


TEXTS = {
    "lines": (lambda f: (f / "t.txt").write_text("a dog, brown\n\na cat\n"), "t.txt", ["line 1", "line 3"]),
    "a column": (
        lambda f: table(f, "t.csv", "what", ['"a dog, brown"', "a cat"]),
        "t.csv",
        ["row 1 (line 2)", "row 2 (line 3)"],
    ),
    "one of several columns": (
        lambda f: table(f, "t.csv", "Title;x", ["a dog, brown;1", "a cat;2"]),
        "t.csv",
        ["row 1 (line 2)", "row 2 (line 3)"],
    ),
    "a list in a cell": (
        lambda f: table(f, "t.csv", "id;text", ["0;['a dog, brown', 'a cat']"]),
        "t.csv",
        ["row 1 (line 2)"] * 2,
    ),
    "a named column": (
        lambda f: table(f, "t.csv", "x;y", ["a dog, brown;1", "a cat;2"]),
        "t.csv,text=x",
        ["row 1 (line 2)", "row 2 (line 3)"],
    ),
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts_without_images(case, tmp_path):
    write, argument, names = TEXTS[case]
    write(tmp_path)
    items = data.load_one_side(f"texts:{tmp_path}/{argument}")
    assert items.column.read(np.arange(2)) == ["a dog, brown", "a cat"]
    assert (items.column.kind, items.names.tolist()) == ("text", names)


def test_latents_of_one_modality(tmp_path):
    array = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float16)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "named.npz", text=array, id=list("abcde"))
    np.savez(tmp_path / "two.npz", one=array[:, :2], two=array)
    for argument, names, side in (
        ("x.npy", list("01234"), ""),
        ("x.npy,side=b", list("01234"), "b"),
        ("named.npz", list("abcde"), "b"),
        ("two.npz,array=two", list("01234"), ""),
    ):
        items = data.load_one_side(f"latents:{tmp_path}/{argument}")
        np.testing.assert_array_equal(items.column.read(np.arange(5)), array.astype(np.float32))
        assert (items.names.tolist(), items.side) == (names, side)


def broken(folder):
    photos(folder)
    (folder / "photos" / "im9.png").write_bytes(b"no picture")


def test_bad_items_are_named_and_may_be_skipped(tmp_path):
    broken(tmp_path)
    items = data.load_one_side(f"images:{tmp_path / 'photos'}", on_bad_sample="skip")
    assert len(items.column) == len(items.names) == COUNT
    (problem,) = items.problems
    assert "im9.png: " in problem


def latents(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)


REFUSED = {
    "no images": (lambda f: (f / "a.txt").write_text("x"), "images:{}", ["jpg, png"]),
    "missing image": (
        lambda f: table(f, "t.csv", "image", ["1.png"]),
        "images:{}/t.csv",
        ["row 1", "no such file", "root=DIR"],
    ),
    "outside": (lambda f: table(f, "t.csv", "image", ["../1.png"]), "images:{}/t.csv", ["leads out"]),
    "which column": (
        lambda f: table(f, "t.csv", "x,y", ["1,2"]),
        "texts:{}/t.csv",
        [",text=COLUMN"],
    ),
    "folder of texts": (lambda f: None, "texts:{}", ["folder"]),
    "no file": (lambda f: None, "texts:{}/t.txt", ["t.txt: no such file"]),
    "several arrays": (
        lambda f: latents(f, a=np.ones((2, 3)), z=np.ones((2, 3))),
        "latents:{}/x.npz",
        [",array=a or ,array=z"],
    ),
    "no such array": (lambda f: latents(f, a=np.ones((2, 3))), "latents:{}/x.npz,array=b", ["'b'"]),
    "a vector": (lambda f: np.save(f / "x.npy", np.ones(3)), "latents:{}/x.npy", ["[rows, dimensions]"]),
    "NaN": (lambda f: np.save(f / "x.npy", np.full((2, 3), np.nan)), "latents:{}/x.npy", ["row 0 holds NaN"]),
    "another file": (lambda f: (f / "x.pt").write_bytes(b"x"), "latents:{}/x.pt", ["import numpy"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unreadable_data_is_an_error_with_a_hint(case, tmp_path):
    write, spec, parts = REFUSED[case]
    write(tmp_path)
    with pytest.raises(DataError) as error:
        data.load_one_side(spec.format(tmp_path))
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_one_side_is_no_data_set_to_train_on(tmp_path):
    with pytest.raises(ConfigError, match=r"alignment-jax embed.*folder:DIR"):
        data.load(f"images:{tmp_path}")
    with pytest.raises(ConfigError, match="images:DIR"):
        data.load_one_side("images:")


def test_latents_from_the_files_of_other_tools(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    table = pyarrow.table({"embedding": list(rows), "name": ["a", "b", "c"]})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "e.parquet")
    np.testing.assert_array_equal(data.load_one_side(f"latents:{tmp_path}/e.parquet").column.read(np.arange(3)), rows)
    for name in ("e.pkl", "e.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04\x95")
        with pytest.raises(DataError, match="import numpy"):
            data.load_one_side(f"latents:{tmp_path}/{name}")


def test_a_json_list_of_texts(tmp_path):
    (tmp_path / "t.json").write_text('["a dog", "a cat"]')
    assert data.load_one_side(f"texts:{tmp_path}/t.json").column.read(np.arange(2)) == ["a dog", "a cat"]


def test_the_data_command_leaves_out_named_samples(tmp_path, capsys):
    photos(tmp_path)
    (tmp_path / "list.txt").write_text("photos/im0.png\nphotos/gone.png\n")
    assert main(["data", f"--data=images:{tmp_path}/list.txt"]) == 2
    assert "1 problem, listed above" in capsys.readouterr().err
    assert main(["data", f"--data=images:{tmp_path}/list.txt", "--on_bad_sample=skip"]) == 0
    assert "left out: " in capsys.readouterr().out
