"""`core.varying` under the name by which the trainer imports it."""

from alignment_jax.core.varying import vary_over, vary_together, varying_axes

__all__ = ["vary_over", "vary_together", "varying_axes"]
