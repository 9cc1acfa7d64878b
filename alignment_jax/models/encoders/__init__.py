"""Encoders, one per file: modules `(x, *, train, rows, where) -> features [n, width]`.

To add an encoder, add a file and a row in `ENCODERS`: name -> (class, options fixed by the name); one that does not
read pixels or recordings also has a row in `READS`.
"""

from alignment_jax.models.encoders.convnet import ConvNet
from alignment_jax.models.encoders.latents import Latents
from alignment_jax.models.encoders.lstm import LSTM
from alignment_jax.models.encoders.mlp import MLP
from alignment_jax.models.encoders.pretrained_image import PretrainedImage
from alignment_jax.models.encoders.pretrained_text import PretrainedText
from alignment_jax.models.encoders.resnet import ResNet
from alignment_jax.models.encoders.transformer import TextTransformer
from alignment_jax.models.encoders.vit import ViT

ENCODERS = {
    "convnet": (ConvNet, {}),
    "latents": (Latents, {}),
    "lstm": (LSTM, {}),
    "mlp": (MLP, {}),
    "pretrained_image": (PretrainedImage, {}),
    "pretrained_text": (PretrainedText, {}),
    "resnet": (ResNet, {}),
    "resnet18": (ResNet, {"depth": 18}),
    "resnet50": (ResNet, {"depth": 50}),
    "transformer": (TextTransformer, {}),
    "vit": (ViT, {}),
}

# Name -> kind of its items: "text" (token ids) or "vectors"; others read pixels or recordings.
READS = {
    "latents": "vectors",
    "lstm": "text",
    "mlp": "vectors",
    "pretrained_text": "text",
    "transformer": "text",
}

__all__ = [
    "ENCODERS",
    "LSTM",
    "MLP",
    "READS",
    "ConvNet",
    "Latents",
    "PretrainedImage",
    "PretrainedText",
    "ResNet",
    "TextTransformer",
    "ViT",
]
