"""Fingerprints find the same content under another name, and no other content."""

import os

import numpy as np
import pytest
from PIL import Image

from alignment_jax.data import ArrayColumn, ImageColumn, PairSplit, ShardedArray, TextColumn
from alignment_jax.data import item_fingerprints as items_module
from alignment_jax.data.item_fingerprints import item_fingerprints, match_splits


def split_of(a, texts=("one", "two", "three"), owner=(0, 1, 2), **more):
    ids = [f"{id(a)} {i}" for i in range(len(a))]
    return PairSplit(a, TextColumn(tuple(texts)), np.array(owner), np.array(ids), **more)


def test_numbers_count_as_they_are_read_and_captions_in_any_order():
    latents = np.arange(12, dtype=np.float16).reshape(3, 4)
    one = item_fingerprints(split_of(ArrayColumn(latents), ("x", "y", "z", "w"), (0, 0, 1, 2)))
    wide = ArrayColumn(latents[::-1].astype(np.float32), rows=np.array([2, 1, 0]), name="elsewhere")
    other = item_fingerprints(split_of(wide, ("y", "x", "z", "w"), (0, 0, 1, 2)))
    assert np.array_equal(one.a, other.a)
    assert np.array_equal(one.row, other.row)
    assert not one.equals(other)  # the captions are in another order
    third = item_fingerprints(split_of(wide, ("y", "z", "x", "w"), (0, 0, 1, 2)))
    assert np.array_equal(one.row == third.row, [False, False, True])


def test_arrays_on_disk_are_read_up_to_a_size(monkeypatch):
    latents = np.arange(12, dtype=np.float32).reshape(3, 4)
    mapped = split_of(ArrayColumn(ShardedArray((latents[:2], latents[2:]))))
    assert item_fingerprints(mapped).equals(item_fingerprints(split_of(ArrayColumn(latents))))
    monkeypatch.setattr(items_module, "MOST_READ", latents.nbytes - 1)
    assert item_fingerprints(mapped) is None


def test_a_third_modality_belongs_to_the_row():
    a, c = ArrayColumn(np.zeros((3, 2))), np.arange(3, dtype=np.float32)[:, None]
    found = item_fingerprints(split_of(a, ("x", "x", "x"), c=ArrayColumn(c)))
    assert len(set(found.a.tolist())) == 1
    assert len(set(found.row.tolist())) == 3


@pytest.fixture
def pictures(tmp_path):
    """Three files of one size, the last two of equal content."""
    for name, grey in (("p", 1), ("q", 2), ("r", 2)):
        Image.fromarray(np.full((4, 4, 3), grey, np.uint8)).save(tmp_path / f"{name}.bmp")
    return [tmp_path / f"{name}.bmp" for name in "pqr"]


def test_files_count_with_their_bytes_and_unreadable_files_with_their_names(pictures):
    found = item_fingerprints(split_of(ImageColumn(pictures))).a
    assert found[0] != found[1] == found[2]
    pictures[0].unlink()
    pictures[1].unlink()
    assert len(set(item_fingerprints(split_of(ImageColumn(pictures))).a.tolist())) == 3


def test_files_are_remembered_by_size_and_time(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(items_module, "_REMEMBER_FROM", 1)
    split, memory = split_of(ImageColumn(pictures)), tmp_path / "memory" / "prints"
    first = item_fingerprints(split, memory=memory)
    reads = []
    monkeypatch.setattr(items_module, "_content", lambda column, index: reads.append(index) or 7)
    assert item_fingerprints(split, memory=memory).equals(first)
    assert not reads
    os.utime(pictures[1], (1, 1))
    assert item_fingerprints(split, memory=memory).a[1] == 7
    assert reads == [1]
    memory.write_bytes(b"damaged")
    assert item_fingerprints(split, memory=memory).a.tolist() == [7, 7, 7]


def test_rows_are_looked_for_whole_and_then_by_their_a_item():
    latents = np.eye(3, dtype=np.float32)
    train = item_fingerprints(split_of(ArrayColumn(latents[:2]), ("x", "y"), (0, 1)))
    test = item_fingerprints(split_of(ArrayColumn(latents[[0, 2]]), ("other", "z"), (0, 1)))
    seen = item_fingerprints(split_of(ArrayColumn(latents), ("other", "new", "z"), (0, 1, 2)))
    assert match_splits(seen, {"train": train, "test": test}).tolist() == [1, 0, 1]
    assert match_splits(seen, {"train": train, "test": test}, ("row",)).tolist() == [1, -1, 1]
