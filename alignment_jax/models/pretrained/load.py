"""A folder of the Hugging Face hub to a module, its parameters and its preprocessing."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.models.pretrained.families import FAMILIES, Family
from alignment_jax.models.pretrained.families.family import Checkpoint, Config
from alignment_jax.models.pretrained.image_preprocess import ImagePreprocess, read_image_preprocess
from alignment_jax.models.pretrained.image_text import ImageText
from alignment_jax.models.pretrained.pooling import SentenceModules, read_json, read_sentence_modules
from alignment_jax.models.pretrained.text import TextTower
from alignment_jax.models.pretrained.tokenize import TextPreprocess, read_text_preprocess
from alignment_jax.models.pretrained.transformer import Numerics
from alignment_jax.models.pretrained.vision import ImageTower
from alignment_jax.models.pretrained.weights import Tensors, read_weights

Module = ImageTower | TextTower | ImageText


class Preprocess:
    """The preprocessing of a checkpoint; a side is read from its files on first use.

    Attributes:
      images: `ImagePreprocess`: PIL images or arrays -> the argument of `encode_image`.
      texts: `TextPreprocess`: strings -> the arguments of `encode_text`, by name.
    """

    def __init__(self, folder: pathlib.Path, module: Module, config: Config, modules: SentenceModules | None) -> None:
        self._folder, self._module, self._config = folder, module, config
        self._files, self._sentence = (folder if modules is None else modules.transformer), modules is not None
        self._images: ImagePreprocess | None = None
        self._texts: TextPreprocess | None = None

    @property
    def images(self) -> ImagePreprocess:
        if isinstance(self._module, TextTower):
            raise ConfigError(f"{self._folder}: a checkpoint of texts has no image preprocessing")
        if self._images is None:
            self._images = read_image_preprocess(self._files)
        return self._images

    @property
    def texts(self) -> TextPreprocess:
        tower = self._module.text if isinstance(self._module, ImageText) else self._module
        if isinstance(tower, ImageTower):
            raise ConfigError(f"{self._folder}: a checkpoint of images has no tokenizer")
        if self._texts is None:
            config = self._config.get("text_config") or self._config
            padding = tower.spec.padding if tower.spec.padding is not None else config.get("pad_token_id")
            self._texts = read_text_preprocess(
                self._files,
                longest=tower.spec.longest,
                vocabulary=tower.spec.vocabulary,
                padding=padding,
                fixed=not tower.spec.poolings and tower.spec.end is None,
                root=self._folder if self._sentence else None,
            )
        return self._texts


class Pretrained(NamedTuple):
    """A loaded checkpoint; it unpacks as (module, variables, preprocess)."""

    module: Module
    variables: dict[str, Any]
    preprocess: Preprocess


def load(
    folder: str | os.PathLike[str],
    *,
    dtype: Any = jnp.float32,
    param_dtype: Any = jnp.float32,
    remat: bool = False,
    dropout: float | None = None,
    stochastic_depth: float = 0.0,
    sentence: bool = True,
) -> Pretrained:
    """Loads an image tower, a text tower, or both, from a folder as the Hugging Face hub has it.

    The family follows from `model_type` in config.json (keys of `FAMILIES`). Read are config.json, model.safetensors or
    its shards, and on first use preprocessor_config.json, tokenizer.json and sentence-transformers' modules.json. No
    PyTorch, no transformers; pickled weights are never read and no code of a checkpoint is run.

    Args:
      folder: of the checkpoint.
      dtype: of activations and matrix products; bfloat16 halves memory and time on accelerators.
      param_dtype: of the parameters.
      remat: recompute each layer in the backward pass.
      dropout: rate while training; None means the checkpoint's `hidden_dropout_prob`, 0 where it has none. Attention
        probabilities are never dropped.
      stochastic_depth: rate at which the last layer's branches are left out while training, in [0, 1); see `Numerics`.
      sentence: follow sentence-transformers' files (pooling, normalisation, longest text, prompts); False ignores them,
        as transformers does: the mean over tokens.

    Returns:
      (module, variables, preprocess).
      module: `ImageTower`, `TextTower` or `ImageText`, with the methods `encode_image`, `encode_text`.
      variables: {"params": ...}; the layers' parameters are stacked along axis 0.
      preprocess: `.images(list)` and `.texts(list)` give the arguments of these methods.

    Raises:
      ConfigError: no such folder, an unknown family or switch, or weights that are missing, unknown or misshaped; the
        message names them.
      MissingPackageError: safetensors is not installed.

    >>> import tempfile
    >>> from alignment_jax.models.pretrained import load, save_pretrained, tiny_folder
    >>> module, variables, preprocess = load(tiny_folder(tempfile.mkdtemp()))
    >>> batch = preprocess.texts(["a red dog", "a cat"])
    >>> batch["tokens"].tolist()
    [[2, 4, 5, 6, 3], [2, 4, 7, 3, 0]]
    >>> jax.jit(module.apply, static_argnames="method")(variables, **batch, method="encode_text").shape
    (2, 8)
    """
    path = pathlib.Path(folder)
    described = describe(path, sentence=sentence)
    config, family, tensors = described.config, described.family, described.tensors
    rate = config.get("hidden_dropout_prob", 0.0) if dropout is None else dropout
    numerics = checked_numerics(
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.dtype(param_dtype),
        remat=remat,
        dropout=float(rate or 0.0),
        stochastic_depth=stochastic_depth,
    )
    shapes = jax.eval_shape(described.module.init, jax.random.key(0), *described.module.example())["params"]
    params = read_weights(
        tensors, shapes, family.weights(config), ignored=family.ignored, param_dtype=numerics.param_dtype
    )
    return Pretrained(with_numerics(described.module, numerics), {"params": params}, described.preprocess)


class Description(NamedTuple):
    """What the files of a folder say without its weights.

    module: as `load` makes it, with the default numerics; shapes do not depend on these.
    """

    module: Module
    preprocess: Preprocess
    config: Config
    family: Family
    tensors: Tensors


def describe(folder: pathlib.Path, *, sentence: bool = True) -> Description:
    """The module and the preprocessing of a folder, without reading weights; see `load` for arguments and errors."""
    config, family, modules = read_config(folder, sentence=sentence)
    tensors = Tensors(modules.transformer, prefixes=family.prefixes)
    try:
        module = family.build(Checkpoint(config, tensors.names, modules), Numerics())
    except ConfigError as error:
        raise ConfigError(f"{modules.transformer}: {error}") from error
    preprocess = Preprocess(folder, module, config, modules if sentence else None)
    return Description(module, preprocess, config, family, tensors)


def checked_numerics(**options: Any) -> Numerics:
    """`Numerics` of these options.

    Raises:
      ConfigError: a rate out of range.
    """
    numerics = Numerics(**options)
    for name in ("dropout", "stochastic_depth"):
        if not 0.0 <= getattr(numerics, name) < 1.0:
            raise ConfigError(f"{name} must be in [0, 1), got {getattr(numerics, name)}")
    return numerics


def read_config(folder: pathlib.Path, *, sentence: bool = True) -> tuple[Config, Family, SentenceModules]:
    """(content of config.json, its family, sentence-transformers' modules) of a folder.

    Raises:
      ConfigError: no such folder or file, or an unknown family.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: no such folder; download a checkpoint with `hf download NAME --local-dir {folder}`"
        )
    modules = read_sentence_modules(folder) if sentence else SentenceModules(folder, ("mean",), False)
    file = modules.transformer / "config.json"
    config = read_json(file)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in FAMILIES:
        raise ConfigError(f"{file}: no model_type {kind!r}{suggest(str(kind), FAMILIES)}")
    return config, FAMILIES[kind], modules


def with_numerics(module: Module, numerics: Numerics) -> Any:
    """The same module with another way to compute; its parameters fit both.

    >>> from alignment_jax.models.pretrained import ImageSpec, ImageTower, Layers
    >>> tower = ImageTower(ImageSpec(Layers(width=8, depth=1, heads=2, hidden=16), grid=(2, 2), patch=(4, 4)))
    >>> with_numerics(tower, Numerics(remat=True)).numerics.remat
    True
    """
    if isinstance(module, ImageText):
        return dataclasses.replace(
            module,
            image=dataclasses.replace(module.image, numerics=numerics),
            text=dataclasses.replace(module.text, numerics=numerics),
        )
    return dataclasses.replace(module, numerics=numerics)
