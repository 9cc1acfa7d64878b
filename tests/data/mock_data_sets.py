"""Small data sets written to a folder, one function per layout; each returns its SPEC."""

import csv
import io
import json
import pathlib
import tarfile
import zlib

import numpy as np
from PIL import Image

N = 8
CAPTIONS = 2


def picture(number: int, size: tuple[int, int] = (20, 16)) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pictures(folder: pathlib.Path, count: int = N) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"im{i}.png" for i in range(count)]
    for i, name in enumerate(names):
        picture(i).save(folder / name)
    return names


def caption(image: int, number: int) -> str:
    return f'a "quoted" thing, number {image}, wording {number}'


def split_of(image: int) -> str:
    return ("train", "train", "val", "test")[image % 4]


def write_csv(path: pathlib.Path, rows: list[list[str]], newline: str = "\n") -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator=newline).writerows(rows)


def flickr(folder: pathlib.Path) -> str:
    names = pictures(folder / "Images")
    rows = [[name, caption(i, k)] for i, name in enumerate(names) for k in range(CAPTIONS)]
    write_csv(folder / "captions.txt", [["image", "caption"], *rows])
    write_csv(folder / "splits.csv", [["image", "split"], *([n, split_of(i)] for i, n in enumerate(names))])
    return f"flickr:{folder}"


def flickr_unsplit(folder: pathlib.Path) -> str:
    spec = flickr(folder)
    (folder / "splits.csv").unlink()
    return spec


def flickr30k(folder: pathlib.Path) -> str:
    names = pictures(folder / "flickr30k_images" / "flickr30k_images")
    lines = [f"{name}| {k}| {caption(i, k)}" for i, name in enumerate(names) for k in range(CAPTIONS)]
    lines[-1] = f"{names[-1]}| {CAPTIONS - 1}   {caption(N - 1, CAPTIONS - 1)}"  # as one row of the public file
    (folder / "results.csv").write_text("image_name| comment_number| comment\n" + "\n".join(lines) + "\n")
    return f"flickr:{folder}"


def flickr_authors(folder: pathlib.Path) -> str:
    names = pictures(folder / "Flicker8k_Dataset")
    texts = folder / "Flickr8k_text"
    texts.mkdir()
    lines = [f"{name}#{k}\t{caption(i, k)}" for i, name in enumerate(names) for k in range(CAPTIONS)]
    (texts / "Flickr8k.token.txt").write_text("\n".join([*lines, "gone.jpg.1#0\tin no list , as in the public file"]))
    for word, split in (("train", "train"), ("dev", "val"), ("test", "test")):
        mine = [name for i, name in enumerate(names) if split_of(i) == split]
        (texts / f"Flickr_8k.{word}Images.txt").write_text("\n".join(mine) + "\n")
    return f"flickr:{folder}"


def karpathy(folder: pathlib.Path) -> str:
    names = pictures(folder / "images" / "val2014")
    images = [
        {
            "filename": name,
            "filepath": "val2014",
            "split": "restval" if i == 0 else split_of(i),
            "sentences": [{"raw": caption(i, k)} for k in range(CAPTIONS)],
        }
        for i, name in enumerate(names)
    ]
    (folder / "dataset_mock.json").write_text(json.dumps({"images": images, "dataset": "mock"}))
    return f"karpathy:{folder}"


def karpathy_flickr30k(folder: pathlib.Path) -> str:
    """As dataset_flickr30k.json is: no filepath, sentences with tokens beside the raw text."""
    names = pictures(folder / "flickr30k-images")
    images = [
        {
            "sentids": [CAPTIONS * i + k for k in range(CAPTIONS)],
            "imgid": i,
            "sentences": [
                {"tokens": caption(i, k).split(), "raw": caption(i, k), "imgid": i, "sentid": CAPTIONS * i + k}
                for k in range(CAPTIONS)
            ],
            "split": split_of(i),
            "filename": name,
        }
        for i, name in enumerate(names)
    ]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    return f"karpathy:{folder}"


def karpathy_coco(folder: pathlib.Path) -> str:
    """As dataset_coco.json is: two folders of images, "restval" beside the three splits."""
    images = []
    for part, numbers in (("train2014", (0, 1, 4, 5)), ("val2014", (2, 3, 6, 7))):
        (folder / part).mkdir()
        for i in numbers:
            picture(i).save(folder / part / f"im{i}.png")
            split = "restval" if i == 6 else split_of(i)
            sentences = [{"raw": caption(i, k)} for k in range(CAPTIONS)]
            images.append({"filepath": part, "filename": f"im{i}.png", "split": split, "sentences": sentences})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return f"karpathy:{folder}"


def add_to_tar(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def encoded(number: int) -> bytes:
    out = io.BytesIO()
    picture(number).save(out, "PNG")
    return out.getvalue()


def shards(folder: pathlib.Path, pattern: str = "cc3m-{}-{:04d}.tar") -> str:
    """In the format of img2dataset: image, text and metadata under one key."""
    for i, split in enumerate(("train", "validation")):
        with tarfile.open(folder / pattern.format(split, i), "w") as archive:
            for number in range(4 * i, 4 * i + 4):
                key = f"0000{i}000{number}"
                text = caption(number, 0)
                add_to_tar(archive, f"{key}.png", encoded(number))
                if number % 2:
                    add_to_tar(archive, f"{key}.txt", text.encode())
                add_to_tar(archive, f"{key}.json", json.dumps({"caption": text, "status": "success"}).encode())
    return f"webdataset:{folder}"


def conceptual_captions(folder: pathlib.Path) -> str:
    """The published lists, and the pictures as the usual script stores them; half of the web is gone."""
    for table, place, first in (
        ("Train_GCC-training.tsv", "training", 0),
        ("Validation_GCC-1.1.0-Validation.tsv", "validation", 8),
    ):
        (folder / place).mkdir()
        lines = []
        for row in range(8):
            url, text = f"http://example.org/{first + row}.jpg?size=1&x=\u00fc", caption(first + row, 0)
            lines.append(f"{text}\t{url}")
            code = zlib.crc32(url.encode())
            if row % 2 == 0:
                (folder / place / (f"{row}_{code}" if row % 4 else f"{code}.jpg")).write_bytes(encoded(first + row))
        (folder / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"cc3m:{folder}"


def coco(folder: pathlib.Path) -> str:
    """The official files: two JSON files, two folders; the official validation set is the test set here."""
    (folder / "annotations").mkdir()
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        (folder / f"{part}2017").mkdir()
        for i in numbers:
            picture(i).save(folder / f"{part}2017" / f"im{i}.png")
        content = {
            "info": {"year": 2017},
            "licenses": [],
            "images": [{"license": 3, "file_name": f"im{i}.png", "height": 16, "id": 1000 + i} for i in numbers],
            "annotations": [
                {"image_id": 1000 + i, "id": 10 * i + k, "caption": caption(i, k) + "\n"}
                for k in range(CAPTIONS)
                for i in numbers
            ],
        }
        (folder / "annotations" / f"captions_{part}2017.json").write_text(json.dumps(content))
    return f"coco:{folder}"


def pairs(folder: pathlib.Path) -> str:
    names = pictures(folder / "pictures")
    rows = [[f"pictures/{n}", caption(i, k), split_of(i)] for i, n in enumerate(names) for k in range(CAPTIONS)]
    write_csv(folder / "pairs.csv", [["image", "caption", "split"], *rows], newline="\r\n")
    return f"pairs:{folder / 'pairs.csv'}"


def labelled(folder: pathlib.Path) -> str:
    names = pictures(folder / "pictures")
    rows = [[f"pictures/{n}", "even" if i % 2 == 0 else "odd", split_of(i)] for i, n in enumerate(names)]
    write_csv(folder / "labelled.csv", [["image", "label", "split"], *rows])
    return f"labelled:{folder / 'labelled.csv'}"


def embedding_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(N, 6)).astype(np.float16),
        "text": rng.normal(size=(N * CAPTIONS, 4)).astype(np.float32),
        "text_to_image": np.repeat(np.arange(N), CAPTIONS),
        "image_id": np.array([f"im{i}.png" for i in range(N)]),
        "caption": np.array([caption(i, k) for i in range(N) for k in range(CAPTIONS)]),
        "split": np.array([split_of(i) for i in range(N)]),
    }


def embeddings(folder: pathlib.Path) -> str:
    np.savez(folder / "e.npz", **embedding_arrays())
    return f"embeddings:{folder / 'e.npz'}"


def generic_embeddings(folder: pathlib.Path) -> str:
    arrays = embedding_arrays()
    np.savez(folder / "g.npz", a=arrays["image"], b=arrays["text"], b_to_a=arrays["text_to_image"])
    return f"embeddings:{folder / 'g.npz'}"


def embeddings_folder(folder: pathlib.Path) -> str:
    from alignment_jax.data import ShardWriter

    writer, arrays = ShardWriter(folder / "e", {}), embedding_arrays()
    for number, (low, high) in enumerate(((0, 3), (3, N))):
        part = {name: array[low:high] for name, array in arrays.items() if len(array) == N}
        mine = slice(low * CAPTIONS, high * CAPTIONS)
        part |= {name: array[mine] for name, array in arrays.items() if len(array) == N * CAPTIONS}
        writer.write(number, {**part, "text_to_image": part["text_to_image"] - low})
    writer.finish(2)
    return f"embeddings:{folder / 'e'}"


def synthetic(folder: pathlib.Path) -> str:
    return "synthetic:train=4,val=2,test=2,captions=2,size=16"


# name -> (writes the data and returns its SPEC, kinds of the two sides, carries splits). A new source adds a row.
def folder_of_texts(folder: pathlib.Path) -> str:
    for i in range(N):
        place = folder / split_of(i)
        place.mkdir(exist_ok=True)
        picture(i).save(place / f"im{i}.png")
        (place / f"im{i}.txt").write_text("\n".join(caption(i, k) for k in range(CAPTIONS)))
    return f"folder:{folder}"


MOCKS = {
    "synthetic": (synthetic, ("image", "text"), True),
    "flickr": (flickr, ("image", "text"), True),
    "flickr without splits": (flickr_unsplit, ("image", "text"), False),
    "flickr30k archive": (flickr30k, ("image", "text"), False),
    "flickr authors' archive": (flickr_authors, ("image", "text"), True),
    "karpathy": (karpathy, ("image", "text"), True),
    "karpathy, flickr30k": (karpathy_flickr30k, ("image", "text"), True),
    "karpathy, coco": (karpathy_coco, ("image", "text"), True),
    "pairs": (pairs, ("image", "text"), True),
    "folder": (folder_of_texts, ("image", "text"), True),
    "embeddings": (embeddings, ("embedding", "embedding"), True),
    "embeddings in shards": (embeddings_folder, ("embedding", "embedding"), True),
    "embeddings, generic names": (generic_embeddings, ("embedding", "embedding"), False),
}
