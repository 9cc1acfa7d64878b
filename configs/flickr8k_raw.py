"""Image-text alignment from pixels and words, both encoders trained from scratch, as in VALS.

    alignment-jax train --config configs/flickr8k_raw.py:data=flickr:DIR --workdir runs/raw

Arguments: image=vit|convnet|resnet18|resnet50, text=transformer|lstm, and method=vals|smoothing|mm_ts|mm_ts_margin|
sigmoid, or several joined by "+".
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, image="convnet", text="transformer", method="")
    c = config.default()
    c.name = f"Flickr8k, from pixels and words, {arg.method or 'baseline'}"
    c.data = "flickr:Flickr8k"
    c.input.image_size = 64
    c.input.batch_size = 128
    c.model = config.two_tower(arg.image, arg.text)
    c.optimizer.learning_rate = 1e-3
    c.train.duration = "60 epochs"
    c.eval.interval = "2 epochs"
    c.checkpoint.interval = "10 epochs"
    if arg.runlocal:
        c.input.image_size = 32
        c.input.batch_size = 64
        c.train.duration = "6 steps"
        c.eval.interval = "3 steps"
    config.apply_methods(c, arg.method)
    config.use_data(c, arg.data)
    return c
