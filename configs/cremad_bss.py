"""BSS on CREMA-D with the paper's settings: emotions from speech and faces.

    alignment-jax train --config configs/cremad_bss.py:data=cremad:DIR,method=probabilistic --workdir runs/cremad

Arguments: method=shuffle|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled.

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, method="shuffle", balance="none", scores="fresh")
    c = config.default()
    c.name = f"CREMA-D, {arg.method}"
    c.data = "cremad:CREMA-D"
    config.audio_visual_inputs(c, image_size=224, seconds=3.0)
    c.input.crop_min_area = 0.08
    # loss = 0.9 (ce_a + ce_b) + 0.1 ce_fused; the prediction sums the heads of the two modalities.
    c.classification.weight_a = c.classification.weight_b = 0.9
    c.classification.weight_fused = 0.1
    c.classification.predict = "a+b"
    config.bss_training(c, method=arg.method, scores=arg.scores, learning_rate=0.01, epochs=120)
    config.apply_balance(c, arg.balance)
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
