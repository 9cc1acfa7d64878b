"""Data sets of labelled clips, tweets and gestures: modalities stay together, broken files are named."""

import mock_paper_sets as paper
import numpy as np
import pytest
from PIL import Image

from alignment_jax import data
from alignment_jax.core.errors import DataError


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_clip_has_its_own_recording_and_frames(tmp_path):
    split = data.load(paper.vggsound(tmp_path)).splits["train"]
    assert split.ids[1] == "--0PQM4-h1g_000030"
    for i, stem in ((0, "--0PQM4-h0g_000030"), (1, "--0PQM4-h1g_30"), (5, "--0PQM4-h5g_30000_40000")):
        assert split.a.items[i].name == f"{stem}.wav"
        folder = tmp_path / "Image-01-FPS" / (f"{stem}.mp4" if i == 5 else stem)
        (middle,) = split.b.read(np.array([i]))
        np.testing.assert_array_equal(middle, pixels(folder / "00003.jpg"))
    assert split.b.view_counts(np.arange(2)).tolist() == [4, 4]


def test_training_looks_at_every_frame_and_evaluation_at_the_middle_one(tmp_path):
    split = data.load(paper.cremad(tmp_path)).splits["train"]
    shown = set()
    for epoch in range(12):
        loader = data.TrainLoader(
            split.replace(a=data.ArrayColumn(np.zeros((12, 2)))),
            np.array([[3, 5]]),
            seed=0,
            epoch=epoch,
            transform_b=data.eval_image(16),
            threads=1,
        )
        shown.add(loader.batch(0)["b"][0].tobytes())
    frames = [data.eval_image(16)(pixels(path), np.random.default_rng(0)) for path in split.b.frames.items[9:12]]
    assert shown == {frame.tobytes() for frame in frames}
    fixed = data.TrainLoader(
        split.replace(a=data.ArrayColumn(np.zeros((12, 2)))),
        np.array([[3, 5]]),
        seed=0,
        epoch=0,
        transform_b=data.eval_image(16),
        choice="first",
    )
    np.testing.assert_array_equal(fixed.batch(0)["b"][0], frames[1])


def test_the_published_names_give_the_emotion(tmp_path):
    source = data.load(paper.cremad(tmp_path, lists=False))
    assert source.label_names == paper.EMOTIONS
    assert [source.label_names[k] for k in source.splits["all"].label[:3]] == ["ANG", "DIS", "FEA"]


def test_tweets_name_their_target(tmp_path):
    source = data.load(paper.twitter2015(tmp_path))
    assert source.label_names == ("negative", "neutral", "positive")
    test = source.splits["test"]
    assert test.b.read(np.array([0, 1])) == [
        'Lady Gaga | RT @ user : " $T$ in “town 8',
        'Tokyo | RT @ user : " $T$ in “town 8',
    ]
    assert test.ids[:2].tolist() == ["8_test.jpg", "8_test.jpg 2"]
    assert [source.label_names[k] for k in test.label] == ["neutral", "positive", "negative", "neutral"]


def test_signed_classes_of_tweets(tmp_path):
    spec = paper.twitter2015(tmp_path)
    for word in ("train", "dev", "test"):
        path, column = tmp_path / f"{word}.tsv", 0 if word == "test" else 1
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        for fields in lines[1:]:
            fields[column] = str(int(fields[column]) - 1)
        path.write_text("\n".join("\t".join(fields) for fields in lines))
    assert data.load(spec).label_names == ("negative", "neutral", "positive")


def test_sarcasm_is_judged_by_people_and_giveaways_are_left_out(tmp_path):
    source = data.load(paper.sarcasm(tmp_path))
    assert source.label_names == ("not sarcastic", "sarcastic")
    assert source.splits["val"].label.tolist() == [0, 1, 0, 1]
    (note,) = source.notes
    assert note.endswith(": 3")
    assert source.splits["train"].b.read(np.array([1]))[0].startswith('whew ... that \'s "extra" <num>')


def test_gestures_are_three_modalities(tmp_path):
    split = data.load(paper.nvgesture(tmp_path / "f")).splits["train"]
    assert split.c.read(np.array([0])).shape == (1, 6)
    frames = data.load(paper.nvgesture(tmp_path / "i", features=False)).splits["train"]
    assert [column.view_counts(np.array([0])).tolist() for column in (frames.a, frames.b, frames.c)] == [[3]] * 3
    place = tmp_path / "i" / "Video_data" / "class_01" / "subject0_r0"
    (middle,) = frames.a.read(np.array([0]))
    np.testing.assert_array_equal(middle, pixels(place / "sk_color_all" / "00004.jpg"))  # of frames 3 to 5
    (middle,) = frames.c.read(np.array([0]))
    np.testing.assert_array_equal(middle, pixels(place / "sk_depth" / "00003.jpg"))  # of frames 2 to 4


def edit(name, change):
    def apply(folder):
        path = folder / name
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return apply


def empty(name):
    def apply(folder):
        for path in (folder / name).iterdir():
            path.unlink()

    return apply


CLIP = "1001_DFA_DIS_XX"
TWEET = "900000000000000001"
FIRST_GESTURE = "Video_data/class_01/subject0_r0"
LIST = "nvgesture_train_correct_cvpr2016_v2.lst"
# set and fault -> (how to break it, parts of the message)
BROKEN = {
    "cremad, no such folder": (lambda f: f.rename(f.parent / "gone"), ["no such folder"]),
    "cremad, nothing": (lambda f: [p.rename(f.parent / p.name) for p in list(f.iterdir())], ["train.csv"]),
    "cremad, no recording": (lambda f: (f / f"AudioWAV/{CLIP}.wav").unlink(), ["train.csv, row 2", f"{CLIP}.wav"]),
    "cremad, no frames": (empty(f"Image-01-FPS/{CLIP}"), ["train.csv, row 2", "no frames", CLIP]),
    "cremad, another emotion": (edit("train.csv", lambda t: t.replace("XX,DIS", "XX,SAD")), ["row 2", "'SAD'"]),
    "cremad, leads out": (
        edit("train.csv", lambda t: t.replace(CLIP, f"../{CLIP}")),
        ["row 2", CLIP],
    ),
    "cremad, three fields": (edit("train.csv", lambda t: t.replace("XX,DIS", "XX,DIS,1")), ["row 2", "3 fields"]),
    "cremad, twice": (edit("test.csv", lambda t: t + f"{CLIP},DIS\n"), ["test.csv, row 7", "row 2 (line 2)"]),
    "kinetics_sounds, no list": (lambda f: (f / "annotations/test.csv").unlink(), ["test.csv", "my_test.txt"]),
    "kinetics_sounds, no label": (
        edit("annotations/test.csv", lambda t: t.replace("bowling", "")),
        ["test.csv, row 2 (line 3)", "no label"],
    ),
    "kinetics_sounds, leads out": (
        edit("annotations/test.csv", lambda t: t.replace("-test_7TV1", "../x")),
        ["row 2 (line 3)", "no such file"],
    ),
    "vggsound, no list": (lambda f: (f / "vggsound.csv").unlink(), ["no vggsound.csv"]),
    "vggsound, leads out": (
        edit("vggsound.csv", lambda t: t.replace("--0PQM4-h1g", "../../x")),
        ["row 2", "leads out"],
    ),
    "vggsound, no second": (edit("vggsound.csv", lambda t: t.replace("h2g,30", "h2g,x")), ["row 3", "'x'"]),
    "vggsound, unknown split": (edit("vggsound.csv", lambda t: t.replace("test", "rest", 1)), ["row 13", "'rest'"]),
    "twitter2015, no list": (lambda f: (f / "dev.tsv").unlink(), ["no dev.tsv"]),
    "twitter2015, no pictures": (lambda f: (f / "twitter2015_images").rename(f / "x"), ["twitter2015_images"]),
    "twitter2015, other columns": (edit("dev.tsv", lambda t: t.replace("#1 Label", "Mood")), ["unknown columns"]),
    "twitter2015, a field too few": (edit("dev.tsv", lambda t: t.replace("\tTokyo", "", 1)), ["row 2", "4 fields"]),
    "twitter2015, unknown class": (edit("dev.tsv", lambda t: t.replace("\t0\t", "\t7\t", 1)), ["'7'", "0, 1, 2"]),
    "twitter2015, no picture": (lambda f: (f / "twitter2015_images/6_dev.jpg").unlink(), ["row 1", "6_dev.jpg"]),
    "sarcasm, no list": (lambda f: (f / "text/valid2.txt").unlink(), ["no valid2.txt"]),
    "sarcasm, code": (
        edit("text/train.txt", lambda t: "__import__('os').system('touch touched')\n" + t),
        ["train.txt, line 1", "['name', 'text', 0"],
    ),
    "sarcasm, unknown class": (edit("text/train.txt", lambda t: t.replace(", 1]", ", 5]", 1)), ["line 2", "0 or 1"]),
    "sarcasm, leads out": (edit("text/train.txt", lambda t: t.replace(TWEET, "../x")), ["line 2"]),
    "sarcasm, nesting": (edit("text/train.txt", lambda t: "[" * 9000 + "\n" + t), ["line 1", "expected"]),
    "sarcasm, no picture": (lambda f: (f / f"dataset_image/{TWEET}.jpg").unlink(), ["line 2", f"{TWEET}.jpg"]),
    "nvgesture, no list": (lambda f: (f / LIST).unlink(), [f"no {LIST}"]),
    "nvgesture, no label": (edit(LIST, lambda t: t.replace(" label:1", "", 1)), ["line 1", "label:NUMBER"]),
    "nvgesture, leads out": (
        edit(LIST, lambda t: t.replace("./Video_data/class_02/subject1_r0", "../../x")),
        ["line 2", "leads out"],
    ),
    "nvgesture, no flow": (lambda f: (f / FIRST_GESTURE / "sk_flow.npy").unlink(), ["line 1", "sk_flow.npy"]),
    "nvgesture, other width": (
        lambda f: np.save(f / FIRST_GESTURE / "sk_flow.npy", np.ones((3, 5), np.float32)),
        ["line 2", "6 numbers, but 5"],
    ),
    "nvgesture, whole numbers": (
        lambda f: np.save(f / FIRST_GESTURE / "sk_flow.npy", np.ones((3, 6), int)),
        ["line 1", "floating point"],
    ),
    "nvgesture, not finite": (
        lambda f: np.save(f / FIRST_GESTURE / "sk_flow.npy", np.full(6, np.inf)),
        ["line 1", "not finite"],
    ),
    "nvgesture, pickled": (
        lambda f: np.save(f / FIRST_GESTURE / "sk_flow.npy", np.array([None, 1])),
        ["sk_flow.npy", ".npy array"],
    ),
    "nvgesture, frames; no span": (edit(LIST, lambda t: t.replace("color:sk_color:3:6", "", 1)), ["line 1", "color:"]),
    "nvgesture, frames; none in time": (
        edit(LIST, lambda t: t.replace("color:sk_color:3:6", "color:sk_color:30:60", 1)),
        ["line 1", "frame 30 to 59"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    change, parts = BROKEN[case]
    spec = paper.MOCKS[case.split(";")[0] if ";" in case else case.split(",")[0]].write(folder)
    change(folder)
    with pytest.raises(DataError) as error:
        data.load(spec)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", ["cremad", "vggsound", "kinetics_sounds"])
def test_skipping_leaves_out_clips_that_are_not_there_or_not_whole(name, tmp_path):
    spec = paper.MOCKS[name].write(tmp_path)
    recordings, frames = sorted(tmp_path.rglob("*.wav")), sorted(tmp_path.rglob("*.jpg"))
    recordings[0].unlink()
    recordings[3].write_bytes(recordings[3].read_bytes()[:100])
    frames[-1].write_bytes(b"no picture")
    source = data.load(spec, on_bad_sample="skip")
    total = sum(paper.MOCKS[name].splits.values())
    assert len(source.problems) == 3
    assert sum(len(split) for split in source.splits.values()) == total - 3
    assert all(split.a.verified and split.b.verified for split in source.splits.values())
    assert data.problems(source) == list(source.problems)


def test_nothing_left_is_an_error(tmp_path):
    spec = paper.twitter2015(tmp_path)
    for path in (tmp_path / "twitter2015_images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"no such file"):
        data.load(spec, on_bad_sample="skip")
