"""Both towers of a checkpoint, with its logit scale and bias."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, l2_normalize
from alignment_jax.models.pretrained.text import TextTower
from alignment_jax.models.pretrained.vision import ImageTower


class ImageText(nn.Module):
    """CLIP and SigLIP: an image tower, a text tower, a scale and perhaps a bias of the logits.

    logits = exp(logit_scale) * image features @ text features.T + logit_bias, with features of length one.

    Parameters: `image` (see `ImageTower`), `text` (see `TextTower`), `logit_scale` [], `logit_bias` [].

    Attributes:
      image, text: the towers; either can be used alone with its part of the parameters.
      logit_bias: whether there is one (SigLIP).
    """

    image: ImageTower
    text: TextTower
    logit_bias: bool = False

    def setup(self) -> None:
        param_dtype = self.image.numerics.param_dtype
        self._scale = self.param("logit_scale", nn.initializers.constant(jnp.log(1 / 0.07)), (), param_dtype)
        if self.logit_bias:
            self._bias = self.param("logit_bias", nn.initializers.constant(-10.0), (), param_dtype)

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of a batch of one."""
        return (*self.image.example(), *self.text.example())

    def __call__(
        self,
        images: Array,
        tokens: Array,
        mask: Array | None = None,
        *,
        train: bool = False,
        rows: Array | None = None,
    ) -> dict[str, jax.Array]:
        """Embeddings of a batch of pairs, in the form that `models.TwoTower` gives.

        Args:
          images, tokens, mask, train, rows: see the towers.

        Returns:
          {"a": [n, dim], "b": [n, dim], "temperature": scalar, "bias": scalar}, float32; rows of length one, `a` the
          images; logits = a @ b.T / temperature + bias.
        """
        scale, bias = self.logit_scale_and_bias()
        return {
            "a": l2_normalize(self.encode_image(images, train=train, rows=rows)),
            "b": l2_normalize(self.encode_text(tokens, mask, train=train, rows=rows)),
            "temperature": 1.0 / scale,
            "bias": bias,
        }

    def encode_image(self, images: Array, *, train: bool = False, rows: Array | None = None) -> jax.Array:
        """Embeddings [n, dim] of images, not normalised, float32."""
        return self.image.encode_image(images, train=train, rows=rows)

    def encode_text(
        self, tokens: Array, mask: Array | None = None, *, train: bool = False, rows: Array | None = None
    ) -> jax.Array:
        """Embeddings [n, dim] of texts, not normalised, float32."""
        return self.text.encode_text(tokens, mask, train=train, rows=rows)

    def logit_scale_and_bias(self) -> tuple[jax.Array, jax.Array]:
        """(exp(logit_scale), logit_bias), float32 scalars; the bias is 0 where the checkpoint has none."""
        scale = jnp.exp(self._scale.astype(jnp.float32))
        return scale, self._bias.astype(jnp.float32) if self.logit_bias else jnp.float32(0.0)
