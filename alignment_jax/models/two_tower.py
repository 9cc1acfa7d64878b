"""Two encoders trained from scratch, one per modality."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, ConfigError, l2_normalize
from alignment_jax.models.masking import zero_padded_rows
from alignment_jax.models.temperature import LogitScale

PROJECTIONS = ("linear", "affine", "none")


class TwoTower(nn.Module):
    """encoder, linear map to the shared dimension or none, L2 normalisation, on each side.

    By convention `a` is the image: uint8 [n, H, W, 3], scaled to [-1, 1] on the device; and `b` the text: token ids
    int32 [n, L], 0 for padding. Any pair of encoders works, such as audio and images.

    Parameters: `encoder_a`, `encoder_b`, `project_a`, `project_b`, `logit_scale`; collection "batch_stats" if an
    encoder uses batch norm; training must make it mutable.

    Attributes:
      encoder_a, encoder_b: modules `(x, *, train, rows, where) -> features [n, width]`;
        `alignment_jax.models.build_encoder` makes them by name.
      dim: shared dimension.
      projection: "linear"; "affine", of features of length one and with a bias, which CCA can start; or "none" for two
        encoders in one space, as both towers of CLIP.
      temperature, temperature_min, temperature_max, learned_temperature, learned_bias, bias_init: see `LogitScale`.

    >>> from alignment_jax.models.encoders import ConvNet, LSTM
    >>> model = TwoTower(ConvNet(widths=(8,)), LSTM(vocab_size=10, embedding_width=4, width=8), dim=4)
    >>> images, tokens = jnp.zeros((2, 8, 8, 3), jnp.uint8), jnp.array([[3, 4, 0], [5, 0, 0]])
    >>> variables = model.init(jax.random.key(0), images, tokens)
    >>> model.apply(variables, images, tokens)["b"].shape
    (2, 4)
    """

    encoder_a: nn.Module
    encoder_b: nn.Module
    dim: int = 128
    projection: str = "linear"
    temperature: float = 0.07
    temperature_min: float = 0.001
    temperature_max: float = 0.5
    learned_temperature: bool = True
    learned_bias: bool = False
    bias_init: float = -10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection not in PROJECTIONS:
            raise ConfigError(f"projection must be one of {', '.join(PROJECTIONS)}, got {self.projection!r}")

    def setup(self) -> None:
        if self.projection != "none":
            self.project_a = nn.Dense(self.dim, use_bias=self.projection == "affine")
            self.project_b = nn.Dense(self.dim, use_bias=self.projection == "affine")
        self.logit_scale = LogitScale(
            temperature=self.temperature,
            temperature_min=self.temperature_min,
            temperature_max=self.temperature_max,
            learned_temperature=self.learned_temperature,
            learned_bias=self.learned_bias,
            bias_init=self.bias_init,
        )

    def __call__(
        self,
        a: Array,
        b: Array,
        *,
        train: bool = False,
        rows: Array | None = None,
        where: Array | None = None,
        perturb: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]] | None = None,
    ) -> dict[str, jax.Array]:
        """Embeddings of a batch of pairs.

        Args:
          a: [n, ...], input of `encoder_a`.
          b: [n, ...], input of `encoder_b`.
          train: applies dropout (needs `rngs={"dropout": key}`) and the batch's own statistics in batch norm.
          rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.
          where: [n] bool, false for padding; None means all true.
          perturb: (features of a, features of b) -> the same, changed; before the projections. None for no change.

        Returns:
          {"a": [n, dim], "b": [n, dim], "temperature": scalar, "bias": scalar}, float32, rows of length one.
        """
        temperature, bias = self.logit_scale()
        features = [self._features(side, x, train, rows, where) for side, x in (("a", a), ("b", b))]
        if perturb is not None:
            features = list(perturb(*features))
        za, zb = (self._projected(side, x) for side, x in zip("ab", features, strict=True))
        if za.shape[1] != zb.shape[1]:
            raise ConfigError(
                f"the encoders give {za.shape[1]} and {zb.shape[1]} dimensions; set model.projection=linear"
            )
        return {"a": za, "b": zb, "temperature": temperature, "bias": bias}

    def encode_a(self, a: Array) -> jax.Array:
        """Embeddings [n, dim] of `a`, as in evaluation."""
        return self._projected("a", self._features("a", a, False, None, None))

    def encode_b(self, b: Array) -> jax.Array:
        """Embeddings [n, dim] of `b`, as in evaluation."""
        return self._projected("b", self._features("b", b, False, None, None))

    def _features(self, side: str, x: Array, train: bool, rows: Array | None, where: Array | None) -> jax.Array:
        encoder = self.encoder_a if side == "a" else self.encoder_b
        features = encoder(zero_padded_rows(x, where), train=train, rows=rows, where=where)
        return features.astype(jnp.float32)  # the output is divided by a temperature as small as 0.001

    def _projected(self, side: str, features: jax.Array) -> jax.Array:
        if self.projection == "affine":
            features = l2_normalize(features)
        if self.projection != "none":
            features = (self.project_a if side == "a" else self.project_b)(features)
        return l2_normalize(features)
