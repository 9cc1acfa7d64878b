"""Audio-text alignment from recordings and words, both encoders trained from scratch.

    alignment-jax train --config configs/audio_text.py:data=pairs:sounds.csv --workdir runs/sounds

The table has the columns audio and caption. The middle 5 s of each recording are used, at 16 kHz: change
--config.audio.seconds and --config.audio.sample_rate.

Arguments: audio_encoder=convnet|resnet18|resnet50|vit, text_encoder=transformer|lstm, and
method=vals|smoothing|mm_ts|mm_ts_margin|sigmoid, or several joined by "+".
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, audio_encoder="convnet", text_encoder="transformer", method="")
    c = config.default()
    c.name = f"Recordings and captions, {arg.method or 'baseline'}"
    c.data = "pairs:sounds.csv"
    c.input.batch_size = 128
    c.audio.seconds = 5.0
    c.model = config.two_tower(arg.audio_encoder, arg.text_encoder)
    c.optimizer.learning_rate = 1e-3
    c.train.duration = "60 epochs"
    c.eval.interval = "2 epochs"
    c.checkpoint.interval = "10 epochs"
    if arg.runlocal:
        c.input.batch_size = 64
        c.audio.seconds = 1.0
        c.train.duration = "6 steps"
        c.eval.interval = "3 steps"
    config.apply_methods(c, arg.method)
    config.use_data(c, arg.data)
    return c
