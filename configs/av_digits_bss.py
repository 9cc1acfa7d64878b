"""BSS on spoken and handwritten digits: which order of the samples trains two unequal modalities best?

    alignment-jax train --config configs/av_digits_bss.py:data=av:manifest.csv,method=curriculum --workdir runs/digits

Arguments: method=vanilla|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled, rescore=EPOCHS (between two
scorings, 0 for one at the start as in the paper's curriculum), noise=RATIO (white noise in the audio, RMS relative to
the recording's), fraction=SHARE (of the training samples).
"""

from alignment_jax import config

METHODS = {"vanilla": "shuffle"}


def get_config(arg=None):
    arg = config.parse_arg(arg, method="vanilla", scores="fresh", rescore=1, noise=0.0, fraction=1.0)
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
    encoder = {"name": "convnet", "widths": (16, 32, 64), "norm": "batch"}
    c.model = config.fusion_classifier(encoder, dict(encoder))
    c.sampling.name = METHODS.get(arg.method, arg.method)
    c.sampling.scores = arg.scores
    c.sampling.rescore_every = arg.rescore
    c.optimizer.learning_rate = 5e-3
    c.optimizer.weight_decay = 0.05
    # Fewer samples make shorter epochs: more of them keep the number of steps from falling as fast.
    epochs = round(15 / min(1.0, max(arg.fraction, 0.01)) ** 0.5)
    c.train.duration = f"{epochs} epochs"
    c.sampling.epochs = epochs // 2
    c.eval.interval = "3 epochs"
    c.eval.metric = "val/accuracy"
    c.checkpoint.interval = "10 epochs"
    if arg.runlocal:
        c.input.fraction = min(c.input.fraction, 0.3)
        c.sampling.epochs = 2
        c.train.duration = "4 epochs"
        c.eval.interval = "1 epochs"
    if arg.data:
        c.data = arg.data
    return c
