"""Queries that one method answers rightly and another wrongly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment_jax.report.blocks import joined, paragraph
from alignment_jax.report.gallery import Gallery, answer_figure
from alignment_jax.report.rendering import macros

# Item numbers -> pixels (uint8 [H, W, 3]) or picture files, for items that have one.
Images = Callable[[Sequence[int]], Mapping[int, Any]]


@dataclasses.dataclass(frozen=True)
class Disagreements:
    """Captions of a split whose best answers differ between two methods.

    Attributes:
      methods: names of the two.
      counts: numbers of captions: (both right, only the first, only the second, none).
      queries: (only the first right, only the second right): int [q] each, the captions to show, by the rank of the
        other method, worst first.
      top: the answers of each method to all captions, int [m, depth].
      ranks: int [m] each, zero-based rank of the own item.
      captions, ids, own: texts [m], item names [n], own item of each caption [m].
      marks: bool [m, depth] each, whether an answer belongs to the caption.
    """

    methods: tuple[str, str]
    counts: tuple[int, int, int, int]
    queries: tuple[np.ndarray, np.ndarray]
    top: tuple[np.ndarray, np.ndarray]
    ranks: tuple[np.ndarray, np.ndarray]
    captions: np.ndarray
    ids: np.ndarray
    own: np.ndarray
    marks: tuple[np.ndarray, np.ndarray]


def disagreements(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], *, methods: tuple[str, str], most: int = 3
) -> Disagreements | None:
    """Finds captions for which one of two methods ranks the right item first and the other does not.

    Args:
      first, second: arrays of one run of each method on the same split: `captions`, `ids`, `b_to_a`, `rank_ba`, `top`.
      methods: their names.
      most: captions to show per method: those with the worst rank in the other, each of another item.

    Returns:
      None when the items differ or no caption does.
    """
    keys = ("captions", "ids", "b_to_a", "rank_ba", "top")
    if any(key not in found for found in (first, second) for key in keys):
        return None
    if not all(np.array_equal(first[key], second[key]) for key in ("captions", "ids", "b_to_a")):
        return None
    ranks = (np.asarray(first["rank_ba"]), np.asarray(second["rank_ba"]))
    right = (ranks[0] == 0, ranks[1] == 0)
    asked = ranks[0] >= 0  # negative: repeats an earlier caption
    own = np.asarray(first["b_to_a"])
    queries = []
    for mine, other in ((0, 1), (1, 0)):
        only = np.flatnonzero(right[mine] & ~right[other])
        only = only[np.argsort(-ranks[other][only], kind="stable")]
        _, fresh = np.unique(own[only], return_index=True)
        queries.append(only[np.sort(fresh)][:most])
    if not sum(map(len, queries)):
        return None
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    both, none = int((right[0] & right[1]).sum()), int((asked & ~right[0] & ~right[1]).sum())
    return Disagreements(
        methods,
        (both, only_first, only_second, none),
        (queries[0], queries[1]),
        (np.asarray(first["top"]), np.asarray(second["top"])),
        ranks,
        first["captions"],
        first["ids"],
        own,
        (_marks(first, own), _marks(second, own)),
    )


def _marks(found: Mapping[str, np.ndarray], own: np.ndarray) -> np.ndarray:
    """Which answers are right; older runs have no such array and one right item per caption."""
    return np.asarray(found["right"]) if "right" in found else np.asarray(found["top"]) == own[:, None]


def disagreements_html(
    found: Disagreements, *, images: Images | None = None, names: tuple[str, str] = ("a", "b")
) -> str:
    """The captions with the answers of both methods, as Markup.

    Args:
      found: what to show.
      images: source of the pictures; None for data without pictures: an item shows its first caption.
      names: of the two modalities; items belong to the first, captions to the second.

    Returns:
      An HTML fragment for `section`.
    """
    queries = np.concatenate(found.queries)
    shown = sorted({int(i) for top in found.top for i in top[queries].ravel()} | {int(i) for i in found.own[queries]})
    texts = None
    if images is None:
        first_caption = {int(item): str(found.captions[k]) for k, item in reversed(list(enumerate(found.own)))}
        texts = {item: first_caption[item] for item in shown if item in first_caption}
    gallery = Gallery(
        captions=[str(found.captions[q]) for q in queries],
        ids=[str(name) for name in found.ids],
        top=np.concatenate([top[queries] for top in found.top], axis=1),
        own=found.own[queries],
        images=None if images is None else images(shown),
        item_captions=texts,
    ).with_pictures_encoded()
    both, only_first, only_second, none = found.counts
    first, second = found.methods
    summary = (
        f"Of {sum(found.counts)} {names[1]} queries both methods rank the right {names[0]} first in {both}, only "
        f"{first} in {only_first}, only {second} in {only_second}, neither in {none}. Below: those with the worst "
        "rank in the other method, from one seed. Examples, not evidence."
    )
    if images is None:
        summary += f" The data has no pictures: each {names[0]} is shown by one of its own captions."
    blocks = [paragraph(summary)]
    for which, method in enumerate(found.methods):
        if len(found.queries[which]):
            blocks.append(macros("blocks.html").heading(f"Only {method} is right"))
            blocks += [_query(found, gallery, int(query)) for query in found.queries[which]]
    return joined(blocks)


def _query(found: Disagreements, gallery: Gallery, query: int) -> str:
    own = int(found.own[query])
    methods = []
    for method, top, marks, ranks in zip(found.methods, found.top, found.marks, found.ranks, strict=True):
        items, right = [int(item) for item in top[query]], marks[query].tolist()
        rank = int(ranks[query]) + 1
        kind, mark = ("hit", "✓") if rank == 1 else ("miss", "✗")
        answers = [
            answer_figure(gallery, item, f"{place}. ✓" if hit else f"{place}. ✗", "hit" if hit else "miss")
            for place, (item, hit) in enumerate(zip(items, right, strict=True), start=1)
        ]
        if not any(right):
            answers.append(answer_figure(gallery, own, "wanted", "wanted"))
        methods.append({"name": method, "kind": kind, "text": f"{mark} right item at rank {rank}", "answers": answers})
    return macros("items.html").compared_query(str(found.captions[query]), methods)
