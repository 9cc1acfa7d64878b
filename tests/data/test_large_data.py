"""Shortcuts for data of millions of rows give what the plain way gives, and are taken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_jax import data
from alignment_jax.data import disk_cache, distinct_ids, equal_rows, item_fingerprints, split, split_fingerprints
from alignment_jax.data.columns import ArrayColumn, TextColumn
from alignment_jax.data.split import content_groups


class Plain:
    """A column without the shortcut."""

    def __init__(self, column):
        self.identity, self.describe, self.__len = column.identity, column.describe, len(column)

    def __len__(self):
        return self.__len


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 3, 8, 11]),
    st.sampled_from([np.float16, np.float32, np.int64, np.uint8]),
    st.integers(1, 3),
)
def test_equal_rows_of_arrays_are_numbered_as_by_their_identities(seed, width, dtype, count):
    rng = np.random.default_rng(seed)
    columns = []
    for _ in range(count):
        array = rng.integers(0, 2, size=(30, width)).astype(dtype)
        columns.append(ArrayColumn(array, rows=rng.integers(0, 30, size=20)))
    found, expected = content_groups(*columns), content_groups(*map(Plain, columns))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_with_one_hash_are_compared(monkeypatch):
    column = ArrayColumn(np.arange(6.0)[:, None])
    monkeypatch.setattr(equal_rows, "_hash", lambda rows: np.zeros(len(rows), np.uint64))
    assert equal_rows.number_equal_rows([(column.row_bytes, 6)]) is None
    assert content_groups(column)[0].tolist() == list(range(6))


@pytest.mark.parametrize("texts", [False, True])
def test_results_of_large_data_are_kept_by_content(texts, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    rng, n = np.random.default_rng(0), 60
    image, text = rng.normal(size=(n, 3)), rng.normal(size=(n, 2)).astype(np.float32)
    words = tuple(f"text {i}" for i in range(n))

    def results(a=image):
        b = TextColumn(words) if texts else ArrayColumn(text)
        whole = data.PairSplit(ArrayColumn(a), b, np.arange(n), np.arange(n).astype(str))
        cut = data.with_splits(data.PairSource("x", "x", {"all": whole}, has_splits=False))
        prints = item_fingerprints.item_fingerprints(cut.splits["train"])
        return [one.ids.tolist() for one in cut.splits.values()], prints.row.tolist(), data.fingerprints(cut)

    expected, other = results(), results(2 * image)
    for module in (disk_cache, distinct_ids, item_fingerprints):
        monkeypatch.setattr(module, "LARGE", 1)
    assert results() == expected  # computed and kept
    files = sorted((tmp_path / ".cache" / "alignment_jax").glob("*/*.npy"))
    assert {file.parent.name for file in files} == {"split_orders", "array_fingerprints", "split_fingerprints"}

    def fail(*arguments):
        raise AssertionError("computed again")

    with monkeypatch.context() as here:
        here.setattr(split.hashlib, "sha256", fail)
        here.setattr(item_fingerprints, "_row_prints", fail)
        here.setattr(split_fingerprints, "_fingerprint", fail)
        assert results() == expected
        with pytest.raises(AssertionError, match="computed again"):
            results(2 * image)
    assert results(2 * image) == other
    for file in files:
        file.write_bytes(b"damaged")
    assert results() == expected


def test_few_results_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for number in range(12):
        disk_cache.cached_array("kind", 10**7, (str(number),), lambda: np.zeros(1))
    assert len(list((tmp_path / ".cache" / "alignment_jax" / "kind").iterdir())) == 8


def test_a_column_is_hashed_once_in_the_block_and_again_after_it():
    array = np.arange(6.0).reshape(3, 2)
    column = ArrayColumn(array)
    before = disk_cache.content_key("x", column)
    with disk_cache.hash_once():
        assert disk_cache.content_key("x", column) == before
        array[0] = 7  # not allowed; here to find out whether it is read
        assert disk_cache.content_key("x", column) == before
        assert disk_cache.content_key("y", column) != before
    assert disk_cache.content_key("x", column) != before


@pytest.mark.parametrize("n", [0, 1, 9, 10, 11, 100, 1234, 20_001])
def test_row_ids_are_the_row_numbers(n):
    assert distinct_ids.row_ids(n).tolist() == list(map(str, range(n)))


def test_pairs_one_to_one_are_as_other_pairs():
    n, rows = 7, np.array([4, 0, 6, 2])
    one, two = ArrayColumn(np.arange(7.0)[:, None]), ArrayColumn(np.arange(8.0)[:, None])
    # The second has one more b-item at its end, so that it takes the general way.
    plain = data.PairSplit(one, one, np.arange(n), np.arange(n).astype(str))
    other = data.PairSplit(one, two, np.append(np.arange(n), 5), np.arange(n).astype(str))
    found, expected = plain.subset(rows), other.subset(rows)
    np.testing.assert_array_equal(found.b.read(np.arange(4)), expected.b.read(np.arange(4)))
    np.testing.assert_array_equal(found.b_to_a, expected.b_to_a)
    np.testing.assert_array_equal(plain.pick_b(rows), other.pick_b(rows))
    assert plain.b_of_a(3).tolist() == other.b_of_a(3).tolist()
