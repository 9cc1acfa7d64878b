"""Miniatures of the papers' data sets in their published layouts."""

import dataclasses
import json
import pathlib
import pickle
import wave
from collections.abc import Callable

import mock_data_sets as mock
import numpy as np


@dataclasses.dataclass(frozen=True)
class Mock:
    """How to write a set, and the expected kinds of the sides, items in each split, classes (None: no labels)."""

    write: Callable[[pathlib.Path], str]
    kinds: tuple[str, ...]
    splits: dict[str, int]
    classes: int | None = None


EPIC_HEADER = [
    *("uid", "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp"),
    *("start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns"),
    "all_noun_classes",
]
# narration, verb, its class, nouns, their classes
EPIC_CLIPS = [
    ("take plate", "take", 0, ["plate"], [2]),
    ("put pizza onto plate", "put-onto", 1, ["pizza", "plate"], [91, 2]),
    ("take pizza", "take", 0, ["pizza"], [91]),
    ("take plate", "take", 0, ["plate"], [2]),
    ("wash cup", "wash", 2, ["cup"], [13]),
]


def epic_row(name: str, uid: int, clip) -> list[str]:
    narration, verb, verb_class, nouns, classes = clip
    times = ["00:00:00.560", "00:00:00.00", "00:00:01.89", "1", "113"]
    named = [narration, verb, str(verb_class), nouns[0], str(classes[0]), repr(nouns), repr(classes)]
    return [str(uid), f"P01_{name}_{uid}", "P01", f"P01_{name}", *times, *named]


def epic_relevancy(clips: list[str]) -> np.ndarray:
    """The published definition, one entry at a time."""
    of = {clip[0]: clip for clip in EPIC_CLIPS}
    candidates = list(dict.fromkeys(clips))
    out = np.zeros((len(clips), len(candidates)))
    for i, a in enumerate(clips):
        for j, b in enumerate(candidates):
            nouns_a, nouns_b = set(of[a][4]), set(of[b][4])
            out[i, j] = ((of[a][2] == of[b][2]) + len(nouns_a & nouns_b) / len(nouns_a | nouns_b)) / 2
    return out


def epic(folder: pathlib.Path, *, train: int = 20, test: int = 5, matrix: bool = True, text: bool = False) -> str:
    notes = folder / "retrieval_annotations"
    (folder / "features").mkdir(parents=True, exist_ok=True)
    (notes / "relevancy").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    meaning = {clip[0]: rng.normal(size=6) for clip in EPIC_CLIPS}
    for name, count in (("train", train), ("test", test)):
        clips = [EPIC_CLIPS[i % len(EPIC_CLIPS)] for i in range(count)]
        rows = [epic_row(name, uid, clip) for uid, clip in enumerate(clips)]
        mock.write_csv(notes / f"EPIC_100_retrieval_{name}.csv", [EPIC_HEADER, *rows])
        # RGB, Flow and Audio of the clips, 25 segments each (here 3).
        seen = np.stack([meaning[clip[0]] for clip in clips]) + 0.1 * rng.normal(size=(count, 6))
        features = {part: np.repeat(seen[:, None], 3, axis=1).astype(np.float32) for part in ("RGB", "Flow", "Audio")}
        (folder / "features" / f"{name}.pkl").write_bytes(pickle.dumps(features, protocol=4))
        if text:
            np.save(folder / "features" / f"text_{name}.npy", np.stack([meaning[clip[0]][:4] for clip in clips]))
    first = {clip: row for row, clip in reversed(list(zip(rows, (clip[0] for clip in clips), strict=True)))}
    asked = [[first[clip][1], clip] for clip in dict.fromkeys(clip[0] for clip in clips)]
    mock.write_csv(notes / "EPIC_100_retrieval_test_sentence.csv", [["index", "sentence"], *asked])
    if matrix:
        path = notes / "relevancy" / "caption_relevancy_EPIC_100_retrieval_test.pkl"
        path.write_bytes(pickle.dumps(epic_relevancy([clip[0] for clip in clips]), protocol=2))
    return f"epic:{folder},features=RGB+Flow"


def recording(path: pathlib.Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 8000 * np.sin(np.arange(800) * (number + 3) / 20)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(tone.astype("<i2").tobytes())


def frames(folder: pathlib.Path, number: int, count: int = 3, first: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(first, first + count):
        mock.picture(100 * number + k).save(folder / f"{k:05d}.jpg")


EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")


def cremad(folder: pathlib.Path, *, lists: bool = True) -> str:
    names = [f"10{i:02d}_DFA_{EMOTIONS[i % 6]}_XX" for i in range(18)]
    for i, name in enumerate(names):
        recording(folder / "AudioWAV" / f"{name}.wav", i)
        frames(folder / "Image-01-FPS" / name, i)
    if lists:
        rows = [[name, name.split("_")[2]] for name in names]
        mock.write_csv(folder / "train.csv", rows[:12])
        mock.write_csv(folder / "test.csv", rows[12:])
    return f"cremad:{folder}"


def cremad_without_lists(folder: pathlib.Path) -> str:
    return cremad(folder, lists=False)


def kinetics_sounds(folder: pathlib.Path, *, header: bool = True) -> str:
    notes = folder / "annotations"
    notes.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 12), ("test", 4)):
        rows = []
        for i in range(count):
            name, label = f"-{split}_7TV{i}", ("blowing nose", "bowling", "chopping wood")[i % 3]
            recording(folder / f"{split}_wav" / f"{name}.wav", i + 20 * (split == "test"))
            frames(folder / f"{split}_img" / "Image-01-FPS" / name, i + 20 * (split == "test"), 4)
            rows.append([label, name, "10", "20", split] if header else [name, "10", str(i % 3)])
        if header:
            mock.write_csv(notes / f"{split}.csv", [["label", "youtube_id", "time_start", "time_end", "split"], *rows])
        else:
            mock.write_csv(folder / f"my_{split}.txt", rows)
    return f"kinetics_sounds:{folder}"


def kinetics_sounds_lists(folder: pathlib.Path) -> str:
    return kinetics_sounds(folder, header=False)


def vggsound(folder: pathlib.Path) -> str:
    rows, spellings = [], ("{}_{:06d}", "{}_{}", "{}_{}000_40000")
    for i in range(16):
        name, label = f"--0PQM4-h{i}g", ("waterfall burbling", "people eating, noisily", "dog barking")[i % 3]
        stem = spellings[i % 3].format(name, 30)
        recording(folder / "AudioWAV" / f"{stem}.wav", i)
        frames(folder / "Image-01-FPS" / (f"{stem}.mp4" if i == 5 else stem), i, 4)
        rows.append([name, "30", label, "test" if i >= 12 else "train"])
    mock.write_csv(folder / "vggsound.csv", rows)
    return f"vggsound:{folder}"


def twitter2015(folder: pathlib.Path) -> str:
    (folder / "twitter2015_images").mkdir(parents=True)
    header = ["index", "#1 Label", "#2 ImageID", "#3 String", "#3 String"]
    first = 0
    for word, count in (("train", 12), ("dev", 4), ("test", 4)):
        rows = []
        for i in range(first, first + count):
            image = f"{i // 2}_{word}.jpg"  # two targets of each tweet
            mock.picture(i // 2).save(folder / "twitter2015_images" / image)
            row = [str(i % 3), image, f'RT @ user : " $T$ in \u201ctown {i // 2}', ("Lady Gaga", "Tokyo")[i % 2]]
            rows.append(row if word == "test" else [str(i + 1), *row])
        lines = [["index", "#1 ImageID", "#2 String", "#2 String"] if word == "test" else header, *rows]
        (folder / f"{word}.tsv").write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
        first += count
    return f"twitter2015:{folder}"


def sarcasm(folder: pathlib.Path) -> str:
    (folder / "text").mkdir(parents=True)
    (folder / "dataset_image").mkdir()
    first = 0
    for name, count in (("train.txt", 12), ("valid2.txt", 4), ("test2.txt", 4)):
        lines = []
        for i in range(first, first + count):
            text = f'whew ... that \'s "extra" <num> miles today # fun emoji_{i}'
            labels = [i % 2] if name == "train.txt" else [1 - i % 2, i % 2]
            lines.append(repr([str(9 * 10**17 + i), text, *labels]))
            mock.picture(i).save(folder / "dataset_image" / f"{9 * 10**17 + i}.jpg")
        lines.append(repr(["123", "what a joke , no picture here", *labels]))
        (folder / "text" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        first += count
    return f"sarcasm:{folder}"


SENSORS = ("sk_color", "sk_flow", "sk_depth")


def nvgesture(folder: pathlib.Path, *, features: bool = True) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        lines = []
        for i in range(count):
            label = i % 4 + 1
            place = folder / "Video_data" / f"class_{label:02d}" / f"subject{i}_r{split == 'test':d}"
            place.mkdir(parents=True)
            for k, sensor in enumerate(SENSORS):
                if features:
                    np.save(
                        place / f"{sensor}.npy", (label * np.eye(6)[k] + rng.normal(size=(5, 6))).astype(np.float32)
                    )
                else:
                    shown = f"{sensor}_all" if sensor == "sk_color" else sensor
                    frames(place / shown, 10 * i + k + 500 * (split == "test"), 6)
            path = place.relative_to(folder).as_posix()
            lines.append(f"path:./{path} depth:sk_depth:2:5 color:sk_color:3:6 duo_left:duo_left:1:9 label:{label}")
        (folder / f"nvgesture_{split}_correct_cvpr2016_v2.lst").write_text("\n".join(lines) + "\n")
    return f"nvgesture:{folder}"


def nvgesture_frames(folder: pathlib.Path) -> str:
    return nvgesture(folder, features=False)


STEPS = 3


def youcook2(folder: pathlib.Path, *, layout: str = "video") -> str:
    """Videos of 100 seconds with ten frames; the features of a frame are its number and the video's."""
    folder.mkdir(parents=True, exist_ok=True)
    database: dict = {}
    for i in range(10):
        subset, video, recipe = ("training", "validation")[i >= 8], f"-v{i}xQ_bOz", str(100 + i % 4)
        frames = np.stack([np.arange(10.0), np.full(10, float(i)), np.ones(10)], axis=1)
        steps = [
            {"segment": [30 * k, 30 * k + 20], "id": k, "sentence": f"spread butter {k}  on bread {i}"}
            for k in range(STEPS)
        ]
        database[video] = {"subset": subset, "duration": 100.0, "recipe_type": recipe, "annotations": steps}
        part = "train" if i < 8 else "val"
        place = folder / f"{part}_frame_feat_csv" / recipe / video / "0001" if layout == "csv" else folder / "features"
        place.mkdir(parents=True, exist_ok=True)
        if layout == "csv":
            np.savetxt(place / "resnet_34_feat_mscoco.csv", frames, delimiter=",")
        elif layout == "video":
            np.save(place / f"{video}.npy", frames.astype(np.float32))
        else:
            for k in range(STEPS):
                np.save(place / f"{video}_{k}.npy", frames[3 * k : 3 * k + 2].astype(np.float16))
    (folder / "youcookii_annotations_trainval.json").write_text(json.dumps({"database": database}))
    return f"youcook2:{folder}"


# A new source adds a row; its name starts with that of the source.
MOCKS: dict[str, Mock] = {
    "epic": Mock(epic, ("embedding", "text"), {"train": 20, "test": 5}, 3),
    "coco": Mock(mock.coco, ("image", "text"), {"train": 6, "test": 2}),
    "cc3m": Mock(mock.conceptual_captions, ("image", "text"), {"train": 4, "val": 4}),
    "webdataset": Mock(mock.shards, ("image", "text"), {"train": 4, "val": 4}),
    "youcook2": Mock(youcook2, ("embedding", "text"), {"train": 24, "test": 6}, 4),
    "cremad": Mock(cremad, ("audio", "image"), {"train": 12, "test": 6}, 6),
    "cremad without lists": Mock(cremad_without_lists, ("audio", "image"), {"all": 18}, 6),
    "kinetics_sounds": Mock(kinetics_sounds, ("audio", "image"), {"train": 12, "test": 4}, 3),
    "kinetics_sounds, the other lists": Mock(kinetics_sounds_lists, ("audio", "image"), {"train": 12, "test": 4}, 3),
    "vggsound": Mock(vggsound, ("audio", "image"), {"train": 12, "test": 4}, 3),
    "twitter2015": Mock(twitter2015, ("image", "text"), {"train": 12, "val": 4, "test": 4}, 3),
    "sarcasm": Mock(sarcasm, ("image", "text"), {"train": 12, "val": 4, "test": 4}, 2),
    "nvgesture": Mock(nvgesture, ("embedding",) * 3, {"train": 12, "test": 4}, 4),
    "nvgesture, frames": Mock(nvgesture_frames, ("image",) * 3, {"train": 12, "test": 4}, 4),
}
