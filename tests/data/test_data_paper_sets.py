"""The contract of the sources of the papers' data sets, on miniatures."""

import mock_paper_sets as paper
import numpy as np
import pytest

from alignment_jax import data


@pytest.fixture(params=paper.MOCKS)
def mocked(request, tmp_path):
    found = paper.MOCKS[request.param]
    return data.load(found.write(tmp_path)), found


def columns(split):
    return [column for column in (split.a, split.b, split.c) if column is not None]


def test_counts_kinds_and_classes(mocked):
    source, expected = mocked
    assert {name: len(split) for name, split in source.splits.items()} == expected.splits
    assert source.problems == ()
    assert len(source.label_names or ()) == (expected.classes or 0)
    for split in source.splits.values():
        assert tuple(column.kind for column in columns(split)) == expected.kinds
        assert (split.label is None) == (expected.classes is None)
    assert len(source.modalities) == len(expected.kinds)


def test_columns_keep_their_contract(mocked):
    source, _ = mocked
    for split in source.splits.values():
        for column in columns(split):
            assert isinstance(column, data.Column)
            last = len(column) - 1
            values = column.read(np.array([last, 0]))
            assert len(values) == 2
            taken = column.take(np.array([last]))
            assert len(taken) == 1
            first = taken.read(np.array([0]))[0]
            pairs = zip(first, values[0], strict=True) if isinstance(first, tuple) else [(first, values[0])]
            for got, wanted in pairs:
                np.testing.assert_array_equal(got, wanted)
            assert taken.describe(0) == column.describe(last)
            assert taken.identity(0, exact=True) == column.identity(last, exact=True)


def test_description_problems_and_splits(mocked):
    source, expected = mocked
    description = data.describe(source)
    assert {name: split["a"]["count"] for name, split in description["splits"].items()} == expected.splits
    assert data.problems(source) == []
    assert all(kind in data.format_description(description) for kind in expected.kinds)
    whole = data.with_splits(source, seed=1)
    # Sources with train get val out of it; only sources without splits get a test set.
    missing = {"val", "test"} if "all" in expected.splits else {"val"}
    assert set(whole.splits) == {"train", *expected.splits, *missing} - {"all"}
    assert sum(len(split) for split in whole.splits.values()) == sum(expected.splits.values())
