"""`alignment_jax.load`: a trained run as an object that turns pictures and texts into vectors."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alignment_jax import data, evals
from alignment_jax.assembly.saved_run import Folder, run_folder
from alignment_jax.assembly.tasks import task_of
from alignment_jax.core.errors import UserError
from alignment_jax.data.pixel_range import in_range, parse_pixel_range
from alignment_jax.inference.exported_encoders import side_encoders
from alignment_jax.inference.query_bank import asked_hubness
from alignment_jax.inference.raw_columns import image_column, text_column
from alignment_jax.inference.raw_latents import KINDS, LATENTS, FrozenEncoders, Given, frozen_encoders
from alignment_jax.inference.trained_model import TrainedModel, open_run


def load(
    workdir: Folder,
    *,
    image_encoder: Given = None,
    text_encoder: Given = None,
    device: str = "auto",
    download: bool = False,
) -> Aligner:
    """The best model of a finished run, ready for pictures and texts. Its training data is not needed.

    A run on latents encodes pictures and texts with the frozen encoders that made its latents; each is opened on its
    first use.

    Args:
      workdir: folder of the run.
      image_encoder, text_encoder: of a run on latents: an `extract.Encoder`, or its name, such as
        "hf:facebook/dinov2-base"; None for the one that the run recorded.
      device, download: of encoders, see `extract.Options`.

    Raises:
      UserError: the folder holds no run, the run is a classifier, or it reads no latents and an encoder is named.
      RunError: its checkpoint is missing or damaged.

    Example:
      `aj.load("runs/mine").embed_texts(["a dog on the beach"])`
    """
    folder = run_folder(workdir)
    trained = open_run(folder)
    if not task_of(trained.config.model).aligns:
        raise UserError(
            f"{folder}: a run of model {trained.config.model.name} classifies and has no vectors of two sides; load a "
            "run of adapters or two_tower"
        )
    encoders = frozen_encoders(
        folder, image_encoder=image_encoder, text_encoder=text_encoder, device=device, download=download
    )
    return Aligner(trained, folder, encoders)


class Aligner:
    """Embeds the items of both sides of a run. Made by `alignment_jax.load`.

    Vectors are float32 of length one. Every method that makes vectors takes `hubness`: True for the correction of the
    run ("nnn" where it has none), or a correction such as "csls:k=10". Corrected vectors have two more numbers and no
    unit length; their inner products are the corrected scores of one side's items for the other side's.

    Attributes:
      trained: the model.
      folder: of the run.
      encoders: of a run on latents.
    """

    def __init__(self, trained: TrainedModel, folder: pathlib.Path, encoders: FrozenEncoders):
        self.trained, self.folder, self.encoders = trained, folder, encoders

    @property
    def config(self) -> ConfigDict:
        """The settings of the run."""
        return self.trained.config

    @property
    def step(self) -> int:
        """The training step of the best checkpoint."""
        return self.trained.step

    @functools.cached_property
    def dim(self) -> int:
        """The number of dimensions of a vector, without hubness correction."""
        return side_encoders(self.trained)["a"].dim

    def side_of(self, kind: str) -> str:
        """The side, "a" or "b", that embeds items of this kind: "image" or "text".

        Raises:
          UserError: no side, or both.
        """
        reads = {side: self.trained.reads[side]["kind"] for side in KINDS}
        sides = [side for side, found in reads.items() if kind in (found, KINDS[side] if found == LATENTS else "")]
        if len(sides) == 1:
            return sides[0]
        what = f"both sides of the run read {kind} items" if sides else f"the run reads {reads['a']} and {reads['b']}"
        raise UserError(f"{self.folder}: {what}; embed a split with .embed(split)")

    def embed_images(self, images: Sequence[Any], *, hubness: bool | str = False) -> np.ndarray:
        """Vectors of pictures.

        Args:
          images: n paths, or arrays [H, W] or [H, W, 3] (uint8, or numbers of more bits).
          hubness: see the class.

        Returns:
          float32 [n, d]; with a correction [n, d + 2].

        Raises:
          UserError: the run embeds no pictures, or its encoder is not recorded, missing or changed.
          DataError: a picture cannot be read.
        """
        side = self.side_of("image")
        pixel_range = parse_pixel_range(self.encoders.pixel_range(side))
        return self.embed_column(side, image_column(images, pixel_range=pixel_range), hubness=hubness)

    def embed_texts(self, texts: Sequence[str], *, hubness: bool | str = False) -> np.ndarray:
        """Vectors of n texts: float32 [n, d]; with a correction [n, d + 2].

        Raises:
          UserError: the run embeds no texts, or its encoder is not recorded, missing or changed.
        """
        return self.embed_column(self.side_of("text"), text_column(texts), hubness=hubness)

    def embed_column(self, side: str, column: data.Column, *, hubness: bool | str = False) -> np.ndarray:
        """Vectors of the items of a column of `alignment_jax.data`, for side "a" or "b"."""
        bank = asked_hubness(self.folder, hubness, step=self.step)
        if not len(column):
            return np.zeros((0, self.dim + 2 * (bank is not None)), np.float32)
        z = self.trained.embed_column(side, self.encoders.column(side, column))
        return self.trained.drop_unused(z if bank is None else bank.fold_side(side, z))

    def with_pixel_range(self, side: str, column: data.Column) -> data.Column:
        """The column with one range for its pictures of more than eight bits, before it is embedded in parts."""
        return in_range(column, self.encoders.pixel_range(side))

    def embed(self, split: data.PairSplit, *, hubness: bool | str = False) -> evals.SplitEmbeddings:
        """Vectors of every item of both sides of a split, in `.a` and `.b`.

        Args:
          split: such as `aj.data.load("pairs:others.csv").splits["all"]`.
          hubness: see the class.

        Raises:
          DataError: the model does not read such items.
        """
        bank = asked_hubness(self.folder, hubness, step=self.step)
        found = self.trained.embed(self.encoders.split(split))
        found = found if bank is None else bank.fold(found)
        a, b = (self.trained.drop_unused(z) for z in (found.a, found.b))
        return evals.SplitEmbeddings(a, b, found.b_to_a, found.ids_a, found.ids_b)

    @staticmethod
    def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Inner products of vectors: cosines, or corrected scores of vectors with hubness correction.

        Args:
          a: [n, d], or one vector [d].
          b: [m, d], or one vector [d].

        Returns:
          float32 [n, m], without the axis of a single vector.

        Raises:
          UserError: the widths differ.

        >>> Aligner.similarity(np.eye(2, 3, dtype=np.float32), np.ones((1, 3), np.float32)).tolist()
        [[1.0], [1.0]]
        """
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        if a.ndim not in (1, 2) or b.ndim not in (1, 2) or a.shape[-1] != b.shape[-1]:
            raise UserError(f"similarity: vectors [n, d] and [m, d] of one width are needed, got {a.shape}, {b.shape}")
        return a @ b.T
