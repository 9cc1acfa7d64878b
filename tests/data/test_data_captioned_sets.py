"""MS-COCO, Conceptual Captions and shards: pairs are kept, broken files are named."""

import io
import json
import tarfile

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError


def captions_by_picture(source):
    """Captions by image content."""
    found = {}
    for split in source.splits.values():
        for a in range(len(split)):
            found[split.a.read(np.array([a]))[0].tobytes()] = split.b.read(split.b_of_a(a))
    return found


def picture_key(number):
    return np.asarray(mock.picture(number)).tobytes()


def test_coco_captions_stay_with_their_image(tmp_path):
    source = data.load(mock.coco(tmp_path))
    expected = {picture_key(i): [mock.caption(i, k) for k in range(mock.CAPTIONS)] for i in range(mock.N)}
    assert captions_by_picture(source) == expected
    assert source.splits["test"].ids.tolist() == ["val2017/im6.png", "val2017/im7.png"]


def test_pictures_are_read_where_they_lie_in_the_archive(tmp_path):
    source = data.load(mock.shards(tmp_path))
    assert captions_by_picture(source) == {picture_key(i): [mock.caption(i, 0)] for i in range(8)}
    before = sorted(tmp_path.rglob("*"))
    assert [path.suffix for path in before] == [".tar", ".tar"]  # nothing was unpacked
    assert (
        source.splits["val"]
        .a.describe(0)
        .endswith("cc3m-validation-0001.tar: 000010004.png from " + f"{tmp_path}/cc3m-validation-0001.tar: 000010004")
    )


def test_shards_without_a_split_in_their_names(tmp_path):
    source = data.load(mock.shards(tmp_path, "{0:.0s}{1:05d}.tar"))
    assert not source.has_splits
    assert len(source.splits["all"]) == 8


def test_conceptual_captions_in_shards_and_in_a_table_of_paths(tmp_path):
    (tmp_path / "shards").mkdir()
    mock.shards(tmp_path / "shards")
    assert sum(len(split) for split in data.load(f"cc3m:{tmp_path / 'shards'}").splits.values()) == 8
    mock.pictures(tmp_path / "images", 3)
    for header in ("caption\tpath", "title\tfilepath"):
        lines = [header, *(f"{mock.caption(i, 0)}\timages/im{i}.png" for i in range(3))]
        (tmp_path / "own.tsv").write_text("\n".join(lines))
        split = data.load(f"cc3m:{tmp_path / 'own.tsv'}").splits["all"]
        assert split.b.read(np.arange(3)) == [mock.caption(i, 0) for i in range(3)]


def test_rows_whose_picture_is_gone_are_counted(tmp_path):
    source = data.load(mock.conceptual_captions(tmp_path))
    (note,) = source.notes
    assert note.endswith(": 8")
    expected = {picture_key(i): [mock.caption(i, 0)] for i in range(0, 16, 2)}
    assert captions_by_picture(source) == expected


def change_json(name, change):
    def apply(folder):
        path = folder / "annotations" / name
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


TRAIN, VAL = "captions_train2017.json", "captions_val2017.json"
COCO = {
    "no list": (lambda f: (f / "annotations" / VAL).unlink(), ["no captions_val2017.json"]),
    "no images": (lambda f: (f / "val2017").rename(f / "x"), ["no folder val2017"]),
    "not JSON": (lambda f: (f / "annotations" / VAL).write_text("{"), [VAL, "line 1", "not valid JSON"]),
    "nested": (lambda f: (f / "annotations" / VAL).write_text("[" * 200_000), [VAL]),
    "a list": (lambda f: (f / "annotations" / VAL).write_text("[]"), [VAL, '"images" and "annotations"']),
    "no name": (change_json(TRAIN, lambda c: c["images"][2].pop("file_name")), ["images row 2", "file_name"]),
    "id twice": (change_json(TRAIN, lambda c: c["images"][2].update(id=1000)), ["row 2", "id 1000", "twice"]),
    "unknown image": (
        change_json(TRAIN, lambda c: c["annotations"][1].update(image_id=7)),
        ["annotations row 1", "image_id 7"],
    ),
    "no text": (change_json(TRAIN, lambda c: c["annotations"][1].update(caption=3)), ["row 1", "expected image_id"]),
    "empty": (change_json(TRAIN, lambda c: c["annotations"][1].update(caption=" ")), ["row 1", "empty caption"]),
    "image without": (change_json(TRAIN, lambda c: c.update(annotations=c["annotations"][:5])), ["has no caption"]),
    "leads out": (
        change_json(TRAIN, lambda c: c["images"][1].update(file_name="../../x.png")),
        ["annotations row 1", "leads out"],
    ),
    "absolute": (
        change_json(TRAIN, lambda c: c["images"][1].update(file_name="/etc/passwd")),
        ["annotations row 1", "no such file"],
    ),
}


@pytest.mark.parametrize("case", COCO)
def test_broken_coco(case, tmp_path):
    folder = tmp_path / "coco"
    folder.mkdir()
    spec = mock.coco(folder)
    change, parts = COCO[case]
    change(folder)
    with pytest.raises(DataError) as error:
        data.load(spec)
    for part in parts:
        assert part in str(error.value)


def test_an_unknown_year_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"year=2016.*2014, 2017"):
        data.load(mock.coco(tmp_path) + ",year=2016")


def shard_with(*members):
    def write(folder):
        with tarfile.open(folder / "00000.tar", "w") as archive:
            mock.add_to_tar(archive, "good.png", mock.encoded(1))
            mock.add_to_tar(archive, "good.txt", b"a picture")
            for name, content in members:
                if isinstance(content, bytes):
                    mock.add_to_tar(archive, name, content)
                else:
                    archive.addfile(content)

    return write


def link(kind, name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return (name, entry)


def shorter(folder):
    shard_with()(folder)
    path = folder / "00000.tar"
    path.write_bytes(path.read_bytes()[:700])


def compressed(folder):
    with tarfile.open(folder / "00000.tar", "w:gz") as archive:
        mock.add_to_tar(archive, "a.png", mock.encoded(1))


SHARDS = {
    "none": (lambda f: None, ["no *.tar"]),
    "no archive": (lambda f: (f / "a.tar").write_bytes(b"x" * 2000), ["a.tar"]),
    "cut short": (shorter, ["00000.tar"]),
    "compressed": (compressed, ["00000.tar", "gzip"]),
    "symbolic link": (shard_with(link(tarfile.SYMTYPE, "x.png", "/etc/passwd")), ["'x.png'"]),
    "hard link": (shard_with(link(tarfile.LNKTYPE, "x.png", "good.png")), ["'x.png'"]),
    "device": (shard_with(link(tarfile.CHRTYPE, "x.png", "")), ["'x.png'"]),
    "no caption": (shard_with(("x.png", b"1")), ["'x'", ".txt", ".json"]),
    "no picture": (shard_with(("x.txt", b"words")), ["'x'", "(txt)"]),
    "empty picture": (shard_with(("x.png", b""), ("x.txt", b"words")), ["'x'", "png"]),
    "twice": (shard_with(("good.png", b"1")), ["'good.png'"]),
    "no ending": (shard_with(("x", b"1")), ["'x'"]),
    "not UTF-8": (shard_with(("x.png", b"1"), ("x.txt", b"\xff\xfe")), ["'x'", "x.txt"]),
    "not JSON": (shard_with(("x.png", b"1"), ("x.json", b"{")), ["x.json"]),
    "no text": (shard_with(("x.png", b"1"), ("x.json", b'{"caption": 3}')), ["x.json"]),
    "no word": (shard_with(("x.png", b"1"), ("x.txt", b"  ")), ["empty caption"]),
    "one split": (
        lambda f: [shard_with()(f), (f / "train").mkdir(), shard_with()(f / "train")],
        ["split", "name"],
    ),
}


@pytest.mark.parametrize("case", SHARDS)
def test_broken_shards(case, tmp_path):
    write, parts = SHARDS[case]
    write(tmp_path)
    with pytest.raises(DataError) as error:
        data.load(f"webdataset:{tmp_path}")
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_names_that_lead_out_of_an_archive_are_only_names(tmp_path):
    """Nothing is unpacked, so `../` and an absolute name are keys like any other."""
    folder = tmp_path / "in"
    folder.mkdir()
    members = [
        ("../../x.png", mock.encoded(2)),
        ("../../x.txt", b"up"),
        ("/y.png", mock.encoded(3)),
        ("/y.txt", b"root"),
    ]
    shard_with(*members)(folder)
    split = data.load(f"webdataset:{folder}").splits["all"]
    assert split.b.read(np.arange(3)) == ["a picture", "up", "root"]
    np.testing.assert_array_equal(split.a.read(np.array([1]))[0], np.asarray(mock.picture(2)))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["00000.tar", "in"]


def test_a_picture_that_is_none_is_named_and_skipped(tmp_path):
    shard_with(("x.png", b"no picture"), ("x.txt", b"words"))(tmp_path)
    (line,) = data.problems(data.load(f"webdataset:{tmp_path}"))
    assert "00000.tar: x.png" in line
    source = data.load(f"webdataset:{tmp_path}", on_bad_sample="skip")
    assert len(source.splits["all"]) == 1
    assert source.problems == (line,)


def test_an_archive_that_became_shorter_is_named_when_it_is_read(tmp_path):
    split = data.load(mock.shards(tmp_path)).splits["train"]
    path = tmp_path / "cc3m-train-0000.tar"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r"cc3m-train-0000\.tar: "):
        split.a.read(np.array([0]))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda f: (f / "training").rename(f / "x"), ["training: no such folder"]),
        (lambda f: (f / "Train_GCC-training.tsv").write_text("only words\n"), ["row 1 (line 1)", "1 fields"]),
        (lambda f: (f / "Train_GCC-training.tsv").write_text(""), ["no rows"]),
        (lambda f: (f / "own.tsv").write_text("text\tfile\n"), ["own.tsv", "caption<TAB>path"]),
        (lambda f: (f / "own.tsv").write_text("caption\tpath\nx\t../y.png\n"), ["row 1 (line 2)", "leads out"]),
    ],
)
def test_broken_lists_of_conceptual_captions(change, parts, tmp_path):
    folder = tmp_path / "cc3m"
    folder.mkdir()
    mock.conceptual_captions(folder)
    change(folder)
    own = folder / "own.tsv"
    with pytest.raises(DataError) as error:
        data.load(f"cc3m:{own if own.exists() else folder}")
    for part in parts:
        assert part in str(error.value)
    assert io.StringIO(str(error.value)).readline() == str(error.value)
