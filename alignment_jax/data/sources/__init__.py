"""Data sources by name.

To add a source, add one file with `load(argument, *, seed, on_bad_sample) -> PairSource` and one line here. If its SPEC
takes `,key=value`, the file also needs `OPTIONS`: each key with its default.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class SourceEntry:
    """The module of a source (imported on first use), the form of its SPEC, and the file suffixes that it reads."""

    module: str
    usage: str
    needs_argument: bool = True
    suffixes: tuple[str, ...] = ()


_HERE = "alignment_jax.data.sources."

SOURCES: dict[str, SourceEntry] = {
    "synthetic": SourceEntry(_HERE + "synthetic", "synthetic[:key=value,...]", needs_argument=False),
    "flickr": SourceEntry(_HERE + "flickr", "flickr:DIR"),
    "karpathy": SourceEntry(_HERE + "karpathy", "karpathy:DIR"),
    "pairs": SourceEntry(
        _HERE + "pairs",
        "pairs:FILE[,image=COL][,audio=COL][,caption=COL][,split=COL][,item=COL][,root=DIR][,encoding=NAME]"
        "[,sheet=NAME], or "
        "pairs:train=FILE,val=FILE[,test=FILE]",
        suffixes=(".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".gz"),
    ),
    "embeddings": SourceEntry(
        _HERE + "embeddings",
        "embeddings:FILE.npz[,image=NAME][,text=NAME], embeddings:image=FILE.npy,text=FILE.npy, or embeddings:DIR",
        suffixes=(".npz", ".npy", ".safetensors"),
    ),
    "av": SourceEntry(_HERE + "av", "av:FILE.csv"),
    "samples": SourceEntry(_HERE + "samples_table", "samples:FILE.csv[,text=COLUMN][,label=COLUMN][,use=audio+text]"),
    "posts": SourceEntry(_HERE + "samples_table", "posts:FILE.csv[,text=COLUMN][,label=COLUMN]"),
    "labelled": SourceEntry(_HERE + "labelled", "labelled:FILE.csv"),
    "tfds": SourceEntry(_HERE + "tfds", "tfds:NAME[,data_dir=DIR][,split=S+T][,a=F][,b=F][,label=F][,id=F][,rate=F]"),
    "features": SourceEntry(_HERE + "features", "features:FILE.npz"),
    "coco": SourceEntry(_HERE + "coco", "coco:DIR[,year=2017]"),
    "cc3m": SourceEntry(_HERE + "cc3m", "cc3m:DIR or cc3m:FILE.tsv"),
    "folder": SourceEntry(_HERE + "folder", "folder:DIR[,caption=FIELD]"),
    "hf": SourceEntry(
        _HERE + "hf", "hf:DIR or hf:NAME in the cache[,image=COL][,caption=COL][,label=COL][,split=S+T][,config=NAME]"
    ),
    "webdataset": SourceEntry(
        _HERE + "webdataset",
        "webdataset:SHARDS[,image=ENDING][,caption=ENDING or FIELD], or webdataset:train=SHARDS,val=SHARDS",
        suffixes=(".tar",),
    ),
    "epic": SourceEntry(_HERE + "epic", "epic:DIR[,features=RGB+Flow][,count=noun]"),
    "youcook2": SourceEntry(_HERE + "youcook2", "youcook2:DIR"),
    "cremad": SourceEntry(_HERE + "cremad", "cremad:DIR"),
    "kinetics_sounds": SourceEntry(_HERE + "kinetics_sounds", "kinetics_sounds:DIR"),
    "vggsound": SourceEntry(_HERE + "vggsound", "vggsound:DIR"),
    "twitter2015": SourceEntry(_HERE + "twitter2015", "twitter2015:DIR"),
    "sarcasm": SourceEntry(_HERE + "sarcasm", "sarcasm:DIR"),
    "nvgesture": SourceEntry(_HERE + "nvgesture", "nvgesture:DIR"),
}

__all__ = ["SOURCES", "SourceEntry"]
