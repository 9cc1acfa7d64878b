"""Class prompts: templates, comments, latents, and invalid files."""

import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import DataError


def test_templates_multiply_and_comments_are_left_out(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("# my classes\na {}\nthe {}, drawn\n\ncat # small\npolar bear\n", encoding="utf-8")
    prompts = data.load_prompts(path)
    assert prompts.classes == ("cat", "polar bear")
    assert prompts.column.read(np.arange(4)) == ["a cat", "the cat, drawn", "a polar bear", "the polar bear, drawn"]
    assert prompts.class_of.tolist() == [0, 0, 1, 1]


def test_without_a_template_the_names_are_the_prompts(tmp_path):
    (tmp_path / "p.txt").write_text("cat\ndog\n")
    assert data.load_prompts(tmp_path / "p.txt").column.read(np.arange(2)) == ["cat", "dog"]


@pytest.mark.parametrize(("text", "message"), [("a {}\ncat\n", "1 classes"), ("cat\ndog\ncat\n", "'cat' occurs twice")])
def test_bad_text_files(tmp_path, text, message):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        data.load_prompts(tmp_path / "p.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": np.ones((2, 3), int)}, "floating point"),
        ({"text": np.array([[np.nan], [1.0]])}, "text row 0 .*NaN"),
        ({"class": np.array([0, 2])}, "from 0 to 1"),
        ({"class": np.array([0])}, r"shape \[2\]"),
        ({"class_name": np.array(["cat"])}, "1 classes"),
        ({"class_name": None}, "no array 'class_name'"),
    ],
)
def test_bad_latents(tmp_path, change, message):
    arrays = {"text": np.ones((2, 3)), "class": np.array([0, 1]), "class_name": np.array(["cat", "dog"]), **change}
    np.savez(tmp_path / "p.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=message):
        data.load_prompts(tmp_path / "p.npz")
