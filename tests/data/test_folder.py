"""Folders of images: text files, metadata files, classes, and refused layouts."""

import io
import json

import mock_data_sets as mock
import numpy as np
import pytest
from shard_inputs import write_shards

from alignment_jax import data
from alignment_jax.core.errors import DataError

COUNT = 6


def test_texts_in_other_encodings_are_read_or_named(tmp_path):
    images(tmp_path / "a", numbers=[0])
    put(tmp_path, "a/0.txt", "schön\nschöner".encode("utf-16"))
    assert data.load(f"folder:{tmp_path}/a").splits["all"].b.read(np.arange(2)) == ["schön", "schöner"]
    put(tmp_path, "a/0.txt", "schön".encode("cp1252"))
    with pytest.raises(DataError, match=r"UTF-8.* cp1252 .*0\.txt"):
        data.load(f"folder:{tmp_path}/a")
    put(tmp_path, "t.csv", "image,caption\n")
    for source in ("folder", "hf"):
        with pytest.raises(DataError, match=rf"pairs:{tmp_path}/t\.csv"):
            data.load(f"{source}:{tmp_path}/t.csv")


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def images(folder, name="{}.png", numbers=range(COUNT)):
    for number in numbers:
        put(folder, name.format(number), mock.encoded(number))


def pairs_of(source):
    """split -> [(image file, caption)], every image compared with the original."""
    out = {}
    for name, split in source.splits.items():
        out[name] = []
        for index, caption in enumerate(split.b.read(np.arange(len(split.b)))):
            owner = split.b_to_a[index]
            number = int(str(split.ids[owner]).rpartition("/")[2].split(".")[0])
            np.testing.assert_array_equal(split.a.read(np.array([owner]))[0], np.asarray(mock.picture(number)))
            out[name].append((number, caption))
        out[name].sort()
    return out


def beside(folder):
    images(folder)
    for number in range(COUNT):
        put(folder, f"{number}.txt", f"picture {number}\nimage {number}\n")


def json_beside(folder):
    images(folder, "{}.PNG")
    for number in range(COUNT):
        put(folder, f"{number}.json", json.dumps({"tags": [], "captions": [f"picture {number}", f"image {number}"]}))


def in_another_folder(folder):
    images(folder, "images/a/{}.png")
    for number in range(COUNT):
        put(folder, f"captions/a/{number}.txt", f"picture {number}\nimage {number}")


def img2dataset_files(folder):
    for number in range(COUNT):
        caption = f"picture\n{number}"
        images(folder, f"{number // 3:05d}/{{}}.png", [number])
        put(folder, f"{number // 3:05d}/{number}.txt", caption)
        put(folder, f"{number // 3:05d}/{number}.json", json.dumps({"caption": caption, "url": "u", "key": number}))
    put(folder, "00000_stats.json", "{}")
    put(folder, "00000.parquet", b"PAR1")


def split_folders(folder):
    for place, numbers in (("train", range(4)), ("validation", range(4, 6))):
        images(folder, place + "/{}.png", numbers)
        for number in numbers:
            put(folder, f"{place}/{number}.txt", f"picture {number}")


def image_folder(folder):
    """Hugging Face's: a metadata file in each split."""
    for place, numbers in (("train", range(4)), ("test", range(4, 6))):
        images(folder, place + "/{}.png", numbers)
        rows = [json.dumps({"file_name": f"{n}.png", "text": f"picture {n}"}) for n in numbers]
        put(folder, f"{place}/metadata.jsonl", "\n".join(rows))


def one_metadata_file(folder):
    images(folder, "train/{}.png", range(4))
    images(folder, "test/{}.png", range(4, 6))
    rows = [f"{'train' if n < 4 else 'test'}/{n}.png,picture {n}" for n in range(COUNT)]
    put(folder, "metadata.csv", "\n".join(["file_name,text", *rows]))


def shards(folder):
    write_shards(folder, lambda n: {f"{n}.png": mock.encoded(n), f"{n}.txt": b"picture %d" % n})


def two_in_splits(*edges):
    return {name: [(n, f"picture {n}") for n in numbers] for name, numbers in edges}


TWO = {"all": sorted((n, f"{word} {n}") for n in range(COUNT) for word in ("picture", "image"))}
ONE = {"all": [(n, f"picture {n}") for n in range(COUNT)]}
LAYOUTS = {
    "texts beside": (beside, TWO),
    "json beside": (json_beside, TWO),
    "texts in another folder": (in_another_folder, TWO),
    "img2dataset files": (img2dataset_files, ONE),
    "shards": (shards, ONE),
    "folders of splits": (split_folders, two_in_splits(("train", range(4)), ("val", range(4, 6)))),
    "image folder": (image_folder, two_in_splits(("train", range(4)), ("test", range(4, 6)))),
    "one metadata file": (one_metadata_file, two_in_splits(("train", range(4)), ("test", range(4, 6)))),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captions_are_found_where_people_keep_them(layout, tmp_path):
    write, expected = LAYOUTS[layout]
    write(tmp_path)
    source = data.load(f"folder:{tmp_path}")
    assert pairs_of(source) == expected
    assert source.problems == ()


def test_parquet_files_of_img2dataset_that_hold_the_images(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {
        "jpg": [mock.encoded(n) if n != 2 else None for n in range(COUNT)],
        "caption": [f"picture {n}" for n in range(COUNT)],
        "status": ["success" if n != 2 else "failed_to_download" for n in range(COUNT)],
    }
    parquet.write_table(arrow.table(rows), tmp_path / "00000.parquet")
    source = data.load(f"folder:{tmp_path}")
    split = source.splits["all"]
    assert split.b.read(np.arange(5)) == [f"picture {n}" for n in (0, 1, 3, 4, 5)]
    np.testing.assert_array_equal(split.a.read(np.array([2]))[0], np.asarray(mock.picture(3)))
    assert any("status" in note and note.endswith(": 1") for note in source.notes)


def classes(folder):
    for place, numbers in (("train", range(4)), ("val", range(4, 6))):
        for number in numbers:
            images(folder, f"{place}/{'photo' if number % 2 else 'painting'}/{{}}.png", [number])


def test_folders_of_classes_have_labels_and_say_that_their_text_is_the_class(tmp_path):
    classes(tmp_path)
    source = data.load(f"folder:{tmp_path}")
    assert source.label_names == ("painting", "photo")
    for name, numbers in (("train", range(4)), ("val", range(4, 6))):
        split = source.splits[name]
        of_item = {split.ids[i]: int(split.label[i]) for i in range(len(split))}
        assert sorted(of_item.values()) == sorted(number % 2 for number in numbers)
        assert all(label == ("photo" in path) for path, label in of_item.items())
    assert any("2 classes" in note for note in source.notes)


def test_texts_of_equal_names_in_two_folders_stay_apart(tmp_path):
    for place in ("photo", "image"):  # both are names that folders of images have
        images(tmp_path, place + "/{}.png", [1])
        put(tmp_path, f"{place}/1.txt", f"of {place}")
    split = data.load(f"folder:{tmp_path}").splits["all"]
    found = {str(split.ids[split.b_to_a[k]]): split.b.read(np.array([k]))[0] for k in range(2)}
    assert found == {"photo/1.png": "of photo", "image/1.png": "of image"}


def test_an_image_without_a_caption_is_named_and_may_be_skipped(tmp_path):
    beside(tmp_path)
    (tmp_path / "3.txt").unlink()
    put(tmp_path, "notes.txt", "mine")
    with pytest.raises(DataError, match=r"3\.png: .*3\.txt"):
        data.load(f"folder:{tmp_path}")
    source = data.load(f"folder:{tmp_path}", on_bad_sample="skip")
    assert len(source.splits["all"]) == COUNT - 1
    assert any("notes.txt" in note for note in source.notes)


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path):
    put(tmp_path, "secret.txt", "secret")
    beside(tmp_path / "in")
    (tmp_path / "in" / "3.txt").unlink()
    (tmp_path / "in" / "3.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DataError, match=r"3\.txt"):
        data.load(f"folder:{tmp_path / 'in'}")


def lines(folder):
    images(folder, "photos/{}.png")
    put(folder, "caption.txt", "\n".join(f"picture {n}" for n in range(COUNT)))


def table_beside(folder):
    images(folder, "photos/{}.png")
    put(folder, "captions.csv", "image,caption\n0.png,x\n")


def half_in_splits(folder):
    split_folders(folder)
    images(folder, "more/{}.png", [7])
    put(folder, "more/7.txt", "x")


REFUSED = {
    "no folder": (lambda f: None, ["no such folder"]),
    "empty": (lambda f: f.mkdir(), ["an empty folder"]),
    "images alone": (lambda f: images(f), ["NAME.txt", "images:"]),
    "one text for all": (lines, ["caption.txt", "paste", "pairs:pairs.tsv,root="]),
    "a table": (table_beside, ["captions.csv", "write pairs:"]),
    "some in splits": (half_in_splits, ["more/7", "folder:"]),
    "Chinese-CLIP": (lambda f: [put(f, "train_imgs.tsv", "x"), put(f, "train_texts.jsonl", "x")], ["Chinese-CLIP"]),
    "clip-retrieval": (lambda f: put(f, "img_emb/img_emb_0.npy", "x"), ["write embeddings:"]),
    "saved by datasets": (lambda f: put(f, "state.json", "{}"), ["write hf:"]),
    "something else": (lambda f: put(f, "a.mp4", "x"), [".mp4"]),
    "two images of a name": (lambda f: [beside(f), images(f, "{}.jpg", [1])], [",image=jpg"]),
    "metadata of img2dataset": (
        lambda f: parquet_of_addresses(f),
        ["0.parquet", "--output_format=webdataset"],
    ),
}


def parquet_of_addresses(folder):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    parquet.write_table(arrow.table({"url": ["u"], "caption": ["c"], "status": ["success"]}), folder / "0.parquet")


@pytest.mark.parametrize("case", REFUSED)
def test_unreadable_data_is_an_error_with_a_hint(case, tmp_path):
    write, parts = REFUSED[case]
    write(tmp_path / "mine")
    with pytest.raises(DataError) as error:
        data.load(f"folder:{tmp_path / 'mine'}")
    for part in parts:
        assert part in str(error.value)
    assert io.StringIO(str(error.value)).readline() == str(error.value)
