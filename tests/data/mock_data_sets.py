"""Small data sets written to a folder, one function for each layout; each returns the SPEC that opens it."""

import csv
import json
import pathlib

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
MOCKS = {
    "synthetic": (synthetic, ("image", "text"), True),
    "flickr": (flickr, ("image", "text"), True),
    "flickr without splits": (flickr_unsplit, ("image", "text"), False),
    "flickr30k archive": (flickr30k, ("image", "text"), False),
    "flickr authors' archive": (flickr_authors, ("image", "text"), True),
    "karpathy": (karpathy, ("image", "text"), True),
    "pairs": (pairs, ("image", "text"), True),
    "embeddings": (embeddings, ("embedding", "embedding"), True),
    "embeddings in shards": (embeddings_folder, ("embedding", "embedding"), True),
    "embeddings, generic names": (generic_embeddings, ("embedding", "embedding"), False),
}
