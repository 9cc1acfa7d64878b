"""Shards: keys, JSON fields, several captions, patterns, and refused ones."""

import gzip
import json
import os
import tarfile

import mock_data_sets as mock
import numpy as np
import pytest
from shard_inputs import COUNT, plain, write_shards

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data import disk_cache, tars


def texts(spec, split="all"):
    column = data.load(spec).splits[split].b
    return list(column.read(np.arange(len(column))))


ONE = [f"picture {number}" for number in range(COUNT)]
TWO = [f"{word} {number}" for number in range(COUNT) for word in ("picture", "image")]


def sample(ending, content, picture="png", stem="s{:04d}"):
    """One picture and one more file; `content` is a text or something for JSON."""

    def files(number):
        filled = json.loads(json.dumps(content).replace("#", str(number)))
        written = filled if isinstance(content, str) and "json" not in ending else json.dumps(filled)
        key = stem.format(number)
        return {f"{key}.{picture}": mock.encoded(number), f"{key}.{ending}": written.encode()}

    return files


KEYS = {
    "txt": (sample("txt", "picture #"), "", ONE),
    "capital letters": (sample("TXT", "picture #", picture="PNG"), "", ONE),
    "img and cap": (sample("cap", "picture #", picture="img"), "", ONE),
    "input and outputs": (sample("outputs.txt", "picture #", picture="input.png"), "", ONE),
    "JSON text": (sample("json", {"url": "u", "text": "picture #"}), "", ONE),
    "JSON caption before title": (sample("json", {"title": "x", "caption": "picture #"}), "", ONE),
    "JSON list": (sample("json", {"captions": ["picture #", "image #"]}), "", TWO),
    "JSON numbered": (sample("json", {"caption_1": "picture #", "caption_2": "image #"}), "", TWO),
    "JSON of sentences": (sample("json", {"sentences": [{"raw": "picture #"}, {"raw": "image #"}]}), "", TWO),
    "JSON named field": (sample("json", {"caption": "x", "said": {"en": "picture #"}}), ",caption=said.en", ONE),
    "lines of a text": (sample("txt", "picture #\nimage #\r\n\n"), "", TWO),
    "names with dots": (sample("txt", "picture #", stem="photo.{:04d}"), "", ONE),
    "named endings": (
        lambda n: {**plain(n), f"{n:05d}.jpg": b"mask", f"{n:05d}.alt.txt": b"x"},
        ",image=png,caption=txt",
        ONE,
    ),
    "files of macOS": (lambda n: {**plain(n), f"._{n:05d}.png": b"x", ".DS_Store": b"x"}, "", ONE),
}


@pytest.mark.parametrize("case", KEYS)
def test_captions_are_found_under_many_keys(case, tmp_path):
    files, options, expected = KEYS[case]
    write_shards(tmp_path / "shards", files)
    spec = f"webdataset:{tmp_path / 'shards'}{options}"
    assert texts(spec) == expected
    split = data.load(spec).splits["all"]
    assert np.bincount(split.b_to_a).tolist() == [len(expected) // COUNT] * COUNT
    np.testing.assert_array_equal(split.a.read(np.array([3]))[0], np.asarray(mock.picture(3)))


def test_several_captions_and_cut_names_are_noted(tmp_path):
    write_shards(tmp_path / "a", sample("txt", "picture #\nimage #"))
    assert any(
        "several captions" in note and "6 of 6" in note for note in data.load(f"webdataset:{tmp_path / 'a'}").notes
    )
    write_shards(tmp_path / "b", sample("txt", "picture #", stem="photo.{:04d}"))
    assert any("last dot" in note for note in data.load(f"webdataset:{tmp_path / 'b'}").notes)


def test_a_caption_of_two_lines_that_the_json_has_as_one_is_one(tmp_path):
    """img2dataset writes the same caption into both."""

    def files(number):
        caption = f"a picture\nof {number}"
        return {
            **plain(number),
            f"{number:05d}.txt": caption.encode(),
            f"{number:05d}.json": json.dumps({"caption": caption}).encode(),
        }

    assert texts(f"webdataset:{write_shards(tmp_path / 's', files)}") == [f"a picture of {n}" for n in range(COUNT)]


def test_a_file_a_pattern_and_a_shard_list_for_each_split(tmp_path, monkeypatch):
    write_shards(tmp_path / "shards", plain, names=("000.tar", "001.tar", "002.tar"))
    monkeypatch.chdir(tmp_path)
    assert texts("webdataset:shards/001.tar") == ONE[2:4]
    for pattern in ("{000..002}.tar", "{000,001,002}.tar", "*.tar", "000.tar::shards/{001..002}.tar"):
        assert texts(f"webdataset:shards/{pattern}") == ONE
    source = data.load("webdataset:train=shards/{000..001}.tar,val=shards/002.tar")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 4, "val": 2}
    whole = data.load("webdataset:shards").splits["all"]
    assert whole.ids.tolist() == data.load("webdataset:shards/{000..002}.tar").splits["all"].ids.tolist()


def packed(folder):
    write_shards(folder, plain)
    path = folder / "00001.tar"
    (folder / "00001.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


REFUSED = {
    "missing of a pattern": (
        lambda f: write_shards(f, plain),
        "{}/{{00000..00003}}.tar",
        ["00002.tar", "4 shards", "00001.tar"],
    ),
    "nothing there": (lambda f: None, "{}/none/x.tar", ["no such folder", "{00000..00012}"]),
    "compressed in a folder": (packed, "{}", ["00001.tar.gz", "gunzip"]),
    "compressed file": (packed, "{}/00001.tar.gz", ["00001.tar.gz", "gzip -dc"]),
    "in the cloud": (lambda f: None, "s3://bucket/{{0..3}}.tar", ["s3://bucket/{0..3}.tar", "webdataset:DIR"]),
    "a pipe": (lambda f: None, "pipe:aws s3 cp x -", ["pipe:aws s3 cp x -"]),
    "classes": (lambda f: write_shards(f, sample("cls", "1")), "{}", ["no captions", "labelled:FILE.csv"]),
    "recordings": (
        lambda f: write_shards(f, sample("json", {"text": "x"}, picture="flac")),
        "{}",
        ["6 flac, 6 json"],
    ),
    "two pictures": (
        lambda f: write_shards(f, lambda n: {**plain(n), f"{n:05d}.jpg": b"x"}),
        "{}",
        ["png, jpg", ",image=png"],
    ),
    "two fields": (
        lambda f: write_shards(f, sample("json", {"title": "x", "description": "y"})),
        "{}",
        [",caption=title or ,caption=description"],
    ),
    "no field": (
        lambda f: write_shards(f, sample("json", {"url": "x", "key": "y"})),
        "{}",
        ["it has url, key", ",caption=FIELD"],
    ),
    "no such field": (
        lambda f: write_shards(f, sample("json", {"url": "x"})),
        "{},caption=said",
        ["'said'", "it has url"],
    ),
    "one shard in two splits": (
        lambda f: write_shards(f, plain),
        "train={0}/00000.tar,val={0}/*.tar",
        ["00000.tar: ", "train", "val"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unreadable_data_is_an_error_with_a_hint(case, tmp_path):
    write, spec, parts = REFUSED[case]
    write(tmp_path / "shards")
    with pytest.raises(DataError) as error:
        data.load(f"webdataset:{spec.format(tmp_path / 'shards')}")
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_shards_and_shards_of_splits_are_not_mixed(tmp_path):
    write_shards(tmp_path, plain)
    with pytest.raises(ConfigError, match="name shards"):
        data.load(f"webdataset:{tmp_path},val={tmp_path}/00001.tar")


def test_an_archive_without_its_end_is_named(tmp_path):
    write_shards(tmp_path, sample("txt", "picture #"))
    shard = sorted(tmp_path.rglob("*.tar"))[0]
    shard.write_bytes(shard.read_bytes().rstrip(b"\0")[: 512 * 2])  # whole files, and nothing after them
    with pytest.raises(DataError, match=r"\.tar: "):
        data.load(f"webdataset:{tmp_path}")


def test_a_packed_shard_is_unpacked_by_its_own_program(tmp_path):
    (tmp_path / "a.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(DataError, match=r"unzstd .*a\.tar\.zst"):
        data.load(f"webdataset:{tmp_path}")


def test_the_index_of_a_shard_is_kept_until_the_shard_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tars, "_LARGE", 0)
    monkeypatch.setattr(disk_cache, "_SETTLED", 0.0)
    folder = tmp_path / "shards"
    write_shards(folder, sample("txt", "picture #"))

    def opened():
        source = data.load(f"webdataset:{folder}")
        return texts(f"webdataset:{folder}"), [item.read_bytes() for item in source.splits["all"].a.items]

    expected = opened()
    kept = sorted((tmp_path / "home").rglob("*.json.gz"))
    assert len(kept) == len(list(folder.iterdir()))
    with monkeypatch.context() as here:
        here.setattr(tars.tarfile, "open", lambda *a: pytest.fail("read the archive"))
        assert opened() == expected
    for damage in (lambda content: content[:50], lambda content: content[:30] + b"xx" + content[32:], lambda _: b""):
        for file in kept:
            file.write_bytes(damage(file.read_bytes()))
        assert opened() == expected
    # The same size and the same time of the last write: only the time of the last change differs.
    for shard in folder.iterdir():
        before = shard.stat()
        shard.write_bytes(shard.read_bytes().replace(b"picture", b"drawing"))
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert shard.stat().st_size == before.st_size
    assert opened()[0] == [text.replace("picture", "drawing") for text in expected[0]]
    # Lines about files that are left out come from the index, too.
    with tarfile.open(next(folder.iterdir()), "a") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "s0001.png"
        archive.addfile(member)
    for _ in range(2):
        with pytest.raises(DataError, match="'link' is not a regular file"):
            opened()


def test_the_index_of_a_shard_that_is_being_written_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tars, "_LARGE", 0)
    write_shards(tmp_path / "shards", plain)
    data.load(f"webdataset:{tmp_path / 'shards'}")
    assert not list((tmp_path / "home").rglob("*.gz"))
