"""Classification of your own samples from two or three modalities: recordings, images, texts.

    alignment-jax train --config configs/classify.py:data=posts:my_posts.csv --workdir runs/posts
    alignment-jax train --config configs/classify.py:data=samples:clips.csv,modalities=audio+text --workdir runs/clips

The table has the columns label and two or three of audio, image and text; a cell may be empty where a sample lacks a
modality. Arguments: modalities=image+text (in the order audio, image, text),
method=shuffle|class_balanced|curriculum|anti_curriculum|probabilistic, weights=none|balanced (of the classes in the
loss), audio_encoder= and image_encoder= convnet|resnet18|vit, text_encoder=lstm|transformer.

The small encoders are trained from scratch, for hundreds to ten thousands of samples. For longer recordings and larger
images change --config.audio.seconds and --config.input.image_size.
"""

from alignment_jax import config

MODALITIES = ("audio", "image", "text")


def get_config(arg=None):
    arg = config.parse_arg(
        arg,
        modalities="image+text",
        method="shuffle",
        weights="none",
        audio_encoder="convnet",
        image_encoder="convnet",
        text_encoder="lstm",
    )
    names = arg.modalities.split("+")
    if len(names) < 2 or names != [name for name in MODALITIES if name in names]:
        raise config.ConfigError(
            f"config argument modalities={arg.modalities!r}: expected two or three of {', '.join(MODALITIES)} in this "
            "order, joined by +"
        )
    # An audio encoder reads a spectrogram, an image with one channel.
    models = {name: config.two_tower(arg[f"{name}_encoder"], arg.text_encoder) for name in ("audio", "image")}
    towers = {name: towers.encoder_a for name, towers in models.items()} | {"text": models["image"].encoder_b}
    c = config.default()
    c.name = f"Classes from {' and '.join(names)}, {arg.method}"
    c.data = "posts:posts.csv"
    c.model = config.fusion_classifier(*(towers[name].to_dict() for name in names))
    c.classification.class_weights = arg.weights
    c.sampling.name = config.sampling_order(arg.method)
    c.sampling.epochs = 10
    c.input.batch_size = 32
    c.eval.metric = "val/accuracy"
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
