"""Data sets in the formats of Hugging Face's datasets, written with pyarrow."""

import json

import mock_data_sets as mock
import pyarrow

IMAGE = {"_type": "Image"}
STRING = {"dtype": "string", "_type": "Value"}
TEXTS = {"feature": STRING, "_type": "List"}
CLASSES = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def images(numbers):
    return [{"bytes": mock.encoded(n), "path": None} for n in numbers]


def write_arrow(path, columns, rows=slice(None)):
    table = pyarrow.table(columns)[rows]
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def save(folder, columns, features, *, shards=1):
    """The files of `Dataset.save_to_disk`."""
    folder.mkdir(parents=True)
    count = len(next(iter(columns.values())))
    names = [f"data-{k:05d}-of-{shards:05d}.arrow" for k in range(shards)]
    for k, name in enumerate(names):
        write_arrow(folder / name, columns, slice(k * count // shards, (k + 1) * count // shards))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def save_splits(folder, splits, features):
    """The files of `DatasetDict.save_to_disk`; `splits`: name -> columns."""
    for name, columns in splits.items():
        save(folder / name, columns, features)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def cache(folder, name, config, splits, features):
    """The files of `load_dataset` in its cache."""
    place = folder / name.replace("/", "___") / config / "0.0.0" / "abc"
    place.mkdir(parents=True)
    sizes = {}
    for split, columns in splits.items():
        write_arrow(place / f"{name.rpartition('/')[2]}-{split}.arrow", columns)
        sizes[split] = {"name": split, "num_examples": len(next(iter(columns.values())))}
    (place / "dataset_info.json").write_text(json.dumps({"features": features, "splits": sizes}))
    return place
