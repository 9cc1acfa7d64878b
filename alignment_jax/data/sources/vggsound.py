"""`vggsound:DIR`: VGGSound, 309 classes of sounds whose source is visible.

vggsound.csv                                youtube_id,start_seconds,label,split without header, as published
AudioWAV/ID_000030.wav                      also ID_30.wav and ID_30000_40000.wav
Image-01-FPS/ID_000030/*.jpg                frames of each clip, under the same name
"""

from __future__ import annotations

from alignment_jax.core.errors import DataError
from alignment_jax.data.bad_samples import BadSamples
from alignment_jax.data.manifest_rows import Folder, ManifestRow, read_positional_rows
from alignment_jax.data.sources.clips import KINDS, MODALITIES, clip_parts, existing_folder, find_list
from alignment_jax.data.sources.samples import Sample, labelled_sample_source
from alignment_jax.data.split import PairSource


def load(argument: str, *, seed: int = 0, on_bad_sample: str = "error") -> PairSource:
    """Opens a folder of VGGSound in the layout of the module docstring: a is the recording, b a frame of the clip.

    Arguments and errors are those of `data.load`.
    """
    root = existing_folder(argument)
    folder, bad = Folder(root), BadSamples(on_bad_sample)
    path = find_list(root, "vggsound.csv")
    if path is None:
        raise DataError(f"{root}: no vggsound.csv in it or in annotations/")
    rows = read_positional_rows(path, ("youtube_id", "start", "label", "split"), bad=bad)

    def sample(row: ManifestRow) -> Sample:
        name, start = row.values["youtube_id"], row.values["start"]
        if not start.isdigit():
            raise DataError(f"{row.where}: the start must be an integer of seconds, found {start!r}")
        second = int(start)
        stems = [f"{name}_{second:06d}", f"{name}_{second}", f"{name}_{second}000_{second + 10}000"]
        parts = clip_parts(folder, stems, where=row.where)
        return Sample(stems[0], row.values["label"], row.values["split"], parts, row.where)

    return labelled_sample_source(
        rows, sample, kinds=KINDS, modalities=MODALITIES, name="vggsound", where=root, bad=bad
    )
