"""MM-TS on EPIC-KITCHENS-100 multi-instance retrieval, from precomputed features of the clips, and captions.

    alignment-jax train --config configs/epic_mir_mm_ts.py:data=epic:DIR --workdir runs/epic

Loss and schedule are the paper's (max margin; alpha 0.2, shifts 0.17 to 0.30, five oscillations). A small network on
precomputed features replaces its fine-tuned encoder (AVION's video CLIP), so do not expect the metrics of the paper.
Arguments: method=mm_ts_margin|baseline (a fixed margin) or others of alignment_jax/config/recipes.py,
text=transformer|lstm|features (features of the captions, then two adapters).
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, method="mm_ts_margin", text="transformer")
    c = config.default()
    c.name = f"EPIC-KITCHENS-100, retrieval, {arg.method}"
    c.data = "epic:EPIC-KITCHENS-100"
    if arg.text == "features":
        c.model = config.adapters()
    else:
        c.model = config.two_tower("mlp", arg.text)
        c.model.dim = 256
    c.loss.name = "max_margin"
    c.margin.value = 0.2
    c.margin.alpha = 0.2
    c.margin.min_shift = 0.17
    c.margin.max_shift = 0.30
    c.margin.period = "20 percent"
    config.apply_methods(c, arg.method)
    c.input.batch_size = 512
    c.input.max_length = 16
    c.train.duration = "20 epochs"
    c.eval.interval = "2 epochs"
    c.eval.metric = "val/mAP"
    c.checkpoint.interval = "5 epochs"
    if arg.runlocal:
        c.model.dim = 32
        c.input.batch_size = 64
        c.train.duration = "4 steps"
        c.eval.interval = "2 steps"
    config.use_data(c, arg.data)
    return c
