"""Broken files: the message names file and row; or bad samples are skipped."""

import json
import os
import shutil

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import DataError


def rewrite(path, change):
    path.write_text(change(path.read_text()))


def csv_with(rows, header=("image", "caption", "split")):
    def build(folder):
        spec = mock.pairs(folder)
        mock.write_csv(folder / "pairs.csv", [list(header), *rows] if header else rows)
        return spec

    return build


def outside(folder):
    mock.pictures(folder.parent / "elsewhere", 1)
    return folder.parent / "elsewhere" / "im0.png"


def linked(folder):
    spec = mock.pairs(folder)
    (folder / "pictures" / "link.png").symlink_to(outside(folder))
    mock.write_csv(folder / "pairs.csv", [["image", "caption"], ["pictures/im0.png", "x"], ["pictures/link.png", "x"]])
    return spec


def linked_folder(folder):
    spec = mock.pairs(folder)
    (folder / "more").symlink_to(outside(folder).parent)
    mock.write_csv(folder / "pairs.csv", [["image", "caption"], ["more/im0.png", "x"]])
    return spec


def absolute(folder):
    return csv_with([[str(outside(folder)), "x"]], ("image", "caption"))(folder)


def empty_image(folder):
    spec = mock.pairs(folder)
    (folder / "pictures" / "im3.png").write_bytes(b"")
    return spec


def raw_csv(content: bytes):
    def build(folder):
        spec = mock.pairs(folder)
        (folder / "pairs.csv").write_bytes(content)
        return spec

    return build


GOOD = ["pictures/im0.png", "x", "train"]
# problem -> (how to make it, parts of the message)
PAIRS = {
    "no file": (lambda folder: f"pairs:{folder / 'no.csv'}", ["no.csv", "no such file"]),
    "a folder": (lambda folder: f"pairs:{folder}", ["folder:"]),
    "empty": (raw_csv(b""), ["pairs.csv", "empty file", "image, caption[, split]"]),
    "header only": (raw_csv(b"image,caption\r\n"), ["pairs.csv", "only a header"]),
    "not UTF-8": (raw_csv(b"image,caption\npictures/im0.png,caf\xe9\n"), ["pairs.csv", "UTF-8", "byte 34"]),
    "open quote": (raw_csv(b'image,caption\npictures/im0.png,"x\n'), ["pairs.csv", "line 2", "not valid CSV"]),
    "wrong columns": (
        csv_with([GOOD], ("icon", "words", "split")),
        ["image, caption", "icon, words", ",image=COLUMN,caption=COLUMN"],
    ),
    "no header": (csv_with([GOOD, GOOD], None), ["pairs.csv", "pictures/im0.png, x, train"]),
    "misspelt": (csv_with([GOOD], ("image", "caption", "splits")), ["'splits'", "'split'"]),
    "column twice": (csv_with([[*GOOD, "y"]], ("image", "caption", "split", "caption")), ["'caption'"]),
    "too many fields": (csv_with([GOOD, [*GOOD, "y"]]), ["row 2 (line 3)", "4 fields", "3"]),
    "too few fields": (csv_with([GOOD[:2]]), ["row 1 (line 2)", "2 fields"]),
    "missing image": (
        csv_with([GOOD, ["pictures/gone.png", "x", "val"]]),
        ["row 2 (line 3)", "no such file", "gone.png"],
    ),
    "image is a folder": (csv_with([["pictures", "x", "val"]]), ["row 1 (line 2)", "no such file"]),
    "no image": (csv_with([["", "x", "val"]]), ["row 1 (line 2)", "no file name"]),
    "empty caption": (csv_with([GOOD, ["pictures/im1.png", "  ", "val"]]), ["row 2 (line 3)", "empty caption"]),
    "unknown split": (csv_with([["pictures/im1.png", "x", "spare"]]), ["row 1", "'spare'", "train, val, test"]),
    "two splits": (csv_with([GOOD, [*GOOD[:2], "test"]]), ["row 2 (line 3)", "'test'", "'train'", "row 1 (line 2)"]),
    "parent folder": (csv_with([["../elsewhere/im0.png", "x", "val"]]), ["row 1", "leads out"]),
    "hidden parent": (csv_with([["pictures/../../x.png", "x", "val"]]), ["row 1", "leads out"]),
    "absolute path": (absolute, ["row 1", "leads out"]),
    "link out": (linked, ["row 2 (line 3)", "link.png", "leads out"]),
    "linked folder": (linked_folder, ["row 1", "leads out"]),
    "image of no bytes": (empty_image, ["row 7 (line 8)", "empty file", "im3.png"]),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs(case, tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    build, parts = PAIRS[case]
    spec = build(folder)
    with pytest.raises(DataError) as error:
        data.load(spec)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def flickr_with(change):
    def build(folder):
        spec = mock.flickr(folder)
        change(folder)
        return spec

    return build


def karpathy_with(change):
    def build(folder):
        spec = mock.karpathy(folder)
        path = folder / "dataset_mock.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return spec

    return build


FOLDERS = {
    "no folder": (lambda folder: f"flickr:{folder / 'no'}", ["no such folder"]),
    "no images": (flickr_with(lambda f: shutil.rmtree(f / "Images")), ["no image folder", "Images"]),
    "no captions": (flickr_with(lambda f: (f / "captions.txt").unlink()), ["no captions.txt"]),
    "empty captions": (flickr_with(lambda f: (f / "captions.txt").write_text("")), ["captions.txt", "empty file"]),
    "wrong header": (flickr_with(lambda f: rewrite(f / "captions.txt", lambda t: "x,y" + t[13:])), ["found x, y"]),
    "image gone": (
        flickr_with(lambda f: (f / "Images/im1.png").unlink()),
        ["row 3 (line 4)", "no such file", "im1.png"],
    ),
    "not listed": (
        flickr_with(lambda f: rewrite(f / "splits.csv", lambda t: t.replace("im2.png,val\n", ""))),
        ["captions.txt, row 5 (line 6)", "'im2.png'", "splits.csv"],
    ),
    "listed, no caption": (
        flickr_with(lambda f: rewrite(f / "splits.csv", lambda t: t + "im99.png,val\n")),
        ["splits.csv", "'im99.png'", "no caption"],
    ),
    "listed twice": (
        flickr_with(lambda f: rewrite(f / "splits.csv", lambda t: t + "im0.png,val\n")),
        ["splits.csv, row 9 (line 10)", "'im0.png'", "'val'", "'train'"],
    ),
    "no json": (lambda folder: f"karpathy:{folder}", ["dataset_*.json"]),
    "two json": (
        lambda folder: (mock.karpathy(folder), (folder / "dataset_b.json").write_text("{}"))[0],
        ["dataset_b.json, dataset_mock.json"],
    ),
    "broken json": (
        lambda folder: (mock.karpathy(folder), rewrite(folder / "dataset_mock.json", lambda t: t[:-5]))[0],
        ["dataset_mock.json, line 1", "not valid JSON"],
    ),
    "no list": (karpathy_with(lambda c: c.update(images=[])), ['"images"', "not empty"]),
    "no split": (karpathy_with(lambda c: c["images"][3].pop("split")), ["row 3", "expected filename, split"]),
    "no sentences": (karpathy_with(lambda c: c["images"][3].update(sentences=[])), ["row 3", "no sentences"]),
    "no raw": (karpathy_with(lambda c: c["images"][3]["sentences"][1].clear()), ["row 3, sentence 1", "raw"]),
    "leads out": (
        karpathy_with(lambda c: c["images"][3].update(filename="../../../x.png")),
        ["row 3", "leads out"],
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders(case, tmp_path):
    build, parts = FOLDERS[case]
    spec = build(tmp_path)
    with pytest.raises(DataError) as error:
        data.load(spec)
    for part in parts:
        assert part in str(error.value)


def with_row(name, row, value):
    def change(arrays):
        arrays[name] = arrays[name].copy()
        arrays[name][row] = value

    return change


EMBEDDINGS = {
    "no image": (lambda a: a.pop("image"), ["'image'", "caption, image_id"]),
    "both names": (lambda a: a.update(a=a["image"]), ["both 'image' and 'a'"]),
    "pickled": (lambda a: a.update(caption=np.array(["x", None] * 8, object)), ["caption", "pickled"]),
    "NaN": (with_row("image", 5, np.nan), ["image row 5", "NaN"]),
    "infinity": (with_row("text", (11, 2), np.inf), ["text row 11", "infinity"]),
    "NaN in the second view": (
        lambda a: (a.update(image_flip=a["image"]), with_row("image_flip", 2, np.nan)(a)),
        ["image_flip row 2", "NaN"],
    ),
    "integers": (lambda a: a.update(image=np.ones((8, 6), int)), ["image must", "int64"]),
    "one axis": (lambda a: a.update(text=a["text"][:, 0]), ["text must have shape", "[16]"]),
    "no rows": (lambda a: a.update(text=a["text"][:0]), ["text must have shape", "[0, 4]"]),
    "index too large": (with_row("text_to_image", 3, 8), ["text_to_image row 3", "0 to 7"]),
    "index negative": (with_row("text_to_image", 0, -1), ["text_to_image row 0", "-1"]),
    "index a float": (lambda a: a.update(text_to_image=a["text_to_image"] * 1.0), ["must hold integers", "float64"]),
    "index short": (lambda a: a.update(text_to_image=a["text_to_image"][1:]), ["text_to_image", "[16]"]),
    "no index": (lambda a: a.pop("text_to_image"), ["no text_to_image", "8 rows", "16"]),
    "image without text": (with_row("text_to_image", slice(0, 2), 1), ["image row 0", "text"]),
    "name twice": (with_row("image_id", 4, "im1.png"), ["'im1.png'", "rows 1 and 4"]),
    "unknown split": (with_row("split", 6, "dave"), ["split row 6", "'dave'"]),
    "flip of another shape": (lambda a: a.update(image_flip=a["image"][:, :3]), ["image_flip", "[8, 3]"]),
    "cluster of none": (lambda a: a.update(cluster_size=np.zeros(16)), ["cluster_size", "at least 1"]),
}


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_embeddings(case, tmp_path):
    change, parts = EMBEDDINGS[case]
    arrays = mock.embedding_arrays()
    change(arrays)
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(DataError) as error:
        data.load(f"embeddings:{tmp_path / 'e.npz'}")
    for part in ["e.npz", *parts]:
        assert part in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "pickle", "array", "gone"])
def test_embeddings_that_are_no_archive(damage, tmp_path):
    path = tmp_path / "e.npz"
    np.savez_compressed(path, **mock.embedding_arrays())
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[80] ^= 255
        content[81] ^= 255
        path.write_bytes(content)
    elif damage == "text":
        path.write_text("image,text")
    elif damage == "pickle":
        np.array([{"x": 1}], object).dump(path)
    elif damage == "array":
        with open(path, "wb") as file:
            np.save(file, np.ones(3))
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"e\.npz") as error:
        data.load(f"embeddings:{path}")
    assert "\n" not in str(error.value)


def test_the_first_problem_is_raised_with_a_count_of_the_others(tmp_path):
    spec = mock.pairs(tmp_path)
    for i in (1, 4, 6):
        (tmp_path / "pictures" / f"im{i}.png").unlink()
    with pytest.raises(DataError, match=r"row 3 .*im1\.png.*2 more.*on_bad_sample"):
        data.load(spec)


def test_skipping_drops_and_lists(tmp_path):
    spec = mock.pairs(tmp_path)
    pictures = tmp_path / "pictures"
    (pictures / "im1.png").unlink()
    whole = (pictures / "im4.png").read_bytes()
    (pictures / "im4.png").write_bytes(whole[: len(whole) // 2])
    rewrite(tmp_path / "pairs.csv", lambda t: t.replace(mock.caption(5, 0).replace('"', '""'), "") + "im0.png,a,b,c\n")
    source = data.load(spec, on_bad_sample="skip")
    assert len(source.problems) == 4
    assert [
        any(part in line for line in source.problems) for part in ("im1.png", "im4.png", "empty caption", "4 fields")
    ] == [True] * 4
    kept = {name: split.ids.tolist() for name, split in source.splits.items()}
    assert kept["train"] == ["pictures/im0.png", "pictures/im5.png"]
    assert len(source.splits["train"].b) == 3
    assert data.problems(source) == list(source.problems)


def test_skipping_embeddings(tmp_path):
    arrays = mock.embedding_arrays()
    arrays["image"][0, 1] = np.nan  # a train image, with its two texts
    arrays["text"][[2, 3], 0] = np.inf  # both texts of image 1
    arrays["text"][8, 0] = np.nan  # one text of image 4
    np.savez(tmp_path / "e.npz", **arrays)
    source = data.load(f"embeddings:{tmp_path / 'e.npz'}", on_bad_sample="skip")
    assert len(source.problems) == 4
    train = source.splits["train"]
    assert train.ids.tolist() == ["im4.png", "im5.png"]
    assert train.b_to_a.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(train.b.read(np.arange(3)), arrays["text"][9:12])


def test_nothing_left_is_an_error(tmp_path):
    spec = mock.pairs(tmp_path)
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(DataError, match="no usable"):
        data.load(spec, on_bad_sample="skip")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_images_are_named_when_read(suffix, tmp_path):
    names = []
    for i in range(3):
        names.append(f"im{i}.{suffix}")
        mock.picture(i, (64, 64)).save(tmp_path / names[-1])
    mock.write_csv(tmp_path / "pairs.csv", [["image", "caption"], *([name, "x"] for name in names)])
    whole = (tmp_path / names[1]).read_bytes()
    (tmp_path / names[1]).write_bytes(whole[: len(whole) * 2 // 3])
    source = data.load(f"pairs:{tmp_path / 'pairs.csv'}")
    split = source.splits["all"]
    split.a.read(np.array([0, 2]))
    with pytest.raises(DataError, match=rf"{names[1]} from .*pairs\.csv, row 2 \(line 3\)"):
        split.a.read(np.array([1]))
    assert [line for line in data.problems(source) if names[1] in line] == data.problems(source) != []
    split = split.replace(b=data.ArrayColumn(np.zeros((3, 2))))
    loader = data.TrainLoader(split, np.array([[0, 1]]), seed=0, epoch=0, transform_a=data.eval_image(8))
    with pytest.raises(DataError, match=rf"{names[1]} from .*row 2"):  # also through the loader's threads
        list(loader)


def test_odd_but_good_files(tmp_path):
    """Byte order mark, quotes, line breaks and separators in captions, blank lines, ./ in paths, links inside."""
    mock.pictures(tmp_path, 3)
    os.symlink("im2.png", tmp_path / "inner.png")
    long = "word " * 60_000  # longer than the csv module allows by itself
    content = (
        "\ufeffimage,caption,note\r\n"
        'im0.png,"one, ""two""\r\nthree",x\r\n'
        "\r\n"
        "./im0.png,second\u2028line \u0085 end,x\r\n"
        f"im1.png,{long},x\r\n"
        f"{tmp_path}/inner.png,🙂 שלום,x\r\n"
    )
    (tmp_path / "p.csv").write_bytes(content.encode())
    source = data.load(f"pairs:{tmp_path / 'p.csv'}")
    split = source.splits["all"]
    assert split.b.texts == ('one, "two"\r\nthree', "second\u2028line \u0085 end", long.strip(), "🙂 שלום")
    assert split.b_to_a.tolist() == [0, 0, 1, 2]
    (note,) = source.notes
    assert note.startswith(f"{tmp_path / 'p.csv'}: ")
    assert note.endswith(": note")
    assert split.b.describe(2).endswith("row 3 (line 6)")
