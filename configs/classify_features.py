"""Classification from feature vectors of two or three modalities.

    alignment-jax train --config configs/classify_features.py:data=features:my.npz --workdir runs/mine

Arguments: modalities=2|3, method=shuffle|class_balanced|curriculum|anti_curriculum|probabilistic, width=256 (of the
hidden layer of each encoder). For hundreds to some ten thousand samples; the format of the file is in
docs/data/own_classes.md.

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(arg, modalities=2, method="shuffle", balance="none", width=256)
    if arg.modalities not in (2, 3):
        raise config.ConfigError(f"config argument modalities={arg.modalities}: expected 2 or 3")
    c = config.default()
    c.name = f"Classes from features, {arg.method}"
    c.data = "features:features.npz"
    encoder = {"name": "mlp", "widths": (arg.width,), "dropout": 0.3}
    c.model = config.fusion_classifier(*(dict(encoder) for _ in range(arg.modalities)))
    config.apply_balance(c, arg.balance)
    c.sampling.name = config.sampling_order(arg.method)
    c.sampling.epochs = 10
    c.input.batch_size = 32
    c.optimizer.learning_rate = 5e-3
    c.optimizer.weight_decay = 0.05
    c.train.duration = "20 epochs"
    c.eval.interval = "1 epochs"
    c.eval.metric = "val/accuracy"
    c.checkpoint.interval = "10 epochs"
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
