"""Pretrained encoders: flax modules with the weights and the preprocessing of folders from the Hugging Face hub.

>>> from alignment_jax.models import pretrained
>>> sorted(pretrained.FAMILIES)[:4]
['bert', 'clip', 'clip_text_model', 'clip_vision_model']
"""

from alignment_jax.models.pretrained.families import FAMILIES, Family
from alignment_jax.models.pretrained.image_preprocess import ImagePreprocess
from alignment_jax.models.pretrained.image_text import ImageText
from alignment_jax.models.pretrained.load import Preprocess, Pretrained, load, with_numerics
from alignment_jax.models.pretrained.pooling import POOLINGS, pool
from alignment_jax.models.pretrained.positions import resize_positions
from alignment_jax.models.pretrained.save import save_pretrained
from alignment_jax.models.pretrained.text import TextSpec, TextTower
from alignment_jax.models.pretrained.tiny import random_folder, tiny_folder
from alignment_jax.models.pretrained.tokenize import TextPreprocess
from alignment_jax.models.pretrained.transformer import Layers, Numerics, Transformer
from alignment_jax.models.pretrained.vision import ImageSpec, ImageTower
from alignment_jax.models.pretrained.word_tokenizer import word_tokenizer

__all__ = [
    "FAMILIES",
    "POOLINGS",
    "Family",
    "ImagePreprocess",
    "ImageSpec",
    "ImageText",
    "ImageTower",
    "Layers",
    "Numerics",
    "Preprocess",
    "Pretrained",
    "TextPreprocess",
    "TextSpec",
    "TextTower",
    "Transformer",
    "load",
    "pool",
    "random_folder",
    "resize_positions",
    "save_pretrained",
    "tiny_folder",
    "with_numerics",
    "word_tokenizer",
]
