"""BSS on NVGesture with the paper's settings: 25 gestures from colour, optical flow and depth.

    alignment-jax train --config configs/nvgesture_bss.py:data=nvgesture:DIR,method=curriculum --workdir runs/nvgesture

The authors use I3D networks on 64 frames, which are not included. inputs=features reads a vector for each modality,
such as the output of an I3D network; inputs=frames reads a single frame, which shows little of a gesture. Further
arguments: method=shuffle|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled.

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config

ENCODERS = {
    "features": {"name": "mlp", "widths": (512,), "dropout": 0.3},
    "frames": {"name": "resnet18", "width": 64, "norm": "group", "stem": "auto"},
}


def get_config(arg=None):
    arg = config.parse_arg(arg, method="probabilistic", balance="none", scores="fresh", inputs="features")
    c = config.default()
    c.name = f"NVGesture, {arg.method}"
    c.data = "nvgesture:nvGesture"
    c.input.image_size = 224
    if arg.inputs not in ENCODERS:
        raise config.ConfigError(f"config argument inputs={arg.inputs!r}: expected one of {', '.join(ENCODERS)}")
    c.model = config.fusion_classifier(*(dict(ENCODERS[arg.inputs]) for _ in range(3)))
    config.bss_training(c, method=arg.method, scores=arg.scores, learning_rate=0.01, epochs=120)
    config.apply_balance(c, arg.balance)
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
