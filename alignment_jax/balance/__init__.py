"""Methods against unequal modalities in a classifier: pure functions, and each as a `BalanceMethod` for training."""

from alignment_jax.balance.agm import agm, agm_coefficients, modality_contributions
from alignment_jax.balance.gradient_blending import blending_weights, gradient_blending, held_out_rows
from alignment_jax.balance.method import BalanceMethod, BalanceTerms, ForwardPass
from alignment_jax.balance.mmpareto import mmpareto, pareto_gradient
from alignment_jax.balance.modality_dropout import drop_modalities, modality_dropout
from alignment_jax.balance.ogm_ge import add_gradient_noise, discrepancy_ratios, ogm_coefficients, ogm_ge
from alignment_jax.balance.pmr import pmr, prototype_loss, update_prototypes
from alignment_jax.balance.qmf import confidence, confidence_fusion, qmf, rank_loss
from alignment_jax.balance.unimodal_pretraining import unimodal_pretraining

__all__ = [
    "BalanceMethod",
    "BalanceTerms",
    "ForwardPass",
    "add_gradient_noise",
    "agm",
    "agm_coefficients",
    "blending_weights",
    "confidence",
    "confidence_fusion",
    "discrepancy_ratios",
    "drop_modalities",
    "gradient_blending",
    "held_out_rows",
    "mmpareto",
    "modality_contributions",
    "modality_dropout",
    "ogm_coefficients",
    "ogm_ge",
    "pareto_gradient",
    "pmr",
    "prototype_loss",
    "qmf",
    "rank_loss",
    "unimodal_pretraining",
    "update_prototypes",
]
