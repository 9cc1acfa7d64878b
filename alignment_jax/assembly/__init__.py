"""Assembly: builds an experiment from a configuration.

`build` gives a `Built`, and `train.fit(built.experiment, workdir)` trains it.
"""

from alignment_jax.assembly.build import Built, build, with_seed
from alignment_jax.assembly.data_loading import load_data, load_source
from alignment_jax.assembly.methods import LOSSES, SMOOTHINGS, Loss

__all__ = ["LOSSES", "SMOOTHINGS", "Built", "Loss", "build", "load_data", "load_source", "with_seed"]
