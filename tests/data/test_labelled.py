"""Images with classes: the class is the text and the label; an image has one class."""

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import DataError


def test_the_class_is_text_and_label(tmp_path):
    source = data.load(mock.labelled(tmp_path))
    assert source.label_names == ("even", "odd")
    for split in source.splits.values():
        names = split.b.read(np.arange(len(split)))
        assert [source.label_names[k] for k in split.label] == names
        assert names == ["even" if int(i.split("im")[1].split(".")[0]) % 2 == 0 else "odd" for i in split.ids]


def test_an_image_has_one_class(tmp_path):
    spec = mock.labelled(tmp_path)
    with open(tmp_path / "labelled.csv", "a", encoding="utf-8") as file:
        file.write("./pictures/im0.png,odd,train\n")
    with pytest.raises(DataError, match=r"row 9\b.*im0\.png.*row 1\b"):
        data.load(spec)


def test_a_second_class_of_an_image_can_be_skipped(tmp_path):
    spec = mock.labelled(tmp_path)
    with open(tmp_path / "labelled.csv", "a", encoding="utf-8") as file:
        file.write("./pictures/im0.png,odd,train\n")
    source = data.load(spec, on_bad_sample="skip")
    assert sum(len(split) for split in source.splits.values()) == mock.N
    (problem,) = source.problems
    assert "row 9" in problem
    train = source.splits["train"]
    assert source.label_names[train.label[train.ids.tolist().index("pictures/im0.png")]] == "even"


def test_rows_without_an_image_are_named_each(tmp_path):
    spec = mock.labelled(tmp_path)
    with open(tmp_path / "labelled.csv", "a", encoding="utf-8") as file:
        file.write(",odd,train\n,even,train\n")
    with pytest.raises(DataError, match=r"row 9 .*1 more"):
        data.load(spec)
    assert len(data.load(spec, on_bad_sample="skip").problems) == 2


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    mock.labelled(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    source = data.load("labelled:~/labelled.csv")
    assert source.spec == "labelled:~/labelled.csv"
    assert len(source.splits["train"]) == 4
