"""The output of `alignment-jax data`: counts, ranges, and every problem."""

import json
import re
import shutil

import mock_data_sets as mock
import mock_paper_sets as paper
import numpy as np

from alignment_jax import data


def test_counts_and_ranges(tmp_path):
    spec = mock.pairs(tmp_path)
    mock.picture(0, (30, 10)).convert("L").save(tmp_path / "pictures" / "im0.png")
    description = data.describe(data.load(spec))
    json.dumps(description)
    train = description["splits"]["train"]
    assert train["a"] == {
        "count": 4,
        "kind": "image",
        "width": {"min": 20, "mean": 22.5, "max": 30},
        "height": {"min": 10, "mean": 14.5, "max": 16},
        "modes": {"L": 1, "RGB": 3},
    }
    assert train["b"]["words"] == {"min": 7, "mean": 7.0, "max": 7}
    assert train["b_per_a"] == {"min": 2, "mean": 2.0, "max": 2}
    assert description["duplicates"] == {"a": 0, "b": 0}


def test_embeddings_have_norms(tmp_path):
    np.savez(tmp_path / "e.npz", a=np.array([[3.0, 4.0], [0.0, 1.0]]), b=np.ones((2, 3), np.float16))
    column = data.describe(data.load(f"embeddings:{tmp_path / 'e.npz'}"))["splits"]["all"]["a"]
    assert column["norm"] == {"min": 1.0, "mean": 3.0, "max": 5.0}
    assert (column["shape"], column["dtype"], column["views"]) == ([2], "float64", 1)


def test_classes_are_counted():
    source = data.load("synthetic:train=30,val=5,test=5,size=8,concepts=3")
    classes = data.describe(source)["splits"]["train"]["classes"]
    assert classes["number"] == 3
    assert classes["largest"] == np.bincount(source.splits["train"].label).max()
    assert "classes number 3" in data.format_description(data.describe(source))


def test_an_image_in_two_splits_is_named(tmp_path):
    spec = mock.pairs(tmp_path)
    pictures = tmp_path / "pictures"
    shutil.copy(pictures / "im0.png", pictures / "im2.png")  # train and val
    text = (tmp_path / "pairs.csv").read_text().replace("number 3, wording 1", "number 0, wording 0")
    (tmp_path / "pairs.csv").write_text(text)
    source = data.load(spec)
    description = data.describe(source)
    (line,) = description["warnings"]
    assert re.match(r"warning: 1 of 2 image .*val \(50\.0 %\) .*train", line)
    assert "im0.png" in line
    assert "im2.png" in line
    assert "row 5 (line 6)" in line
    assert description["duplicates"] == {"a": 1, "b": 1}
    leak = {k: v for k, v in description["leakage"][1].items() if k != "example"}
    assert leak == {"side": "b", "split": "test", "earlier": "train", "count": 1, "of": 4}
    text = data.format_description(description)
    assert "1 of 4 b-items" in text
    assert line in text
    assert data.problems(source) == []  # worth a warning, but nothing that cannot be trained on


def test_repeated_items_of_one_split_are_counted(tmp_path):
    spec = mock.pairs(tmp_path)
    shutil.copy(tmp_path / "pictures" / "im0.png", tmp_path / "pictures" / "im1.png")  # both in train
    description = data.describe(data.load(spec))
    assert description["splits"]["train"]["repeated"] == {"a": 1, "b": 0}
    assert "1 of 4 image" in data.format_description(description)
    assert description["warnings"] == []


def test_the_tail_of_the_classes(tmp_path):
    source = data.load(paper.epic(tmp_path))
    classes = data.describe(source)["splits"]["train"]["classes"]
    assert classes["counts"] == {"2": 8, "91": 8, "13": 4}
    assert (classes["number"], classes["largest"], classes["smallest"], classes["half"]) == (3, 8, 4, 2)
    assert "2 8, 91 8, 13 4" in data.format_description(data.describe(source))
    tail = data.class_histogram(np.repeat(np.arange(12), [90] + [1] * 10 + [20]))
    assert (tail["half"], tail["tail"], tail["median"]) == (1, 10, 1.0)


def test_sizes_of_clusters_stand_in_for_classes(tmp_path):
    arrays = mock.embedding_arrays()
    np.savez(tmp_path / "e.npz", **arrays, cluster_size=np.repeat([2.0, 6.0, 2.0, 6.0], [2, 6, 2, 6]))
    description = data.describe(data.load(f"embeddings:{tmp_path / 'e.npz'}"))
    assert description["splits"]["train"]["clusters"]["largest"] == 6
    assert "clusters number" in data.format_description(description)


def test_clips_say_how_many_frames_they_have(tmp_path):
    column = data.describe(data.load(paper.vggsound(tmp_path)))["splits"]["train"]["b"]
    assert column["frames"] == {"min": 4, "mean": 4.0, "max": 4}
    assert column["width"] == {"min": 20, "mean": 20.0, "max": 20}


def test_skipped_samples_and_notes_are_shown(tmp_path):
    source = data.load(mock.flickr_authors(tmp_path))
    assert source.notes[0] in data.format_description(data.describe(source))
    (tmp_path / "Flicker8k_Dataset" / "im0.png").write_bytes(b"no image")
    source = data.load(f"flickr:{tmp_path}")
    assert data.describe(source)["splits"]["train"]["a"]["modes"] == {"RGB": 3, "unreadable": 1}
    (line,) = data.problems(source)
    assert "im0.png" in line
    skipped = data.load(f"flickr:{tmp_path}", on_bad_sample="skip")
    assert data.problems(skipped) == [line]
    assert "left out here: 1" in data.format_description(data.describe(skipped))
