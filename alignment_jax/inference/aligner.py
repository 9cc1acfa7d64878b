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
from alignment_jax.data.pixel_range import parse_pixel_range
from alignment_jax.inference.exported_encoders import side_encoders
from alignment_jax.inference.query_bank import asked_hubness
from alignment_jax.inference.raw_columns import image_column, text_column
from alignment_jax.inference.trained_model import TrainedModel, open_run

SIDES = {"image": "a", "text": "b"}  # kind of an item -> the side of latents


def load(workdir: Folder) -> Aligner:
    """The best model of a finished run, ready for pictures and texts. Its training data is not needed.

    Args:
      workdir: folder of the run.

    Raises:
      UserError: the folder holds no run, or the run is a classifier.
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
    return Aligner(trained, folder)


class Aligner:
    """Embeds the items of both sides of a run. Made by `alignment_jax.load`.

    Vectors are float32 of length one. Every method that makes vectors takes `hubness`: True for the correction of the
    run ("nnn" where it has none), or a correction such as "csls:k=10". Corrected vectors have two more numbers and no
    unit length; their inner products are the corrected scores of one side's items for the other side's.

    Attributes:
      trained: the model.
      folder: of the run.
    """

    def __init__(self, trained: TrainedModel, folder: pathlib.Path):
        self.trained, self.folder = trained, folder

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
        """The side, "a" or "b", that reads items of this kind: "image" or "text".

        Raises:
          UserError: no side, or both.
        """
        reads = {side: self.trained.reads[side]["kind"] for side in ("a", "b")}
        sides = [side for side, found in reads.items() if found == kind]
        if len(sides) == 1:
            return sides[0]
        if sides:
            raise UserError(f"{self.folder}: both sides of the run read {kind} items; embed a split with .embed(split)")
        raise UserError(
            f"{self.folder}: the run reads {reads['a']} and {reads['b']} items, no {kind} items; embed them with "
            ".embed(split)"
        )

    def embed_images(self, images: Sequence[Any], *, hubness: bool | str = False) -> np.ndarray:
        """Vectors of pictures.

        Args:
          images: n paths, or arrays [H, W] or [H, W, 3] (uint8, or numbers of more bits).
          hubness: see the class.

        Returns:
          float32 [n, d]; with a correction [n, d + 2].

        Raises:
          UserError: the run embeds no pictures.
          DataError: a picture cannot be read.
        """
        setting = str(self.config.input.get("pixel_range", "auto"))
        column = image_column(images, pixel_range=parse_pixel_range(setting))
        return self.embed_column(self.side_of("image"), column, hubness=hubness)

    def embed_texts(self, texts: Sequence[str], *, hubness: bool | str = False) -> np.ndarray:
        """Vectors of n texts: float32 [n, d]; with a correction [n, d + 2].

        Raises:
          UserError: the run embeds no texts.
        """
        return self.embed_column(self.side_of("text"), text_column(texts), hubness=hubness)

    def embed_column(self, side: str, column: data.Column, *, hubness: bool | str = False) -> np.ndarray:
        """Vectors of the items of a column of `alignment_jax.data`, for side "a" or "b"."""
        bank = asked_hubness(self.folder, hubness, step=self.step)
        if not len(column):
            return np.zeros((0, self.dim + 2 * (bank is not None)), np.float32)
        z = self.trained.embed_column(side, column)
        return self.trained.drop_unused(z if bank is None else bank.fold_side(side, z))

    def embed(self, split: data.PairSplit, *, hubness: bool | str = False) -> evals.SplitEmbeddings:
        """Vectors of every item of both sides of a split, in `.a` and `.b`.

        Args:
          split: such as `aj.data.load("pairs:others.csv").splits["all"]`.
          hubness: see the class.

        Raises:
          DataError: the model does not read such items.
        """
        bank = asked_hubness(self.folder, hubness, step=self.step)
        found = self.trained.embed(split)
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
