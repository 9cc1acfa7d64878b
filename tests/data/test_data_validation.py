"""Every file is decoded once; files that passed are decoded again only after a change."""

import os

import numpy as np
import PIL.Image
import pytest
import soundfile

from alignment_jax import data
from alignment_jax.core.errors import DataError
from alignment_jax.data import validation


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that were decoded."""
    names, error = [], validation._File.error

    def counted(file):
        names.append(getattr(file.column.items[file.index], "name", "array"))
        return error(file)

    monkeypatch.setattr(validation._File, "error", counted)
    return names


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        PIL.Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png,caption {i},{'test' if i == 5 else 'train'}" for i in range(6)]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption,split", *rows]) + "\n")
    return tmp_path


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def check(folder, **options):
    options = {"memory": folder / "memory", "remember_from": 1, **options}
    data.check_files(data.load(f"pairs:{folder / 'pairs.csv'}"), **options)


def test_a_truncated_file_of_any_split_is_named_and_the_others_are_counted(pictures):
    check(pictures)
    truncate(pictures / "5.png")
    with pytest.raises(DataError, match=r"5\.png from .*pairs\.csv.*on_bad_sample"):
        check(pictures)
    truncate(pictures / "2.png")
    with pytest.raises(DataError, match=r"2\.png .*1 more"):
        check(pictures)


def test_valid_files_are_decoded_again_only_after_a_change(pictures, decoded):
    truncate(pictures / "5.png")
    with pytest.raises(DataError):
        check(pictures)
    assert len(decoded) == 6
    decoded.clear()
    with pytest.raises(DataError):
        check(pictures)
    assert decoded == ["5.png"]  # a bad one every time
    (pictures / "5.png").write_bytes((pictures / "4.png").read_bytes())
    decoded.clear()
    check(pictures)
    assert decoded == ["5.png"]
    decoded.clear()
    check(pictures)
    assert decoded == []
    content, time = (pictures / "1.png").read_bytes(), (pictures / "1.png").stat().st_mtime_ns
    (pictures / "1.png").write_bytes(content[: len(content) // 2])
    os.utime(pictures / "1.png", ns=(time, time))  # another size alone
    with pytest.raises(DataError, match=r"1\.png"):
        check(pictures)
    assert decoded == ["1.png"]


def test_another_time_of_the_same_size_is_another_file(pictures, decoded):
    check(pictures)
    decoded.clear()
    os.utime(pictures / "3.png", ns=(1, 1))
    check(pictures)
    assert decoded == ["3.png"]


def test_an_interrupted_check_resumes(pictures, decoded, monkeypatch):
    monkeypatch.setattr(validation, "_BLOCK", 2)

    def stop(done, total):
        assert total == 6
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(pictures, progress=stop)
    decoded.clear()
    seen = []
    check(pictures, progress=lambda *counts: seen.append(counts))
    assert sorted(decoded) == ["4.png", "5.png"]
    assert seen == [(2, 2)]


def test_few_files_are_not_worth_a_memory_and_a_damaged_one_is_none(pictures, decoded):
    check(pictures, remember_from=7)
    assert not (pictures / "memory").exists()
    (pictures / "memory").write_bytes(b"abc")
    decoded.clear()
    check(pictures)
    assert len(decoded) == 6
    check(pictures, memory=None)
    check(pictures, memory=pictures / "0.png" / "memory")  # cannot be written


def test_recordings_are_checked_too(recordings, tmp_path, decoded):
    source = data.load(f"av:{recordings}")
    data.check_files(source)
    assert len(decoded) == 96
    short = tmp_path / "short.wav"
    soundfile.write(short, np.zeros(800, np.float32), 8000)
    truncate(short)
    split = source.splits["test"]
    broken = split.replace(a=data.AudioColumn((short,) * len(split), ("manifest, row 3",) * len(split)))
    with pytest.raises(DataError, match=r"short\.wav .*manifest, row 3"):
        data.check_files(data.PairSource("x", "x", {"test": broken}, True))


def test_every_frame_of_an_item_is_checked(pictures, decoded):
    rows = [f"one,{i}.png,caption {i}" for i in range(3)] + [f"two,{i}.png,caption {i}" for i in range(3, 6)]
    (pictures / "pairs.csv").write_text("\n".join(["item,image,caption", *rows]) + "\n")
    check(pictures)
    assert len(decoded) == 6
    truncate(pictures / "0.png")
    with pytest.raises(DataError, match=r"0\.png"):
        check(pictures)


def test_decoded_files_are_not_decoded_again(pictures, decoded):
    source = data.load(f"pairs:{pictures / 'pairs.csv'}", on_bad_sample="skip")
    decoded.clear()
    data.check_files(source)
    data.check_files(data.load("synthetic:train=4,val=2,test=2,size=16"))
    assert decoded == []


def test_stored_texts_that_are_not_utf8_are_named():
    column = data.StoredTextColumn.of([np.array([b"a dog", b"\xff\xfe"])], name="texts.npy")
    assert column.read(np.array([0])) == ["a dog"]
    with pytest.raises(DataError, match=r"texts\.npy, row 1: .*UTF-8"):
        column.read(np.array([0, 1]))
