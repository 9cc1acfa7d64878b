"""`kinetics_sounds:DIR`: Kinetics-Sounds, 31 classes of actions with sound.

annotations/train.csv, test.csv             columns youtube_id and label (others are not read), or
my_train.txt, my_test.txt                   name,seconds,class without header
train_wav/ID.wav, test_wav/ID.wav
train_img/Image-01-FPS/ID/*.jpg, test_img/Image-01-FPS/ID/*.jpg
"""

from __future__ import annotations

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import Folder, ManifestRow, read_positional_rows, read_table
from alignment_jax.data.sources.clips import FRAMES, KINDS, MODALITIES, clip_parts, existing_folder, find_list
from alignment_jax.data.sources.samples import Sample, labelled_sample_source
from alignment_jax.data.split import PairSource


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of Kinetics-Sounds in the layout of the module docstring: a is the recording, b a frame.

    Arguments and errors are those of `data.load`.
    """
    root = existing_folder(argument)
    folder, bad = Folder(root), BadSamples(on_bad_sample)
    rows: list[tuple[ManifestRow, str]] = []
    for split in ("train", "val", "test"):
        path = find_list(root, f"{split}.csv", f"my_{split}.txt")
        if path is None and split != "val":
            raise DataError(f"{root}: no {split}.csv and no my_{split}.txt in it or in annotations/")
        if path is not None and path.suffix == ".csv":
            rows += [(row, split) for row in read_table(path, required=("youtube_id", "label"), bad=bad)[0]]
        elif path is not None:
            rows += [(row, split) for row in read_positional_rows(path, ("youtube_id", "seconds", "label"), bad=bad)]

    def sample(listed: tuple[ManifestRow, str]) -> Sample:
        row, split = listed
        name = row.values["youtube_id"]
        parts = clip_parts(folder, [name], where=row.where, audio=f"{split}_wav", frames=f"{split}_img/{FRAMES}")
        return Sample(name, row.values["label"], split, parts, row.where)

    return labelled_sample_source(
        rows, sample, kinds=KINDS, modalities=MODALITIES, name="kinetics_sounds", where=root, bad=bad
    )
