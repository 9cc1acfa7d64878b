"""Fine-tunes pretrained encoders: CLIP or SigLIP, any two encoders, or one encoder against frozen latents.

    alignment-jax train --workdir runs/tuned \
      --config configs/finetune.py:image=hf:FOLDER,text=hf:FOLDER,data=flickr:DIR

Arguments: image, text=hf:NAME_OR_PATH|st:NAME_OR_PATH|latents (st: reads texts, on either side); tune=none|head|last:K|
lora:RANK|norms|all of both sides; tune_image, tune_text of one; and method=vals|smoothing|mm_ts|sigmoid|..., or several
joined by "+". Both sides of one checkpoint stay in its space. Others get projections that start from the closed form of
the recipe, on what the encoders give before tuning; init=random starts them at random.
"""

from alignment_jax import config

# Learning rates that suit AdamW, by what is trained: the more of a pretrained model moves, the smaller the steps.
RATES = {"all": 1e-5, "last": 3e-5, "lora": 3e-4, "norms": 3e-4, "head": 1e-3, "none": 1e-3}


def get_config(arg=None):
    arg = config.parse_arg(
        arg, image="latents", text="latents", tune="lora:8", tune_image="", tune_text="", init="cca", method=""
    )
    tunes = {"a": arg.tune_image or arg.tune, "b": arg.tune_text or arg.tune}
    c = config.default()
    c.name = f"Flickr8k, fine-tuned, {arg.method or 'baseline'}"
    c.data = "flickr:Flickr8k"
    c.input.batch_size = 64
    c.input.crop_min_area = 1.0
    c.input.flip = False
    c.model = config.finetuned(arg.image, arg.text, tune_a=tunes["a"], tune_b=tunes["b"])
    words = [tunes[side].partition(":")[0] for side in "ab" if c.model[f"encoder_{side}"].name != "latents"]
    c.optimizer.learning_rate = min(RATES.get(word, 1e-4) for word in words) if words else 1e-3
    c.optimizer.weight_decay = 0.01
    c.optimizer.warmup = "10 percent"
    if "all" in words or "last" in words:
        c.optimizer.layer_decay = 0.8
    c.train.duration = "10 epochs"
    c.train.interpolate = "val"
    c.eval.patience = 5
    if words and c.model.projection == "affine" and arg.init == "cca":
        c.init.name = "cca"
        c.init.shrinkage = c.init.dim = c.init.power = "auto"
        c.init.selection = "cross_validation"
        c.temperature.init = 0.05
    c.eval.hubness = "auto"
    c.eval.views = "mean"
    if arg.runlocal:
        c.input.batch_size = 16
        c.train.duration = "4 steps"
        c.eval.interval = "2 steps"
    config.apply_methods(c, arg.method)
    config.use_data(c, arg.data)
    return c
