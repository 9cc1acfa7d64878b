"""Classifier with one head per modality and one on their fusion."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alignment_jax.balance import confidence, confidence_fusion
from alignment_jax.core import Array, ConfigError
from alignment_jax.models.masking import zero_padded_rows

CONFIDENCE = "confidence"
FUSIONS = ("concat", "sum", "gated", CONFIDENCE)  # the last one fuses decisions, the others features
MODALITIES = ("a", "b", "c")
FUSED = "fused"
_CLOSED = -1e9  # the score of the gate of a missing modality


class Fusion(nn.Module):
    """One vector from the modalities' features h_m [n, width_m], by name.

    "concat": the features side by side. "sum": sum_m W_m h_m, all brought to the width of the first. "gated":
    sum_m g_m W_m h_m, the gates g = softmax over modalities of a linear map of all features, for each unit.

    `present`: bool [n] for each modality, None for all. Features of a missing modality are zero, its term is left out
    of the sum and its gate is closed.
    """

    kind: str

    @nn.compact
    def __call__(self, features: list[jax.Array], present: list[Array | None]) -> jax.Array:
        together = jnp.concatenate(features, axis=-1)
        if self.kind == "concat":
            return together
        width = features[0].shape[-1]
        mapped = [nn.Dense(width, name=f"map_{m}")(h) for m, h in zip(MODALITIES, features, strict=False)]
        mapped = [zero_padded_rows(h, has) for h, has in zip(mapped, present, strict=True)]
        if self.kind == "sum":
            return sum(mapped[1:], start=mapped[0])
        scores = [nn.Dense(width, name=f"gate_{m}")(together) for m, _ in zip(MODALITIES, mapped, strict=False)]
        # Not -inf: a padding row without any modality would become NaN.
        scores = [
            s if has is None else jnp.where(has[:, None], s, _CLOSED) for s, has in zip(scores, present, strict=True)
        ]
        gates = jax.nn.softmax(jnp.stack(scores), axis=0)
        return jnp.sum(gates * jnp.stack(mapped), axis=0)


class FusionClassifier(nn.Module):
    """Logits of each modality and of their fusion, for two or three modalities.

    The model of BSS (Guan et al. 2025): its loss is a weighted sum of the heads' cross-entropies and its
    prediction the sum of some heads' logits (see `sum_head_logits`). Encoders and fusion are options here; the authors
    fix them for each data set.

    Parameters: `encoder_a` ..; `head_a` .., `fusion`, `head_fused`; collection "batch_stats" with batch norm.

    Attributes:
      encoder_a, encoder_b, encoder_c: modules `(x, *, train, rows, where) -> features [n, width]`; `encoder_c` may be
        None.
      classes: number of classes.
      fusion: "concat", "sum" or "gated", see `Fusion`; or "confidence", the decisions weighted by their confidence as
        in `balance.confidence_fusion`, without parameters of its own. Its features are then the modalities' times the
        weights, side by side.

    >>> from alignment_jax.models.encoders import MLP
    >>> model = FusionClassifier(MLP(widths=(8,)), MLP(widths=(6,)), classes=3)
    >>> a, b = jnp.ones((2, 5)), jnp.ones((2, 4))
    >>> outputs = model.apply(model.init(jax.random.key(0), a, b), a, b)
    >>> {name: logits.shape for name, logits in outputs["logits"].items()}
    {'a': (2, 3), 'b': (2, 3), 'fused': (2, 3)}
    >>> outputs["features"]["fused"].shape
    (2, 14)
    """

    encoder_a: nn.Module
    encoder_b: nn.Module
    encoder_c: nn.Module | None = None
    classes: int = 2
    fusion: str = "concat"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 2:
            raise ConfigError(f"classes must be at least 2, got {self.classes}")
        if self.fusion not in FUSIONS:
            raise ConfigError(f"fusion must be one of {', '.join(FUSIONS)}, got {self.fusion!r}")

    @nn.compact
    def __call__(
        self,
        *inputs: Array,
        train: bool = False,
        rows: Array | None = None,
        where: Array | None = None,
        present: Mapping[str, Array] | None = None,
        subsets: bool = False,
    ) -> dict[str, dict[Any, jax.Array]]:
        """Logits and features of a batch.

        Args:
          *inputs: one array [n, ...] per modality, in the order of the encoders.
          train: applies dropout (needs `rngs={"dropout": key}`) and the batch's own statistics in batch norm.
          rows: [n] int, each row's position in the global batch; None means 0 .. n - 1.
          where: [n] bool, false for padding; None means all true.
          present: modality ("a", "b", "c") -> [n] bool, the samples that have it; without an entry, all do. The
            placeholder of a missing one changes neither outputs nor batch statistics nor gradients.
          subsets: also give the fused logits of every smaller set of modalities, the others missing; the encoders run
            once.

        Returns:
          {"logits": {"a": [n, classes], .., "fused": ..}, "features": {"a": [n, width], .., "fused": ..}}, float32.
          Features and logits of a missing modality are zero, so that a sum of heads is one over present modalities.
          With `subsets` also "subsets": {("a",): [n, classes], ..}.

        Raises:
          ValueError: the number of inputs differs from that of encoders.
        """
        encoders = [encoder for encoder in (self.encoder_a, self.encoder_b, self.encoder_c) if encoder is not None]
        if len(inputs) != len(encoders):
            raise ValueError(f"inputs: this model has {len(encoders)} encoders, got {len(inputs)} arrays")
        has = {name: None if present is None else present.get(name) for name in MODALITIES[: len(encoders)]}
        features: dict[str, jax.Array] = {}
        for name, encoder, x in zip(MODALITIES, encoders, inputs, strict=False):
            real = _both(where, has[name])
            h = encoder(zero_padded_rows(x, real), train=train, rows=rows, where=real)
            features[name] = zero_padded_rows(h.astype(jnp.float32), has[name])
        modalities = tuple(features)
        logits = {
            name: zero_padded_rows(nn.Dense(self.classes, name=f"head_{name}")(h), has[name])
            for name, h in features.items()
        }
        if self.fusion == CONFIDENCE:
            weights = {name: jax.lax.stop_gradient(confidence(own)) for name, own in logits.items()}
            features[FUSED] = jnp.concatenate([weights[name][:, None] * features[name] for name in modalities], axis=-1)
            fused: Callable[[tuple[str, ...]], jax.Array] = functools.partial(_fuse_decisions, dict(logits), has)
            logits[FUSED] = fused(modalities)
        else:
            fuse = functools.partial(_fuse_features, Fusion(self.fusion, name="fusion"), dict(features), has)
            head = nn.Dense(self.classes, name="head_fused")
            features[FUSED] = fuse(modalities)
            logits[FUSED] = head(features[FUSED])
            fused = lambda kept: head(fuse(kept))  # noqa: E731

        outputs: dict[str, dict[Any, jax.Array]] = {"logits": logits, "features": features}
        if subsets:
            smaller = (itertools.combinations(modalities, k) for k in range(1, len(modalities)))
            outputs["subsets"] = {kept: fused(kept) for kept in itertools.chain.from_iterable(smaller)}
        return outputs


def _fuse_decisions(
    logits: Mapping[str, jax.Array], has: Mapping[str, Array | None], kept: tuple[str, ...]
) -> jax.Array:
    """Fused logits of some modalities."""
    present = {name: mask for name in kept if (mask := has[name]) is not None}
    return confidence_fusion({name: logits[name] for name in kept}, present=present)


def _fuse_features(
    fusion: Fusion, features: Mapping[str, jax.Array], has: Mapping[str, Array | None], kept: tuple[str, ...]
) -> jax.Array:
    """Fused features of some modalities; the others are missing in every sample."""
    own = [h if name in kept else jnp.zeros_like(h) for name, h in features.items()]
    none = jnp.zeros(own[0].shape[0], bool)
    return fusion(own, [has[name] if name in kept else none for name in features])


def _both(where: Array | None, has: Array | None) -> jax.Array | None:
    """The rows in both masks; None is all."""
    masks = [jnp.asarray(mask) for mask in (where, has) if mask is not None]
    return None if not masks else masks[0] if len(masks) == 1 else masks[0] & masks[1]


def sum_head_logits(logits: Mapping[str, Array], heads: Iterable[str] | None = None) -> jax.Array:
    """Class scores of a set of heads: sum_h logits_h.

    argmax over the last axis is the predicted class, softmax gives probabilities. BSS takes the heads ("a", "b") on
    CREMA-D and all of them on its other data sets.

    Args:
      logits: {"a": [n, classes], .., "fused": [n, classes]}, as the model returns them.
      heads: names of the heads to add; None means all.

    Returns:
      [n, classes] float32.

    Raises:
      ConfigError: no head, or an unknown one.

    >>> logits = {"a": jnp.array([[1.0, 0.0]]), "b": jnp.array([[0.0, 3.0]]), "fused": jnp.array([[9.0, 0.0]])}
    >>> int(sum_head_logits(logits, ("a", "b")).argmax(-1)[0]), int(sum_head_logits(logits).argmax(-1)[0])
    (1, 0)
    """
    names = tuple(logits) if heads is None else tuple(heads)
    unknown = [name for name in names if name not in logits]
    if unknown or not names:
        raise ConfigError(f"heads must be some of {', '.join(logits)}, got {', '.join(names) or 'none'}")
    return sum(
        (jnp.asarray(logits[name], jnp.float32) for name in names[1:]), start=jnp.asarray(logits[names[0]], jnp.float32)
    )
