"""Atomic writes: the old file or the new one, never a part of either."""

import json
import math
import os
import pathlib
import stat

import numpy as np
import pytest

from alignment_jax.core.errors import RunError
from alignment_jax.report import (
    json_ready,
    open_atomic,
    write_bytes_atomic,
    write_json_atomic,
    write_npz_atomic,
    write_text_atomic,
)


class Stop(BaseException):
    """A kill in the middle of a write."""


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")

    def write_half():
        with open_atomic(target) as file:
            file.write(b"half of the n")
            file.flush()
            raise Stop

    with pytest.raises(Stop):
        write_half()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]


def test_the_target_is_not_touched_before_the_block_ends(tmp_path):
    target = tmp_path / "result.txt"
    with open_atomic(target) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"


def test_an_interrupted_npz_is_no_npz(tmp_path, monkeypatch):
    target = tmp_path / "latents.npz"
    calls = []
    write_array = np.lib.format.write_array

    def break_at_the_second(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise Stop
        write_array(*args, **kwargs)

    monkeypatch.setattr(np.lib.format, "write_array", break_at_the_second)
    with pytest.raises(Stop):
        write_npz_atomic(target, {"a": np.zeros(4), "b": np.zeros(4)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_files_get_the_mode_the_umask_gives(tmp_path):
    old = os.umask(0o022)
    try:
        write_text_atomic(tmp_path / "page.html", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o644


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text_atomic(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"file/x\.txt"):
        write_bytes_atomic(tmp_path / "file" / "x.txt", b"")


def test_npz_round_trip_without_pickles(tmp_path):
    arrays = {
        "image": np.arange(6, dtype=np.float16).reshape(2, 3),
        "text_to_image": np.array([0, 1, 1], np.int32),
        "caption": np.array(["ä", "b", "çç"]),
        "file": np.zeros(()),  # numpy.savez cannot store an array of this name
        "empty": np.zeros((0, 5), np.float32),
    }
    for compressed in (False, True):
        write_npz_atomic(tmp_path / "x.bin", arrays, compressed=compressed)
        with np.load(tmp_path / "x.bin", allow_pickle=False) as stored:
            assert set(stored.files) == set(arrays)
            for name, array in arrays.items():
                assert stored[name].dtype == array.dtype
                np.testing.assert_array_equal(stored[name], array)


def test_npz_bytes_depend_on_the_arrays_alone(tmp_path, monkeypatch):
    write_npz_atomic(tmp_path / "1.npz", {"a": np.arange(3)})
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_npz_atomic(tmp_path / "2.npz", {"a": np.arange(3)})
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_npz_refuses_objects_before_touching_the_file(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"old")
    with pytest.raises(ValueError, match="'caption'"):
        write_npz_atomic(tmp_path / "x.npz", {"caption": np.array(["a", None], dtype=object)})
    assert (tmp_path / "x.npz").read_bytes() == b"old"


def test_json_is_valid_json(tmp_path):
    value = {
        "shape": (2, 3),
        "rate": np.float32(0.5),
        "count": np.int64(7),
        "flag": np.bool_(True),
        "bad": [math.nan, math.inf, np.float64(-math.inf)],
        "path": pathlib.PurePosixPath("data/x.csv"),
        "names": {"b", "a"},
        "array": np.array([1.0, math.nan]),
        3: None,
    }
    write_json_atomic(tmp_path / "x.json", value)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    stored = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert stored == {
        "shape": [2, 3],
        "rate": 0.5,
        "count": 7,
        "flag": True,
        "bad": [None, None, None],
        "path": "data/x.csv",
        "names": ["a", "b"],
        "array": [1.0, None],
        "3": None,
    }


def test_json_takes_device_scalars():
    jnp = pytest.importorskip("jax.numpy")
    assert json_ready({"a": jnp.float32(1.5), "b": jnp.bfloat16(0.5), "c": jnp.arange(2)}) == {
        "a": 1.5,
        "b": 0.5,
        "c": [0, 1],
    }


def test_json_names_the_type_it_cannot_store():
    with pytest.raises(ValueError, match="function"):
        json_ready({"f": lambda: 0})


def test_text_with_a_lone_surrogate_is_still_written(tmp_path):
    write_text_atomic(tmp_path / "x.txt", "caf\udce9")
    assert (tmp_path / "x.txt").read_text(encoding="utf-8") == "caf?"
