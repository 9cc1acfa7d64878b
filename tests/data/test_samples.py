"""Tables of labelled samples: texts, empty cells as missing modalities, odd labels."""

import json
import re

import mock_data_sets as mock
import mock_samples as samples
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.leakage import leaks


def test_a_post_has_its_own_text_and_its_class(tmp_path):
    source = data.load(f"posts:{samples.posts(tmp_path)}")
    assert (source.name, source.modalities, source.label_names) == ("posts", ("image", "text"), samples.CLASSES)
    assert source.from_label == ()
    split = source.splits["val"]
    assert split.ids[0] == "3.png"
    assert split.b.read(np.array([0])) == ["a post, number 3"]
    np.testing.assert_array_equal(split.a.read(np.array([0]))[0], np.asarray(mock.picture(3)))
    assert source.label_names[split.label[0]] == "angry"
    assert all(split.present == {} for split in source.splits.values())


@pytest.mark.parametrize("kinds", [("audio", "text"), ("audio", "image"), ("audio", "image", "text")])
def test_the_columns_are_the_modalities(tmp_path, kinds):
    source = data.load(f"samples:{samples.table(tmp_path, (*reversed(kinds), 'label', 'split'))}")
    split = source.splits["train"]
    columns = [column for column in (split.a, split.b, split.c) if column is not None]
    assert source.modalities == kinds == tuple(column.kind for column in columns)
    assert all(len(column) == 18 for column in columns)
    ((wave, rate),) = split.a.read(np.array([1]))
    assert (len(wave), rate) == (800, 8000)
    assert split.ids[1] == "1.wav"


def test_other_names_and_fewer_modalities(tmp_path):
    path = samples.table(tmp_path, ("audio", "image", "text", "label"))
    path.write_text(path.read_text().replace("audio,image,text,label", "audio,image,tweet,mood"))
    with pytest.raises(DataError, match="audio, image, label"):
        data.load(f"samples:{path}")
    source = data.load(f"samples:{path},text=tweet,label=mood,use=text+image")
    assert (source.modalities, source.has_splits) == (("image", "text"), False)
    (note,) = source.notes
    assert note.startswith(f"{path}: ")
    assert note.endswith(" audio")
    for options, message in (
        ("text=words", "'words'.*audio, image, tweet, mood"),
        ("label=mood,use=image+smell", "'smell'.*audio, image, text"),
        ("label=mood,use=image+text", "'text'"),
        ("label=mood,use=image", "audio, image, text"),
        ("tone=mood", "unknown option 'tone'"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            data.load(f"samples:{path},{options}")


def test_tables_of_samples_are_read_as_those_of_pairs(tmp_path):
    mock.pictures(tmp_path / "p", 4)
    rows = [[f"im{n}.png", f"words {n}", "ab"[n % 2]] for n in range(4)]
    text = "\n".join(";".join(row) for row in [["File_Name", "Caption", "CLASS"], *rows[:2]])
    (tmp_path / "train.csv").write_bytes(text.encode("utf-16"))
    keys = ("image", "text", "label", "path")  # `path` is no second image
    (tmp_path / "val.jsonl").write_text(
        "".join(json.dumps(dict(zip(keys, [*r, "x"], strict=True))) + "\n" for r in rows[2:])
    )
    source = data.load(f"posts:train={tmp_path}/train.csv,val={tmp_path}/val.jsonl,root={tmp_path}/p")
    assert (source.modalities, source.label_names) == (("image", "text"), ("a", "b"))
    assert {name: split.ids.tolist() for name, split in source.splits.items()} == {
        "train": ["im0.png", "im1.png"],
        "val": ["im2.png", "im3.png"],
    }
    assert source.splits["val"].b.read(np.arange(2)) == ["words 2", "words 3"]
    (tmp_path / "two.csv").write_text("image,text_1,text_2,label\np/im0.png,x,y,a\np/im1.png,z,w,b\n")
    with pytest.raises(DataError, match=r"several texts.*,text=COLUMN"):
        data.load(f"posts:{tmp_path}/two.csv")
    assert data.load(f"posts:{tmp_path}/two.csv,text=text_2").splits["all"].b.read(np.arange(2)) == ["y", "w"]


def test_one_modality_alone_lists_the_columns(tmp_path):
    path = samples.table(tmp_path, ("text", "label"))
    with pytest.raises(DataError, match=r"audio, image, text.*text, label"):
        data.load(f"posts:{path}")


def test_the_same_picture_with_two_texts_is_two_samples(tmp_path):
    path = samples.posts(tmp_path)
    with open(path, "a", encoding="utf-8") as file:
        file.write("3.png,another text,sad,val\n")
    split = data.load(f"posts:{path}").splits["val"]
    assert split.ids.tolist()[:1] + split.ids.tolist()[-1:] == ["3.png", "3.png (2)"]


@pytest.mark.parametrize("spec", ["av", "samples"])
def test_an_empty_cell_is_a_missing_modality(tmp_path, spec):
    source = data.load(f"{spec}:{samples.with_gaps(tmp_path)}")
    split = source.splits["train"]
    number = [i for i in range(samples.N) if samples.SPLITS[i % 5] == "train"]
    assert split.present["a"].tolist() == [i % 4 != 0 for i in number]
    assert split.present["b"].tolist() == [i % 6 != 1 for i in number]
    part = split.subset(np.array([1, 0]))
    assert part.present["a"].tolist() == split.present["a"][[1, 0]].tolist()
    # The placeholder can be read and has an origin.
    hole = int(np.argmin(split.present["a"]))
    ((wave, _),) = split.a.read(np.array([hole]))
    assert not wave.any()
    assert "row 1 (line 2)" in split.a.describe(hole)
    assert split.b.read(np.array([int(np.argmin(split.present["b"]))]))[0].dtype == np.uint8
    assert data.problems(source) == []


def test_missing_modalities_are_counted(tmp_path):
    source = data.load(f"av:{samples.with_gaps(tmp_path)}")
    notes = data.missing_notes(source.splits, source.modalities)
    audio, image = notes
    assert re.match(r"8 .*audio \(train 4 of 18, val 2 of 6, test 2 of 6\)", audio)
    assert re.match(r"5 .*image \(train 3 of 18, val 1 of 6, test 1 of 6\)", image)
    description = data.describe(source)
    assert set(notes) <= set(description["notes"])
    audio = description["splits"]["train"]["a"]
    assert (audio["count"], audio["missing"]) == (14, 4)
    assert audio["seconds"]["min"] == 0.1  # not of silence in place of a recording
    assert "14 audio: " in data.format_description(description)
    assert "missing 4" in data.format_description(description)


def test_a_sample_needs_one_modality_and_a_modality_one_sample(tmp_path):
    path = samples.with_gaps(tmp_path)
    with open(path, "a", encoding="utf-8") as file:
        file.write(",,sad,train\n")
    with pytest.raises(DataError, match=r"row 31\b.*audio.*image"):
        data.load(f"samples:{path}")
    assert len(data.load(f"samples:{path}", on_bad_sample="skip").problems) == 1
    nothing = samples.table(
        tmp_path, ("image", "text", "label"), name="nothing.csv", changes=lambda i, row: {**row, "text": ""}
    )
    with pytest.raises(DataError, match="a text"):
        data.load(f"posts:{nothing}")


def test_missing_items_equal_no_item(tmp_path):
    """Neither a leak between splits, nor one group that is never divided."""
    path = samples.with_gaps(tmp_path, ("audio", "image", "label"))
    source = data.with_splits(data.load(f"samples:{path}"))
    assert [leaks(source, side)[0] for side in "ab"] == [[], []]
    assert set(leaks(source, "a")[1].values()) == {0}
    holes = [int((~split.present["a"]).sum()) for split in source.splits.values()]
    assert sum(holes) == 8
    assert max(holes) < 8


def test_a_fingerprint_does_not_depend_on_the_folder_of_the_table(tmp_path):
    found = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        found.append(data.fingerprints(data.load(f"av:{samples.with_gaps(tmp_path / name)}")))
    assert found[0] == found[1]


def test_an_alignment_takes_complete_samples(tmp_path):
    source = data.load(f"av:{samples.with_gaps(tmp_path)}")
    with pytest.raises(DataError, match=r"row 1 .*audio.*13"):
        data.complete_samples(source)
    left = data.complete_samples(source, on_bad_sample="skip")
    assert sum(len(split) for split in left.splits.values()) == samples.N - 13
    assert all(split.present == {} for split in left.splits.values())
    assert "13 samples" in left.problems[0]
    whole = data.load(f"posts:{samples.posts(tmp_path)}")
    assert data.complete_samples(whole) is whole


def test_batches_carry_the_masks(tmp_path):
    split = data.load(f"samples:{samples.with_gaps(tmp_path, ('image', 'text', 'label', 'split'))}").splits["train"]
    tokens = data.encode_texts(split.b, data.train_tokenizer(split.b.texts, vocab_size=300), 6)
    loader = data.TrainLoader(
        split.replace(b=tokens),
        np.array([[0, 4, -1]]),
        seed=0,
        epoch=0,
        transform_a=data.eval_image(8),
        threads=1,
    )
    batch = loader.batch(0)
    assert batch["has_a"].tolist() == [*split.present["a"][[0, 4]].tolist(), False]
    assert batch["has_b"].dtype == bool


def test_labels_that_are_nearly_the_same_are_named(tmp_path):
    def spoiled(number, row):
        return {**row, "label": {0: "Angry", 1: "ha ppy", 2: " sad"}.get(number, row["label"])}

    source = data.load(f"posts:{samples.table(tmp_path, ('image', 'text', 'label', 'split'), changes=spoiled)}")
    assert source.label_names == ("Angry", "angry", "ha ppy", "happy", "sad")  # not merged
    assert [note.partition(": ")[2] for note in data.class_notes(source)] == [
        "'Angry' (1), 'angry' (9)",
        "'ha ppy' (1), 'happy' (9)",
    ]
    (note,) = source.notes
    assert "row 3 (line 4): " in note
    assert "'sad'" in note


def test_a_class_that_only_val_has_is_named(tmp_path):
    def rare(number, row):
        return {**row, "label": "rare" if number in (3, 8) else row["label"]}

    source = data.load(f"posts:{samples.table(tmp_path, ('image', 'text', 'label', 'split'), changes=rare)}")
    (note,) = data.class_notes(source)
    assert re.match(r"train .*'rare' \(2 in val\)", note)
    assert note in data.describe(source)["notes"]


def test_a_single_class_is_named(tmp_path):
    path = samples.table(tmp_path, ("image", "text", "label"), changes=lambda number, row: {**row, "label": "one"})
    (note,) = data.class_notes(data.load(f"posts:{path}"))
    assert "'one'" in note


def test_av_names_the_source_that_reads_a_text(tmp_path):
    path = samples.table(tmp_path, ("audio", "image", "text", "label"))
    source = data.load(f"av:{path}")
    assert f"samples:{path}" in source.notes[-1]
    with pytest.raises(DataError, match="write samples:"):
        data.load(f"av:{samples.table(tmp_path, ('audio', 'text', 'label'))}")


def test_labels_make_the_text_of_labelled(tmp_path):
    assert data.load(mock.labelled(tmp_path)).from_label == ("b",)


def test_a_text_that_contains_the_class_is_named(tmp_path):
    """Content decides, not the source: the text of a user's own, or latents that were made of class names."""

    def revealing(number, row):
        return {**row, "text": "" if number == 7 else f"it sounds {row['label']}"}

    path = samples.table(tmp_path, ("image", "text", "label", "split"), changes=revealing)
    for spec in (f"posts:{path}", mock.labelled(tmp_path)):
        (note,) = data.class_notes(data.load(spec))
        assert "text" in note
    assert data.class_notes(data.load(f"posts:{samples.posts(tmp_path)}")) == []
    label = np.arange(12) % 3
    np.savez(tmp_path / "f.npz", a=np.random.default_rng(0).normal(size=(12, 2)), b=np.eye(3)[label], label=label)
    (of_vectors,) = data.class_notes(data.load(f"features:{tmp_path / 'f.npz'}"))
    assert " b:" in of_vectors
