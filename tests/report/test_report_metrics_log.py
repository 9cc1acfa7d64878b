"""metrics.jsonl survives kills, resumes and non-finite numbers."""

import json
import math

import numpy as np
import pytest

from alignment_jax.core.errors import RunError
from alignment_jax.report import MetricsLog, read_metrics


def _log(tmp_path, *steps):
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in steps:
            log.write(step, {"train/loss": 1.0 / step}, epoch=step // 10)
    return path


def test_rows_come_back_in_order_with_step_and_epoch_first(tmp_path):
    path = _log(tmp_path, 10, 20)
    assert read_metrics(path) == [
        {"step": 10, "epoch": 1, "train/loss": 0.1},
        {"step": 20, "epoch": 2, "train/loss": 0.05},
    ]
    assert path.read_text().startswith('{"step": 10, "epoch": 1, ')


def test_every_line_is_on_disk_before_the_log_is_closed(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(1, {"val/a2b_R@1": 3.5})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "val/a2b_R@1": 3.5}]
    log.close()


def test_making_the_object_touches_nothing(tmp_path):
    MetricsLog(tmp_path / "run" / "metrics.jsonl").close()
    assert list(tmp_path.iterdir()) == []


def test_non_finite_numbers_are_valid_json_and_come_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write(1, {"a": math.nan, "b": np.float32(np.inf), "c": -math.inf, "d": 2.0})

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    raw = json.loads(path.read_text(), parse_constant=refuse)
    assert raw["a"] is None
    assert raw["non_finite"] == {"a": "NaN", "b": "Infinity", "c": "-Infinity"}
    (row,) = read_metrics(path)
    assert math.isnan(row["a"])
    assert (row["b"], row["c"], row["d"]) == (math.inf, -math.inf, 2.0)
    assert "non_finite" not in row


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), np.float64(0.5)])
def test_scalars_of_numpy_are_numbers(tmp_path, value):
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.write(np.int64(3), {"x": value})
        assert log.read() == [{"step": 3, "x": 0.5}]


def test_scalars_of_jax_are_numbers(tmp_path):
    jnp = pytest.importorskip("jax.numpy")
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.write(3, {"x": jnp.bfloat16(0.5), "y": jnp.float32(jnp.nan)})
        (row,) = log.read()
    assert row["x"] == 0.5
    assert math.isnan(row["y"])


def test_values_that_are_no_scalar_are_refused_by_name_and_write_nothing(tmp_path):
    with MetricsLog(tmp_path / "m.jsonl") as log:
        with pytest.raises(ValueError, match="'train/loss'"):
            log.write(1, {"train/loss": np.zeros(3)})
        with pytest.raises(ValueError, match="'step'"):
            log.write(1, {"step": 2})
    assert not (tmp_path / "m.jsonl").exists()


@pytest.mark.parametrize("half", ['{"step": 30, "tra', "\0\0\0\0", '{"step": 30, "x": "\\'])
def test_a_half_written_last_line_is_left_out_and_repaired(tmp_path, half):
    path = _log(tmp_path, 10, 20)
    with open(path, "a") as file:
        file.write(half)
    assert [row["step"] for row in read_metrics(path)] == [10, 20]
    with MetricsLog(path) as log:
        log.write(30, {})
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 30]


def test_a_whole_last_line_without_line_end_counts(tmp_path):
    path = _log(tmp_path, 10, 20)
    path.write_bytes(path.read_bytes()[:-1])
    with MetricsLog(path) as log:
        log.write(30, {})
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 30]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_kill_at_any_byte_costs_at_most_the_line_being_written(tmp_path, cut):
    path = _log(tmp_path, 10, 20)
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    path.write_bytes(content[: first + cut])
    steps = [row["step"] for row in read_metrics(path)]
    assert steps == ([10, 20] if first + cut >= len(content) - 1 else [10])


@pytest.mark.parametrize("broken", ["{broken", "[1, 2]", '{"step": 15} trailing', "\xff"])
def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path, broken):
    path = _log(tmp_path, 10, 20)
    lines = path.read_text().splitlines()
    path.write_bytes("\n".join([lines[0], broken, lines[1], ""]).encode("latin-1"))
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2"):
        read_metrics(path)
    with pytest.raises(RunError, match="line 2"):
        MetricsLog(path).truncate_after(10)
    assert path.read_bytes() == before


def test_truncate_keeps_the_bytes_of_kept_rows(tmp_path):
    path = _log(tmp_path, 10, 20, 30)
    content = path.read_bytes()
    with open(path, "a") as file:
        file.write('{"step": 40')
    with MetricsLog(path) as log:
        log.write(40, {})
        log.truncate_after(20)
        assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[:2])
        log.write(21, {"train/loss": 0.5})
    assert [row["step"] for row in read_metrics(path)] == [10, 20, 21]
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.jsonl"]


def test_truncate_needs_no_file(tmp_path):
    MetricsLog(tmp_path / "m.jsonl").truncate_after(5)
    assert list(tmp_path.iterdir()) == []


def test_truncate_refuses_rows_without_step(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"loss": 2}\n')
    with pytest.raises(RunError, match="row 2"):
        MetricsLog(tmp_path / "m.jsonl").truncate_after(5)


def test_a_full_disk_is_an_error():
    with MetricsLog("/dev/full") as log, pytest.raises(RunError, match="/dev/full"):
        log.write(1, {"x": 1.0})
