"""Inputs of the rows about folders, shards, data sets of Hugging Face, and one modality alone."""

import io
import json
import tarfile

import numpy as np
from own_data_inputs import N, captions, photos, writes


def shard(path, names, folder, *, picture="png", text="txt"):
    """A tar of some photos with their captions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    caption_of = dict(zip(photos(folder), captions(), strict=True))
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            content = json.dumps({"text": caption_of[name], "url": "u"}) if text == "json" else caption_of[name]
            for ending, data in ((picture, (folder / name).read_bytes()), (text, content.encode())):
                entry = tarfile.TarInfo(f"{number:05d}.{ending}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


def beside(folder, place, *, lines=1):
    for name, caption in zip(photos(folder, place), captions(), strict=True):
        (folder / name).with_suffix(".txt").write_text("\n".join([caption] * lines), encoding="utf-8")


@writes("folder:photos")
def texts_beside(folder):
    beside(folder, "photos")
    return N, N


@writes("folder:tagged,caption=says.en")
def json_beside(folder):
    for name, caption in zip(photos(folder, "tagged"), captions(), strict=True):
        content = {"caption": "x", "says": {"en": [caption, caption + "!"]}}
        (folder / name).with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    return N, 2 * N


@writes("folder:imagefolder")
def hugging_face_folder(folder):
    for place in ("train", "test"):
        names = photos(folder, f"imagefolder/{place}")
        pairs = zip(names, captions(), strict=True)
        rows = [{"file_name": name.rpartition("/")[2], "text": caption} for name, caption in pairs]
        (folder / "imagefolder" / place / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return 2 * N, 2 * N


@writes("folder:classes")
def class_folders(folder):
    for place in ("train/cat", "train/dog", "val/cat", "val/dog"):
        photos(folder, f"classes/{place}")
    return 4 * N, 4 * N


@writes("folder:fetched")
def img2dataset_files(folder):
    for place in ("00000", "00001"):
        beside(folder, f"fetched/{place}")
        (folder / "fetched" / f"{place}_stats.json").write_text("{}")
    return 2 * N, 2 * N


@writes("webdataset:shards")
def shards(folder):
    names = photos(folder)
    shard(folder / "shards" / "train-00000.tar", names[:4], folder)
    shard(folder / "shards" / "val-00000.tar", names[4:], folder)
    return N, N


@writes("webdataset:shards/{00000..00003}.tar")
def pattern(folder):
    for number, name in enumerate(photos(folder)[:4]):
        shard(folder / "shards" / f"{number:05d}.tar", [name], folder)
    return 4, 4


@writes("webdataset:train=a/*.tar,val=b/*.tar")
def shards_of_splits(folder):
    names = photos(folder)
    shard(folder / "a" / "0.tar", names[:5], folder)
    shard(folder / "b" / "0.tar", names[5:], folder)
    return N, N


@writes("webdataset:other,image=input.png,caption=text")
def other_keys(folder):
    shard(folder / "other" / "0.tar", photos(folder), folder, picture="input.png", text="json")
    return N, N


def saved(folder, place, *, cached=False):
    """As `datasets` writes it, by pyarrow alone."""
    import pyarrow

    images = [{"bytes": (folder / name).read_bytes(), "path": None} for name in photos(folder)]
    table = pyarrow.table({"picture": images, "words": captions()})
    features = {"picture": {"_type": "Image"}, "words": {"dtype": "string", "_type": "Value"}}
    (folder / place).mkdir(parents=True)
    name = "pets-train.arrow" if cached else "data-00000-of-00001.arrow"
    with pyarrow.OSFile(str(folder / place / name), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)
    info = {"features": features, "splits": {"train": {"num_examples": N}}}
    (folder / place / "dataset_info.json").write_text(json.dumps(info))
    if not cached:
        (folder / place / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    return N, N


@writes("hf:saved")
def saved_to_disk(folder):
    return saved(folder, "saved")


@writes("hf:someone/pets,cache_dir=cache")
def in_the_cache(folder):
    return saved(folder, "cache/someone___pets/default/0.0.0/0123", cached=True)


@writes("images:photos")
def images_alone(folder):
    photos(folder)
    return N, 0


@writes("images:list.csv")
def table_of_images(folder):
    (folder / "list.csv").write_text("\n".join(["file", *photos(folder)]))
    return N, 0


@writes("texts:lines.txt")
def texts_alone(folder):
    (folder / "lines.txt").write_text("\n".join(captions()), encoding="utf-8")
    return N, 0


@writes("latents:images.npy")
def latents_alone(folder):
    np.save(folder / "images.npy", np.random.default_rng(0).normal(size=(N, 6)).astype(np.float32))
    return N, 0
