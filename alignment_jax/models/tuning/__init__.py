"""Fine-tuning as functions of parameter trees: what is trained, low-rank updates, rates by layer, averages of weights.

Trees are those of `models.pretrained`: a stack of transformer layers is named "layers", with the layers along axis 0.

>>> import jax.numpy as jnp
>>> from alignment_jax.models import tuning
>>> params = {"words": jnp.ones((9, 8)), "layers": {"mlp": {"up": {"kernel": jnp.ones((6, 8, 16))}}}}
>>> trainable, frozen = tuning.split_parameters(params, "last:2")
>>> trainable["layers"]["above"]["mlp"]["up"]["kernel"].shape, sorted(frozen)
((2, 8, 16), ['layers', 'words'])
"""

from alignment_jax.models.tuning.interpolate import interpolate, interpolate_trained
from alignment_jax.models.tuning.layer_rates import layer_rates, stack_depth
from alignment_jax.models.tuning.lora import TARGETS, add_lora
from alignment_jax.models.tuning.merge import merge_parameters
from alignment_jax.models.tuning.split import TUNINGS, join_parameters, split_parameters
from alignment_jax.models.tuning.start import parse_tune, start_tuning

__all__ = [
    "TARGETS",
    "TUNINGS",
    "add_lora",
    "interpolate",
    "interpolate_trained",
    "join_parameters",
    "layer_rates",
    "merge_parameters",
    "parse_tune",
    "split_parameters",
    "stack_depth",
    "start_tuning",
]
