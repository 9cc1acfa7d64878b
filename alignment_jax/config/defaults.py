"""Every setting there is, with its default: one section a concern, every method off."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from alignment_jax.config.search_space import SEARCH
from alignment_jax.core.errors import ConfigError


def adapters() -> ConfigDict:
    """Settings of the adapters on frozen latents (see `models.Adapters`)."""
    return ConfigDict(
        {
            "name": "adapters",
            "dim": 512,
            "blocks_a": 1,
            "blocks_b": 1,
            "expansion": 4.0,
            "dropout": 0.3,
            "final_norm": True,
            "input_norm": "none",
            "zero_init": True,
            "dtype": "float32",
        }
    )


def fusion_classifier(
    encoder_a: dict[str, Any] | None = None,
    encoder_b: dict[str, Any] | None = None,
    encoder_c: dict[str, Any] | None = None,
) -> ConfigDict:
    """Settings of a classifier of two or three modalities (see `models.FusionClassifier`).

    Args:
      encoder_a, encoder_b: a name and that encoder's attributes; None for a small convolutional network.
      encoder_c: the third modality's encoder; None for two modalities.

    >>> fusion_classifier({"name": "mlp", "widths": (64,)}).encoder_a.name
    'mlp'
    """
    small = {"name": "convnet", "widths": (16, 32, 64), "norm": "group"}
    encoders = {"encoder_a": encoder_a or small, "encoder_b": encoder_b or dict(small)}
    if encoder_c is not None:
        encoders["encoder_c"] = encoder_c
    return ConfigDict({"name": "fusion_classifier", **encoders, "fusion": "concat"})


_ENCODERS: dict[str, dict[str, Any]] = {
    "vit": {"patch_size": 8, "width": 192, "depth": 6, "heads": 3, "dropout": 0.0},
    "convnet": {"widths": (32, 64, 128), "norm": "group"},
    "resnet18": {"width": 64, "norm": "group", "stem": "auto"},
    "resnet50": {"width": 64, "norm": "group", "stem": "auto"},
    "mlp": {"widths": (512,), "dropout": 0.0},
}
_TEXT_ENCODERS: dict[str, dict[str, Any]] = {
    "transformer": {"width": 192, "depth": 3, "heads": 3, "pooling": "mean", "dropout": 0.0},
    "lstm": {"embedding_width": 128, "width": 256, "bidirectional": True, "pooling": "mean", "dropout": 0.0},
}


def two_tower(image: str = "vit", text: str = "transformer") -> ConfigDict:
    """Settings of two encoders, of images or recordings and of texts or a second such kind (see `models.TwoTower`).

    Args:
      image: "vit", "convnet", "resnet18" or "resnet50", which read recordings too; "mlp" for feature vectors.
      text: "transformer" or "lstm", or one of the others.

    Raises:
      ConfigError: another name.

    >>> two_tower("resnet18", "lstm").encoder_a.name
    'resnet18'
    """
    for name, known in ((image, _ENCODERS), (text, {**_TEXT_ENCODERS, **_ENCODERS})):
        if name not in known:
            raise ConfigError(f"unknown encoder {name!r}; known: {', '.join(known)}")
    return ConfigDict(
        {
            "name": "two_tower",
            "dim": 128,
            "encoder_a": {"name": image, **_ENCODERS[image]},
            "encoder_b": {"name": text, **{**_TEXT_ENCODERS, **_ENCODERS}[text]},
            "dtype": "float32",
        }
    )


def default() -> ConfigDict:
    """The whole configuration tree for contrastive alignment, ready to be changed by a config file.

    Durations are strings with units (`"30 epochs"`, `"100 steps"`, `"10 percent"`); percent is of the whole training.

    >>> config = default()
    >>> config.loss.name, config.train.duration
    ('infonce', '30 epochs')
    """
    config = ConfigDict()
    config.name = "experiment"
    config.seed = 0
    config.data = "synthetic"
    # Generates and divides the data; apart from `seed`, so that runs with several seeds see the same splits.
    config.data_seed = 0

    # How samples become batches. fraction: part of the training samples to learn from, every class in proportion.
    # mismatched: share of them, up to 0.5, whose partners are exchanged on purpose, to see what wrong pairs do.
    # pixel_range: of images of more than eight bits, which values become black and white: "auto" (the bits that are
    # used), "percentiles" or "LOW,HIGH" (see data.pixels).
    # max_length: tokens of a text, 0 for chosen from the captions of train (99 % of them stay whole, at most 256).
    # cache_mib: memory for decoded images. resident: "on" keeps frozen latents on the device, "auto" does where
    # they fit in cache_mib, "off" sends every batch there. on_bad_sample: "error" stops at the first unusable
    # sample, "skip" leaves it out; it may be changed while a run goes on.
    config.input = ConfigDict(
        {
            "fraction": 1.0,
            "mismatched": 0.0,
            "batch_size": 128,
            "image_size": 64,
            "pixel_range": "auto",
            "crop_min_area": 0.6,
            "flip": True,
            "vocab_size": 4096,
            "max_length": 0,
            "threads": 2,
            "cache_mib": 1024,
            "resident": "auto",
            "on_bad_sample": "error",
        }
    )
    # Spectrograms of recordings: sample_rate in Hz, seconds and mel bands of all of them, and white noise that weakens
    # them on purpose (RMS relative to the recording's).
    config.audio = ConfigDict({"sample_rate": 16000, "seconds": 3.0, "bands": 64, "noise": 0.0})
    config.model = adapters()
    # Where the parameters start. name: "random", "cca" for linear adapters from the closed form on the training pairs,
    # or "run:DIR" for the best parameters of another run, as far as they fit. Of "cca", numbers as text, "auto" for
    # chosen on val: shrinkage (one for both sides or "0.8+0.5" for a and b), dim (as far as model.dim and the latents
    # have so many) and power (exponent on the canonical correlations).
    config.init = ConfigDict({"name": "random", "shrinkage": "auto", "dim": "auto", "power": "1.0"})

    # similarity: how the n x n matrix is held (see losses.infonce); "auto" chooses from the size and the devices.
    # duplicates: what partners of equal content in one batch are, "mask" for no candidates, "positive" for right
    # answers too, "negative" for wrong ones.
    config.loss = ConfigDict({"name": "infonce", "similarity": "auto", "duplicates": "mask"})
    config.temperature = ConfigDict(
        {
            "init": 0.07,
            "min": 0.001,
            "max": 0.5,
            "learned": True,
            # "none" leaves the model's own temperature; "cosine" and "mm_ts" replace it by a schedule.
            "schedule": "none",
            "period": "20 percent",
            "alpha": 0.08,
            "min_shift": 0.05,
            "max_shift": 0.20,
        }
    )
    config.margin = ConfigDict(
        {
            "value": 0.2,
            "schedule": "none",
            "period": "20 percent",
            "alpha": 0.08,
            "min_shift": 0.05,
            "max_shift": 0.20,
        }
    )
    # Where MM-TS finds the size of a sample's cluster: "data" (the set's own sizes, else its classes, else K-Means),
    # "label" (the size of its class), "kmeans" (on the texts). count: clusters of K-Means, 0 for chosen from the data.
    config.clusters = ConfigDict({"source": "data", "count": 0})
    config.smoothing = ConfigDict({"schedule": "constant", "start": 0.0, "end": 0.0})
    # sigma: noise on the frozen latents; fusemix: the a of Beta(a, a), 0 for no mixing.
    config.perturb = ConfigDict({"sigma": 0.0, "relative": False, "fusemix": 0.0})
    config.weighting = ConfigDict(
        {
            "signal": "fixed",
            "mode": "proportional",
            "decay": 0.9,
            "strength": 1.0,
            "floor": 0.0,
            "warmup": "0 steps",
        }
    )
    # The order of the samples. name: "shuffle", "class_balanced" (every class equally often, rare samples several
    # times an epoch), "curriculum", "anti_curriculum", "probabilistic". similarity: "auto",
    # "prediction", "feature", "none"; difficulty: "loss", "gradient", "none" (alignment: feature and loss). scores:
    # "fresh" measures the whole set before an epoch, "recycled" takes what training measured, averaged with `decay`.
    # rescore_every: epochs, 0 for once at the start. start, epochs: growth of a curriculum.
    config.sampling = ConfigDict(
        {
            "name": "shuffle",
            "similarity": "auto",
            "difficulty": "loss",
            "scores": "fresh",
            "rescore_every": 1,
            "decay": 0.5,
            "start": 0.1,
            "epochs": 40,
            "replacement": False,
            "floor": 0.01,
        }
    )
    # Of model.name=fusion_classifier. weight_*: of each head's cross-entropy; predict: the heads whose logits are
    # summed for the prediction, "all" or as in "a+b". class_weights: of the loss, "none", or "balanced" by the classes'
    # frequencies in train (sampling.name=class_balanced shows them equally often instead).
    config.classification = ConfigDict(
        {
            "weight_a": 1.0,
            "weight_b": 1.0,
            "weight_c": 1.0,
            "weight_fused": 1.0,
            "predict": "all",
            "class_weights": "none",
        }
    )

    # accumulate: batches to one update, each with a loss of its own. micro_batch: rows a device encodes at once, the
    # loss still over the whole batch (gradient caching), 0 for all.
    config.optimizer = ConfigDict(
        {
            "name": "adamw",
            "learning_rate": 1e-3,
            "final_learning_rate": 0.0,
            "schedule": "cosine",
            "warmup": "5 percent",
            # Of schedule "staircase": the rate is multiplied by the factor after every so long.
            "drop_every": "70 epochs",
            "drop_factor": 0.1,
            "weight_decay": 0.1,
            "b1": 0.9,
            "b2": 0.999,
            "momentum": 0.9,
            "clip": 1.0,
            "accumulate": 1,
            "micro_batch": 0,
            "ema": 0.0,
        }
    )
    config.train = ConfigDict({"duration": "30 epochs", "devices": 0})
    # metric: what "best" means, always on val; patience: evaluations without improvement before stopping, 0 for never.
    # views: "first", or "mean" for the mean embedding of all views that the data has of an item (mirrored images).
    config.eval = ConfigDict(
        {"interval": "1 epochs", "metric": "val/rsum", "patience": 0, "batch_size": 256, "views": "first"}
    )
    config.checkpoint = ConfigDict({"interval": "1 epochs", "keep": 2})
    config.log = ConfigDict({"interval": "10 steps", "tensorboard": True})
    config.report = ConfigDict({"gallery": 24})
    # What `compare --search` draws from; see config/search_space.py for how a range is written.
    config.search = SEARCH
    return config
