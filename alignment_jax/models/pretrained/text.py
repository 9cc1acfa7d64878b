"""The text tower of every family."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.core import Array, l2_normalize
from alignment_jax.models.dropout import Dropout
from alignment_jax.models.pretrained.pooling import pool, token_at_end
from alignment_jax.models.pretrained.transformer import Layers, Numerics, Transformer, dense, layer_norm


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """Sizes and switches of a text tower.

    Attributes:
      layers: the transformer.
      vocabulary: number of token ids.
      positions: rows of the position table.
      padding: id of the padding token, which is not attended to; None: without a mask all tokens are (CLIP, SigLIP).
      count_positions: positions count the tokens that are no padding, from padding + 1 (RoBERTa); else 0, 1, ...
      token_types: rows of the token type table, of which the first is used; 0 for none.
      norm_embeddings: a norm after the embeddings (BERT); otherwise a norm after the layers.
      poolings: names of `pooling.POOLINGS`; empty: the token at the end (CLIP, SigLIP).
      end: see `pooling.token_at_end`.
      pooler: the checkpoint has a dense layer with tanh on the first token; it gives `pooled`, not `features`.
      projection, projection_bias: linear map to `features`; 0 for none.
      normalize: features have length one.
    """

    layers: Layers
    vocabulary: int
    positions: int
    padding: int | None = None
    count_positions: bool = False
    token_types: int = 0
    norm_embeddings: bool = False
    poolings: tuple[str, ...] = ()
    end: int | None = None
    pooler: bool = False
    projection: int = 0
    projection_bias: bool = False
    normalize: bool = False

    @property
    def longest(self) -> int:
        """Number of tokens of the longest text."""
        return self.positions - (self.padding + 1 if self.count_positions and self.padding is not None else 0)


class TextTower(nn.Module):
    """Texts to vectors.

    Parameters: `words`, `positions`, `token_types`, `embedding_norm` or `norm`, `layers` (see `Transformer`), `pooler`,
    `projection`, as the checkpoint has them.

    >>> layers = Layers(width=8, depth=1, heads=2, hidden=16, norm="post")
    >>> spec = TextSpec(layers, vocabulary=9, positions=6, padding=0, norm_embeddings=True, poolings=("mean",))
    >>> tower, tokens = TextTower(spec, Numerics()), jnp.array([[2, 5, 3], [2, 3, 0]])
    >>> variables = jax.jit(tower.init)(jax.random.key(0), tokens)
    >>> {name: value.shape for name, value in jax.jit(tower.apply)(variables, tokens).items()}
    {'features': (2, 8), 'pooled': (2, 8), 'tokens': (2, 3, 8)}
    """

    spec: TextSpec
    numerics: Numerics = Numerics()

    def example(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes of a batch of one."""
        return (jax.ShapeDtypeStruct((1, min(2, self.spec.longest)), jnp.int32),)

    @nn.compact
    def __call__(
        self, tokens: Array, mask: Array | None = None, *, train: bool = False, rows: Array | None = None
    ) -> dict[str, jax.Array]:
        """Encodes texts.

        Args:
          tokens: [n, L] int, ids of the checkpoint's tokenizer.
          mask: [n, L] bool, false for padding; None: `tokens != padding` where the family has a padding id, otherwise
            all true.
          train: applies dropout and stochastic depth (needs `rngs={"dropout": key}`).
          rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.

        Returns:
          "tokens": [n, L, width], the last hidden state.
          "pooled": [n, width], transformers' pooler_output; without a pooler as `features`, before the normalisation.
          "features": [n, dim], the embedding: the pooling of the checkpoint's files, or the projection of the token
            at the end.

        Raises:
          ValueError: tokens of another rank, or longer than the position table.
        """
        spec, numerics = self.spec, self.numerics
        tokens = jnp.asarray(tokens)
        if tokens.ndim != 2 or tokens.shape[1] > spec.longest:
            raise ValueError(f"tokens must be [n, at most {spec.longest}], got {tokens.shape}")
        if mask is None and spec.padding is not None:
            mask = tokens != spec.padding
        mask = None if mask is None else jnp.asarray(mask, bool)
        x = Dropout(numerics.dropout)(self._embedded(tokens), train=train, rows=rows)
        x = Transformer(spec.layers, numerics, name="layers")(x, where=mask, train=train, rows=rows)
        if not spec.norm_embeddings:
            x = layer_norm(spec.layers.epsilon, numerics, name="norm")(x)
        if spec.poolings:
            where = jnp.ones(tokens.shape, bool) if mask is None else mask
            features = pooled = pool(x, where, poolings=spec.poolings)
        else:
            features = pooled = token_at_end(x, tokens, end=spec.end)
        if spec.pooler:
            pooled = jnp.tanh(dense(spec.layers.width, numerics, name="pooler")(x[:, 0]))
        if spec.projection:
            projection = dense(spec.projection, numerics, name="projection", bias=spec.projection_bias)
            features = projection(features)
        if spec.normalize:
            features = l2_normalize(features)
        return {"tokens": x, "pooled": pooled, "features": features}

    def encode_text(
        self, tokens: Array, mask: Array | None = None, *, train: bool = False, rows: Array | None = None
    ) -> jax.Array:
        """The embeddings [n, dim] alone, float32; arguments as of `__call__`."""
        return self(tokens, mask, train=train, rows=rows)["features"].astype(jnp.float32)

    def _embedded(self, tokens: jax.Array) -> jax.Array:
        spec, numerics = self.spec, self.numerics
        width = spec.layers.width

        def table(name: str, rows: int) -> jax.Array:
            return self.param(name, nn.initializers.normal(0.02), (rows, width), numerics.param_dtype)

        x = table("words", spec.vocabulary)[tokens]
        if spec.token_types:
            x = x + table("token_types", spec.token_types)[0]
        places = jnp.arange(tokens.shape[1])[None]
        if spec.count_positions:
            counted = tokens != spec.padding
            places = jnp.cumsum(counted, axis=1) * counted + (spec.padding or 0)
        x = (x + table("positions", spec.positions)[places]).astype(numerics.dtype)
        return layer_norm(spec.layers.epsilon, numerics, name="embedding_norm")(x) if spec.norm_embeddings else x
