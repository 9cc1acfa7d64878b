"""A retrieval gallery: captions with the items that the model ranks first, marked as hit or miss."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.core.deprecation import renamed_attributes
from alignment_jax.core.errors import RunError
from alignment_jax.core.storage import write_npz_atomic
from alignment_jax.report.blocks import joined, paragraph
from alignment_jax.report.pictures import data_url, encode_picture, picture_type
from alignment_jax.report.rendering import macros


@renamed_attributes({"shown": "shown_items"})
@dataclasses.dataclass(frozen=True)
class Gallery:
    """Queries and their top-ranked items, as plain data.

    Attributes:
      captions: q query texts.
      ids: N names of the candidates.
      top: int [q, k], numbers of the k best items, best first (k is 5 in the report of a run).
      own: int [q], the item that each caption belongs to; of several, one in `top` if any is.
      right: bool [q, k], whether each item of `top` belongs to the caption; None: only `own` does.
      images: item number to pixels (uint8 [H, W, 3] or [H, W]) or to the bytes of a PNG or JPEG file; None for data
        without pixels. Items without an entry are shown by their id.
      item_captions: item number to a text, shown for items without an image; None for none.
      ranks: int [q], rank of the own item, 1 is first; None when unknown.
      how: one sentence on the selection of the captions.

    Raises:
      ValueError: the shapes do not fit, or an index is out of range; the message names the field.
    """

    captions: Sequence[str]
    ids: Sequence[str]
    top: np.ndarray
    own: np.ndarray
    images: Mapping[int, Any] | None = None
    item_captions: Mapping[int, str] | None = None
    ranks: np.ndarray | None = None
    how: str = ""
    right: np.ndarray | None = None

    def __post_init__(self) -> None:
        queries = len(self.captions)
        top, own = np.asarray(self.top), np.asarray(self.own)
        if top.ndim != 2 or len(top) != queries:
            raise ValueError(f"gallery: top must be [{queries}, k] for {queries} captions, got shape {top.shape}")
        if own.shape != (queries,):
            raise ValueError(f"gallery: own must be [{queries}] for {queries} captions, got shape {own.shape}")
        if self.right is not None and np.shape(self.right) != top.shape:
            raise ValueError(f"gallery: right must be {list(top.shape)} or None, got shape {np.shape(self.right)}")
        if self.ranks is not None and np.shape(self.ranks) != (queries,):
            raise ValueError(f"gallery: ranks must be [{queries}] or None, got shape {np.shape(self.ranks)}")
        for name, numbers in (("top", top), ("own", own)):
            if numbers.size and numbers.dtype.kind not in "iu":
                raise ValueError(f"gallery: {name} must hold item numbers, got dtype {numbers.dtype}")
            if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self.ids)):
                raise ValueError(f"gallery: {name} names an item outside 0..{len(self.ids) - 1}")

    def hits(self) -> np.ndarray:
        """bool [q]: an item of the caption is in `top`."""
        return np.asarray(self.marks().any(axis=1))

    def marks(self) -> np.ndarray:
        """bool [q, k]: whether each item of `top` belongs to the caption."""
        if self.right is not None:
            return np.asarray(self.right, bool)
        return np.asarray(self.top) == np.asarray(self.own)[:, None]

    def shown_items(self) -> list[int]:
        """Distinct numbers of the items on the page, sorted."""
        return sorted({int(item) for item in np.concatenate([np.ravel(self.top), np.ravel(self.own)])})

    def with_pictures_encoded(self) -> Gallery:
        """A copy with a thumbnail of every shown item and no other images."""
        if self.images is None:
            return self
        images = {item: encode_picture(self.images[item]) for item in self.shown_items() if item in self.images}
        return dataclasses.replace(self, images=images)


def gallery_html(gallery: Gallery, *, names: tuple[str, ...] = ("a", "b")) -> str:
    """The gallery as Markup, pictures inlined, everything from the data escaped.

    A hit has a tick, the word and a thick solid frame; a miss has a cross and a thin frame: colour is never the only
    sign. Where the own item was missed it follows the others.

    Args:
      gallery: what to show.
      names: of the two modalities; items belong to the first, captions to the second.

    Returns:
      An HTML fragment for `section`.

    Raises:
      MissingPackageError: jinja2 is not installed.
    """
    gallery = gallery.with_pictures_encoded()
    hits, depth = gallery.hits(), np.shape(gallery.top)[1]
    summary = (
        f"{int(hits.sum())} of {len(hits)} queries have their own {names[0]} among the first {depth}."
        f"{' ' + gallery.how if gallery.how else ''}"
    )
    return joined([paragraph(summary), *(_query(gallery, number) for number in range(len(hits)))])


def _query(gallery: Gallery, number: int) -> str:
    own = int(np.asarray(gallery.own)[number])
    top = [int(item) for item in np.asarray(gallery.top)[number]]
    right = gallery.marks()[number].tolist()
    rank = right.index(True) + 1 if any(right) else None
    if rank is None and gallery.ranks is not None:
        rank = int(np.asarray(gallery.ranks)[number])
    if any(right):
        kind, verdict = "hit", f"✓ hit at rank {rank}"
    else:
        kind, verdict = "miss", "✗ miss" + ("" if rank is None else f", own item at rank {rank}")
    answers = [
        answer_figure(gallery, item, f"{place}. ✓ hit" if hit else f"{place}. ✗", "hit" if hit else "miss")
        for place, (item, hit) in enumerate(zip(top, right, strict=True), start=1)
    ]
    if not any(right):
        answers.append(answer_figure(gallery, own, "wanted", "wanted"))
    return macros("items.html").query(gallery.captions[number], kind, verdict, answers)


def answer_figure(gallery: Gallery, item: int, mark: str, kind: str) -> dict[str, Any]:
    """The values of one item's figure for the macro `answer`; `kind` is "hit", "miss" or "wanted"."""
    images, texts = gallery.images or {}, gallery.item_captions or {}
    picture = image_values(images[item]) if item in images else {"url": None, "text": texts.get(item, "no picture")}
    return {"name": gallery.ids[item], "mark": mark, "kind": kind, **picture}


def image_values(data: bytes) -> dict[str, Any]:
    """The values of an inlined picture for the macro `image`. A PNG is tiny: its pixels are enlarged, not blurred."""
    return {"url": data_url(data), "crisp": picture_type(data) == "png"}


def save_gallery(path: str | os.PathLike[str], gallery: Gallery) -> None:
    """Stores a gallery with its thumbnails, so that a report can be rebuilt from disk.

    Args:
      path: an .npz file; written atomically, without pickles.
      gallery: what to store.

    >>> import pathlib, tempfile
    >>> gallery = Gallery(["a dog"], ["1.jpg", "2.jpg"], np.array([[1, 0]]), np.array([0]), ranks=np.array([2]))
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "gallery.npz"
    >>> save_gallery(path, gallery)
    >>> load_gallery(path).captions
    ['a dog']
    """
    gallery = gallery.with_pictures_encoded()
    shown = gallery.shown_items()
    images, texts = gallery.images or {}, gallery.item_captions or {}
    arrays: dict[str, np.ndarray] = {
        # Bytes: NumPy strings drop trailing NULs and pad every text to the longest one.
        "captions": _pack(gallery.captions),
        "ids": _pack(gallery.ids),
        "top": np.asarray(gallery.top, np.int64),
        "own": np.asarray(gallery.own, np.int64),
        "how": _pack([gallery.how]),
        "text_items": np.array([item for item in shown if item in texts], np.int64),
        "texts": _pack([texts[item] for item in shown if item in texts]),
    }
    if gallery.ranks is not None:
        arrays["ranks"] = np.asarray(gallery.ranks, np.int64)
    if gallery.right is not None:
        arrays["right"] = np.asarray(gallery.right, bool)
    arrays |= {f"image_{item}": np.frombuffer(images[item], np.uint8) for item in shown if item in images}
    write_npz_atomic(path, arrays, compressed=True)


def load_gallery(path: str | os.PathLike[str]) -> Gallery:
    """Reads a file of `save_gallery`.

    Raises:
      RunError: the file is missing, damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        images = {int(name[6:]): array.tobytes() for name, array in arrays.items() if name.startswith("image_")}
        texts = dict(zip(arrays["text_items"].tolist(), _unpack(arrays["texts"]), strict=True))
        return Gallery(
            captions=_unpack(arrays["captions"]),
            ids=_unpack(arrays["ids"]),
            top=arrays["top"],
            own=arrays["own"],
            images=images or None,
            item_captions=texts or None,
            ranks=arrays.get("ranks"),
            right=arrays.get("right"),
            how=_unpack(arrays["how"])[0],
        )
    except Exception as error:
        # Damage raises many types of error (zip, zlib, header, missing array), all with the same remedy.
        raise RunError(f"{path} is not a readable gallery ({error}); evaluate the run again") from error


def _pack(texts: Sequence[str]) -> np.ndarray:
    # A unit separator ends each text; one inside a text must not shift the texts after it.
    joined = "".join(str(text).replace("\x1f", " ") + "\x1f" for text in texts)
    return np.frombuffer(joined.encode("utf-8", "replace"), np.uint8)


def _unpack(packed: np.ndarray) -> list[str]:
    return packed.tobytes().decode("utf-8").split("\x1f")[:-1]
