"""BSS on VGGSound with the paper's settings: 309 classes from sound and frames.

    alignment-jax train --config configs/vggsound_bss.py:data=vggsound:DIR,method=probabilistic --workdir runs/vggsound

Arguments: method=shuffle|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled (fresh scores take about a
third of the training time on this large set, recycled scores none).

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, method="probabilistic", balance="none", scores="fresh")
    c = config.default()
    c.name = f"VGGSound, {arg.method}"
    c.data = "vggsound:VGGSound"
    config.audio_visual_inputs(c, image_size=384, seconds=10.0)
    config.bss_training(c, method=arg.method, scores=arg.scores, learning_rate=0.01, epochs=100)
    c.input.batch_size = 16
    config.apply_balance(c, arg.balance)
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
