"""The image tower of every family."""

from __future__ import annotations

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.models.dropout import Dropout
from alignment_jax.models.pretrained.positions import resize_positions
from alignment_jax.models.pretrained.transformer import MLP, Attention, Layers, Numerics, Transformer, dense, layer_norm


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """Sizes and switches of an image tower.

    Attributes:
      layers: the transformer.
      grid, patch: (rows, columns) of patches that the position table holds; (height, width) of a patch in pixels.
      channels: of an image.
      patch_bias: bias of the patch embedding.
      class_token: a learned token before the patches; the position table then has a row for it.
      registers: number of learned tokens between the two, without positions.
      mask_token: the checkpoint holds one (masked patches of DINOv2's training); it is kept, and unused.
      norm_before: a norm before the layers (CLIP).
      norm_tokens: the norm after the layers applies to all tokens; else to the pooled one alone (CLIP).
      pooling: "class": the class token; "attention": a learned query attends to all tokens, then an MLP (SigLIP).
      pooler: width of the dense layer on the class token, 0 for none; it gives `pooled`, not `features` (ViT).
      projection: width of a linear map of `pooled` to `features`, 0 for none.
      antialias: of the position table's resizing.
    """

    layers: Layers
    grid: tuple[int, int]
    patch: tuple[int, int]
    channels: int = 3
    patch_bias: bool = True
    class_token: bool = True
    registers: int = 0
    mask_token: bool = False
    norm_before: bool = False
    norm_tokens: bool = True
    pooling: Literal["class", "attention"] = "class"
    pooler: int = 0
    projection: int = 0
    antialias: bool = False


class AttentionPooling(nn.Module):
    """A learned query attends to all tokens; an MLP with a residual connection follows: [n, T, w] -> [n, w]."""

    layers: Layers
    numerics: Numerics

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        layers, numerics = self.layers, self.numerics
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, layers.width), numerics.param_dtype)
        query = jnp.broadcast_to(probe.astype(numerics.dtype), (tokens.shape[0], 1, layers.width))
        x = Attention(layers.heads, numerics, name="attention")(query, memory=tokens)
        mlp = MLP(layers.hidden, layers.activation, numerics, name="mlp")
        return (x + mlp(layer_norm(layers.epsilon, numerics, name="norm")(x)))[:, 0]


class Patches(nn.Module):
    """A linear map of every whole patch: [n, H, W, channels] -> [n, patches, width], row by row.

    A convolution with the stride of its kernel, as one matrix product: on a CPU the convolution takes up to three
    times as long.
    """

    width: int
    patch: tuple[int, int]
    bias: bool
    numerics: Numerics

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        (height, width), (n, *size, channels) = self.patch, images.shape
        rows, columns = size[0] // height, size[1] // width
        shape, dtypes = (height, width, channels, self.width), self.numerics
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, dtypes.param_dtype)
        whole = images[:, : rows * height, : columns * width].astype(dtypes.dtype)
        patches = whole.reshape(n, rows, height, columns, width, channels).swapaxes(2, 3)
        inputs = height * width * channels
        x = patches.reshape(n * rows * columns, inputs) @ kernel.astype(dtypes.dtype).reshape(inputs, self.width)
        if self.bias:
            x += self.param("bias", nn.initializers.zeros, (self.width,), dtypes.param_dtype).astype(dtypes.dtype)
        return x.reshape(n, rows * columns, self.width)


class ImageTower(nn.Module):
    """Images to vectors.

    Parameters: `patches`, `positions` [1 + rows * columns, width], `class_token` [width], `registers` [r, width],
    `norm_before`, `layers` (see `Transformer`), `norm`, `head`, `pooler`, `projection`, as the checkpoint has them.

    >>> layers = Layers(width=8, depth=1, heads=2, hidden=16)
    >>> tower = ImageTower(ImageSpec(layers, grid=(2, 2), patch=(14, 14)), Numerics())
    >>> images = jnp.zeros((3, 28, 28, 3))
    >>> variables = jax.jit(tower.init)(jax.random.key(0), images)
    >>> {name: value.shape for name, value in jax.jit(tower.apply)(variables, images).items()}
    {'features': (3, 8), 'pooled': (3, 8), 'tokens': (3, 5, 8)}
    """

    spec: ImageSpec
    numerics: Numerics = Numerics()

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of a batch of one."""
        (rows, columns), (height, width) = self.spec.grid, self.spec.patch
        return (jax.ShapeDtypeStruct((1, rows * height, columns * width, self.spec.channels), jnp.float32),)

    @nn.compact
    def __call__(self, images: Array, *, train: bool = False, rows: Array | None = None) -> dict[str, jax.Array]:
        """Encodes images.

        Args:
          images: [n, height, width, channels] floating, normalised as the checkpoint's processor does. Any size that
            holds a patch: the position table is resized, and pixels beyond the last whole patch are ignored.
          train: applies dropout and stochastic depth (needs `rngs={"dropout": key}`).
          rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.

        Returns:
          "tokens": [n, T, width], the last hidden state: class token, registers, patches row by row.
          "pooled": [n, width], transformers' pooler_output; the class token if the checkpoint has no pooler.
          "features": [n, dim], the embedding: `pooled` after the projection; of a ViT the class token.

        Raises:
          ValueError: images of another rank or number of channels, or smaller than a patch.
        """
        spec, numerics = self.spec, self.numerics
        images = jnp.asarray(images)
        if images.ndim != 4 or images.shape[-1] != spec.channels:
            raise ValueError(f"images must be [n, height, width, {spec.channels}], got {images.shape}")
        size = (images.shape[1] // spec.patch[0], images.shape[2] // spec.patch[1])
        if min(size) < 1:
            raise ValueError(f"images must hold a patch of {spec.patch} pixels, got {images.shape}")
        width = spec.layers.width
        x = Patches(width, spec.patch, spec.patch_bias, numerics, name="patches")(images)
        x = self._with_positions(x, size)
        x = Dropout(numerics.dropout)(x, train=train, rows=rows)
        if spec.norm_before:
            x = layer_norm(spec.layers.epsilon, numerics, name="norm_before")(x)
        x = Transformer(spec.layers, numerics, name="layers")(x, train=train, rows=rows)
        norm = layer_norm(spec.layers.epsilon, numerics, name="norm")
        tokens = norm(x) if spec.norm_tokens else x
        if spec.pooling == "attention":
            features = pooled = AttentionPooling(spec.layers, numerics, name="head")(tokens)
        else:
            features = pooled = tokens[:, 0] if spec.norm_tokens else norm(tokens[:, 0])
        if spec.pooler:
            pooled = jnp.tanh(dense(spec.pooler, numerics, name="pooler")(pooled))
        if spec.projection:
            features = dense(spec.projection, numerics, name="projection", bias=False)(pooled)
        return {"tokens": tokens, "pooled": pooled, "features": features}

    def encode_image(self, images: Array, *, train: bool = False, rows: Array | None = None) -> jax.Array:
        """The embeddings [n, dim] alone, float32; arguments as of `__call__`."""
        return self(images, train=train, rows=rows)["features"].astype(jnp.float32)

    def _with_positions(self, x: jax.Array, size: tuple[int, int]) -> jax.Array:
        spec, dtype = self.spec, self.numerics.dtype
        width, extra = spec.layers.width, int(spec.class_token)

        def learned(name: str, *shape: int) -> jax.Array:
            return self.param(name, nn.initializers.normal(0.02), (*shape, width), self.numerics.param_dtype)

        if spec.mask_token:
            learned("mask_token")
        table = learned("positions", extra + spec.grid[0] * spec.grid[1])
        x = x + resize_positions(table[extra:], grid=spec.grid, new=size, antialias=spec.antialias).astype(dtype)
        before = []
        if spec.class_token:
            before.append((learned("class_token") + table[0]).astype(dtype)[None])
        if spec.registers:
            before.append(learned("registers", spec.registers).astype(dtype))
        before = [jnp.broadcast_to(token, (x.shape[0], *token.shape)) for token in before]
        return jnp.concatenate([*before, x], axis=1)
