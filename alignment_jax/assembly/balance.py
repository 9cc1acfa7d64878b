"""Builds the balancing method of a classifier from the section `balance` of a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
from ml_collections import ConfigDict

from alignment_jax import balance
from alignment_jax.assembly.classifier import MODEL, is_classifier
from alignment_jax.assembly.step_counts import StepCounts
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.types import Array, PyTree
from alignment_jax.models.fusion_classifier import CONFIDENCE
from alignment_jax.train.classification_objective import FUSED
from alignment_jax.train.experiment import Model

NONE = "none"


@dataclasses.dataclass(frozen=True)
class BalancedRun:
    """The run that a method is built for.

    steps: of the run.
    weights: head -> weight of its cross-entropy.
    widths: () -> modality -> width of its features.
    classes: number of classes.
    size: samples in the training set.
    fusion: `model.fusion`.
    data_seed: of the configuration.
    """

    steps: StepCounts
    weights: Mapping[str, float]
    widths: Callable[[], Mapping[str, int]]
    classes: int
    size: int
    fusion: str
    data_seed: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name in self.weights if name != FUSED)


def _ogm_ge(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    return balance.ogm_ge(alpha=section.alpha, noise=section.noise)


def _agm(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    return balance.agm(run.modalities, alpha=section.alpha)


def _pmr(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    return balance.pmr(
        run.widths(),
        classes=run.classes,
        alpha=section.prototype_weight,
        decay=section.prototype_decay,
        entropy_weight=section.entropy_weight,
        entropy_steps=run.steps.interval(section.entropy, "balance.entropy"),
    )


def _gradient_blending(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    interval = max(1, run.steps.interval(section.interval, "balance.interval"))
    return balance.gradient_blending(run.weights, interval=interval, share=section.held_out, seed=run.data_seed)


def _mmpareto(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    for head, weight in run.weights.items():
        if not weight:
            raise ConfigError(
                f"balance.name=mmpareto combines the loss of the fused head with that of every modality; set "
                f"classification.weight_{head} above 0"
            )
    return balance.mmpareto(rescale=section.rescale)


def _qmf(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    if run.fusion != CONFIDENCE:
        raise ConfigError(
            f"balance.name=qmf weighs the modalities' decisions by their confidence; model.fusion is {run.fusion!r}, "
            f"set model.fusion={CONFIDENCE}"
        )
    return balance.qmf(run.modalities, size=run.size, rank_weight=section.rank_weight)


def _modality_dropout(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    return balance.modality_dropout(rate=section.rate)


def _unimodal_pretraining(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    return balance.unimodal_pretraining(steps=run.steps.interval(section.pretraining, "balance.pretraining"))


# `balance.name` -> (section, run) -> method.
BALANCE: dict[str, Callable[[ConfigDict, BalancedRun], balance.BalanceMethod]] = {
    NONE: lambda section, run: balance.BalanceMethod(),
    "ogm_ge": _ogm_ge,
    "agm": _agm,
    "pmr": _pmr,
    "gradient_blending": _gradient_blending,
    "mmpareto": _mmpareto,
    "qmf": _qmf,
    "modality_dropout": _modality_dropout,
    "unimodal_pretraining": _unimodal_pretraining,
}


def check_balance(config: ConfigDict) -> None:
    """Raises ConfigError for a balancing method where the model is no classifier."""
    name = config.balance.name
    if name in BALANCE and name != NONE and not is_classifier(config.model):
        raise ConfigError(
            f"balance.name={name} balances the modalities of a classifier; model.name is {config.model.name!r}, not "
            f"{MODEL}: set balance.name={NONE}"
        )


def build_balance(section: ConfigDict, run: BalancedRun) -> balance.BalanceMethod:
    """The method that `balance.name` selects.

    Raises:
      ConfigError: it does not apply to this model or these weights.
    """
    return BALANCE[section.name](section, run)


def feature_widths(model: Model, shapes: tuple[PyTree, PyTree], first_batch: tuple[Array, ...]) -> dict[str, int]:
    """modality -> width of its features, from shapes alone.

    Args:
      model: of a classifier.
      shapes: of parameters and state, from `model.init`.
      first_batch: of each modality.
    """

    def features(params: PyTree, model_state: PyTree) -> dict[str, Array]:
        options = dict(train=False, rows=None, where=None, key=None)
        return model.apply(params, model_state, *first_batch, **options)[0]["features"]

    found = jax.eval_shape(features, *shapes)
    return {m: x.shape[-1] for m, x in found.items() if m != FUSED}
