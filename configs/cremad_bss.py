"""BSS on CREMA-D with the paper's settings: emotions from speech and faces, for those who have the data.

    alignment-jax train --config configs/cremad_bss.py:data=av:cremad.csv,method=probabilistic --workdir runs/cremad

The manifest names a recording, a video frame and the emotion of each clip (columns audio, image, label, split).
Arguments: method=vanilla|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled.
"""

from alignment_jax import config

METHODS = {"vanilla": "shuffle"}


def get_config(arg=None):
    arg = config.parse_arg(arg, method="vanilla", scores="fresh")
    c = config.default()
    c.name = f"CREMA-D, {arg.method}"
    c.data = "av:CREMA-D/manifest.csv"
    c.input.batch_size = 32
    c.input.image_size = 224
    c.input.crop_min_area = 0.5
    c.audio.sample_rate = 16000
    c.audio.seconds = 3.0
    c.audio.bands = 128
    encoder = {"name": "resnet18", "width": 64, "norm": "batch", "stem": "auto"}
    c.model = config.fusion_classifier(encoder, dict(encoder))
    # The loss is 0.9 (ce_a + ce_b) + 0.1 ce_fused, the prediction that of the two single heads.
    c.classification.weight_a = c.classification.weight_b = 0.9
    c.classification.weight_fused = 0.1
    c.classification.predict = "a+b"
    c.sampling.name = METHODS.get(arg.method, arg.method)
    c.sampling.scores = arg.scores
    c.sampling.start = 0.1
    c.sampling.epochs = 40
    # A curriculum is scored once, at the start; probabilities before every epoch.
    c.sampling.rescore_every = 1 if arg.method == "probabilistic" else 0
    c.optimizer.name = "sgd"
    c.optimizer.momentum = 0.9
    c.optimizer.weight_decay = 1e-4
    c.optimizer.clip = 0.0
    c.optimizer.learning_rate = 2e-3
    c.optimizer.schedule = "staircase"
    c.optimizer.drop_every = "70 epochs"
    c.optimizer.drop_factor = 0.1
    c.optimizer.warmup = "0 steps"
    c.train.duration = "100 epochs"
    c.eval.metric = "val/accuracy"
    c.checkpoint.interval = "10 epochs"
    if arg.runlocal:
        c.input.image_size = 32
        c.audio.seconds = 1.0
        c.audio.bands = 32
        c.model.encoder_a.width = c.model.encoder_b.width = 8
        c.train.duration = "4 steps"
        c.eval.interval = "2 steps"
    if arg.data:
        c.data = arg.data
    return c
