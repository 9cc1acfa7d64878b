"""Image-text alignment on frozen latents: an embeddings file and two small adapters.

    alignment-jax train --config configs/flickr8k_frozen.py:data=embeddings:FILE.npz --workdir runs/frozen

The default is the recommended recipe (docs/recipe.md): a closed form with a hubness correction. Cross-validation inside
train chooses the settings, and whether to train from there. `method=` trains InfoNCE instead, with these methods:
baseline, vals, modest_align, fusemix, noise, smoothing, mm_ts, mm_ts_margin, structure, sotalign, sigmoid, bss, all, or
several joined by "+". `method=cca` is the closed form with settings chosen on val, without training, `method=csa` the
same with a weighted cosine. `init=cca` starts the training of another method from the closed form. A method trains 150
epochs, one step each for up to 600 pairs; `steps=400` sets the number of steps instead, for thousands of pairs.
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, method="", init="", steps=0)
    c = config.default()
    c.name = f"Flickr8k, frozen latents, {arg.method or 'recipe'}" + (f" from {arg.init}" if arg.init else "")
    c.data = "embeddings:flickr8k.npz"
    # For few pairs: linear maps, strong weight decay, and the whole set in one batch.
    c.model = config.adapters()
    c.model.blocks_a = c.model.blocks_b = 0
    c.model.final_norm = False
    c.model.input_norm = "l2"
    c.input.batch_size = 600
    c.optimizer.weight_decay = 1.0
    c.eval.views = "mean"
    c.train.duration = "150 epochs"
    c.eval.interval = "5 epochs"
    c.checkpoint.interval = "25 epochs"
    if arg.runlocal:
        c.model.dim = 64
        c.input.batch_size = 128
        c.train.duration = "3 epochs"
        c.eval.interval = "1 epochs"
    if arg.method:
        if arg.steps:
            c.train.duration, c.eval.interval = f"{arg.steps} steps", f"{max(1, arg.steps // 16)} steps"
        config.apply_methods(c, arg.method)
    else:
        c.init.name = "cca"
        c.init.shrinkage = c.init.dim = c.init.power = "auto"
        c.init.selection = "cross_validation"
        c.init.training = "auto"
        c.eval.hubness = "auto"
        c.temperature.init = 0.05
        c.train.duration = "3 epochs" if arg.runlocal else "10 epochs"
        c.eval.interval = "1 epochs"
        c.checkpoint.interval = "5 epochs"
    if arg.init:
        c.init.name = arg.init
        c.init.power, c.init.selection = "auto", "cross_validation"
    config.use_data(c, arg.data)
    return c
