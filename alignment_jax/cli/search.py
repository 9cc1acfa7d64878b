"""`alignment-jax search`: the pictures or texts that are most similar to a phrase or a picture."""

from __future__ import annotations

import pathlib
import re
import sys
import time
from collections.abc import Sequence

import numpy as np
from absl import flags

from alignment_jax import data, report
from alignment_jax.cli import common
from alignment_jax.cli.encoder_flags import define_encoders, encoder_options
from alignment_jax.cli.hubness_flag import define_hubness, hubness_of_flag_or_run
from alignment_jax.core.errors import UserError, one_line
from alignment_jax.inference.aligner import Aligner, load
from alignment_jax.inference.open_index import PICTURE_SIDE, Collection, open_collection, with_hubness
from alignment_jax.inference.raw_columns import image_column
from alignment_jax.inference.search_index import Hit, SearchIndex

WORDS = "phrase"  # the flag of the words without a flag
_FIND = {"image": "a", "text": "b", "a": "a", "b": "b"}
_QUIET_SECONDS = 2.0  # between two lines of progress
_MANY, _SLOW_SECONDS = 100, 10.0  # items, and time to embed them, from which on a hint pays
_WIDTH = 70  # characters of a text in the terminal


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    del arguments
    values.set_gnu_getopt(True)  # the phrase may come before the flags
    common.define_workdir(values, "Folder or URL of a run.")
    text = flags.DEFINE_string
    text(WORDS, None, "The words to search for; --phrase itself may be left out.", flag_values=values)
    text("image", None, "A picture to search for, in place of a phrase.", flag_values=values)
    about = (
        "What to search: an .npz file or a folder that embed wrote, a folder of pictures, or a SPEC of data; by "
        "default the data of the run."
    )
    text("in", None, about, flag_values=values)
    about = "Search image or text (a or b of other runs); by default the side that the query is not of, or images."
    flags.DEFINE_enum("find", None, list(_FIND), about, flag_values=values)
    flags.DEFINE_integer("top", 10, "Number of results.", lower_bound=1, flag_values=values)
    text("page", None, "Also write the results with pictures to this HTML file.", flag_values=values)
    about = "Folder that the names of the items are relative to, for the pictures of --page."
    text("images", None, about, flag_values=values)
    define_encoders(values)
    define_hubness(values, "Correct hubs; by default as the run does.")
    common.define_on_bad_sample(values, default=None)


def run(values: flags.FlagValues) -> int:
    phrase, picture = str(values[WORDS].value or ""), str(values["image"].value or "")
    if bool(phrase) == bool(picture):
        raise UserError('give a phrase or a picture: search --workdir=DIR "a dog on the beach", or --image=FILE')
    page = _page(values)
    folder = common.workdir(values)
    aligner = load(folder, **encoder_options(values))
    side = aligner.side_of("text" if phrase else "image")
    collection = open_collection(
        aligner,
        values["in"].value,
        pictures=values["images"].value,
        on_bad_sample=values["on_bad_sample"].value,
    )
    target = _target(values, side, collection)
    query = aligner.embed_texts([phrase])[0] if phrase else aligner.embed_images([picture])[0]
    for line in collection.notes:
        print(one_line(line))
    index = _with_hubness(values, folder, aligner, _embedded(values, collection, target), crosses=target != side)
    hits = index.search(query, side=side, top=int(values["top"].value or 1))
    summary = _summary(index, len(hits), crosses=target != side)
    print(f"{_asked(phrase, picture)}: {summary}")
    print(report.to_plain(_table(hits, "image" if target == "a" else "text")))
    if page is not None:
        report.write_hits_page(
            page,
            query=phrase or pathlib.Path(picture).name,
            query_picture=None if phrase else _pixels(picture),
            hits=_shown(index, hits),
            # Not the folders of this machine: pages are passed on.
            subtitle=[re.sub(r"[~/][^,\s]*/", "", summary), f"run {folder.name}"],
        )
        print(f"page: {page}")
    return 0


def _page(values: flags.FlagValues) -> pathlib.Path | None:
    """--page, checked before anything is computed."""
    if not values["page"].value:
        return None
    page = pathlib.Path(values["page"].value).expanduser()
    if page.suffix.lower() not in (".html", ".htm") or not page.absolute().parent.is_dir():
        raise UserError(f"--page={page}: it must end in .html, in a folder that exists")
    return page


def _target(values: flags.FlagValues, side: str, collection: Collection) -> str:
    """The side to search."""
    asked = values["find"].value
    if asked is None:
        other = "b" if side == "a" else "a"
        preferred = "a" if values["image"].value else other
        return preferred if preferred in collection.sides else collection.sides[0]
    if _FIND[asked] not in collection.sides:
        has = " and ".join(collection.sides)
        raise UserError(f"--find={asked}: there are only items of side {has} in --in={values['in'].value}")
    return _FIND[asked]


def _embedded(values: flags.FlagValues, collection: Collection, side: str) -> SearchIndex:
    """The items of a side; shows how many are embedded."""
    workdir, where = values["workdir"].value, values["in"].value
    spec = "" if where is None else f"--data=images:{where} " if pathlib.Path(where).is_dir() else f"--data={where} "
    start = shown = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done and (done == total or now - shown >= _QUIET_SECONDS) and now - start >= _QUIET_SECONDS:
            shown = now
            print(f"{done} of {total} embedded, {done / (now - start):.1f} a second", file=sys.stderr, flush=True)

    index = collection.index(side, show)
    if len(index) >= _MANY and (seconds := time.monotonic() - start) >= _SLOW_SECONDS:
        print(
            one_line(
                f"embedding took {report.format_seconds(seconds)}; to keep the vectors: alignment-jax embed "
                f"--workdir={workdir} {spec}--out=FILE.npz, then search --in=FILE.npz"
            )
        )
    return index


def _with_hubness(
    values: flags.FlagValues, folder: pathlib.Path, aligner: Aligner, index: SearchIndex, *, crosses: bool
) -> SearchIndex:
    if not crosses:  # the bias of an item is that for queries of the other side
        return index
    if values["hubness"].value is None and index.bias is not None:
        return index
    found, warning = hubness_of_flag_or_run(values, folder, aligner.trained)
    if warning:
        print(warning)
    return with_hubness(aligner, index, found)


def _asked(phrase: str, picture: str) -> str:
    return one_line(f'"{phrase}"' if phrase else f"picture {picture}")


def _summary(index: SearchIndex, count: int, *, crosses: bool) -> str:
    """As in "10 of 1,000 images of photos.npz, by cosine"."""
    kind = "images" if index.side == "a" else "texts"
    score = f"cosine corrected for hubs ({index.correction})" if index.bias is not None and crosses else "cosine"
    return one_line(f"{count} of {len(index):,} {kind} of {index.origin}, by {score}")


def _table(hits: Sequence[Hit], kind: str) -> report.Table:
    with_captions = any(hit.caption for hit in hits)
    rows = [
        [report.Cell(str(rank), rank), report.Cell(f"{hit.score:.4f}", hit.score), _cut(hit.name)]
        + ([_cut(hit.caption)] if with_captions else [])
        for rank, hit in enumerate(hits, start=1)
    ]
    return report.table(["rank", "score", kind, *(["caption" if kind == "image" else "image"] * with_captions)], rows)


def _cut(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


def _shown(index: SearchIndex, hits: Sequence[Hit]) -> list[report.ShownHit]:
    found = {} if index.pictures is None else index.pictures([hit.row for hit in hits])
    return [report.ShownHit(hit.name, hit.score, hit.caption, found.get(hit.row)) for hit in hits]


def _pixels(picture: str) -> np.ndarray:
    read = data.small_images(image_column([picture]), side=PICTURE_SIDE)
    assert read is not None
    return read([0])[0]
