"""Settings that the experiments of the BSS paper share, as changes to a configuration."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from alignment_jax.config.defaults import fusion_classifier

_PAPER_NAMES = {"vanilla": "shuffle"}


def sampling_order(method: str) -> str:
    """The `sampling.name` of an order; "vanilla" is the BSS paper's word for "shuffle".

    >>> sampling_order("vanilla"), sampling_order("curriculum")
    ('shuffle', 'curriculum')
    """
    return _PAPER_NAMES.get(method, method)


def bss_training(config: ConfigDict, *, method: str, learning_rate: float, epochs: int, scores: str = "fresh") -> None:
    """The training of BSS on its six data sets: SGD with one drop of the learning rate, and an order of the samples.

    Args:
      config: changed in place.
      method: "shuffle", "curriculum", "anti_curriculum" or "probabilistic".
      learning_rate: before the drop to a tenth after 70 epochs.
      epochs: of training.
      scores: "fresh" or "recycled".

    Source: BSS (Guan et al., IJCAI 2025) and its code. The best epoch is chosen on val; the authors choose it on test.
    """
    config.sampling.update(
        {
            "name": sampling_order(method),
            "scores": scores,
            "start": 0.1,
            "epochs": 40,
            # A curriculum is scored once, at the start; probabilities before every epoch.
            "rescore_every": 1 if method == "probabilistic" else 0,
        }
    )
    changes: dict[str, Any] = {
        "name": "sgd",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "clip": 0.0,
        "learning_rate": learning_rate,
        "schedule": "staircase",
        "drop_every": "70 epochs",
        "drop_factor": 0.1,
        "warmup": "0 steps",
    }
    config.optimizer.update(changes)
    config.input.batch_size = 32
    config.train.duration = f"{epochs} epochs"
    config.eval.metric = "val/accuracy"
    config.checkpoint.interval = "10 epochs"


def audio_visual_inputs(config: ConfigDict, *, image_size: int, seconds: float) -> None:
    """Inputs and encoders of the audio-visual data sets: spectrograms and frames, a ResNet-18 for each.

    Args:
      config: changed in place.
      image_size: side of a frame in pixels.
      seconds: length of the recordings.
    """
    config.input.image_size = image_size
    config.audio.update({"sample_rate": 16000, "seconds": seconds, "bands": 128})
    encoder = {"name": "resnet18", "width": 64, "norm": "batch", "stem": "auto"}
    config.model = fusion_classifier(encoder, dict(encoder))


def shrink_for_runlocal(config: ConfigDict) -> None:
    """The `runlocal` variant of a classifier: small inputs, small encoders, a few steps."""
    config.input.image_size = 32
    config.audio.seconds = 1.0
    config.audio.bands = 32
    for side in ("encoder_a", "encoder_b", "encoder_c"):
        encoder = config.model.get(side)
        if encoder is not None and encoder.name.startswith("resnet"):
            # A residual network compiles longer on a CPU than these steps run.
            config.model[side] = ConfigDict({"name": "convnet", "widths": (8, 16), "norm": encoder.norm})
        elif encoder is not None and "heads" in encoder:
            encoder.update({"width": 4 * encoder.heads, "depth": 1})
    config.train.duration = "4 steps"
    config.eval.interval = "2 steps"
