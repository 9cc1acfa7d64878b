"""Files with one JSON object per line."""

import pytest

from alignment_jax.core.errors import RunError
from alignment_jax.report import MetricsLog, append_row, read_metrics, read_rows

# Line ends for str.splitlines that a JSON string may contain.
LINE_ENDS = "a\u2028b\u2029c\u0085d\u000ce\u000bf\u001cg\rh\ni"


def write_metrics(path, text):
    with MetricsLog(path) as log:
        log.write(1, {"note": text})


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (lambda path, text: append_row(path, {"note": text}), read_rows),
        (write_metrics, read_metrics),
    ],
    ids=["rows", "metrics"],
)
def test_a_value_with_any_line_end_is_one_line(tmp_path, write, read):
    path = tmp_path / "rows.jsonl"
    for _ in range(2):
        write(path, LINE_ENDS)
    assert [row["note"] for row in read(path)] == [LINE_ENDS] * 2
    assert path.read_bytes().count(b"\n") == 2


def test_a_half_line_is_dropped_and_a_whole_one_without_its_end_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2')
    assert read_rows(path) == [{"a": 1}]
    append_row(path, {"a": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 3}\n'
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    append_row(path, {"a": 3})
    assert [row["a"] for row in read_rows(path)] == [1, 2, 3]


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b"\xff"])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(RunError, match=r"rows\.jsonl, line 2"):
        read_rows(path)


def test_a_name_that_is_no_unicode_is_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_row(path, {"name": "a\udcff"})
    assert read_rows(path) == [{"name": "a?"}]
