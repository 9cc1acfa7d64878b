"""Retrieval examples of one split: captions, the top images, and the matching one."""

from __future__ import annotations

from alignment_jax import data, evals, report

_HOW = "The captions are a random sample, one per item."


def make_gallery(split: data.PairSplit, embedded: evals.SplitEmbeddings, *, count: int, seed: int) -> report.Gallery:
    """Queries of a split with their top results, with pictures if the split has any."""
    sampled = evals.sample_retrievals(embedded, count=count, seed=seed)
    items = sorted({int(i) for i in sampled.top.ravel()} | {int(i) for i in sampled.own})
    read = data.thumbnails(split)
    images = None if read is None else read(items)
    captions = data.caption_texts(split)
    return report.Gallery(
        captions=[captions[int(q)] for q in sampled.queries],
        ids=[str(i) for i in split.ids],
        top=sampled.top,
        own=sampled.own,
        right=sampled.right,
        images=images,
        item_captions=None if images is not None else {item: captions[int(split.b_of_a(item)[0])] for item in items},
        how=_HOW if images is not None else f"{_HOW} {_no_pictures(split)}",
    )


def _no_pictures(split: data.PairSplit) -> str:
    """The reason for a gallery without pictures."""
    held = "latents" if split.a.kind == "embedding" else f"items of kind {split.a.kind}"
    return f"This data holds {held} and no pictures, so each item is shown by one of its captions."
