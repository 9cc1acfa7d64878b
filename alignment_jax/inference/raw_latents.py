"""Raw pictures and texts for a run on latents: the frozen encoders that made its latents, opened by their records."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from alignment_jax import data, extract
from alignment_jax.assembly.saved_run import ENCODERS, Folder, read_run_config, read_signature, run_folder
from alignment_jax.core.errors import DataError, UserError
from alignment_jax.data.pixel_range import format_pixel_range, in_range
from alignment_jax.extract.item_count import ItemCount, OnProgress, no_progress

KINDS = {"a": "image", "b": "text"}  # side of latents -> kind of the items that they were made of
LATENTS = "embedding"
_BATCH = 64
_FEW = 4  # queries, which are encoded at once
Given = str | extract.Encoder | None


@dataclasses.dataclass
class FrozenEncoders:
    """The encoders of a run on latents, each opened on its first use. Made by `frozen_encoders`.

    Attributes:
      folder: of the run.
      reads: kind and shape of an item of each side.
      records: side -> record of its encoder, see `PairSource.encoders`.
      mean_views: the run averages the vectors of the views of an image.
      run_pixel_range: `input.pixel_range` of the run.
      given: side -> encoder, or where it is now; None for the record's.
      device, download: see `extract.Options`.
    """

    folder: pathlib.Path
    reads: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]
    mean_views: bool
    run_pixel_range: str
    given: Mapping[str, Given]
    device: str = "auto"
    download: bool = False
    _opened: dict[str, extract.Encoder] = dataclasses.field(default_factory=dict)

    def encodes(self, side: str, column: data.Column) -> bool:
        """Whether the items are raw ones of a side that reads latents."""
        return self.reads[side]["kind"] == LATENTS and column.kind == KINDS[side]

    def encoder(self, side: str) -> extract.Encoder:
        """The encoder of side "a" or "b".

        Raises:
          UserError: the run has no record of it, it is missing, or it has changed.
        """
        if side not in self._opened:
            self._opened[side] = self._open(side)
            for note in self._opened[side].notes:
                warnings.warn(note, stacklevel=2)
        return self._opened[side]

    def _open(self, side: str) -> extract.Encoder:
        kind, given, record = KINDS[side], self.given.get(side), self.records.get(side)
        if isinstance(given, extract.Encoder):
            return given
        by_hand = f"--{kind}_encoder=hf:NAME_OR_PATH, or alignment_jax.load(workdir, {kind}_encoder=...)"
        where: dict[str, Any] = {"device": self.device, "download": self.download}
        if record is not None:
            try:
                return extract.reopen(record, side=kind, name=given, **where)
            except UserError as error:
                moved = "" if given else f"; if it is in another place, name that: {by_hand}"
                raise type(error)(f"{error}{moved}") from error
        if given is None:
            raise UserError(
                f"{self.folder}: the run reads latents, and no record tells which encoder made those of its {kind}s; "
                f"name it: {by_hand}"
            )
        return extract.open_encoder(given, side=kind, options=extract.Options(**where))

    def pixel_range(self, side: str) -> str:
        """The range of pictures of more than eight bits, as `input.pixel_range`: of the latents, or of the run."""
        found = self.records.get(side, {}).get("pixel_range")
        if found:
            return format_pixel_range(tuple(found))
        return "auto" if self.reads[side]["kind"] == LATENTS else self.run_pixel_range

    def column(self, side: str, column: data.Column, *, on_progress: OnProgress = no_progress) -> data.Column:
        """The latents of a column, float32; a column that the side reads already is returned unchanged.

        Raises:
          UserError: see `encoder`.
          DataError: the latents have another width than the run reads, or are not finite.
        """
        if not self.encodes(side, column):
            return column
        encoder, record = self.encoder(side), self.records.get(side, {})
        names: tuple[str, ...] = ()
        if side == "a":
            column = in_range(column, self.pixel_range(side))
            names = tuple(sorted(record.get("views", ()))) if self.mean_views else ()
        latents = self._encoded(side, column, encoder, names, on_progress)
        wanted = self.reads[side]["shape"]
        if list(latents.shape[2:]) != wanted:
            raise DataError(
                f"{encoder.identity['name']} makes latents of {latents.shape[2]} numbers, but the run in "
                f"{self.folder} reads {wanted[0]}; name the encoder that made its {KINDS[side]} latents with "
                f"--{KINDS[side]}_encoder"
            )
        bad = np.flatnonzero(~np.isfinite(latents).all(axis=(0, 2)))
        if bad.size:
            raise DataError(f"{column.describe(int(bad[0]))}: its latent is not finite; the encoder fails on this item")
        return data.ArrayColumn(latents[0], name=f"{KINDS[side]} latents", views=tuple(latents[1:]))

    def _encoded(
        self, side: str, column: data.Column, encoder: extract.Encoder, views: tuple[str, ...], on_progress: OnProgress
    ) -> np.ndarray:
        """Latents float32 [1 + views, n, width]."""
        count, kind = len(column), KINDS[side]
        if side == "b" and count <= _FEW:
            return np.asarray(encoder.encode(column.read(np.arange(count))), np.float32)[None]

        items = ItemCount({kind: count}, on_progress)
        more = functools.partial(items.encoded, kind)
        if side == "b":
            return extract.encode_texts(column, encoder, on_batch=more).astype(np.float32)[None]
        # A power of two, so that pictures of any number share few compiled programs.
        size = min(_BATCH, 1 << (count - 1).bit_length())
        found = extract.encode_images(column, encoder, views=views, batch_size=size, on_batch=more)
        return np.stack([found[name] for name in ("image", *views)]).astype(np.float32)

    def split(self, split: data.PairSplit, *, on_progress: OnProgress = no_progress) -> data.PairSplit:
        """The split with latents in place of raw items; its duplicates are those of the raw items."""
        columns = {side: getattr(split, side) for side in KINDS if self.encodes(side, getattr(split, side))}
        if not columns:
            return split
        encoded: dict[str, Any] = {
            side: self.column(side, column, on_progress=on_progress) for side, column in columns.items()
        }
        if "b" in columns:
            encoded["extra_b"] = {**split.extra_b, "caption": columns["b"]}
        return split.replace(**encoded, original=split.original or split)

    def source(
        self, source: data.PairSource, *, only: str = "", on_progress: OnProgress = no_progress
    ) -> data.PairSource:
        """The data set with latents in place of raw items; the same object where there are none.

        Args:
          source: any data set.
          only: leave out the other splits where it has this one.
          on_progress: called after every batch of an encoder.
        """
        first = next(iter(source.splits.values()))
        raw = [side for side in KINDS if self.encodes(side, getattr(first, side))]
        if not raw:
            return source
        for side in raw:  # before the first image is encoded, which may take hours
            try:
                self.encoder(side)
            except UserError as error:
                raise type(error)(f"{source.spec} holds {KINDS[side]} items: {error}") from error
        ranged, _ = data.with_pixel_range(source)
        splits = {only: ranged.splits[only]} if only in ranged.splits else ranged.splits
        total = {KINDS[side]: sum(len(getattr(split, side)) for split in splits.values()) for side in KINDS}
        before, encoded = dict.fromkeys(total, 0), {}

        def count(kind: str, done: int, of: int, new: bool) -> None:
            on_progress(kind, before[kind] + done, total[kind], new)

        for name, split in splits.items():
            encoded[name] = self.split(split, on_progress=count)
            before = {KINDS[side]: before[KINDS[side]] + len(getattr(split, side)) for side in KINDS}
        return dataclasses.replace(source, splits=encoded)


def frozen_encoders(
    workdir: Folder,
    *,
    image_encoder: Given = None,
    text_encoder: Given = None,
    device: str = "auto",
    download: bool = False,
) -> FrozenEncoders:
    """The encoders of a run; nothing is opened yet.

    Args:
      workdir: of the run.
      image_encoder, text_encoder: an encoder, or its name as for `extract.open_encoder`; None for the run's record.
      device, download: see `extract.Options`.

    Raises:
      UserError: the folder holds no run, or an encoder is named for a side that does not read latents.
    """
    folder = run_folder(workdir)
    config, reads = read_run_config(folder), read_signature(folder)
    given = {"a": image_encoder, "b": text_encoder}
    for side, encoder in given.items():
        if encoder is not None and reads[side]["kind"] != LATENTS:
            raise UserError(
                f"{folder}: the run reads {reads[side]['kind']} items and no latents; leave out {KINDS[side]}_encoder"
            )
    return FrozenEncoders(
        folder,
        reads,
        reads.get(ENCODERS, {}),
        mean_views=config.eval.get("views", "first") == "mean",
        run_pixel_range=str(config.input.get("pixel_range", "auto")),
        given=given,
        device=device,
        download=download,
    )
