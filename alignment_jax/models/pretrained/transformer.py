"""The transformer of every family: pre-norm or post-norm blocks, stacked by `nn.scan`."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from alignment_jax.core import Array
from alignment_jax.models.dropout import Dropout, stochastic_depth
from alignment_jax.models.gelu import gelu
from alignment_jax.models.layer_stack import with_transform
from alignment_jax.models.pretrained.backward import LayerNorm, keep_slope
from alignment_jax.models.tuning.names import ABOVE, BELOW, LORA_A, LORA_B

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": keep_slope(gelu),
    "gelu_new": keep_slope(functools.partial(jax.nn.gelu, approximate=True)),
    "gelu_pytorch_tanh": keep_slope(functools.partial(jax.nn.gelu, approximate=True)),
    "quick_gelu": keep_slope(lambda x: x * jax.nn.sigmoid(1.702 * x)),
    "relu": jax.nn.relu,
    "silu": keep_slope(jax.nn.silu),
}


@dataclasses.dataclass(frozen=True)
class Numerics:
    """How a module computes, independent of its checkpoint.

    Attributes:
      dtype: of activations and matrix products; norms, softmax and pooling are accumulated in float32.
      param_dtype: of the parameters.
      remat: recompute each layer in the backward pass: memory of one layer instead of all.
      dropout: rate after the embeddings, the attention and the MLP of each layer, while training.
      stochastic_depth: rate at which the last layer's attention, and its MLP, are left out for a row while training;
        it rises linearly from layer to layer (Huang et al. 2016).
    """

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    remat: bool = False
    dropout: float = 0.0
    stochastic_depth: float = 0.0


@dataclasses.dataclass(frozen=True)
class Layers:
    """Sizes and switches of a stack of layers.

    Attributes:
      width, depth, heads, hidden: width of tokens, number of layers, of attention heads, width inside the MLP.
      norm: "pre" (x + f(norm(x))) or "post" (norm(x + f(x))).
      activation: a key of `ACTIVATIONS`.
      epsilon: of the layer norms.
      qkv_bias: biases of queries, keys and values.
      layer_scale: a learned factor per channel on both branches (DINOv2).
      gated: the MLP is down(activation(gate(x)) * up(x)) (SwiGLU) instead of down(activation(up(x))).
      causal: a token attends to itself and earlier tokens.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    norm: Literal["pre", "post"] = "pre"
    activation: str = "gelu"
    epsilon: float = 1e-6
    qkv_bias: bool = True
    layer_scale: bool = False
    gated: bool = False
    causal: bool = False


class Dense(nn.Dense):
    """x W + bias, plus (x A) B where the parameters hold `lora_a` [in, rank] and `lora_b` [rank, out]."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        # One axis of rows: for the gradient of a kernel XLA copies and transposes arrays with several.
        rows = inputs.reshape(math.prod(inputs.shape[:-1]), inputs.shape[-1])
        y = super().__call__(rows)
        if self.has_variable("params", LORA_A):
            x, a, b = promote_dtype(
                rows, self.get_variable("params", LORA_A), self.get_variable("params", LORA_B), dtype=self.dtype
            )
            y += (x @ a) @ b
        return y.reshape(*inputs.shape[:-1], self.features)


def dense(width: int, numerics: Numerics, *, name: str, bias: bool = True) -> Dense:
    return Dense(width, use_bias=bias, dtype=numerics.dtype, param_dtype=numerics.param_dtype, name=name)


def layer_norm(epsilon: float, numerics: Numerics, *, name: str) -> LayerNorm:
    return LayerNorm(epsilon, dtype=numerics.dtype, param_dtype=numerics.param_dtype, name=name)


class Attention(nn.Module):
    """Multi-head attention of `x` [n, T, width] over `memory` [n, S, width], by default over itself."""

    heads: int
    numerics: Numerics
    qkv_bias: bool = True
    causal: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, memory: jax.Array | None = None, where: Array | None = None) -> jax.Array:
        memory = x if memory is None else memory
        width = x.shape[-1]

        def heads_of(name: str, of: jax.Array) -> jax.Array:
            projected = dense(width, self.numerics, name=name, bias=self.qkv_bias)(of)
            return projected.reshape(*of.shape[:-1], self.heads, width // self.heads)

        # Computed again in the backward pass: the scores of all layers would be the largest arrays of long inputs.
        attend = jax.checkpoint(functools.partial(jax.nn.dot_product_attention, is_causal=self.causal))
        attended = attend(
            heads_of("query", x),
            heads_of("key", memory),
            heads_of("value", memory),
            mask=None if where is None else where[:, None, None, :],
        )
        return dense(width, self.numerics, name="out")(attended.reshape(x.shape))


class MLP(nn.Module):
    """down(activation(up(x))), or down(activation(gate(x)) * up(x))."""

    hidden: int
    activation: str
    numerics: Numerics
    gated: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        activation = ACTIVATIONS[self.activation]
        up = dense(self.hidden, self.numerics, name="up")(x)
        inner = activation(dense(self.hidden, self.numerics, name="gate")(x)) * up if self.gated else activation(up)
        return dense(x.shape[-1], self.numerics, name="down")(inner)


class Block(nn.Module):
    """One layer, in the form that `nn.scan` takes: (x, ...) -> (x, None)."""

    layers: Layers
    numerics: Numerics
    train: bool

    @nn.compact
    def __call__(
        self, x: jax.Array, where: Array | None, rows: Array | None, rate: Array | None
    ) -> tuple[jax.Array, None]:
        layers, numerics = self.layers, self.numerics
        attention = Attention(layers.heads, numerics, layers.qkv_bias, layers.causal, name="attention")
        mlp = MLP(layers.hidden, layers.activation, numerics, layers.gated, name="mlp")
        norm1, norm2 = (layer_norm(layers.epsilon, numerics, name=name) for name in ("norm1", "norm2"))

        def branch(y: jax.Array, scale: str) -> jax.Array:
            if layers.layer_scale:
                factor = self.param(scale, nn.initializers.ones, (layers.width,), numerics.param_dtype)
                y = y * factor.astype(numerics.dtype)
            y = Dropout(numerics.dropout)(y, train=self.train, rows=rows)
            return y if rate is None else stochastic_depth(self.make_rng("dropout"), y, rate=rate, rows=rows)

        if layers.norm == "pre":
            x = x + branch(attention(norm1(x), where=where), "scale1")
            x = x + branch(mlp(norm2(x)), "scale2")
        else:
            x = norm1(x + branch(attention(x, where=where), "scale1"))
            x = norm2(x + branch(mlp(x), "scale2"))
        return x, None


class Transformer(nn.Module):
    """A stack of layers [n, T, width] -> [n, T, width], without a norm at its end.

    Parameters of all layers are stacked along axis 0: "attention/query/kernel" is [depth, width, width]. Rates, masks
    or adapters per layer index that axis. Parameters that `tuning.split_parameters` has cut ("below", "above") are read
    as two stacks, so that no gradient passes through a frozen lower one.

    >>> layers = Layers(width=8, depth=3, heads=2, hidden=16)
    >>> module, tokens = Transformer(layers, Numerics()), jnp.ones((2, 5, 8))
    >>> variables = jax.jit(module.init)(jax.random.key(0), tokens)
    >>> variables["params"]["attention"]["query"]["kernel"].shape
    (3, 8, 8)
    >>> jax.jit(module.apply)(variables, tokens).shape
    (2, 5, 8)
    """

    layers: Layers
    numerics: Numerics

    @nn.compact
    def __call__(
        self, x: jax.Array, *, where: Array | None = None, train: bool = False, rows: Array | None = None
    ) -> jax.Array:
        """Applies all layers.

        Args:
          x: [n, T, width].
          where: [n, T] bool, true for tokens that may be attended to; None means all.
          train: applies dropout and stochastic depth (needs `rngs={"dropout": key}`).
          rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.
        """

        def stack(depth: int, name: str | None = None) -> Any:
            block = with_transform(Block, self.path + ((name,) if name else ()))
            return nn.scan(
                nn.remat(block, prevent_cse=False) if self.numerics.remat else block,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(nn.broadcast, nn.broadcast, 0),
                length=depth,
            )(self.layers, self.numerics, train, name=name)

        depth, last = self.layers.depth, self.numerics.stochastic_depth
        rates = last * jnp.arange(1, depth + 1) / depth if train and last else None
        if not self.has_variable("params", ABOVE):
            scanned = stack(depth)
            nn.share_scope(self, scanned)
            return scanned(x, where, rows, rates)[0]
        first = 0
        for part in (BELOW, ABOVE):
            if self.has_variable("params", part):
                end = first + jax.tree.leaves(self.get_variable("params", part))[0].shape[0]
                x, _ = stack(end - first, part)(x, where, rows, None if rates is None else rates[first:end])
                first = end
        return x
