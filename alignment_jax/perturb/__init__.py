"""Perturbation of latents during training: mixing of pairs and Gaussian noise."""

from alignment_jax.perturb.fusemix import fusemix, sample_lambda
from alignment_jax.perturb.gaussian import gaussian
from alignment_jax.perturb.keys import row_keys

__all__ = ["fusemix", "gaussian", "row_keys", "sample_lambda"]
