"""BSS on spoken and handwritten digits: compares orders of the samples for two unequal modalities.

    alignment-jax train --config configs/av_digits_bss.py:data=av:manifest.csv,method=curriculum --workdir runs/digits

Arguments: method=shuffle|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled, rescore=EPOCHS (between two
passes that score train; 0: once at the start, as in the paper's curriculum), noise=RATIO (white noise in the audio, RMS
relative to the recording's), fraction=SHARE (of the training samples), inputs=recordings|features
(data=features:FILE.npz with a vector for each of two modalities).

The middle 0.8 s of each recording are used, at 8 kHz, and images of 28 x 28 pixels. For other data change
--config.audio.seconds, --config.audio.sample_rate and --config.input.image_size.

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config

ENCODERS = {
    "recordings": {"name": "convnet", "widths": (16, 32, 64), "norm": "batch"},
    "features": {"name": "mlp", "widths": (256,), "dropout": 0.3},
}


def get_config(arg=None):
    arg = config.parse_arg(
        arg, method="shuffle", balance="none", scores="fresh", rescore=1, noise=0.0, fraction=1.0, inputs="recordings"
    )
    if arg.inputs not in ENCODERS:
        raise config.ConfigError(f"config argument inputs={arg.inputs!r}: expected one of {', '.join(ENCODERS)}")
    c = config.default()
    c.name = f"Audio-visual digits, {arg.method}"
    c.data = "av:av_digits/manifest.csv"
    c.input.batch_size = 32
    c.input.image_size = 28
    c.input.crop_min_area = 1.0
    c.input.flip = False
    c.input.fraction = arg.fraction
    c.audio.sample_rate = 8000
    c.audio.seconds = 0.8
    c.audio.bands = 40
    c.audio.noise = arg.noise
    c.model = config.fusion_classifier(*(dict(ENCODERS[arg.inputs]) for _ in range(2)))
    c.sampling.name = config.sampling_order(arg.method)
    c.sampling.scores = arg.scores
    c.sampling.rescore_every = arg.rescore
    c.optimizer.learning_rate = 5e-3
    c.optimizer.weight_decay = 0.05
    # Fewer samples make shorter epochs; more epochs compensate for a part of the steps.
    epochs = round(15 / min(1.0, max(arg.fraction, 0.01)) ** 0.5)
    c.train.duration = f"{epochs} epochs"
    c.sampling.epochs = epochs // 2
    c.eval.interval = "3 epochs"
    c.eval.metric = "val/accuracy"
    c.checkpoint.interval = "10 epochs"
    config.apply_balance(c, arg.balance)
    if arg.runlocal:
        c.input.fraction = min(c.input.fraction, 0.3)
        c.sampling.epochs = 2
        c.train.duration = "4 epochs"
        c.eval.interval = "1 epochs"
    config.use_data(c, arg.data)
    return c
