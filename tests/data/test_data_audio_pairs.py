"""`pairs:` with recordings: captions, images, all formats, empty cells."""

import mock_media as media
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import DataError


def sizes(source):
    return {name: (len(split.a), len(split.b)) for name, split in source.splits.items()}


def test_recordings_of_any_format_have_captions(tmp_path):
    names = media.tones(tmp_path)
    rows = [[name, f"tone {i}, wording {k}"] for i, name in enumerate(names) for k in range(2)]
    source = data.load(media.table(tmp_path / "t.csv", "audio,caption", rows))
    split = source.splits["all"]
    assert (source.modalities, split.a.kind, split.b.kind, sizes(source)) == (
        ("audio", "text"), "audio", "text", {"all": (12, 24)},
    )  # fmt: skip
    read = split.a.read(np.arange(6))
    assert [rate for _, rate in read] == [rate for *_, rate, _ in media.FORMATS]
    assert all(wave.ndim == 1 and abs(len(wave) / rate - 0.2) < 0.05 for wave, rate in read)
    assert split.b.read(split.b_of_a(3)) == ["tone 3, wording 0", "tone 3, wording 1"]


def test_recordings_have_images(tmp_path):
    rows = list(zip(media.images(tmp_path), media.tones(tmp_path), strict=True))
    source = data.load(media.table(tmp_path / "t.csv", "image,audio", rows))
    split = source.splits["all"]
    assert (source.modalities, split.a.kind, split.b.kind) == (("audio", "image"), "audio", "image")
    assert split.b.read(split.b_of_a(5))[0][0, 0].tolist() == [100, 0, 0]


def test_columns_that_are_named_choose_the_pair(tmp_path):
    rows = [(*each, "x") for each in zip(media.images(tmp_path), media.tones(tmp_path), strict=True)]
    spec = media.table(tmp_path / "t.csv", "path,wav,text", rows)
    source = data.load(spec)
    assert source.modalities == ("image", "text")
    assert any(",audio=wav,caption=COLUMN" in note for note in source.notes)
    assert data.load(f"{spec},audio=wav,caption=text").modalities == ("audio", "text")
    assert data.load(f"{spec},audio=wav,image=path").modalities == ("audio", "image")


def test_a_file_for_each_split_has_the_same_pair(tmp_path):
    names = media.tones(tmp_path)
    media.table(tmp_path / "a.csv", "audio,caption", [(name, "x") for name in names[:6]])
    media.table(tmp_path / "b.csv", "audio,caption", [(name, "x") for name in names[6:]])
    source = data.load(f"pairs:train={tmp_path / 'a.csv'},val={tmp_path / 'b.csv'}")
    assert sizes(source) == {"train": (6, 6), "val": (6, 6)}
    media.table(tmp_path / "b.csv", "image,caption", [(name, "x") for name in names[6:]])
    with pytest.raises(DataError, match=r"b\.csv: .*audio, caption.*image, caption"):
        data.load(f"pairs:train={tmp_path / 'a.csv'},val={tmp_path / 'b.csv'}")


def test_every_missing_cell_is_named_by_row_and_column(tmp_path):
    rows = [list(each) for each in zip(media.tones(tmp_path), media.images(tmp_path), strict=True)]
    rows[1][0] = rows[4][0] = rows[7][1] = ""
    spec = media.table(tmp_path / "t.csv", "audio,image", rows)
    source = data.load(spec, on_bad_sample="skip")
    assert sizes(source) == {"all": (9, 9)}
    assert [problem.partition("t.csv, ")[2] for problem in source.problems] == [
        "row 2 (line 3): no file name: the cell of the column audio is empty",
        "row 5 (line 6): no file name: the cell of the column audio is empty",
        "row 8 (line 9): no file name: the cell of the column image is empty",
    ]
    with pytest.raises(DataError, match=r"row 2 .* 2 more"):
        data.load(spec)


def test_skipping_leaves_out_partners_that_cannot_be_decoded(tmp_path):
    tones, images = media.tones(tmp_path), media.images(tmp_path)
    rows = [(tones[i // 2], images[i]) for i in range(12)]  # two images for each recording
    (tmp_path / images[3]).write_bytes(b"no picture")
    (tmp_path / images[4]).write_bytes(b"no picture")
    (tmp_path / images[5]).write_bytes(b"no picture")
    (tmp_path / tones[4]).write_bytes(b"no sound")
    source = data.load(media.table(tmp_path / "t.csv", "audio,image", rows), on_bad_sample="skip")
    split = source.splits["all"]
    assert split.ids.tolist() == [tones[0], tones[1], tones[3], tones[5]]
    assert np.bincount(split.b_to_a).tolist() == [2, 1, 2, 2]
    assert len(source.problems) == 4


def test_recordings_in_a_column_of_images_are_an_error_with_a_hint(tmp_path):
    spec = media.table(tmp_path / "t.csv", "image,caption", [(name, "x") for name in media.tones(tmp_path, 3)])
    with pytest.raises(DataError, match=r"a WAV recording.*audio"):
        data.load(spec, on_bad_sample="skip")
    assert data.load(f"{spec},audio=image").modalities == ("audio", "text")


def test_items_are_of_images(tmp_path):
    spec = media.table(tmp_path / "t.csv", "audio,caption,item", [(n, "x", n) for n in media.tones(tmp_path, 3)])
    with pytest.raises(DataError, match="column item"):
        data.load(spec)


def test_recordings_of_one_image_stay_in_one_split(tmp_path):
    tones, images = media.tones(tmp_path, 24), media.images(tmp_path, 8)
    rows = [(tone, images[i % 8]) for i, tone in enumerate(tones)]
    source = data.load(media.table(tmp_path / "t.csv", "audio,image", rows))
    for seed in range(3):
        splits = data.with_splits(source, seed).splits
        held = [[int(name.removeprefix("tone").partition(".")[0]) for name in split.ids] for split in splits.values()]
        shown = [{number % 8 for number in numbers} for numbers in held]
        assert sorted(image for images in shown for image in images) == list(range(8))
        assert sum(map(len, held)) == 24
