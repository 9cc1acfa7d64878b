"""Encodes images and texts and stores the latents shard by shard; an interruption loses at most one shard."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import Any

import numpy as np

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.encoder_records import Records, of_plan
from alignment_jax.extract.encode_columns import encode_images, encode_texts
from alignment_jax.extract.encoders import Encoder
from alignment_jax.extract.item_count import ItemCount, OnProgress, no_progress
from alignment_jax.extract.sharing import Share
from alignment_jax.extract.views import view_names

DTYPES = ("float16", "float32")
_LONGEST_CAPTION = 1000


@dataclasses.dataclass(frozen=True)
class ExtractSettings:
    """How to make and store latents.

    Attributes:
      views: see `view_names`.
      dtype: of the stored latents, "float16" or "float32".
      batch_size: images or texts of a batch, on each device.
      shard_size: images per shard.
    """

    views: str = ""
    dtype: str = "float16"
    batch_size: int = 64
    shard_size: int = 8192

    def __post_init__(self) -> None:
        view_names(self.views)
        if self.dtype not in DTYPES:
            raise ConfigError(f"--dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        for name in ("batch_size", "shard_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name} must be at least 1, got {getattr(self, name)}")


def extract(
    source: data.PairSource,
    image: Encoder,
    text: Encoder,
    out: pathlib.Path,
    settings: ExtractSettings | None = None,
    *,
    share: Share | None = None,
    on_progress: OnProgress = no_progress,
) -> None:
    """Encodes both sides of a data set and writes them in the format of `embeddings:`.

    The call resumes an interrupted one with the same arguments, and does nothing if that had finished.

    Args:
      source: images and texts; images of more than eight bits are scaled by one range, see `data.with_pixel_range`.
      image, text: see `open_encoder`.
      out: a file ending in .npz, or a folder for shards. Parts of an incomplete file are in `FILE.npz.parts`.
      settings: see `ExtractSettings`.
      share: of this process, where several write `out`; they divide the shards. None: there is one process.
      on_progress: called at the start of each side, after every batch, and for every finished shard.

    Raises:
      ConfigError: the data is not images and texts, or `out` has other content.
      DataError: an image cannot be read, or a latent is not finite in its dtype.
    """
    settings = settings or ExtractSettings()
    single = out.suffix == ".npz"
    if single and out.exists():
        raise ConfigError(f"{out}: the file exists; remove it, or give another --out")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")
    for split in source.splits.values():
        if (split.a.kind, split.b.kind) != ("image", "text"):
            raise ConfigError(
                f"{source.spec} holds {split.a.kind} and {split.b.kind} items; extract needs images and texts"
            )
    folder = out.with_name(out.name + ".parts") if single else out
    source, measured = data.with_pixel_range(source)
    plan = _plan(source, image, text, settings) | ({} if measured is None else {"pixel_range": list(measured.auto)})
    share = share or Share()
    if not share.first:
        share.wait_until(lambda: data.ShardWriter.is_started(folder))
    writer = data.ShardWriter(folder, plan)
    shards = [
        (name, split, np.arange(start, min(start + settings.shard_size, len(split))))
        for name, split in source.splits.items()
        for start in range(0, len(split), settings.shard_size)
    ]
    parts = {k: (name, split.subset(rows)) for k, (name, split, rows) in enumerate(shards) if share.has(k)}
    totals = {
        "image": sum(len(part) for _, part in parts.values()),
        "text": sum(len(part.b) for _, part in parts.values()),
    }
    count = ItemCount(totals, on_progress)
    for number, (name, part) in parts.items():
        if writer.has(number):
            count.found(image=len(part), text=len(part.b))
        else:
            writer.write(number, {**_encode(part, image, text, settings, count), **_index(part, source, name)})
    if not share.first:
        share.wait_until(lambda: out.exists() if single else data.ShardWriter.is_finished(folder))
        return
    share.wait_until(lambda: all(writer.has(number) for number in range(len(shards))))
    writer.finish(len(shards))
    if single:
        _join(folder, out, of_plan(plan))


def _plan(source: data.PairSource, image: Encoder, text: Encoder, settings: ExtractSettings) -> dict[str, Any]:
    """All that the arrays depend on; the data enters by digests of its ids, texts and image files."""
    return {
        "data": source.spec,
        "content": data.fingerprints(source, exact=True),
        "image_encoder": image.identity,
        "text_encoder": text.identity,
        "views": list(view_names(settings.views)),
        "dtype": settings.dtype,
        "shard_size": settings.shard_size,
        "modalities": list(source.modalities),
    }


def _encode(
    part: data.PairSplit, image: Encoder, text: Encoder, settings: ExtractSettings, count: ItemCount
) -> dict[str, np.ndarray]:
    """The latents of one shard, including all views of the images."""
    size, views = settings.batch_size, view_names(settings.views)
    arrays = encode_images(part.a, image, views=views, batch_size=size, on_batch=lambda k: count.encoded("image", k))
    arrays["text"] = encode_texts(part.b, text, batch_size=size, on_batch=lambda k: count.encoded("text", k))
    columns = {"text": part.b}
    return {name: _stored(array, settings, name, columns.get(name, part.a)) for name, array in arrays.items()}


def _stored(array: np.ndarray, settings: ExtractSettings, name: str, column: data.Column) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = array.astype(settings.dtype)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if bad.size:
        hint = "; use --dtype=float32" if np.isfinite(array[bad[0]]).all() else ": the encoder fails on this item"
        raise DataError(f"{column.describe(int(bad[0]))}: its {name} latent is not finite in {settings.dtype}{hint}")
    return stored


def _index(part: data.PairSplit, source: data.PairSource, split: str) -> dict[str, np.ndarray]:
    captions = [each[:_LONGEST_CAPTION] for each in part.b.read(np.arange(len(part.b)))]
    arrays = {
        "text_to_image": part.b_to_a,
        "image_id": part.ids,
        "caption": np.array(captions),
    }
    if source.has_splits:
        arrays["split"] = np.full(len(part), split)
    if part.cluster_size_b is not None:
        arrays["cluster_size"] = part.cluster_size_b
    elif part.cluster_size is not None:
        arrays["cluster_size"] = part.cluster_size[part.b_to_a]
    if part.label is not None:
        names = np.array(source.label_names if source.label_names else np.arange(part.label.max() + 1).astype(str))
        arrays["label"] = names[part.label]
    return arrays


def _join(folder: pathlib.Path, out: pathlib.Path, encoders: Records) -> None:
    """Joins the shards into one file and removes them."""
    parts: dict[str, list[np.ndarray]] = {}
    before = 0
    for number in range(sum(path.is_dir() for path in folder.iterdir())):
        shard = folder / f"{number:05d}"
        arrays = {path.stem: np.load(path, allow_pickle=False) for path in sorted(shard.glob("*.npy"))}
        arrays["text_to_image"] = arrays["text_to_image"] + before
        before += len(arrays["image"])
        for name, array in arrays.items():
            parts.setdefault(name, []).append(np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array)
    arrays = {name: np.concatenate(each) for name, each in parts.items()}
    views = {name: arrays.pop(name) for name in [n for n in arrays if n.startswith("image_") and n != "image_id"]}
    data.save_embeddings(out, **arrays, views=views, encoders=encoders)  # type: ignore[arg-type]
    shutil.rmtree(folder)
