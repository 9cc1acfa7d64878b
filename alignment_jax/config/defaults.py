"""Every setting with its default; all methods are off."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from alignment_jax.config.search_space import DEFAULT_SEARCH
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
      encoder_a, encoder_b: name and options of an encoder; None for a small convolutional network.
      encoder_c: of the third modality; None for two modalities.

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
    """Settings of two encoders (see `models.TwoTower`).

    Args:
      image: of side a: "vit", "convnet", "resnet18" or "resnet50" for images and recordings, "mlp" for feature vectors.
      text: of side b: "transformer" or "lstm" for texts, or one of the others.

    Raises:
      ConfigError: an unknown name.

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
            "projection": "linear",
            "encoder_a": {"name": image, **_ENCODERS[image]},
            "encoder_b": {"name": text, **{**_TEXT_ENCODERS, **_ENCODERS}[text]},
            "dtype": "float32",
        }
    )


def pretrained_encoder(name: str, kind: str, *, tune: str = "lora:8") -> dict[str, Any]:
    """Settings of an encoder that starts from a checkpoint (see `models.encoders.PretrainedImage`).

    Args:
      name: "hf:NAME_OR_PATH", or "st:NAME_OR_PATH" for a sentence encoder.
      kind: "image" or "text": what it reads.
      tune: none, head, last:K, lora:RANK, norms, all.

    >>> pretrained_encoder("st:minilm", "text")["name"]
    'pretrained_text'
    """
    own = {"image_size": 0} if kind == "image" else {"prefix": ""}
    shared = {"lora_targets": "attention/*,mlp/*", "dropout": 0.0, "stochastic_depth": 0.0, "remat": False}
    return {"name": f"pretrained_{kind}", "model": name, "tune": tune, **own, **shared}


def is_pretrained(name: str) -> bool:
    """Whether a name of an encoder is that of a checkpoint.

    >>> is_pretrained("hf:clip"), is_pretrained("vit")
    (True, False)
    """
    return name.startswith(("hf:", "st:"))


def finetuned(image: str, text: str, *, tune_a: str = "lora:8", tune_b: str = "lora:8") -> ConfigDict:
    """Settings of two encoders that start from checkpoints (see `models.TwoTower`).

    Args:
      image: of side a: "hf:NAME_OR_PATH", "st:NAME_OR_PATH" (which reads texts), or "latents".
      text: of side b: the same; "hf:" reads texts here.
      tune_a, tune_b: see `pretrained_encoder`.

    >>> model = finetuned("hf:clip", "hf:clip", tune_b="none")
    >>> model.projection, model.encoder_a.tune, model.encoder_b.tune
    ('none', 'lora:8', 'none')
    """

    def encoder(name: str, kind: str, tune: str) -> dict[str, Any]:
        if name == "latents":
            return {"name": "latents", "dropout": 0.0}
        return pretrained_encoder(name, "text" if name.startswith("st:") else kind, tune=tune)

    return ConfigDict(
        {
            "name": "two_tower",
            "dim": 512,
            "projection": "none" if image == text != "latents" else "affine",
            "encoder_a": encoder(image, "image", tune_a),
            "encoder_b": encoder(text, "text", tune_b),
            "dtype": "float32",
        }
    )


def default() -> ConfigDict:
    """Every setting with its default, for contrastive alignment; a config file changes them.

    Durations are texts with a unit: `"30 epochs"`, `"100 steps"`, `"5000 examples"`, `"10 percent"` of the training.

    >>> config = default()
    >>> config.loss.name, config.train.duration
    ('infonce', '30 epochs')
    """
    config = ConfigDict()
    config.name = "experiment"  # title of the report
    config.seed = 0  # initial parameters, order of samples, augmentation, dropout, noise
    config.data = "synthetic"  # SPEC of the data set, as in "pairs:FILE.csv"; docs/data lists the sources
    config.data_seed = 0  # generated data, splits, subsets, K-Means; the same for all seeds of a comparison

    config.input = ConfigDict(
        {
            "fraction": 1.0,  # share of the training samples to use; classes keep their proportions
            "mismatched": 0.0,  # share of the training samples, at most 0.5, that get a wrong partner (to test noise)
            "batch_size": 128,
            "image_size": 64,  # pixels of each side
            "pixel_range": "auto",  # black and white of images above 8 bits: auto, percentiles or "LOW,HIGH"
            "crop_min_area": 0.6,  # random crops: smallest share of the image; 1.0 turns them off
            "flip": True,  # random mirroring
            "vocab_size": 4096,  # tokens of the vocabulary
            "max_length": 0,  # tokens of a text; 0: fits 99 % of the captions of train, at most 256
            "threads": 2,  # that read and decode
            "cache_mib": 1024,  # memory for decoded images
            "resident": "auto",  # keep frozen latents on the device: on, off, auto (where they fit in cache_mib)
            "on_bad_sample": "error",  # unreadable samples: error, skip
        }
    )
    # Mel spectrograms of recordings.
    config.audio = ConfigDict(
        {
            "sample_rate": 16000,  # Hz; recordings are resampled
            "seconds": 3.0,  # from the middle of each recording; shorter ones are padded
            "bands": 64,  # mel bands
            "noise": 0.0,  # white noise in every recording: RMS relative to that of the recording
        }
    )
    # adapters (frozen latents), two_tower (encoders) or fusion_classifier; see the functions above.
    config.model = adapters()
    # Initial parameters: random; cca (closed form on the training pairs, for linear adapters); or run:DIR (the best
    # parameters of another run, where their shapes fit). The other settings are of cca; "auto" chooses them.
    config.init = ConfigDict(
        {
            "name": "random",
            "shrinkage": "auto",  # in [0, 1]; "0.8+0.5" for a and b
            "dim": "auto",  # canonical dimensions, at most model.dim
            "power": "1.0",  # exponent of the canonical correlations
            "selection": "val",  # how "auto" chooses: on val; or by cross_validation inside train, eval.hubness too
            # always: train for train.duration from the closed form; auto: only where cross-validation shows a gain.
            "training": "always",
            # cosine weights by the power before the normalization, weighted_cosine (CSA) after it.
            "similarity": "cosine",
        }
    )

    config.loss = ConfigDict(
        {
            "name": "infonce",  # infonce, max_margin, sigmoid
            "similarity": "auto",  # auto, dense, tiled, gathered, ring, pallas, or as in "tiled:512"
            # Of its products: auto, float32, bfloat16_3x, bfloat16. auto: on accelerators bfloat16_3x.
            "precision": "auto",
            "duplicates": "mask",  # equal partners in a batch: mask (no candidates), positive, negative
        }
    )
    config.temperature = ConfigDict(
        {
            "init": 0.07,
            "min": 0.001,
            "max": 0.5,
            "learned": True,
            "schedule": "none",  # none: the model's temperature; cosine, mm_ts: a schedule in its place
            # Of both schedules: length of one oscillation and range of temperatures. alpha: amplitude of mm_ts.
            "period": "20 percent",
            "alpha": 0.08,
            "min_shift": 0.05,
            "max_shift": 0.20,
        }
    )
    # Of loss.name=max_margin; schedules as for the temperature.
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
    # Cluster sizes for mm_ts.
    config.clusters = ConfigDict(
        {
            "source": "data",  # data (sizes in the data set, else classes, else K-Means), label, kmeans (on the texts)
            "count": 0,  # clusters of K-Means; 0: chosen from the data
        }
    )
    # Label smoothing of infonce: share of the target spread over all candidates.
    config.smoothing = ConfigDict({"schedule": "constant", "start": 0.0, "end": 0.0})  # constant, linear, cosine
    # Perturbation of frozen latents.
    config.perturb = ConfigDict(
        {
            "sigma": 0.0,  # standard deviation of Gaussian noise
            "relative": False,  # sigma in units of the latents' standard deviation
            "fusemix": 0.0,  # FuseMix: a of Beta(a, a); 0 turns it off
        }
    )
    # VALS: weights of the two directions of the loss, by statistics of the similarities or of the losses.
    config.weighting = ConfigDict(
        {
            "signal": "fixed",  # fixed (off), variance, entropy, spread, probability, loss
            "mode": "proportional",  # proportional, inverse
            "decay": 0.9,  # of the running mean of the statistics
            "strength": 1.0,  # 0: equal weights, 1: full effect
            "floor": 0.0,  # smallest weight
            "warmup": "0 steps",  # equal weights until then
        }
    )
    # STRUCTURE: aligned latents keep the neighbours that the frozen latents have in the batch.
    config.structure = ConfigDict(
        {
            "weight": 0.0,  # of the divergence between both neighbourhoods; 0 turns it off
            "temperature": 0.05,  # of the softmaxes over neighbours
            "warmup": "10 percent",  # the weight rises from 0 until then
        }
    )
    # SOTAlign: the transport plan between unpaired latents of both sides follows the plan of CCA on the pairs, whose
    # settings are those of `init`. A side without unpaired latents in the data uses those of train.
    config.transport = ConfigDict(
        {
            "weight": 0.0,  # of the divergence between both plans; 0 turns it off
            "epsilon": 0.05,  # entropic regularization of the model's plan
            "teacher_epsilon": 0.01,  # of the teacher's plan
            "iterations": 100,  # of Sinkhorn
            "batch_size": 256,  # unpaired latents of each side in a step
        }
    )
    # BSS: order of the samples.
    config.sampling = ConfigDict(
        {
            "name": "shuffle",  # shuffle, class_balanced, curriculum, anti_curriculum, probabilistic
            "similarity": "auto",  # score of cross-modal similarity: auto, prediction, feature, none
            "difficulty": "loss",  # score of difficulty: loss, gradient, none (alignment: loss, none)
            "scores": "fresh",  # fresh: a pass over train before an epoch; recycled: averages of values from training
            "rescore_every": 1,  # epochs between two passes; 0: only before the first epoch
            "decay": 0.5,  # of the averages of recycled scores
            "start": 0.1,  # curricula: share of train in the first epoch
            "epochs": 40,  # curricula: epochs until all of train is used
            "replacement": False,  # probabilistic: draw with replacement
            "floor": 0.01,  # probabilistic: added to every weight
        }
    )
    # Of model.name=fusion_classifier.
    config.classification = ConfigDict(
        {
            "weight_a": 1.0,  # weight of the cross-entropy of each head
            "weight_b": 1.0,
            "weight_c": 1.0,
            "weight_fused": 1.0,
            "predict": "all",  # heads whose logits are summed: all, or as in "a+b"
            "class_weights": "none",  # weights of the classes in the loss: none, balanced (inverse frequency)
        }
    )

    # Of model.name=fusion_classifier: methods against unequal modalities.
    config.balance = ConfigDict(
        {
            # none, ogm_ge, agm, pmr, gradient_blending, mmpareto, qmf, modality_dropout, unimodal_pretraining
            "name": "none",
            "alpha": 0.8,  # ogm_ge, agm: strength of the factors of the encoders' gradients; 0: none
            "noise": True,  # ogm_ge: add Gaussian noise to the encoders' gradients (GE)
            "prototype_weight": 1.0,  # pmr: of the cross-entropies with class prototypes
            "prototype_decay": 0.9,  # pmr: of the running means of the prototypes
            "entropy_weight": 0.01,  # pmr: of the entropy of dominant modalities
            "entropy": "10 percent",  # pmr: until then the entropy counts
            "held_out": 0.1,  # gradient_blending: share of train that no loss counts, to measure generalization
            "interval": "10 percent",  # gradient_blending: between two estimates of the heads' weights
            "rescale": 1.5,  # mmpareto: factor of the encoders' gradients
            "rank_weight": 1.0,  # qmf: of the loss on the order of confidences
            "rate": 0.3,  # modality_dropout: share of modalities that are hidden; every sample keeps one
            "pretraining": "30 percent",  # unimodal_pretraining: of the training, each modality alone
        }
    )

    config.optimizer = ConfigDict(
        {
            "name": "adamw",  # adamw, sgd, lars
            "learning_rate": 1e-3,
            "final_learning_rate": 0.0,
            "schedule": "cosine",  # cosine, linear, constant, staircase
            "warmup": "5 percent",
            "drop_every": "70 epochs",  # staircase: interval between two drops
            "drop_factor": 0.1,  # staircase: factor of each drop
            "layer_decay": 1.0,  # rate of a layer of vit or transformer relative to the next one; 1: equal rates
            "weight_decay": 0.1,
            "b1": 0.9,
            "b2": 0.999,
            "momentum": 0.9,  # sgd and lars
            "clip": 1.0,  # largest global norm of the gradient; 0 turns clipping off
            "accumulate": 1,  # batches per update; the loss of each is computed separately
            "micro_batch": 0,  # gradient caching: rows encoded at once, loss over the whole batch; 0 turns it off
            "ema": 0.0,  # decay of averaged parameters, which are then evaluated; 0 turns averaging off
        }
    )
    config.train = ConfigDict(
        {
            "duration": "30 epochs",
            "devices": 0,  # 0 for all
            # On several devices: none (each holds the whole state), parameters (each holds its share of parameters,
            # optimizer state and average; for models too large for one device).
            "shard": "none",
            # WiSE-FT, after training: none, or val: the average of start and trained weights that is best on val.
            "interpolate": "none",
            "profile": "",  # steps that JAX's profiler records, as in "100-110"
            "debug_nans": False,  # repeats a step that makes a NaN, to name the operation; slow
        }
    )
    config.eval = ConfigDict(
        {
            "interval": "1 epochs",
            "metric": "val/rsum",  # chooses the best checkpoint
            "patience": 0,  # stop after this many evaluations without improvement; 0: never
            "batch_size": 256,
            "views": "first",  # first, mean: average the embeddings of all views of an item (mirrored images)
            # Correction of hubs in retrieval: none, nnn, csls, inverted_softmax, or with options as in
            # "nnn:k=16,strength=0.5"; auto: chosen on val, or by init.selection=cross_validation.
            "hubness": "none",
            "control": "",  # SPEC of other data: metrics before and after fine-tuning, to show what was forgotten
            "control_prompts": "",  # file of class prompts: zero-shot accuracy on eval.control, which has labels then
            "bank_size": 4096,  # training items of each side kept as its queries; 0: none
        }
    )
    config.checkpoint = ConfigDict({"interval": "1 epochs", "keep": 2})
    # Writers of metrics beside metrics.jsonl; wandb: Weights & Biases (WANDB_MODE=offline writes files alone).
    config.log = ConfigDict({"interval": "10 steps", "tensorboard": True, "wandb": False})
    config.report = ConfigDict({"gallery": 24})  # examples in the report
    config.search = DEFAULT_SEARCH  # search space of `compare --search`; config/search_space.py explains the format
    return config
