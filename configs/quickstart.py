"""The quickstart: two small encoders trained from scratch on generated scenes; a few minutes on two cores."""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, method="")
    c = config.default()
    c.name = "Quickstart: coloured scenes and their captions"
    c.data = "synthetic"
    c.input.image_size = 32
    c.input.batch_size = 128
    c.input.vocab_size = 512
    c.input.max_length = 24
    c.input.crop_min_area = 0.8
    c.model = config.two_tower("convnet", "transformer")
    c.model.dim = 64
    c.model.encoder_b.width = 64
    c.model.encoder_b.heads = 4
    c.model.encoder_b.depth = 2
    c.optimizer.learning_rate = 2e-3
    c.optimizer.weight_decay = 0.05
    c.train.duration = "60 epochs"
    c.eval.interval = "4 epochs"
    c.checkpoint.interval = "4 epochs"
    if arg.runlocal:
        c.data = "synthetic:train=256,val=64,test=64"
        c.input.batch_size = 64
        c.train.duration = "3 epochs"
        c.eval.interval = "1 epochs"
    config.apply_methods(c, arg.method)
    config.use_data(c, arg.data)
    return c
