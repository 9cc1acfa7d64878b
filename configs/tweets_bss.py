"""BSS on tweets with an image, Twitter2015 (three sentiments) or the multimodal sarcasm set (two classes).

    alignment-jax train --config configs/tweets_bss.py:data=twitter2015:DIR,method=curriculum --workdir runs/twitter
    alignment-jax train --config configs/tweets_bss.py:data=sarcasm:DIR,method=curriculum --workdir runs/sarcasm

The authors fine-tune BERT with a ResNet; here both encoders are trained from scratch, so accuracies are lower.
Arguments: method=shuffle|curriculum|anti_curriculum|probabilistic, scores=fresh|recycled, text=transformer|lstm,
image=resnet18|convnet|vit.

balance=none|ogm_ge|ogm|agm|pmr|gradient_blending|mmpareto|qmf|modality_dropout|unimodal_pretraining adds a
method against unequal modalities.
"""

from alignment_jax import config


def get_config(arg=None):
    arg = config.parse_arg(
        arg, method="probabilistic", balance="none", scores="fresh", text="transformer", image="resnet18"
    )
    c = config.default()
    c.name = f"Tweets with pictures, {arg.method}"
    c.data = "twitter2015:twitter2015"
    c.input.image_size = 224
    c.input.max_length = 48
    towers = config.two_tower(arg.image, arg.text)
    c.model = config.fusion_classifier(towers.encoder_a.to_dict(), towers.encoder_b.to_dict())
    config.bss_training(c, method=arg.method, scores=arg.scores, learning_rate=0.001, epochs=100)
    config.apply_balance(c, arg.balance)
    if arg.runlocal:
        config.shrink_for_runlocal(c)
    config.use_data(c, arg.data)
    return c
