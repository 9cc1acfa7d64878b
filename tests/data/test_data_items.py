"""Named modalities, three for classification, items of several images and captions."""

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import DataError

HEADER = ["item", "image", "caption", "split"]


def write(folder, rows, header=HEADER):
    mock.pictures(folder / "p")
    mock.write_csv(folder / "items.csv", [header, *rows])
    return f"pairs:{folder / 'items.csv'}"


ROWS = [
    ["chair", "p/im0.png", "a chair", "train"],
    ["chair", "p/im1.png", "a red chair", "train"],
    ["table", "p/im2.png", "a table", "val"],
    ["chair", "p/im3.png", "", "train"],
    ["table", "", "a round table", "val"],
    ["table", "p/im2.png", "a table", "val"],
    ["lamp", "p/im4.png", "a lamp", "test"],
]


def test_images_and_captions_of_an_item_belong_together(tmp_path):
    source = data.load(write(tmp_path, ROWS))
    train, val = source.splits["train"], source.splits["val"]
    assert (train.ids.tolist(), train.b.texts) == (["chair"], ("a chair", "a red chair"))
    assert train.a.view_counts(np.array([0])).tolist() == [3]
    np.testing.assert_array_equal(train.a.read(np.array([0]))[0], np.asarray(mock.picture(1)))
    np.testing.assert_array_equal(train.a.read(np.array([0]), np.array([2]))[0], np.asarray(mock.picture(3)))
    assert (val.b.texts, val.b_to_a.tolist()) == (("a table", "a round table"), [0, 0])
    assert val.b.describe(1).endswith("row 5 (line 6)")
    assert data.describe(source)["splits"]["train"]["a"]["frames"]["max"] == 3


def test_items_without_splits_are_cut_by_hash(tmp_path):
    rows = [[f"item {i}", f"p/im{i}.png", f"thing {i}"] for i in range(mock.N)]
    source = data.with_splits(data.load(write(tmp_path, rows, HEADER[:3])))
    assert sum(len(split) for split in source.splits.values()) == mock.N


BROKEN = {
    "no item": (["", "p/im0.png", "x", "val"], ["row 8 (line 9)", "no item"]),
    "no image": (["new", "", "x", "val"], ["row 8", "'new'", "image"]),
    "no caption": (["new", "p/im5.png", "", "val"], ["row 8", "'new'", "caption"]),
    "another split": (["chair", "p/im5.png", "x", "val"], ["row 8", "'val'", "'train'", "row 1 (line 2)"]),
    "unknown split": (["new", "p/im5.png", "x", "spare"], ["row 8", "'spare'"]),
    "missing image": (["new", "p/gone.png", "x", "val"], ["row 8", "gone.png"]),
    "leads out": (["new", "../x.png", "x", "val"], ["row 8", "leads out"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rows_are_named(case, tmp_path):
    row, parts = BROKEN[case]
    spec = write(tmp_path, [*ROWS, row])
    with pytest.raises(DataError) as error:
        data.load(spec)
    for part in parts:
        assert part in str(error.value)
    assert len(data.load(spec, on_bad_sample="skip").problems) == 1


def test_skipping_drops_items_with_a_broken_image(tmp_path):
    spec = write(tmp_path, ROWS)
    (tmp_path / "p" / "im3.png").write_bytes(b"no picture")
    source = data.load(spec, on_bad_sample="skip")
    assert set(source.splits) == {"val", "test"}
    assert len(source.problems) == 1
    assert data.problems(source) == list(source.problems)


def test_modalities_have_names(tmp_path):
    latents = {"a": np.ones((4, 3)), "b": np.ones((4, 2))}
    np.savez(tmp_path / "e.npz", **latents, modalities=np.array(["sound", "touch"]))
    assert data.load(f"embeddings:{tmp_path / 'e.npz'}").modalities == ("sound", "touch")
    three = {**latents, "c": np.ones((4, 5)), "label": [0, 1, 0, 1]}
    np.savez(tmp_path / "f.npz", **three)
    assert data.load(f"features:{tmp_path / 'f.npz'}").modalities == ("a", "b", "c")
    np.savez(tmp_path / "f.npz", **three, modalities=np.array(["sight", "sound", "touch"]))
    assert data.load(f"features:{tmp_path / 'f.npz'}").modalities == ("sight", "sound", "touch")


@pytest.mark.parametrize(
    ("names", "message"),
    [(["x"], r"modalities .*\[2\]"), (["x", "x"], "different words"), (["x", " "], "different words")],
)
def test_names_that_name_nothing_are_refused(names, message, tmp_path):
    np.savez(tmp_path / "e.npz", a=np.ones((4, 3)), b=np.ones((4, 2)), modalities=np.array(names))
    with pytest.raises(DataError, match=message):
        data.load(f"embeddings:{tmp_path / 'e.npz'}")
