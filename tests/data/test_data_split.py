"""PairSplit and the cut into train, val and test."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError


def make_split(n, per_a=2, values=None, **fields):
    a = np.arange(n, dtype=np.float32)[:, None] if values is None else np.asarray(values, np.float32)[:, None]
    b = np.arange(n * per_a, dtype=np.float32)[:, None]
    return data.PairSplit(
        a=data.ArrayColumn(a),
        b=data.ArrayColumn(b),
        b_to_a=np.repeat(np.arange(n), per_a),
        ids=np.array([f"item{i}" for i in range(n)]),
        **fields,
    )


def whole(split):
    return data.PairSource("made", "made", {"all": split}, has_splits=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b_to_a": np.zeros(3)}, r"b_to_a .*\[6\].*\[3\]"),
        ({"b_to_a": np.array([0, 0, 1, 1, 2, 3])}, r"b_to_a .*\[0, 3\)"),
        ({"b_to_a": np.array([0, 0, 1, 1, 1, 0])}, "array, row 2 "),
        ({"ids": np.array(["x", "y", "x"])}, "ids must be unique"),
        ({"label": np.zeros(2)}, r"label .*\[3\]"),
        ({"cluster_size_b": np.zeros(3)}, r"cluster_size_b .*\[6\]"),
        ({"extra_a": {"note": np.zeros(2)}}, r"extra_a\['note'\] .*3.*2"),
    ],
)
def test_fields_are_checked(change, message):
    with pytest.raises(DataError, match=message):
        make_split(3).replace(**change)


def test_subset_keeps_everything_together():
    split = make_split(
        4,
        label=np.arange(4),
        cluster_size=np.arange(4) * 10,
        cluster_size_b=np.arange(8),
        extra_a={"n": np.arange(4)},
        extra_b={"m": np.arange(8)},
    )
    part = split.subset(np.array([3, 1]))
    assert part.ids.tolist() == ["item3", "item1"]
    assert part.b.read(np.arange(4))[:, 0].tolist() == [6, 7, 2, 3]
    assert part.b_to_a.tolist() == [0, 0, 1, 1]
    assert (part.label.tolist(), part.cluster_size.tolist()) == ([3, 1], [30, 10])
    assert (part.cluster_size_b.tolist(), part.extra_b["m"].tolist()) == ([6, 7, 2, 3], [6, 7, 2, 3])
    assert part.extra_a["n"].tolist() == [3, 1]
    assert part.subset(np.array([1])).ids.tolist() == ["item1"]
    assert len(split.subset(np.array([], int))) == 0


def test_pick_b_covers_each_a_items_own():
    split = dataclasses.replace(make_split(3), b_to_a=np.array([2, 0, 1, 0, 2, 2]))
    assert split.pick_b(np.array([0, 1, 2])).tolist() == [1, 2, 0]
    assert split.pick_b(np.array([2, 2, 2]), np.array([0.0, 0.5, 0.9999999])).tolist() == [0, 4, 5]
    assert split.pick_b(np.array([0, 0]), np.array([0.49, 1.0])).tolist() == [1, 3]


def test_unknown_split_lists_the_known():
    with pytest.raises(DataError, match=r"'test'.*all"):
        whole(make_split(3)).split("test")


@settings(max_examples=30)
@given(n=st.integers(3, 60), seed=st.integers(0, 5))
def test_cut_is_a_partition_without_empty_parts(n, seed):
    source = data.with_splits(whole(make_split(n)), seed)
    ids = [split.ids.tolist() for split in source.splits.values()]
    assert sorted(name for part in ids for name in part) == sorted(f"item{i}" for i in range(n))
    assert all(ids)
    assert abs(len(ids[0]) - 0.8 * n) <= 2
    for split in source.splits.values():  # captions went with their a-item
        assert (split.b.read(np.arange(len(split.b)))[:, 0] // 2 == split.a.read(split.b_to_a)[:, 0]).all()


def test_cut_depends_on_the_seed_and_not_on_the_order():
    split = make_split(50)
    first = data.with_splits(whole(split), 0).splits
    shuffled = data.with_splits(whole(split.subset(np.random.default_rng(1).permutation(50))), 0).splits
    other = data.with_splits(whole(split), 1).splits
    for name in first:
        assert set(first[name].ids) == set(shuffled[name].ids)
    assert set(first["test"].ids) != set(other["test"].ids)
    # The cut is part of a run's identity: it must not move between versions or machines.
    assert sorted(first["test"].ids) == ["item19", "item2", "item23", "item43", "item46"]


def test_equal_content_never_straddles():
    values = np.arange(40) // 4  # ten contents, four a-items each
    for seed in range(5):
        source = data.with_splits(whole(make_split(40, values=values)), seed)
        contents = [set(split.a.read(np.arange(len(split)))[:, 0].tolist()) for split in source.splits.values()]
        assert not (contents[0] & contents[1] | contents[0] & contents[2] | contents[1] & contents[2])


def test_too_few_and_wrong_fractions():
    with pytest.raises(DataError, match=r"made: 2 .*train, val"):
        data.with_splits(whole(make_split(2)))
    with pytest.raises(DataError, match="made: 1 "):
        data.with_splits(whole(make_split(5, values=np.zeros(5))))
    for fractions in ((0.5, 0.5, 0.0), (0.5, 0.2, 0.2), (0.5, 0.5)):
        with pytest.raises(ConfigError, match="fractions"):
            data.with_splits(whole(make_split(9)), fractions=fractions)


def test_a_missing_val_is_taken_from_train_only():
    train, test = make_split(18), make_split(4)
    source = data.PairSource("made", "made", {"train": train, "test": test})
    done = data.with_splits(source)
    assert (len(done.splits["train"]), len(done.splits["val"])) == (16, 2)
    assert done.splits["test"] is test
    assert data.with_splits(done) is done


def test_content_groups_read_files_only_when_sizes_agree(tmp_path):
    for name, content in {"a": b"12345", "b": b"12345", "c": b"54321", "d": b"1"}.items():
        (tmp_path / name).write_bytes(content)
    column = data.ImageColumn(tuple(tmp_path / name for name in "acd"))
    groups = data.content_groups(column, data.ImageColumn((tmp_path / "b",)))
    assert groups[1][0] == groups[0][0]
    assert len({*groups[0].tolist()}) == 3


def test_old_names_of_fields_warn_and_work():
    with pytest.warns(DeprecationWarning, match="cluster_size_b"):
        split = make_split(3, stat_b=np.arange(6))
    with pytest.warns(DeprecationWarning, match="cluster_size"):
        assert split.replace(stat=np.arange(3)).cluster_size.tolist() == [0, 1, 2]
    for old, new in data.split._RENAMED.items():
        with pytest.warns(DeprecationWarning, match=new):
            assert getattr(split, old) is getattr(split, new) or old == "repeats"
