"""Encoders of `models.pretrained` in JAX: one compiled program per batch shape, over all devices of this process."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.extract.encoders import Encoder, Options, Stages
from alignment_jax.extract.hub import identity_of
from alignment_jax.extract.poolings import FEATURES, MODULES, image_pooling, text_pooling
from alignment_jax.models import pretrained
from alignment_jax.models.pretrained.load import read_config

# Largest batch of `Encoder.encode`, which is called with a few queries.
_AT_ONCE = 64
# Images of one program on a CPU: the activations of more leave the cache, and ViT-B becomes slower by a fifth.
_IMAGES_ON_CPU = 4
# A few queries of up to this length share one program: compiling another takes longer than encoding them.
_FEW, _QUERY_TOKENS = 4, 16


def image_encoder(folder: pathlib.Path, options: Options, *, where: str) -> Encoder:
    """The image encoder of a folder.

    Args:
      folder: with a checkpoint of `pretrained.FAMILIES`.
      options: see `Options`.
      where: the encoder's name, for messages.

    Raises:
      ConfigError: it cannot be loaded, has no image tower, or the pooling does not suit it.
    """
    tower, params, preprocess, both = _tower(folder, options, "image", where=where, sentence=False)
    pooling = image_pooling(_model_type(folder), options.pooling, both_sides=both, where=where)
    images = preprocess.images
    output = _output(tower, pooling, where=where)

    def apply(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        found = tower.apply({"params": params}, images.normalize(batch["pixels"]))
        return _vectors(found, output, jnp.ones(found["tokens"].shape[:2], bool))

    run = _Devices(apply, params, options.device, on_cpu=_IMAGES_ON_CPU)

    def prepare(pictures: Sequence[Any]) -> dict[str, np.ndarray]:
        try:
            return {"pixels": images.pixels(pictures)}
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error

    def encode(pictures: Sequence[Any]) -> np.ndarray:
        size = _power_of_two(len(pictures))
        parts = [pictures[k : k + size] for k in range(0, len(pictures), size)]
        return np.concatenate([run.collect(run.launch(prepare(part), size)) for part in parts])

    stages = Stages(prepare, run.launch, run.collect, devices=run.count)
    return Encoder(encode, identity_of(folder, pooling=pooling, prefix=options.prefix), stages)


def text_encoder(folder: pathlib.Path, options: Options, *, where: str, sentence: bool) -> Encoder:
    """The text encoder of a folder.

    Args:
      folder, options, where: see `image_encoder`.
      sentence: follow the files of sentence-transformers.

    Raises:
      ConfigError: it cannot be loaded, has no text tower, or the pooling does not suit it.
    """
    tower, params, preprocess, both = _tower(folder, options, "text", where=where, sentence=sentence)
    texts = preprocess.texts
    if sentence:
        pooling, prefix = MODULES, texts.prefix + options.prefix
    else:
        pooling = text_pooling(folder, options.pooling, both_sides=both, where=where)
        prefix = options.prefix
    output = FEATURES if sentence else _output(tower, pooling, where=where)

    def apply(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
        return _vectors(tower.apply({"params": params}, batch["tokens"], batch["mask"]), output, batch["mask"])

    run = _Devices(apply, params, options.device)

    def arrange(
        items: Sequence[str], size: int, *, shortest: int = 0
    ) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        ids = texts.ids(items, prefix=prefix)
        lengths = np.array([texts.longest if texts.fixed else len(one) for one in ids])
        order = np.argsort(-lengths, kind="stable")
        for k in range(0, len(order), size):
            rows = order[k : k + size]
            length = min(max(rounded_length(int(lengths[rows[0]])), shortest), texts.longest)
            yield rows, texts.padded([ids[row] for row in rows], length=length)

    def encode(items: Sequence[str]) -> np.ndarray:
        size = _power_of_two(len(items))
        shortest = _QUERY_TOKENS if size <= _FEW else 0
        found = [(rows, run.launch(batch, size)) for rows, batch in arrange(items, size, shortest=shortest)]
        vectors = np.concatenate([run.collect(each) for _, each in found])
        return vectors[np.argsort(np.concatenate([rows for rows, _ in found]))]

    def prepare(items: Sequence[str]) -> dict[str, np.ndarray]:
        return texts.padded(texts.ids(items, prefix=prefix))

    stages = Stages(prepare, run.launch, run.collect, arrange=arrange, devices=run.count)
    return Encoder(encode, identity_of(folder, pooling=pooling, prefix=options.prefix), stages)


def rounded_length(tokens: int) -> int:
    """The length that texts of this many tokens are filled up to: eight up to 64, then four in every octave.

    >>> [rounded_length(tokens) for tokens in (1, 8, 9, 65, 200, 512)]
    [8, 8, 16, 80, 224, 512]
    """
    step = max(8, 2 ** ((max(tokens, 1) - 1).bit_length() - 3))
    return -(-max(tokens, 1) // step) * step


def _output(tower: Any, pooling: str, *, where: str) -> str:
    """The output of the tower that is transformers' vector for this pooling: "features", "pooled", "cls" or "mean"."""
    spec = tower.spec
    text = isinstance(tower, pretrained.TextTower)
    if spec.projection and not (text and spec.projection_bias):  # a tower of CLIP: its projection is its vector
        return FEATURES
    if pooling != "pooler":
        return pooling
    if text and spec.projection:  # SigLIP's head
        return FEATURES
    dense = bool(spec.poolings) if text else spec.class_token and spec.norm_tokens and not spec.layers.layer_scale
    if dense and not spec.pooler:  # BERT and ViT: a dense layer that files may lack
        raise ConfigError(f"{where}: its files lack the weights pooler.dense; set its pooling to cls or mean")
    return "pooled"


def _vectors(found: Mapping[str, jax.Array], output: str, where: jax.Array) -> jax.Array:
    """[n, width] float32 from the outputs of a tower."""
    if output in found:
        return found[output].astype(jnp.float32)
    if output == "cls":
        return found["tokens"][:, 0].astype(jnp.float32)
    return pretrained.pool(found["tokens"], where, poolings=("mean",))


class _Devices:
    """A function of parameters and a batch, on all chosen devices: rows are divided, parameters are copied.

    Args:
      apply: (parameters, batch) -> [n, width].
      params: its parameters.
      device: see `Options`.
      on_cpu: most rows of one program on a CPU; larger batches are several programs.
    """

    def __init__(
        self, apply: Callable[[Any, Any], jax.Array], params: Any, device: str, *, on_cpu: int | None = None
    ) -> None:
        devices = _devices(device)
        mesh = jax.sharding.Mesh(np.array(devices), ("data",))
        spec = jax.sharding.PartitionSpec
        self.count = len(devices)
        self._most = on_cpu if devices[0].platform == "cpu" else None
        self._rows = jax.sharding.NamedSharding(mesh, spec("data"))
        self._params = jax.device_put(params, jax.sharding.NamedSharding(mesh, spec()))
        self._apply = jax.jit(apply, out_shardings=self._rows)

    def launch(self, batch: Mapping[str, np.ndarray], size: int) -> tuple[list[jax.Array], int]:
        """Starts a batch of at most `size` rows, filled up by its last row; returns before it is computed."""
        count = len(next(iter(batch.values())))
        each = -(-size // self.count)  # rows on a device
        rows = self.count * (each if self._most is None else min(each, self._most))
        started = []
        for first in range(0, count, rows):
            part = {name: x[first : first + rows] for name, x in batch.items()}
            missing = rows - min(rows, count - first)
            if missing:
                part = {name: np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for name, x in part.items()}
            started.append(self._apply(self._params, jax.device_put(part, self._rows)))
        return started, count

    def collect(self, launched: tuple[list[jax.Array], int]) -> np.ndarray:
        """The vectors [k, width], without the rows that filled the batch."""
        parts, count = launched
        return np.concatenate([np.asarray(part) for part in parts])[:count]


def _devices(wanted: str) -> list[jax.Device]:
    if wanted == "auto":
        return jax.local_devices()
    kind, _, number = wanted.partition(":")
    try:
        found = jax.local_devices(backend={"cuda": "gpu"}.get(kind, kind))
        return [found[int(number or 0)]]
    except (RuntimeError, ValueError, IndexError) as error:
        known = ", ".join(f"{device.platform}:{k}" for k, device in enumerate(jax.local_devices()))
        raise ConfigError(f"--device={wanted}: JAX has no such device; it has {known}") from error


def _tower(
    folder: pathlib.Path, options: Options, side: str, *, where: str, sentence: bool
) -> tuple[Any, Any, pretrained.Preprocess, bool]:
    """(module of the side "image" or "text", its parameters, preprocessing, whether there are both sides)."""
    module, variables, preprocess = pretrained.load(folder, dtype=jnp.dtype(options.compute_dtype), sentence=sentence)
    params = variables["params"]
    if isinstance(module, pretrained.ImageText):
        return getattr(module, side), params[side], preprocess, True
    if not isinstance(module, {"image": pretrained.ImageTower, "text": pretrained.TextTower}[side]):
        raise ConfigError(f"{where}: it has no {side} encoder")
    return module, params, preprocess, False


def _model_type(folder: pathlib.Path) -> str:
    return str(read_config(folder, sentence=False)[0]["model_type"])


def _power_of_two(count: int) -> int:
    """The batch size of a call with `count` items: few shapes, so that few programs are compiled."""
    return min(_AT_ONCE, 1 << max(count - 1, 0).bit_length())
