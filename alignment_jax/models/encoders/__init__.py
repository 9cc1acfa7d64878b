"""Encoders, one per file: modules `(x, *, train, rows, where) -> features [n, width]`.

To add an encoder, add a file and a row in `ENCODERS`: name -> (class, options fixed by the name).
"""

from alignment_jax.models.encoders.convnet import ConvNet
from alignment_jax.models.encoders.lstm import LSTM
from alignment_jax.models.encoders.mlp import MLP
from alignment_jax.models.encoders.resnet import ResNet
from alignment_jax.models.encoders.transformer import TextTransformer
from alignment_jax.models.encoders.vit import ViT

ENCODERS = {
    "convnet": (ConvNet, {}),
    "lstm": (LSTM, {}),
    "mlp": (MLP, {}),
    "resnet": (ResNet, {}),
    "resnet18": (ResNet, {"depth": 18}),
    "resnet50": (ResNet, {"depth": 50}),
    "transformer": (TextTransformer, {}),
    "vit": (ViT, {}),
}

__all__ = ["ENCODERS", "LSTM", "MLP", "ConvNet", "ResNet", "TextTransformer", "ViT"]
