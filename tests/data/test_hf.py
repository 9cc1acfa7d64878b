"""Data sets of Hugging Face: saved or cached, columns found by type or name, and refused ones."""

import io
import json

import mock_data_sets as mock
import numpy as np
import pytest
import saved_data_sets as saved
from saved_data_sets import CLASSES, IMAGE, STRING, TEXTS, images

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError

COUNT = 6
WORDS = [f"picture {n}" for n in range(COUNT)]


def read(split):
    """[(number of the drawn image, its captions)] of a split."""
    drawn = {np.asarray(mock.picture(n)).tobytes(): n for n in range(COUNT)}
    numbers = [drawn[image.tobytes()] for image in split.a.read(np.arange(len(split)))]
    return [(n, split.b.read(split.b_of_a(i))) for i, n in enumerate(numbers)]


PLAIN = {"photo": IMAGE, "url": STRING, "Text": STRING}
LISTS = {"captions": [[w, w.upper()] for w in WORDS]}
COLUMNS = {
    "the only text": ({"photo": IMAGE, "words": STRING}, {"words": WORDS}, "", 1),
    "a usual name among others": (
        PLAIN,
        {"url": WORDS[::-1], "Text": WORDS},
        "",
        1,
    ),
    "named": ({"photo": IMAGE, "url": STRING, "x": STRING}, {"url": WORDS[::-1], "x": WORDS}, ",caption=x", 1),
    "lists": ({"photo": IMAGE, "captions": TEXTS}, LISTS, "", 2),
    "lists of an old version": (
        {"photo": IMAGE, "captions": [STRING]},
        {"captions": [[w, w.upper()] for w in WORDS]},
        "",
        2,
    ),
    "numbered": (
        {"photo": IMAGE, "caption_0": STRING, "caption_1": STRING},
        {"caption_0": WORDS, "caption_1": [w.upper() for w in WORDS]},
        "",
        2,
    ),
    "sentences": (
        {"photo": IMAGE, "sentences": [{"raw": STRING}]},
        {"sentences": [[{"raw": w}, {"raw": w.upper()}] for w in WORDS]},
        "",
        2,
    ),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_are_found_by_type_and_name(case, tmp_path):
    features, columns, options, captions = COLUMNS[case]
    saved.save(tmp_path / "set", {"photo": images(range(COUNT)), **columns}, features, shards=2)
    source = data.load(f"hf:{tmp_path / 'set'}{options}")
    assert read(source.splits["all"]) == [(n, [WORDS[n], WORDS[n].upper()][:captions]) for n in range(COUNT)]
    assert source.problems == ()
    if "url" in features:
        assert any(note.endswith(": url") for note in source.notes)


def in_splits():
    return {
        name: {"image": images(numbers), "caption": [WORDS[n] for n in numbers]}
        for name, numbers in (("train", range(3)), ("validation", range(3, 5)), ("spare", range(5, 6)))
    }


def test_splits_of_a_saved_data_set(tmp_path):
    saved.save_splits(tmp_path / "set", in_splits(), {"image": IMAGE, "caption": STRING})
    source = data.load(f"hf:{tmp_path / 'set'}")
    assert {name: read(split) for name, split in source.splits.items()} == {
        "train": [(n, [WORDS[n]]) for n in range(3)],
        "val": [(n, [WORDS[n]]) for n in range(3, 5)],
    }
    assert any("'spare'" in note for note in source.notes)
    assert read(data.load(f"hf:{tmp_path / 'set'},split=spare").splits["all"]) == [(5, [WORDS[5]])]
    with pytest.raises(ConfigError, match=r"'test'.*train, validation, spare"):
        data.load(f"hf:{tmp_path / 'set'},split=test")


def test_the_cache_is_found_by_name(tmp_path, monkeypatch):
    features = {"image": IMAGE, "caption": STRING}
    place = saved.cache(tmp_path, "someone/pets", "small", in_splits(), features)
    saved.write_arrow(place / "cache-0123.arrow", {"image": images([0]), "caption": ["of a map"]})
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    source = data.load("hf:someone/pets")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 3, "val": 2}
    assert len(data.load(f"hf:someone/pets,config=small,cache_dir={tmp_path}").splits["train"]) == 3
    saved.cache(tmp_path, "someone/pets", "large", in_splits(), features)
    with pytest.raises(DataError, match=r"config=.*large, small"):
        data.load("hf:someone/pets")
    with pytest.raises(DataError, match=r"someone/pets.*save_to_disk"):
        data.load("hf:someone/cars")


def test_classes_without_texts_are_a_labelled_set_and_beside_texts_are_labels(tmp_path):
    labels = [n % 2 for n in range(COUNT)]
    columns = {"image": images(range(COUNT)), "label": labels}
    saved.save(tmp_path / "classes", columns, {"image": IMAGE, "label": CLASSES})
    source = data.load(f"hf:{tmp_path / 'classes'}")
    split = source.splits["all"]
    assert (source.label_names, split.label.tolist()) == (("cat", "dog"), labels)
    assert split.b.read(np.arange(2)) == ["cat", "dog"]
    assert any("class" in note for note in source.notes)
    saved.save(tmp_path / "both", {**columns, "text": WORDS}, {"image": IMAGE, "label": CLASSES, "text": STRING})
    source = data.load(f"hf:{tmp_path / 'both'}")
    assert source.splits["all"].label.tolist() == labels
    assert read(source.splits["all"]) == [(n, [WORDS[n]]) for n in range(COUNT)]


def test_images_elsewhere_need_their_folder(tmp_path):
    names = mock.pictures(tmp_path / "photos", COUNT)
    columns = {"image": [{"bytes": None, "path": str(tmp_path / "photos" / name)} for name in names], "text": WORDS}
    saved.save(tmp_path / "set", columns, {"image": IMAGE, "text": STRING})
    with pytest.raises(DataError, match=r"root=DIR"):
        data.load(f"hf:{tmp_path / 'set'}")
    source = data.load(f"hf:{tmp_path / 'set'},root={tmp_path / 'photos'}")
    assert read(source.splits["all"]) == [(n, [WORDS[n]]) for n in range(COUNT)]


def test_rows_without_image_or_caption_are_named_and_may_be_skipped(tmp_path):
    columns = {"image": [*images(range(5)), None], "text": [*WORDS[:2], "", *WORDS[3:]]}
    saved.save(tmp_path / "set", columns, {"image": IMAGE, "text": STRING})
    with pytest.raises(DataError, match=r"row 2: .*caption"):
        data.load(f"hf:{tmp_path / 'set'}")
    source = data.load(f"hf:{tmp_path / 'set'}", on_bad_sample="skip")
    assert [number for number, _ in read(source.splits["all"])] == [0, 1, 3, 4]
    assert len(source.problems) == 2
    for problem, said in zip(source.problems, ("row 2: ", "row 5: "), strict=True):
        assert said in problem


def plain(folder, features=None, **columns):
    columns = {"image": images(range(2)), "text": WORDS[:2], **columns}
    features = features or {"image": IMAGE, **dict.fromkeys(list(columns)[1:], STRING)}
    saved.save(folder, {name: columns[name] for name in features}, features)


def cut(folder):
    plain(folder)
    path = folder / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:300])


def without_file(folder):
    plain(folder)
    (folder / "data-00000-of-00001.arrow").unlink()


def outside(folder):
    plain(folder)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x.arrow"}]}))


TWO_TEXTS = {"image": IMAGE, "url": STRING, "x": STRING}
TWO_IMAGES = {"a": IMAGE, "b": IMAGE, "text": STRING}

REFUSED = {
    "nothing of the kind": (lambda f: f.mkdir(), "", ["no dataset_dict.json", "save_to_disk"]),
    "images": (lambda f: [f.mkdir(), (f / "metadata.csv").write_text("x")], "", ["write folder:"]),
    "cut short": (cut, "", ["data-00000-of-00001.arrow"]),
    "a file is missing": (without_file, "", ["data-00000-of-00001.arrow: no such file", "copy the whole folder"]),
    "a file outside": (outside, "", ["state.json", "save it again"]),
    "two texts": (
        lambda f: plain(f, TWO_TEXTS, url=WORDS[:2], x=WORDS[:2]),
        "",
        [",caption=url or ,caption=x"],
    ),
    "two images": (
        lambda f: plain(f, TWO_IMAGES, a=images(range(2)), b=images(range(2))),
        "",
        [",image=a or ,image=b"],
    ),
    "no image": (
        lambda f: plain(f, {"text": STRING}),
        "",
        ["text (text)", "texts:texts.csv"],
    ),
    "no text": (lambda f: plain(f, {"image": IMAGE}), "", ["'image'"]),
    "not that column": (plain, ",caption=image", ["caption=image"]),
    "no such column": (plain, ",caption=words", ["no such column", "text (text)"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unreadable_data_is_an_error_with_a_hint(case, tmp_path):
    write, options, parts = REFUSED[case]
    write(tmp_path / "set")
    with pytest.raises(DataError) as error:
        data.load(f"hf:{tmp_path / 'set'}{options}")
    for part in parts:
        assert part in str(error.value)
    assert io.StringIO(str(error.value)).readline() == str(error.value)


@pytest.mark.slow
def test_data_sets_saved_by_the_library_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    library = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed: pip install datasets")
    library.disable_progress_bars()
    features = library.Features({"picture": library.Image(), "captions": [library.Value("string")]})
    rows = {"picture": [mock.picture(n) for n in range(COUNT)], "captions": [[w, w.upper()] for w in WORDS]}
    whole = library.Dataset.from_dict(rows, features=features)
    order = [3, 1, 5, 0]
    library.DatasetDict({"train": whole.select(order), "test": whole.select([2, 4])}).save_to_disk(tmp_path / "set")
    source = data.load(f"hf:{tmp_path / 'set'}")
    assert read(source.splits["train"]) == [(n, [WORDS[n], WORDS[n].upper()]) for n in order]
    assert read(source.splits["test"]) == [(n, [WORDS[n], WORDS[n].upper()]) for n in (2, 4)]
