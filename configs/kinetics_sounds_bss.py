"""BSS on Kinetics-Sounds with the paper's settings: 31 actions from sound and frames.

    alignment-jax train --config configs/kinetics_sounds_bss.py:data=kinetics_sounds:DIR,method=curriculum \
      --workdir runs/kinetics_sounds

The authors use three frames at once; this config uses one, another in every epoch. Arguments:
method=shuffle|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled.

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, method="probabilistic", balance="none", scores="fresh")
    c = config.default()
    c.name = f"Kinetics-Sounds, {arg.method}"
    c.data = "kinetics_sounds:kinetics_sound"
    config.audio_visual_inputs(c, image_size=224, seconds=10.0)
    config.bss_training(c, method=arg.method, scores=arg.scores, learning_rate=0.1, epochs=100)
    config.apply_balance(c, arg.balance)
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
