"""Reads and writes the tensors of a checkpoint, by a table of names."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.nested import flatten, unflatten
from alignment_jax.core.optional import require
from alignment_jax.core.storage import open_atomic
from alignment_jax.models.pretrained.pooling import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
_NAMED = 8  # names in a message
# Old checkpoints name the parameters of norms as TensorFlow does.
_RENAMED = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


@dataclasses.dataclass(frozen=True)
class Weight:
    """One parameter here and its tensor in the file.

    Attributes:
      path: of the parameter, as in "layers/attention/query/kernel".
      name: of the tensor; "{layer}" stands for the numbers of a stacked parameter's layers.
      layout: "same"; "linear" [out, in] for [in, out]; "conv" [out, in, h, w] for [h, w, in, out]; "ones+N" for N
        leading axes of length one.
      part: (i, k): the parameter is the i-th of k equal parts of the tensor's first axis.
    """

    path: str
    name: str
    layout: str = "same"
    part: tuple[int, int] = (0, 1)

    def from_file(self, tensor: np.ndarray) -> np.ndarray:
        """The parameter (of one layer) from the tensor."""
        index, parts = self.part
        if parts > 1:
            step = tensor.shape[0] // parts
            tensor = tensor[index * step : (index + 1) * step]
        match self.layout:
            case "linear":
                return tensor.T
            case "conv":
                return tensor.transpose(2, 3, 1, 0)
            case "same":
                return tensor
        return tensor.reshape(tensor.shape[int(self.layout.removeprefix("ones+")) :])

    def to_file(self, value: np.ndarray) -> np.ndarray:
        """The tensor, or its part, from the parameter (of one layer)."""
        match self.layout:
            case "linear":
                return value.T
            case "conv":
                return value.transpose(3, 2, 0, 1)
            case "same":
                return value
        return value.reshape((1,) * int(self.layout.removeprefix("ones+")) + value.shape)

    def file_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The tensor's shape for a parameter (of one layer) of this shape."""
        found = self.to_file(np.broadcast_to(np.float32(0), shape)).shape
        return (found[0] * self.part[1], *found[1:]) if self.part[1] > 1 else found


def linear(path: str, name: str, part: tuple[int, int] = (0, 1)) -> list[Weight]:
    """Kernel and bias of a dense layer."""
    return [
        Weight(f"{path}/kernel", f"{name}.weight", "linear", part),
        Weight(f"{path}/bias", f"{name}.bias", "same", part),
    ]


def norm(path: str, name: str) -> list[Weight]:
    """Scale and bias of a layer norm."""
    return [Weight(f"{path}/scale", f"{name}.weight"), Weight(f"{path}/bias", f"{name}.bias")]


def convolution(path: str, name: str) -> list[Weight]:
    """Kernel and bias of a convolution."""
    return [Weight(f"{path}/kernel", f"{name}.weight", "conv"), Weight(f"{path}/bias", f"{name}.bias")]


def below(weights: Iterable[Weight], path: str, name: str) -> list[Weight]:
    """The same weights with a prefix of their paths and of their names."""
    return [dataclasses.replace(one, path=path + one.path, name=name + one.name) for one in weights]


class Tensors:
    """The tensors of a folder's safetensors files by name, read when asked for.

    Args:
      folder: with `model.safetensors`, or its index and shards.
      prefixes: left off from the names that start with one of them, such as "bert.".

    Raises:
      ConfigError: no such file, only pickled weights, a damaged file.
      MissingPackageError: safetensors is not installed.
    """

    def __init__(self, folder: pathlib.Path, *, prefixes: tuple[str, ...] = ()) -> None:
        self.folder = folder
        library: Any = require("safetensors", extra="pretrained", purpose="read a checkpoint's weights")
        self._files: dict[str, tuple[Any, str]] = {}
        for file in _files(folder):
            try:
                opened = library.safe_open(file, framework="numpy")
            except Exception as error:  # safetensors' errors have no common base class
                raise ConfigError(f"{file}: not a complete safetensors file; download it again") from error
            for stored in opened.keys():  # noqa: SIM118 - it is no dictionary
                self._files[_clean(stored, prefixes)] = (opened, stored)

    @property
    def names(self) -> frozenset[str]:
        """Names without the prefixes."""
        return frozenset(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; nothing else is read."""
        opened, stored = self._files[name]
        return tuple(opened.get_slice(stored).get_shape())

    def read(self, name: str) -> np.ndarray:
        """A tensor, in the type of the file."""
        opened, stored = self._files[name]
        return opened.get_tensor(stored)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file():
        return [whole]
    if index.is_file():
        shards = sorted({folder / pathlib.PurePath(shard).name for shard in read_json(index)["weight_map"].values()})
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            raise ConfigError(f"{folder}: shards of {INDEX} are missing: {_some(missing)}; download them")
        return shards
    if any(file for pattern in _PICKLED for file in folder.glob(pattern)):
        raise ConfigError(
            f"{folder}: no {WEIGHTS}, only kinds of weights that are not read, as a pickle can run any program; "
            "download or convert the safetensors version"
        )
    raise ConfigError(f"{folder}: no {WEIGHTS}; give the folder of a checkpoint in safetensors")


def _clean(name: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    for old, new in _RENAMED:
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def read_weights(
    tensors: Tensors, shapes: Mapping[str, Any], table: Iterable[Weight], *, ignored: tuple[str, ...], param_dtype: Any
) -> dict[str, Any]:
    """The parameters of a module from a checkpoint.

    Args:
      tensors: of the checkpoint.
      shapes: tree of the module's parameters, with the attribute `shape`.
      table: the family's names.
      ignored: regular expressions of names in the file that the module does not use, such as a classifier.
      param_dtype: of the parameters.

    Returns:
      A tree like `shapes`.

    Raises:
      ConfigError: missing, unknown or misshaped tensors; the message names them.
    """
    by_path = {one.path: one for one in table}
    wanted = {path: (by_path[path], leaf.shape) for path, leaf in flatten(shapes)}
    names = {path: _tensor_names(one, shape) for path, (one, shape) in wanted.items()}
    used = {name for found in names.values() for name in found}
    missing = used - tensors.names
    if missing:
        raise ConfigError(f"{tensors.folder}: {len(missing)} weights are missing: {_some(missing)}")
    unknown = {name for name in tensors.names - used if not any(re.fullmatch(pattern, name) for pattern in ignored)}
    if unknown:
        raise ConfigError(
            f"{tensors.folder}: {len(unknown)} weights are unknown to this family: {_some(unknown)}; its config.json "
            "may be of another model"
        )
    misshaped = []
    for path, (one, shape) in wanted.items():
        expected = one.file_shape(shape[1:] if "{layer}" in one.name else shape)
        misshaped += [f"{n} {tensors.shape(n)}, not {expected}" for n in names[path] if tensors.shape(n) != expected]
    if misshaped:
        raise ConfigError(f"{tensors.folder}: {len(misshaped)} weights differ from config.json: {_some(misshaped)}")

    def read(path: str, one: Weight, shape: tuple[int, ...]) -> jax.Array:
        if "{layer}" not in one.name:
            return jnp.asarray(one.from_file(tensors.read(names[path][0])), param_dtype)
        value = np.empty(shape, np.dtype(param_dtype))
        for layer, name in enumerate(names[path]):
            value[layer] = one.from_file(tensors.read(name))
        return jnp.asarray(value)

    return unflatten({path: read(path, one, shape) for path, (one, shape) in wanted.items()})


def _tensor_names(one: Weight, shape: tuple[int, ...]) -> list[str]:
    return [one.name.format(layer=layer) for layer in range(shape[0])] if "{layer}" in one.name else [one.name]


def tensors_of(
    params: Mapping[str, Any], table: Iterable[Weight], *, name: Callable[[str], str]
) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint from a module's parameters: the inverse of `read_weights`.

    Args:
      params: tree of arrays.
      table: the family's names.
      name: a tensor's name in the file, from the one in the table.

    Raises:
      ConfigError: parameters that the table lacks; the message names them.
    """
    by_path = {one.path: one for one in table}
    leaves = dict(flatten(params))
    unknown = leaves.keys() - by_path.keys()
    if unknown:
        raise ConfigError(f"parameters {_some(unknown)} are no part of this checkpoint; remove them first")
    parts: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in leaves.items():
        one, value = by_path[path], np.asarray(leaf)
        layers = value if "{layer}" in one.name else [value]
        for stored, layer in zip(_tensor_names(one, value.shape), layers, strict=True):
            parts.setdefault(name(stored), {})[one.part[0]] = one.to_file(np.asarray(layer))
    return {
        stored: np.asarray(np.concatenate([found[i] for i in sorted(found)]) if len(found) > 1 else found[0], order="C")
        for stored, found in parts.items()
    }


def write_tensors(file: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file that PyTorch's libraries accept; it replaces `file` once it is complete."""
    library: Any = require("safetensors.numpy", extra="pretrained", purpose="write a checkpoint's weights")
    with open_atomic(file) as opened:
        opened.write(library.save(dict(tensors), metadata={"format": "pt"}))
