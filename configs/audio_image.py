"""Audio-image alignment from recordings and pixels, both encoders trained from scratch.

    alignment-jax train --config configs/audio_image.py:data=pairs:clips.csv --workdir runs/clips

The table has the columns audio and image, or one of videos: data=pairs:clips.csv,audio=video,image=video pairs the
sound of each with its middle frame. The middle 5 s of each recording are used, at 16 kHz: change --config.audio.seconds
and --config.audio.sample_rate.

Arguments: audio_encoder=convnet|resnet18|resnet50|vit, image_encoder=the same, and
method=vals|smoothing|mm_ts|mm_ts_margin|sigmoid, or several joined by "+".
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, audio_encoder="convnet", image_encoder="convnet", method="")
    c = config.default()
    c.name = f"Recordings and images, {arg.method or 'baseline'}"
    c.data = "pairs:clips.csv"
    c.input.batch_size = 128
    c.input.image_size = 64
    c.audio.seconds = 5.0
    c.model = config.two_tower(arg.audio_encoder, arg.image_encoder)
    c.optimizer.learning_rate = 1e-3
    c.train.duration = "60 epochs"
    c.eval.interval = "2 epochs"
    c.checkpoint.interval = "10 epochs"
    if arg.runlocal:
        c.input.batch_size = 64
        c.input.image_size = 32
        c.audio.seconds = 1.0
        c.train.duration = "6 steps"
        c.eval.interval = "3 steps"
    config.apply_methods(c, arg.method)
    config.use_data(c, arg.data)
    return c
