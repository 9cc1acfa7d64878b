"""Two small training sets and the scores of their samples; run as a script, one process of several that measure one."""

import pathlib
import sys

import jax
import numpy as np
from absl import flags

from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.cli import common
from alignment_jax.train.batching import scoring_rows
from alignment_jax.train.loop import initial_state
from alignment_jax.train.score_pass import ScorePass
from alignment_jax.train.step import Placement

# Four batches of 12, 11, 11 and 11 samples: there is padding on any number of devices.
N, BATCH, CLASSES = 45, 12, 3
SPLIT = np.array(["train"] * N + ["val"] * 3 + ["test"] * 3)


def three_modalities(file):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(len(SPLIT), d)).astype(np.float32) for name, d in (("a", 6), ("b", 5), ("c", 4))}
    np.savez(file, **arrays, label=rng.integers(0, CLASSES, len(SPLIT)), split=SPLIT)
    config = configs.default()
    config.data = f"features:{file}"
    encoder = {"name": "mlp", "widths": (8,), "dropout": 0.5}
    config.model = configs.fusion_classifier(dict(encoder), dict(encoder), dict(encoder))
    config.eval.metric = "val/accuracy"
    config.sampling.similarity, config.sampling.difficulty = "feature", "gradient"
    return config


def pairs(file):
    rng = np.random.default_rng(0)
    image, text = (rng.normal(size=(len(SPLIT), d)).astype(np.float32) for d in (6, 5))
    np.savez(file, image=image, text=text, split=SPLIT)
    config = configs.default()
    config.data = f"embeddings:{file}"
    config.model.dim = 8
    config.perturb.sigma, config.smoothing.start = 1.0, 0.2  # of training only
    return config


MAKE = {"classification": three_modalities, "alignment": pairs}


def experiment_of(config, devices):
    config.sampling.name, config.input.batch_size, config.train.devices = "probabilistic", BATCH, devices
    return build(config).experiment


def scores(config, devices):
    """The scores of the untrained model; 0 devices are all there are."""
    experiment = experiment_of(config, devices)
    placement = Placement(experiment.devices, lambda axis_name: lambda state, batch: (state, {}, {}))
    state = placement.put_state(initial_state(experiment))
    rows = scoring_rows(N, batch_size=BATCH, devices=len(experiment.devices))
    batches = experiment.scoring_batches(rows[:, placement.local_columns(rows.shape[1])])
    measured = list(ScorePass(experiment.objective, experiment.model.apply, placement)(state, batches))
    assert sum(int(batch["where"].sum()) for batch in measured) == N
    return experiment.sampler.scores_from_pass(measured)  # which refuses a sample measured twice or never


def main(kind, folder, *rest):
    values = flags.FlagValues()
    common.define_processes(values)
    values(["worker", *rest])
    common.start_processes(values)
    folder, number = pathlib.Path(folder), jax.process_index()
    found = scores(MAKE[kind](folder / f"data{number}.npz"), 0)
    np.savez(folder / f"scores{number}.npz", devices=jax.device_count(), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
