"""MM-TS on YouCook2, from precomputed features of recipe steps, and sentences.

    alignment-jax train --config configs/youcook2_mm_ts.py:data=youcook2:DIR --workdir runs/youcook2

The paper fine-tunes VAST and clusters the sentences with K-Means. This config clusters alike, with a small network on
precomputed features. The paper's alpha and shifts for this set are not published; the defaults are those of the
authors' code. Arguments: method=mm_ts|mm_ts_margin|baseline or others of alignment_jax/config/recipes.py,
text=transformer|lstm.
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, method="mm_ts", text="transformer")
    c = config.default()
    c.name = f"YouCook2, {arg.method}"
    c.data = "youcook2:YouCook2"
    c.model = config.two_tower("mlp", arg.text)
    c.model.dim = 256
    c.clusters.source = "kmeans"
    config.apply_methods(c, arg.method)
    c.input.batch_size = 256
    c.train.duration = "30 epochs"
    c.checkpoint.interval = "5 epochs"
    if arg.runlocal:
        c.model.dim = 32
        c.input.batch_size = 64
        c.train.duration = "4 steps"
        c.eval.interval = "2 steps"
    config.use_data(c, arg.data)
    return c
