"""Classification of your own samples from two or three modalities: recordings, images, texts.

    alignment-jax train --config configs/classify.py:data=posts:my_posts.csv --workdir runs/posts
    alignment-jax train --config configs/classify.py:data=samples:clips.csv,modalities=audio+text --workdir runs/clips

The table has the columns label and two or three of audio, image and text; a cell may be empty where a sample lacks a
modality. Arguments: modalities=image+text (in the order audio, image, text),
method=shuffle|class_balanced|curriculum|anti_curriculum|probabilistic, weights=none|balanced (of the classes in the
loss), audio_encoder= and image_encoder= convnet|resnet18|vit, text_encoder=lstm|transformer. image_encoder=hf:FOLDER
and text_encoder=hf:FOLDER or st:FOLDER start from checkpoints; tune=none|head|last:K|lora:RANK|norms|all of these.

The other encoders are small and trained from scratch, for hundreds to ten thousands of samples. For longer recordings
and larger images change --config.audio.seconds and --config.input.image_size.

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config

MODALITIES = ("audio", "image", "text")


def get_config(arg=None):
    arg = config.parse_arg(
        arg,
        modalities="image+text",
        method="shuffle",
        balance="none",
        weights="none",
        audio_encoder="convnet",
        image_encoder="convnet",
        text_encoder="lstm",
        tune="lora:8",
    )
    names = arg.modalities.split("+")
    if len(names) < 2 or names != [name for name in MODALITIES if name in names]:
        raise config.ConfigError(
            f"config argument modalities={arg.modalities!r}: expected two or three of {', '.join(MODALITIES)} in this "
            "order, joined by +"
        )

    def encoder(name):
        chosen = arg[f"{name}_encoder"]
        if config.is_pretrained(chosen):
            return config.pretrained_encoder(chosen, name, tune=arg.tune)
        # An audio encoder reads a spectrogram, an image with one channel.
        towers = config.two_tower(text=chosen) if name == "text" else config.two_tower(chosen)
        return (towers.encoder_b if name == "text" else towers.encoder_a).to_dict()

    c = config.default()
    c.name = f"Classes from {' and '.join(names)}, {arg.method}"
    c.data = "posts:posts.csv"
    c.model = config.fusion_classifier(*map(encoder, names))
    config.apply_balance(c, arg.balance)
    if any(config.is_pretrained(arg[f"{name}_encoder"]) for name in names):
        c.input.crop_min_area, c.input.flip = 1.0, False
        c.optimizer.learning_rate, c.optimizer.weight_decay = 3e-4, 0.01
    c.classification.class_weights = arg.weights
    c.sampling.name = config.sampling_order(arg.method)
    c.sampling.epochs = 10
    c.input.batch_size = 32
    c.eval.metric = "val/accuracy"
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
