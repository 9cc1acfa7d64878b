"""The papers' data sets in miniature, each in exactly the layout in which it is published."""

import dataclasses
import pathlib
import pickle
from collections.abc import Callable

import mock_data_sets as mock
import numpy as np


@dataclasses.dataclass(frozen=True)
class Mock:
    """How to write one, and what must be read: kinds of the sides, items in each split, classes (None: no labels)."""

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


MOCKS: dict[str, Mock] = {
    "epic": Mock(epic, ("embedding", "text"), {"train": 20, "test": 5}, 3),
}
